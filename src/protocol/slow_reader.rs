//! Slow readers: what becomes of bytes that are published to a connection that does not keep up.
//!
//! A publisher has many readers, and must not wait for the slowest. So it says beforehand what to
//! do where too much output waits. NATS calls such a reader a slow consumer; ZeroMQ's `CONFLATE`
//! and the `KEEP_LAST` of DDS are [`SlowReader::KeepLatest`].
//!
//! Invariant: a value that is kept is the last one that was published to its connection, and leaves
//! once: when the output has fallen to the low watermark, or before another connection closes this
//! one. It is dropped if the connection's own protocol closes, or if the connection ends before.

use std::collections::BTreeMap;

use super::effects::Effects;
use super::ident::ConnectionId;

/// What becomes of bytes for a connection that is behind: more than
/// [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) of output wait there, and the
/// kernel takes no more. See [`Connections::publish`](crate::Connections::publish).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlowReader {
    /// They wait there with the rest, up to
    /// [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX), and the publisher is notified of
    /// `AboveHighWatermark`: as [`send_to`](crate::Connections::send_to) does. For a stream of
    /// which nothing may be left out.
    Queue,
    /// These bytes are dropped; later ones are sent again once the reader has caught up. For events
    /// that can be missed. Counted in
    /// [`Stats::publishes_dropped`](crate::Stats::publishes_dropped).
    DropNewest,
    /// They replace those that are kept already, and are sent once the output has fallen to
    /// [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES). For values of which only the
    /// last one matters. One that was replaced is counted in
    /// [`Stats::publishes_replaced`](crate::Stats::publishes_replaced). What is sent otherwise
    /// meanwhile may overtake the value that is kept.
    KeepLatest,
    /// The connection is reset, so that the peer cannot take the part for the whole. It can connect
    /// again, and begin anew. Counted in
    /// [`Stats::slow_readers_aborted`](crate::Stats::slow_readers_aborted).
    Abort,
}

/// The values that are kept for slow readers, one for each at most.
#[derive(Default)]
pub(super) struct KeptValues(BTreeMap<ConnectionId, Box<[u8]>>);

impl KeptValues {
    /// Keeps `bytes` for `id`. Returns whether they replace others.
    pub(super) fn keep(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        self.0.insert(id, bytes.into()).is_some()
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        !self.0.is_empty() && self.0.contains_key(&id)
    }

    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<[u8]>> {
        if self.0.is_empty() { None } else { self.0.remove(&id) }
    }

    /// Returns how many bytes are kept for `id`.
    pub(super) fn bytes_of(&self, id: ConnectionId) -> usize {
        self.0.get(&id).map_or(0, |bytes| bytes.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Effects {
    /// Keeps `bytes` for the slow reader `id`, in place of those that are kept already. Returns
    /// whether there were any.
    pub(crate) fn keep(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        self.kept.keep(id, bytes)
    }

    /// Returns whether a value is kept for `id`.
    pub(crate) fn keeps_for(&self, id: ConnectionId) -> bool {
        self.kept.contains(id)
    }

    /// Takes the value that is kept for `id`, to send it.
    pub(crate) fn take_kept(&mut self, id: ConnectionId) -> Option<Box<[u8]>> {
        self.kept.take(id)
    }
}
