//! The reply of `reactor send` on standard output, byte for byte as it arrives.
//!
//! A terminal gets a line end after the reply if it has none. Otherwise the shell's prompt would
//! continue the last line of the reply. Nothing else is added, as with curl.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use super::SendError;
use crate::standard_streams;

pub(super) struct ReplyPrinter {
    stdout: Box<dyn Write>,
    last_byte: Option<u8>,
}

impl ReplyPrinter {
    pub(super) fn new() -> Result<ReplyPrinter, SendError> {
        let stdout = standard_streams::stdout().map_err(|error| output_failed(&error))?;
        Ok(ReplyPrinter { stdout: Box::new(stdout), last_byte: None })
    }

    pub(super) fn print(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.last_byte = bytes.last().copied().or(self.last_byte);
        let printed = self.stdout.write_all(bytes).and_then(|()| self.stdout.flush());
        printed.map_err(|error| output_failed(&error))
    }

    pub(super) fn finish(&mut self) -> Result<(), SendError> {
        let is_within_a_line = self.last_byte.is_some_and(|last| last != b'\n');
        if is_within_a_line && io::stdout().is_terminal() { self.print(b"\n") } else { Ok(()) }
    }

    /// Returns the result if the server has sent its FIN: a failure if it has sent nothing before.
    pub(super) fn result_at_eof(&self) -> Result<Option<String>, SendError> {
        match self.last_byte {
            Some(_) => Ok(None),
            None => Err(SendError::Failed("the server closed without a reply".to_string())),
        }
    }

    /// Returns the result if the server has sent nothing for the timeout, and no FIN. Many servers
    /// never send one, so what has arrived counts as the reply.
    pub(super) fn result_at_timeout(&self, timeout: Duration) -> Result<Option<String>, SendError> {
        match self.last_byte {
            Some(_) => Ok(Some(format!(
                "no more data for {timeout:?}, but the server has not closed: \
                 reply may be incomplete"
            ))),
            None => Err(SendError::Failed(format!("no reply within {timeout:?}"))),
        }
    }
}

fn output_failed(error: &io::Error) -> SendError {
    if error.kind() == ErrorKind::BrokenPipe {
        SendError::OutputClosed
    } else {
        SendError::Failed(format!("standard output: {error}"))
    }
}
