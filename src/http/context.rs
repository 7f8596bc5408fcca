//! What a responder is lent for one call: all of a connection that cannot break the framing.
//!
//! Invariant: nothing here sends a byte to the client, reads one, or closes the connection. Only
//! the response that the responder returns does.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::promise::{Answer, Promise, Settled, Ticket};
use super::response::Response;
use super::status::Status;
use crate::limits::Limits;
use crate::protocol::connections::Connections;
use crate::protocol::context::Context;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::ident::{ConnectionId, Peer};
use crate::protocol::protocol::Protocol;
use crate::time::Time;
use crate::workers::{Workers, WorkersBusyError};

/// What [`Http`](crate::Http) lends a [`Responder`](crate::Responder) for one call.
///
/// It is the [`Context`] of the connection without what would break the framing. A response that
/// needs more than this call is promised: [`promise`](HttpContext::promise), or
/// [`Response::later`].
pub struct HttpContext<'c, 'i> {
    cx: &'c mut Context<'i>,
    /// When the responder's own timer expires.
    pub(super) timer: Time,
}

impl fmt::Debug for HttpContext<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpContext")
            .field("id", &self.id())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl<'c, 'i> HttpContext<'c, 'i> {
    #[inline(always)]
    pub(super) fn new(cx: &'c mut Context<'i>, timer: Time) -> HttpContext<'c, 'i> {
        HttpContext { cx, timer }
    }

    /// Promises an answer that any thread may give, and returns it with the response that says so.
    /// The responder returns that response, and sends the [`Promise`] to where the answer is made:
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    /// use mio_reactor::{ContentType, HttpContext, Request, Responder, Response};
    ///
    /// struct Slow;
    ///
    /// impl Responder for Slow {
    ///     fn respond(&mut self, _: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
    ///         let (promise, response) = cx.promise(Duration::from_secs(10));
    ///         // A real server sends it to a pool of threads, through a bounded queue.
    ///         thread::spawn(move || {
    ///             let answer = (1..=20_u64).product::<u64>().to_string();
    ///             promise.fulfill(|| Response::ok(ContentType::TEXT, answer.into_bytes()));
    ///         });
    ///         response
    ///     }
    /// }
    /// ```
    ///
    /// Without an answer within `deadline`, the client gets 504 ([`Response::later`]). If the
    /// promise is dropped, or if the kernel has no descriptor for a waker (eventfd(2)), it gets
    /// 500.
    pub fn promise(&mut self, deadline: Duration) -> (Promise, Response<'static>) {
        let (ticket, awaited) = Ticket::new();
        let completer = self.cx.completer(Settled::broken(&ticket));
        (Promise::new(ticket, completer), Response::promised(deadline, Some(awaited)))
    }

    /// Promises an answer that a worker thread works for: `respond` makes it of what `job` returns.
    /// If the workers are [busy](WorkersBusyError), the response is 503 with a Retry-After of 1 s.
    ///
    /// Everything else is as for [`promise`](HttpContext::promise): `respond` is called on the
    /// thread of the reactor, and the client gets 504 after `deadline`, or 500 if `job` panics. A
    /// job whose client has left before it begins is skipped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mio_reactor::{ContentType, HttpContext, Request, Responder, Response, Workers};
    ///
    /// struct Slow(Workers);
    ///
    /// impl Responder for Slow {
    ///     fn respond(&mut self, _: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
    ///         let job = || (1..=20_u64).product::<u64>();
    ///         cx.promise_job(&self.0, Duration::from_secs(10), job, |product| {
    ///             Response::ok(ContentType::TEXT, product.to_string().into_bytes())
    ///         })
    ///     }
    /// }
    /// ```
    pub fn promise_job<T: Send + 'static>(
        &mut self,
        workers: &Workers,
        deadline: Duration,
        job: impl FnOnce() -> T + Send + 'static,
        respond: impl FnOnce(T) -> Response<'static> + Send + 'static,
    ) -> Response<'static> {
        let (ticket, awaited) = Ticket::new();
        let work = move || match ticket.is_wanted() {
            true => {
                let result = catch_unwind(AssertUnwindSafe(job)).ok();
                Settled::new(
                    ticket,
                    result.map(|result| -> Answer { Box::new(move || respond(result)) }),
                )
            }
            false => Settled::broken(&ticket),
        };
        match workers.submit_for(self.id(), work) {
            Ok(()) => Response::promised(deadline, Some(awaited)),
            Err(WorkersBusyError) => Response::error(Status::SERVICE_UNAVAILABLE)
                .with_header("Retry-After", "1")
                .expect("a constant field is valid"),
        }
    }

    /// Sets the timer of the responder: [`Responder::timer_expired`](crate::Responder) is called
    /// once `delay` is over, rounded up to whole milliseconds. Replaces a timer set before.
    ///
    /// It holds while an answer is awaited, and ends with the answer. Set in a call whose response
    /// is sent at once, it has no effect.
    pub fn set_timer(&mut self, delay: Duration) {
        self.timer = self.cx.state.clock.now.plus(delay.max(Duration::from_millis(1)));
    }

    /// Cancels the timer of the responder.
    pub fn cancel_timer(&mut self) {
        self.timer = Time::NEVER;
    }

    /// Tells the loop that this call does work that takes about this long, beside sending the
    /// response, as [`Context::charge`] does. [`Files`](crate::Files) does it by itself.
    pub fn charge(&mut self, work: Duration) {
        self.cx.charge(work);
    }

    /// Returns the client's end of the connection.
    pub fn peer(&self) -> Peer {
        self.cx.peer()
    }

    /// Returns our end's address, as [`Context::local_address`] does: a system call.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.cx.local_address()
    }

    /// Returns the id of this connection. Messages to it arrive in
    /// [`Responder::message_received`](crate::Responder::message_received).
    pub fn id(&self) -> ConnectionId {
        self.cx.id()
    }

    /// Returns the present moment, as [`Context::now`] does.
    pub fn now(&self) -> Instant {
        self.cx.now()
    }

    /// Returns the present moment as an HTTP date, as [`Context::date`] does.
    pub fn date(&mut self) -> [u8; 29] {
        self.cx.date()
    }

    /// Returns the reactor's own limits.
    pub fn limits(&self) -> &Limits {
        self.cx.limits()
    }

    /// Returns whether the reactor is stopping. The response is then the last on its connection.
    pub fn is_stopping(&self) -> bool {
        self.cx.is_stopping()
    }

    /// Returns access to the other connections, by their ids. What is sent to an HTTP connection by
    /// its id goes to its client as it is.
    pub fn connections(&mut self) -> Connections<'_> {
        self.cx.connections()
    }

    /// Asks to be [notified](crate::Responder::notified) of the end of the connection `id`, as
    /// [`Context::monitor`] does.
    pub fn monitor(&mut self, id: ConnectionId) {
        self.cx.monitor(id);
    }

    /// Asks to be [notified](crate::Responder::notified) when a stop begins, as
    /// [`Context::monitor_stop`] does. An [ongoing](Response::ongoing) answer is notified unasked.
    pub fn monitor_stop(&mut self) {
        self.cx.monitor_stop();
    }

    /// Starts a connection to `address` with the protocol `protocol`, as [`Context::connect`] does.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        protocol: impl Protocol + 'static,
    ) -> ConnectionId {
        self.cx.connect(address, protocol)
    }

    /// Opens a datagram socket and connects it to `peer`, as [`Context::connect_datagram`] does.
    pub fn connect_datagram(
        &mut self,
        peer: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) {
        self.cx.connect_datagram(peer, protocol);
    }
}
