//! The outcome of a drive: blocked, idle, unfinished or ended.

use super::ident::CloseReason;

/// The outcome of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It can do nothing until an event comes or its deadline is due.
    Blocked,
    /// Blocked, and nothing is under way: no input and no output waits on the connection (the usual
    /// case), or the backlog of the listener is empty.
    Idle,
    /// It has spent its budget and could go on. No edge comes for the bytes that it has left, so it
    /// must be queued (invariant 2).
    Unfinished,
    /// It has ended for this reason.
    Ended(CloseReason),
}
