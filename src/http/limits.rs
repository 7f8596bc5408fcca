//! Every number of HTTP, once: its unit, its reason, and what happens on reaching it.
//!
//! The reactor's own numbers, and the timeouts that an operator may change, are in `src/limits.rs`.
//! It re-exports these, so users find all in one module.

use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX};

// ---- requests

/// Most empty lines before a request. RFC 9112 section 2.2 asks servers to ignore at least one. A
/// client that sends only empty lines would keep its connection for ever. Beyond: 400 and close.
pub const EMPTY_LINES_MAX: u8 = 8;

/// Longest request line with its line end, in bytes. RFC 9112 section 3 recommends at least 8,000.
/// Beyond: 414 and close.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;

/// Longest request head, in bytes. Common servers allow 8 to 32 KiB. Beyond: 431 and close.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most digits of a Content-Length, leading zeros included. No 64-bit number needs more, and other
/// servers and proxies have the same limit: what one of them rejects must not be a body to us.
/// Beyond: 400 and close.
pub const CONTENT_LENGTH_DIGITS_MAX: usize = 20;

/// Most header fields in a request. Beyond: 431 and close.
pub const HEADERS_MAX: usize = 64;

/// Largest request body that is read, in bytes, whether a responder takes it or it is skipped.
/// Beyond: 413 and close.
pub const BODY_BYTES_MAX: u64 = 1024 * 1024;

// ---- streamed response bodies

/// Most bytes of a streamed body that are read at a time. The body is read only while no more
/// output waits than the low watermark. So of a body of any size, no more than both together is
/// ever in memory.
pub const BODY_READ_BYTES_MAX: usize = 64 * 1024;

/// Most reads that fill one piece of a streamed body. A body that comes in small reads makes a
/// smaller piece, because the time for each read delays every other source.
pub const BODY_READS_MAX: usize = 64;

/// How long a streamed body without bytes to read yet is left alone, in milliseconds. Then it is
/// read again.
pub const BODY_RETRY_MS: u64 = 1;

// ---- files

/// How much of a file that is not in memory the kernel is asked to read ahead at a time, in bytes.
/// It is Linux's default (`read_ahead_kb`): of a longer stretch the kernel may drop the rest.
pub const FILE_FETCH_BYTES: u64 = 128 * 1024;

/// How far the kernel is asked to read ahead of the next byte to be sent, in bytes. With a pause of
/// [`BODY_RETRY_MS`] between reads it allows 512 MB/s, more than most disks can deliver.
pub const FILE_AHEAD_BYTES: u64 = 4 * FILE_FETCH_BYTES;

/// How often the next byte of a file may be found not to be in memory yet. Then a blocking read
/// fetches it, while all other sources wait. At a millisecond or more for each retry, that is later
/// than an idle disk needs.
pub const FILE_TRIES_MAX: u32 = 10;

/// Shortest time between two blocking reads of a file, in milliseconds. Until it is over, no read
/// may wait for the disk. If each blocking read takes as long, the other sources still have half of
/// the time.
pub const FILE_WAIT_GAP_MS: u64 = 10;

/// Most descriptors that are reserved for files, so that files can be opened even if connections
/// have taken all others. A file that is sent at once needs a descriptor for some microseconds, so
/// all such files share one. A long file, or a slow peer, needs one for longer. When these are in
/// use, too: 503.
pub const RESERVED_FDS_MAX: usize = 16;

/// At most one part in this many of the process's descriptor limit (`ulimit -n`) is reserved.
pub const RESERVED_FDS_DIVISOR: usize = 8;

// ---- logs

/// Shortest time between two log lines about files that cannot be opened, for want of descriptors
/// or because of the disk, in milliseconds. Peers can cause these errors as often as they like. The
/// next line has the count.
pub const FILE_WARNING_GAP_MS: u64 = 10_000;

/// Most bytes of a request line that the access log shows. The rest is cut off and replaced by
/// `...`.
pub const ACCESS_LINE_BYTES_MAX: usize = 1024;

const _: () =
    assert!(REQUEST_LINE_BYTES_MAX <= HEAD_BYTES_MAX, "a legal request line fits in a head");
const _: () = assert!(
    HEAD_BYTES_MAX < INPUT_BYTES_MAX,
    "a legal head fits in the kept input, with room to see that a longer one is too long"
);
const _: () = assert!(
    BODY_READ_BYTES_MAX as u64 <= FILE_AHEAD_BYTES,
    "the next piece is among the bytes that are read ahead"
);
const _: () = assert!(
    HIGH_WATERMARK_BYTES + BODY_READ_BYTES_MAX < OUTPUT_BYTES_MAX,
    "a piece of a streamed body always fits, even behind other responses"
);
const _: () = assert!(
    BODY_BYTES_MAX + HIGH_WATERMARK_BYTES as u64 <= OUTPUT_BYTES_MAX as u64,
    "a request body can be sent back, with a head"
);
