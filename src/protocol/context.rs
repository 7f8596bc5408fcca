//! What a connection lends its protocol for one call: output, timer, ids, and effects on others.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::completions::{Completer, Completions};
use super::connections::Connections;
use super::effects::{Effect, Effects, PendingConnect};
use super::ident::{ConnectionId, Peer};
use super::protocol::Protocol;
use crate::caught::CaughtDrop;
use crate::limits::Limits;
use crate::loop_state::LoopState;
use crate::peers::KeptPeer;
use crate::protocol::datagram::DatagramProtocol;
use crate::stream::readiness::Transport;
use crate::time::KeptTime;

/// What a connection lends its protocol for one call.
///
/// Output is sent when the call is over, timers are set in the connection, and effects on other
/// connections are queued.
pub struct Context<'i> {
    pub(crate) state: &'i mut LoopState,
    /// What this protocol does to other connections.
    pub(crate) effects: &'i mut Effects,
    /// Output that has not been copied. A further send copies it into the output scratch first.
    pub(crate) borrowed: &'i [u8],
    pub(crate) meta: &'i mut ConnectionMeta,
    /// What the output is sent over when the call is over.
    pub(crate) transport: &'i dyn Transport,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.meta.id)
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// The part of a connection that its protocol reaches through [`Context`].
pub(crate) struct ConnectionMeta {
    /// When `timer_expired` is to be called; [`KeptTime::NEVER`] if no timer is set.
    pub(crate) timer: KeptTime,
    pub(crate) peer: KeptPeer,
    pub(crate) id: ConnectionId,
}

impl<'i> Context<'i> {
    /// Sends `bytes` to the peer, after all that was sent before.
    ///
    /// Never blocks: what the kernel does not take (a partial write) waits in the connection.
    /// Output is collected while the protocol is called, and leaves with one send(2). asyncio:
    /// `Transport.write`.
    ///
    /// While [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) of it wait, the peer is
    /// not read. A client whose server may answer before it has read a long request sends it with
    /// [`send_to`](Connections::send_to) to its own [`id`](Context::id): that does not count.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.borrowed.is_empty() {
            self.copy_borrowed();
        }
        self.state.output.extend_from_slice(bytes);
    }

    #[cold]
    pub(super) fn copy_borrowed(&mut self) {
        self.state.output.extend_from_slice(self.borrowed);
        self.borrowed = &[];
    }

    /// Sends a part of the input (or anything that lives as long), without copying it if nothing
    /// else is sent in the same call.
    pub fn send_borrowed(&mut self, bytes: &'i [u8]) {
        if self.borrowed.is_empty() && self.state.output.is_empty() {
            self.borrowed = bytes;
        } else {
            self.send_copied(bytes);
        }
    }

    #[cold]
    fn send_copied(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    /// Returns how many bytes were sent since the kernel was last offered any.
    pub(crate) fn bytes_pending(&self) -> usize {
        self.state.output.len() + self.borrowed.len()
    }

    /// Returns the present moment: the same throughout a turn, in whole milliseconds since the
    /// reactor was made.
    pub fn now(&self) -> Instant {
        self.state.clock.now_as_instant()
    }

    /// Returns the present moment as an HTTP date, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC
    /// 9110 section 5.6.7).
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    pub fn date(&mut self) -> [u8; 29] {
        *self.state.clock.date()
    }

    /// Returns the output scratch, to append a reply to, and the date for it.
    #[cfg(feature = "http")]
    pub(crate) fn compose(&mut self) -> (&mut Vec<u8>, &[u8; 29]) {
        if !self.borrowed.is_empty() {
            self.copy_borrowed();
        }
        self.state.compose()
    }

    /// Sets the timer: [`Protocol::timer_expired`] is called once `delay` is over, rounded up to
    /// whole milliseconds. Replaces a timer set before.
    ///
    /// The connection's own timeouts apply all the same, except that a connection that is paused
    /// with a timer is not idle. When the reactor stops, a connection with
    /// a timer counts as one on which something is under way. asyncio: `loop.call_later`.
    pub fn set_timer(&mut self, delay: Duration) {
        let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.meta.timer = self.state.clock.now.plus_ms(ms.max(1)).into();
    }

    /// Cancels the timer that was set with [`set_timer`](Context::set_timer).
    pub fn cancel_timer(&mut self) {
        self.meta.timer = KeptTime::NEVER;
    }

    /// Tells the loop that this call does work that takes about this long, beside sending bytes: it
    /// reads a file, or computes a hash. The turn's budget is charged for it, so that many such
    /// calls are spread over turns and other connections are served in between. A single call is
    /// not interrupted. More than 2 ms count as 2 ms.
    ///
    /// The loop itself charges callbacks and bytes. So calls that take a microsecond or two need
    /// not say so.
    pub fn charge(&mut self, work: Duration) {
        self.state.budget.charge_time(work);
    }

    /// Returns the other end of the connection.
    pub fn peer(&self) -> Peer {
        self.state.peers.get(self.meta.peer)
    }

    /// Sets what [`peer`](Context::peer) returns from now on, and what the log names: the client
    /// behind a proxy, when a header has told it. A [`Layer`](crate::Layer) does so before it opens
    /// the protocol inside; it has an example. The socket stays the same.
    ///
    /// Any client can write such a header. So set it only where nothing but the proxy can connect.
    pub fn set_peer(&mut self, peer: Peer) {
        self.state.peers.remove(self.meta.peer);
        self.meta.peer = self.state.peers.keep(peer);
    }

    /// Returns our end's address: where the peer has connected to, or the port that the kernel has
    /// chosen for an outbound connection. `None` for a Unix socket. It is not stored, so each call
    /// is a system call (getsockname(2)).
    ///
    /// ```
    /// use mio_reactor::{Advance, Context, Next, Protocol, TestConnection};
    ///
    /// struct WhereAmI;
    ///
    /// impl Protocol for WhereAmI {
    ///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
    ///         cx.send(format!("{:?}\n", cx.local_address()).as_bytes());
    ///         Advance::consumed(input.len())
    ///     }
    /// }
    ///
    /// let mut connection = TestConnection::new(WhereAmI);
    /// connection.set_local_address(Some("192.0.2.7:80".parse().unwrap()));
    /// connection.peer_sends(b"?");
    /// assert_eq!(connection.take_received(), b"Some(192.0.2.7:80)\n");
    /// ```
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.transport.local_address()
    }

    /// Says how much memory this protocol holds on its own now, in bytes, beside the input and the
    /// output that wait in the connection. The amount replaces the one that was said before, and
    /// ends with the connection.
    ///
    /// It counts towards [`memory_bytes_max`](crate::Limits::memory_bytes_max): if all connections
    /// together exceed that, the one that holds the most is reset. What a protocol does not say, no
    /// bound counts. Not needed for a protocol of a fixed, small size.
    ///
    /// ```
    /// use mio_reactor::{Advance, Context, Protocol};
    ///
    /// /// Collects all that it receives, if there is memory for it.
    /// struct Collector(Vec<u8>);
    ///
    /// impl Protocol for Collector {
    ///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
    ///         self.0.extend_from_slice(input);
    ///         cx.set_held_bytes(self.0.capacity());
    ///         Advance::consumed(input.len())
    ///     }
    /// }
    /// ```
    pub fn set_held_bytes(&mut self, bytes: usize) {
        let Some(slot) = self.effects.slot_of(self.meta.id) else { return };
        let holds_more = self.state.memory.set_protocol(slot, bytes);
        // With an effect, the drive is not the fast path, and ends with the meter.
        if holds_more
            && self.effects.is_empty()
            && self.state.memory.is_exceeded(self.effects.queue_bytes())
        {
            self.connections().queue(Effect::EvictLargest);
        }
    }

    /// Returns whether something new may begin that will hold `bytes`: so much memory is left until
    /// three quarters of [`memory_bytes_max`](crate::Limits::memory_bytes_max) are held. A refusal
    /// is counted ([`Stats::memory_refusals`](crate::Stats::memory_refusals)).
    ///
    /// HTTP asks so before each request body, and answers a refused one with 503.
    pub fn has_memory_for(&mut self, bytes: usize) -> bool {
        let has_memory = self.state.memory.admits_body(self.effects.queue_bytes(), bytes);
        self.state.stats.memory_refusals += u64::from(!has_memory);
        has_memory
    }

    /// Makes what sends a completion to this connection. If the loop cannot be woken for it,
    /// `on_failure` is sent now.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP promises answers"))]
    pub(crate) fn completer(&mut self, on_failure: impl Any) -> Completer {
        let id = self.meta.id;
        let completions = self.state.completions.get_or_insert_with(Completions::new);
        let completer = completions.completer(id);
        if !completions.can_wake() {
            self.connections().queue(Effect::OpenWaker(Box::new(on_failure)));
        }
        completer
    }

    /// Returns the id of this connection, by which other connections can reach it.
    ///
    /// To do something to this connection by its id, read the id first: `let own = cx.id();`, then
    /// `cx.connections().shutdown_write(own)`. (`cx.connections()` borrows the context, so
    /// `cx.id()` cannot be its argument.) To close, return [`Next::Close`](crate::Next::Close).
    pub fn id(&self) -> ConnectionId {
        self.meta.id
    }

    /// Returns the reactor's own limits, also on a connection of a listener that has other ones
    /// ([`ListenOptions`](crate::ListenOptions)).
    pub fn limits(&self) -> &Limits {
        &self.state.limits
    }

    /// Returns whether the reactor is stopping: finish what is under way, and announce the end to
    /// the peer if the protocol has words for it. An idle connection gets no call when a stop
    /// begins: it is closed.
    pub fn is_stopping(&self) -> bool {
        self.state.stop.is_stopping()
    }
}

/// Effects on other connections of the same reactor, whose results are notified
/// ([`Protocol::notified`]).
///
/// # Panics
///
/// Each of these methods, if one call queues too many effects ([`Connections`]).
impl Context<'_> {
    /// Returns access to the other connections, by their ids.
    pub fn connections(&mut self) -> Connections<'_> {
        Connections { effects: self.effects, from: self.meta.id }
    }

    /// Asks for one [`Notification::Closed`](crate::Notification::Closed) about the connection `id`
    /// when it has ended, for whatever reason; at once, if it has already. Asking again changes
    /// nothing.
    pub fn monitor(&mut self, id: ConnectionId) {
        self.connections().queue(Effect::Monitor(id));
    }

    /// Asks for one [`Notification::Stopping`](crate::Notification::Stopping) when a graceful stop
    /// of the reactor begins. Asking again before that changes nothing. During a stop, each call is
    /// notified once.
    ///
    /// A connection without anything under way is closed when a stop begins, and one that takes no
    /// input waits for its own reasons. One that has asked is told first, and may send a last
    /// message, or end what would go on for ever.
    pub fn monitor_stop(&mut self) {
        self.connections().queue(Effect::MonitorStop);
    }

    /// Starts a connection to `address` with the protocol `protocol`, and returns its id. The id
    /// can be used at once: what is sent to it waits until the connect has succeeded, and then
    /// leaves before anything that `protocol` sends.
    ///
    /// On success, [`opened`](Protocol::opened) of `protocol` is called, and this connection is
    /// notified of [`Connected`](crate::Notification::Connected). On failure,
    /// [`closed`](Protocol::closed) of `protocol` is called with
    /// [`CloseReason::ConnectFailed`](crate::CloseReason::ConnectFailed), and this connection is
    /// notified of [`Notification::ConnectFailed`](crate::Notification::ConnectFailed); unless the
    /// connect is [aborted](Connections::abort) before. `ConnectFailed` has one of these kinds:
    ///
    /// | Kind | Why the connect failed |
    /// | --- | --- |
    /// | `ConnectionRefused` | Nothing listens at `address`. |
    /// | `NetworkUnreachable`, `HostUnreachable` | There is no route, or a router reported that. |
    /// | `TimedOut` | No answer within [`connect_timeout`](crate::Limits::connect_timeout). |
    /// | `QuotaExceeded` | [`connections_max`](crate::Limits::connections_max) is reached (1). |
    /// | others | The kernel's error: no descriptor, no memory, no port (connect(2)). |
    ///
    /// (1) Less the connections that listeners are guaranteed
    /// ([`ListenOptions::connections_min`](crate::ListenOptions::connections_min)).
    ///
    /// What was sent to the connection before is dropped on failure. A proxy that reports success
    /// to its own client does so in `opened` of `protocol`: `Connected` may be notified only after
    /// the first bytes from `address` were relayed. If this connection has a timer that ends the
    /// wait, `opened` of `protocol` returns `Next::Pause` instead. On `Connected`, this connection
    /// cancels its timer, reports success and [resumes](Connections::resume) the other one.
    ///
    /// While the connect is in progress, `close` and `shutdown_write` are kept until it has
    /// succeeded, and `pause` and `resume` are ignored. A stop of the reactor ends it as
    /// [`CloseReason::Stopped`](crate::CloseReason::Stopped) if no output waits. Afterwards it is a
    /// connection like any other. It takes an address and no name, because looking up a name would
    /// block the loop. connect(2); asyncio: `loop.create_connection`.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        protocol: impl Protocol + 'static,
    ) -> ConnectionId {
        let from = self.meta.id;
        let protocol = CaughtDrop::new(protocol); // it is dropped if the next line panics
        self.effects.assert_room(); // before the id is issued: a panic later would leak it
        let protocol = Box::new(protocol.into_inner());
        let id = self.effects.new_outbound_id(Some(from));
        self.effects
            .queue(from, Effect::Connect(Box::new(PendingConnect { id, address, protocol })));
        id
    }

    /// Opens a datagram socket and connects it to `peer` when this call is over, as
    /// [`Reactor::connect_datagram`](crate::Reactor::connect_datagram) does.
    ///
    /// If that fails, [`closed`](DatagramProtocol::closed) of `protocol` is called with
    /// [`CloseReason::ConnectFailed`](crate::CloseReason::ConnectFailed). It fails if there is no
    /// route to `peer`, if the kernel has no descriptor or no memory, or if there are
    /// [`connections_max`](crate::Limits::connections_max) connections and datagram clients already
    /// (`QuotaExceeded`).
    ///
    /// `protocol` may send what it receives to connections, by their ids
    /// ([`Replies::connections`](crate::Replies::connections)).
    pub fn connect_datagram(
        &mut self,
        peer: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) {
        let protocol = CaughtDrop::new(protocol); // it is dropped if the next line panics
        self.effects.assert_room();
        let protocol = Box::new(protocol.into_inner());
        self.connections().queue(Effect::ConnectDatagram(Box::new((peer, protocol))));
    }
}
