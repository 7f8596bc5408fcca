//! What an application implements: a responder, and an upload for each body that it takes.
//!
//! Neither sees a socket, nor where a message begins and ends: `protocol.rs` does the framing.

use std::any::Any;
use std::net::SocketAddr;

use super::context::HttpContext;
use super::protocol::Http;
use super::request::Request;
use super::response::Response;
use crate::protocol::ident::ConnectionId;
use crate::protocol::notification::Notification;

/// Decides the content of each response.
///
/// One value is made for each connection. Every call must return soon: while it runs, no other
/// connection is served.
pub trait Responder {
    /// Returns the response to one request. The caller adds the fields for length, date and
    /// connection, and leaves the body out where there must be none, as for HEAD.
    ///
    /// It is called when the whole request has been received. A body that
    /// [`receive`](Responder::receive) did not take has been skipped by then, and a request that
    /// was cut short never gets here. There is one exception: with `Expect: 100-continue` it is
    /// called before the body, because the client waits for a response before it sends one.
    ///
    /// If the answer takes longer than this call may, it is promised: [`HttpContext::promise`],
    /// [`Response::later`].
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_>;

    /// Returns what takes the body of `request`, or `None` to have it skipped, which is the
    /// default.
    ///
    /// It is called when a body follows, of at most [`Request::BODY_BYTES_MAX`]. An [`Upload`] also
    /// gives the response, instead of [`respond`](Responder::respond). While too much memory is
    /// held ([`Limits::memory_bytes_max`](crate::Limits::memory_bytes_max)), the response to a
    /// request with a body is 503.
    ///
    /// If it takes the body of a request with `Expect: 100-continue`, the response is 417: HTTP/1.0
    /// has no interim response. The client may then send the request without the expectation.
    fn receive(
        &mut self,
        request: &Request<'_>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Box<dyn Upload>> {
        let _ = (request, cx);
        None
    }

    /// The timer of the responder ([`HttpContext::set_timer`]) has expired. Returns the answer that
    /// was promised, or `None` to let the client wait on.
    fn timer_expired(&mut self, cx: &mut HttpContext<'_, '_>) -> Option<Response<'_>> {
        let _ = cx;
        None
    }

    /// A message to this connection, as for
    /// [`Protocol::message_received`](crate::Protocol::message_received). Returns the answer that
    /// was promised, if there is one.
    ///
    /// Called between two requests as well. A response that no request waits for is dropped, with a
    /// line in the debug log.
    fn message_received(
        &mut self,
        message: Box<dyn Any>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        let _ = (message, cx);
        None
    }

    /// Something has happened to the connection `about`, as for
    /// [`Protocol::notified`](crate::Protocol::notified). Returns the answer that was promised, if
    /// there is one; otherwise as for [`message_received`](Responder::message_received).
    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        let _ = (about, notification, cx);
        None
    }

    /// Returns whether each response is logged, under the target [`ACCESS_LOG`](crate::ACCESS_LOG).
    /// The default is `false`.
    fn logs_access(&self) -> bool {
        false
    }
}

/// A closure that responds: see [`Http::each`].
#[derive(Debug)]
pub struct ResponderFn<F>(F);

impl<F> Responder for ResponderFn<F>
where
    F: FnMut(&Request<'_>, &mut HttpContext<'_, '_>) -> Response<'static>,
{
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        (self.0)(request, cx)
    }
}

impl<F> Http<ResponderFn<F>>
where
    F: FnMut(&Request<'_>, &mut HttpContext<'_, '_>) -> Response<'static>,
{
    /// Makes the protocol of one connection, with a closure as its responder.
    pub fn from_fn(respond: F) -> Http<ResponderFn<F>> {
        Http::new(ResponderFn(respond))
    }

    /// Returns what makes a protocol for each connection, with a clone of `respond` as its
    /// responder: for [`Reactor::listen`](crate::Reactor::listen).
    ///
    /// A closure is `Clone` if what it has captured is, as an `Rc` and [`Workers`](crate::Workers)
    /// are. So all connections share what is behind an `Rc`.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use mio_reactor::{Http, Limits, Reactor, Response};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let visits = Rc::new(Cell::new(0_u64));
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.listen("127.0.0.1:0", Http::each(move |_request, _cx| {
    ///     visits.update(|count| count + 1);
    ///     Response::text(format!("{} visits\n", visits.get()))
    /// }))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn each(respond: F) -> impl FnMut(SocketAddr) -> Http<ResponderFn<F>>
    where
        F: Clone,
    {
        move |_client| Http::from_fn(respond.clone())
    }
}

/// Takes the body of one request, and responds to it. If the body is cut short or refused, the
/// value is dropped without a further call.
pub trait Upload {
    /// Returns how much memory it holds at most, in bytes, for a body of `body_bytes`. The default
    /// is all of the body. An upload that passes its pieces on returns less.
    ///
    /// It is called once, before the body. If there is not so much memory
    /// ([`Context::has_memory_for`](crate::Context::has_memory_for)), the response is 503, the
    /// connection closes, and the upload is dropped.
    fn held_bytes(&self, body_bytes: u64) -> usize {
        usize::try_from(body_bytes).unwrap_or(usize::MAX)
    }

    /// Takes the next bytes of the body. A piece has at least one, and may have any size.
    fn take(&mut self, piece: &[u8]);

    /// Returns the response, once the body is complete. If it is [promised](Response::later), the
    /// responder gives the answer.
    fn respond(self: Box<Self>, cx: &mut HttpContext<'_, '_>) -> Response<'static>;
}
