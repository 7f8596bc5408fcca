//! Every number of HTTP, once: its unit, its reason, and what happens on reaching it.

use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX};

/// The most empty lines before a request. RFC 9112 section 2.2 asks us to ignore one at least; whoever only sends these would
/// keep its connection for ever. Beyond: 400 and close.
pub const EMPTY_LINES_MAX: u8 = 8;

/// The largest request line with its line end, in bytes. RFC 9112 section 3 recommends at least 8,000; beyond: 414 and close.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;

/// The largest request head, in bytes. Beyond: 431 and close. Common servers allow 8 to 32 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The most digits of a Content-Length, zeros in front included. Beyond: 400 and close. No number of 64 bits needs more, and other
/// servers and proxies draw the line there too: what one of them refuses must not be a body to us.
pub const CONTENT_LENGTH_DIGITS_MAX: usize = 20;

/// The most header fields in a request. Beyond: 431 and close.
pub const HEADERS_MAX: usize = 64;

/// The largest request body that we read, in bytes, whether somebody takes it or it is skipped. Beyond: 413 and close.
pub const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// The most that is read of a streamed body at a time, in bytes. It is read when no more than the low mark waits, so that of
/// a body of any size, no more than both together is ever held.
pub const BODY_READ_BYTES_MAX: usize = 64 * 1024;

/// The most reads that a piece is made of. A body that comes in smaller bits makes a smaller piece: what it takes to read a bit is
/// paid by everybody who waits.
pub const BODY_READS_MAX: usize = 64;

/// How long a streamed body that has nothing yet is left alone, in milliseconds. Then it is read again.
pub const BODY_RETRY_MS: u64 = 1;

/// How much of a file that is not in memory the kernel is asked to fetch at a time, in bytes: what Linux reads ahead by
/// default (`read_ahead_kb`). Of a longer stretch it may drop the rest.
pub const FILE_FETCH_BYTES: u64 = 128 * 1024;

/// How far ahead of the reading, in bytes. At a connection's rest of [`BODY_RETRY_MS`] it allows 512 MB/s, more than most
/// disks have to give.
pub const FILE_AHEAD_BYTES: u64 = 4 * FILE_FETCH_BYTES;

/// How often the next byte of a file may be found not to be in memory yet. Then it is read and waited for, while everybody
/// else waits too: at a millisecond or more for each, that is later than a disk takes that is not busy.
pub const FILE_TRIES_MAX: u32 = 10;

/// How long nobody waits for a disk again, in milliseconds, once somebody has. Then the next read may be waited for. With a disk that
/// takes as long, everybody else has half of the time.
pub const FILE_WAIT_GAP_MS: u64 = 10;

/// The most descriptors that are held back for files, so that they can be opened also where connections have taken all others. A
/// file that is sent at once needs one for some microseconds, so all such files do with one; a long one, or a slow peer, needs
/// one for longer. When all are in use, too: 503.
pub const RESERVED_FDS_MAX: usize = 16;

/// No more are held back than one of so many that the process may have (`ulimit -n`).
pub const RESERVED_FDS_DIVISOR: usize = 8;

/// How long nothing more is logged of files that cannot be opened, for want of descriptors or because of the disk, in
/// milliseconds. Peers can bring that about as often as they like; the next line has the count.
pub const FILE_WARNING_GAP_MS: u64 = 10_000;

/// What the access log shows of a request line, in bytes. What is beyond is cut off, and `...` put in its place.
pub const ACCESS_LINE_BYTES_MAX: usize = 1024;

const _: () =
    assert!(REQUEST_LINE_BYTES_MAX <= HEAD_BYTES_MAX, "a legal request line fits in a head");
const _: () = assert!(
    HEAD_BYTES_MAX < INPUT_BYTES_MAX,
    "a legal head fits in the carried input, with room to see that it is too long"
);
const _: () = assert!(
    BODY_READ_BYTES_MAX as u64 <= FILE_AHEAD_BYTES,
    "the next piece is among what is fetched"
);
const _: () = assert!(
    HIGH_WATERMARK_BYTES + BODY_READ_BYTES_MAX < OUTPUT_BYTES_MAX,
    "a piece of a stream always fits, behind other answers too"
);
const _: () = assert!(
    BODY_BYTES_MAX + HIGH_WATERMARK_BYTES as u64 <= OUTPUT_BYTES_MAX as u64,
    "a body can be sent back, with a head"
);
