//! The transports that the tests run a connection over.

use super::*;

/// A call that the connection makes, and the kernel's answer.
#[derive(Debug)]
pub(super) enum Step {
    /// Brings these bytes; none are the peer's FIN.
    Recv(Result<Vec<u8>, Fault>),
    Send(Result<Taken, Fault>),
    Finish(Result<(), Fault>),
}

/// An error of the kernel: of a kind, or with the number that it really has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Kind(ErrorKind),
    Errno(i32),
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> io::Error {
        match fault {
            Fault::Kind(kind) => kind.into(),
            Fault::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

#[derive(Debug)]
pub(super) enum Taken {
    /// These are offered, and all are taken.
    All(Vec<u8>),
    /// Only so many are taken of those offered, whichever they are.
    First(usize),
}

pub(super) const FIN: Step = Step::Recv(Ok(Vec::new()));
pub(super) const RECV_BLOCKS: Step = recv_fails(ErrorKind::WouldBlock);
pub(super) const SEND_BLOCKS: Step = send_fails(ErrorKind::WouldBlock);
pub(super) const FINISH: Step = Step::Finish(Ok(()));

pub(super) fn recv(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Recv(Ok(bytes.into()))
}

pub(super) const fn recv_fails(kind: ErrorKind) -> Step {
    Step::Recv(Err(Fault::Kind(kind)))
}

pub(super) fn send_replies(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(Ok(Taken::All(bytes.into())))
}

pub(super) fn send_some(count: usize) -> Step {
    Step::Send(Ok(Taken::First(count)))
}

pub(super) const fn send_fails(kind: ErrorKind) -> Step {
    Step::Send(Err(Fault::Kind(kind)))
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) steps: VecDeque<Step>,
    pub(super) calls: usize,
    pub(super) read: usize,
    /// All that was ever taken.
    pub(super) sent: Vec<u8>,
}

impl Script {
    pub(super) fn next(&mut self, call: &str) -> Step {
        self.calls += 1;
        self.steps.pop_front().unwrap_or_else(|| panic!("the script is over, and it calls {call}"))
    }
}

impl Transport for Script {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let step = self.next("recv");
        let Step::Recv(result) = step else { panic!("it calls recv instead of {step:?}") };
        let bytes = result?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.read += bytes.len();
        Ok(bytes.len())
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        let step = self.next("send");
        let Step::Send(result) = step else { panic!("it calls send instead of {step:?}") };
        let count = match result? {
            Taken::All(bytes) => {
                assert_eq!(offered, bytes, "the bytes offered are not those of the script");
                bytes.len()
            }
            Taken::First(count) => count,
        };
        self.sent.extend_from_slice(&offered[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let step = self.next("finish");
        let Step::Finish(result) = step else { panic!("it calls finish instead of {step:?}") };
        Ok(result?)
    }
}

/// A TCP socket: what has arrived is read until there is no more, and what is sent is taken while there is room. News of
/// either come once. Whoever forgets them too early is caught by `Talk::check_that_nothing_is_forgotten`.
#[derive(Default)]
pub(super) struct Kernel {
    /// Bytes that have arrived so far, and how many of them each read brought. Byte number n is `byte(n)`.
    pub(super) arrived: usize,
    pub(super) reads: Vec<usize>,
    pub(super) read: usize,
    /// Where a read stops short although more has arrived.
    pub(super) urgent_mark: Option<usize>,
    pub(super) has_fin: bool,
    /// How many bytes it would take now.
    pub(super) room: usize,
    pub(super) sent: Vec<u8>,
    pub(super) is_finished: bool,
    /// One call in so many is interrupted; zero for none.
    pub(super) interrupts_every: usize,
    pub(super) calls: usize,
}

impl Kernel {
    pub(super) fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        let is_interrupted =
            self.interrupts_every > 0 && self.calls.is_multiple_of(self.interrupts_every);
        if is_interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl Transport for Kernel {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        let mark = self
            .urgent_mark
            .take_if(|mark| *mark <= self.read + into.len())
            .filter(|&mark| mark > self.read);
        let count = (mark.unwrap_or(self.arrived).min(self.arrived) - self.read).min(into.len());
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
        assert!(!self.is_finished, "nothing is sent behind the FIN");
        let count = offered.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.sent.extend_from_slice(&offered[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.calls += 1;
        assert!(!self.is_finished, "it finishes once");
        self.is_finished = true;
        Ok(())
    }
}

/// Bytes `from`, `from + 1`, … of a sequence in which a piece that is lost, doubled or moved shows.
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

/// Wires that count their calls, and the bytes that they have given and taken.
pub(super) trait Counted: Transport {
    fn count(&self) -> (usize, usize, usize);
}

impl Counted for Script {
    fn count(&self) -> (usize, usize, usize) {
        (self.calls, self.read, self.sent.len())
    }
}

impl Counted for Kernel {
    fn count(&self) -> (usize, usize, usize) {
        (self.calls, self.read, self.sent.len())
    }
}
