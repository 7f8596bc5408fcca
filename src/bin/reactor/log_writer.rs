//! The log's way to standard error, which loses lines rather than wait.
//!
//! Standard error may be a pipe whose reader does not read. Then write(2) waits until it does, and who writes here is the loop:
//! everybody waits, and nothing is left that could meet a signal. So the kernel is asked before each write, with poll(2),
//! whether it would take something now.
//!
//! ```text
//!     line ──► is there room? ── yes ──► written
//!                    └────────── no ───► lost, and counted; a line that says how many is the first for which there is room again
//! ```
//!
//! "Room" is room for so many bytes and no more, so no write has more than that (see the numbers below).
//!
//! The descriptor is left as it is. To make it non-blocking would be simpler, but that is a property of what is open, and not
//! of our descriptor of it: the shell that has started us, and whatever else writes there, would find it changed.
//!
//! What is waited for all the same: a disk, if the log is a file on it; and the reader, if somebody else who writes to the same
//! pipe takes the room between our question and our write. Lines that are missing at the very end are not told of, if there is
//! none behind them. What is not the log is written as ever: the message of a panic, and the line in which the program says that
//! it has failed.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

use memchr::memchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The most that is written at a time to what is no terminal, in bytes; what is longer is written in pieces. It is what POSIX
/// calls PIPE_BUF: so much is written whole or not at all, and on Linux a pipe says that there is room when it has a free page,
/// which is at least as large. A socket says so when a good part of its buffer is free, which is more.
const PIECE_BYTES_MAX: usize = 4096;

/// The same for a terminal, where the end of a line is a piece of its own. Linux counts a terminal's memory in pieces of so many
/// bytes, and may say that there is room when there is one left. It asks anew behind the text of a line, for the two bytes that
/// its end becomes.
const TERMINAL_PIECE_BYTES_MAX: usize = 256;

/// The log, as env_logger writes it: one line with each call.
pub(crate) struct LogWriter<W> {
    to: W,
    is_terminal: bool,
    /// Does the last that was written lack the end of its line?
    is_cut: bool,
    /// How many lines are missing behind it. One that lacks its end and nothing else is not.
    lines_lost: u64,
}

impl<W: Write + AsFd> LogWriter<W> {
    pub(crate) fn new(to: W) -> LogWriter<W> {
        let is_terminal = to.as_fd().is_terminal();
        LogWriter { to, is_terminal, is_cut: false, lines_lost: 0 }
    }

    /// Writes `line`, or as much of it as finds room. Is all of its text there?
    fn put(&mut self, line: &[u8]) -> bool {
        let mut rest = line;
        while !rest.is_empty() && has_room(&self.to) {
            match self.to.write(first_iovec(rest, self.is_terminal)) {
                Ok(0) => break,
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // the disk is full, the reader has gone: there is nobody whom we could tell
            }
        }
        if rest.len() < line.len() {
            self.is_cut = !rest.is_empty();
        }
        rest.is_empty() || (self.is_cut && rest == b"\n")
    }
}

impl<W: Write + AsFd> Write for LogWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_cut {
            self.put(b"\n");
        }
        if self.lines_lost > 0 && !self.is_cut {
            let lost = self.lines_lost;
            let note = format!(
                "reactor: {lost} lines of the log are missing here, for which there was no room\n"
            );
            if self.put(note.as_bytes()) {
                self.lines_lost = 0;
            }
        }
        // No line runs into another, or comes before it is told what is missing in front of it.
        let is_there = self.lines_lost == 0 && !self.is_cut && self.put(line);
        self.lines_lost += u64::from(!is_there);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Would something be taken now, or refused? (poll(2) tells of an error as well, and a write that fails does not wait.)
fn has_room(to: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // It fails where memory is short, or where a signal has come before there was room.
    matches!(poll(&mut [PollFd::new(to, PollFlags::OUT)], Some(&now)), Ok(1..))
}

/// As much of `rest` as may be written at a time.
fn first_iovec(rest: &[u8], is_terminal: bool) -> &[u8] {
    if !is_terminal {
        return &rest[..rest.len().min(PIECE_BYTES_MAX)];
    }
    let length = match memchr(b'\n', rest) {
        Some(0) => 1, // the end itself
        Some(text) => text,
        None => rest.len(),
    };
    &rest[..length.min(TERMINAL_PIECE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{BufRead, BufReader, Read};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// The longest that anything here waits.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Does `what` in a thread of its own, and fails where that waits for something.
    #[track_caller]
    fn at_once<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || done.send(what()));
        is_done.recv_timeout(PATIENCE).expect("it waits, or has panicked")
    }

    /// A line of the log with its number in front, of `bytes` bytes at least.
    fn line(number: usize, bytes: usize) -> String {
        format!(
            "{number} {:x<width$}\n",
            "",
            width = bytes.saturating_sub(format!("{number} \n").len())
        )
    }

    /// Logs the lines from `first` on while nobody reads them, and returns the number of the next.
    fn stuff<W: Write + AsFd + Send + 'static>(
        mut log: LogWriter<W>,
        first: usize,
        bytes: usize,
    ) -> (LogWriter<W>, usize) {
        at_once(move || {
            let last = first + 200_000 / bytes;
            (first..last).for_each(|number| log.write_all(line(number, bytes).as_bytes()).unwrap());
            (log, last)
        })
    }

    /// What was read has all lines in their order, and for those that are missing their number where they ought to be. In front
    /// of that may be the beginning of the first of them. Returns how often some are missing.
    #[track_caller]
    fn check_story(read: &str, lines: usize, bytes: usize) -> usize {
        let (mut next, mut gaps, mut is_cut) = (0, 0, false);
        for text in read.lines() {
            let expected = line(next, bytes);
            if let Some(rest) = text.strip_prefix("reactor: ") {
                let lost: usize = rest.split_once(" lines of the log").unwrap().0.parse().unwrap();
                next += lost;
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
        assert!(next == lines && !is_cut && read.ends_with('\n'), "{next} of {lines} are told of");
        gaps
    }

    #[test]
    fn what_finds_no_room_in_a_pipe_is_counted_and_everything_else_is_whole() {
        // Nobody reads, then somebody reads all that is there, and so on; at last there is room for one line more. Of the longest
        // lines the pipe takes a part.
        for bytes in [10, 100, 4095, 4096, 4097, 10_000] {
            let (mut reader, writer) = io::pipe().unwrap();
            let mut log = LogWriter::new(writer);
            let (mut read, mut next) = (Vec::new(), 0);
            for _ in 0..3 {
                (log, next) = stuff(log, next, bytes);
                (reader, read) = at_once(move || {
                    // One read takes all that is there.
                    let mut some = vec![0; 1024 * 1024];
                    let count = reader.read(&mut some).unwrap();
                    read.extend_from_slice(&some[..count]);
                    (reader, read)
                });
            }
            log.write_all(line(next, bytes).as_bytes()).unwrap();
            drop(log);
            reader.read_to_end(&mut read).unwrap();
            assert_eq!(
                check_story(&String::from_utf8(read).unwrap(), next + 1, bytes),
                3,
                "lines of {bytes} bytes"
            );
        }
    }

    #[test]
    fn who_reads_as_fast_as_is_written_misses_nothing() {
        // A reader that is asked to read each line before the next is written.
        let (reader, writer) = io::pipe().unwrap();
        let (mut log, mut reader) = (LogWriter::new(writer), BufReader::new(reader));
        let mut read = String::new();
        for number in 0..10_000 {
            log.write_all(line(number, 100).as_bytes()).unwrap();
            reader.read_line(&mut read).unwrap();
        }
        assert_eq!(check_story(&read, 10_000, 100), 0);
    }

    #[test]
    fn where_the_reader_has_gone_or_the_disk_is_full_nothing_comes_of_it() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(stuff(LogWriter::new(writer), 0, 100).0.lines_lost, 2000);
        if let Ok(full) = File::options().write(true).open("/dev/full") {
            assert_eq!(stuff(LogWriter::new(full), 0, 100).0.lines_lost, 2000);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_terminal_that_shows_nothing_is_not_waited_for_either() {
        // Its other end is ours, and is not read: so it is with a terminal whose connection hangs. Ctrl-S comes to the same.
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use std::os::unix::fs::OpenOptionsExt;
        for bytes in [10, 100, 128, 256, 257, 1000, 10_000] {
            let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&screen).unwrap();
            unlockpt(&screen).unwrap();
            let name = ptsname(&screen, Vec::new()).unwrap();
            let noctty = OpenptFlags::NOCTTY.bits().cast_signed(); // a test has no use for a terminal of its own
            let terminal = File::options()
                .write(true)
                .custom_flags(noctty)
                .open(name.to_str().unwrap())
                .unwrap();
            let log = LogWriter::new(terminal);
            assert!(log.is_terminal);
            let (log, lines) = stuff(log, 0, bytes);
            assert!(
                (1..lines as u64).contains(&log.lines_lost),
                "{} of {lines} lines of {bytes} bytes",
                log.lines_lost
            );
        }
    }
}
