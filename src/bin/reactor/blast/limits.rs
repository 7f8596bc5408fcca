//! Every number of the load generator: its unit, its reason, and what happens on reaching it.

/// The defaults of `--sockets` and, for UDP, of `--window`. 64 messages leave as one GSO batch and
/// are answered as one: that keeps a server on this machine busy, and is far less than its socket
/// buffer holds, so that none is lost. (`--help` quotes these defaults and those for TCP.)
pub(super) const UDP_SOCKETS: u32 = 1;
pub(super) const UDP_WINDOW: u64 = 64;

/// The default of `--size`, in bytes.
pub(super) const MESSAGE_BYTES: usize = 64;

/// The defaults of `--connections` and, for TCP, of `--window`: many peers, each of which waits for
/// its reply before it sends again, as in most protocols over streams.
pub(super) const TCP_CONNECTIONS: u32 = 64;
pub(super) const TCP_WINDOW: u64 = 1;

/// The default of `--pipeline`: most HTTP clients wait for each response before they send the next
/// request.
pub(super) const HTTP_PIPELINE: u64 = 1;

/// Longest head of a response, in bytes, interim ones included. Common servers send at most 8 to 16
/// KiB, and a connection keeps no more than this. Beyond: the response counts as corrupt, and its
/// connection is aborted, as for the next four.
pub(super) const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most fields in the head of a response.
pub(super) const RESPONSE_FIELDS_MAX: usize = 128;

/// Longest line with the size of a chunk and its extensions, in bytes. None is kept, but a line
/// without an end would pass for a slow response.
pub(super) const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// Most bytes of the trailer fields after the last chunk. None is kept.
pub(super) const TRAILER_BYTES_MAX: usize = 64 * 1024;

/// Longest request, in bytes: what common servers take as a head. Beyond: a usage error.
pub(super) const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// How much of the first body is kept, in bytes, once for all connections. Of longer bodies, only
/// the beginning and the length are compared.
pub(super) const BODY_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a server may take to close a connection that it has said it will close, in
/// milliseconds. It closes first, so that the connection waits in TIME_WAIT there, and our ports
/// are not used up. Beyond: we reset it.
pub(super) const CLOSE_WAIT_MS: u64 = 1000;

/// Most connections of one client in a row that end without a whole response. Then the client is
/// given up. Less would end the load at a server that fails a part of its responses; without a
/// bound, a server that accepts and closes would be connected to for ever.
pub(super) const FRUITLESS_CONNECTIONS_MAX: u32 = 8;

/// Most statuses of responses that are counted each by itself. Further ones count together, as 0.
pub(super) const STATUSES_MAX: usize = 32;

/// How long a Unix socket's full backlog is left alone while connections are opened, in
/// milliseconds. Its server is not known to have room before it is tried again.
pub(super) const UNIX_RETRY_MS: u64 = 1;

/// How long a datagram in a closed loop is awaited before the first reply has shown how long the
/// path is, in milliseconds (RFC 6298 section 2.1). Then another is sent in its place. The replaced
/// datagram is lost only if no reply comes until the end.
pub(super) const FIRST_PATIENCE_MS: u64 = 1000;

/// The least by which that time exceeds the smoothed latency from then on, in milliseconds. It is
/// half of what Linux has for TCP (TCP_RTO_MIN), and a tenth of what RFC 6298 section 2.4 asks of
/// TCP, for loopback: with a second here, a lost window would leave a client idle for long. Less
/// would replace messages whose server was only descheduled.
pub(super) const PATIENCE_MARGIN_MS: u64 = 100;

/// The longest that it becomes, in milliseconds: the least maximum of RFC 6298 section 2.5.
pub(super) const PATIENCE_MS_MAX: u64 = 60_000;

/// How long one of several addresses of a name may take to accept a connection, or to reply to a
/// datagram, in milliseconds, before the next is tried. It is less if a name has ten addresses or
/// more: `CONNECT_TIMEOUT_MS` is for all of them. With a single address nothing is tried.
pub(super) const PROBE_TIMEOUT_MS: u64 = 1000;

/// How long connecting may take before the load, in milliseconds, together with the choice among
/// the addresses of a name. What is not connected then has failed.
pub(super) const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// How long replies are awaited after the last message has been sent, in milliseconds: on a path
/// whose latency needs more, up to the maximum. A message that was sent and has no reply by then
/// counts as lost. Over TCP it is also in the latencies, with the time waited so far.
pub(super) const REPLY_WAIT_MS: u64 = 1000;
pub(super) const REPLY_WAIT_MS_MAX: u64 = 10_000;

/// A message of an open loop that was sent later than this after its due time counts as sent late,
/// in milliseconds: more than a busy kernel takes for a batch. Its latency has the delay in it.
pub(super) const SENT_LATE_MS: u64 = 1;

/// Most kinds of errors that are counted each by itself. Further kinds count together.
pub(super) const ERROR_KINDS_MAX: usize = 8;

/// Most bytes of a wrong reply that an error line quotes.
pub(super) const QUOTED_BYTES_MAX: usize = 32;

/// Time between two updates of the progress bar, in milliseconds. One takes some 100 µs, in which
/// nothing is sent.
pub(super) const PROGRESS_MS: u64 = 500;

/// Most messages sent at once where many are due: by one client in one call of `writable` over UDP
/// (with GSO and short messages four full batches, and one system call), by all clients together in
/// one turn over TCP.
pub(super) const BURST: usize = 256;

/// How many messages of one client are remembered over UDP, at 8 bytes each: what it sends in
/// `MEMORY_SECONDS` in an open loop, or `MEMORY_WINDOWS` times its window in a closed one; at least
/// `MEMORY_MESSAGES_MIN`, at most `MEMORY_MESSAGES_MAX`. A reply to an older message counts as a
/// duplicate, or as expired if it may be the first. Over TCP, as many are remembered as can be in
/// flight.
pub(super) const MEMORY_SECONDS: u64 = 2;
pub(super) const MEMORY_WINDOWS: u64 = 64;
pub(super) const MEMORY_MESSAGES_MIN: u64 = 4 * 1024;
pub(super) const MEMORY_MESSAGES_MAX: u64 = 1024 * 1024;

/// Messages that were due but never sent are recorded in groups, at most this many. More groups
/// would not be distinguishable at the precision of the latencies.
pub(super) const UNSENT_GROUPS: u64 = 4096;

/// The longest latency that is recorded as it is, in nanoseconds: one hour. Longer ones count as
/// this.
pub(super) const LATENCY_NS_MAX: u64 = 3600 * 1_000_000_000;

/// Significant decimal digits of a recorded latency.
pub(super) const LATENCY_DIGITS: u8 = 3;

/// Most intervals in a log of latencies. An interval is one second, or longer where there would be
/// more. Each takes some 100 KB of memory until the end.
pub(super) const INTERVALS_MAX: u32 = 600;

/// How much longer than the load a connection may be idle, in milliseconds: connecting all of them
/// takes time.
pub(super) const EXTRA_IDLE_MS: u64 = 60_000;

const _: () =
    assert!(MEMORY_MESSAGES_MIN.is_power_of_two() && MEMORY_MESSAGES_MAX.is_power_of_two());
