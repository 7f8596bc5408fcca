//! An event-loop server, built directly on [mio]: one thread, one poll loop, one slab of connections.
//!
//! The program of the same name serves TCP echo, UDP echo and HTTP/1.0 with it. A server of your own is a [`Protocol`],
//! which turns bytes into bytes, and a [`Reactor`], which does the rest: partial writes, backpressure, half-close,
//! deadlines, limits.
//!
//! ```
//! use reactor::{Advance, Context, Limits, Protocol, Reactor};
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
//! The modules below stand in the order in which they are best read; `docs/architecture.md` has the whole on two pages,
//! and [`guide`] tells how to write a protocol.

mod reactor; // the loop: wait, note, drive, expire, reap
mod listener; // where connections come from
mod connection; // one conversation: its phases, and what is owed in each
mod wire; // one socket's readiness, and what the kernel's answers say about it
mod errno; // what each error of the kernel means to each call
mod buffer; // bytes waiting their turn
mod protocol; // what a protocol is: bytes in, bytes out
mod effects; // what connections do to each other
mod handle; // what other threads have the loop do
mod echo; // the smallest one, over streams and datagrams
mod http; // HTTP/1.0, correctly framed
mod datagram; // datagrams, received and answered by the batch
mod deadline; // who has to be looked at, and when
pub mod limits; // every number, once
mod stats; // what happened, counted
mod turn; // what a turn lends to whoever is driven
mod net; // the kernel, as the loop sees it
mod rehearsal; // a conversation without a network, for testing a protocol
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing; // a connection over a scripted wire, for tests/fuzz
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

pub use datagram::{Batching, Datagram, DatagramProtocol, Replies};
pub use echo::Echo;
pub use effects::{Connections, Notification};
pub use handle::{Handle, SubmitError};
#[cfg(all(unix, feature = "files"))]
pub use http::Files;
pub use http::{
    ACCESS_LOG, Http, Method, Page, Request, Responder, Response, Site, Status, Upload,
};
pub use limits::Limits;
pub use protocol::{Advance, CloseReason, ConnectionId, Context, Next, Peer, Protocol};
pub use reactor::{Reactor, Stopped};
pub use rehearsal::{RecordedEffect, TestConnection};
pub use stats::Stats;
