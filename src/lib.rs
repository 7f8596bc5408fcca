//! An event-loop server framework on [mio]: one thread, one poll loop, one slab of connections.
//!
//! A [`Reactor`] serves all its sockets on one thread. It uses edge-triggered readiness, which mio
//! gets from epoll or kqueue. A server is a reactor and a [`Protocol`], a state machine that turns
//! received bytes into bytes to send and does no I/O. The reactor does the rest: partial writes,
//! backpressure, half-close, timeouts, limits and the graceful stop.
//!
//! The program `reactor` in this package serves TCP echo, UDP echo and HTTP/1.0 with it.
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
//!     let address = reactor.listen("127.0.0.1:0", |_peer| Shout)?;
//! #   use std::io::{Read, Write};
//! #   let (read_end, write_end) = std::io::pipe()?;
//! #   reactor.stop_on(read_end.into())?;
//! #   let client = std::thread::spawn(move || {
//! #       let mut peer = std::net::TcpStream::connect(address)?;
//! #       peer.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
//! #       peer.write_all(b"hello\nwor")?;
//! #       peer.write_all(b"ld\n")?;
//! #       let mut reply = [0; 12];
//! #       peer.read_exact(&mut reply)?;
//! #       drop(write_end);
//! #       Ok::<_, std::io::Error>(reply)
//! #   });
//!     println!("shouting on {address}");
//!     reactor.run()?;
//! #   assert_eq!(&client.join().unwrap()?, b"HELLO\nWORLD\n");
//!     Ok(())
//! }
//! ```
//!
//! The source lists the modules in reading order: each can be understood from those before it.
//! `docs/architecture.md` describes the whole on two pages, and [`guide`] shows how to write a
//! protocol.

// A build without a feature has no targets for the links to what that feature adds.
#![cfg_attr(not(feature = "files"), allow(rustdoc::broken_intra_doc_links))]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_debug_implementations)]

// Tests share the program's page (src/bin/reactor/site.rs), which uses this library by its name.
#[cfg(test)]
extern crate self as mio_reactor;

pub mod limits; // every number of the reactor, with its unit and its reason
mod overload_limits; // the numbers of overload
mod stats; // the counters
mod sys; // the operating system: mio's types, or a simulated kernel's in tests
mod wake; // waking the loop from any thread
mod time; // a moment, in milliseconds since the reactor was made
mod clock; // time in milliseconds, read once a turn
mod deadline; // the filed deadlines, soonest first
mod peers; // the addresses of peers
mod budget; // what a turn and a source may still spend
mod walk; // a walk over all slots, in parts
mod stop_state; // how far a graceful stop is
mod caught; // panics of what an application has handed in
mod loop_limits; // the limits in milliseconds, and those of each listener
mod memory; // what all connections hold, and which holds the most
mod trace; // the trace log, line by line
mod loop_state; // what the loop lends to the source that it drives

mod protocol {
    pub(crate) mod ident; // connection ids, peers, close reasons
    pub(crate) mod outcome; // the outcome of a drive
    pub(crate) mod notification; // notifications about other connections
    pub(crate) mod id_set; // connection ids in few pieces of memory
    pub(crate) mod subscriptions; // which connection is notified about which
    pub(crate) mod slow_reader; // what becomes of bytes for a connection that does not keep up
    pub(crate) mod pending; // notifications that are not delivered yet
    pub(crate) mod effects; // what connections ask to be done to each other
    pub(crate) mod mailboxes; // messages that wait for a connection
    pub(crate) mod completions; // what any thread sends to a connection, and is never refused
    pub(crate) mod stopping; // the notification that a stop has begun
    pub(crate) mod connections; // sending to a connection, closing and pausing it, by its id
    pub(crate) mod context; // what a protocol is lent for one call
    pub(crate) mod framing; // where messages end in a stream
    pub(crate) mod layer; // a protocol inside another
    pub(crate) mod dial; // where a relay connects to
    pub(crate) mod relay; // two connections that send each other their input
    pub(crate) mod datagram; // the callbacks and replies of a datagram protocol
    #[expect(clippy::module_inception, reason = "the file is found by its name")]
    pub(crate) mod protocol; // the callbacks of a stream protocol: bytes in, bytes out
}

mod stream {
    pub(crate) mod buffer; // bytes that wait
    pub(crate) mod readiness; // the edge-triggered readiness of one socket
    pub(crate) mod maybe_traced; // a stream whose calls go to the trace log
    pub(crate) mod connection; // a connection: its phases, buffers and timeouts
    pub(crate) mod listen_options; // what one listener does otherwise than its reactor
    pub(crate) mod listener; // a listening socket, and its overload
}

mod datagram {
    pub(crate) mod options; // what one datagram socket does otherwise
    pub(crate) mod receive; // a batch of received datagrams
    pub(crate) mod replies; // replies that wait to be sent, in GSO batches
    pub(crate) mod requests; // what a datagram protocol asks of its socket
    pub(crate) mod scratch; // the memory in which all datagram sockets receive and answer
    pub(crate) mod kept; // what a socket keeps between drives
    pub(crate) mod filter; // which datagrams are dropped, and why
    pub(crate) mod unlogged; // what is logged once for a whole drive
    mod failures; // what a failed receive or send leads to
    pub(crate) mod portable; // one datagram per system call
    #[cfg(target_os = "linux")]
    pub(crate) mod batched; // many datagrams per system call
    pub(crate) mod batch_io; // the choice between the two
    pub(crate) mod transport; // a socket of the system, or memory in a test
    mod traced; // the trace lines of a socket
    pub(crate) mod sending; // how replies leave, and what an error costs
    pub(crate) mod socket; // one UDP socket: receive a batch, answer it, send the replies
    pub(crate) mod client; // a UDP socket whose protocol sends first
}

mod reactor; // the loop: wait, note, drive, expire, reap
mod workers; // threads that work beside the loop
mod echo; // the smallest protocol, over streams and datagrams

#[cfg(feature = "http")]
mod http {
    pub(crate) mod limits; // every number of HTTP, with its unit and its reason
    pub(crate) mod date; // the date of a response
    pub(crate) mod status; // status codes and reason phrases
    pub(crate) mod content_type; // the type of a body
    pub(crate) mod field; // the header fields of a response
    pub(crate) mod response; // a response, and how it is written
    pub(crate) mod page; // a response that is composed once
    pub(crate) mod request; // a request, as a responder sees it
    pub(crate) mod target; // the four forms of a target, and the syntax of hosts
    pub(crate) mod scan; // the bytes of a head that comes in pieces
    pub(crate) mod field_lines; // the field lines of a head, found by name
    pub(crate) mod head; // a request head, parsed
    pub(crate) mod whole_head; // the head of a request that begins another protocol
    pub(crate) mod foreign; // what bytes that are no request look like
    pub(crate) mod promise; // an answer that is owed to a client
    pub(crate) mod context; // what a responder is lent for one call
    pub(crate) mod responder; // what an application implements
    pub(crate) mod access_log; // one line for each response
    pub(crate) mod body; // a response body that is read while it is sent
    pub(crate) mod exchange; // a response that is sent at once, in pieces, or later
    pub(crate) mod ongoing; // an answer that goes on
    pub(crate) mod state; // the message in progress
    pub(crate) mod late; // what gives a late answer
    pub(crate) mod protocol; // HTTP/1.0: where messages begin and end
    pub(crate) mod gateway; // what a gateway passes on, to a server and back
    #[cfg(all(unix, feature = "files"))]
    pub(crate) mod files; // the files below a directory
    #[cfg(test)]
    #[path = "../bin/reactor/site.rs"]
    #[allow(dead_code, reason = "the program uses the rest of it")]
    pub(crate) mod site; // the program's page, for tests
}

mod testing {
    pub(crate) mod recorded_effect; // effects on other connections, as a test sees them
    pub(crate) mod driver; // one connection, driven as the loop drives it
    #[cfg(fuzzing)]
    #[doc(hidden)]
    pub mod fuzzing; // the driver, for tests/fuzz
    #[cfg(test)]
    pub(crate) mod simulated; // a simulated kernel, with its clock and its peers
    pub(crate) mod test_conditions; // what a test does to a connection beside sending
    pub(crate) mod test_connection; // a connection without a network, for testing a protocol
    pub(crate) mod test_datagram; // a datagram socket without a network, for the same
}

// Its examples include a responder.
#[cfg_attr(feature = "http", doc = include_str!("../docs/guide.md"))]
#[cfg_attr(not(feature = "http"), doc = "The guide. It is here if the feature `http` is on.")]
pub mod guide {}

pub use datagram::options::DatagramOptions;
pub use echo::Echo;
#[cfg(all(unix, feature = "files"))]
#[cfg_attr(docsrs, doc(cfg(all(unix, feature = "files"))))]
pub use http::files::Files;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use http::{
    access_log::ACCESS_LOG,
    content_type::{ContentType, ContentTypeError},
    context::HttpContext,
    field::HeaderError,
    gateway::{ServerResponse, ServerResponseError},
    ongoing::Feed,
    page::Page,
    promise::Promise,
    protocol::Http,
    request::{Method, Request},
    responder::{Responder, ResponderFn, Upload},
    response::Response,
    status::{Status, StatusError},
};
pub use limits::Limits;
pub use protocol::connections::{Connections, SendError, SendStatus};
pub use protocol::context::Context;
pub use protocol::datagram::{Batching, Datagram, DatagramProtocol, Replies};
pub use protocol::dial::Dial;
pub use protocol::effects::Command;
pub use protocol::framing::{Frame, LengthPrefixed, Lines};
pub use protocol::ident::{CloseReason, ConnectionId, Peer};
pub use protocol::layer::{Encoder, Inner, Layer, Layered};
pub use protocol::notification::Notification;
pub use protocol::protocol::{Advance, Next, Protocol};
pub use protocol::relay::{Dialer, Relay};
pub use protocol::slow_reader::SlowReader;
pub use reactor::Reactor;
pub use reactor::tasks::{Handle, SubmitError, SubmitErrorKind};
pub use stats::Stats;
pub use stop_state::Stopped;
pub use stream::listen_options::{ListenOptions, Timeout};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use testing::fuzzing;
pub use testing::recorded_effect::RecordedEffect;
pub use testing::test_connection::TestConnection;
pub use testing::test_datagram::TestDatagram;
pub use workers::{JobPanicked, Workers, WorkersBusyError};
