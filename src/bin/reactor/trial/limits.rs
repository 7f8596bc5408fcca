//! Every number of `reactor try`: its unit, its reason, and what happens on reaching it.
//!
//! Together they are the load that a server gets, and no row sends more. The greatest is
//! `UNREAD_BYTES_MAX`, and only a server that takes all of it gets that much.

/// How long a row may take, in milliseconds. A server on this machine answers in a few. The row
/// that has no answer by then fails, and says what was awaited.
pub(super) const ROW_MS: u64 = 1300;

/// How long a row may take in which a peer sends and does not read, in milliseconds: megabytes have
/// to move until every buffer is full, and back.
pub(super) const UNREAD_ROW_MS: u64 = 4000;

/// How long finding the server may take, in milliseconds: resolving its name, and a first
/// connection. Beyond: no row is run.
pub(super) const START_MS: u64 = 2000;

/// How long all rows of a server and finding it may take, in milliseconds. It is checked when
/// compiling.
pub(super) const TOTAL_MS: u64 = 60_000;

/// How long a server may take no byte before its buffers count as full, in milliseconds. Shorter
/// than a slow server's pauses, it would stop sending too early, and prove less.
pub(super) const STALL_MS: u64 = 400;

/// How long a datagram is awaited that must not come, in milliseconds. A server that answers has
/// done so by then: it has answered a later datagram.
pub(super) const UNWANTED_MS: u64 = 100;

/// How long the next datagram is awaited before it counts as dropped, in milliseconds, where a full
/// receive buffer may drop it. Then it is sent again.
pub(super) const RETRY_MS: u64 = 200;

/// Bytes that are sent one by one, and the pause after each in milliseconds, so that each arrives
/// on its own.
pub(super) const DRIP_BYTES: usize = 64;
pub(super) const DRIP_PAUSE_MS: u64 = 1;

/// Bytes that are sent before a FIN: more than a server reads at once.
pub(super) const HALF_CLOSE_BYTES: usize = 64 * 1024;

/// Kernel buffer of a client that does not read, in bytes. The usual ones hold megabytes, behind
/// which a server's own buffers do not show. With less, a connection over loopback, where a segment
/// may be that long, moves in spurts.
pub(super) const NARROW_BYTES: usize = 64 * 1024;

/// How much more each client sends than the one before it, in bytes, of those that send a FIN while
/// replies wait. It is half of what a server commonly keeps before it stops reading, so that the
/// FIN of one of them comes while it keeps some.
pub(super) const HALF_CLOSE_STEP_BYTES: usize = 32 * 1024;

/// How many such clients there are: the last one sends a mebibyte. That is more than the kernel
/// keeps for a server that bounds it (SO_SNDBUF, TCP_NOTSENT_LOWAT). For others, Linux keeps up to
/// three on loopback, and the row proves less.
pub(super) const HALF_CLOSE_STEPS: usize = 32;

/// How long a server has for reading the FINs before replies are read, in milliseconds. For one
/// that is slower, the row proves less.
pub(super) const HALF_CLOSE_PAUSE_MS: u64 = 100;

/// Messages that are sent one after the other on a connection, and the length of each in bytes. It
/// is several times what common servers read at once.
pub(super) const LARGE_MESSAGES: usize = 16;
pub(super) const LARGE_BYTES: usize = 256 * 1024;

/// Bytes that are sent in pieces while the echo is read, and the longest piece. Both are above what
/// common servers read at once.
pub(super) const PIECES_BYTES: usize = 1024 * 1024;
pub(super) const PIECE_BYTES_MAX: usize = 70_000;

/// Messages that are sent before the first reply is read, and the length of each in bytes. Together
/// they fit the buffers of any kernel.
pub(super) const PIPELINED: usize = 200;
pub(super) const PIPELINED_BYTES: usize = 100;

/// Most bytes that are sent to a server whose replies are not read. The default buffers of Linux
/// hold a tenth of it. Taking all of it is a failure: the server keeps replies without bound.
pub(super) const UNREAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most bytes that the kernel's buffers for a connection may hold for that row to prove something
/// (tcp_rmem and tcp_wmem of tcp(7)). Beyond, the row is skipped.
pub(super) const KERNEL_BYTES_MAX: u64 = 48 * 1024 * 1024;

/// Connections that are open at once and silent: fewer than the backlog of any usual server, so
/// that also one that accepts none of them lets them connect.
pub(super) const CROWD: usize = 100;

/// Connections that are opened before the first of them sends.
pub(super) const BURST_CONNECTIONS: usize = 64;

/// Connections that end without a byte: every second one with a reset.
pub(super) const ABANDONED: usize = 50;

/// Connections one after the other, each with one exchange. They leave that many ports in
/// TIME_WAIT, of tens of thousands.
pub(super) const SHORT_CONNECTIONS: usize = 200;

/// Connections that are reset in the middle of an exchange, one after the other. A server that ends
/// at the first may do so a moment later.
pub(super) const RESETS: usize = 10;

/// How often a port is tried that is to be used twice: another process may take it between.
pub(super) const SAME_ADDRESS_TRIES: usize = 5;

/// Bytes that are sent before a reset, while the reply is not read.
pub(super) const RESET_BYTES: usize = 256 * 1024;

/// Datagrams that are sent before the first reply is read. The smallest usual receive buffer holds
/// them.
pub(super) const BURST_DATAGRAMS: usize = 64;

/// Datagrams that are sent to a server whose replies are not read: more than a usual receive buffer
/// holds.
pub(super) const UNREAD_DATAGRAMS: usize = 1000;

/// Clients over UDP whose socket is closed before the reply comes.
pub(super) const REFUSED_CLIENTS: usize = 20;

/// Bytes of a body that a server may refuse to read: more than it has read with the head.
pub(super) const UNREAD_BODY_BYTES: usize = 256 * 1024;

/// The length of a body, of which only `UNREAD_BODY_BYTES` are sent: more than common servers take.
pub(super) const REFUSED_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a request line or of a head that does not end. It is a hundred times what common
/// servers take.
pub(super) const ENDLESS_BYTES: usize = 1024 * 1024;

/// Most bytes of a response that are read. Beyond: its row fails. They are not kept.
pub(super) const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most responses that are read on one connection. No row asks for more than four.
pub(super) const RESPONSES_MAX: usize = 8;

/// Most bytes that a diagnostic line quotes.
pub(super) const DIAGNOSTIC_BYTES_MAX: usize = 48;
