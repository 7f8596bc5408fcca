//! What a protocol is told of another connection.

use std::io;

use super::ident::ConnectionId;

/// What a protocol is told of another connection, with [`Protocol::notified`](crate::Protocol::notified).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notification {
    /// It has gone, or takes no more: what was sent to it was not taken; or it was watched, and has ended.
    Closed,
    /// What was sent to it was taken, but now more than [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) wait there:
    /// send no more until `BelowLowWatermark`. Told once until then. Either `BelowLowWatermark` or `Closed` follows. Who has paused meanwhile is not
    /// taken for idle, however long that lasts: it is for the other's deadlines to end it.
    AboveHighWatermark,
    /// After `AboveHighWatermark`: what waits there has fallen to [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) or less.
    BelowLowWatermark,
    /// Nothing of what was sent to it was taken, for more than
    /// [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX) would have waited there.
    Rejected,
    /// The peer of a connection that this one has begun with [`Context::connect`](crate::Context::connect) has been reached.
    Connected,
    /// It has not, for this reason, and the connection has ended.
    ConnectFailed(io::ErrorKind),
}

/// `notification` of `about`, for `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingNotification {
    pub(crate) to: ConnectionId,
    pub(crate) about: ConnectionId,
    pub(crate) notification: Notification,
    /// It has waited for this other one to drain, and does so no longer.
    pub(crate) ends_wait: bool,
}
