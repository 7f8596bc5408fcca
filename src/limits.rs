//! Every number, once: its unit, its reason, and what happens on reaching it.
//!
//! What an operator may want to change is a field of [`Limits`]; what follows from the design is a constant. Relations
//! between the numbers are checked when compiling, at the end of this file.

pub use crate::http::limits::*;

/// What one turn of the loop may spend, and what one connection may hold.
///
/// All times are in milliseconds, all sizes in bytes; a time or a number of connections of 0 is taken for 1.
/// [`Limits::default`] is meant to be safe on the open Internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at one time. Beyond it the listeners rest, and new peers wait in the kernel's backlog until
    /// somebody leaves.
    pub connections_max: usize,
    /// The longest that no byte may move where the peer has never said anything. Then it ends as `FirstByteTimeout`, unless the next is
    /// shorter. Some clients connect in advance, but who has said something once is likelier to go on.
    pub first_byte_timeout_ms: u64,
    /// The longest a connection may live without a byte moving either way. Then it ends as `IdleTimeout`. One minute is what
    /// web servers commonly allow between two requests.
    pub idle_timeout_ms: u64,
    /// The longest a peer may take none of the bytes that wait for it. Then it ends as `WriteTimeout`. (The kernel takes bytes for the
    /// peer as long as it has room, so that somebody who reads nothing at all may have this time more than once.)
    pub write_timeout_ms: u64,
    /// The longest that it may take to reach the peer of a connection that we begin. Then it ends as `ConnectFailed`,
    /// `TimedOut`. Systems left to themselves try for two minutes, which is longer than anybody waits who wants something of
    /// us.
    pub connect_timeout_ms: u64,
    /// The longest that the head of an HTTP request may take to arrive, from its first byte to its last. Then it is answered
    /// 408, and the connection closes. A peer that sends a byte now and then does not extend it.
    pub head_timeout_ms: u64,
    /// The longest that the body of an HTTP request may take to arrive after its head. Then it is answered 408, and the connection
    /// closes.
    pub body_timeout_ms: u64,
    /// The longest that we read and discard after our FIN, so that unread input does not become a reset which destroys
    /// our last answer at the peer's. Then the connection is closed as it is.
    pub linger_timeout_ms: u64,
    /// The longest that a stop waits for the conversations under way. Then they end as `Stopped`.
    pub drain_timeout_ms: u64,
    /// Source ports that no datagram is answered at, besides port 0. By default those of the small services that answer
    /// whatever comes: echo (7), daytime (13), quotation (17), character generator (19) and time (37). One datagram forged in the name of
    /// such a service would set it and us talking for ever. A peer to whom an address translator has given such a port is
    /// refused too; that happens to few.
    pub unanswered_ports: Vec<u16>,
    /// What we ask the kernel to hold for each UDP socket, each way, in bytes. The kernel grants at most
    /// `net.core.rmem_max` and drops datagrams beyond it: a generous buffer bridges the pause between two turns.
    pub udp_buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 100_000,
            first_byte_timeout_ms: 30_000,
            idle_timeout_ms: 60_000,
            write_timeout_ms: 30_000,
            connect_timeout_ms: 10_000,
            head_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            linger_timeout_ms: 2_000,
            drain_timeout_ms: 5_000,
            unanswered_ports: vec![7, 13, 17, 19, 37],
            udp_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// The same, where a time or a count of 0, with which nothing could ever be served, has become 1.
    pub(crate) fn at_least_one(mut self) -> Limits {
        let times = [
            &mut self.first_byte_timeout_ms,
            &mut self.idle_timeout_ms,
            &mut self.write_timeout_ms,
            &mut self.connect_timeout_ms,
            &mut self.head_timeout_ms,
            &mut self.body_timeout_ms,
            &mut self.linger_timeout_ms,
            &mut self.drain_timeout_ms,
        ];
        times.into_iter().for_each(|ms| *ms = (*ms).max(1));
        self.connections_max = self.connections_max.max(1);
        self
    }

    /// The most memory that all connections together may come to hold, in bytes: the carried input and the waiting output of
    /// each, in vectors that have grown to twice their need. What protocols hold of their own comes on top.
    pub fn bytes_max(&self) -> u64 {
        let of_one = 2 * (INPUT_BYTES_MAX + READ_BYTES_MAX + OUTPUT_BYTES_MAX) as u64;
        of_one.saturating_mul(self.connections_max as u64)
    }
}

/// Events taken from the kernel in one turn. More wait for the next one: epoll hands them out round-robin, so nobody is
/// passed over. To close a connection takes the kernel up to 20 µs, so that even a turn in which all of them leave stays
/// below 10 ms.
pub const EVENTS_PER_TURN: usize = 256;

/// Connections accepted from one listener in one turn. Then the listener goes to the end of the queue, so that a flood
/// of newcomers cannot hold up those who are already here.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Deadlines looked at in one turn. The rest are due at once in the next, so that a hundred thousand which fall due together
/// do not hold up the others. Few, for the same reason: who is late is closed.
pub const EXPIRIES_PER_TURN: usize = 256;

/// The scratch that a stream is read into: the most bytes that one `recv` can bring. For bulk, 16 KiB costs up to 1.9
/// times as much per byte as 64 KiB; 256 KiB gains nothing more. A little over 64 KiB, so that a message of just that size
/// does not fill it to the last byte, which would cost a second `recv` to learn that there is no more.
pub const READ_BYTES_MAX: usize = 68 * 1024;

/// Bytes moved for one connection in one turn, either way, give or take two reads and their replies. Then it goes to the end of
/// the queue.
pub const SOURCE_BYTES_PER_TURN_MAX: u64 = 256 * 1024;

/// What each step of a connection (a read, a call for more) is charged beside the bytes that it moves, in bytes. Else one whose
/// protocol says a byte at a time would have the turn for a quarter of a million of calls.
pub const STEP_BYTES: u64 = 1024;

/// Bytes moved for all connections in one turn, give or take what one of them may move: everybody has an equal share of it, but
/// never less than one full read, and when it is used up, who has not been driven yet is the first in the next turn. So two
/// hundred bulk transfers that begin at the same moment keep a newcomer waiting until each has had one read's worth, and not
/// several. To share a turn among more saves calls, too.
pub const TURN_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Datagram batches answered by one socket in one turn. Then it goes to the end of the queue.
pub const DATAGRAM_BATCHES_PER_TURN: usize = 4;

/// Datagrams (or trains of them, with UDP_GRO) received in one call. More than 16 make receiving no cheaper, but the
/// answers to one peer leave together, up to 64 in a train.
pub const DATAGRAM_BATCH: usize = 64;

/// The largest payload of a UDP datagram over IPv4, in bytes (65,535 less the IP and UDP headers). A longer reply is not
/// sent and is counted in `datagrams_too_long`. A train is bounded by it too.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// The same over IPv6, whose own header does not count.
pub const DATAGRAM_BYTES_MAX_V6: usize = 65_527;

/// The largest datagrams that leave as a train (UDP_SEGMENT), in bytes: IPv6's least MTU of 1,280 less its headers, so
/// that a train fits every path. Longer datagrams leave one by one, where a train would gain little.
pub const SEGMENT_BYTES_MAX: usize = 1232;

/// The most datagrams in a train: the kernel's UDP_MAX_SEGMENTS.
pub const SEGMENTS_MAX: usize = 64;

/// Unconsumed input that a connection may carry from one read to the next, in bytes. A protocol that needs more for one
/// message refuses it earlier, in its own words; one that does not ends as `InputTooLong`.
pub const INPUT_BYTES_MAX: usize = READ_BYTES_MAX;

/// The high mark, in bytes: while this much output of its own protocol waits, the peer is neither read nor parsed. While
/// more waits in all, whoever sends to it from elsewhere is told.
pub const HIGH_WATERMARK_BYTES: usize = 64 * 1024;

/// The low mark, in bytes: when output has fallen to it, a paused protocol is asked for more.
pub const LOW_WATERMARK_BYTES: usize = 16 * 1024;

/// The most output that may wait on one connection, in bytes: the high mark, overshot by one reply. A protocol that
/// sends more at once than the peer takes ends its connection as `OutputOverflow`; it should pause and produce on `output_low`.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The high mark of a batch's replies, in bytes: what protocols wrote, and `REPLY_OVERHEAD_BYTES` for each. Beyond it, what
/// waits is sent before the next datagram is answered. It is also the capacity that what replies are composed in keeps from
/// one batch to the next. A whole batch of echoes, even behind a short prefix, stays below.
pub const REPLIES_HIGH_WATERMARK_BYTES: usize = 1024 * 1024;

/// The most that a batch's replies may take, in bytes, counted in the same way: the high mark, overshot by the replies to one
/// datagram. Any further reply to that datagram is dropped and counted in `datagrams_unsent`.
pub const REPLIES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What it takes at most to list one reply while it waits, in bytes: a train with its peer's address, and a piece each for what
/// was written and for what is echoed. Checked in `src/datagram/batch.rs`.
pub const REPLY_OVERHEAD_BYTES: usize = 160;

/// What one connection may ask to be done to others before that is done, in effects: a send to one other is one. Then it is
/// interrupted between two messages, and goes on in the next turn. It bounds what a pipeline of messages can set off at once.
pub const EFFECTS_HIGH_WATERMARK: usize = 1024;

/// The same, in bytes that wait to be put to others. It bounds what one connection makes us hold for them, but for one call.
pub const EFFECTS_HIGH_WATERMARK_BYTES: usize = 1024 * 1024;

/// What each effect is charged at least, in bytes: as if it had put so many to another. In one turn, no more is done to others than
/// [`TURN_BYTES_MAX`], overshot by what one connection asks for: 32,768 effects, which take some milliseconds. Then who
/// has not been driven yet waits for the next turn.
pub const EFFECT_BYTES: u64 = 256;

/// News told in one turn, or one part of `NOTIFICATIONS_PENDING_DIVISOR` of what there is, where that is more. The rest is told in the next. Somebody
/// may be watched by a hundred thousand.
pub const NOTIFICATIONS_PER_TURN: usize = 1024;

/// A part of so many is told at least. So where each turn makes more than the above, what waits does not grow beyond so many
/// turns' worth.
pub const NOTIFICATIONS_PENDING_DIVISOR: usize = 8;

/// The most effects of one call of a protocol, with what was asked for before it: the mark, overshot by one call. More is a
/// panic. It takes 40 MiB to note them, and is ten times a full house.
pub const EFFECTS_MAX: usize = 1024 * 1024;

/// The most bytes that may wait to be put to other connections until the call is over, in bytes. What is sent beyond is not
/// taken, and told as `Rejected`. A broadcast counts once, however many get it.
pub const EFFECTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most pieces of work that other threads may have waiting for the loop. More are not taken, and said to be `Full`.
pub const TASKS_QUEUED_MAX: usize = 1024;

/// Pieces of work run in one turn. Then the others go on. Few, since it is not known how long one takes.
pub const TASKS_PER_TURN: usize = 64;

/// Capacity that the shared output scratch keeps from one drive to the next, in bytes. What a large reply took beyond it
/// is given back.
pub const OUTPUT_SCRATCH_BYTES: usize = 256 * 1024;

/// How long nothing must have moved on a connection for a stop to take it for idle, in milliseconds. A peer that is sending
/// may have its next bytes still in its own kernel when ours has no more.
pub const DRAIN_QUIET_MS: u64 = 100;

/// How late an alarm must be for its connection to be looked at before it rings, in milliseconds: then the loop has been held
/// up, and may not have heard of what has come in time.
pub const TIMER_LATE_MS: u64 = 50;

/// What we discard from a lingering peer, in bytes, before we close although it still sends.
pub const LINGER_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// How long a listener rests after the kernel had no descriptor or memory for a new connection, in milliseconds, unless
/// one of ours ends earlier. A full house looks as often whether there is room.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// How long there must have been room for everybody before an episode of resting is over, in milliseconds. Under a crowd a
/// listener may rest many times a second; whatever peers do, its log has no more than two lines in this time.
pub const ACCEPT_RECOVERY_MS: u64 = 1000;

/// The most idle connections that give way at one time to those who wait. Then the search is made again after
/// [`ACCEPT_RETRY_MS`]. So a house that is full of idle ones lets in 160 newcomers a second. More would send away many where
/// perhaps nobody waits; fewer would pay for a search over all connections for little.
pub const EVICTIONS_MAX: usize = 16;

/// How long nothing must have moved on a connection for it to give way, in milliseconds. Longer than a round trip across
/// the world (300 ms): a peer that speaks again as soon as it has our answer is then heard, and not closed.
pub const EVICTION_IDLE_MS: u64 = 500;

/// When a crowd has left, its slots are given back if it had four times as many as this. A smaller one has no more memory than
/// a few buffers (a slot has 136 bytes).
pub const SHRINK_FLOOR_SLOTS: usize = 256;

/// The backlog that we ask for on listeners, in connections. The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

const _: () = assert!(
    READ_BYTES_MAX as u64 <= SOURCE_BYTES_PER_TURN_MAX,
    "a turn allows at least one full read"
);
const _: () =
    assert!(SOURCE_BYTES_PER_TURN_MAX <= TURN_BYTES_MAX, "one alone has its whole budget");
const _: () = assert!(
    LOW_WATERMARK_BYTES < HIGH_WATERMARK_BYTES && HIGH_WATERMARK_BYTES < OUTPUT_BYTES_MAX,
    "low mark < high mark < bound"
);
const _: () = assert!(OUTPUT_BYTES_MAX <= EFFECTS_BYTES_MAX, "what one may take can be sent");
const _: () = assert!(
    EFFECTS_HIGH_WATERMARK < EFFECTS_MAX && EFFECTS_HIGH_WATERMARK_BYTES < EFFECTS_BYTES_MAX,
    "mark < bound"
);
const _: () =
    assert!(ACCEPT_RETRY_MS < ACCEPT_RECOVERY_MS, "who still rests is not taken to have ease");
const _: () = assert!(DRAIN_QUIET_MS <= EVICTION_IDLE_MS, "who may give way is quiet");
const _: () = assert!(
    DATAGRAM_BATCH * SEGMENTS_MAX * REPLY_OVERHEAD_BYTES < REPLIES_HIGH_WATERMARK_BYTES,
    "a batch that is only echoed is answered in one go"
);
const _: () = assert!(
    REPLIES_HIGH_WATERMARK_BYTES + DATAGRAM_BYTES_MAX_V6 + REPLY_OVERHEAD_BYTES
        <= REPLIES_BYTES_MAX,
    "below the high mark, there is room for any reply"
);
const _: () = assert!(
    SEGMENT_BYTES_MAX * SEGMENTS_MAX > DATAGRAM_BYTES_MAX,
    "trains are bounded by bytes too"
);
