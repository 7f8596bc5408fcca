//! Poll, events, waker and stop signal: mio's names, over the simulated kernel's epoll.
//!
//! What the poll reports is decided in `kernel/epoll.rs`. This file translates: mio's calls into
//! the kernel's, and epoll's bits into mio's questions (`is_readable`, `is_read_closed` …).

use std::io;
use std::time::Duration;

use super::OwnedDescriptor;
use super::kernel::Kernel;
use super::stream::{ERROR, HANG_UP, IN, OUT, PRIORITY, READ_HANG_UP};
use crate::sys::{Interest, Token};

/// What can be registered with the poll. Stands in for `mio::event::Source`.
pub(crate) trait Source {
    /// Its descriptor's number in the simulated kernel.
    fn number(&self) -> usize;
}

pub(crate) struct Poll(Registry);

pub(crate) struct Registry(OwnedDescriptor);

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll(Registry(OwnedDescriptor::open(Kernel::open_poll)?)))
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0
    }

    pub(crate) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        events.reported = self.0.0.kernel.borrow_mut().poll(events.capacity, timeout)?;
        Ok(())
    }
}

impl Registry {
    pub(crate) fn register<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.kernel.borrow_mut().register(source.number(), token, interest, false)
    }

    pub(crate) fn reregister<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.kernel.borrow_mut().register(source.number(), token, interest, true)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the real one may fail")]
    pub(crate) fn deregister<S: Source + ?Sized>(&self, source: &mut S) -> io::Result<()> {
        self.0.kernel.borrow_mut().deregister(source.number());
        Ok(())
    }
}

pub(crate) struct Events {
    reported: Vec<Event>,
    capacity: usize,
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Events {
        Events { reported: Vec::new(), capacity }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.reported.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.reported.clear();
    }
}

impl<'e> IntoIterator for &'e Events {
    type Item = &'e Event;
    type IntoIter = std::slice::Iter<'e, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One event, with epoll's bits. The questions below are answered as mio answers them on Linux.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) bits: u32,
}

impl Event {
    fn has(&self, bits: u32) -> bool {
        self.bits & bits == bits
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.has(IN) || self.has(PRIORITY)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.has(OUT)
    }

    pub(crate) fn is_error(&self) -> bool {
        self.has(ERROR)
    }

    pub(crate) fn is_read_closed(&self) -> bool {
        self.has(HANG_UP) || self.has(IN | READ_HANG_UP)
    }

    pub(crate) fn is_write_closed(&self) -> bool {
        self.has(HANG_UP) || self.has(OUT | ERROR) || self.bits == ERROR
    }
}

pub(crate) fn is_priority(event: &Event) -> bool {
    event.has(PRIORITY)
}

/// Wakes the poll. In the program other threads use it; here everything is on one thread.
pub(crate) struct Waker(OwnedDescriptor);

impl Waker {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        let waker = Waker(OwnedDescriptor::open(Kernel::open_waker)?);
        registry.0.kernel.borrow_mut().register(
            waker.0.number,
            token,
            Interest::READABLE,
            false,
        )?;
        Ok(waker)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the real one may fail")]
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.kernel.borrow_mut().wake(self.0.number);
        Ok(())
    }
}

/// The source with which a test stops the reactor: readable once `Kernel::signal_stop` was called.
pub(crate) struct StopSignal(OwnedDescriptor);

impl StopSignal {
    pub(crate) fn new() -> io::Result<StopSignal> {
        Ok(StopSignal(OwnedDescriptor::open(Kernel::open_stop_signal)?))
    }
}

impl Source for StopSignal {
    fn number(&self) -> usize {
        self.0.number
    }
}

/// The simulated kernel has no descriptors of the system's. Its stop signal is `StopSignal`.
#[cfg(unix)]
pub(crate) struct Descriptor(std::os::fd::OwnedFd);

#[cfg(unix)]
impl From<std::os::fd::OwnedFd> for Descriptor {
    fn from(descriptor: std::os::fd::OwnedFd) -> Descriptor {
        Descriptor(descriptor)
    }
}

#[cfg(unix)]
impl Source for Descriptor {
    fn number(&self) -> usize {
        panic!("descriptor {:?} is not a simulated one", self.0)
    }
}
