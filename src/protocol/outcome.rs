//! Where a source stands after it was driven.

use super::ident::CloseReason;

/// Where a source stands after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It can do nothing until the kernel tells of it or its deadline comes.
    Blocked,
    /// The same, and it has all that it needs for it: a connection on which nothing is begun in either direction, as nearly
    /// always, or a listener at which nobody waits.
    Idle,
    /// It has spent its budget and could go on. No edge will come for what it left (invariant 2): it must be queued.
    Unfinished,
    /// It is over.
    Ended(CloseReason),
}
