//! What an application implements: a responder, and the upload of a body.

use super::request::Request;
use super::response::Response;

/// What a server has to say.
///
/// One value is made per connection. Every call must return soon: while it runs, nobody else is served.
pub trait Responder {
    /// Answers one request. Length, date and connection fields are added by the caller, and the body is left out where
    /// there must be none, as for HEAD.
    ///
    /// It is asked when all of the request is there: a body that [`receive`](Responder::receive) did not want has been skipped
    /// by then, and a request that was cut short is never answered here. Only a client that waits for leave to send its body
    /// (`Expect: 100-continue`) is answered before.
    fn respond(&mut self, request: &Request<'_>) -> Response<'_>;

    /// Asked where a body follows, of at most [`BODY_BYTES_MAX`](crate::limits::BODY_BYTES_MAX): who takes it? It then gives the answer too, instead of
    /// [`respond`](Responder::respond). Nobody, by default.
    ///
    /// A client that would wait for leave to send it (`Expect: 100-continue`) is answered 417, for HTTP/1.0 has no such leave
    /// to give; it may then send the request without asking.
    fn receive(&mut self, request: &Request<'_>) -> Option<Box<dyn Upload>> {
        let _ = request;
        None
    }

    /// Whether each answer is logged, under the target [`ACCESS_LOG`](crate::ACCESS_LOG). No, by default.
    fn logs_access(&self) -> bool {
        false
    }
}

/// Takes the body of one request. If the body never comes to its end, it is dropped without a call.
pub trait Upload {
    /// Takes the next bytes of it: some, in pieces of any size.
    fn take(&mut self, piece: &[u8]);

    /// The body is complete: answers the request.
    fn respond(self: Box<Self>) -> Response<'static>;
}
