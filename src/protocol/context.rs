//! What a connection lends its protocol for one call.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::effects::{Connections, Effect, Effects, PendingConnect};
use super::ident::{ConnectionId, Peer};
use super::protocol::Protocol;
use crate::clock::Time;
use crate::limits::Limits;
use crate::loop_state::LoopState;
use crate::protocol::datagram::DatagramProtocol;

/// What a connection lends its protocol for one call.
pub struct Context<'i> {
    pub(crate) state: &'i mut LoopState,
    /// What this protocol asks to be done to other connections.
    pub(crate) effects: &'i mut Effects,
    /// Output that is still where it came from. Whatever is sent after it moves it to the scratch first.
    pub(crate) borrowed: &'i [u8],
    pub(crate) meta: &'i mut ConnectionMeta,
}

/// What a connection lends its protocol of itself.
pub(crate) struct ConnectionMeta {
    /// When the protocol wants to be called.
    pub(crate) timer: Time,
    pub(crate) peer: Peer,
    pub(crate) id: ConnectionId,
}

impl<'i> Context<'i> {
    /// Sends `bytes` to the peer, behind all that was sent before. Never blocks: what the kernel does not take now waits.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.borrowed.is_empty() {
            self.copy_borrowed();
        }
        self.state.output.extend_from_slice(bytes);
    }

    #[cold]
    fn copy_borrowed(&mut self) {
        self.state.output.extend_from_slice(self.borrowed);
        self.borrowed = &[];
    }

    /// Sends a part of the input (or anything that lives as long), without copying it where that can be avoided.
    #[inline]
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

    /// Bytes sent in this call that have not gone to the kernel yet.
    #[inline]
    pub(crate) fn bytes_pending(&self) -> usize {
        self.state.output.len() + self.borrowed.len()
    }

    /// The present moment: the same throughout a turn.
    pub fn now(&self) -> Instant {
        self.state.clock.now_as_instant()
    }

    /// The present moment as an HTTP date, e.g. `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
    #[inline]
    pub fn date(&mut self) -> [u8; 29] {
        *self.state.clock.date()
    }

    /// Where output is composed, behind all that was sent before, and the date to put into it.
    #[inline]
    pub(crate) fn compose(&mut self) -> (&mut Vec<u8>, &[u8; 29]) {
        if !self.borrowed.is_empty() {
            self.copy_borrowed();
        }
        self.state.compose()
    }

    /// Asks for a call of [`Protocol::timer_expired`] once `delay` is over (rounded up to whole milliseconds), and not for the one
    /// asked for before. The connection's own deadlines hold all the same. When the reactor stops, a conversation with an
    /// alarm set counts as one that is under way.
    pub fn set_timer(&mut self, delay: Duration) {
        let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.meta.timer = self.state.clock.now.plus_ms(ms.max(1));
    }

    /// Takes back what was asked for with [`set_timer`](Context::set_timer).
    #[inline]
    pub fn cancel_timer(&mut self) {
        self.meta.timer = Time::NEVER;
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.meta.peer
    }

    /// This connection's name.
    pub fn id(&self) -> ConnectionId {
        self.meta.id
    }

    /// The reactor's limits.
    pub fn limits(&self) -> &Limits {
        &self.state.limits
    }

    /// Whether the reactor has been asked to stop: finish what is begun, and say that it is the last.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.state.stopping
    }
}

/// What a protocol may ask for on other connections of the same reactor. It is done when the call is over, in the order in
/// which it was asked for; what is to be told of it comes with [`Protocol::notified`], never within the
/// call.
///
/// A name may be older than its connection: whoever has its place by then is never mistaken for it.
///
/// # Panics
///
/// Each of these, if one call asks for more than [`EFFECTS_MAX`](crate::limits::EFFECTS_MAX) effects (less the few that were asked for before it and are not
/// done yet): that is a bug of the protocol, and costs its connection.
impl Context<'_> {
    /// Sends `bytes` to the peer of the connection `to`, behind all that waits there. Bytes that one connection sends to
    /// another arrive in the order in which they were sent. They leave when the other is driven, mostly in the next turn:
    /// what many send to it in one turn leaves with one send.
    ///
    /// Success is not told. Otherwise this connection is told, about `to`:
    /// - [`Notification::Closed`](crate::Notification::Closed), if it does not exist any more, or takes nothing since it is being closed or has sent its FIN;
    /// - [`Notification::AboveHighWatermark`](crate::Notification::AboveHighWatermark), if the bytes were taken and more than [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES)
    ///   wait there now. Whoever produces bytes as somebody else sends them pauses then, and goes on when it is told
    ///   [`Notification::BelowLowWatermark`](crate::Notification::BelowLowWatermark);
    /// - [`Notification::Rejected`](crate::Notification::Rejected), if nothing was taken, since more than [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX)
    ///   would wait there, or since this call has sent more than [`EFFECTS_BYTES_MAX`](crate::limits::EFFECTS_BYTES_MAX) to others (less what was asked for
    ///   before it and is not done yet, which is little).
    pub fn send_to(&mut self, to: ConnectionId, bytes: &[u8]) {
        self.connections().send_to(to, bytes);
    }

    /// Sends `bytes` to each connection of `to`, as [`send_to`](Context::send_to) does; but they are copied only once for all
    /// until they are applied.
    pub fn send_to_all(&mut self, to: impl IntoIterator<Item = ConnectionId>, bytes: &[u8]) {
        self.connections().send_to_all(to, bytes);
    }

    /// Closes the connection `id` as if its own protocol had said [`Next::Close`](crate::Next::Close): what waits there is
    /// still sent. Nothing is told of it; one that has gone is left alone.
    pub fn close(&mut self, id: ConnectionId) {
        self.connections().close(id);
    }

    /// Sends our FIN on the connection `id` behind all that waits there, and reads on: the half-close of a proxy that hands
    /// on the end of the other side. From then on nothing more can be sent on it: another's bytes are not taken
    /// ([`Notification::Closed`](crate::Notification::Closed)), and its own protocol must be silent: what it says when the FIN is out ends the connection, as
    /// [`CloseReason::WriteAfterShutdown`](crate::CloseReason::WriteAfterShutdown). May be this connection itself.
    pub fn shutdown_write(&mut self, id: ConnectionId) {
        self.connections().shutdown_write(id);
    }

    /// Ends the connection `id` as if its own protocol had said [`Next::Abort`](crate::Next::Abort): what waits there is dropped,
    /// and it is reset, also where it is closing already. One whose peer has not been reached is given up: it ends as
    /// [`CloseReason::Aborted`](crate::CloseReason::Aborted), and who began it is told [`Notification::Closed`](crate::Notification::Closed). Nothing else is told of it, but to who watches; one that
    /// has gone is left alone.
    pub fn abort(&mut self, id: ConnectionId) {
        self.connections().abort(id);
    }

    /// Takes no more input on the connection `id` until it is resumed, or its own protocol continues. Its deadlines hold
    /// meanwhile; and since nothing is read, an end or a reset by its peer shows only when it is resumed, when something is
    /// sent to it, or when its deadline comes.
    pub fn pause(&mut self, id: ConnectionId) {
        self.connections().pause(id);
    }

    /// Takes input on the connection `id` again, as if its own protocol had said [`Next::Continue`](crate::Next::Continue).
    /// Where its peer has sent its FIN, there is none, and nothing happens.
    pub fn resume(&mut self, id: ConnectionId) {
        self.connections().resume(id);
    }

    /// Asks to be told [`Notification::Closed`](crate::Notification::Closed) about the connection `id` when it has ended, for whatever reason; at once, if it has
    /// already. Told once, however often it was asked.
    pub fn monitor(&mut self, id: ConnectionId) {
        self.connections().queue(Effect::Monitor(id));
    }

    /// Begins a connection to `address`, on which `protocol` speaks, and returns its name. The name can be used at once:
    /// what is sent to it waits until the peer has been reached, and then leaves before anything that `protocol` says.
    ///
    /// When it has, the protocol's [`opened`](Protocol::opened) is called, and this connection is told [`Notification::Connected`](crate::Notification::Connected).
    /// Otherwise, unless somebody [`abort`](Context::abort)s it before, the protocol's [`closed`](Protocol::closed) is called with
    /// [`CloseReason::ConnectFailed`](crate::CloseReason::ConnectFailed), and this connection is told [`Notification::ConnectFailed`](crate::Notification::ConnectFailed): if the peer refuses, cannot be reached, or
    /// does not answer within
    /// [`connect_timeout_ms`](crate::Limits::connect_timeout_ms) (`TimedOut`), if the kernel has no descriptor or no memory, or if
    /// there are [`connections_max`](crate::Limits::connections_max) already (`QuotaExceeded`).
    ///
    /// While the peer has not been reached, `close` and `shutdown_write` take effect when it has, `pause` and `resume` are ignored,
    /// and a stop of the reactor ends it as [`CloseReason::Stopped`](crate::CloseReason::Stopped) if nothing waits to be sent. Afterwards it is as any
    /// other connection.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        protocol: impl Protocol + 'static,
    ) -> ConnectionId {
        let from = self.meta.id;
        self.effects.assert_room(); // a name that nobody has would never be given back
        let id = self.effects.new_outbound_id(Some(from));
        self.effects.queue(
            from,
            Effect::Connect(Box::new(PendingConnect { id, address, protocol: Box::new(protocol) })),
        );
        id
    }

    /// Opens a socket for datagrams and connects it to `peer`, as [`Reactor::connect_datagram`](crate::Reactor::connect_datagram)
    /// does, when this call is over. Where there is none to be had, the protocol's [`closed`](DatagramProtocol::closed) is called
    /// with [`CloseReason::ConnectFailed`](crate::CloseReason::ConnectFailed): if there is no way to `peer`, if the kernel has no descriptor or no memory, or if there
    /// are [`connections_max`](crate::Limits::connections_max) connections and datagram clients already (`QuotaExceeded`).
    ///
    /// What it learns it may send to connections by their names ([`Replies::connections`](crate::Replies::connections)).
    pub fn connect_datagram(
        &mut self,
        peer: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) {
        self.connections().queue(Effect::ConnectDatagram(Box::new((peer, Box::new(protocol)))));
    }

    fn connections(&mut self) -> Connections<'_> {
        Connections { effects: self.effects, from: self.meta.id }
    }
}
