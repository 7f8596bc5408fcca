//! A connection with all that a reactor lends it, and the checks that hold in every test.

use super::*;

/// A connection under its driver, and what its protocol was called with.
pub(super) struct Harness<T> {
    driver: Driver<T>,
    pub(super) calls: CallLog,
}

impl<T> Deref for Harness<T> {
    type Target = Driver<T>;

    fn deref(&self) -> &Driver<T> {
        &self.driver
    }
}

impl<T> DerefMut for Harness<T> {
    fn deref_mut(&mut self) -> &mut Driver<T> {
        &mut self.driver
    }
}

/// An echo over a script.
pub(super) fn echo() -> Harness<ScriptedTransport> {
    Harness::new(ScriptedTransport::default(), Echo::new())
}

/// `protocol` over a script.
pub(super) fn scripted(protocol: ScriptedProtocol) -> Harness<ScriptedTransport> {
    Harness::with_log(ScriptedTransport::default(), protocol)
}

impl<T: CountingTransport> Harness<T> {
    pub(super) fn new(transport: T, protocol: impl Protocol + 'static) -> Harness<T> {
        Harness {
            driver: Driver::new(Box::new(protocol), transport, Limits::default(), READ_BYTES_MAX),
            calls: CallLog::default(),
        }
    }

    /// As `new`, with the calls of `protocol` in `calls`.
    pub(super) fn with_log(transport: T, protocol: ScriptedProtocol) -> Harness<T> {
        let calls = Rc::clone(&protocol.calls);
        Harness { calls, ..Harness::new(transport, protocol) }
    }

    /// The connection, which is not freed when it has ended.
    pub(super) fn connection(&self) -> &Connection {
        self.driver.connection.as_ref().expect("no stage but `reap` frees it")
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        self.driver.connection.as_mut().expect("no stage but `reap` frees it")
    }

    /// Drives it once. In every test, a drive does something exactly if `can_progress` was true.
    pub(super) fn drive_once(&mut self) -> Outcome {
        let could_progress = self.connection().can_progress(&self.ready);
        let before = (self.transport.get_mut().totals(), self.progress());
        let outcome = match self.driver.drive() {
            Outcome::Idle => {
                assert!(
                    self.connection().is_idle(),
                    "the outcome is idle only if nothing is begun"
                );
                Blocked
            }
            outcome @ (Blocked | Unfinished | Ended(_)) => outcome,
        };
        let has_progressed =
            before != (self.transport.get_mut().totals(), self.progress()) || outcome != Blocked;
        assert_eq!(
            has_progressed, could_progress,
            "can_progress is true exactly if a drive does something"
        );
        self.check(outcome)
    }

    /// Opens it and drives it once, as a reactor does.
    pub(super) fn open_once(&mut self) -> Outcome {
        self.driver.open();
        self.drive_once()
    }

    fn check(&self, outcome: Outcome) -> Outcome {
        let totals = self.transport.borrow().totals();
        let stats = &self.state.stats;
        assert_eq!(
            (stats.bytes_in, stats.bytes_out),
            (totals.read as u64, totals.sent as u64),
            "all bytes that move are counted"
        );
        assert!(
            self.connection().buffers.input().len() <= INPUT_BYTES_MAX,
            "buffered input is bounded"
        );
        assert_eq!(totals.held_back, 0, "the kernel waits for a FIN that does not follow");
        if !matches!(outcome, Ended(_)) {
            let buffered = self.connection().buffers.capacity();
            let limits = Limits::default().with_connections_max(1);
            assert!(
                buffered as u64 <= limits.bytes_max(),
                "{buffered} bytes are more than Limits::bytes_max promises"
            );
        }
        outcome
    }

    fn progress(&self) -> (Phase, usize, usize) {
        (
            self.connection().phase,
            self.connection().buffers.input().len(),
            self.connection().buffers.output().len(),
        )
    }

    /// Sets the clock, in milliseconds since the reactor was made.
    pub(super) fn at_ms(&mut self, ms: u64) {
        self.state.clock.now = Time::at(Duration::from_millis(ms));
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }
}

impl Harness<ScriptedTransport> {
    /// Drives it once, which makes exactly the calls of `script`.
    #[track_caller]
    pub(super) fn drive<const N: usize>(&mut self, script: [Syscall; N]) -> Outcome {
        self.transport.get_mut().script = script.into();
        let outcome = self.drive_once();
        self.assert_script_is_over();
        outcome
    }

    #[track_caller]
    fn assert_script_is_over(&self) {
        let rest = &self.transport.borrow().script;
        assert!(rest.is_empty(), "the drive stops before {rest:?}");
    }

    /// An event: readable. Then as `drive`.
    #[track_caller]
    pub(super) fn drive_readable<const N: usize>(&mut self, script: [Syscall; N]) -> Outcome {
        self.ready.set_readable(true);
        self.drive(script)
    }

    /// An event: writable. Then as `drive`.
    #[track_caller]
    pub(super) fn drive_writable<const N: usize>(&mut self, script: [Syscall; N]) -> Outcome {
        self.ready.set_writable(true);
        self.drive(script)
    }

    /// Opens it and drives it once, which together makes exactly the calls of `script`.
    #[track_caller]
    pub(super) fn open<const N: usize>(&mut self, script: [Syscall; N]) -> Outcome {
        self.transport.get_mut().script = script.into();
        let outcome = self.open_once();
        self.assert_script_is_over();
        outcome
    }

    /// A filed deadline is due at `ms`. It is acted upon exactly if the true deadline is no later.
    #[track_caller]
    pub(super) fn expire_at<const N: usize>(&mut self, ms: u64, script: [Syscall; N]) -> Outcome {
        self.expire_with(ms, script.into())
    }

    fn expire_with(&mut self, ms: u64, script: Vec<Syscall>) -> Outcome {
        self.at_ms(ms);
        self.transport.get_mut().script = script.into();
        let is_due = self.connection().deadline(&self.state.loop_limits) <= self.state.clock.now;
        let calls_before = self.calls.borrow().len();
        let outcome = self.driver.expire();
        self.assert_script_is_over();
        let has_acted = outcome != Blocked || self.calls.borrow().len() > calls_before;
        assert_eq!(has_acted, is_due, "a deadline is acted upon exactly if it is due");
        self.check(outcome)
    }

    /// Nothing happens before `ms`. At `ms` it ends for the reason `why`.
    #[track_caller]
    pub(super) fn ends_at(&mut self, ms: u64, why: CloseReason) {
        assert_eq!(self.expire_at(ms - 1, []), Blocked, "one millisecond early");
        // Before a timeout ends it, it is driven once more: the loop may be late.
        let probe = match (why, self.connection().wants_write(), self.connection().wants_read()) {
            (CloseReason::Finished, ..) => vec![],
            (_, false, false) => vec![],
            (_, false, true) => vec![RECV_BLOCKS],
            (_, true, false) => vec![SEND_BLOCKS],
            (_, true, true) => vec![SEND_BLOCKS, RECV_BLOCKS],
        };
        assert_eq!(self.expire_with(ms, probe), Ended(why));
    }
}
