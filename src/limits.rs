//! Every number of the reactor, once: its unit, its reason, and what happens on reaching it.
//!
//! A number that an operator may want to change is a field of [`Limits`]. A number that follows
//! from the design is a constant: public if a protocol must know it. `docs/limits.md` lists all of
//! them. HTTP's constants are in `src/http/limits.rs`. Relations between the numbers are checked at
//! compile time, at the end of each file.
#![doc = include_str!("../docs/limits.md")]

use std::time::Duration;

/// The limits that an operator may change: how many connections, and how long each may take.
///
/// [`Limits::default`] is meant to be safe on the open Internet ([its values](self)). The fields
/// can be read and written, and each has a setter for use in an expression:
///
/// ```
/// use std::time::Duration;
/// use mio_reactor::Limits;
///
/// let limits = Limits::default()
///     .with_connections_max(10_000)
///     .with_idle_timeout(Duration::from_secs(5));
/// assert_eq!(limits.idle_timeout.as_secs(), 5);
/// ```
///
/// The loop counts in milliseconds: a timeout is rounded up to whole ones, and 0 counts as 1. A
/// timeout that is longer than the process lives, such as [`Duration::MAX`], never ends a
/// connection. A `connections_max` of 0 counts as 1. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most connections at one time, with the datagram clients. On reaching it the listeners pause,
    /// and new connections wait in the kernel's backlog until a slot is freed. A value above the
    /// descriptor limit has no effect: then the listeners pause when the last descriptor is taken.
    /// With several listeners, each is guaranteed a minimum (`ListenOptions::connections_min`), and
    /// the rest is shared.
    pub connections_max: usize,
    /// Most memory that all connections together may hold, in bytes: their buffers and
    /// subscriptions, what their protocols say that they hold, and the loop's queues. From three
    /// quarters of it on, a request body gets 503. From seven eighths on, the listeners pause.
    /// Above it, the connection that holds the most is reset, and ends as `MemoryOverflow`, until
    /// the rest fits. 256 MiB is what a small machine has for a server, and enough for three
    /// thousand peers that do not read.
    pub memory_bytes_max: usize,
    /// Longest time without a byte moving while the peer of an accepted connection has never sent
    /// anything. Connections that the reactor has started or adopted have only the idle timeout.
    /// Then the connection ends as `FirstByteTimeout`, unless `idle_timeout` is shorter. Some
    /// clients connect in advance, but a client that has sent once is likelier to continue.
    pub first_byte_timeout: Duration,
    /// Longest time without a byte moving in either direction. Then the connection ends as
    /// `IdleTimeout`. One minute is what web servers commonly allow between two requests.
    pub idle_timeout: Duration,
    /// Longest time in which a peer takes none of the bytes that wait for it. Then the connection
    /// ends as `WriteTimeout`. The kernel takes bytes for the peer as long as it has room for them,
    /// so a peer that reads nothing at all may have this time more than once.
    pub write_timeout: Duration,
    /// Longest time that connecting to a peer may take. Then the connection ends as
    /// `ConnectFailed`, with the kind `TimedOut`. Kernels on their own try for two minutes, which
    /// is longer than a user waits.
    pub connect_timeout: Duration,
    /// Longest time that the head of an HTTP request may take to arrive, from its first byte to its
    /// last. Then the response is 408, and the connection closes. A byte now and then does not
    /// extend it.
    pub head_timeout: Duration,
    /// Longest time that the body of an HTTP request may take to arrive after its head. Then the
    /// response is 408, and the connection closes.
    pub body_timeout: Duration,
    /// Longest time to read and discard input after our FIN. Unread input would cause a reset,
    /// which destroys our last response at the peer. After this time the connection is closed as it
    /// is.
    pub linger_timeout: Duration,
    /// Longest time that a stop waits for connections that have begun something. Then they are
    /// closed by force and end as `Stopped`.
    pub drain_timeout: Duration,
    /// Source ports whose datagrams are not answered, besides port 0. The default has the small
    /// services that answer every datagram: echo (7), active users (11), daytime (13), quote of the
    /// day (17), character generator (19) and time (37). One datagram with the forged source
    /// address of such a service would start an endless exchange between it and us. A peer to which
    /// an address translator (NAT) has given such a port is refused, too; that affects few.
    pub unanswered_ports: Vec<u16>,
    /// Kernel buffer that is asked for on each UDP socket, in each direction, in bytes. The kernel
    /// grants at most `net.core.rmem_max` and drops datagrams beyond it. With 0 it grants its
    /// smallest buffer, which holds few datagrams. A generous buffer bridges the pause between two
    /// turns.
    pub udp_buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 100_000,
            memory_bytes_max: 256 * 1024 * 1024,
            first_byte_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            linger_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(5),
            unanswered_ports: vec![7, 11, 13, 17, 19, 37],
            udp_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Sets [`connections_max`](Limits::connections_max).
    #[must_use]
    pub fn with_connections_max(self, value: usize) -> Limits {
        Limits { connections_max: value, ..self }
    }

    /// Sets [`memory_bytes_max`](Limits::memory_bytes_max), in bytes.
    #[must_use]
    pub fn with_memory_bytes_max(self, value: usize) -> Limits {
        Limits { memory_bytes_max: value, ..self }
    }

    /// Sets [`first_byte_timeout`](Limits::first_byte_timeout).
    #[must_use]
    pub fn with_first_byte_timeout(self, value: Duration) -> Limits {
        Limits { first_byte_timeout: value, ..self }
    }

    /// Sets [`idle_timeout`](Limits::idle_timeout).
    #[must_use]
    pub fn with_idle_timeout(self, value: Duration) -> Limits {
        Limits { idle_timeout: value, ..self }
    }

    /// Sets [`write_timeout`](Limits::write_timeout).
    #[must_use]
    pub fn with_write_timeout(self, value: Duration) -> Limits {
        Limits { write_timeout: value, ..self }
    }

    /// Sets [`connect_timeout`](Limits::connect_timeout).
    #[must_use]
    pub fn with_connect_timeout(self, value: Duration) -> Limits {
        Limits { connect_timeout: value, ..self }
    }

    /// Sets [`head_timeout`](Limits::head_timeout).
    #[must_use]
    pub fn with_head_timeout(self, value: Duration) -> Limits {
        Limits { head_timeout: value, ..self }
    }

    /// Sets [`body_timeout`](Limits::body_timeout).
    #[must_use]
    pub fn with_body_timeout(self, value: Duration) -> Limits {
        Limits { body_timeout: value, ..self }
    }

    /// Sets [`linger_timeout`](Limits::linger_timeout).
    #[must_use]
    pub fn with_linger_timeout(self, value: Duration) -> Limits {
        Limits { linger_timeout: value, ..self }
    }

    /// Sets [`drain_timeout`](Limits::drain_timeout).
    #[must_use]
    pub fn with_drain_timeout(self, value: Duration) -> Limits {
        Limits { drain_timeout: value, ..self }
    }

    /// Sets [`unanswered_ports`](Limits::unanswered_ports).
    #[must_use]
    pub fn with_unanswered_ports(self, value: impl Into<Vec<u16>>) -> Limits {
        Limits { unanswered_ports: value.into(), ..self }
    }

    /// Sets [`udp_buffer_bytes`](Limits::udp_buffer_bytes).
    #[must_use]
    pub fn with_udp_buffer_bytes(self, value: usize) -> Limits {
        Limits { udp_buffer_bytes: value, ..self }
    }

    /// Returns the same limits, with each time or count of 0 raised to 1. With 0, no connection
    /// could ever be served.
    pub(crate) fn at_least_one(mut self) -> Limits {
        let times = [
            &mut self.first_byte_timeout,
            &mut self.idle_timeout,
            &mut self.write_timeout,
            &mut self.connect_timeout,
            &mut self.head_timeout,
            &mut self.body_timeout,
            &mut self.linger_timeout,
            &mut self.drain_timeout,
        ];
        times.into_iter().for_each(|time| *time = (*time).max(Duration::from_millis(1)));
        self.connections_max = self.connections_max.max(1);
        self
    }

    /// Returns the most memory that connections may take, in bytes: `memory_bytes_max`, overshot by
    /// what one drive adds, and the slots of `connections_max` connections.
    ///
    /// The buffers of the kernel are not ours, and do not count. Nor does what a protocol holds
    /// without saying so ([`Context::set_held_bytes`](crate::Context::set_held_bytes)).
    pub fn bytes_max(&self) -> u64 {
        let one_drive = 2 * (INPUT_BYTES_MAX + READ_BYTES_MAX + OUTPUT_BYTES_MAX) as u64;
        let slots = (SLOT_BYTES as u64).saturating_mul(self.connections_max as u64);
        (self.memory_bytes_max as u64).saturating_add(one_drive).saturating_add(slots)
    }
}

// ---- turns

/// Most events taken from the kernel in one turn. The rest wait for the next turn. epoll hands
/// events out round-robin, so no socket is passed over. Closing a connection takes the kernel up to
/// 20 µs, so even a turn in which all of them end stays below 10 ms.
pub(crate) const EVENTS_PER_TURN: usize = 256;

/// Size of the scratch that streams are read into, in bytes: the most that one recv(2) returns. For
/// bulk transfers, 16 KiB costs up to 1.9 times as much per byte as 64 KiB; 256 KiB gains nothing
/// more. It is a little over 64 KiB so that a message of exactly that size does not fill it. A full
/// scratch would cost a second recv(2) to learn that there is no more.
pub const READ_BYTES_MAX: usize = 68 * 1024;

/// What a turn may spend, in bytes or the cost of other work: about 2 ms of work. When it is spent,
/// the sources that have not been driven yet come first in the next turn. Half of it is reserved
/// for bulk transfers, if any wait. To share a turn among more connections saves system calls, too.
pub(crate) const TURN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most slots that a turn takes out of each queue of the run queue: those with something new, those
/// left over, and bulk. A drive that moves few bytes is charged little, so the budget alone would
/// not bound their number. What a turn spends on the queues does not grow with what waits there. A
/// stop queues no more slots in a turn, so that an event does not wait behind all of them.
pub(crate) const BATCH_SLOTS_MAX: usize = 1024;

/// What one stream may spend in one turn, in bytes, in both directions together: about 80 µs, which
/// is four full reads with their steps. It is less where there are many sources (`src/budget.rs`).
/// Then the connection goes to the end of the bulk queue.
pub(crate) const STREAM_BYTES_PER_TURN_MAX: usize = 320 * 1024;

/// What a turn may spend in one microsecond, in bytes. The costs of other work are what
/// `benches/what_does_a_unit_of_work_cost.rs` measures, times this.
pub(crate) const BYTES_PER_US: usize = 4 * 1024;

/// Cost of a callback without I/O, an effect, or a look at a deadline, in bytes: 0.06 µs.
pub(crate) const CALL_COST_BYTES: usize = 256;

/// Cost of a subscription that is made or ends, in bytes: 1 µs, as it is with millions of them. A
/// connection has one for each connection that it monitors, or whose output it awaits.
pub(crate) const SUBSCRIPTION_COST_BYTES: usize = 4 * 1024;

/// Subscriptions that end together for the cost of one: those whose two connections have ended. It
/// is half a piece of them, each of which is freed with one call.
pub(crate) const SUBSCRIPTIONS_CLEARED_PER_COST: usize = 64;

/// Cost of a datagram that is received or sent beside its bytes, in bytes: 1 µs.
pub(crate) const DATAGRAM_COST_BYTES: usize = 4 * 1024;

/// Cost of each further step of a connection in one turn beside the bytes that it moves, in bytes:
/// 4 µs. A step is a read, or a call for more output, with the send that follows. Without this
/// cost, a protocol that sends one byte per call would hold the turn for a quarter of a million
/// calls. A send to another connection is charged the step in which it leaves.
pub(crate) const STEP_COST_BYTES: usize = 16 * 1024;

/// Cost of a connection that is accepted, is started, is told to close or ends, in bytes: 8 µs. So
/// one listener accepts 64 connections in a turn. A task that another thread has submitted is
/// charged as much, because it is not known how long it takes.
pub(crate) const CONNECTION_COST_BYTES: usize = 32 * 1024;

/// A turn delivers at least an eighth of the notifications that are pending, unless their effects
/// use up the budget, or `NOTIFICATIONS_BYTES_MAX` is reached. So the queue holds at most what
/// eight turns add.
pub(crate) const NOTIFICATIONS_PENDING_DIVISOR: usize = 8;

/// What a turn may spend on notifications although the sources have spent all of it, in bytes:
/// about 4 ms. It is more than what the effects of one turn can add, so the queue is bounded.
pub(crate) const NOTIFICATIONS_BYTES_MAX: usize = 2 * TURN_BYTES_MAX;

// ---- datagrams

/// How long a datagram socket waits before it receives again, in milliseconds, after a receive that
/// has failed for want of memory or the like. No event reports that memory is free. Meanwhile the
/// kernel queues what arrives, and an arrival ends the wait.
pub(crate) const DATAGRAM_RETRY_MS: u64 = 100;

/// Most datagrams received in one call (with UDP_GRO: most messages, each of which may be several
/// datagrams that the kernel has joined). More than 16 make receiving no cheaper, but the replies
/// to one peer leave together, up to 64 in a GSO batch.
pub(crate) const DATAGRAM_BATCH: usize = 64;

/// Largest payload of a UDP datagram over IPv4, in bytes: 65,535 minus the IP and UDP headers. A
/// longer reply is not sent and is counted in `datagrams_too_long`. A GSO batch is bounded by it,
/// too.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Largest payload of a UDP datagram over IPv6, in bytes: the IPv6 header itself does not count.
pub const DATAGRAM_BYTES_MAX_V6: usize = 65_527;

/// Largest datagrams that leave in a GSO batch (UDP_SEGMENT), in bytes: IPv6's minimum MTU of 1,280
/// minus its headers, so that a batch fits every path. Longer datagrams leave one by one, because a
/// batch would gain little for them.
pub(crate) const SEGMENT_BYTES_MAX: usize = 1232;

/// Most datagrams in a GSO batch: the kernel's UDP_MAX_SEGMENTS.
pub(crate) const SEGMENTS_MAX: usize = 64;

// ---- buffers and watermarks

/// Most unconsumed input that a connection keeps from one read to the next, in bytes. A protocol
/// that needs more for one message should reject the message earlier, with an error of its own.
/// Otherwise the connection ends as `InputTooLong`.
pub const INPUT_BYTES_MAX: usize = READ_BYTES_MAX;

/// High watermark of a connection's output, in bytes. While this much output of its own protocol
/// waits, the peer's input is neither read nor parsed (backpressure). While more output waits in
/// all, other connections that send to it are notified with `AboveHighWatermark`.
pub const HIGH_WATERMARK_BYTES: usize = 64 * 1024;

/// Low watermark of a connection's output, in bytes. When output has fallen to it, a paused
/// protocol is called for more.
pub const LOW_WATERMARK_BYTES: usize = 16 * 1024;

/// Most output that may wait on one connection, in bytes: the high watermark, overshot by one
/// reply. A protocol that sends more at once than the peer takes ends its connection as
/// `OutputOverflow`. It should pause, and produce more in `output_low`.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// High watermark of the replies to one batch of datagrams, in bytes: the bytes that protocols
/// wrote, and `REPLY_OVERHEAD_BYTES` for each reply. Beyond it, the waiting replies are sent
/// before the next datagram is answered. It is also the capacity that the buffer for composing
/// replies keeps from one batch to the next. A whole batch of echoes stays below it, even with a
/// short prefix.
pub const REPLIES_HIGH_WATERMARK_BYTES: usize = 1024 * 1024;

/// Most that the replies to one batch may take, in bytes, counted as for
/// [`REPLIES_HIGH_WATERMARK_BYTES`]: that watermark, overshot by the replies to one datagram.
/// Further replies to that datagram are dropped and counted in `datagrams_unsent`.
pub const REPLIES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most memory that it takes to list one reply while it waits, in bytes: a GSO batch with its
/// peer's address, and one iovec each for the written and for the echoed bytes. Checked in
/// `src/datagram/replies.rs`.
pub(crate) const REPLY_OVERHEAD_BYTES: usize = 160;

// ---- effects, notifications and tasks

/// Effects that one connection may queue before they are applied. A send to one other connection is
/// one effect, and `send_to_all` is one for each recipient. On reaching it the connection is
/// interrupted between two messages and continues in the next turn. It bounds what a pipeline of
/// messages can cause at once.
pub(crate) const EFFECTS_HIGH_WATERMARK: usize = 1024;

/// The same bound in bytes that wait to be sent to other connections. It bounds the memory that one
/// connection causes us to hold for others, overshot by one call.
pub(crate) const EFFECTS_HIGH_WATERMARK_BYTES: usize = 1024 * 1024;

/// Most effects queued at one time: `EFFECTS_HIGH_WATERMARK`, overshot by one callback of a
/// protocol. `send_to_all` queues one effect for each recipient. More is a panic. So many take 40
/// MiB, and are ten times the default `connections_max`.
pub const EFFECTS_MAX: usize = 1024 * 1024;

/// Most bytes that may wait for other connections until the call is over. A send beyond it is not
/// accepted, and its sender is notified with `Rejected`. A broadcast counts once, however many
/// connections receive it.
pub const EFFECTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Generations of connection ids that a reactor draws at once from the counter of the process. With
/// more, a process with very many short-lived reactors would begin to reuse ids sooner.
pub(crate) const GENERATIONS_PER_BLOCK: u32 = 256;

/// Most messages that wait for one connection: its mailbox. A turn delivers thousands, so more wait
/// only if the sender is faster than the loop. Beyond: the message is dropped, and its sender is
/// told ([`Notification::MailboxFull`](crate::Notification::MailboxFull)).
pub const MAILBOX_MESSAGES_MAX: usize = 1024;

/// Most tasks that may wait in the queue for the loop. A further task is not accepted: the error is
/// `SubmitErrorKind::Full`.
pub const TASKS_QUEUED_MAX: usize = 1024;

/// Capacity that the shared output scratch keeps from one drive to the next, in bytes. What a large
/// reply took beyond it is given back.
pub(crate) const OUTPUT_SCRATCH_BYTES: usize = 256 * 1024;

// ---- closing, timers and overload

/// How long no byte must have moved for a stop to count a connection as idle, in milliseconds. A
/// peer that is sending may have its next bytes still in its own kernel when ours has no more.
pub(crate) const DRAIN_QUIET_MS: u64 = 100;

/// How late a timer must be for its connection to be driven before `timer_expired` is called, in
/// milliseconds. Then the loop has been delayed, and may not have read input that arrived in time.
pub(crate) const TIMER_LATE_MS: u64 = 50;

/// Most blocks, 64 MiB in all, that are discarded from a lingering peer before it is closed.
pub(crate) const LINGER_BLOCKS_MAX: u16 = 16 * 1024;

/// The size of such a block, in bytes: a read counts as whole ones. The count fits two bytes.
pub(crate) const LINGER_BLOCK_BYTES: usize = 4 * 1024;

/// Memory of each connection beside what it holds, in bytes: slot, address, deadline and meter.
pub(crate) const SLOT_BYTES: usize = 256;

/// Backlog that listeners ask for unless their options say otherwise (listen(2)), in connections.
/// The kernel caps it at `net.core.somaxconn`.
pub(crate) const BACKLOG: u32 = 4096;

/// How long a connection without an idle timeout is silent before its peer's kernel is probed (TCP
/// keepalive, `TCP_KEEPIDLE` in tcp(7)), in seconds. Address translators and firewalls forget a
/// silent connection after some minutes, so the probes keep it alive there, too.
pub(crate) const KEEPALIVE_IDLE_SECONDS: u64 = 60;

/// How long after an unanswered probe the next one is sent (`TCP_KEEPINTVL`), in seconds.
pub(crate) const KEEPALIVE_INTERVAL_SECONDS: u64 = 20;

/// Unanswered probes after which the connection ends, as `Io(TimedOut)` (`TCP_KEEPCNT`): two
/// minutes after the peer has vanished. A few lost packets must not end it.
pub(crate) const KEEPALIVE_PROBES: u32 = 3;

const _: () = assert!(
    READ_BYTES_MAX <= STREAM_BYTES_PER_TURN_MAX,
    "a stream may move at least one full read in a turn"
);
const _: () =
    assert!(STREAM_BYTES_PER_TURN_MAX <= TURN_BYTES_MAX, "one stream has its whole share");
const _: () =
    assert!(STEP_COST_BYTES < READ_BYTES_MAX, "a stream takes at least one step in a turn");
const _: () = assert!(
    LOW_WATERMARK_BYTES < HIGH_WATERMARK_BYTES && HIGH_WATERMARK_BYTES < OUTPUT_BYTES_MAX,
    "low watermark < high watermark < bound"
);
const _: () = assert!(
    OUTPUT_BYTES_MAX <= EFFECTS_BYTES_MAX,
    "what one connection may hold can be sent in one call"
);
const _: () = assert!(
    EFFECTS_HIGH_WATERMARK < EFFECTS_MAX && EFFECTS_HIGH_WATERMARK_BYTES < EFFECTS_BYTES_MAX,
    "watermark < bound"
);
const _: () = assert!(
    DATAGRAM_BATCH * SEGMENTS_MAX * REPLY_OVERHEAD_BYTES < REPLIES_HIGH_WATERMARK_BYTES,
    "a batch that is only echoed is answered without a send in between"
);
const _: () = assert!(
    REPLIES_HIGH_WATERMARK_BYTES + DATAGRAM_BYTES_MAX_V6 + REPLY_OVERHEAD_BYTES
        <= REPLIES_BYTES_MAX,
    "below the high watermark there is room for any reply"
);
const _: () = assert!(
    SEGMENT_BYTES_MAX * SEGMENTS_MAX > DATAGRAM_BYTES_MAX,
    "a GSO batch is bounded by bytes too"
);
