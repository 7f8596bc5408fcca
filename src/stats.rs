//! What happened, counted. Nothing that the reactor drops, refuses or gives up goes uncounted.

/// Counters since the reactor was made. All only ever grow, but for `connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that woke for nothing: no event, no deadline, nobody in the queue. A loop that spins shows here.
    pub empty_turns: u64,
    /// Connections alive now, also those that we have begun and whose peer has not been reached yet.
    pub connections: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that failed before they began: the peer had left again, or the kernel would not watch them.
    pub accepts_failed: u64,
    /// Times that a listener had to rest because descriptors, memory or our own bound on connections were exhausted, or
    /// everybody had left before it came to them. It then looks whether there is room when somebody leaves, or after
    /// [`ACCEPT_RETRY_MS`](crate::limits::ACCEPT_RETRY_MS), and each time that there is not counts.
    pub accept_pauses: u64,
    /// Idle connections closed to make room for those who wait (see [`Protocol::is_evictable`](crate::Protocol::is_evictable)).
    pub evicted: u64,
    /// Connections that we began and whose peer was reached.
    pub connected: u64,
    /// Connections that we began and whose peer was not reached, for whatever reason.
    pub connects_failed: u64,
    /// Connections that have ended, for whatever reason. Also those that were never reached.
    pub closed: u64,
    /// Of those, the ones that ended as they should, as [`CloseReason::Finished`](crate::CloseReason::Finished).
    pub closed_finished: u64,
    /// Calls of a protocol that panicked, each of which cost its own connection or datagram; and pieces of work that did.
    pub panics: u64,
    /// Pieces of work from other threads that were run.
    pub tasks_run: u64,
    /// Bytes read from streams.
    pub bytes_in: u64,
    /// Bytes that the kernel took from us on streams.
    pub bytes_out: u64,
    /// Times that bytes which one connection sent to another were not taken, since too much waited there, with
    /// [`Notification::Rejected`](crate::Notification::Rejected).
    pub sends_rejected: u64,
    /// Deadlines that came due and were looked at.
    pub deadlines_expired: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams that the kernel took from us.
    pub datagrams_out: u64,
    /// Datagrams not put to the protocol: from port 0 or another that is not answered, from ourselves, from or to a group or
    /// everybody, or cut short by the kernel (see the debug log for the reason).
    pub datagrams_dropped: u64,
    /// Replies longer than a datagram can be, not sent.
    pub datagrams_too_long: u64,
    /// Replies that the kernel refused, each alone (see the debug log for the reason), or that one datagram was answered with
    /// beyond [`REPLIES_BYTES_MAX`](crate::limits::REPLIES_BYTES_MAX).
    pub datagrams_unsent: u64,
    /// Errors on receiving a datagram.
    pub datagram_errors: u64,
}

impl Stats {
    /// Bytes moved on streams, in both directions.
    pub(crate) fn bytes_moved(&self) -> u64 {
        self.bytes_in + self.bytes_out
    }
}
