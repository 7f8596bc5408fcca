//! Descriptors that are kept for files.
//!
//! Connections and files draw on the same number of descriptors, and connections draw first: when the last has been accepted, no
//! file could be opened for any of them. So some are held back, as copies of the root's, and where a file finds no other, one
//! of them gives way. When the file is closed, another copy is made at once, before anybody can be accepted in its place.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use cap_std::fs::Dir;
use rustix::process::{Resource, getrlimit};

use crate::limits::{RESERVED_FDS_DIVISOR, RESERVED_FDS_MAX};
use crate::sys::errno::{self, OpenError};

pub(super) struct FdReserve {
    /// The root, of which they are copies.
    pub(super) root: Dir,
    count: usize,
    held: RefCell<Vec<Dir>>,
}

impl FdReserve {
    pub(super) fn of(root: Dir) -> Rc<FdReserve> {
        let descriptors_max =
            getrlimit(Resource::Nofile).current.and_then(|current| usize::try_from(current).ok());
        let count = descriptors_max
            .map_or(RESERVED_FDS_MAX, |most| RESERVED_FDS_MAX.min(most / RESERVED_FDS_DIVISOR));
        let spares =
            Rc::new(FdReserve { root, count, held: RefCell::new(Vec::with_capacity(count)) });
        spares.fill();
        spares
    }

    /// Opens something with `open`, for which spares give way if need be: one, or more where cap-std has to walk a path by itself.
    /// They are to be made good: see [`ReservedFd`].
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

    /// Makes good what has given way, as far as there is room.
    fn fill(&self) {
        let mut held = self.held.borrow_mut();
        while held.len() < self.count
            && let Ok(copy) = self.root.try_clone()
        {
            held.push(copy);
        }
    }
}

/// While it lives, a spare may have given way. It is dropped behind what was opened.
pub(super) struct ReservedFd(Rc<FdReserve>);

impl ReservedFd {
    pub(super) fn of(spares: &Rc<FdReserve>) -> ReservedFd {
        ReservedFd(Rc::clone(spares))
    }
}

impl Drop for ReservedFd {
    fn drop(&mut self) {
        self.0.fill();
    }
}
