//! The transport that the fuzzer scripts: how much arrives, how much it takes, and which calls
//! fail.

use std::io::{self, ErrorKind};
use std::rc::Rc;

use mio_reactor::fuzzing::TransportMut;
use mio_reactor::limits::HIGH_WATERMARK_BYTES;

use crate::{Record, byte};

pub(crate) struct FuzzTransport {
    record: Rc<Record>,
    pub(crate) arrived: usize,
    pub(crate) arrived_max: usize,
    pub(crate) read: usize,
    /// Where a read stops short although more has arrived.
    pub(crate) urgent_mark: Option<usize>,
    pub(crate) has_fin: bool,
    is_fin_read: bool,
    /// How many bytes the next sends can take.
    pub(crate) room: usize,
    pub(crate) sent: usize,
    /// Our FIN is sent.
    pub(crate) is_shut: bool,
    /// One call in so many is interrupted. Zero: none is.
    pub(crate) interrupts_every: usize,
    calls: usize,
    pub(crate) fails_receive: Option<ErrorKind>,
    pub(crate) fails_send: Option<ErrorKind>,
    pub(crate) fails_shutdown: Option<ErrorKind>,
    /// A call has failed, and no further call may be made.
    pub(crate) has_failed: bool,
}

impl FuzzTransport {
    /// Returns a transport on which nothing has arrived and that takes nothing yet.
    pub(crate) fn new(record: Rc<Record>, arrived_max: usize) -> FuzzTransport {
        FuzzTransport {
            record,
            arrived: 0,
            arrived_max,
            read: 0,
            urgent_mark: None,
            has_fin: false,
            is_fin_read: false,
            room: 0,
            sent: 0,
            is_shut: false,
            interrupts_every: 0,
            calls: 0,
            fails_receive: None,
            fails_send: None,
            fails_shutdown: None,
            has_failed: false,
        }
    }

    pub(crate) fn has_input(&self) -> bool {
        self.read < self.arrived || (self.has_fin && !self.is_fin_read)
    }

    /// Counts a call, and interrupts it if its turn has come.
    fn begin_call(&mut self) -> io::Result<()> {
        assert!(!self.has_failed, "no call is made after an error");
        self.calls += 1;
        let is_interrupted =
            self.interrupts_every > 0 && self.calls.is_multiple_of(self.interrupts_every);
        if is_interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn fail(&mut self, kind: ErrorKind) -> io::Error {
        self.has_failed = true;
        kind.into()
    }
}

impl TransportMut for FuzzTransport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.begin_call()?;
        assert!(!into.is_empty(), "there is room to read into");
        assert!(!self.is_fin_read, "nothing is read after the FIN");
        let waiting = self.record.written.borrow().len() - self.sent;
        assert!(
            self.is_shut || waiting < HIGH_WATERMARK_BYTES,
            "a read while {waiting} bytes of output wait"
        );
        if let Some(kind) = self.fails_receive.take() {
            return Err(self.fail(kind));
        }
        let mark = self
            .urgent_mark
            .take_if(|mark| *mark <= self.read + into.len())
            .filter(|&mark| mark > self.read);
        let count = (mark.unwrap_or(self.arrived).min(self.arrived) - self.read).min(into.len());
        if count == 0 {
            self.is_fin_read = self.has_fin;
            return if self.has_fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (at, into) in (self.read..).zip(&mut into[..count]) {
            *into = byte(at);
        }
        self.read += count;
        Ok(count)
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        self.begin_call()?;
        assert!(!self.is_shut, "nothing is sent after our FIN");
        let record = Rc::clone(&self.record);
        let written = record.written.borrow();
        assert!(
            !offered.is_empty() && written[self.sent..].starts_with(offered),
            "what is sent is what the protocol wrote"
        );
        if let Some(kind) = self.fails_send.take() {
            return Err(self.fail(kind));
        }
        let count = offered.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.sent += count;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        assert!(!self.has_failed && !self.is_shut, "the write side is shut once");
        assert_eq!(
            self.sent,
            self.record.written.borrow().len(),
            "all output leaves before the FIN"
        );
        if let Some(kind) = self.fails_shutdown.take() {
            return Err(self.fail(kind));
        }
        self.is_shut = true;
        Ok(())
    }
}
