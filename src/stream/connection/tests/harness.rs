//! A connection with all that a reactor would lend it.

use super::*;

/// A connection with all that a reactor would lend it.
pub(super) struct Talk<W> {
    pub(super) connection: Connection,
    pub(super) wire: W,
    pub(super) ready: Readiness,
    pub(super) scratch: Vec<u8>,
    pub(super) state: LoopState,
    pub(super) effects: Effects,
    pub(super) log: Log,
}

/// What a puppet has obeyed, in the order in which it did.
pub(super) type Log = Rc<RefCell<Vec<String>>>;

impl<W: Counted> Talk<W> {
    pub(super) fn over(wire: W, protocol: impl Protocol + 'static) -> Talk<W> {
        let state = LoopState::new(Limits::default());
        let id = ConnectionId { slot: 1, generation: 1 };
        let connection = Connection::new(
            Box::new(protocol),
            id,
            SocketAddr::from(([127, 0, 0, 1], 1000)).into(),
            state.clock.now,
        );
        Talk {
            connection,
            wire,
            ready: Readiness::UNKNOWN,
            scratch: vec![0; READ_BYTES_MAX],
            state,
            effects: Effects::default(),
            log: Log::default(),
        }
    }

    pub(super) fn over_puppet(wire: W, puppet: Puppet) -> Talk<W> {
        let log = Rc::clone(&puppet.log);
        Talk { log, ..Talk::over(wire, puppet) }
    }

    /// Drives it once. Whatever the test: it does something exactly if it said that it could, and says so again if it stopped
    /// before it had to.
    pub(super) fn drive_once(&mut self) -> Outcome {
        let could_progress = self.connection.can_progress(&self.ready);
        let before = (self.wire.count(), self.progress());
        let outcome = match self.connection.drive(
            &mut self.wire,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        ) {
            Outcome::Idle => {
                assert!(self.connection.is_idle(), "it says that nothing is begun");
                Blocked
            }
            outcome @ (Blocked | Unfinished | Ended(_)) => outcome,
        };
        let has_progressed = before != (self.wire.count(), self.progress()) || outcome != Blocked;
        assert_eq!(
            has_progressed, could_progress,
            "it can progress exactly when a drive does something"
        );
        self.check(outcome)
    }

    /// Opens it, and then drives it, as a reactor does.
    pub(super) fn open_once(&mut self) -> Outcome {
        self.connection.open(&mut self.wire, &mut self.ready, &mut self.state, &mut self.effects);
        self.drive_once()
    }

    pub(super) fn check(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Blocked | Outcome::Idle => assert!(
                !self.connection.can_progress(&self.ready),
                "it is blocked, but could progress"
            ),
            Unfinished => assert!(
                self.connection.can_progress(&self.ready),
                "it is unfinished, but could not progress"
            ),
            Ended(_) => {}
        }
        let (_, read, sent) = self.wire.count();
        let stats = &self.state.stats;
        assert_eq!(
            (stats.bytes_in, stats.bytes_out),
            (read as u64, sent as u64),
            "what moves is counted"
        );
        assert!(self.state.output.is_empty(), "the scratch is empty between drives");
        assert!(self.connection.input.len() <= INPUT_BYTES_MAX, "carried input is bounded");
        if !matches!(outcome, Ended(_)) {
            let held = self.connection.input.capacity() + self.connection.output.capacity();
            let limits = Limits { connections_max: 1, ..Limits::default() };
            assert!(
                held as u64 <= limits.bytes_max(),
                "it holds {held} bytes, more than was promised"
            );
        }
        outcome
    }

    pub(super) fn progress(&self) -> (Phase, usize, usize) {
        (self.connection.phase, self.connection.input.len(), self.connection.output.len())
    }

    pub(super) fn at_ms(&mut self, ms: u64) {
        self.state.clock.now = Time::at(Duration::from_millis(ms));
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

impl Talk<Script> {
    pub(super) fn with(protocol: impl Protocol + 'static) -> Talk<Script> {
        Talk::over(Script::default(), protocol)
    }

    pub(super) fn with_puppet(puppet: Puppet) -> Talk<Script> {
        Talk::over_puppet(Script::default(), puppet)
    }

    /// Drives it through exactly `steps`.
    #[track_caller]
    pub(super) fn drive<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.wire.steps = steps.into();
        let outcome = self.drive_once();
        assert!(self.wire.steps.is_empty(), "it stops before {:?}", self.wire.steps);
        outcome
    }

    /// The kernel says that it can be read, and it is driven.
    #[track_caller]
    pub(super) fn drive_readable<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.ready.readable = true;
        self.drive(steps)
    }

    /// The kernel says that it can be written, and it is driven.
    #[track_caller]
    pub(super) fn drive_writable<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.ready.writable = true;
        self.drive(steps)
    }

    /// Opens and drives it.
    #[track_caller]
    pub(super) fn open<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.wire.steps = steps.into();
        let outcome = self.open_once();
        assert!(self.wire.steps.is_empty(), "it stops before {:?}", self.wire.steps);
        outcome
    }

    /// A filed deadline comes due at `ms`. It is acted upon exactly if that is its deadline, or later.
    #[track_caller]
    pub(super) fn expire_at<const N: usize>(&mut self, ms: u64, steps: [Step; N]) -> Outcome {
        self.expire_with(ms, steps.into())
    }

    pub(super) fn expire_with(&mut self, ms: u64, steps: Vec<Step>) -> Outcome {
        self.at_ms(ms);
        self.wire.steps = steps.into();
        let is_due = self.connection.deadline(&self.state.limits) <= self.state.clock.now;
        let logged = self.log.borrow().len();
        let outcome = self.connection.expire(
            &mut self.wire,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        assert!(self.wire.steps.is_empty(), "it stops before {:?}", self.wire.steps);
        let has_acted = outcome != Blocked || self.log.borrow().len() > logged;
        assert_eq!(has_acted, is_due, "it acts exactly when it is due");
        self.check(outcome)
    }

    /// Nothing happens until `ms`, and then it ends for the reason `why`.
    #[track_caller]
    pub(super) fn ends_at(&mut self, ms: u64, why: CloseReason) {
        assert_eq!(self.expire_at(ms - 1, []), Blocked, "one millisecond early");
        // Before it gives up, it looks once more whether the kernel has news.
        let last_look = match (why, self.connection.wants_write(), self.connection.wants_read()) {
            (CloseReason::Finished, ..) => vec![],
            (_, false, false) => vec![],
            (_, false, true) => vec![RECV_BLOCKS],
            (_, true, false) => vec![SEND_BLOCKS],
            (_, true, true) => vec![SEND_BLOCKS, RECV_BLOCKS],
        };
        assert_eq!(self.expire_with(ms, last_look), Ended(why));
    }
}
