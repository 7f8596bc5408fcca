//! The trace lines of a datagram socket: one for each of its receives and sends.
//!
//! A batch that takes one call for each datagram is written when all have been made: the path of
//! each datagram has no check of the log level.

use std::io::{self, ErrorKind};

use super::receive::{BUFFER_BYTES, Batch, Message};
use super::replies::ReplyQueue;
use crate::limits::DATAGRAM_BATCH;
use crate::trace::{Line, Place, Returned};

/// Writes the calls that have received a batch, and returned whether it is full.
#[cold]
#[inline(never)]
pub(super) fn write_receive(
    place: Place,
    is_batched: bool,
    batch: &Batch,
    result: &io::Result<bool>,
) {
    if is_batched {
        let datagrams = batch.messages.iter().map(Message::datagrams).sum();
        let returned = Returned(result.as_ref().map(|_| batch.messages.len()));
        let messages = DATAGRAM_BATCH;
        return place.write(&Line::ReceiveBatch { messages, returned, datagrams });
    }
    let write = |returned| {
        place.write(&Line::ReceiveOne { bytes: BUFFER_BYTES, returned: Returned(returned) });
    };
    batch.messages.iter().for_each(|message| write(Ok(message.length)));
    match result {
        Ok(true) => {}
        Ok(false) => write(Err(&ErrorKind::WouldBlock.into())),
        Err(error) => write(Err(error)),
    }
}

/// Writes the calls that have sent what waits, and returned how many messages the kernel took.
#[cold]
#[inline(never)]
pub(super) fn write_send(
    place: Place,
    is_batched: bool,
    replies: &ReplyQueue,
    result: &io::Result<usize>,
) {
    let pending = replies.pending();
    if is_batched {
        let pending = &pending[..pending.len().min(DATAGRAM_BATCH)];
        let datagrams = pending.iter().map(|gso| gso.datagrams()).sum();
        let (messages, returned) = (pending.len(), Returned(result.as_ref().copied()));
        return place.write(&Line::SendBatch { messages, returned, datagrams });
    }
    let sent = *result.as_ref().unwrap_or(&0);
    for gso in pending.iter().take(sent) {
        let bytes = gso.bytes();
        place.write(&Line::SendOne { bytes, returned: Returned(Ok(bytes)) });
    }
    if let (Err(error), Some(gso)) = (result, pending.first()) {
        place.write(&Line::SendOne { bytes: gso.bytes(), returned: Returned(Err(error)) });
    }
}
