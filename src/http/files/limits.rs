//! Every number of files over HTTP, once: its unit, its reason, and what happens on reaching it.

use crate::http::limits::BODY_READ_BYTES_MAX;

/// How long it takes to find a file, open it, read it and close it, in microseconds, if it is short
/// and in memory. The turn is charged for it ([`HttpContext::charge`](crate::HttpContext::charge)),
/// so that many such requests on some connections do not delay the others.
pub(crate) const FILE_LOOKUP_US: u64 = 35;

/// How much of a file that is not in memory the kernel is asked to read ahead at a time, in bytes.
/// It is Linux's default (`read_ahead_kb`): of a longer stretch the kernel may drop the rest.
pub(crate) const FILE_FETCH_BYTES: u64 = 128 * 1024;

/// How far the kernel is asked to read ahead of the next byte to be sent, in bytes. With a pause of
/// `BODY_RETRY_MS` between reads it allows 512 MB/s, more than most disks can deliver.
pub(crate) const FILE_AHEAD_BYTES: u64 = 4 * FILE_FETCH_BYTES;

/// How often the next byte of a file may be found not to be in memory yet. Then a blocking read
/// fetches it, while all other sources wait. With `BODY_RETRY_MS`, which doubles, that is after 15
/// ms or more, which is later than an idle disk needs.
pub(crate) const FILE_TRIES_MAX: u32 = 4;

/// Shortest time between two blocking reads of a file, in milliseconds. Until it is over, no read
/// may wait for the disk. If each blocking read takes as long, the other sources still have half of
/// the time.
pub(crate) const FILE_WAIT_GAP_MS: u64 = 10;

/// Most descriptors that are reserved for files, so that files can be opened even if connections
/// have taken all others. A file that is sent at once needs a descriptor for some microseconds, so
/// all such files share one. A long file, or a slow peer, needs one for longer. When these are in
/// use, too: 503.
pub(crate) const RESERVED_FDS_MAX: usize = 16;

/// At most one part in this many of the process's descriptor limit (`ulimit -n`) is reserved.
pub(crate) const RESERVED_FDS_DIVISOR: usize = 8;

/// Shortest time between two log lines about files that cannot be opened, for want of descriptors
/// or because of the disk, in milliseconds. Peers can cause these errors as often as they like. The
/// next line has the count.
pub(crate) const FILE_WARNING_GAP_MS: u64 = 10_000;

/// Earliest date of a file that says anything about its content, in seconds since 1970: the first
/// of January 1990, before the Web. Build tools and packagers give all files one date, so that the
/// same build is the same bytes: 0 or 1 (containers, Nix), 1980 (ZIP), 1985 (npm). Such a file gets
/// no `Last-Modified`, and is never 304. Caches would also keep it for years, as a part of its age
/// (RFC 9111 section 4.2.2).
pub(crate) const FILE_DATE_MIN_S: u64 = 631_152_000;

/// How long a file may change again without getting another date, in milliseconds: a second, which
/// is the unit of a date, and as much again for clocks of file systems that are a little behind.
/// While it is younger, it gets no `Last-Modified`, and is never 304.
pub(crate) const FILE_DATE_SETTLES_MS: u64 = 2_000;

const _: () = assert!(
    BODY_READ_BYTES_MAX as u64 <= FILE_AHEAD_BYTES,
    "the next piece is among the bytes that are read ahead"
);
