//! The transports that the tests run a connection over: a script, and a model of a TCP socket.

use super::*;
use crate::testing::driver::TransportMut;

// ---- a script of system calls

/// A system call that the connection makes, and its result.
#[derive(Debug)]
pub(super) enum Syscall {
    /// Returns these bytes; none are the peer's FIN.
    Recv(Result<Vec<u8>, SyscallError>),
    Send(Result<Taken, SyscallError>),
    Shutdown(Result<(), SyscallError>),
}

/// An error of the kernel, by its kind or by its errno.
#[derive(Clone, Copy, Debug)]
pub(super) enum SyscallError {
    Kind(ErrorKind),
    Errno(i32),
}

impl From<SyscallError> for io::Error {
    fn from(error: SyscallError) -> io::Error {
        match error {
            SyscallError::Kind(kind) => kind.into(),
            SyscallError::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

#[derive(Debug)]
pub(super) enum Taken {
    /// Exactly these bytes are offered, and all are taken.
    All(Vec<u8>),
    /// Only so many of the offered bytes are taken, whatever they are.
    First(usize),
}

pub(super) const FIN: Syscall = Syscall::Recv(Ok(Vec::new()));
pub(super) const RECV_BLOCKS: Syscall = recv_fails(ErrorKind::WouldBlock);
pub(super) const SEND_BLOCKS: Syscall = send_fails(ErrorKind::WouldBlock);
pub(super) const SHUTDOWN: Syscall = Syscall::Shutdown(Ok(()));

pub(super) fn recv(bytes: impl Into<Vec<u8>>) -> Syscall {
    Syscall::Recv(Ok(bytes.into()))
}

pub(super) const fn recv_fails(kind: ErrorKind) -> Syscall {
    Syscall::Recv(Err(SyscallError::Kind(kind)))
}

pub(super) fn send_all(bytes: impl Into<Vec<u8>>) -> Syscall {
    Syscall::Send(Ok(Taken::All(bytes.into())))
}

pub(super) fn send_takes(count: usize) -> Syscall {
    Syscall::Send(Ok(Taken::First(count)))
}

pub(super) const fn send_fails(kind: ErrorKind) -> Syscall {
    Syscall::Send(Err(SyscallError::Kind(kind)))
}

#[derive(Default)]
pub(super) struct ScriptedTransport {
    pub(super) script: VecDeque<Syscall>,
    pub(super) calls: usize,
    read: usize,
    /// All bytes that were ever taken.
    pub(super) sent: Vec<u8>,
    /// Those of the last send, if it was one before our FIN and that has not followed yet.
    pub(super) held_back: usize,
    /// How many bytes left in one segment with our FIN.
    pub(super) with_fin: usize,
}

impl ScriptedTransport {
    fn next(&mut self, call: &str) -> Syscall {
        self.calls += 1;
        self.script.pop_front().unwrap_or_else(|| panic!("{call} is called after the script"))
    }
}

impl TransportMut for ScriptedTransport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let expected = self.next("recv");
        let Syscall::Recv(result) = expected else {
            panic!("recv is called instead of {expected:?}")
        };
        let bytes = result?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.read += bytes.len();
        Ok(bytes.len())
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        let expected = self.next("send");
        let Syscall::Send(result) = expected else {
            panic!("send is called instead of {expected:?}")
        };
        let count = match result? {
            Taken::All(bytes) => {
                assert_eq!(offered, bytes, "the bytes offered are those of the script");
                bytes.len()
            }
            Taken::First(count) => count,
        };
        self.sent.extend_from_slice(&offered[..count]);
        self.held_back = 0;
        Ok(count)
    }

    fn send_before_fin(&mut self, offered: &[u8]) -> io::Result<usize> {
        let count = self.send(offered)?;
        self.held_back = if count == offered.len() { count } else { 0 };
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.with_fin = std::mem::take(&mut self.held_back);
        let expected = self.next("shutdown");
        let Syscall::Shutdown(result) = expected else {
            panic!("shutdown is called instead of {expected:?}")
        };
        Ok(result?)
    }
}

// ---- a model of a TCP socket

/// A model of a TCP socket: it returns what has arrived until there is no more, and takes bytes
/// while it has room. Its events are edges. If the connection forgets one too early,
/// `Harness::check_that_an_edge_follows` fails.
#[derive(Default)]
pub(super) struct ModelSocket {
    /// Bytes that have arrived so far. The first `n` are `bytes(0, n)`.
    pub(super) arrived: usize,
    /// How many bytes each read has returned.
    pub(super) reads: Vec<usize>,
    pub(super) read: usize,
    /// Where a read stops although more has arrived.
    pub(super) urgent_mark: Option<usize>,
    pub(super) has_fin: bool,
    /// How many bytes it would take now.
    pub(super) room: usize,
    pub(super) sent: Vec<u8>,
    pub(super) is_shut_down: bool,
    /// As in `ScriptedTransport`.
    pub(super) held_back: usize,
    /// One call in so many is interrupted (EINTR); 0 for none.
    pub(super) interrupts_every: usize,
    pub(super) calls: usize,
}

impl ModelSocket {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        let is_interrupted =
            self.interrupts_every > 0 && self.calls.is_multiple_of(self.interrupts_every);
        if is_interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl TransportMut for ModelSocket {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        let stop = self
            .urgent_mark
            .take_if(|at| *at <= self.read + into.len())
            .filter(|&at| at > self.read);
        let count = (stop.unwrap_or(self.arrived).min(self.arrived) - self.read).min(into.len());
        if count == 0 {
            return if self.has_fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        into[..count].copy_from_slice(&bytes(self.read, count));
        self.read += count;
        self.reads.push(count);
        Ok(count)
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        self.call()?;
        assert!(!self.is_shut_down, "nothing is sent after the FIN");
        let count = offered.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.sent.extend_from_slice(&offered[..count]);
        self.held_back = 0;
        Ok(count)
    }

    fn send_before_fin(&mut self, offered: &[u8]) -> io::Result<usize> {
        let count = self.send(offered)?;
        self.held_back = if count == offered.len() { count } else { 0 };
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.held_back = 0;
        self.calls += 1;
        assert!(!self.is_shut_down, "the FIN is sent once");
        self.is_shut_down = true;
        Ok(())
    }
}

/// Returns the bytes `from`, `from + 1`, … of a sequence in which a lost, doubled or moved piece
/// shows.
pub(super) fn bytes(from: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 16);
    for word in from / 8..(from + count).div_ceil(8) {
        bytes.extend_from_slice(
            &(word as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes(),
        );
    }
    bytes.drain(..from % 8);
    bytes.truncate(count);
    bytes
}

// ---- counting

/// What a transport has done so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) calls: usize,
    /// Bytes read.
    pub(super) read: usize,
    /// Bytes taken.
    pub(super) sent: usize,
    /// Bytes that wait for our FIN.
    pub(super) held_back: usize,
}

pub(super) trait CountingTransport: TransportMut {
    fn totals(&self) -> Totals;
}

impl CountingTransport for ScriptedTransport {
    fn totals(&self) -> Totals {
        let held_back = self.held_back;
        Totals { calls: self.calls, read: self.read, sent: self.sent.len(), held_back }
    }
}

impl CountingTransport for ModelSocket {
    fn totals(&self) -> Totals {
        let held_back = self.held_back;
        Totals { calls: self.calls, read: self.read, sent: self.sent.len(), held_back }
    }
}
