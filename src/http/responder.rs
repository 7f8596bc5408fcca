//! What an application implements: a responder, and an upload for each body that it takes.
//!
//! Neither sees a socket, nor where a message begins and ends: `protocol.rs` does the framing.

use super::request::Request;
use super::response::Response;

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
    fn respond(&mut self, request: &Request<'_>) -> Response<'_>;

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
    fn receive(&mut self, request: &Request<'_>) -> Option<Box<dyn Upload>> {
        let _ = request;
        None
    }

    /// Returns whether each response is logged, under the target [`ACCESS_LOG`](crate::ACCESS_LOG).
    /// The default is `false`.
    fn logs_access(&self) -> bool {
        false
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

    /// Returns the response, once the body is complete.
    fn respond(self: Box<Self>) -> Response<'static>;
}
