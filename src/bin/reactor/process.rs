//! What the process inherits, and what it does about it: signals, their mask, and limits.
//!
//! ```text
//!     SIGINT SIGTERM                         the first stops gracefully, the second ends at once
//!     SIGHUP SIGALRM SIGXCPU SIGPWR          stop gracefully, however often they come
//!     SIGUSR1 SIGUSR2 SIGVTALRM SIGPROF SIGIO
//!     SIGXFSZ                                do nothing
//!     SIGTTOU                                is blocked: the terminal takes what is written
//! ```
//!
//! All other signals keep their default action (signal(7)); docs/operating.md has the whole table.
//! Only the server handles signals. A client is ended by them, but for SIGXFSZ. (A load handles
//! SIGINT and SIGTERM, too, for the report.)
//!
//! Invariant: a signal that was ignored when the program was started (nohup(1)) stays ignored. Only
//! SIGINT and SIGTERM are always handled by a server, also behind `&` in a script: such a signal is
//! meant to stop it.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use log::info;
#[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::flag;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// Stop gracefully. The second of them ends the process at once.
const STOP: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// Stop gracefully and never force: they come in numbers (SIGHUP from a terminal and from its
/// shell, SIGXCPU once a second), or together with SIGTERM (SIGHUP from systemd).
const STOP_ONLY: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGALRM,
    Signal::SIGXCPU,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Signal::SIGPWR,
];

/// Have no meaning here, and their default action would end the process. A timer of the parent
/// (setitimer(2)) and the owner of a descriptor (fcntl(2), F_SETOWN) outlive execve(2).
const MEANINGLESS: [Signal; 5] =
    [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGVTALRM, Signal::SIGPROF, Signal::SIGIO];

/// What ends or suspends the process, if the parent has not blocked it.
const UNBLOCKED: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGTSTP];

/// Makes the process one that can be ended and whose files may be full. Every command begins so.
pub(crate) fn prepare() -> io::Result<()> {
    // A write beyond the file size limit fails with EFBIG then (setrlimit(2)). By default it would
    // end the process, although only a file for the log or the output is full.
    ignore(Signal::SIGXFSZ)?;
    // A mask outlives execve(2). With that of a careless parent, no signal would stop the process.
    let unblocked: SigSet = UNBLOCKED.iter().chain(STOP_ONLY).copied().collect();
    unblocked.thread_unblock()?;
    raise_descriptor_limit();
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one, which a process may do itself. If it
/// fails, the limit stays as it is, and the log has it.
///
/// The soft limit is low (1024 on many systems) for programs that use select(2), which fails
/// beyond that number. This one does not use it.
fn raise_descriptor_limit() {
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))] // where nix lacks the call
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // macOS has a bound of its own, whatever the hard limit is (OPEN_MAX, setrlimit(2) there).
        let raised = if cfg!(target_vendor = "apple") { hard.min(10_240) } else { hard };
        if raised > soft {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, raised, hard);
        }
    }
}

/// Returns how many descriptors the process may have open, where that is known.
pub(crate) fn descriptors_max() -> Option<libc::rlim_t> {
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    return None;
    #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

/// Lets the server write to its terminal from the background.
///
/// If the terminal is set to stop background processes that do (tostop, stty(1)), the first line of
/// the log would suspend the server. While SIGTTOU is blocked it is not sent, and the write
/// succeeds. (A handler would make the kernel try the write again without end.)
pub(crate) fn allow_background_output() -> io::Result<()> {
    SigSet::from(Signal::SIGTTOU).thread_block().map_err(io::Error::from)
}

/// The signals that stop the server, and the socket pair to which their handlers write.
#[derive(Clone)]
pub(crate) struct StopSignals(Rc<RefCell<SignalDelivery<UnixStream, SignalOnly>>>);

impl StopSignals {
    /// Returns the read end of the socket pair: the stop signal of a reactor.
    ///
    /// # Errors
    ///
    /// The system's error if there is no descriptor for it.
    pub(crate) fn read_end(&self) -> io::Result<UnixStream> {
        self.0.borrow().get_read().try_clone()
    }

    /// Logs the signals that have come since the last call.
    pub(crate) fn log(&self) {
        for number in self.0.borrow_mut().pending() {
            if let Ok(signal) = Signal::try_from(number) {
                info!("stop requested by {signal}");
            }
        }
    }
}

/// Makes signals write to a socket pair, and those that have no meaning here do nothing.
///
/// The second SIGINT or SIGTERM ends the process at once, with the status that a shell reports for
/// a process killed by that signal (128 + its number).
pub(crate) fn stop_on_signals() -> io::Result<StopSignals> {
    let ignored = ignored_signals();
    let may_stop = |signal: &Signal| !is_ignored(*signal, ignored);
    let stop_requested = Arc::new(AtomicBool::new(false));
    for number in STOP.map(|signal| signal as i32) {
        // The handlers run in this order: the first signal finds the flag unset, and sets it.
        flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&stop_requested))?;
        flag::register(number, Arc::clone(&stop_requested))?;
    }
    let (read_end, write_end) = UnixStream::pair()?;
    let stopping = STOP.into_iter().chain(STOP_ONLY.iter().copied().filter(may_stop));
    let numbers = stopping.map(|signal| signal as i32);
    let delivery = SignalDelivery::with_pipe(read_end, write_end, SignalOnly, numbers)?;
    for signal in MEANINGLESS {
        ignore(signal)?;
    }
    Ok(StopSignals(Rc::new(RefCell::new(delivery))))
}

/// Returns SIGTERM, and SIGINT unless it is ignored: the signals that end what a client does.
pub(crate) fn client_stop_signals() -> impl Iterator<Item = i32> {
    let ignored = ignored_signals();
    let may_stop =
        move |signal: &Signal| *signal == Signal::SIGTERM || !is_ignored(*signal, ignored);
    STOP.into_iter().filter(may_stop).map(|signal| signal as i32)
}

/// Gives `signal` a handler that does nothing of use, so that its default action is not taken.
fn ignore(signal: Signal) -> io::Result<()> {
    flag::register(signal as i32, Arc::default()).map(|_| ())
}

/// Returns the set of ignored signals, the lowest bit for signal 1 (proc(5), SigIgn). `None` where
/// it cannot be known without unsafe code: outside Linux, and without /proc.
fn ignored_signals() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// Returns whether `signal` is to stay as it is. Where that cannot be known, SIGHUP is: with its
/// default action it ends the process, but nohup(1) works.
fn is_ignored(signal: Signal, ignored: Option<u64>) -> bool {
    match ignored {
        Some(set) => set & (1 << (signal as i32 - 1)) != 0,
        None => signal == Signal::SIGHUP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_by_their_bit() {
        // SIGHUP is signal 1 and SIGINT is 2: those that nohup(1) and a background job ignore.
        assert!(is_ignored(Signal::SIGHUP, Some(0b01)) && !is_ignored(Signal::SIGINT, Some(0b01)));
        assert!(is_ignored(Signal::SIGINT, Some(0b10)) && !is_ignored(Signal::SIGHUP, Some(0b10)));
        assert!(is_ignored(Signal::SIGHUP, None) && !is_ignored(Signal::SIGINT, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_signal_that_rust_ignores_is_found() {
        // The runtime of the standard library ignores SIGPIPE.
        assert!(is_ignored(Signal::SIGPIPE, ignored_signals()));
    }
}
