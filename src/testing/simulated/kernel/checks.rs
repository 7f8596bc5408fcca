//! What the kernel holds against the loop at each poll.

use super::{File, Kernel};
use crate::limits::{ACCEPT_RETRY_MS, READ_BYTES_MAX, TURN_BYTES_MAX};

/// Polls in a row which find nothing, between which nothing is done, and which do not sleep.
const IDLE_POLLS_MAX: u32 = 3;

impl Kernel {
    /// The test itself has taken a turn for nothing, to see that there is nothing to do.
    pub(crate) fn excuse_idleness(&mut self) {
        self.idle_polls = 0;
    }

    pub(super) fn check_that_it_does_not_spin(&mut self, has_new_line: bool) {
        // What takes so long between two polls, a slow call say, is no spinning.
        let is_slow = self.now_us - std::mem::replace(&mut self.polled_us, self.now_us)
            >= ACCEPT_RETRY_MS * 1000 / 2;
        let is_idle = !has_new_line && !is_slow && !std::mem::take(&mut self.something_happened);
        self.idle_polls = if is_idle { self.idle_polls + 1 } else { 0 };
        assert!(self.idle_polls <= IDLE_POLLS_MAX, "it spins; {}", self.describe());
        self.something_happened = false;
    }

    /// Whoever has something to read is read within a few polls, unless its peer does not read; and over whomever nothing
    /// moves is closed in time.
    pub(super) fn check_that_all_are_served(&mut self) {
        let open = self.descriptors.len() as u64;
        let moved_last = self.streams.iter().map(|stream| stream.moved_at).max().unwrap_or(0);
        let told_of = u64::try_from(self.faults.events_at_once).unwrap_or(u64::MAX).min(256);
        let full_turns = open * 2 * READ_BYTES_MAX as u64 / TURN_BYTES_MAX; // if each reads and says as much as it may
        let polls_max = 3 + 2 * open / told_of + full_turns;
        for number in 0..self.descriptors.len() {
            let unread_since = match self.descriptors[number]
                .as_ref()
                .map(|descriptor| descriptor.file)
            {
                Some(File::Stream(stream)) => {
                    let stream = &mut self.streams[stream];
                    // Who has paused until another drains waits for as long as anything moves there, and when that one has gone, it
                    // has its own time anew.
                    let (moved_at, times) =
                        if stream.may_be_paused { (moved_last, 2) } else { (stream.moved_at, 1) };
                    let silence_us = self.now_us - moved_at;
                    assert!(
                        silence_us <= self.silence_us_max.saturating_mul(times),
                        "{} is silent for {silence_us} us",
                        stream.peer
                    );
                    let is_excused =
                        stream.may_be_paused || stream.wants_room || stream.sent.len() > 0;
                    match stream.unread_since {
                        None => continue,
                        Some(_) if is_excused => {
                            stream.unread_since = Some(self.polls);
                            continue;
                        }
                        Some(since) => since,
                    }
                }
                Some(File::Datagrams(socket)) => {
                    let socket = &mut self.datagrams[socket];
                    match socket.unread_since {
                        None => continue,
                        Some(_) if socket.leaving * 2 >= self.faults.datagram_room => {
                            socket.unread_since = Some(self.polls);
                            continue;
                        }
                        Some(since) => since,
                    }
                }
                Some(File::Poll | File::Door(_) | File::Bell(_) | File::Waker) | None => continue,
            };
            assert!(
                self.polls - unread_since <= polls_max,
                "descriptor {number} is not served; {}",
                self.describe()
            );
        }
    }

    pub(super) fn describe(&self) -> String {
        let open = self.descriptors.iter().enumerate().filter_map(|(number, descriptor)| {
            let stream = match descriptor.as_ref()?.file {
                File::Stream(stream) => &self.streams[stream],
                File::Poll | File::Door(_) | File::Datagrams(_) | File::Bell(_) | File::Waker => {
                    return None;
                }
            };
            let unread = stream.arrived.len();
            Some(format!(
                "descriptor {number} of {} has {unread} bytes unread, {} unheard",
                stream.peer,
                stream.sent.len()
            ))
        });
        format!(
            "at {} us: {:#?}; in the world: {:#?}",
            self.now_us,
            open.collect::<Vec<_>>(),
            self.plights()
        )
    }
}
