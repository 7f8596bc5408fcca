//! Reading a file without making the loop wait for a disk.
//!
//! ```text
//!     read ──► in memory? ── yes ──► bytes
//!                  │ no
//!                  ├──► ask the kernel to fetch it; WouldBlock: the connection retries ──► read
//!                  │
//!                  ▼ after FILE_TRIES_MAX tries, if no read has blocked within FILE_WAIT_GAP_MS
//!              blocking read
//! ```
//!
//! A blocking read stops the whole loop. So all files of one root together have one blocking read
//! in `FILE_WAIT_GAP_MS`, however many clients request files and however slow the disk is. The loop
//! has at least as much time for everything else.
//!
//! Only Linux can be asked whether bytes are in memory (preadv2(2), `RWF_NOWAIT`), and not on every
//! file system: not on tmpfs or NFS, for example. Elsewhere each piece is a blocking read. That is
//! one step of the loop, and a connection has few of them in a turn.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http::files::limits::{
    FILE_AHEAD_BYTES, FILE_FETCH_BYTES, FILE_TRIES_MAX, FILE_WAIT_GAP_MS,
};
use crate::sys;

/// What the readers of one root share, since they may share a disk.
#[derive(Default)]
pub(super) struct Disk {
    /// Earliest time of the next blocking read.
    no_blocking_read_until: Cell<Option<Instant>>,
}

impl Disk {
    /// Calls `read`, which may block for as long as the disk takes. `WouldBlock` without a call:
    /// another read has blocked within `FILE_WAIT_GAP_MS`.
    pub(super) fn blocking_read(
        &self,
        clock: impl Fn() -> Instant,
        read: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.no_blocking_read_until.get().is_some_and(|until| clock() < until) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = read();
        self.no_blocking_read_until.set(Some(clock() + Duration::from_millis(FILE_WAIT_GAP_MS)));
        result
    }
}

/// Reads one file from its beginning to its end.
pub(super) struct Reader {
    file: File,
    disk: Rc<Disk>,
    /// Offset of the next byte to be read.
    position: u64,
    /// Offset up to which the kernel has been asked to fetch. 0: all bytes were in memory so far.
    read_ahead_until: u64,
    /// How many times in a row the next byte was not in memory.
    pub(super) tries: u32,
    /// Whether the system can tell what is in memory.
    has_nowait: bool,
}

impl Reader {
    pub(super) fn new(file: File, disk: Rc<Disk>) -> Reader {
        Reader { file, disk, position: 0, read_ahead_until: 0, tries: 0, has_nowait: true }
    }

    fn read_at(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.has_nowait {
            match read_cached(&self.file, into, self.position) {
                Ok(count @ 1..) => return Ok(count),
                // The end of the file. But Linux 5.9 and 5.10 also return 0 for what is not in
                // memory (preadv2(2), BUGS), so read again below.
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && self.tries < FILE_TRIES_MAX =>
                {
                    self.tries += 1;
                    self.read_ahead();
                    return Err(error);
                }
                // The disk is slow, or does not read ahead, or the kernel holds a page back: one
                // that is to start the next readahead is not returned without waiting. A failing
                // read returns its error now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self
                        .disk
                        .blocking_read(sys::now, || self.file.read_at(into, self.position));
                }
                // EOPNOTSUPP, mostly. The read below returns any other error again.
                Err(_) => self.has_nowait = false,
            }
        }
        self.file.read_at(into, self.position)
    }

    /// Asks the kernel to fetch `FILE_AHEAD_BYTES` from the position. The call does not wait for
    /// the bytes, though it may wait for a place in the disk's queue or for the metadata that
    /// locates them.
    fn read_ahead(&mut self) {
        self.read_ahead_until = self.read_ahead_until.max(self.position);
        while self.read_ahead_until < self.position + FILE_AHEAD_BYTES {
            fetch(&self.file, self.read_ahead_until, FILE_FETCH_BYTES);
            self.read_ahead_until += FILE_FETCH_BYTES;
        }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(into)?;
        self.position += count as u64;
        self.tries = 0;
        if self.read_ahead_until > 0 {
            self.read_ahead(); // the rest is unlikely to be in memory
        }
        Ok(count)
    }
}

/// Reads only what is in memory. `WouldBlock`: it is not.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    Ok(preadv2(file, &mut [io::IoSliceMut::new(into)], position, ReadWriteFlags::NOWAIT)?)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(ErrorKind::Unsupported.into())
}

/// Advises the kernel to fetch (posix_fadvise(2)). If it does not, the bytes are read a little
/// later.
#[cfg(target_os = "linux")]
fn fetch(file: &File, position: u64, bytes: u64) {
    let bytes = std::num::NonZeroU64::new(bytes);
    let _ = rustix::fs::fadvise(file, position, bytes, rustix::fs::Advice::WillNeed);
}

#[cfg(not(target_os = "linux"))]
fn fetch(_: &File, _: u64, _: u64) {}
