//! Every number of the load generator: its unit, its reason, and what happens on reaching it.

/// How many sockets send over UDP unless `--sockets` says otherwise, and how many messages are under way on each unless `--window`
/// does. 64 are what leaves in one train and is answered in one: a server on this machine is kept busy, and far fewer than its
/// socket has room for, so that none of them is lost. (`--help` names these four numbers, too.)
pub(super) const UDP_SOCKETS: u32 = 1;
pub(super) const UDP_WINDOW: u64 = 64;

/// How many connections send over TCP unless `--connections` says otherwise, and how many messages are under way on each unless
/// `--window` does: a crowd of peers, each of whom waits for its reply before it says more, as in most conversations over streams.
pub(super) const TCP_CONNECTIONS: u32 = 64;
pub(super) const TCP_WINDOW: u64 = 1;

/// How long a message in a closed loop may be without a reply before another is sent in its place, in milliseconds. It is counted as
/// lost only if there is no reply until the end. As long as a few round trips across the world would be too long for loopback:
/// where one datagram of a hundred is lost, a client with 64 under way would mostly wait.
pub(super) const GIVE_UP_MS: u64 = 100;

/// How long replies are waited for after the last message has been sent, in milliseconds. What has not come by then is lost.
pub(super) const DRAIN_MS: u64 = 1000;

/// From one line of progress to the next, in milliseconds. To draw one takes some 100 µs, in which nothing is sent.
pub(super) const PROGRESS_MS: u64 = 500;

/// The most messages that one client sends in one call, where many are due: four full trains, which leave with one call.
pub(super) const BURST: usize = 256;

/// How far back the messages of one client are remembered over UDP, in messages, each with 8 bytes: as many as it sends in this
/// time (in seconds) in an open loop, or as many times those under way in a closed one, and within these bounds. A reply to one that
/// is older counts as a duplicate, or as too late if it may be the first. Over TCP, those that can be under way at one time are
/// remembered.
pub(super) const MEMORY_SECONDS: u64 = 2;
pub(super) const MEMORY_WINDOWS: u64 = 64;
pub(super) const MEMORY_MESSAGES_MIN: u64 = 4 * 1024;
pub(super) const MEMORY_MESSAGES_MAX: u64 = 1024 * 1024;

/// In how many groups the messages count, at most, that were due and that nobody has come to send. More would not be told apart
/// by the digits that latencies have.
pub(super) const UNSENT_GROUPS: u64 = 4096;

/// The longest latency that is told from longer ones, in nanoseconds: an hour.
pub(super) const LATENCY_NS_MAX: u64 = 3600 * 1_000_000_000;

/// Decimal digits to which latencies are told apart.
pub(super) const LATENCY_DIGITS: u8 = 3;

/// The most intervals in a log of latencies. One is a second, or longer where there would be more: each has some 100 KB of memory
/// until the end.
pub(super) const INTERVALS_MAX: u32 = 600;

/// How much longer than the load a connection may be silent, in milliseconds: it takes time to connect them all.
pub(super) const SILENCE_MS: u64 = 60_000;

const _: () =
    assert!(MEMORY_MESSAGES_MIN.is_power_of_two() && MEMORY_MESSAGES_MAX.is_power_of_two());
