//! A relay: two connections, each of which sends its input to the other.
//!
//! ```text
//!     client ──input──► Relay ──send_to──► ServerSide ──► server
//!     client ◄──send_to── Relay ◄──input── ServerSide ◄── server
//!
//!     Handshake ──dial──► LookingUp ──► Connecting ──► Relaying
//!         ▲                   └── failed ──┴──► the dialer decides
//!         └───────────────────────── Next::Continue ────┘
//! ```
//!
//! The client's side begins with a [`Dialer`], which says where to connect: at once, or after words
//! of the client. While it looks up a name and connects, the client is paused. The server's side
//! is paused until the client has been told of the success, so no byte of the server is before
//! that.
//!
//! Invariant: what one peer sends reaches the other in order and whole, or that one is reset. A FIN
//! goes through as a FIN, and a failure as a reset. Between the two, no more than the watermarks
//! wait.

mod link; // what both sides do once they are connected

use std::any::Any;
use std::io::ErrorKind::{self, NotFound, TimedOut};
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use self::link::{Link, ServerSide};
use super::context::Context;
use super::dial::{Dial, Found, Target};
use super::ident::ConnectionId;
use super::notification::Notification;
use super::protocol::{Advance, Next, Protocol};
use crate::time::Time;

/// Says where a [`Relay`] connects its client to.
///
/// It speaks with the client until it has called one of the methods of [`Dial`]. What the client
/// has sent and the dialer has not consumed is relayed. See [`Relay`] for an example.
pub trait Dialer {
    /// The client has connected. A dialer that needs no word of it dials now. By default, nothing
    /// is done.
    fn opened(&mut self, dial: &mut Dial, cx: &mut Context<'_>) -> Next {
        let _ = (dial, cx);
        Next::Continue
    }

    /// Takes one step through what the client has sent, as [`Protocol::advance`] does; `None` if it
    /// needs more. (So a head of bytes is read with `?`.) Not called after the dial.
    fn advance(&mut self, input: &[u8], dial: &mut Dial, cx: &mut Context<'_>) -> Option<Advance>;

    /// The connect to `server` has succeeded. What is sent now reaches the client before the first
    /// byte of the server. By default, nothing is sent.
    fn connected(&mut self, server: SocketAddr, cx: &mut Context<'_>) {
        let _ = (server, cx);
    }

    /// No address could be connected to. `error` is why the last one failed
    /// ([`Context::connect`] has the kinds), or one of these:
    ///
    /// | Kind | What has failed |
    /// | --- | --- |
    /// | `NotFound` | The name has no address, or there was no address to try. |
    /// | `TimedOut` | The deadline of the relay. |
    /// | `ResourceBusy` | As many names wait for the worker threads as may. |
    ///
    /// After [`Next::Continue`], the dialer is asked again what to do with what the client sends.
    /// By default, the client is reset: a FIN would say that there was an answer, and that it is
    /// complete.
    fn failed(&mut self, error: ErrorKind, cx: &mut Context<'_>) -> Next {
        let _ = (error, cx);
        Next::Abort
    }

    /// A message that is not the relay's own, as for [`Protocol::message_received`]. By default,
    /// it is dropped, and so is every message after the dial.
    fn message_received(
        &mut self,
        message: Box<dyn Any>,
        dial: &mut Dial,
        cx: &mut Context<'_>,
    ) -> Next {
        let _ = (message, dial, cx);
        Next::Unchanged
    }
}

/// Dials these addresses at once, and needs no word of the client.
impl Dialer for Vec<SocketAddr> {
    fn opened(&mut self, dial: &mut Dial, _: &mut Context<'_>) -> Next {
        dial.to(self.drain(..));
        Next::Continue
    }

    fn advance(&mut self, _: &[u8], _: &mut Dial, _: &mut Context<'_>) -> Option<Advance> {
        None // it has dialed when it was opened
    }
}

/// Relays a client to a server: bytes in both directions, backpressure, half-close and failures.
///
/// ```no_run
/// use std::time::Duration;
/// use mio_reactor::{Limits, Reactor, Relay};
///
/// fn main() -> std::io::Result<()> {
///     let server = "192.0.2.7:80".parse().expect("an address");
///     let mut reactor = Reactor::new(Limits::default())?;
///     reactor.listen("127.0.0.1:8080", move |_| Relay::to([server], Duration::from_secs(10)))?;
///     reactor.run()?;
///     Ok(())
/// }
/// ```
///
/// - **Addresses** are tried in order, each for its part of the time that is left, so that one that
///   does not answer leaves time for the next. Names are looked up by [`Workers`](crate::Workers).
/// - **Backpressure.** A peer that does not read makes the other one wait, with a bounded number of
///   bytes between them.
/// - **Half-close.** A FIN is passed on after all bytes, and the other direction goes on. After the
///   second FIN both sides close.
/// - **Failure.** If one side fails, the other is reset.
///
/// The timeouts are those of each connection, also while both peers are silent. A side that is idle
/// for too long closes with a FIN. So set [`idle_timeout`](crate::Limits::idle_timeout) to more
/// than the peers' own.
///
/// A [`Dialer`] has the first words. This one reads a line that names the server, as a proxy does
/// whose protocol has one request and one answer before the bytes:
///
/// ```
/// use std::io::ErrorKind;
/// use std::net::SocketAddr;
/// use std::time::Duration;
/// use mio_reactor::{
///     Advance, Context, Dial, Dialer, Lines, Next, Notification, RecordedEffect, Relay,
///     TestConnection,
/// };
///
/// struct Switchboard(Lines);
///
/// impl Dialer for Switchboard {
///     fn advance(
///         &mut self,
///         input: &[u8],
///         dial: &mut Dial,
///         cx: &mut Context<'_>,
///     ) -> Option<Advance> {
///         let line = match self.0.next(input, cx) {
///             Ok(line) => line,
///             Err(step) => return Some(step),
///         };
///         match str::from_utf8(line.content).map(str::parse) {
///             Ok(Ok(address)) => dial.to([address]),
///             _ => cx.send(b"what?\n"),
///         }
///         Some(line.consumed())
///     }
///
///     fn connected(&mut self, server: SocketAddr, cx: &mut Context<'_>) {
///         cx.send(format!("connected to {server}\n").as_bytes());
///     }
///
///     fn failed(&mut self, error: ErrorKind, cx: &mut Context<'_>) -> Next {
///         cx.send(format!("{error}\n").as_bytes());
///         Next::Continue // the client may try another
///     }
/// }
///
/// let deadline = Duration::from_secs(10);
/// let switchboard = Switchboard(Lines::new(100, deadline));
/// let mut client = TestConnection::new(Relay::new(switchboard, deadline));
/// client.peer_sends(b"192.0.2.7:80\nearly");
/// let effects = client.take_effects();
/// let [RecordedEffect::Connect(server, _)] = effects[..] else { panic!("{effects:?}") };
/// client.notify(server, Notification::Connected);
/// assert_eq!(client.take_received(), b"connected to 192.0.2.7:80\n");
/// let early = RecordedEffect::SendTo(server, b"early".to_vec());
/// assert!(client.take_effects().contains(&early));
/// ```
#[derive(Debug)]
pub struct Relay<D> {
    dialer: D,
    deadline: Duration,
    /// When the handshake and the dial must be over.
    until: Time,
    lookups: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The client speaks with the dialer.
    Handshake,
    /// The client is paused until this look-up has a result.
    LookingUp(u32, #[expect(dead_code, reason = "the look-up asks whether it is kept")] Arc<()>),
    /// The client is paused until `link.other` is connected to `server`.
    Connecting {
        link: Link,
        server: SocketAddr,
        rest: IntoIter<SocketAddr>,
    },
    Relaying(Link),
}

impl Relay<Vec<SocketAddr>> {
    /// Makes the client's side of a relay to the first of `addresses` that can be connected to
    /// within `deadline`. If there is none, the client is reset.
    pub fn to(addresses: impl Into<Vec<SocketAddr>>, deadline: Duration) -> Self {
        Relay::new(addresses.into(), deadline)
    }
}

impl<D: Dialer> Relay<D> {
    /// Makes the client's side of a relay to where `dialer` says. The words of the client, the
    /// look-up and the connect together take at most `deadline`. A client that has not said by then
    /// where to connect is closed; otherwise [`Dialer::failed`] is called.
    pub fn new(dialer: D, deadline: Duration) -> Relay<D> {
        Relay { dialer, deadline, until: Time::NEVER, lookups: 0, state: State::Handshake }
    }

    fn begin(&mut self, cx: &mut Context<'_>) {
        self.state = State::Handshake;
        cx.set_timer(self.deadline);
        self.until = cx.meta.timer.get();
    }

    fn time_left(&self, cx: &Context<'_>) -> Duration {
        self.until.since(cx.state.clock.now)
    }

    /// Lets the dialer act, and does what it asks for.
    fn call(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut D, &mut Dial, &mut Context<'_>) -> Next,
    ) -> Next {
        let mut dial = Dial::new(cx.id(), self.lookups.wrapping_add(1));
        let next = call(&mut self.dialer, &mut dial, cx);
        match dial.target {
            _ if matches!(next, Next::Close | Next::CloseWithoutLinger | Next::Abort) => next,
            Target::None => {
                // The dialer may have a timer, too.
                cx.meta.timer = cx.meta.timer.get().min(self.until).into();
                next
            }
            Target::Name(wanted) => {
                self.lookups = dial.lookup;
                self.state = State::LookingUp(dial.lookup, wanted);
                cx.meta.timer = self.until.into();
                Next::Pause
            }
            Target::Addresses(addresses) => self.connect(addresses.into_iter(), NotFound, cx),
            Target::Failed(error) => self.fail(error, cx),
        }
    }

    fn is_looking_up(&self, lookup: u32) -> bool {
        matches!(self.state, State::LookingUp(number, _) if number == lookup)
    }

    /// Connects to the next address. `error` is why the last one has failed.
    fn connect(
        &mut self,
        mut rest: IntoIter<SocketAddr>,
        error: ErrorKind,
        cx: &mut Context<'_>,
    ) -> Next {
        let (left, count) = (self.time_left(cx), u32::try_from(rest.len()).unwrap_or(u32::MAX));
        let Some(server) = rest.next() else { return self.fail(error, cx) };
        if left.is_zero() {
            return self.fail(TimedOut, cx);
        }
        let eof_seen = Rc::default();
        let back = Link { other: cx.id(), eof_seen: Rc::clone(&eof_seen) };
        let other = cx.connect(server, ServerSide(back));
        self.state = State::Connecting { link: Link { other, eof_seen }, server, rest };
        cx.set_timer(left / count);
        Next::Pause
    }

    #[cold]
    fn fail(&mut self, error: ErrorKind, cx: &mut Context<'_>) -> Next {
        self.begin(cx);
        self.dialer.failed(error, cx)
    }

    /// Something has happened to the server's side while it was being connected.
    fn connecting(&mut self, what: Notification, cx: &mut Context<'_>) -> Next {
        let State::Connecting { link, server, rest } =
            mem::replace(&mut self.state, State::Handshake)
        else {
            unreachable!("it is called while a connect is in progress")
        };
        match what {
            Notification::Connected => {
                cx.cancel_timer();
                self.dialer.connected(server, cx);
                cx.monitor(link.other);
                cx.connections().resume(link.other);
                self.state = State::Relaying(link);
                Next::Continue
            }
            Notification::ConnectFailed(error) => self.connect(rest, error, cx),
            // Another protocol has aborted it, by its id.
            Notification::Closed => self.connect(rest, ErrorKind::ConnectionAborted, cx),
            Notification::AboveHighWatermark
            | Notification::BelowLowWatermark
            | Notification::Rejected
            | Notification::MailboxFull
            | Notification::Stopping => {
                self.state = State::Connecting { link, server, rest };
                Next::Unchanged
            }
        }
    }
}

impl<D: Dialer> Protocol for Relay<D> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.begin(cx);
        self.call(cx, |dialer, dial, cx| dialer.opened(dial, cx))
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match &self.state {
            State::Relaying(link) => link.advance(input, cx),
            State::Handshake => {
                let mut consumed = 0;
                let next = self.call(cx, |dialer, dial, cx| {
                    let step = dialer.advance(input, dial, cx).unwrap_or(Advance::need_more());
                    consumed = step.consumed;
                    step.next
                });
                Advance::consumed(consumed).then(next)
            }
            // Another protocol has resumed it.
            State::LookingUp(..) | State::Connecting { .. } => {
                Advance::need_more().then(Next::Pause)
            }
        }
    }

    fn eof(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::Relaying(link) => link.eof(cx),
            State::Handshake | State::LookingUp(..) | State::Connecting { .. } => Next::Close,
        }
    }

    /// A relay pauses on behalf of the other side, so its own low output changes nothing.
    fn output_low(&mut self, _cx: &mut Context<'_>) -> Next {
        match self.state {
            State::Handshake => Next::Continue,
            State::LookingUp(..) | State::Connecting { .. } | State::Relaying(_) => Next::Unchanged,
        }
    }

    fn notified(&mut self, about: ConnectionId, what: Notification, cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::Relaying(link) => link.notified(about, what),
            State::Connecting { link, .. } if link.other == about => self.connecting(what, cx),
            // Of an attempt that was given up.
            State::Connecting { .. } | State::LookingUp(..) | State::Handshake => Next::Unchanged,
        }
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        match message.downcast::<Found>() {
            Ok(found) if self.is_looking_up(found.lookup) => {
                self.connect(found.addresses.into_iter(), NotFound, cx)
            }
            Ok(_) => Next::Unchanged, // it came after its deadline
            Err(other) if matches!(self.state, State::Handshake) => {
                self.call(cx, |dialer, dial, cx| dialer.message_received(other, dial, cx))
            }
            Err(_) => Next::Unchanged,
        }
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        match mem::replace(&mut self.state, State::Handshake) {
            State::Handshake => Next::Close,
            State::LookingUp(..) => self.fail(TimedOut, cx),
            State::Connecting { link, rest, .. } => {
                cx.connections().abort(link.other);
                self.connect(rest, TimedOut, cx)
            }
            relaying @ State::Relaying(_) => {
                self.state = relaying; // a dialer has set the timer when it was connected
                Next::Unchanged
            }
        }
    }
}

#[cfg(test)]
mod tests;
