//! The wire.

use super::*;

pub(crate) struct Kernel {
    pub(crate) facts: Rc<Facts>,
    pub(crate) arrived: usize,
    pub(crate) arrived_max: usize,
    pub(crate) read: usize,
    /// Where a read stops short although more has arrived.
    pub(crate) urgent_mark: Option<usize>,
    pub(crate) has_fin: bool,
    pub(crate) fin_is_read: bool,
    /// How many bytes it would take now.
    pub(crate) room: usize,
    pub(crate) sent: usize,
    pub(crate) is_finished: bool,
    /// One call in so many is interrupted; zero for none.
    pub(crate) interrupts_every: usize,
    pub(crate) calls: usize,
    pub(crate) fails_receive: Option<ErrorKind>,
    pub(crate) fails_send: Option<ErrorKind>,
    pub(crate) fails_finish: Option<ErrorKind>,
    /// It has failed: nothing may be asked of it any more.
    pub(crate) has_failed: bool,
}

impl Kernel {
    fn call(&mut self) -> io::Result<()> {
        assert!(!self.has_failed, "after an error nothing is asked any more");
        self.calls += 1;
        let is_interrupted =
            self.interrupts_every > 0 && self.calls.is_multiple_of(self.interrupts_every);
        if is_interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn fail(&mut self, kind: ErrorKind) -> io::Error {
        self.has_failed = true;
        kind.into()
    }

    pub(crate) fn has_input(&self) -> bool {
        self.read < self.arrived || (self.has_fin && !self.fin_is_read)
    }
}

impl Transport for Kernel {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        assert!(!into.is_empty(), "there is room to read into");
        assert!(!self.fin_is_read, "nothing comes after the FIN");
        let waiting = self.facts.said.borrow().len() - self.sent;
        assert!(
            self.is_finished || waiting < HIGH_WATERMARK_BYTES,
            "it reads with {waiting} bytes waiting"
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
            self.fin_is_read = self.has_fin;
            return if self.has_fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (at, into) in (self.read..).zip(&mut into[..count]) {
            *into = byte(at);
        }
        self.read += count;
        Ok(count)
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        self.call()?;
        assert!(!self.is_finished, "nothing is sent behind our FIN");
        let facts = Rc::clone(&self.facts);
        let said = facts.said.borrow();
        assert!(
            !offered.is_empty() && said[self.sent..].starts_with(offered),
            "what is sent is what was said"
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
        assert!(!self.has_failed && !self.is_finished, "it finishes once");
        assert_eq!(self.sent, self.facts.said.borrow().len(), "all goes before the FIN");
        if let Some(kind) = self.fails_finish.take() {
            return Err(self.fail(kind));
        }
        self.is_finished = true;
        Ok(())
    }
}
