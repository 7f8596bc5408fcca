//! The head of a request, for a protocol that is none of HTTP but begins with one: an upgrade.
//!
//! Invariant: what [`Http`](crate::Http) would reject is rejected here, so a server that upgrades
//! and one that answers cannot see different requests.

use super::head::{Examined, examine, parse};
use super::request::Request;
use super::status::Status;

impl<'i> Request<'i> {
    /// Parses the head of a request at the front of `input`, by the rules of [`Http`](crate::Http),
    /// and returns it with its length in bytes. `None`: it is not whole yet.
    ///
    /// For a [`Layer`](crate::Layer) that begins with a request, such as WebSocket. A server of
    /// HTTP does not need it.
    ///
    /// ```
    /// use mio_reactor::{Request, Status};
    ///
    /// let input = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\nbytes";
    /// let (request, length) = Request::parse(input)?.expect("it is whole");
    /// assert_eq!(request.header("upgrade"), Some(&b"websocket"[..]));
    /// assert_eq!(&input[length..], b"bytes");
    /// # Ok::<(), Status>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The status of the error response, if it is no valid request of HTTP/1, or too large.
    pub fn parse(input: &'i [u8]) -> Result<Option<(Request<'i>, usize)>, Status> {
        parse(input).map(Some).or_else(|status| match examine(input, status) {
            Examined::Partial(_) => Ok(None),
            Examined::Simple(..) => Err(Status::BAD_REQUEST), // it has no fields
            Examined::Rejected(status) => Err(status),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_parsed_or_refused_however_its_bytes_arrive() {
        for (head, expected) in [
            ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", Ok(())),
            ("GET /a HTTP/1.1\r\n\r\n", Err(Status::BAD_REQUEST)),
            ("GET /a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(Status::BAD_REQUEST)),
            ("GET /a HTTP/1.1\r\nHost: a\n\r\n", Err(Status::BAD_REQUEST)),
            ("GET /a\r\n", Err(Status::BAD_REQUEST)),
            ("GET /a HTTP/2.0\r\n", Err(Status::HTTP_VERSION_NOT_SUPPORTED)),
        ] {
            for end in 0..=head.len() {
                let parsed = Request::parse(&head.as_bytes()[..end]);
                match parsed.map(|parsed| parsed.map(|(_, length)| length)) {
                    Ok(None) => assert!(end < head.len(), "{head} is whole"),
                    Ok(Some(length)) => assert_eq!((length, Ok(())), (head.len(), expected)),
                    Err(status) => assert_eq!(Err(status), expected, "{end} bytes of {head}"),
                }
            }
        }
    }
}
