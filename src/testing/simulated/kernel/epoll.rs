//! The simulated epoll: what is registered, what is on the ready list, and what a poll reports.
//!
//! ```text
//!     a socket changes ──edge──► ready list ──poll──► event with the bits that are set by then
//!     (registered for it)        (once)               (none are set: no event)
//! ```
//!
//! As in Linux, an edge is reported once. A socket comes back to the ready list when something more
//! happens to it, and not because it still is readable or writable (epoll(7), edge-triggered).

use std::cmp::Reverse;
use std::io;
use std::time::Duration;

use super::{Descriptor, File, Kernel, Registration, Selector};
use crate::sys::{Interest, Token};
use crate::testing::simulated::stream::{ERROR, HANG_UP, IN, OUT, PRIORITY, READ_HANG_UP};
use crate::testing::simulated::{Event, errno};

impl Kernel {
    pub(crate) fn open_poll(&mut self) -> io::Result<usize> {
        self.open(File::Poll)
    }

    /// epoll_ctl(2): EPOLL_CTL_ADD, or EPOLL_CTL_MOD for `is_reregister`. Both report what is ready
    /// at once.
    pub(crate) fn register(
        &mut self,
        number: usize,
        token: Token,
        interest: Interest,
        is_reregister: bool,
    ) -> io::Result<()> {
        self.begin_call(if is_reregister { "reregister" } else { "register" });
        self.something_happened = true;
        let is_stream = matches!(self.file(number), File::Stream(_));
        if is_stream && self.chance(self.faults.failed_registrations) {
            let stream = self.stream_of(number);
            self.streams[stream].was_faulted = true;
            let error = self.pick_error(&[errno::ENOSPC, errno::ENOMEM]);
            self.trace(|| format!("register {number} -> errno {error}"));
            return Err(io::Error::from_raw_os_error(error));
        }
        let descriptor = self.descriptors[number].as_mut().expect("the descriptor is open");
        assert_eq!(
            descriptor.registration.is_some(),
            is_reregister,
            "register a descriptor once, then only reregister it"
        );
        if descriptor.registration.as_ref().is_some_and(|registration| registration.is_forgotten) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut bits = ERROR | HANG_UP;
        bits |= if interest.is_readable() { IN | READ_HANG_UP } else { 0 };
        bits |= if interest.is_writable() { OUT } else { 0 };
        bits |= if interest.is_priority() { PRIORITY } else { 0 };
        let is_in_ready_list = descriptor
            .registration
            .as_ref()
            .is_some_and(|registration| registration.is_in_ready_list);
        let (armed, is_forgotten) = (bits, false);
        descriptor.registration =
            Some(Registration { token, bits, is_in_ready_list, armed, is_forgotten });
        self.trace(|| format!("register {number} as {} for {bits:#x}", token.0));
        let is_waker = matches!(self.file(number), File::Waker); // it has not been woken yet
        if self.event_bits(number) & bits != 0 && !is_waker {
            self.add_to_ready_list(Some(number), 0);
        }
        Ok(())
    }

    /// epoll_ctl(2): EPOLL_CTL_DEL.
    pub(crate) fn deregister(&mut self, number: usize) {
        self.begin_call("deregister");
        let descriptor = self.descriptors[number].as_mut().expect("the descriptor is open");
        descriptor.registration = None;
        self.ready_list.retain(|&ready| ready != number);
    }

    /// An edge: puts `number` on the ready list, if it is registered for one of `bits`, or if
    /// `bits` is 0.
    pub(super) fn add_to_ready_list(&mut self, number: Option<usize>, bits: u32) {
        let Some(number) = number else { return };
        let descriptor =
            self.descriptors[number].as_mut().expect("an open socket has a descriptor");
        if let Some(registration) = &mut descriptor.registration
            && !registration.is_in_ready_list
            && (bits == 0 || bits & registration.bits != 0)
        {
            registration.is_in_ready_list = true;
            self.ready_list.push_back(number);
        }
    }

    /// The bits that are set on `number` at this moment.
    pub(super) fn event_bits(&mut self, number: usize) -> u32 {
        match self.file(number) {
            File::Poll => 0,
            File::Waker => IN, // it is never read
            File::StopSignal(signal) => u32::from(self.stop_signals[signal]) * IN,
            File::Listener(listener) => {
                u32::from(!self.listeners[listener].backlog.is_empty()) * IN
            }
            File::Stream(stream) => self.streams[stream].event_bits(),
            File::Udp(socket) => {
                let socket = &self.udp_sockets[socket];
                let mut bits = u32::from(!socket.arrived.is_empty()) * IN;
                bits |=
                    u32::from(socket.send_queue_bytes * 2 < self.faults.send_queue_bytes_max) * OUT;
                bits |= u32::from(!socket.errors.is_empty()) * ERROR;
                bits
            }
        }
    }

    /// Makes the next poll report `bits` on `number`, whether they are set or not.
    pub(crate) fn queue_spurious_event(&mut self, number: usize, bits: u32) {
        self.spurious_events.push((number, bits));
    }

    /// The same for a random socket. The stop signal has no spurious events: readable means stop.
    pub(crate) fn queue_random_spurious_event(&mut self) {
        let number = self.rng.usize(..self.descriptors.len());
        let mut bits = [IN, OUT, IN | OUT, IN | PRIORITY, ERROR][self.rng.usize(..5)];
        if self.selector != Selector::Epoll {
            bits &= !ERROR; // poll(2) reports it only where a call then returns it
        }
        if let Some(Descriptor {
            file: File::Listener(_) | File::Stream(_) | File::Udp(_), ..
        }) = self.descriptors[number]
        {
            self.queue_spurious_event(number, bits);
        }
    }

    /// Takes the events for one poll, spurious ones first.
    fn collect_events(&mut self, capacity: usize) -> Vec<Event> {
        let mut events = match self.selector {
            Selector::Epoll => self.collect_edges(capacity),
            Selector::Rearming | Selector::Poll => self.collect_armed_events(capacity),
        };
        if self.faults.shuffles {
            self.rng.shuffle(&mut events);
        }
        events
    }

    fn collect_edges(&mut self, capacity: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, bits) in std::mem::take(&mut self.spurious_events) {
            if let Some(Descriptor { registration: Some(registration), .. }) =
                &self.descriptors[number]
            {
                events.push(Event { token: registration.token, bits });
            }
        }
        while events.len() < capacity.min(self.faults.events_per_poll_max)
            && let Some(number) = self.ready_list.pop_front()
        {
            let bits = self.event_bits(number);
            let registration = self.descriptors[number]
                .as_mut()
                .and_then(|descriptor| descriptor.registration.as_mut());
            let registration =
                registration.expect("only registered descriptors are on the ready list");
            registration.is_in_ready_list = false;
            if bits & registration.bits != 0 {
                events.push(Event { token: registration.token, bits: bits & registration.bits });
            }
        }
        events
    }

    /// Sleeps until an event or the timeout. This is where time passes.
    pub(crate) fn poll(
        &mut self,
        capacity: usize,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<Event>> {
        self.begin_call("poll");
        let until = timeout.map(|timeout| {
            self.now_us
                + u64::try_from(timeout.as_micros())
                    .expect("a timeout in microseconds fits 64 bits")
        });
        if self.chance(self.faults.interrupted_polls) {
            let soonest = self.timeline.peek().map_or(self.now_us, |&Reverse((at, _))| at);
            let at =
                self.rng.u64(self.now_us..=soonest.min(until.unwrap_or(u64::MAX)).max(self.now_us));
            self.something_happened |= at > self.now_us; // it has slept
            self.advance_time_to(at);
            self.polls_interrupted += 1;
            self.trace(|| "poll -> interrupted".to_string());
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.polls += 1;
        self.check_every_socket_is_served();
        if self.chance(self.faults.spurious_events) {
            self.queue_random_spurious_event();
        }
        let began_us = self.now_us;
        let events = loop {
            let events = self.collect_events(capacity);
            if !events.is_empty() || until.is_some_and(|until| until <= self.now_us) {
                break events;
            }
            let soonest = self.timeline.peek().map(|&Reverse((at, _))| at);
            match soonest.into_iter().chain(until).min() {
                Some(at) => self.advance_time_to(at),
                // Nothing will happen any more, and the test wants to go on: let it.
                None if self.is_quiescent() => {
                    self.polls_interrupted += 1;
                    return Err(io::ErrorKind::Interrupted.into());
                }
                None => panic!("the loop sleeps for ever; {}", self.describe()),
            }
        };
        // An edge is a change. What the other selectors report may be what they reported before.
        let has_edges = self.selector == Selector::Epoll && !events.is_empty();
        self.check_no_spin(has_edges || self.now_us > began_us);
        self.trace(|| format!("poll {timeout:?} -> {events:x?}"));
        Ok(events)
    }

    pub(crate) fn open_waker(&mut self) -> io::Result<usize> {
        self.open(File::Waker)
    }

    pub(crate) fn wake(&mut self, number: usize) {
        self.wakes += 1;
        self.add_to_ready_list(Some(number), IN);
    }

    pub(crate) fn open_stop_signal(&mut self) -> io::Result<usize> {
        self.stop_signals.push(false);
        self.open(File::StopSignal(self.stop_signals.len() - 1))
    }

    /// Makes every stop signal readable.
    pub(crate) fn signal_stop(&mut self) {
        for number in 0..self.descriptors.len() {
            if let Some(Descriptor { file: File::StopSignal(signal), .. }) =
                &self.descriptors[number]
            {
                self.stop_signals[*signal] = true;
                self.add_to_ready_list(Some(number), IN);
            }
        }
    }
}
