//! The descriptor reserve: descriptors that are held back so that files can be opened.
//!
//! Connections and files share one limit of descriptors (`ulimit -n`). Connections come first: once
//! the last descriptor has been accepted, no file could be opened for any of them. So the reserve
//! holds some, as duplicates of the root's. When an open finds no other descriptor, a duplicate is
//! closed to make room for it.
//!
//! Invariant: when the file is closed, the reserve is refilled at once, before a connection can be
//! accepted in its place.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use cap_std::fs::Dir;
use log::warn;

use crate::http::files::limits::{RESERVED_FDS_DIVISOR, RESERVED_FDS_MAX};
use crate::sys::errno::{self, OpenError};

pub(super) struct FdReserve {
    /// The root. The reserve consists of duplicates of its descriptor.
    pub(super) root: Dir,
    /// How many descriptors are held when the reserve is full.
    count: usize,
    held: RefCell<Vec<Dir>>,
}

impl FdReserve {
    pub(super) fn new(root: Dir) -> Rc<FdReserve> {
        let count = descriptors_max()
            .map_or(RESERVED_FDS_MAX, |most| RESERVED_FDS_MAX.min(most / RESERVED_FDS_DIVISOR));
        let reserve =
            Rc::new(FdReserve { root, count, held: RefCell::new(Vec::with_capacity(count)) });
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

/// Returns how many descriptors the process may have, if that is known.
fn descriptors_max() -> Option<usize> {
    let max = crate::sys::unix::descriptors_max();
    max.inspect_err(|error| {
        warn!("files: getrlimit refused ({error}): {RESERVED_FDS_MAX} descriptors reserved");
    })
    .ok()
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
