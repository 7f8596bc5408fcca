//! A request, as a responder sees it: method, target, fields, and the length of its body.
//!
//! Nothing is copied: the parts borrow from the connection's input. A request exists only once its
//! whole head has been received and the end of its body is certain (`head.rs`).

use super::field_lines::FieldLines;
use super::head::list_items;
use super::limits;
use super::response::ResponseForm;

/// The methods of RFC 9110 section 9 and RFC 5789. Any other is rejected with 501, without calling
/// the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl Method {
    /// Returns the method with this name. Case matters (RFC 9110 section 9.1).
    #[inline]
    pub(super) fn of(name: &[u8]) -> Option<Method> {
        Some(match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => return None,
        })
    }

    /// Returns the name of the method, as it stands in a request.
    ///
    /// ```
    /// assert_eq!(mio_reactor::Method::Get.as_str(), "GET");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
        }
    }

    /// Returns whether a request of this method changes nothing at the server (RFC 9110 section
    /// 9.2.1).
    ///
    /// ```
    /// # use mio_reactor::Method;
    /// assert!(Method::Get.is_safe() && !Method::Post.is_safe());
    /// ```
    pub const fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// Returns whether it makes no difference if a request of this method is done twice (RFC 9110
    /// section 9.2.2). Such a request may be sent again on a new connection if the old one ended
    /// without a response.
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }
}

/// A request whose head has been received and whose framing is unambiguous.
#[derive(Debug)]
pub struct Request<'i> {
    pub(super) method: Method,
    pub(super) path: &'i [u8],
    pub(super) query: Option<&'i [u8]>,
    /// The authority in the target, if it has one.
    pub(super) authority: Option<&'i [u8]>,
    pub(super) fields: FieldLines<'i>,
    pub(super) form: ResponseForm,
    pub(super) is_1_1: bool,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) body_bytes: u64,
}

impl<'i> Request<'i> {
    /// Largest body that is read, in bytes, whether a responder takes it or it is skipped. Beyond:
    /// 413 and close.
    pub const BODY_BYTES_MAX: u64 = limits::BODY_BYTES_MAX;

    /// Returns the method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Returns the target's path as it was sent: still percent-encoded, and with its dot segments
    /// and empty segments. It begins with `/`, or is the `*` of OPTIONS or the host and port of
    /// CONNECT. It has no space and no control character, but any byte beyond ASCII.
    pub fn path(&self) -> &'i [u8] {
        self.path
    }

    /// Returns the query as it was sent: what follows the first `?` of the target. It may have any
    /// byte that a path may have.
    pub fn query(&self) -> Option<&'i [u8]> {
        self.query
    }

    /// Returns the requested host, with its port if one is given.
    ///
    /// A host in the target overrides the Host field (RFC 9112 section 3.2.2), so a server of
    /// several hosts must select by this value and not by the field. `None`: an HTTP/1.0 request
    /// without either.
    pub fn host(&self) -> Option<&'i [u8]> {
        self.authority.or_else(|| self.header("Host"))
    }

    /// Returns the value of the first field named `name`, without the white space around it. Case
    /// does not matter in `name`.
    pub fn header(&self, name: &str) -> Option<&'i [u8]> {
        self.header_values(name).next()
    }

    /// Returns the values of all fields named `name`, in order. Together they are one list (RFC
    /// 9110 section 5.3).
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'i [u8]> + use<'i, 'n> {
        self.fields.values(name)
    }

    /// Returns whether the list in the fields named `name` has the element `item`: a connection
    /// option, for example. Case does not matter in either.
    pub fn lists(&self, name: &str, item: &str) -> bool {
        let mut items = self.header_values(name).flat_map(list_items);
        items.any(|element| element.eq_ignore_ascii_case(item.as_bytes()))
    }

    /// Returns all fields in order, each with its name as it was sent, and its value as
    /// [`header`](Request::header) returns it. Names are ASCII.
    pub fn headers(&self) -> impl Iterator<Item = (&'i str, &'i [u8])> + use<'i> {
        self.fields.iter().map(|field| (field.name_as_str(), field.value))
    }

    /// Returns whether the client keeps the connection open for another request (RFC 9112 section
    /// 9.3).
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Returns whether the client waits for a response before it sends the body (`Expect:
    /// 100-continue`).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The parts of a response that the client expects.
    #[inline]
    pub(super) fn form(&self) -> ResponseForm {
        self.form
    }

    /// Returns the length of the body, in bytes. 0: none.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}
