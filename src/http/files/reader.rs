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
use crate::net;

/// What the readers of one root have in common: a disk, perhaps.
#[derive(Default)]
pub(super) struct Disk {
    /// Until then, nobody waits for it again.
    rests_until: Cell<Option<Instant>>,
}

impl Disk {
    /// Reads with `read`, which may take as long as the disk likes; or not, if somebody has just waited.
    pub(super) fn wait_for(
        &self,
        clock: impl Fn() -> Instant,
        read: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.rests_until.get().is_some_and(|until| clock() < until) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = read();
        self.rests_until.set(Some(clock() + Duration::from_millis(FILE_WAIT_GAP_MS)));
        result
    }
}

pub(super) struct Reader {
    file: File,
    disk: Rc<Disk>,
    /// In bytes from the front: the next to be read.
    position: u64,
    /// Up to there, the kernel has been asked to fetch it. 0: all was in memory so far.
    asked_until: u64,
    /// How often in a row the next byte was not there.
    pub(super) tries: u32,
    /// Can the system say what is in memory?
    can_tell: bool,
}

impl Reader {
    pub(super) fn new(file: File, disk: Rc<Disk>) -> Reader {
        Reader { file, disk, position: 0, asked_until: 0, tries: 0, can_tell: true }
    }

    fn read_at(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.can_tell {
            match read_what_is_in_memory(&self.file, into, self.position) {
                Ok(count @ 1..) => return Ok(count),
                // The end. But Linux 5.9 and 5.10 also say so of what is not in memory (preadv2(2), BUGS): so look.
                Ok(0) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && self.tries < FILE_TRIES_MAX =>
                {
                    self.tries += 1;
                    self.ask_ahead();
                    return Err(error);
                }
                // The disk is slow, or does not read ahead, or the kernel keeps what is there for later (a page that is
                // to start the next readahead is not given without waiting). If it fails, that will be said now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.disk.wait_for(net::now, || self.file.read_at(into, self.position));
                }
                // EOPNOTSUPP, mostly. Whatever else it may be will be said again.
                Err(_) => self.can_tell = false,
            }
        }
        self.file.read_at(into, self.position)
    }

    /// Has the kernel fetch what comes next, and a good deal more. That does not wait for the bytes (though it may for a place in
    /// the disk's queue, or for where on the disk they are).
    fn ask_ahead(&mut self) {
        self.asked_until = self.asked_until.max(self.position);
        while self.asked_until < self.position + FILE_AHEAD_BYTES {
            fetch(&self.file, self.asked_until, FILE_FETCH_BYTES);
            self.asked_until += FILE_FETCH_BYTES;
        }
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.read_at(into)?;
        self.position += count as u64;
        self.tries = 0;
        if self.asked_until > 0 {
            self.ask_ahead(); // the rest of it will hardly be in memory
        }
        Ok(count)
    }
}

#[cfg(target_os = "linux")]
fn read_what_is_in_memory(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    Ok(preadv2(file, &mut [io::IoSliceMut::new(into)], position, ReadWriteFlags::NOWAIT)?)
}

#[cfg(not(target_os = "linux"))]
fn read_what_is_in_memory(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
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
