//! What other connections and the loop do to a connection: close, abort, pause, relay, notify.
//!
//! The loop applies the effects of other connections between drives, and queues the slot. Most
//! changes take effect in the next drive. A FIN with no output before it, and a flush above the
//! watermark, happen at once. Only `finish_connect` runs within a drive.
//!
//! A connection that is closing (`Flushing`, `Lingering`) accepts no bytes, no command and no
//! notification. Only `abort` reaches it.

use super::{CloseMode, Connection, Phase, ReadSide, WriteSide};
use crate::caught::catch_drop;
use crate::limits::{HIGH_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::loop_state::LoopState;
use crate::protocol::connections::{SendError, SendStatus};
use crate::protocol::effects::{Command, Effects};
use crate::protocol::ident::CloseReason;
use crate::protocol::notification::{Content, PendingNotification};
use crate::protocol::protocol::Next;
use crate::protocol::slow_reader::SlowReader;
use crate::stream::buffer::Buffers;
use crate::stream::readiness::{PeerCheck, Readiness, Transport};
use crate::sys::PeerState;

impl Connection {
    /// Closes a connection on which nothing is under way, or whose connect is in progress. It
    /// lingers: input that is still on its way must not turn our FIN into a reset.
    pub(crate) fn close_idle(&mut self) {
        self.phase = if self.is_connecting() {
            Phase::Ended(CloseReason::Stopped)
        } else {
            Phase::Flushing { close_mode: CloseMode::Linger }
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
        self.phase = Phase::Flushing { close_mode: CloseMode::IfNothingUnread };
    }

    /// Returns the memory that its buffers take, in bytes.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.capacity()
    }

    /// Gives up its buffers, and ends with the next drive: it held the most when all connections
    /// together held too much.
    pub(crate) fn evict_for_memory(&mut self) {
        self.buffers = Buffers::default();
        self.phase = Phase::Ended(CloseReason::MemoryOverflow);
    }

    /// Appends `bytes` that another connection sends to the peer. If too much waits for it already,
    /// does what `slow` says.
    pub(crate) fn publish<T: Transport>(
        &mut self,
        bytes: &[u8],
        slow: SlowReader,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Result<SendStatus, SendError> {
        if slow == SlowReader::Queue {
            return self.push_relayed(bytes, transport, ready, state, effects);
        }
        if self.buffers.output().len() > HIGH_WATERMARK_BYTES
            && ready.writable()
            && !self.is_connecting()
        {
            self.flush(transport, ready, state, effects);
        }
        let is_behind = self.buffers.output().len() > HIGH_WATERMARK_BYTES;
        match slow {
            // One that is kept has not been sent: what is published now must not overtake it.
            SlowReader::KeepLatest
                if self.is_open() && (is_behind || effects.keeps_for(self.meta.id)) =>
            {
                if bytes.len() > OUTPUT_BYTES_MAX - HIGH_WATERMARK_BYTES {
                    return Err(SendError::Rejected);
                }
                let has_replaced = effects.keep(self.meta.id, bytes);
                state.stats.publishes_replaced += u64::from(has_replaced);
            }
            SlowReader::DropNewest if self.is_open() && is_behind => {
                state.stats.publishes_dropped += 1;
            }
            SlowReader::Abort if self.is_open() && is_behind => {
                state.stats.slow_readers_aborted += 1;
                self.apply(Command::Abort, transport, state);
            }
            SlowReader::Queue
            | SlowReader::DropNewest
            | SlowReader::KeepLatest
            | SlowReader::Abort => {
                self.push_relayed(bytes, transport, ready, state, effects)?;
            }
        }
        Ok(SendStatus::Accepted) // what the publisher need not know
    }

    /// Returns whether bytes of other connections are accepted.
    fn is_open(&self) -> bool {
        match self.phase {
            Phase::Established(_) => matches!(self.write_side, WriteSide::Open { .. }),
            Phase::Connecting { then } => then.is_none(),
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => false,
        }
    }

    /// Appends `bytes` that another connection sends to the peer.
    ///
    /// The bytes leave in the next drive. But if they would raise the output above the high
    /// watermark, the kernel is first offered what waits. So `AboveHighWatermark` means that the
    /// peer does not keep up, and not only that much was sent in one turn.
    pub(crate) fn push_relayed<T: Transport>(
        &mut self,
        bytes: &[u8],
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Result<SendStatus, SendError> {
        let is_connected = !self.is_connecting();
        if is_connected
            && !bytes.is_empty()
            && self.wants_write()
            && ready.writable()
            && self.buffers.output().len() + bytes.len() > HIGH_WATERMARK_BYTES
        {
            self.flush(transport, ready, state, effects);
        }
        if !self.is_open() {
            return Err(SendError::Closed);
        }
        if self.buffers.output().len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Err(SendError::Rejected);
        }
        let encoded;
        let bytes = if self.write_side == (WriteSide::Open { has_layers: true }) {
            encoded = self.encoded(bytes, state);
            if matches!(self.phase, Phase::Ended(_)) {
                return Err(SendError::Closed);
            }
            &encoded[..]
        } else {
            bytes
        };
        if !self.wants_write() && !bytes.is_empty() && is_connected {
            self.last_activity = state.clock.now.into(); // the write timeout begins
        }
        self.buffers.append_relayed(bytes);
        if self.buffers.output().len() > HIGH_WATERMARK_BYTES {
            Ok(SendStatus::AboveHighWatermark)
        } else {
            Ok(SendStatus::Accepted)
        }
    }

    /// Applies a command. A connection that is closing ignores all but an abort, and one whose
    /// connect is in progress keeps a close or a shutdown for later.
    pub(crate) fn apply<T: Transport>(
        &mut self,
        command: Command,
        transport: &T,
        state: &mut LoopState,
    ) {
        match (self.phase, command) {
            (_, Command::Abort) => {
                self.buffers.clear_output();
                self.phase = Phase::Ended(CloseReason::Aborted);
            }
            (Phase::Connecting { .. }, Command::Close)
            | (Phase::Connecting { then: None }, Command::ShutdownWrite) => {
                self.phase = Phase::Connecting { then: Some(command) };
            }
            (
                Phase::Connecting { .. }
                | Phase::Flushing { .. }
                | Phase::Lingering { .. }
                | Phase::Ended(_),
                _,
            ) => {}
            (Phase::Established(_), Command::Close) => {
                self.apply_next(Next::Close, false, !self.buffers.input().is_empty());
            }
            (Phase::Established(_), Command::ShutdownWrite) => {
                if !matches!(self.write_side, WriteSide::Open { .. }) {
                    return;
                }
                self.finish_layers(state);
                if matches!(self.phase, Phase::Ended(_)) {
                    return;
                }
                if self.wants_write() {
                    self.write_side = WriteSide::ShutdownPending;
                } else {
                    self.shutdown_write(transport, state);
                }
            }
            // After the FIN there is no input to pause, and `Next::Continue` would close.
            (Phase::Established(ReadSide::Eof { .. }), Command::Pause | Command::Resume) => {}
            // It may await `output_low`, and goes on to.
            (Phase::Established(read_side), Command::Pause) => {
                let wants_output_low = read_side.wants_output_low();
                self.phase = Phase::Established(ReadSide::Paused { wants_output_low });
            }
            (Phase::Established(read_side), Command::Resume)
                if self.protocol.layers().is_some() =>
            {
                let wants_output_low = read_side.wants_output_low();
                self.phase = Phase::Established(ReadSide::Resumed { wants_output_low });
            }
            (Phase::Established(_), Command::Resume) => {
                self.apply_next(Next::Continue, false, !self.buffers.input().is_empty());
            }
        }
    }

    /// Calls the protocol's `notified` or `message_received`. A connection that is closing or not
    /// connected yet drops what it would be called with.
    pub(crate) fn deliver<T: Transport>(
        &mut self,
        pending: PendingNotification,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let Phase::Established(read_side) = self.phase else {
            return catch_drop(&mut state.stats, pending.content);
        };
        let is_paused = matches!(read_side, ReadSide::Paused { .. } | ReadSide::Eof { .. });
        if pending.ends_wait && is_paused && !self.wants_write() {
            // It has waited for the other connection. Its own idle timeout begins now.
            self.last_activity = state.clock.now.into();
        }
        let is_eof = matches!(read_side, ReadSide::Eof { .. });
        self.call_protocol(transport, ready, state, effects, |protocol, _, cx| {
            let next = match pending.content {
                Content::Notification(about, what) => protocol.notified(about, what, cx),
                Content::Message(message) => protocol.message_received(message, cx),
                Content::Kept => unreachable!("it is no call of the protocol"),
            };
            // After the FIN, `Next::Continue` would close. As an answer to a notification it means
            // no more than that the protocol has nothing to change.
            if is_eof && next == Next::Continue { Next::Unchanged } else { next }
        });
    }

    /// Calls the protocol's `closed`: once, and last.
    pub(crate) fn call_closed(&mut self, why: CloseReason) {
        self.protocol.closed(why);
    }

    /// Ends a connection that neither reads nor sends, if its peer is gone: an event has reported
    /// an error or a hang-up. An error ends it at once. After a hang-up, what the peer has sent
    /// before is still read, when the connection is resumed.
    #[cold]
    #[inline(never)] // else it takes registers from `run_until_blocked`
    pub(super) fn check_peer<T: Transport>(
        &mut self,
        read_side: ReadSide,
        transport: &T,
        ready: &mut Readiness,
    ) {
        let peer_state = transport.peer_state();
        let is_eof = matches!(read_side, ReadSide::Eof { .. });
        ready.set_peer_check(PeerCheck::NotNeeded);
        match peer_state {
            Err(error) => self.phase = Phase::Ended(error.into()),
            Ok(PeerState::Present) => {} // the event was spurious
            Ok(PeerState::Gone) if is_eof => self.phase = Phase::Ended(CloseReason::PeerReset),
            Ok(PeerState::Unread) => ready.set_peer_check(PeerCheck::AtEof),
            Ok(PeerState::Gone) if !self.buffers.input().is_empty() => {
                ready.set_peer_check(PeerCheck::AtEof);
            }
            // Both sides have sent their FIN: a regular end. Reading the peer's completes it.
            Ok(PeerState::Gone) if self.write_side == WriteSide::Shut => {
                ready.set_readable(true);
                self.phase = Phase::Established(ReadSide::Open);
            }
            Ok(PeerState::Gone) => self.phase = Phase::Ended(CloseReason::PeerReset),
        }
    }

    /// Asks the kernel for the result of the connect: an event has reported that there may be one.
    #[cold]
    #[inline(never)] // as above
    pub(super) fn finish_connect<T: Transport>(
        &mut self,
        then: Option<Command>,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let result = transport.is_connected();
        match result {
            Ok(true) => {}
            Ok(false) => {
                ready.set_writable(false); // still in progress: another event follows
                return;
            }
            Err(error) => {
                self.phase = Phase::Ended(CloseReason::ConnectFailed(error.kind()));
                return;
            }
        }
        state.stats.connected += 1;
        effects.on_connected(self.meta.id);
        self.phase = Phase::Established(ReadSide::Open);
        self.last_activity = state.clock.now.into();
        self.call_protocol(transport, ready, state, effects, |protocol, _, cx| protocol.opened(cx));
        if let Some(command) = then {
            self.apply(command, transport, state);
        }
    }
}
