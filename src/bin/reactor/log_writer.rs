//! The log's path to standard error: it drops lines rather than block the loop.
//!
//! Standard error may be a pipe that is not read. Then write(2) blocks, and it is the loop that
//! writes: no connection is served any more, and no signal is handled. So poll(2) is asked before
//! each write whether there is room.
//!
//! ```text
//!     line ──► is there room? ── yes ──► written
//!                    └────────── no ───► dropped and counted: when there is room again,
//!                                        a line with the count comes first
//! ```
//!
//! Invariant: no write is longer than the room that poll(2) has reported (see the numbers below).
//!
//! The descriptor stays blocking. O_NONBLOCK would be simpler, but it is a property of the open
//! file description (open(2)), which the shell and other processes share: they would find it
//! changed.
//!
//! Two things still block: a disk, if the log is a file on it, and a pipe whose room another
//! process takes between poll(2) and our write. If lines are dropped at the very end, no line
//! reports it.
//!
//! The address lines on standard output go this way, too, and the log reports how many are missing.
//! A panic message is written directly, and so is the line of an exit, which waits for room a
//! second at most (`standard_streams.rs`).

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use memchr::memchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Longest single write to anything but a terminal, in bytes; a longer line is written in parts. It
/// is POSIX's PIPE_BUF: such a write is atomic, and Linux reports a pipe as writable when it has a
/// free page, which is at least as large. A socket is reported when a good part of its buffer is
/// free, which is more.
const WRITE_BYTES_MAX: usize = 4096;

/// Longest single write to a terminal, in bytes; the end of a line is written on its own. Linux
/// counts a terminal's memory in pieces of this size, and may report it as writable when one is
/// left. So `write_line` asks poll(2) again before the line end, which the terminal turns into two
/// bytes.
const TERMINAL_WRITE_BYTES_MAX: usize = 256;

/// The writer that env_logger calls once for each line.
pub(crate) struct LogWriter<W> {
    to: W,
    is_terminal: bool,
    /// The line written last lacks its end.
    is_cut: bool,
    /// Lines dropped and not reported yet. A line that lacks only its line end is not counted.
    dropped: u64,
}

impl<W: Write + AsFd> LogWriter<W> {
    pub(crate) fn new(to: W) -> LogWriter<W> {
        let is_terminal = to.as_fd().is_terminal();
        LogWriter { to, is_terminal, is_cut: false, dropped: 0 }
    }

    /// Writes as much of `line` as there is room for. Returns whether all of its text was written.
    fn write_line(&mut self, line: &[u8]) -> bool {
        // A disk is full, or there is no reader: there is no other place to report the reason.
        let (written, _) = write_without_blocking(&mut self.to, self.is_terminal, line);
        let rest = &line[written..];
        if rest.len() < line.len() {
            self.is_cut = !rest.is_empty();
        }
        rest.is_empty() || (self.is_cut && rest == b"\n")
    }
}

impl<W: Write + AsFd> Write for LogWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_cut {
            self.write_line(b"\n");
        }
        if self.dropped > 0 && !self.is_cut {
            let note =
                format!("reactor: {} log lines dropped: no room to write them\n", self.dropped);
            if self.write_line(note.as_bytes()) {
                self.dropped = 0;
            }
        }
        // A line never continues a cut one, and never comes before the count of lines dropped ahead
        // of it.
        let is_written = self.dropped == 0 && !self.is_cut && self.write_line(line);
        self.dropped += u64::from(!is_written);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes as much of `text` as there is room for. Returns how many bytes that is and, if it is not
/// all, the reason.
fn write_without_blocking(
    to: &mut (impl Write + AsFd),
    is_terminal: bool,
    text: &[u8],
) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < text.len() {
        if !has_room(to) {
            let reason = io::Error::new(ErrorKind::WouldBlock, "no room to write them");
            return (written, Some(reason));
        }
        match to.write(next_chunk(&text[written..], is_terminal)) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Writes `lines` to standard output as far as there is room.
///
/// # Errors
///
/// How many lines are missing, and why.
pub(crate) fn print_lines(lines: &str) -> Result<(), String> {
    // A descriptor of its own for the same output: `io::Stdout` would keep the rest of a line.
    let (written, reason) = match io::stdout().as_fd().try_clone_to_owned() {
        Ok(descriptor) => {
            let mut to = File::from(descriptor);
            let is_terminal = to.is_terminal();
            write_without_blocking(&mut to, is_terminal, lines.as_bytes())
        }
        Err(error) => (0, Some(error)),
    };
    let Some(reason) = reason else { return Ok(()) };
    let missing = lines.as_bytes()[written..].split_inclusive(|&byte| byte == b'\n').count();
    Err(format!("{missing} of {} lines lost: {reason}", lines.lines().count()))
}

/// Returns whether a write would not block. poll(2) reports an error as writable, too: that write
/// fails at once.
pub(crate) fn has_room(to: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(to, PollFlags::OUT)], Some(&now)) {
        Ok(count) => count > 0,
        // A sandbox refuses the call (seccomp(2)). A log that may block is better than none.
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => true,
        Err(_) => false, // memory is short, or a signal arrived before there was room
    }
}

/// Returns as much of `rest` as one write may have.
fn next_chunk(rest: &[u8], is_terminal: bool) -> &[u8] {
    if !is_terminal {
        return &rest[..rest.len().min(WRITE_BYTES_MAX)];
    }
    let length = match memchr(b'\n', rest) {
        Some(0) => 1, // the line end itself
        Some(text) => text,
        None => rest.len(),
    };
    &rest[..length.min(TERMINAL_WRITE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Runs `action` in a thread of its own, and fails if it blocks.
    #[track_caller]
    fn without_blocking<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        thread::spawn(move || sender.send(action()));
        result.recv_timeout(TIMEOUT).expect("it neither blocks nor panics")
    }

    /// Returns a log line that begins with its number and has at least `bytes` bytes.
    fn line(number: usize, bytes: usize) -> String {
        format!(
            "{number} {:x<width$}\n",
            "",
            width = bytes.saturating_sub(format!("{number} \n").len())
        )
    }

    /// Logs the lines from `first` on while nothing reads them. Returns the number of the next
    /// line.
    fn log_unread<W: Write + AsFd + Send + 'static>(
        mut log: LogWriter<W>,
        first: usize,
        bytes: usize,
    ) -> (LogWriter<W>, usize) {
        without_blocking(move || {
            let last = first + 200_000 / bytes;
            (first..last).for_each(|number| log.write_all(line(number, bytes).as_bytes()).unwrap());
            (log, last)
        })
    }

    /// Checks that `read` has all lines in order, and in place of missing ones their count. Before
    /// a count there may be the beginning of the first missing line. Returns the number of gaps.
    #[track_caller]
    fn check_complete(read: &str, lines: usize, bytes: usize) -> usize {
        let (mut next, mut gaps, mut is_cut) = (0, 0, false);
        for text in read.lines() {
            let expected = line(next, bytes);
            if let Some(rest) = text.strip_prefix("reactor: ") {
                let dropped = rest.split_once(" log lines dropped").unwrap().0;
                next += dropped.parse::<usize>().unwrap();
                gaps += 1;
                is_cut = false;
            } else {
                assert!(
                    !is_cut && !text.is_empty() && expected.starts_with(text),
                    "{next} is expected, not {text}"
                );
                is_cut = text != expected.trim_end();
                next += usize::from(!is_cut);
            }
        }
        assert!(
            next == lines && !is_cut && read.ends_with('\n'),
            "{next} of {lines} are written or counted"
        );
        gaps
    }

    #[test]
    fn full_pipe_drops_and_counts_lines_and_keeps_the_others_whole() {
        // The pipe is filled and then emptied, three times. At the end there is room for one more
        // line. The longest lines may be cut, because only a part of the last one fits.
        for bytes in [10, 100, 4095, 4096, 4097, 10_000] {
            let (mut reader, writer) = io::pipe().unwrap();
            let mut log = LogWriter::new(writer);
            let (mut read, mut next) = (Vec::new(), 0);
            for _ in 0..3 {
                (log, next) = log_unread(log, next, bytes);
                (reader, read) = without_blocking(move || {
                    // One read empties the pipe.
                    let mut chunk = vec![0; 1024 * 1024];
                    let count = reader.read(&mut chunk).unwrap();
                    read.extend_from_slice(&chunk[..count]);
                    (reader, read)
                });
            }
            log.write_all(line(next, bytes).as_bytes()).unwrap();
            drop(log);
            reader.read_to_end(&mut read).unwrap();
            assert_eq!(
                check_complete(&String::from_utf8(read).unwrap(), next + 1, bytes),
                3,
                "lines of {bytes} bytes"
            );
        }
    }

    #[test]
    fn reader_that_keeps_up_misses_no_line() {
        // Each line is read before the next is written.
        let (reader, writer) = io::pipe().unwrap();
        let (mut log, mut reader) = (LogWriter::new(writer), BufReader::new(reader));
        let mut read = String::new();
        for number in 0..10_000 {
            log.write_all(line(number, 100).as_bytes()).unwrap();
            reader.read_line(&mut read).unwrap();
        }
        assert_eq!(check_complete(&read, 10_000, 100), 0);
    }

    #[test]
    fn closed_pipe_and_full_disk_drop_every_line() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(log_unread(LogWriter::new(writer), 0, 100).0.dropped, 2000);
        if let Ok(full) = File::options().write(true).open("/dev/full") {
            assert_eq!(log_unread(LogWriter::new(full), 0, 100).0.dropped, 2000);
        }
    }

    // pitfall: 69
    #[test]
    #[cfg(target_os = "linux")]
    fn unread_terminal_does_not_block_the_log() {
        // The other end of the terminal is ours, and is not read. A terminal whose network
        // connection hangs behaves like that, and so does Ctrl-S.
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use std::os::unix::fs::OpenOptionsExt;
        for bytes in [10, 100, 128, 256, 257, 1000, 10_000] {
            let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&screen).unwrap();
            unlockpt(&screen).unwrap();
            let name = ptsname(&screen, Vec::new()).unwrap();
            let noctty = OpenptFlags::NOCTTY.bits().cast_signed(); // no controlling terminal
            let terminal = File::options()
                .write(true)
                .custom_flags(noctty)
                .open(name.to_str().unwrap())
                .unwrap();
            let log = LogWriter::new(terminal);
            assert!(log.is_terminal);
            let (mut log, mut lines) = log_unread(log, 0, bytes);
            // The kernel moves bytes on within the terminal, perhaps only now. That makes room for
            // the count, which then begins anew; but a terminal has an end.
            for _ in 0..10 {
                if log.dropped == 0 {
                    (log, lines) = log_unread(log, lines, bytes);
                }
            }
            assert!(
                (1..lines as u64).contains(&log.dropped),
                "{} of {lines} lines of {bytes} bytes",
                log.dropped
            );
        }
    }
}
