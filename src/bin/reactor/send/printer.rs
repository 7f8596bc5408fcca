//! The reply, printed as it comes.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use super::Failure;

/// Prints the reply as it comes, byte for byte, as curl does. Only a terminal gets a line end behind it, lest the prompt of the
/// shell stand in the reply's last line.
pub(super) struct Output {
    stdout: io::Stdout,
    last: Option<u8>,
}

impl Output {
    pub(super) fn new() -> Output {
        Output { stdout: io::stdout(), last: None }
    }

    pub(super) fn print(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.last = bytes.last().copied().or(self.last);
        self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()).map_err(|error| {
            let nobody_reads = error.kind() == ErrorKind::BrokenPipe;
            if nobody_reads {
                Failure::NobodyReads
            } else {
                Failure::Failed(format!("standard output: {error}"))
            }
        })
    }

    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let is_within_a_line = self.last.is_some_and(|last| last != b'\n');
        if is_within_a_line && self.stdout.is_terminal() { self.print(b"\n") } else { Ok(()) }
    }

    /// The server has closed. Where it has said nothing before, there is no reply.
    pub(super) fn is_all(&self) -> Result<Option<String>, Failure> {
        match self.last {
            Some(_) => Ok(None),
            None => Err(Failure::Failed("the server has closed without a word".to_string())),
        }
    }

    /// The server is silent, but has not sent its FIN. Many never do, so what it has said counts as its reply.
    pub(super) fn is_not_all(&self, patience: Duration) -> Result<Option<String>, Failure> {
        let ms = patience.as_millis();
        match self.last {
            Some(_) => Ok(Some(format!(
                "the server has been silent for {ms} ms and has not closed: the reply may go on"
            ))),
            None => Err(Failure::Failed(format!("no reply came within {ms} ms"))),
        }
    }
}
