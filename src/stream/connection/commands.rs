//! What other connections, and the loop, ask of a connection.

use super::{AfterConnect, CloseMode, Connection, Phase, WriteSide};
use log::trace;

use crate::limits::{HIGH_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::loop_state::LoopState;
use crate::protocol::effects::{Command, Effects};
use crate::protocol::ident::CloseReason;
use crate::protocol::notification::{Notification, PendingNotification};
use crate::protocol::protocol::Next;
use crate::stream::buffer::Buffer;
use crate::stream::readiness::{Readiness, Transport};

impl Connection {
    /// Ends an idle conversation from our side, or one that has not begun. What the peer still says is discarded for a
    /// while, so that it does not destroy what may still be on its way to it.
    pub(crate) fn close_idle(&mut self) {
        let is_reached = !matches!(self.phase, Phase::Connecting { .. });
        self.phase = if is_reached {
            Phase::Flushing { last: CloseMode::Linger }
        } else {
            Phase::Ended(CloseReason::Stopped)
        };
    }

    /// Would its protocol give way when there is no room?
    pub(crate) fn is_evictable(&self) -> bool {
        self.protocol.is_evictable()
    }

    /// Ends an idle conversation whose place is needed, and so without lingering. But if the peer is just speaking, what it
    /// says must not destroy what may still be on its way to it.
    pub(crate) fn evict(&mut self) {
        self.phase = Phase::Flushing { last: CloseMode::IfNothingUnread };
    }

    /// Takes `bytes` that somebody else sends to the peer, and says what there is to be told of it. They leave with the next
    /// drive; but before they would make more wait than the high mark, what the kernel takes leaves at once. So what is told
    /// is that the peer does not keep up, and not only that somebody has said much in one turn.
    pub(crate) fn push_relayed<W: Transport>(
        &mut self,
        bytes: &[u8],
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Option<Notification> {
        let is_reached = !matches!(self.phase, Phase::Connecting { .. });
        if is_reached
            && self.wants_write()
            && ready.writable
            && self.output.len() + bytes.len() > HIGH_WATERMARK_BYTES
        {
            self.flush(wire, ready, state, effects);
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
        if self.output.is_empty() && !bytes.is_empty() && is_reached {
            self.last_activity = state.clock.now; // the peer's time to take it begins
        }
        self.output.append(bytes);
        self.relayed_output += u32::try_from(bytes.len()).expect("OUTPUT_BYTES_MAX fits");
        (self.output.len() > HIGH_WATERMARK_BYTES).then_some(Notification::AboveHighWatermark)
    }

    /// Ends it, as somebody else asks for: at once, whatever it was about to do.
    pub(crate) fn abort(&mut self) {
        (self.output, self.relayed_output) = (Buffer::default(), 0);
        self.phase = Phase::Ended(CloseReason::Aborted);
    }

    /// Does what else somebody asks of it. Who closes is left alone.
    pub(crate) fn apply<W: Transport>(&mut self, wish: Command, wire: &mut W, state: &LoopState) {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {}
            Phase::Connecting { then } => {
                let then = match wish {
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
        match wish {
            Command::Close => self.apply_next(Next::Close, false, !self.input.is_empty()),
            // There is nothing to go on with, and it has not said that it has said all.
            Command::Resume if matches!(self.phase, Phase::Paused { at_eof: true, .. }) => {}
            Command::Resume => self.apply_next(Next::Continue, false, !self.input.is_empty()),
            // Its protocol has not asked to be called when its output has drained, and is not.
            Command::Pause if !matches!(self.phase, Phase::Paused { .. }) => {
                self.phase = Phase::Paused { awaits_output_low: false, at_eof: false };
            }
            Command::Pause => {}
            Command::ShutdownWrite if self.write_side != WriteSide::Open => {}
            Command::ShutdownWrite if self.wants_write() => {
                self.write_side = WriteSide::ShutdownPending;
            }
            Command::ShutdownWrite => self.shutdown_write(wire, state),
        }
    }

    /// Tells the protocol news of another connection. Who closes has said its last word, and is told nothing.
    pub(crate) fn deliver<W: Transport>(
        &mut self,
        tiding: &PendingNotification,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {
                let at_end = matches!(self.phase, Phase::Paused { at_eof: true, .. });
                if tiding.ends_wait
                    && matches!(self.phase, Phase::Paused { .. })
                    && !self.wants_write()
                {
                    self.last_activity = state.clock.now; // from here on its own time counts again
                }
                self.call_protocol(wire, ready, state, effects, |protocol, _, cx| {
                    let next = protocol.notified(tiding.about, tiding.notification, cx);
                    // There is nothing to go on with, and it has not said that it has said all.
                    if at_end && next == Next::Continue { Next::Unchanged } else { next }
                });
            }
            Phase::Connecting { .. }
            | Phase::Flushing { .. }
            | Phase::Lingering { .. }
            | Phase::Ended(_) => {}
        }
    }

    /// The end, told to the protocol.
    pub(crate) fn call_closed(&mut self, why: CloseReason) {
        self.protocol.closed(why);
    }

    /// The kernel has told something of a connection that we have begun: has the peer been reached?
    #[cold]
    pub(super) fn finish_connect<W: Transport>(
        &mut self,
        then: AfterConnect,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let reached = wire.is_connected();
        trace!("{} connect {} -> {reached:?}", self.meta.id, self.meta.peer);
        match reached {
            Ok(true) => {}
            Ok(false) => {
                ready.writable = false; // another edge comes
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
        self.call_protocol(wire, ready, state, effects, |protocol, _, cx| protocol.opened(cx));
        match then {
            AfterConnect::StayOpen => {}
            AfterConnect::ShutdownWrite => self.apply(Command::ShutdownWrite, wire, state),
            AfterConnect::Close => self.apply(Command::Close, wire, state),
        }
    }
}
