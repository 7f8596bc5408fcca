//! Echo (RFC 862): the bytes that are received are sent back.
//!
//! The smallest complete protocol, over streams and over datagrams. With a prefix it is the
//! lecture's server, which puts `echo -> ` before each reply.

use std::rc::Rc;

use crate::protocol::context::Context;
use crate::protocol::datagram::Replies;
use crate::protocol::datagram::{Datagram, DatagramProtocol};
use crate::protocol::protocol::{Advance, Protocol};

/// Echoes a stream, or datagrams.
///
/// RFC 862 wants every byte back and nothing else. With a prefix, each datagram's reply begins with
/// it. A stream has no message boundaries, so there the prefix is sent before the bytes of each
/// read, which are whatever has arrived at that moment.
///
/// A UDP echo answers whatever it gets, also from another echo. So it refuses peers at the port
/// numbers of its own reactor ([`answering_own_ports`](Echo::answering_own_ports)) and at those of
/// other services that answer everything
/// ([`Limits::unanswered_ports`](crate::Limits::unanswered_ports)). It cannot know of an echo at
/// any other port.
///
/// Neither `Send` nor `Sync`: clones share the prefix on one thread.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// One copy is shared by all connections.
    prefix: Option<Rc<Vec<u8>>>,
    answers_own_ports: bool,
}

impl Echo {
    /// Returns an echo that sends the bytes back unchanged.
    pub fn new() -> Echo {
        Echo::default()
    }

    /// Returns an echo that puts `prefix` before each reply.
    pub fn with_prefix(prefix: impl Into<Vec<u8>>) -> Echo {
        let prefix = prefix.into();
        Echo { prefix: (!prefix.is_empty()).then(|| Rc::new(prefix)), answers_own_ports: false }
    }

    /// Returns the same echo, but it also answers datagrams from the port numbers at which its own
    /// reactor serves datagrams. Otherwise it does not, because another echo may sit there, and the
    /// two would answer each other without end
    /// ([`refuses_own_ports`](DatagramProtocol::refuses_own_ports)).
    #[must_use]
    pub fn answering_own_ports(self) -> Echo {
        Echo { answers_own_ports: true, ..self }
    }
}

impl Protocol for Echo {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match &self.prefix {
            None => cx.send_borrowed(input),
            Some(prefix) => send_prefixed(prefix, input, cx),
        }
        Advance::consumed(input.len())
    }
}

#[cold]
fn send_prefixed(prefix: &[u8], input: &[u8], cx: &mut Context<'_>) {
    cx.send(prefix);
    cx.send(input);
}

impl DatagramProtocol for Echo {
    fn refuses_own_ports(&self) -> bool {
        !self.answers_own_ports
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let _ = datagram;
        match &self.prefix {
            None => replies.echo(b""),
            Some(prefix) => echo_prefixed(prefix, replies),
        }
    }
}

/// Not inlined, like `send_prefixed`: it would take registers from the echo without a prefix.
#[inline(never)]
fn echo_prefixed(prefix: &[u8], replies: &mut Replies<'_>) {
    replies.echo(prefix);
}
