//! The descriptor reserve: descriptors that are held back so that files can be opened.
//!
//! Connections and files share one limit of descriptors (`ulimit -n`). Connections come first: once
//! the last descriptor has been accepted, no file could be opened for any of them. So the reserve
//! holds some, as duplicates of the root's. When an open finds no other descriptor, a duplicate is
//! closed to make room for it.
//!
//! The other way round, files keep away from the descriptors that listeners are guaranteed. A new
//! file gets the lowest free number. So a number near the limit says that all below it are in use.
//!
//! Invariant: when the file is closed, the reserve is refilled at once, before a connection can be
//! accepted in its place.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use cap_std::fs::Dir;
use log::warn;

use crate::http::files::limits::{RESERVED_FDS_DIVISOR, RESERVED_FDS_MAX};
use crate::overload_limits::LISTENERS_MINIMUM_DIVISOR;
use crate::sys::errno::{self, OpenError};
use crate::sys::unix::descriptors_max;

pub(super) struct FdReserve {
    /// The root. The reserve consists of duplicates of its descriptor.
    pub(super) root: Dir,
    /// Files have lower numbers than this, unless the reserve makes room for one.
    files_end: usize,
    /// How many descriptors are held when the reserve is full.
    count: usize,
    held: RefCell<Vec<Dir>>,
}

impl FdReserve {
    pub(super) fn new(root: Dir) -> Rc<FdReserve> {
        let (count, files_end) = match descriptors_max() {
            Ok(most) => (
                RESERVED_FDS_MAX.min(most / RESERVED_FDS_DIVISOR),
                most - most / LISTENERS_MINIMUM_DIVISOR,
            ),
            Err(error) => {
                warn!("files: getrlimit refused ({error}): {RESERVED_FDS_MAX} reserved");
                (RESERVED_FDS_MAX, usize::MAX)
            }
        };
        let held = RefCell::new(Vec::with_capacity(count));
        let reserve = Rc::new(FdReserve { root, files_end, count, held });
        reserve.fill();
        reserve
    }

    /// Calls `open`, and closes descriptors of the reserve if it needs them: one, or more where
    /// cap-std has to walk a path itself. The caller holds a [`ReservedFd`], which refills the
    /// reserve.
    pub(super) fn open<T>(&self, open: impl Fn(&Dir) -> io::Result<T>) -> io::Result<T> {
        loop {
            match open(&self.root) {
                Err(error)
                    if errno::classify_open(&error) == OpenError::NoDescriptor
                        && self.held.borrow_mut().pop().is_some() => {}
                other => return other,
            }
        }
    }

    /// Opens a file with `open`, which stays open while it is sent. If it took a descriptor that is
    /// guaranteed to listeners, there is none for it.
    pub(super) fn open_file(&self, open: impl Fn(&Dir) -> io::Result<File>) -> io::Result<File> {
        self.open(|root| {
            let file = open(root)?;
            match usize::try_from(file.as_raw_fd()) {
                Ok(number) if number < self.files_end => Ok(file),
                _ => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            }
        })
    }

    /// Refills the reserve, as far as descriptors are available.
    fn fill(&self) {
        let mut held = self.held.borrow_mut();
        while held.len() < self.count
            && let Ok(copy) = self.root.try_clone()
        {
            held.push(copy);
        }
    }
}

/// A guard that refills the reserve when it is dropped. It must be dropped after the file that was
/// opened.
pub(super) struct ReservedFd(Rc<FdReserve>);

impl ReservedFd {
    pub(super) fn new(reserve: &Rc<FdReserve>) -> ReservedFd {
        ReservedFd(Rc::clone(reserve))
    }
}

impl Drop for ReservedFd {
    fn drop(&mut self) {
        self.0.fill();
    }
}
