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
/// Neither `Send` nor `Sync`: clones share the prefix on one thread.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// One copy is shared by all connections.
    prefix: Option<Rc<Vec<u8>>>,
}

impl Echo {
    /// Returns an echo that sends the bytes back unchanged.
    pub fn new() -> Echo {
        Echo::default()
    }

    /// Returns an echo that puts `prefix` before each reply.
    pub fn with_prefix(prefix: impl Into<Vec<u8>>) -> Echo {
        let prefix = prefix.into();
        Echo { prefix: (!prefix.is_empty()).then(|| Rc::new(prefix)) }
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
