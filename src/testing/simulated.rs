//! mio's types and the system's clocks, replaced by a simulated kernel for the library's own tests.
//!
//! `src/sys.rs` names everything that the reactor asks of the operating system. In the program
//! these names are mio's; in the library's unit tests they are the ones below. So the tests run the
//! real loop, the real listeners and the real connections, and only what is beneath them is
//! replaced:
//!
//! ```text
//!   edge-triggered epoll   reports a change once; edges merge; some are spurious    kernel/epoll
//!   other selectors        rearm only on WouldBlock, as on Windows              kernel/rearming
//!   TCP and UDP sockets    buffers, backlog, FIN, RST and errors, as on Linux       stream, kernel
//!   two clocks             advance only within system calls, by microseconds        kernel
//!   peers                  actors that connect, send, read, pause and reset         kernel
//!   faults                 EINTR, ENOMEM, EMFILE, short writes, late scheduling …   kernel/faults
//! ```
//!
//! Every choice is drawn from random number generators that start from one *seed*: how long a call
//! takes, which fault occurs, in which order events are reported. The same seed gives the same run,
//! call by call. So a failure can be replayed as often as needed, and a minute of idle time costs a
//! microsecond.
//!
//! A test installs a kernel on its thread for as long as it needs it. Each type below is the number
//! of a descriptor and the kernel that it belongs to; what the calls do is in `kernel` and
//! `stream`. Where no kernel is installed, the clocks are the real ones and a datagram socket is
//! one of the system's, for the tests that need real datagrams.

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
use std::time::Instant;
#[cfg(feature = "http")]
use std::time::SystemTime;

pub(crate) use mio::{Interest, Token};

use crate::sys::mio as system;
pub(crate) use crate::sys::mio::read_interest;
use kernel::{Kernel, Selector};
#[cfg(unix)]
pub(crate) use poll::Descriptor;
pub(crate) use poll::{Event, Events, Poll, Registry, Source, StopSignal, Waker, is_priority};
pub(crate) use tcp::{
    TcpListener, TcpStream, accept, adopt_listener, adopt_stream, bound_unsent, connect,
    defer_accept, is_connected, listen, peer_state, reset_on_close, send_before_fin,
    set_accepted_options,
};
#[cfg(unix)]
pub(crate) use tcp::{UnixListener, adopt_unix_stream};
pub(crate) use udp::{
    UdpSocket, adopt_datagram, bind_datagram, connect_datagram, is_own_address, stop_receiving,
};

thread_local! {
    static INSTALLED: RefCell<Option<SharedKernel>> = const { RefCell::new(None) };
}

type SharedKernel = Rc<RefCell<Kernel>>;

/// A kernel that this thread's reactor runs on, until it is dropped.
pub(crate) struct Installed(pub(crate) SharedKernel);

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

fn installed() -> Option<SharedKernel> {
    INSTALLED.with_borrow(Clone::clone)
}

fn kernel() -> SharedKernel {
    installed().expect("a test that makes a reactor has installed a kernel for it")
}

/// As in `src/sys/mio.rs`. The tests that install no kernel expect what epoll proves.
pub(crate) fn rearms_only_on_would_block() -> bool {
    installed().is_some_and(|kernel| kernel.borrow().selector != Selector::Epoll)
}

// ---- clocks

pub(crate) fn now() -> Instant {
    installed().map_or_else(system::now, |kernel| kernel.borrow().now())
}

#[cfg(feature = "http")]
pub(crate) fn wall_clock() -> SystemTime {
    installed().map_or_else(system::wall_clock, |kernel| kernel.borrow().wall_clock())
}

// ---- a descriptor

/// Without a kernel of its own, a test has no listener.
pub(crate) fn descriptors_left() -> usize {
    let kernel = kernel();
    let kernel = kernel.borrow();
    kernel.faults.descriptors_max.saturating_sub(kernel.descriptors_open())
}

/// A descriptor that is closed when it is dropped, as the standard library's `OwnedFd` is.
struct OwnedDescriptor {
    kernel: SharedKernel,
    number: usize,
}

impl fmt::Debug for OwnedDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl OwnedDescriptor {
    fn open(open: impl FnOnce(&mut Kernel) -> io::Result<usize>) -> io::Result<OwnedDescriptor> {
        let kernel = kernel();
        let number = open(&mut kernel.borrow_mut())?;
        Ok(OwnedDescriptor { kernel, number })
    }

    /// Makes a call as mio's socket types do: mio sees whether it returns `WouldBlock`.
    fn call<T>(&self, call: impl FnOnce(&mut Kernel, usize) -> io::Result<T>) -> io::Result<T> {
        let mut kernel = self.kernel.borrow_mut();
        let result = call(&mut kernel, self.number);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            kernel.rearm(self.number)?;
        }
        result
    }
}

impl Drop for OwnedDescriptor {
    fn drop(&mut self) {
        // Unless the kernel itself has panicked: then it is borrowed.
        if let Ok(mut kernel) = self.kernel.try_borrow_mut() {
            kernel.close(self.number);
        }
    }
}
