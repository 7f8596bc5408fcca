//! Every number of overload, once: when memory, descriptors or slots run out, or calls fail.
//!
//! `Limits::memory_bytes_max` and `Limits::connections_max` are the bounds that an operator sets.
//! The numbers here say what happens near them.

use crate::limits::{DRAIN_QUIET_MS, SUBSCRIPTIONS_CLEARED_PER_COST};

// ---- memory

/// From so many eighths of `memory_bytes_max` on, a request body gets 503. An upload counts with
/// its whole length from its beginning, so uploads alone never come near the bound, and one that
/// has begun is not ended for another. The rest is for what cannot be refused: output that waits.
pub(crate) const BODY_MEMORY_EIGHTHS: u128 = 6;

/// From so many eighths of `memory_bytes_max` on, accepting pauses: a new connection would need
/// memory, too. If it is still so at the retry, after `ACCEPT_RETRY_MS`, the largest holders are
/// evicted until it can accept again, at most `EVICTIONS_MAX` at a time. Otherwise peers that read
/// nothing would keep out all others.
pub(crate) const ACCEPT_MEMORY_EIGHTHS: u128 = 7;

/// Memory that one subscription takes, in bytes: its two connections have an id each, in a piece of
/// memory that may be half empty, and a share of what else a set takes.
pub(crate) const SUBSCRIPTION_BYTES: usize = 64;

/// Most connection ids in one piece of memory, where the subscriptions of a connection are kept.
/// Then it is split. To copy one piece, 1 KiB, reads 16 cache lines, which are mostly cold with
/// millions of ids. With 512 ids, making subscriptions took longer.
pub(crate) const PIECE_IDS_MAX: usize = 128;

// ---- deadlines

/// Neighbouring slots that share one filed deadline, the soonest of theirs. When it is due, all of
/// them are looked at, which takes some 5 ns for each beyond the first: they lie side by side. With
/// more, a timer of one connection would cost its neighbours' looks; with fewer, an idle connection
/// takes more memory for its deadline, now two bytes.
pub(crate) const SLOTS_PER_DEADLINE: usize = 16;

// ---- the kernel's buffers

/// Most bytes that the kernel takes for a TCP peer before it can send them (TCP_NOTSENT_LOWAT,
/// tcp(7)), where it can be told. A peer that does not read costs no more of the kernel's memory;
/// without the bound, its send buffer grows to `net.ipv4.tcp_wmem`, 4 MiB. For a peer that reads
/// fast the bound is lifted: each of its bytes would take up to half as much CPU time again.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux has the bound"))]
pub(crate) const UNSENT_BYTES_MAX: i32 = 128 * 1024;

/// How soon a peer must make room for output that waits, in milliseconds, to count as one that
/// reads fast. The kernel reports room for half of `UNSENT_BYTES_MAX`, so this means some 600 KB/s.
pub(crate) const FAST_READER_MS: u64 = 100;

// ---- datagrams

/// Receives of a datagram socket that may fail in `DATAGRAM_RETRY_MS`, each with the error of one
/// datagram (ICMP). After them the socket waits as after any other failure: an error that comes
/// without end is not that of a datagram. Windows reports one for each datagram that was sent in
/// vain, so these are many.
pub(crate) const RECEIVE_FAILURES_MAX: u32 = 1024;

/// How long after a log line about sends that fail the next one may follow, in milliseconds. Such
/// lines are of the errors that a call itself is wrong or not supported, which an operator must
/// know, and a peer can cause some of them.
pub(crate) const SEND_WARNING_MS: u64 = 60_000;

// ---- accepting

/// How long a listener pauses after the kernel had no descriptor or memory for a new connection, in
/// milliseconds, unless one of our connections ends earlier. With `connections_max` reached, it
/// retries as often.
pub(crate) const ACCEPT_RETRY_MS: u64 = 100;

/// How long the backlog must have been empty, without a further pause, before an overload is over,
/// in milliseconds. Under overload a listener may pause many times a second. Whatever peers do, its
/// log has no more than two lines in this time.
pub(crate) const ACCEPT_RECOVERY_MS: u64 = 1000;

/// How long the kernel keeps a connection whose peer is silent, where accepting is deferred
/// (TCP_DEFER_ACCEPT, tcp(7)), in seconds. Then it is accepted without a byte. The kernel rounds up
/// to the times at which it repeats a SYN-ACK, the first of which is after a second.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux defers"))]
pub(crate) const DEFERRED_ACCEPT_SECONDS: i32 = 1;

/// The part of all connections and descriptors that the listeners are guaranteed: one in this. It
/// is split among them, unless `ListenOptions::connections_min` says otherwise, and each has at
/// least one connection if there are more of those than listeners. A larger part would turn away
/// clients of a listener in demand for the sake of those without any.
pub(crate) const LISTENERS_MINIMUM_DIVISOR: usize = 4;

// ---- walks over all slots

/// Most slots that one walk looks at in one turn, to evict idle connections, to end what only
/// lingers, or to end all by force: 5 to 50 ns each, so a millisecond or two. Each paused listener
/// has walks of its own, and a forced stop ends as many slots of the run queue besides. With more
/// slots, a walk takes several turns or scans, and an eviction chooses among those of its part. The
/// walk that begins a stop has `BATCH_SLOTS_MAX`, since what it queues is driven.
pub(crate) const SLOTS_WALKED_MAX: usize = 32 * 1024;

// ---- eviction

/// Slots that an eviction scan looks at for the cost of one call: 6 ns each.
pub(crate) const SLOTS_SCANNED_PER_CALL: usize = 10;

/// Most idle connections evicted in one scan. The next scan is `ACCEPT_RETRY_MS` later, so a
/// server full of idle connections accepts 160 new ones a second. A larger number would close many
/// clients although perhaps none is waiting. A smaller one would gain little for each scan.
pub(crate) const EVICTIONS_MAX: usize = 16;

/// How long no byte must have moved on a connection before it may be evicted, in milliseconds. It
/// is longer than a round trip across the world (300 ms): a peer that sends again as soon as it has
/// our reply is served, and not closed, unless a listener is starved (`STARVED_LISTENER_MS`).
pub(crate) const EVICTION_IDLE_MS: u64 = 500;

/// How long a listener without room must have accepted nothing, in milliseconds, to be starved.
/// Then a scan evicts one connection, the longest idle, even if it has been idle for less than
/// `EVICTION_IDLE_MS`. Otherwise clients that send again and again would keep out all others. With
/// what is accepted then, this time begins anew. It is longer than `EVICTION_IDLE_MS`, so that what
/// is idle goes first.
pub(crate) const STARVED_LISTENER_MS: u64 = 1000;

// ---- connects

/// Most addresses that a relay tries for one client. Each gets its part of the time that is left,
/// so of more than these none would get enough for a handshake with a far host.
pub(crate) const DIAL_ADDRESSES_MAX: usize = 8;

const _: () = assert!(EVICTION_IDLE_MS < STARVED_LISTENER_MS, "what is idle is evicted first");
const _: () = assert!(
    BODY_MEMORY_EIGHTHS < ACCEPT_MEMORY_EIGHTHS && ACCEPT_MEMORY_EIGHTHS < 8,
    "bodies are refused before accepting pauses, and that before a connection is evicted"
);
const _: () = assert!(
    DRAIN_QUIET_MS <= EVICTION_IDLE_MS,
    "a connection that may be evicted is quiet enough for a stop"
);
const _: () = assert!(
    SUBSCRIPTIONS_CLEARED_PER_COST <= PIECE_IDS_MAX / 2,
    "a piece that is freed has been charged, also one that was split"
);
const _: () =
    assert!(ACCEPT_RETRY_MS < ACCEPT_RECOVERY_MS, "a listener that still pauses has not recovered");
