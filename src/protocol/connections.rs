//! The connections of a reactor, by id: sending to them, closing them, pausing them.
//!
//! This is the only way from a [`ConnectionId`] to its connection: for a protocol through its
//! context, for a datagram protocol through its replies, and for the application through the
//! reactor. Each call queues an effect (`src/protocol/effects.rs`).

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::iter;

use super::effects::{Command, Effect, Effects};
use super::ident::ConnectionId;
use super::notification::Notification;
use super::slow_reader::SlowReader;
use crate::caught::CaughtDrop;
use crate::limits::EFFECTS_BYTES_MAX;

/// The connections of the same reactor, by their ids.
///
/// Lent by [`Context::connections`](crate::Context::connections),
/// [`Replies::connections`](crate::Replies::connections) and
/// [`Reactor::connections`](crate::Reactor::connections). What is asked here is queued, and done in
/// this order when the callback of the protocol is over. On a reactor it is done when the next turn
/// begins or the present task is over, or by [`Reactor::send_to`](crate::Reactor::send_to).
///
/// Nearly always, all of it is done before any other protocol is called. What takes longer than a
/// turn has (about 2 ms, such as 256 connects or 8 MiB of copies) is done over several turns, in
/// which other connections are served. The connection that has asked for it is neither read nor
/// notified until all is done, and a task queue runs no further task. Results
/// are notified to the connection whose protocol asked ([`notified`](crate::Protocol::notified)),
/// never within the same callback. A datagram protocol and the reactor itself are not notified.
///
/// A [`ConnectionId`] may outlive its connection; it never refers to a later connection in the same
/// slot. One of another reactor is treated as that of a closed connection. It may also be the
/// caller's own id.
///
/// # Panics
///
/// Each method, if one callback of the protocol queues more than
/// [`EFFECTS_MAX`](crate::limits::EFFECTS_MAX) effects (minus the few that were queued before it
/// and are not applied yet). That is a bug of the protocol, and ends its connection.
pub struct Connections<'t> {
    pub(super) effects: &'t mut Effects,
    pub(super) from: ConnectionId,
}

impl fmt::Debug for Connections<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("from", &self.from).finish_non_exhaustive()
    }
}

impl<'t> Connections<'t> {
    /// For effects whose results are not notified.
    pub(crate) fn anonymous(effects: &'t mut Effects) -> Connections<'t> {
        Connections { effects, from: ConnectionId::NONE }
    }

    /// Sends `bytes` to the peer of the connection `to`, after all output that waits there.
    ///
    /// Bytes that one connection sends to another arrive in the order in which they were sent. They
    /// leave when the other connection is driven, mostly in the next turn. All that several
    /// connections send to it in one turn leaves with one send(2).
    ///
    /// Success is not notified. Otherwise the sender is notified about `to`:
    /// - [`Closed`](crate::Notification::Closed), if it does not exist any more, or accepts nothing
    ///   because it is closing or has sent its FIN;
    /// - [`AboveHighWatermark`](crate::Notification::AboveHighWatermark), if the bytes were
    ///   accepted and more than [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) wait
    ///   there now. A connection that relays bytes pauses then, and continues at
    ///   [`BelowLowWatermark`](crate::Notification::BelowLowWatermark);
    /// - [`Rejected`](crate::Notification::Rejected), if nothing was accepted, because more than
    ///   [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX) would wait there, or because this
    ///   callback of the protocol has sent more than [`EFFECTS_BYTES_MAX`] to others (minus the
    ///   little that was queued before it and is not applied yet).
    pub fn send_to(&mut self, to: ConnectionId, bytes: &[u8]) {
        self.send_to_all([to], bytes);
    }

    /// Sends `bytes` to each connection of `to`, as [`send_to`](Connections::send_to) does, but
    /// queues them only once for all (broadcast). Each connection of `to` is one effect.
    pub fn send_to_all(&mut self, to: impl IntoIterator<Item = ConnectionId>, bytes: &[u8]) {
        self.publish(to, bytes, SlowReader::Queue);
    }

    /// Sends `bytes` to each connection of `to`, as [`send_to_all`](Connections::send_to_all) does,
    /// but where a reader is behind, does what `slow` says. So one slow reader costs the publisher
    /// neither memory nor attention.
    ///
    /// But for [`SlowReader::Queue`], the publisher is notified only of
    /// [`Closed`](crate::Notification::Closed), and of
    /// [`Rejected`](crate::Notification::Rejected) if the bytes are more than any connection takes.
    ///
    /// ```
    /// use mio_reactor::{Advance, ConnectionId, Context, Protocol, SlowReader};
    ///
    /// /// Publishes each line that it receives: the price of something.
    /// struct Ticker {
    ///     viewers: Vec<ConnectionId>,
    /// }
    ///
    /// impl Protocol for Ticker {
    ///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
    ///         let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
    ///             return Advance::need_more();
    ///         };
    ///         let viewers = self.viewers.iter().copied();
    ///         cx.connections().publish(viewers, &input[..=end], SlowReader::KeepLatest);
    ///         Advance::consumed(end + 1)
    ///     }
    /// }
    /// ```
    pub fn publish(
        &mut self,
        to: impl IntoIterator<Item = ConnectionId>,
        bytes: &[u8],
        slow: SlowReader,
    ) {
        let effects = &mut *self.effects;
        let mut to = to.into_iter();
        // Bytes without recipient would be kept until the next effect.
        let Some(first) = to.next() else { return };
        let start = effects.bytes.len();
        let has_room = start + bytes.len() <= EFFECTS_BYTES_MAX;
        if has_room {
            effects.bytes.extend_from_slice(bytes);
        }
        let end = effects.bytes.len();
        for to in iter::once(first).chain(to) {
            effects.queue(
                self.from,
                if has_room {
                    Effect::Send(to, start..end, slow)
                } else {
                    Effect::SendOverflow(to)
                },
            );
        }
    }

    /// Sends `message`, a value of the application's own type, to the protocol of the connection
    /// `to`: [`message_received`](crate::Protocol::message_received) is called with it, never
    /// within another call. `to` may be a datagram socket as well
    /// ([`Replies::id`](crate::Replies::id)).
    ///
    /// Messages to one connection arrive in the order in which they were sent, and in order with
    /// its notifications. While its connect is in progress, they wait. Success is not notified.
    /// Otherwise the sender is notified about `to`:
    /// - [`Closed`](crate::Notification::Closed), if it does not exist any more. (A message that
    ///   waits when it ends, or that comes while it is closing, is dropped.)
    /// - [`MailboxFull`](crate::Notification::MailboxFull), if
    ///   [`MAILBOX_MESSAGES_MAX`](crate::limits::MAILBOX_MESSAGES_MAX) messages wait there already.
    ///
    /// The protocol inside a [layer](crate::Layer) gets what came before it was open when it is
    /// opened. As many as fill a mailbox wait in the layer; more are dropped and counted
    /// ([`Stats::messages_rejected`](crate::Stats::messages_rejected)).
    ///
    /// Another thread sends a message with a task: `handle.submit(move |reactor| { … })` and
    /// [`Reactor::send_message`](crate::Reactor::send_message).
    ///
    /// ```
    /// use std::any::Any;
    /// use mio_reactor::{Advance, ConnectionId, Context, Next, Protocol, TestConnection};
    ///
    /// /// Tells another connection how many bytes it has received.
    /// struct Meter {
    ///     observer: ConnectionId,
    /// }
    ///
    /// impl Protocol for Meter {
    ///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
    ///         cx.connections().send_message(self.observer, input.len());
    ///         Advance::consumed(input.len())
    ///     }
    /// }
    ///
    /// /// Sends its peer what it is told.
    /// struct Observer;
    ///
    /// impl Protocol for Observer {
    ///     fn advance(&mut self, input: &[u8], _cx: &mut Context<'_>) -> Advance {
    ///         Advance::consumed(input.len())
    ///     }
    ///
    ///     fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
    ///         if let Ok(bytes) = message.downcast::<usize>() {
    ///             cx.send(format!("{bytes} bytes\n").as_bytes());
    ///         }
    ///         Next::Unchanged
    ///     }
    /// }
    ///
    /// let mut observer = TestConnection::new(Observer);
    /// let id = observer.other_connection(); // as if it were the observer's own
    /// let mut meter = TestConnection::new(Meter { observer: id });
    /// meter.peer_sends(b"Hello world");
    /// for (_, message) in meter.take_messages() {
    ///     observer.send_message(message);
    /// }
    /// assert_eq!(observer.take_received(), b"11 bytes\n");
    /// ```
    pub fn send_message(&mut self, to: ConnectionId, message: impl Any) {
        let message = CaughtDrop::new(message); // it is dropped if the next line panics
        self.effects.assert_room();
        self.queue(Effect::Message(to, Box::new(message.into_inner())));
    }

    /// Closes the connection `id` gracefully, as if its own protocol had returned
    /// [`Next::Close`](crate::Next::Close): output that waits there is still sent. No result is
    /// notified, and a connection that has ended is ignored.
    pub fn close(&mut self, id: ConnectionId) {
        self.command(id, Command::Close);
    }

    /// Sends our FIN on the connection `id` after all output that waits there, and keeps reading
    /// (shutdown(2), SHUT_WR). This is half-close: a proxy passes on the other side's FIN with it.
    ///
    /// From then on nothing more can be sent on it. Bytes from other connections are not accepted
    /// ([`Notification::Closed`]). If its own protocol sends after the
    /// FIN, the connection ends as
    /// [`CloseReason::WriteAfterShutdown`](crate::CloseReason::WriteAfterShutdown). asyncio:
    /// `write_eof`.
    pub fn shutdown_write(&mut self, id: ConnectionId) {
        self.command(id, Command::ShutdownWrite);
    }

    /// Aborts the connection `id`, as if its own protocol had returned
    /// [`Next::Abort`](crate::Next::Abort): its output is dropped and it is reset, even if it is
    /// already closing.
    ///
    /// A connect in progress is cancelled: it ends as
    /// [`CloseReason::Aborted`](crate::CloseReason::Aborted), and the connection that started it is
    /// notified of [`Notification::Closed`]. Otherwise only connections that monitor it, or await
    /// `BelowLowWatermark` from it, are notified. A connection that has ended is ignored. asyncio:
    /// `Transport.abort`.
    pub fn abort(&mut self, id: ConnectionId) {
        self.command(id, Command::Abort);
    }

    /// Takes no more input on the connection `id` until it is resumed, or until its own protocol
    /// returns [`Next::Continue`](crate::Next::Continue).
    ///
    /// Its timeouts apply meanwhile; the idle timeout only if its timer is not set. A reset by its
    /// peer ends it at once. Because nothing is read, a FIN shows only when it is resumed. If
    /// nothing can be sent any more either (its own FIN is sent, or a peer on a Unix socket has
    /// closed), it ends as soon as nothing is left to read.
    ///
    /// [`output_low`](crate::Protocol::output_low) is not called for a connection that another has
    /// paused. So the connection that pauses it must resume it, even if it is itself about to
    /// close. asyncio: `pause_reading`.
    pub fn pause(&mut self, id: ConnectionId) {
        self.command(id, Command::Pause);
    }

    /// Takes input on the connection `id` again, as if its own protocol had returned
    /// [`Next::Continue`](crate::Next::Continue). After its peer's FIN there is no input, and
    /// nothing happens. asyncio: `resume_reading`.
    pub fn resume(&mut self, id: ConnectionId) {
        self.command(id, Command::Resume);
    }

    /// Gives the connection `id` this command: the same as the method of its name.
    pub fn command(&mut self, id: ConnectionId, command: Command) {
        self.queue(Effect::Command(id, command));
    }

    pub(super) fn queue(&mut self, effect: Effect) {
        self.effects.queue(self.from, effect);
    }
}

/// What has become of bytes that were sent to a connection
/// ([`Reactor::send_to`](crate::Reactor::send_to)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendStatus {
    /// They were accepted, and leave when the connection is driven.
    Accepted,
    /// They were accepted, but more than
    /// [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) of output wait there now: the
    /// peer does not keep up.
    AboveHighWatermark,
}

/// Why bytes that were sent to a connection were not accepted, not even in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// The connection does not exist any more, or accepts nothing because it is closing or has sent
    /// its FIN.
    Closed,
    /// More than [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX) would wait there.
    Rejected,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Closed => "the connection is closed for writing",
            SendError::Rejected => "too much output waits in the connection",
        })
    }
}

impl Error for SendError {}

impl From<SendError> for Notification {
    fn from(error: SendError) -> Notification {
        match error {
            SendError::Closed => Notification::Closed,
            SendError::Rejected => Notification::Rejected,
        }
    }
}
