//! The trace lines of a datagram socket: one for each of its receives and sends.
//!
//! A batch that takes one call for each datagram is written when all have been made: the path of
//! each datagram has no check of the log level.

use std::io::{self, ErrorKind};

use super::receive::{BUFFER_BYTES, Batch, Message};
use super::replies::ReplyQueue;
use crate::limits::DATAGRAM_BATCH;
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::ident::ConnectionId;
use crate::trace::{self, Line};

/// The socket whose calls they are.
#[derive(Clone, Copy)]
pub(super) struct Caller<'c> {
    pub(super) effects: &'c Effects,
    pub(super) id: ConnectionId,
    /// A batch takes one call.
    pub(super) is_batched: bool,
}

impl Caller<'_> {
    fn write(&self, state: &LoopState, line: &Line<'_>) {
        trace::write_of(state, self.effects, self.id, line);
    }
}

/// Writes the calls that have received a batch, and returned whether it is full.
#[cold]
#[inline(never)]
pub(super) fn write_receive(
    caller: Caller<'_>,
    state: &LoopState,
    batch: &Batch,
    result: &io::Result<bool>,
) {
    if caller.is_batched {
        let datagrams = batch.messages.iter().map(Message::datagrams).sum();
        let returned = result.as_ref().map(|_| batch.messages.len());
        let messages = DATAGRAM_BATCH;
        return caller.write(state, &Line::ReceiveBatch { messages, returned, datagrams });
    }
    let bytes = BUFFER_BYTES;
    for message in &batch.messages {
        caller.write(state, &Line::ReceiveOne { bytes, returned: Ok(message.length) });
    }
    let would_block = ErrorKind::WouldBlock.into();
    match result {
        Ok(true) => {}
        Ok(false) => caller.write(state, &Line::ReceiveOne { bytes, returned: Err(&would_block) }),
        Err(error) => caller.write(state, &Line::ReceiveOne { bytes, returned: Err(error) }),
    }
}

/// Writes the calls that have sent what waits, and returned how many messages the kernel took.
#[cold]
#[inline(never)]
pub(super) fn write_send(
    caller: Caller<'_>,
    state: &LoopState,
    replies: &ReplyQueue,
    result: &io::Result<usize>,
) {
    let pending = replies.pending();
    if caller.is_batched {
        let pending = &pending[..pending.len().min(DATAGRAM_BATCH)];
        let datagrams = pending.iter().map(|gso| gso.datagrams()).sum();
        let (messages, returned) = (pending.len(), result.as_ref().copied());
        return caller.write(state, &Line::SendBatch { messages, returned, datagrams });
    }
    let sent = *result.as_ref().unwrap_or(&0);
    for gso in pending.iter().take(sent) {
        let bytes = gso.bytes();
        caller.write(state, &Line::SendOne { bytes, returned: Ok(bytes) });
    }
    if let (Err(error), Some(gso)) = (result, pending.first()) {
        caller.write(state, &Line::SendOne { bytes: gso.bytes(), returned: Err(error) });
    }
}
