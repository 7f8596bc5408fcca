//! An event-loop server, built directly on [mio]: one thread, one poll loop, one slab of connections.
//!
//! The program of the same name serves TCP echo, UDP echo and HTTP/1.0 with it. A server of your own is a [`Protocol`],
//! which turns bytes into bytes, and a [`Reactor`], which does the rest: partial writes, backpressure, half-close,
//! deadlines, limits.
//!
//! ```
//! use mio_reactor::{Advance, Context, Limits, Protocol, Reactor};
//!
//! /// Answers each line with itself, in capitals.
//! struct Shout;
//!
//! impl Protocol for Shout {
//!     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
//!         let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
//!             return Advance::need_more();
//!         };
//!         cx.send(&input[..=end].to_ascii_uppercase());
//!         Advance::consumed(end + 1)
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let mut reactor = Reactor::new(Limits::default())?;
//!     let address = reactor.listen(([127, 0, 0, 1], 0).into(), |_peer| Shout)?;
//! #   use std::io::{Read, Write};
//! #   let (bell, rope) = std::os::unix::net::UnixStream::pair()?;
//! #   bell.set_nonblocking(true)?;
//! #   reactor.stop_on(mio::net::UnixStream::from_std(bell))?;
//! #   let client = std::thread::spawn(move || {
//! #       let mut peer = std::net::TcpStream::connect(address)?;
//! #       peer.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
//! #       peer.write_all(b"hello\nwor")?;
//! #       peer.write_all(b"ld\n")?;
//! #       let mut reply = [0; 12];
//! #       peer.read_exact(&mut reply)?;
//! #       drop(rope);
//! #       Ok::<_, std::io::Error>(reply)
//! #   });
//!     println!("shouting on {address}");
//!     reactor.run()?;
//! #   assert_eq!(&client.join().unwrap()?, b"HELLO\nWORLD\n");
//!     Ok(())
//! }
//! ```
//!
//! The modules below stand in reading order: each can be understood from those before it.
//! `docs/architecture.md` has the whole on two pages, and [`guide`] tells how to write a protocol.

// Tests share the program's page (src/bin/reactor/site.rs), which names this library as its users do.
#[cfg(test)]
extern crate self as mio_reactor;

pub mod limits; // every number, once
mod stats; // what happened, counted
mod sys; // the kernel, as the loop sees it: mio's types, or a simulated kernel's
mod clock; // a moment in milliseconds; the clock is read once a turn
mod deadline; // the filed deadlines, soonest first
mod budget; // what a turn and a source may move
mod loop_state; // what the loop lends to the source that it drives

mod protocol {
    pub(crate) mod ident; // connection ids, peers, close reasons
    pub(crate) mod outcome; // where a source stands after it was driven
    pub(crate) mod notification; // what a protocol is told of another connection
    pub(crate) mod subscriptions; // which connection is to be notified about which
    pub(crate) mod effects; // what connections do to each other
    pub(crate) mod context; // what a protocol is lent for one call
    pub(crate) mod datagram; // the callbacks and replies of a datagram protocol
    #[expect(clippy::module_inception, reason = "the file is found by its name")]
    pub(crate) mod protocol; // the callbacks: bytes in, bytes out
}

mod stream {
    pub(crate) mod buffer; // bytes that wait
    pub(crate) mod readiness; // edge-triggered readiness, remembered for one socket
    pub(crate) mod connection; // a connection's phases, and what is owed in each
    pub(crate) mod listener; // a listening socket, and its overload
}

mod datagram {
    pub(crate) mod receive; // a batch of datagrams received
    pub(crate) mod replies; // replies that wait, in GSO batches
    pub(crate) mod requests; // what a datagram protocol has asked of its socket
    pub(crate) mod filter; // which datagrams are dropped, and why
    pub(crate) mod portable; // one datagram in each system call
    #[cfg(target_os = "linux")]
    pub(crate) mod batched; // many datagrams in each system call
    pub(crate) mod batch_io; // the choice between the two
    pub(crate) mod socket; // one UDP socket: receive a batch, answer it, send the replies
    pub(crate) mod client; // sockets whose protocol sends without being asked
}

mod reactor; // the loop: wait, note, drive, expire, reap
mod echo; // the smallest protocol, over streams and datagrams

mod http {
    pub(crate) mod status; // status codes and reason phrases
    pub(crate) mod response; // a response, and how it is written
    pub(crate) mod request; // a request, as a responder sees it
    pub(crate) mod target; // the four forms of a target, and the syntax of hosts
    pub(crate) mod head; // a request's head, parsed
    pub(crate) mod responder; // what an application implements
    pub(crate) mod access_log; // a line for each response
    pub(crate) mod body; // a response body that is read while it is sent
    pub(crate) mod protocol; // HTTP/1.0: where messages begin and end
    #[cfg(all(unix, feature = "files"))]
    pub(crate) mod files; // regular files below a directory
    #[cfg(test)]
    #[path = "../bin/reactor/site.rs"]
    #[allow(dead_code, reason = "the program uses the rest of it")]
    pub(crate) mod site; // the program's page, for tests
}

mod testing {
    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub mod fuzzing; // a connection over a scripted transport, for tests/fuzz
    #[cfg(test)]
    pub(crate) mod simulated; // a kernel of our own, with its clock and the world at the other end
    pub(crate) mod test_connection; // a connection without a network, for testing a protocol
}

#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

pub use echo::Echo;
pub use http::access_log::ACCESS_LOG;
#[cfg(all(unix, feature = "files"))]
pub use http::files::Files;
pub use http::protocol::Http;
pub use http::request::{Method, Request};
pub use http::responder::{Responder, Upload};
pub use http::response::{Page, Response};
pub use http::status::Status;
pub use limits::Limits;
pub use protocol::context::Context;
pub use protocol::datagram::{Batching, Datagram, DatagramProtocol, Replies};
pub use protocol::effects::Connections;
pub use protocol::ident::{CloseReason, ConnectionId, Peer};
pub use protocol::notification::Notification;
pub use protocol::protocol::{Advance, Next, Protocol};
pub use reactor::tasks::{Handle, SubmitError};
pub use reactor::{Reactor, Stopped};
pub use stats::Stats;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use testing::fuzzing;
pub use testing::test_connection::{RecordedEffect, TestConnection};
