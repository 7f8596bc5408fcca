//! The names that the loop knows from mio, over a simulated kernel.
//!
//! A kernel is installed on a thread for as long as a test needs it. Each of the types below is a descriptor's number and the
//! kernel that it belongs to; what the calls mean is the kernel's affair (`kernel`, `stream`). Where no kernel is installed,
//! the clocks are the real ones and a datagram socket is the system's, so that the tests which want real datagrams have them.

#![allow(
    unreachable_pub,
    reason = "the trait stands in for a public one of mio's, in a public signature"
)]

pub(crate) mod batch_io;
pub(crate) mod errno;
pub(crate) mod kernel;
mod poll;
pub(crate) mod stream;
mod tcp;
mod udp;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

pub(crate) use mio::{Interest, Token};

use crate::sys::mio as system;
use kernel::Kernel;
pub(crate) use poll::{
    Bell, Event, Events, Poll, Registry, Source, Waker, is_priority, read_interest,
};
#[cfg(unix)]
pub(crate) use tcp::UnixListener;
pub(crate) use tcp::{
    TcpListener, TcpStream, connect, is_connected, listen, reset_on_close, set_nodelay,
};
pub(crate) use udp::{UdpSocket, bind_datagram, connect_datagram, is_own_address};

thread_local! {
    static INSTALLED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

type Shared = Rc<RefCell<Kernel>>;

/// A kernel that this thread's reactor runs on, until it is dropped.
pub(crate) struct Installed(pub(crate) Shared);

impl Installed {
    pub(crate) fn new(kernel: Kernel) -> Installed {
        let kernel = Rc::new(RefCell::new(kernel));
        INSTALLED.set(Some(kernel.clone()));
        Installed(kernel)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        INSTALLED.set(None);
    }
}

fn installed() -> Option<Shared> {
    INSTALLED.with_borrow(Clone::clone)
}

fn kernel() -> Shared {
    installed().expect("a test that makes a reactor has installed a kernel for it")
}

// ---- clocks

pub(crate) fn now() -> Instant {
    installed().map_or_else(system::now, |kernel| kernel.borrow().now())
}

pub(crate) fn wall_clock() -> SystemTime {
    installed().map_or_else(system::wall_clock, |kernel| kernel.borrow().wall_clock())
}

// ---- a descriptor

/// Closes itself, as those of the standard library do.
struct Descriptor {
    kernel: Shared,
    number: usize,
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl Descriptor {
    fn open(open: impl FnOnce(&mut Kernel) -> io::Result<usize>) -> io::Result<Descriptor> {
        let kernel = kernel();
        let number = open(&mut kernel.borrow_mut())?;
        Ok(Descriptor { kernel, number })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // After a panic in the kernel, nobody asks any more whether all was closed.
        if !std::thread::panicking() {
            self.kernel.borrow_mut().close(self.number);
        }
    }
}
