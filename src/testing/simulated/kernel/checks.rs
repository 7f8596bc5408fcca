//! Checks at each poll: every socket is served, no idle stream stays open, the loop does not spin.
//!
//! A failed check is a panic with a description of every open stream and of what each actor waits
//! for.

use super::{File, Kernel, Selector};
use crate::limits::{READ_BYTES_MAX, STEP_COST_BYTES, TURN_BYTES_MAX};
use crate::overload_limits::ACCEPT_RETRY_MS;

/// The most consecutive polls that report nothing, do not sleep, and have no system call between
/// them. A paused listener whose own bound is reached retries without one, in two polls, and a
/// schedule has up to four of them, a millisecond apart at worst.
const IDLE_POLLS_MAX: u32 = 8;

impl Kernel {
    /// The test asked for a turn to see that there is nothing to do: that is no spinning.
    pub(crate) fn forgive_empty_turn(&mut self) {
        self.idle_polls = 0;
    }

    pub(super) fn check_no_spin(&mut self, has_progress: bool) {
        // Much time between two polls, as a slow call takes it, is no spinning.
        let is_slow = self.now_us - std::mem::replace(&mut self.last_poll_us, self.now_us)
            >= ACCEPT_RETRY_MS * 1000 / 2;
        let is_idle = !has_progress && !is_slow && !std::mem::take(&mut self.something_happened);
        self.idle_polls = if is_idle { self.idle_polls + 1 } else { 0 };
        // At a stop, each connection is driven once, and a turn drives so many.
        let open = u32::try_from(self.descriptors.len()).unwrap_or(u32::MAX);
        let driven_per_turn = u32::try_from(TURN_BYTES_MAX / STEP_COST_BYTES).unwrap_or(u32::MAX);
        // Without epoll, each socket may report what the loop does not act on yet: each direction
        // once until a call on the socket returns `WouldBlock`.
        let events = if self.selector == Selector::Epoll { 0 } else { 2 * open };
        let polls_max = IDLE_POLLS_MAX + open / driven_per_turn + events;
        assert!(self.idle_polls <= polls_max, "the loop spins; {}", self.describe());
        self.something_happened = false;
    }

    /// Unread input is read within a few polls, unless the peer does not read what it is sent. And
    /// a stream over which nothing moves is closed in time.
    pub(super) fn check_every_socket_is_served(&mut self) {
        if self.is_measured {
            return;
        }
        let open = self.descriptors.len() as u64;
        let moved_last_us = self.streams.iter().map(|stream| stream.moved_at_us).max().unwrap_or(0);
        let events_max =
            u64::try_from(self.faults.events_per_poll_max).unwrap_or(u64::MAX).min(256);
        // Turns needed if each connection reads and sends as much as it may.
        let full_turns = open * 2 * READ_BYTES_MAX as u64 / TURN_BYTES_MAX as u64;
        let polls_max = 3 + 2 * open / events_max + full_turns;
        for number in 0..self.descriptors.len() {
            // Its hang-up was reported, and poll(2) reports no error after that: its connection
            // learns of one when it reads on, or ends by its idle timeout.
            let is_forgotten = self.descriptors[number]
                .as_ref()
                .and_then(|descriptor| descriptor.registration.as_ref())
                .is_some_and(|registration| registration.is_forgotten);
            let unread_since =
                match self.descriptors[number].as_ref().map(|descriptor| descriptor.file) {
                    Some(File::Stream(stream)) => {
                        let stream = &mut self.streams[stream];
                        // A connection may be paused until another one has sent its output. It then
                        // lives for as long as bytes move there, and after the end of that one its
                        // own timeout begins anew.
                        let (moved_us, timeouts) = if stream.may_be_paused {
                            (moved_last_us, 2)
                        } else {
                            (stream.moved_at_us, 1)
                        };
                        let idle_us = self.now_us - moved_us;
                        assert!(
                            idle_us <= self.idle_us_max.saturating_mul(timeouts),
                            "{} has been idle for {idle_us} us and is still open",
                            stream.peer
                        );
                        // An error ends a connection even if it is paused.
                        let is_excused = (!stream.has_failed() || is_forgotten)
                            && (stream.may_be_paused
                                || stream.owes_writable_edge
                                || stream.sent.len() > 0);
                        match stream.unread_since {
                            None => continue,
                            Some(_) if is_excused => {
                                stream.unread_since = Some(self.polls);
                                continue;
                            }
                            Some(since) => since,
                        }
                    }
                    Some(File::Udp(socket)) => {
                        let socket = &mut self.udp_sockets[socket];
                        match socket.unread_since {
                            None => continue,
                            Some(_)
                                if socket.send_queue_bytes * 2
                                    >= self.faults.send_queue_bytes_max =>
                            {
                                socket.unread_since = Some(self.polls);
                                continue;
                            }
                            Some(since) => since,
                        }
                    }
                    Some(File::Poll | File::Listener(_) | File::StopSignal(_) | File::Waker)
                    | None => continue,
                };
            assert!(
                self.polls - unread_since <= polls_max,
                "descriptor {number} is not served; {}",
                self.describe()
            );
        }
    }

    /// The state of every open stream, and what each actor waits for.
    pub(super) fn describe(&self) -> String {
        let open = self.descriptors.iter().enumerate().filter_map(|(number, descriptor)| {
            let stream = match descriptor.as_ref()?.file {
                File::Stream(stream) => &self.streams[stream],
                File::Poll
                | File::Listener(_)
                | File::Udp(_)
                | File::StopSignal(_)
                | File::Waker => {
                    return None;
                }
            };
            let unread = stream.arrived.len();
            Some(format!(
                "descriptor {number} of {} has {unread} bytes unread, {} not read by the peer",
                stream.peer,
                stream.sent.len()
            ))
        });
        format!(
            "at {} us: {:#?}; actors not done: {:#?}",
            self.now_us,
            open.collect::<Vec<_>>(),
            self.describe_waits()
        )
    }
}
