//! The poll, its events, the waker, and the source of a stop: mio's names, over the simulated kernel.

use std::io;
use std::time::Duration;

use super::Descriptor;
use super::kernel::Kernel;
use super::stream::{ERROR, HANG_UP, IN, OUT, PEER_HAS_FINISHED, PRIORITY};
use crate::sys::{Interest, Token};

/// What can be registered.
pub trait Source {
    /// Its number in the simulated kernel.
    fn number(&self) -> usize;
}

pub(crate) struct Poll(Registry);

pub(crate) struct Registry(Descriptor);

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll(Registry(Descriptor::open(Kernel::open_poll)?)))
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
        events.told = self.0.0.kernel.borrow_mut().poll(events.capacity, timeout)?;
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
        self.0.kernel.borrow_mut().watch(source.number(), token, interest, false)
    }

    pub(crate) fn reregister<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.kernel.borrow_mut().watch(source.number(), token, interest, true)
    }
}

pub(crate) struct Events {
    told: Vec<Event>,
    capacity: usize,
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Events {
        Events { told: Vec::new(), capacity }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.told.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.told.clear();
    }
}

impl<'e> IntoIterator for &'e Events {
    type Item = &'e Event;
    type IntoIter = std::slice::Iter<'e, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One event. What mio makes of epoll's bits is made of them here.
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
        self.has(HANG_UP) || self.has(IN | PEER_HAS_FINISHED)
    }

    pub(crate) fn is_write_closed(&self) -> bool {
        self.has(HANG_UP) || self.has(OUT | ERROR) || self.bits == ERROR
    }
}

pub(crate) fn read_interest() -> Interest {
    Interest::READABLE | Interest::PRIORITY
}

pub(crate) fn is_priority(event: &Event) -> bool {
    event.has(PRIORITY)
}

/// What wakes the poll from elsewhere; here, from the same thread.
pub(crate) struct Waker(Descriptor);

impl Waker {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        let waker = Waker(Descriptor::open(Kernel::open_waker)?);
        registry.0.kernel.borrow_mut().watch(waker.0.number, token, Interest::READABLE, false)?;
        Ok(waker)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the real one may fail")]
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.kernel.borrow_mut().wake(self.0.number);
        Ok(())
    }
}

/// What a test rings to stop the reactor.
pub(crate) struct Bell(Descriptor);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell(Descriptor::open(Kernel::open_bell)?))
    }
}

impl Source for Bell {
    fn number(&self) -> usize {
        self.0.number
    }
}
