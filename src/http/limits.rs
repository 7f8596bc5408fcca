//! Every number of HTTP, once: its unit, its reason, and what happens on reaching it.
//!
//! The reactor's own numbers, and the timeouts that an operator may change, are in `src/limits.rs`.
//! Those of files are in `src/http/files/limits.rs`. `docs/limits.md` lists all of them.

use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX};

// ---- requests

/// Most empty lines before a request. RFC 9112 section 2.2 asks servers to ignore at least one. A
/// client that sends only empty lines would keep its connection for ever. Beyond: 400 and close.
pub(crate) const EMPTY_LINES_MAX: u8 = 8;

/// Longest method, in bytes. The longest registered one, UPDATEREDIRECTREF, has 17 (RFC 9110
/// section 16.1.2); the rest is for others. A longer word is no method: 501 and close, without
/// waiting for the end of its line (RFC 9112 section 3).
pub(crate) const METHOD_BYTES_MAX: usize = 24;

/// Longest request line with its line end, in bytes. RFC 9112 section 3 recommends at least 8,000.
/// Beyond: 414 and close.
pub(crate) const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;

/// How long it takes to write a line of the access log, in microseconds: a poll(2) and a write(2),
/// as the program does it. The turn is charged for it.
pub(crate) const LOG_LINE_US: u64 = 10;

/// Longest request head, in bytes. Common servers allow 8 to 32 KiB. Beyond: 431 and close. A
/// longer head of a response that a gateway reads is invalid.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most digits of a Content-Length, leading zeros included. No 64-bit number needs more, and other
/// servers and proxies have the same limit: what one of them rejects must not be a body to us.
/// Beyond: 400 and close.
pub(crate) const CONTENT_LENGTH_DIGITS_MAX: usize = 20;

/// Most header fields in a request. Beyond: 431 and close. A response with more that a gateway
/// reads is invalid.
pub(crate) const HEADERS_MAX: usize = 64;

/// Largest request body that is read, in bytes, whether a responder takes it or it is skipped.
/// Beyond: 413 and close.
pub(crate) const BODY_BYTES_MAX: u64 = 1024 * 1024;

// ---- streamed response bodies

/// Most bytes of a streamed body that are read at a time. The body is read only while no more
/// output waits than the low watermark. So of a body of any size, no more than both together is
/// ever in memory.
pub(crate) const BODY_READ_BYTES_MAX: usize = 64 * 1024;

/// Most reads that fill one piece of a streamed body. A body that comes in small reads makes a
/// smaller piece, because the time for each read delays every other source.
pub(crate) const BODY_READS_MAX: usize = 64;

/// How long a streamed body without bytes to read yet is left alone at first, in milliseconds. Then
/// it is read again. Each further read without bytes doubles the time, up to `BODY_RETRY_MS_MAX`,
/// and any byte sets it back.
pub(crate) const BODY_RETRY_MS: u64 = 1;

/// Longest time that a streamed body without bytes is left alone, in milliseconds. A body that
/// waits for long costs ten reads a second, and a byte that comes is sent no later than that.
pub(crate) const BODY_RETRY_MS_MAX: u64 = 100;

// ---- late answers

/// How long a client waits for a promised answer unless the responder says otherwise, in
/// milliseconds. It is what proxies commonly wait for a server. Beyond: 504.
pub(crate) const ANSWER_DEADLINE_MS_DEFAULT: u64 = 60_000;

/// Longest time that a client waits for a promised answer, in milliseconds: a day. A longer
/// deadline counts as this one.
pub(crate) const ANSWER_DEADLINE_MS_MAX: u64 = 24 * 3_600_000;

/// Longest time that an answer goes on, in milliseconds: a day. Beyond: it is ended with a FIN, and
/// its client asks again. So a client that has vanished without a word holds its connection no
/// longer, even if nothing is sent to it.
pub(crate) const ONGOING_MS_MAX: u64 = 24 * 3_600_000;

// ---- responses

/// Longest head of a response that an application can compose, in bytes, without the date and the
/// Connection field. Common clients take 16 to 256 KiB. Beyond: an error for the application when
/// it adds the field.
pub(crate) const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;

/// Longest content type, in bytes. A type and a subtype have at most 127 each (RFC 6838 section
/// 4.2); the rest is for parameters. Beyond: an error for the application when it makes the type.
pub(crate) const CONTENT_TYPE_BYTES_MAX: usize = 1024;

// ---- logs

/// Most bytes of a request line that the access log shows. The rest is cut off and replaced by
/// `...`.
pub(crate) const ACCESS_LINE_BYTES_MAX: usize = 1024;

/// Most bytes of a refused request that the debug log shows. It is enough to see what sent them.
pub(crate) const REFUSED_BYTES_SHOWN_MAX: usize = 32;

const _: () =
    assert!(REQUEST_LINE_BYTES_MAX <= HEAD_BYTES_MAX, "a legal request line fits in a head");
const _: () = assert!(
    HEAD_BYTES_MAX < INPUT_BYTES_MAX,
    "a legal head fits in the kept input, with room to see that a longer one is too long"
);
const _: () = assert!(
    HEAD_BYTES_MAX <= u16::MAX as usize && HEADERS_MAX <= u8::MAX as usize,
    "what is known of an unfinished head fits into a few bytes"
);
const _: () = assert!(
    HIGH_WATERMARK_BYTES + 2 * RESPONSE_HEAD_BYTES_MAX + BODY_READ_BYTES_MAX < OUTPUT_BYTES_MAX,
    "a head and a piece of a body always fit, even after other responses"
);
const _: () =
    assert!(CONTENT_TYPE_BYTES_MAX < RESPONSE_HEAD_BYTES_MAX / 2, "a type always fits in a head");
const _: () = assert!(
    BODY_BYTES_MAX + HIGH_WATERMARK_BYTES as u64 <= OUTPUT_BYTES_MAX as u64,
    "a request body can be sent back, with a head"
);
