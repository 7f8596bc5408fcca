//! Echo (RFC 862): what comes goes back.
//!
//! The smallest complete protocol, over streams and over datagrams. With a prefix it is the lecture's server, which puts
//! `echo -> ` before each reply.

use std::rc::Rc;

use crate::protocol::context::Context;
use crate::protocol::datagram::Replies;
use crate::protocol::datagram::{Datagram, DatagramProtocol};
use crate::protocol::protocol::{Advance, Protocol};

/// Echoes a stream, or datagrams.
///
/// RFC 862 wants every byte back and nothing else. A prefix is put before each datagram's reply, where it is exact; and on
/// a stream before what each read brought, which is whatever has arrived at that moment: a stream has no message
/// boundaries.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// One copy, however many connections.
    prefix: Option<Rc<Vec<u8>>>,
}

impl Echo {
    /// Echoes verbatim.
    pub fn new() -> Echo {
        Echo::default()
    }

    /// Puts `prefix` before each reply.
    pub fn with_prefix(prefix: impl Into<Vec<u8>>) -> Echo {
        let prefix = prefix.into();
        Echo { prefix: (!prefix.is_empty()).then(|| Rc::new(prefix)) }
    }
}

impl Protocol for Echo {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match &self.prefix {
            None => cx.send_borrowed(input),
            Some(prefix) => send_both(prefix, input, cx),
        }
        Advance::consumed(input.len())
    }
}

#[cold]
fn send_both(prefix: &[u8], input: &[u8], cx: &mut Context<'_>) {
    cx.send(prefix);
    cx.send(input);
}

impl DatagramProtocol for Echo {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let _ = datagram;
        match &self.prefix {
            None => replies.echo(b""),
            Some(prefix) => echo_behind(prefix, replies),
        }
    }
}

/// Out of line, as `send_both` is: what echoes verbatim does without the registers that this takes.
#[inline(never)]
fn echo_behind(prefix: &[u8], replies: &mut Replies<'_>) {
    replies.echo(prefix);
}
