//! A promised answer: what owes it, what awaits it, and what is sent between the two.
//!
//! ```text
//!     Promise ──── Ticket ──── Awaited      one of each for a promise
//!     a worker                 the state of the connection
//!        └──► Settled ──► completion ──► Http: the ticket is compared
//! ```
//!
//! Invariant: a promise settles once, fulfilled or dropped, and only the connection that still
//! awaits this very ticket acts on it. The ticket is compared by its address, which both ends keep
//! from being used again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::response::Response;
use crate::protocol::completions::Completer;

/// An answer that is owed to a client. Made by [`HttpContext::promise`](crate::HttpContext).
///
/// It is `Send`: any thread may fulfill it, and so may any callback. If it is dropped, also by a
/// thread that panics, the client gets 500.
pub struct Promise {
    ticket: Ticket,
    completer: Completer,
    is_settled: bool,
}

impl Promise {
    pub(super) fn new(ticket: Ticket, completer: Completer) -> Promise {
        Promise { ticket, completer, is_settled: false }
    }

    /// Gives the answer. Never fails and never blocks.
    ///
    /// `response` is called on the thread of the reactor, since a [`Response`] belongs to one
    /// thread: so do the work before, and only compose the response in it. It is dropped without a
    /// call if the answer is not [wanted](Promise::is_wanted) any more.
    pub fn fulfill(mut self, response: impl FnOnce() -> Response<'static> + Send + 'static) {
        self.settle(Some(Box::new(response)));
    }

    /// Returns whether the client still waits for the answer: false once it has reset the
    /// connection, or has been answered with 504. A worker can then skip the work. It may become
    /// false at any time. A client that has closed by a FIN alone counts as waiting: it looks like
    /// one that has only finished sending.
    pub fn is_wanted(&self) -> bool {
        self.ticket.is_wanted()
    }

    fn settle(&mut self, answer: Option<Answer>) {
        self.is_settled = true;
        if self.is_wanted() {
            self.completer.send(Box::new(Settled { ticket: self.ticket.clone(), answer }));
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(None);
        }
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").field("is_wanted", &self.is_wanted()).finish_non_exhaustive()
    }
}

/// Makes the response, on the thread of the reactor.
pub(super) type Answer = Box<dyn FnOnce() -> Response<'static> + Send>;

/// What has become of a promise: the message to the connection.
pub(super) struct Settled {
    ticket: Ticket,
    /// `None`: it was dropped.
    pub(super) answer: Option<Answer>,
}

impl Settled {
    pub(super) fn new(ticket: Ticket, answer: Option<Answer>) -> Settled {
        Settled { ticket, answer }
    }

    /// What is delivered if no other thread can wake the loop.
    pub(super) fn broken(ticket: &Ticket) -> Settled {
        Settled { ticket: ticket.clone(), answer: None }
    }

    /// Returns whether `awaited` is what it settles.
    pub(super) fn is_for(&self, awaited: &Awaited) -> bool {
        Arc::ptr_eq(&self.ticket.0, &awaited.0.0)
    }
}

/// Identifies one promise, and says whether its answer is still wanted.
#[derive(Clone)]
pub(super) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// Makes a ticket, and what awaits it.
    pub(super) fn new() -> (Ticket, Awaited) {
        let ticket = Ticket(Arc::new(AtomicBool::new(true)));
        (ticket.clone(), Awaited(ticket))
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Held for as long as the answer is awaited.
pub(super) struct Awaited(Ticket);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
