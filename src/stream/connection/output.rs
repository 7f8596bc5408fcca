//! How output leaves a connection: what waits is sent, our FIN follows, and layers have their part.
//!
//! Layers (`src/protocol/layer.rs`) pass callbacks on by themselves. Three things happen outside
//! any callback, and are done here: what other connections send is encoded, the end of the output
//! is announced before our FIN, and a resume by another connection is passed on.
//!
//! Invariant: nothing is sent after the announced end.

use log::error;

use super::{CloseMode, Connection, Phase, ReadSide, WriteSide};
use crate::caught::catch;
use crate::limits::LOW_WATERMARK_BYTES;
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::layer::Layers;
use crate::protocol::protocol::Next;
use crate::stream::readiness::{Readiness, Transport, send};

impl Connection {
    /// Sends as much of the output as the kernel takes.
    #[inline(never)] // else it takes registers from `run_until_blocked`
    pub(super) fn flush<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        match send(transport, ready, self.buffers.output(), self.owes_fin()) {
            Ok(taken) => {
                let was_above = self.buffers.output().len() > LOW_WATERMARK_BYTES;
                self.buffers.consume_output(taken); // after a partial write the rest stays
                state.budget.charge(taken);
                state.stats.bytes_out += taken as u64;
                if taken > 0 {
                    self.last_activity = state.clock.now.into();
                }
                if was_above && self.buffers.output().len() <= LOW_WATERMARK_BYTES {
                    effects.on_output_low(self.meta.id);
                }
                self.send_due_fin(transport, state);
            }
            Err(why) => self.phase = Phase::Ended(why),
        }
    }

    /// Returns whether our FIN is sent once no output waits: the connection is closing, and its
    /// layers have announced that, or it shuts down its write side. If it closes after the peer's
    /// FIN, close(2) sends ours.
    fn owes_fin(&self) -> bool {
        match self.write_side {
            WriteSide::Open { has_layers: false } => matches!(
                self.phase,
                Phase::Flushing { close_mode: CloseMode::IfNothingUnread | CloseMode::Linger }
            ),
            WriteSide::ShutdownPending => true,
            WriteSide::Open { has_layers: true } | WriteSide::Shut => false,
        }
    }

    /// Sends our FIN, if it is due.
    pub(super) fn send_due_fin<T: Transport>(&mut self, transport: &T, state: &LoopState) {
        if self.owes_fin() && !self.wants_write() {
            self.shutdown_write(transport, state);
        }
    }

    /// Sends our FIN, unless it is sent already.
    pub(super) fn shutdown_write<T: Transport>(&mut self, transport: &T, state: &LoopState) {
        self.last_activity = state.clock.now.into();
        if self.write_side == WriteSide::Shut {
            return;
        }
        self.write_side = WriteSide::Shut;
        let result = transport.shutdown_write();
        if let Err(error) = result {
            self.phase = Phase::Ended(error.into());
        } else if matches!(self.phase, Phase::Established(ReadSide::Eof { .. })) {
            // Both directions are closed.
            self.phase = Phase::Flushing { close_mode: CloseMode::Immediate };
        }
    }

    /// Returns `bytes` of another connection as they leave.
    #[cold]
    pub(super) fn encoded(&mut self, bytes: &[u8], state: &mut LoopState) -> Vec<u8> {
        self.ask_layers(state, |layers, encoded| layers.encode(bytes, encoded))
    }

    /// Returns what the layers append to their output. A panic in them ends the connection: it is
    /// caught here, since another one may be running, or none.
    fn ask_layers(
        &mut self,
        state: &mut LoopState,
        append: impl FnOnce(&mut dyn Layers, &mut Vec<u8>),
    ) -> Vec<u8> {
        let mut appended = Vec::new();
        let asked = catch(|| {
            if let Some(layers) = self.protocol.layers() {
                append(layers, &mut appended);
            }
        });
        if asked.is_err() {
            state.stats.panics += 1;
            let peer = state.peers.get(self.meta.peer);
            error!("{} {peer}: protocol panicked in a layer", self.meta.id);
            self.buffers.clear_output();
            self.phase = Phase::Ended(CloseReason::ProtocolPanicked);
            appended.clear();
        }
        appended
    }

    /// Returns whether the connection is closing, and its layers have still to announce the end of
    /// the output.
    pub(super) fn must_finish_layers(&self) -> bool {
        matches!(self.phase, Phase::Flushing { .. })
            && self.write_side == (WriteSide::Open { has_layers: true })
    }

    /// Lets the layers, if there are any, announce the end of the output, after all of it.
    pub(super) fn finish_layers(&mut self, state: &mut LoopState) {
        if self.write_side != (WriteSide::Open { has_layers: true }) {
            return;
        }
        self.write_side = WriteSide::Open { has_layers: false };
        let last = self.ask_layers(state, |layers, last| layers.finish(last));
        if !self.wants_write() {
            self.last_activity = state.clock.now.into(); // the write timeout begins
        }
        self.buffers.append_output(&last);
    }

    /// Tells the layers that another connection has resumed this one: they may keep input.
    #[cold]
    pub(super) fn resume_layers<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        self.call_protocol(transport, ready, state, effects, |protocol, _, cx| {
            protocol.layers().map_or(Next::Continue, |layers| layers.resumed(cx))
        });
    }
}
