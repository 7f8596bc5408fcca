//! A file's bytes, for a loop that must not wait for a disk.
//!
//! ```text
//!     read ──► in memory? ── yes ──► bytes
//!                  │ no
//!                  ▼
//!              the kernel is asked to fetch it; WouldBlock, so the connection rests ──► read
//!                  │ and FILE_TRIES_MAX times it was still not there, and nobody else has waited just now
//!                  ▼
//!              read and wait
//! ```
//!
//! Who waits holds up the loop. So of all files of a root together, one read is waited for in `FILE_WAIT_GAP_MS`, however many
//! clients ask for files on however slow a disk: the loop has at least as much time for everybody else.
//!
//! Linux alone can be asked for what is in memory, and not on every file system (not on tmpfs or NFS, say). Elsewhere each
//! piece is read and waited for: that is a step of the loop, of which each connection has a few in a turn.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::limits::{FILE_AHEAD_BYTES, FILE_FETCH_BYTES, FILE_TRIES_MAX, FILE_WAIT_GAP_MS};
use crate::sys;

/// What the readers of one root have in common: a disk, perhaps.
#[derive(Default)]
pub(super) struct Disk {
    /// Until then, nobody waits for it again.
    no_blocking_read_until: Cell<Option<Instant>>,
}

impl Disk {
    /// Reads with `read`, which may take as long as the disk likes; or not, if somebody has just waited.
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

pub(super) struct Reader {
    file: File,
    disk: Rc<Disk>,
    /// In bytes from the front: the next to be read.
    position: u64,
    /// Up to there, the kernel has been asked to fetch it. 0: all was in memory so far.
    read_ahead_until: u64,
    /// How often in a row the next byte was not there.
    pub(super) tries: u32,
    /// Can the system say what is in memory?
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
                // The end. But Linux 5.9 and 5.10 also say so of what is not in memory (preadv2(2), BUGS): so look.
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && self.tries < FILE_TRIES_MAX =>
                {
                    self.tries += 1;
                    self.read_ahead();
                    return Err(error);
                }
                // The disk is slow, or does not read ahead, or the kernel keeps what is there for later (a page that is
                // to start the next readahead is not given without waiting). If it fails, that will be said now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self
                        .disk
                        .blocking_read(sys::now, || self.file.read_at(into, self.position));
                }
                // EOPNOTSUPP, mostly. Whatever else it may be will be said again.
                Err(_) => self.has_nowait = false,
            }
        }
        self.file.read_at(into, self.position)
    }

    /// Has the kernel fetch what comes next, and a good deal more. That does not wait for the bytes (though it may for a place in
    /// the disk's queue, or for where on the disk they are).
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
            self.read_ahead(); // the rest of it will hardly be in memory
        }
        Ok(count)
    }
}

#[cfg(target_os = "linux")]
fn read_cached(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    Ok(preadv2(file, &mut [io::IoSliceMut::new(into)], position, ReadWriteFlags::NOWAIT)?)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(ErrorKind::Unsupported.into())
}

/// An advice: if it is not taken, the bytes are read a little later.
#[cfg(target_os = "linux")]
fn fetch(file: &File, position: u64, bytes: u64) {
    let advised = rustix::fs::fadvise(
        file,
        position,
        std::num::NonZeroU64::new(bytes),
        rustix::fs::Advice::WillNeed,
    );
    log::trace!("fadvise {position} {bytes} WILLNEED -> {advised:?}");
}

#[cfg(not(target_os = "linux"))]
fn fetch(_: &File, _: u64, _: u64) {}
