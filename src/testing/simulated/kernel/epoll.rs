//! The simulated epoll: what is registered, what is ready, and what a poll reports.

use std::cmp::Reverse;
use std::io;
use std::time::Duration;

use super::{Descriptor, File, Kernel, Watch};
use crate::sys::{Interest, Token};
use crate::testing::simulated::stream::{ERROR, HANG_UP, IN, OUT, PEER_HAS_FINISHED, PRIORITY};
use crate::testing::simulated::{Event, errno};

impl Kernel {
    pub(crate) fn open_poll(&mut self) -> io::Result<usize> {
        self.open(File::Poll)
    }

    pub(crate) fn watch(
        &mut self,
        number: usize,
        token: Token,
        interest: Interest,
        anew: bool,
    ) -> io::Result<()> {
        self.call(if anew { "watch again" } else { "watch" });
        self.something_happened = true;
        let is_stream = matches!(self.file(number), File::Stream(_));
        if is_stream && self.chance(self.faults.failed_watches) {
            let stream = self.stream_of(number);
            self.streams[stream].was_hurt = true;
            let error = self.one_of(&[errno::ENOSPC, errno::ENOMEM]);
            self.tell(|| format!("watch {number} -> errno {error}"));
            return Err(io::Error::from_raw_os_error(error));
        }
        let descriptor = self.descriptors[number].as_mut().expect("the descriptor is open");
        assert_eq!(
            descriptor.watch.is_some(),
            anew,
            "a descriptor is registered once, and then again"
        );
        let mut bits = ERROR | HANG_UP;
        bits |= if interest.is_readable() { IN | PEER_HAS_FINISHED } else { 0 };
        bits |= if interest.is_writable() { OUT } else { 0 };
        bits |= if interest.is_priority() { PRIORITY } else { 0 };
        let is_listed = descriptor.watch.as_ref().is_some_and(|watch| watch.is_listed);
        descriptor.watch = Some(Watch { token, bits, is_listed });
        self.tell(|| format!("watch {number} as {} for {bits:#x}", token.0));
        let is_waker = matches!(self.file(number), File::Waker); // which nobody has used yet
        if self.state(number) & bits != 0 && !is_waker {
            self.list(Some(number), 0);
        }
        Ok(())
    }

    /// Something has happened to `number`, of the kinds `bits`; of any kind, if there are none.
    pub(super) fn list(&mut self, number: Option<usize>, bits: u32) {
        let Some(number) = number else { return };
        let descriptor =
            self.descriptors[number].as_mut().expect("an open socket has a descriptor");
        if let Some(watch) = &mut descriptor.watch
            && !watch.is_listed
            && (bits == 0 || bits & watch.bits != 0)
        {
            watch.is_listed = true;
            self.listed.push_back(number);
        }
    }

    fn state(&mut self, number: usize) -> u32 {
        match self.file(number) {
            File::Poll => 0,
            File::Waker => IN, // it is never read
            File::Bell(bell) => u32::from(self.bells[bell]) * IN,
            File::Door(door) => u32::from(!self.doors[door].waiting.is_empty()) * IN,
            File::Stream(stream) => self.streams[stream].state(),
            File::Datagrams(socket) => {
                let socket = &self.datagrams[socket];
                let mut state = u32::from(!socket.arrived.is_empty()) * IN;
                state |= u32::from(socket.leaving * 2 < self.faults.datagram_room) * OUT;
                state |= u32::from(socket.error.is_some()) * ERROR;
                state
            }
        }
    }

    /// Makes the next poll tell of `bits` on `number`, whether it is so or not.
    pub(crate) fn raise_false_alarm(&mut self, number: usize, bits: u32) {
        self.false_alarms.push((number, bits));
    }

    /// The same for anybody, but for the bell, which means what it says.
    pub(crate) fn raise_any_false_alarm(&mut self) {
        let number = self.rng.usize(..self.descriptors.len());
        let bits = [IN, OUT, IN | OUT, IN | PRIORITY, ERROR][self.rng.usize(..5)];
        if let Some(Descriptor {
            file: File::Door(_) | File::Stream(_) | File::Datagrams(_), ..
        }) = self.descriptors[number]
        {
            self.raise_false_alarm(number, bits);
        }
    }

    fn collect(&mut self, capacity: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, bits) in std::mem::take(&mut self.false_alarms) {
            if let Some(Descriptor { watch: Some(watch), .. }) = &self.descriptors[number] {
                events.push(Event { token: watch.token, bits });
            }
        }
        while events.len() < capacity.min(self.faults.events_at_once)
            && let Some(number) = self.listed.pop_front()
        {
            let state = self.state(number);
            let watch =
                self.descriptors[number].as_mut().and_then(|descriptor| descriptor.watch.as_mut());
            let watch = watch.expect("who is listed is watched");
            watch.is_listed = false;
            if state & watch.bits != 0 {
                events.push(Event { token: watch.token, bits: state & watch.bits });
            }
        }
        if self.faults.shuffles {
            self.rng.shuffle(&mut events);
        }
        events
    }

    pub(crate) fn poll(
        &mut self,
        capacity: usize,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<Event>> {
        self.call("poll");
        let until = timeout.map(|timeout| {
            self.now_us + u64::try_from(timeout.as_micros()).expect("a timeout is no age")
        });
        if self.chance(self.faults.interrupted_polls) {
            let soonest = self.timeline.peek().map_or(self.now_us, |&Reverse((at, _))| at);
            let at =
                self.rng.u64(self.now_us..=soonest.min(until.unwrap_or(u64::MAX)).max(self.now_us));
            self.something_happened |= at > self.now_us; // it has slept
            self.pass_until(at);
            self.polls_interrupted += 1;
            self.tell(|| "poll -> interrupted".to_string());
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.polls += 1;
        self.check_that_all_are_served();
        if self.chance(self.faults.false_alarms) {
            self.raise_any_false_alarm();
        }
        let began_us = self.now_us;
        let events = loop {
            let events = self.collect(capacity);
            if !events.is_empty() || until.is_some_and(|until| until <= self.now_us) {
                break events;
            }
            let soonest = self.timeline.peek().map(|&Reverse((at, _))| at);
            match soonest.into_iter().chain(until).min() {
                Some(at) => self.pass_until(at),
                // The world is over, and the test wants to go on.
                None if self.is_deserted() => {
                    self.polls_interrupted += 1;
                    return Err(io::ErrorKind::Interrupted.into());
                }
                None => panic!("it is asleep for ever; {}", self.describe()),
            }
        };
        self.check_that_it_does_not_spin(!events.is_empty() || self.now_us > began_us);
        self.tell(|| format!("poll {timeout:?} -> {events:x?}"));
        Ok(events)
    }

    pub(crate) fn open_waker(&mut self) -> io::Result<usize> {
        self.open(File::Waker)
    }

    pub(crate) fn wake(&mut self, number: usize) {
        self.list(Some(number), IN);
    }

    pub(crate) fn open_bell(&mut self) -> io::Result<usize> {
        self.bells.push(false);
        self.open(File::Bell(self.bells.len() - 1))
    }

    pub(crate) fn ring(&mut self) {
        for number in 0..self.descriptors.len() {
            if let Some(Descriptor { file: File::Bell(bell), .. }) = &self.descriptors[number] {
                self.bells[*bell] = true;
                self.list(Some(number), IN);
            }
        }
    }
}
