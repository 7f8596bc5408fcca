//! What a connection does for the layers between it and its protocol (`src/protocol/layer.rs`).
//!
//! Layers pass callbacks on by themselves. Three things happen outside any callback, and are done
//! here: what other connections send is encoded, the end of the output is announced before our FIN,
//! and a resume by another connection is passed on.
//!
//! Invariant: nothing is sent after the announced end.

use super::{Connection, Phase, ReadSide, WriteSide};
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::protocol::Next;
use crate::stream::readiness::{Readiness, Transport};

impl Connection {
    /// Returns `bytes` of another connection as they leave.
    #[cold]
    pub(super) fn encoded(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(bytes.len());
        if let Some(layers) = self.protocol.layers() {
            layers.encode(bytes, &mut encoded);
        }
        encoded
    }

    /// Returns whether the connection is closing, and its layers have still to announce the end of
    /// the output.
    pub(super) fn must_finish_layers(&self) -> bool {
        matches!(self.phase, Phase::Flushing { .. })
            && self.write_side == (WriteSide::Open { has_layers: true })
    }

    /// Lets the layers, if there are any, announce the end of the output, after all of it.
    pub(super) fn finish_layers(&mut self, state: &LoopState) {
        if self.write_side != (WriteSide::Open { has_layers: true }) {
            return;
        }
        self.write_side = WriteSide::Open { has_layers: false };
        let mut last = Vec::new();
        if let Some(layers) = self.protocol.layers() {
            layers.finish(&mut last);
        }
        if self.output.is_empty() {
            self.last_activity = state.clock.now; // the write timeout begins
        }
        self.output.append(&last);
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
        self.phase = Phase::Established(ReadSide::Paused { wants_output_low: false });
        self.call_protocol(transport, ready, state, effects, |protocol, _, cx| {
            protocol.layers().map_or(Next::Continue, |layers| layers.resumed(cx))
        });
    }
}
