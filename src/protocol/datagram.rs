//! The callbacks of a datagram protocol, and what it is lent for one call.
//!
//! ```text
//!     opened ──► received ──► received ──► … ──► closed (exactly once, last)
//!                 timer_expired, writable, error_received, message_received in between
//! ```
//!
//! Each datagram is answered for itself, with none, one or several. What a protocol sends is
//! queued, and leaves together in as few system calls as possible when all that has arrived is
//! answered.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connections::Connections;
use super::effects::Effects;
use super::ident::{CloseReason, ConnectionId};
use crate::datagram::receive::{Batch, Sender, Span, Unanswered};
use crate::datagram::replies::{Recipient, ReplyQueue};
use crate::datagram::requests::SocketRequests;
use crate::workers::{Workers, WorkersBusyError};

/// A service over datagrams, or a client of one.
///
/// Only [`received`](DatagramProtocol::received) has to be written. Every call must return soon:
/// while it runs, no other socket is served. A panic is counted in
/// [`Stats::panics`](crate::Stats::panics), what was sent before it is sent, and the protocol is
/// called again for the next datagram. When the reactor stops, the protocol is dropped as soon as
/// all that was received is answered and the answers are with the kernel.
pub trait DatagramProtocol {
    /// Answers `datagram`.
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>);

    /// The socket is open. Called once, and first: the place for a client to send its first
    /// datagram.
    fn opened(&mut self, replies: &mut Replies<'_>) {
        let _ = replies;
    }

    /// The timer that was set with [`Replies::set_timer`] has expired. It has to be set anew to
    /// expire again.
    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        let _ = replies;
    }

    /// A message to this socket, from a connection, from another datagram protocol or from a task:
    /// the answer of a worker thread, for example. Its id is [`Replies::id`], and everything else
    /// is as for [`Protocol::message_received`](crate::Protocol::message_received). What is sent
    /// here goes to [`send_to`](Replies::send_to), or to the peer of a connected socket.
    ///
    /// A stop of the reactor does not wait for messages. By default, the message is dropped.
    fn message_received(&mut self, message: Box<dyn Any>, replies: &mut Replies<'_>) {
        let _ = (message, replies);
    }

    /// The kernel has taken all that was sent, and more may be sent. Called once for each
    /// [`Replies::wake_when_writable`].
    fn writable(&mut self, replies: &mut Replies<'_>) {
        let _ = replies;
    }

    /// The kernel has reported an error. On a connected socket it is mostly about a datagram sent
    /// before: the peer's port is closed (`ConnectionRefused`, from ICMP), or there is no route to
    /// it. Several errors that come close together may be reported as one.
    ///
    /// No error ends the socket; [`Replies::close`] does, and then no more are reported. Each is
    /// counted in [`Stats::datagram_errors`](crate::Stats::datagram_errors).
    fn error_received(&mut self, error: &io::Error, replies: &mut Replies<'_>) {
        let _ = (error, replies);
    }

    /// The socket has ended, and is closed when this returns; or none could be opened
    /// ([`CloseReason::ConnectFailed`], see
    /// [`Context::connect_datagram`](crate::Context::connect_datagram)). Called exactly once, and
    /// last; but not if the reactor itself is dropped before.
    fn closed(&mut self, why: CloseReason) {
        let _ = why;
    }

    /// Returns whether a peer is refused if it has a port number at which this reactor serves
    /// datagrams, too. Asked once, when the socket is made.
    ///
    /// A protocol that answers whatever it receives returns `true`, as [`Echo`](crate::Echo) does.
    /// Another server that is configured alike has the same port numbers. One datagram with its
    /// forged source address would make the two answer each other without end. In a protocol
    /// between equals (NTP, gossip), both sides have the same port number, and `false` is right. On
    /// a connected socket the peer is not checked.
    fn refuses_own_ports(&self) -> bool {
        false
    }

    /// How datagrams cross between the socket and the kernel. Asked once, when the socket is made.
    fn batching(&self) -> Batching {
        Batching::Gso
    }
}

/// A closure is a protocol that answers each datagram, and does nothing else.
///
/// ```
/// use mio_reactor::{Datagram, Limits, Reactor, Replies};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new(Limits::default())?;
/// let mut count = 0_u64;
/// reactor.bind_datagram("127.0.0.1:0", move |_: &Datagram<'_>, replies: &mut Replies<'_>| {
///     count += 1;
///     replies.send(count.to_string().as_bytes());
/// })?;
/// # Ok(())
/// # }
/// ```
impl<F: FnMut(&Datagram<'_>, &mut Replies<'_>)> DatagramProtocol for F {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self(datagram, replies);
    }
}

/// How datagrams cross between a socket and the kernel. What a peer sees is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// One datagram in each system call (recvfrom(2), sendto(2)).
    Plain,
    /// Many datagrams in one call, where the system offers that (Linux: recvmmsg(2), sendmmsg(2)).
    Mmsg,
    /// The same, and neighbours of one size as one message (Linux: UDP_SEGMENT and UDP_GRO,
    /// udp(7)).
    #[default]
    Gso,
}

/// One datagram that has arrived whole.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// The bytes it carries: 0 to 65,507, or 65,527 over IPv6. An empty one is a datagram like any
    /// other.
    pub payload: &'a [u8],
    /// The source address that it names. Unlike a stream's, nothing has verified it.
    pub peer: SocketAddr,
}

impl<'a> Datagram<'a> {
    pub(crate) fn new(payload: &'a [u8], peer: SocketAddr) -> Datagram<'a> {
        Datagram { payload, peer }
    }
}

/// The message that a reply is ready ([`Replies::send_later`]).
pub(crate) struct LateReply {
    /// `None`: the peer that the socket is connected to.
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
}

impl LateReply {
    pub(crate) fn send(&self, replies: &mut Replies<'_>) {
        match self.to.filter(|_| replies.connected().is_none()) {
            Some(peer) => replies.send_to(peer, &self.bytes),
            None => replies.send(&self.bytes),
        }
    }
}

/// What a socket lends its protocol for one call.
///
/// A reply of more than 65,507 bytes (65,527 over IPv6) does not fit a datagram: it is not sent,
/// and is counted in [`Stats::datagrams_too_long`](crate::Stats::datagrams_too_long). What one
/// datagram is answered with beyond [`REPLIES_BYTES_MAX`](crate::limits::REPLIES_BYTES_MAX) is not
/// sent either, and is counted in [`Stats::datagrams_unsent`](crate::Stats::datagrams_unsent).
pub struct Replies<'b> {
    queue: &'b mut ReplyQueue,
    requests: &'b mut SocketRequests,
    effects: &'b mut Effects,
    senders: &'b [Sender],
}

impl fmt::Debug for Replies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("to", &self.queue.recipient()).finish_non_exhaustive()
    }
}

impl<'b> Replies<'b> {
    /// For a call that is not about a datagram.
    pub(crate) fn unsolicited(
        batch: &'b Batch,
        queue: &'b mut ReplyQueue,
        requests: &'b mut SocketRequests,
        effects: &'b mut Effects,
    ) -> Replies<'b> {
        queue.current = Span::NONE;
        queue.set_recipient(Recipient::Connected);
        Replies { queue, requests, effects, senders: &batch.senders }
    }

    /// For calls about the datagrams of `batch` that are still to be answered.
    pub(crate) fn answering(
        batch: &'b Batch,
        queue: &'b mut ReplyQueue,
        requests: &'b mut SocketRequests,
        effects: &'b mut Effects,
    ) -> (Unanswered<'b>, &'b [u8], Replies<'b>) {
        let replies = Replies { queue, requests, effects, senders: &batch.senders };
        (batch.unanswered(), &batch.buffers, replies)
    }

    /// What comes now is for the sender of this number.
    pub(crate) fn set_recipient(&mut self, number: usize) {
        self.queue.set_recipient(Recipient::Sender(number));
    }

    /// What comes now answers the datagram at `span`.
    pub(crate) fn set_current(&mut self, span: Span) {
        self.queue.current = span;
    }

    /// The socket's peer, if it is connected to one.
    pub(crate) fn connected(&self) -> Option<SocketAddr> {
        self.queue.connected
    }

    /// Replies with `bytes` to the sender of the datagram being answered. In a call that is not
    /// about a datagram, sends them to the peer that the socket is connected to; if it is connected
    /// to none, they cannot be sent, which is counted in
    /// [`Stats::datagrams_unsent`](crate::Stats::datagrams_unsent), and
    /// [`send_to`](Replies::send_to) is the call to use.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reply(bytes, Span::NONE);
    }

    /// Replies with `prefix` and, after it, the datagram being answered, which is not copied. In a
    /// call that is not about a datagram, the prefix is all.
    #[inline(always)] // an echo without a prefix then does nothing about one (docs/design.md)
    pub fn echo(&mut self, prefix: &[u8]) {
        self.reply(prefix, self.queue.current);
    }

    #[inline(always)]
    fn reply(&mut self, head: &[u8], body: Span) {
        self.queue.push(head, body, self.senders);
    }

    /// Sends `bytes` to `peer`, whether or not it has sent anything. On a socket bound to all
    /// addresses, the system chooses the one that it leaves from.
    ///
    /// # Panics
    ///
    /// On a socket that is connected to another peer.
    pub fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) {
        match self.queue.connected {
            Some(connected) => {
                assert_eq!(peer, connected, "a connected socket sends only to its peer");
                self.send(bytes);
            }
            None => self.queue.push_to(peer, bytes, self.senders),
        }
    }

    /// Replies later, with what a worker thread returns: to the sender of the datagram being
    /// answered, as [`send_to`](Replies::send_to) does. The protocol is not called again, unless
    /// `job` panics ([`JobPanicked`](crate::JobPanicked)). For more than to reply, there is
    /// [`Workers::submit_for`].
    ///
    /// On a socket bound to all addresses, the system chooses the one that the reply leaves from.
    /// If the machine has several, bind to each.
    ///
    /// ```
    /// use mio_reactor::{Datagram, DatagramProtocol, Replies, Workers};
    ///
    /// struct Reversed(Workers);
    ///
    /// impl DatagramProtocol for Reversed {
    ///     fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
    ///         let payload = datagram.payload.to_vec();
    ///         let job = move || payload.into_iter().rev().collect();
    ///         if replies.send_later(&self.0, job).is_err() {
    ///             replies.send(b"busy");
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Workers::submit_for`].
    pub fn send_later(
        &mut self,
        workers: &Workers,
        job: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<(), WorkersBusyError> {
        let to = match self.queue.recipient() {
            Recipient::Sender(number) => self.senders[number].peer,
            Recipient::Named(_) | Recipient::Connected => None,
        };
        workers.submit_for(self.requests.id, move || LateReply { to, bytes: job() })
    }

    /// Returns the id of this socket, by which messages reach its protocol
    /// ([`Connections::send_message`]). Sent bytes and commands do not: the id counts as that of a
    /// connection that has ended. [`Context::monitor`](crate::Context::monitor) works.
    pub fn id(&self) -> ConnectionId {
        self.requests.id
    }

    /// The connections of the same reactor. What is asked of them is done when this call is over.
    pub fn connections(&mut self) -> Connections<'_> {
        if self.effects.is_above_high_watermark() {
            self.queue.set_full(); // checked here, so that it costs nothing for each datagram
        }
        Connections::anonymous(self.effects)
    }

    /// Returns whether so much waits
    /// ([`REPLIES_HIGH_WATERMARK_BYTES`](crate::limits::REPLIES_HIGH_WATERMARK_BYTES)) that it is
    /// sent before the next datagram is answered, or so much is asked of
    /// [`connections`](Replies::connections) that it is done before. A protocol with much to send
    /// stops here, and goes on in the call that it asks for with
    /// [`wake_when_writable`](Replies::wake_when_writable).
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Asks for one call of [`DatagramProtocol::writable`]: in the next turn, or as soon after it
    /// as the kernel has taken all that was sent.
    ///
    /// While such a call is due, the loop does not sleep. This is how to send as fast as the kernel
    /// takes it, or by a clock more precise than the timer's. To wait for anything else, use
    /// [`set_timer`](Replies::set_timer).
    pub fn wake_when_writable(&mut self) {
        self.requests.wake_when_writable();
    }

    /// Closes the socket once the kernel has taken all that was sent, and drops the protocol. What
    /// has been received already may still be delivered to it before.
    pub fn close(&mut self) {
        self.requests.close();
    }

    /// Sets the timer: [`DatagramProtocol::timer_expired`] is called once `delay` is over, rounded
    /// up to whole milliseconds. Replaces a timer set before.
    pub fn set_timer(&mut self, delay: Duration) {
        self.requests.set_timer(delay);
    }

    /// Cancels the timer that was set with [`set_timer`](Replies::set_timer).
    pub fn cancel_timer(&mut self) {
        self.requests.timer = crate::time::Time::NEVER;
    }

    /// Returns the present moment: the same throughout a turn, in whole milliseconds since the
    /// reactor was made.
    pub fn now(&self) -> Instant {
        self.requests.now_as_instant()
    }

    /// Returns when the datagram being answered was received, by a clock that is read once for each
    /// batch, when this is first called. In a call that is not about a datagram: when the last one
    /// was, or now.
    pub fn received_at(&mut self) -> Instant {
        self.requests.received_at()
    }
}
