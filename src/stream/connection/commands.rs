//! What other connections and the loop do to a connection: close, abort, pause, relay, notify.
//!
//! The loop applies the effects of other connections between drives, and queues the slot. So a
//! change takes effect in the next drive. Only `finish_connect` runs within a drive.
//!
//! A connection that is closing (`Flushing`, `Lingering`) accepts no bytes, no command and no
//! notification. Only `abort` reaches it.

use log::trace;

use super::{AfterConnect, CloseMode, Connection, Phase, WriteSide};
use crate::limits::{HIGH_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::loop_state::LoopState;
use crate::protocol::effects::{Command, Effects};
use crate::protocol::ident::CloseReason;
use crate::protocol::notification::{Notification, PendingNotification};
use crate::protocol::protocol::Next;
use crate::stream::buffer::Buffer;
use crate::stream::readiness::{Readiness, Transport};

impl Connection {
    /// Closes a connection on which nothing is under way, or whose connect is in progress. It
    /// lingers: input that is still on its way must not turn our FIN into a reset.
    pub(crate) fn close_idle(&mut self) {
        let is_connected = !matches!(self.phase, Phase::Connecting { .. });
        self.phase = if is_connected {
            Phase::Flushing { last: CloseMode::Linger }
        } else {
            Phase::Ended(CloseReason::Stopped)
        };
    }

    /// Returns whether its protocol allows an eviction (`Protocol::is_evictable`).
    pub(crate) fn is_evictable(&self) -> bool {
        self.protocol.is_evictable()
    }

    /// Closes an idle connection because its slot or descriptor is needed, and so without
    /// lingering. Only if input has just arrived does it linger: unread, it would turn our FIN into
    /// a reset.
    pub(crate) fn evict(&mut self) {
        self.phase = Phase::Flushing { last: CloseMode::IfNothingUnread };
    }

    /// Appends `bytes` that another connection sends to the peer. Returns what the sender is to be
    /// notified of, if anything.
    ///
    /// The bytes leave in the next drive. If they would raise the output above the high watermark,
    /// the kernel is first offered what waits. So `AboveHighWatermark` means that the peer does not
    /// keep up, and not only that much was sent in one turn.
    pub(crate) fn push_relayed<T: Transport>(
        &mut self,
        bytes: &[u8],
        transport: &mut T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Option<Notification> {
        let is_connected = !matches!(self.phase, Phase::Connecting { .. });
        if is_connected
            && self.wants_write()
            && ready.writable
            && self.output.len() + bytes.len() > HIGH_WATERMARK_BYTES
        {
            self.flush(transport, ready, state, effects);
        }
        let is_open = match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => self.write_side == WriteSide::Open,
            Phase::Connecting { then } => then == AfterConnect::StayOpen,
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => false,
        };
        if !is_open {
            return Some(Notification::Closed);
        }
        if self.output.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Some(Notification::Rejected);
        }
        if self.output.is_empty() && !bytes.is_empty() && is_connected {
            self.last_activity = state.clock.now; // the write timeout begins
        }
        self.output.append(bytes);
        self.relayed_output += u32::try_from(bytes.len()).expect("OUTPUT_BYTES_MAX fits");
        (self.output.len() > HIGH_WATERMARK_BYTES).then_some(Notification::AboveHighWatermark)
    }

    /// Ends the connection at once, in every phase. The output is dropped.
    pub(crate) fn abort(&mut self) {
        (self.output, self.relayed_output) = (Buffer::default(), 0);
        self.phase = Phase::Ended(CloseReason::Aborted);
    }

    /// Applies a command. A connection that is closing ignores it.
    pub(crate) fn apply<T: Transport>(
        &mut self,
        command: Command,
        transport: &mut T,
        state: &LoopState,
    ) {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {}
            Phase::Connecting { then } => {
                let then = match command {
                    Command::Close => AfterConnect::Close,
                    Command::ShutdownWrite if then == AfterConnect::StayOpen => {
                        AfterConnect::ShutdownWrite
                    }
                    Command::ShutdownWrite | Command::Pause | Command::Resume => then,
                };
                self.phase = Phase::Connecting { then };
                return;
            }
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => return,
        }
        match command {
            Command::Close => self.apply_next(Next::Close, false, !self.input.is_empty()),
            // After the peer's FIN there is no input to resume, and `Next::Continue` would close.
            Command::Resume if matches!(self.phase, Phase::Paused { at_eof: true, .. }) => {}
            Command::Resume => self.apply_next(Next::Continue, false, !self.input.is_empty()),
            // The protocol has not paused itself, so its `output_low` is not called.
            Command::Pause if !matches!(self.phase, Phase::Paused { .. }) => {
                self.phase = Phase::Paused { awaits_output_low: false, at_eof: false };
            }
            Command::Pause => {}
            Command::ShutdownWrite if self.write_side != WriteSide::Open => {}
            Command::ShutdownWrite if self.wants_write() => {
                self.write_side = WriteSide::ShutdownPending;
            }
            Command::ShutdownWrite => self.shutdown_write(transport, state),
        }
    }

    /// Calls the protocol's `notified`. A connection that is closing or not connected yet drops the
    /// notification.
    pub(crate) fn deliver<T: Transport>(
        &mut self,
        pending: &PendingNotification,
        transport: &mut T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {
                let at_eof = matches!(self.phase, Phase::Paused { at_eof: true, .. });
                if pending.ends_wait
                    && matches!(self.phase, Phase::Paused { .. })
                    && !self.wants_write()
                {
                    // It has waited for the other connection. Its own idle timeout begins now.
                    self.last_activity = state.clock.now;
                }
                self.call_protocol(transport, ready, state, effects, |protocol, _, cx| {
                    let next = protocol.notified(pending.about, pending.notification, cx);
                    // After the FIN, `Next::Continue` would close. As an answer to a notification
                    // it means no more than that the protocol has nothing to change.
                    if at_eof && next == Next::Continue { Next::Unchanged } else { next }
                });
            }
            Phase::Connecting { .. }
            | Phase::Flushing { .. }
            | Phase::Lingering { .. }
            | Phase::Ended(_) => {}
        }
    }

    /// Calls the protocol's `closed`: once, and last.
    pub(crate) fn call_closed(&mut self, why: CloseReason) {
        self.protocol.closed(why);
    }

    /// Asks the kernel for the result of the connect: an event has reported that there may be one.
    #[cold]
    pub(super) fn finish_connect<T: Transport>(
        &mut self,
        then: AfterConnect,
        transport: &mut T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let result = transport.is_connected();
        trace!("{} connect {} -> {result:?}", self.meta.id, self.meta.peer);
        match result {
            Ok(true) => {}
            Ok(false) => {
                ready.writable = false; // still in progress: another edge follows
                return;
            }
            Err(error) => {
                self.phase = Phase::Ended(CloseReason::ConnectFailed(error.kind()));
                return;
            }
        }
        state.stats.connected += 1;
        effects.on_connected(self.meta.id);
        self.phase = Phase::Open;
        self.last_activity = state.clock.now;
        self.call_protocol(transport, ready, state, effects, |protocol, _, cx| protocol.opened(cx));
        match then {
            AfterConnect::StayOpen => {}
            AfterConnect::ShutdownWrite => self.apply(Command::ShutdownWrite, transport, state),
            AfterConnect::Close => self.apply(Command::Close, transport, state),
        }
    }
}
