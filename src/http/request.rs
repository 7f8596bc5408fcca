//! A request: what a responder is asked, and what decides where its message ends.

use httparse::Header;

use super::response::ResponseForm;

/// The methods of RFC 9110 section 9 and RFC 5789. Another one is answered 501, without asking the responder.
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

/// A request whose head has arrived, and whose framing is beyond doubt.
#[derive(Debug)]
pub struct Request<'i> {
    pub(super) method: Method,
    pub(super) path: &'i [u8],
    pub(super) query: Option<&'i [u8]>,
    /// The target's own, if it has one.
    pub(super) authority: Option<&'i [u8]>,
    pub(super) headers: &'i [Header<'i>],
    pub(super) form: ResponseForm,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) body_bytes: u64,
}

impl<'i> Request<'i> {
    /// What is to be done.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The target's path as it was sent, percent-encoding and all: it begins with `/` (or is the `*` of OPTIONS, or the
    /// host and port of CONNECT).
    pub fn path(&self) -> &'i [u8] {
        self.path
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&'i [u8]> {
        self.query
    }

    /// The host that is asked, with its port if one is named: the one in the target, where the target has one, whatever the Host
    /// field says (RFC 9112 section 3.2.2), and what the field says otherwise. So who serves several hosts goes by this, not
    /// by the field. `None`: a client of 1.0 has named none.
    pub fn host(&self) -> Option<&'i [u8]> {
        self.authority.or_else(|| self.header("Host"))
    }

    /// The value of the first field called `name`, in any case, without white space around it.
    pub fn header(&self, name: &str) -> Option<&'i [u8]> {
        self.header_values(name).next()
    }

    /// The values of all fields called `name`, in their order: together they are one list (RFC 9110 section 5.3).
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'i [u8]> + use<'i, 'n> {
        let is_called_so = move |header: &&Header<'i>| header.name.eq_ignore_ascii_case(name);
        self.headers.iter().filter(is_called_so).map(|header| header.value)
    }

    /// Whether the client will send another request on this connection.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether the client waits for leave before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// What of an answer the client can take.
    #[inline]
    pub(super) fn form(&self) -> ResponseForm {
        self.form
    }

    /// The length of the body, in bytes. 0: none.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}
