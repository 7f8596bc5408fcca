//! The reactor's counters: whatever it drops, rejects or closes early is counted.

/// Counters since the reactor was made. All but `connections` only ever grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that woke for nothing: no event, no due deadline, an empty run queue. A loop that
    /// spins shows here.
    pub empty_turns: u64,
    /// Connections open now, including outbound ones whose peer has not been reached yet.
    pub connections: usize,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that failed before they began: the peer had closed again, or the poller could
    /// not register them.
    pub accepts_failed: u64,
    /// Times that a listener paused because descriptors, memory or `connections_max` were
    /// exhausted, or because every connection in the backlog had failed. A paused listener retries
    /// when a connection closes, or after [`ACCEPT_RETRY_MS`](crate::limits). Each retry that finds
    /// no room counts again.
    pub accept_pauses: u64,
    /// Connections that waited in a backlog, for want of room, when a stop was forced: they were
    /// reset without being served.
    pub unaccepted: u64,
    /// Idle connections closed to make room for new ones (see
    /// [`Protocol::is_evictable`](crate::Protocol::is_evictable)).
    pub evicted: u64,
    /// Connections that were reset because all together held more than
    /// [`memory_bytes_max`](crate::Limits::memory_bytes_max), and these held the most.
    pub evicted_for_memory: u64,
    /// Request bodies, and whatever else asks before it begins
    /// ([`Context::has_memory_for`](crate::Context::has_memory_for)), that were refused because too
    /// much of [`memory_bytes_max`](crate::Limits::memory_bytes_max) was held.
    pub memory_refusals: u64,
    /// Outbound connections whose peer was reached, and streams that were added
    /// ([`Reactor::add_stream`](crate::Reactor::add_stream)).
    pub connected: u64,
    /// Outbound connections whose peer was not reached, for whatever reason.
    pub connects_failed: u64,
    /// Connections that have ended, for whatever reason. Includes `connects_failed`.
    pub closed: u64,
    /// Of those, the connections that ended gracefully, as
    /// [`CloseReason::Finished`](crate::CloseReason::Finished).
    pub closed_finished: u64,
    /// Calls of a protocol that panicked, each of which cost its own connection or datagram; and
    /// tasks that panicked.
    pub panics: u64,
    /// HTTP responses whose streamed body ended, failed or stalled before its Content-Length, or
    /// claimed more bytes than it was given room for. Each cost its own connection, which was
    /// reset.
    pub bodies_failed: u64,
    /// HTTP answers that were promised ([`Response::later`](crate::Response::later)), each renewal
    /// included.
    pub answers_promised: u64,
    /// Of those, the ones that did not come within their deadline. The client got 504.
    pub answers_late: u64,
    /// Of those, the ones whose [`Promise`](crate::Promise) was dropped. The client got 500.
    pub answers_dropped: u64,
    /// HTTP answers that go on after their head ([`Response::ongoing`](crate::Response::ongoing)).
    pub answers_ongoing: u64,
    /// Of those, the ones whose [`Feed`](crate::Feed) was dropped without an end. Each cost its
    /// connection, which was reset.
    pub feeds_dropped: u64,
    /// Tasks from other threads that were run, and calls of periodic tasks.
    pub tasks_run: u64,
    /// Bytes read from streams.
    pub bytes_in: u64,
    /// Bytes that the kernel took from us on streams.
    pub bytes_out: u64,
    /// Sends from one connection to another that were not accepted, because too much output waited
    /// there ([`Notification::Rejected`](crate::Notification::Rejected)).
    pub sends_rejected: u64,
    /// Bytes that were published and dropped, because their reader was behind
    /// ([`SlowReader::DropNewest`](crate::SlowReader)).
    pub publishes_dropped: u64,
    /// Values that were kept for a reader that was behind, and replaced by a later one
    /// ([`SlowReader::KeepLatest`](crate::SlowReader)).
    pub publishes_replaced: u64,
    /// Connections that were reset because they were behind
    /// ([`SlowReader::Abort`](crate::SlowReader)).
    pub slow_readers_aborted: u64,
    /// Messages that were dropped because the mailbox of the connection was full, or as many waited
    /// until the protocol inside a layer was open
    /// ([`MAILBOX_MESSAGES_MAX`](crate::limits::MAILBOX_MESSAGES_MAX)).
    pub messages_rejected: u64,
    /// Sources that were looked at because a filed deadline was due, their own or a neighbour's.
    pub deadlines_expired: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams that the kernel took from us.
    pub datagrams_out: u64,
    /// Datagrams not delivered to the protocol: from port 0 or another unanswered port, from
    /// ourselves, from or to a multicast or broadcast address, or truncated by the kernel. The
    /// debug log has the reason.
    pub datagrams_dropped: u64,
    /// Replies not sent because they are longer than a datagram can be.
    pub datagrams_too_long: u64,
    /// Replies that the kernel refused, each counted alone (the debug log has the reason), and
    /// replies to one datagram beyond [`REPLIES_BYTES_MAX`](crate::limits::REPLIES_BYTES_MAX).
    pub datagrams_unsent: u64,
    /// Errors on receiving a datagram.
    pub datagram_errors: u64,
}
