//! Clients of the book's programs, which the tests play.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::programs::Server;

/// A client of a program. Each wait fails after the timeout.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(super) fn expect(&mut self, reply: &str) {
        let mut received = vec![0; reply.len()];
        self.0.read_exact(&mut received).unwrap();
        assert!(
            received == reply.as_bytes(),
            "the reply is {}",
            String::from_utf8_lossy(&received)
        );
    }

    /// Sends copies of `line` until the program takes no more and has nothing else to do. Returns
    /// how many were sent, the last one perhaps not whole.
    pub(super) fn fill(&mut self, server: &Server, line: &str) -> usize {
        let lines = line.repeat(100);
        let mut sent = 0;
        self.0.set_nonblocking(true).unwrap();
        loop {
            match self.0.write(&lines.as_bytes()[sent % line.len()..]) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    let sleeps = server.sleeps();
                    server.wait_until_it_settles();
                    if server.sleeps() == sleeps {
                        break;
                    }
                }
            }
        }
        self.0.set_nonblocking(false).unwrap();
        sent / line.len()
    }

    /// Sends a line, and waits for its reply.
    #[track_caller]
    pub(super) fn echo(&mut self, line: &str) {
        self.send(&format!("{line}\n"));
        self.expect(&format!("echo -> {line}\n"));
    }

    /// Returns how many bytes have arrived, without waiting for more.
    pub(super) fn received_already(&mut self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = Vec::new();
        let error = self.0.read_to_end(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        buffer.len()
    }

    /// Sends its FIN.
    pub(super) fn shutdown_write(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends its FIN, and waits until the server has closed, too.
    #[track_caller]
    pub(super) fn finish(self) {
        self.shutdown_write();
        self.expect_end();
    }

    /// Waits until the server has closed.
    #[track_caller]
    pub(super) fn expect_end(mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "more comes: {}", String::from_utf8_lossy(&rest));
    }
}
