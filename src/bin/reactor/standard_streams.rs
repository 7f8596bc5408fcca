//! Standard input, output and error, whatever the parent has made of them.
//!
//! The parent or another process may have set O_NONBLOCK: it belongs to the open file description
//! (open(2)), which all of them share. Then a read that finds nothing yet fails with EAGAIN, and so
//! does a write that finds no room. That is no end and no failure, so a client waits with poll(2)
//! and tries again. The flag is not removed, since its owner relies on it.
//!
//! Invariant: only a client waits here without a bound, and its signals have their default action.
//! The line of an exit, which the server writes as well, waits a second at most.
//!
//! (Closed standard streams are no case: the runtime of the standard library opens /dev/null in
//! their place, so no socket gets their numbers.)

use std::io::{self, Read, Write};

/// Longest wait for room for the line of an exit, in milliseconds. Beyond it the line is lost: a
/// pipe that is not read would keep a process that has ended.
#[cfg(unix)]
const EXIT_LINE_WAIT_MS: i64 = 1000;

/// Returns standard input. It is not buffered.
#[cfg(unix)]
pub(crate) fn stdin() -> io::Result<impl Read + Send> {
    waiting::Waiting::new(&io::stdin())
}

#[cfg(not(unix))]
pub(crate) fn stdin() -> io::Result<impl Read + Send> {
    Ok(io::stdin())
}

/// Returns standard output. It is not buffered.
#[cfg(unix)]
pub(crate) fn stdout() -> io::Result<impl Write> {
    waiting::Waiting::new(&io::stdout())
}

#[cfg(not(unix))]
pub(crate) fn stdout() -> io::Result<impl Write> {
    Ok(io::stdout())
}

/// Writes the line of an exit to standard error. If it is closed or full, the exit status must do.
pub(crate) fn write_exit_line(line: &str) {
    let mut stderr = io::stderr();
    #[cfg(unix)]
    if waiting::stays_full(&stderr, EXIT_LINE_WAIT_MS) {
        return;
    }
    // One write: other processes may write to the same file.
    let _ = stderr.write_all(format!("{line}\n").as_bytes());
}

#[cfg(unix)]
mod waiting {
    use std::fs::File;
    use std::io::{self, ErrorKind, Read, Write};
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    /// A stream that may be non-blocking, read and written as if it were not.
    pub(super) struct Waiting(File);

    impl Waiting {
        /// Takes a descriptor of its own for the same stream: the standard library's would keep
        /// the rest of a line.
        pub(super) fn new(stream: &impl AsFd) -> io::Result<Waiting> {
            Ok(Waiting(stream.as_fd().try_clone_to_owned()?.into()))
        }

        /// Waits for `events` if `result` says that there are none yet. Returns the result if it
        /// is one.
        fn result_or_wait(
            &self,
            result: io::Result<usize>,
            events: PollFlags,
        ) -> Option<io::Result<usize>> {
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match poll(&mut [PollFd::new(&self.0, events)], None) {
                        Ok(_) | Err(Errno::INTR) => None,
                        Err(_) => Some(Err(error)), // trying again would spin
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => None,
                other => Some(other),
            }
        }
    }

    impl Read for Waiting {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            loop {
                let result = self.0.read(into);
                if let Some(result) = self.result_or_wait(result, PollFlags::IN) {
                    return result;
                }
            }
        }
    }

    impl Write for Waiting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            loop {
                let result = self.0.write(bytes);
                if let Some(result) = self.result_or_wait(result, PollFlags::OUT) {
                    return result;
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    /// Returns whether there is no room for `wait_ms` milliseconds. If poll(2) fails, that is not
    /// known, and a line that may wait is better than none.
    pub(super) fn stays_full(stream: &impl AsFd, wait_ms: i64) -> bool {
        let wait = Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
        poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&wait)) == Ok(0)
    }
}
