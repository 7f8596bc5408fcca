//! The seam for `tests/fuzz`, which is a crate of its own and sees only what is public: a connection over a wire that the
//! fuzzer scripts. Compiled with `--cfg fuzzing` only, as cargo-fuzz does.
//!
//! It lends the connection what a reactor would, and files its deadline as one would; it decides nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::limits::Limits;
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
use crate::stream::readiness;
use crate::stream::readiness::Readiness;

/// A byte stream that never blocks, as `src/stream/readiness.rs` has it.
#[expect(missing_docs, reason = "they are documented there")]
pub trait Transport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn shutdown_write(&mut self) -> io::Result<()>;
}

struct Scripted<W>(W);

impl<W: Transport> readiness::Transport for Scripted<W> {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.receive(into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }
}

/// One connection over a scripted wire.
pub struct ScriptedConnection<W> {
    /// `None` once it has ended.
    connection: Option<Connection>,
    wire: Scripted<W>,
    ready: Readiness,
    scratch: Vec<u8>,
    state: LoopState,
    effects: Effects,
    ended: Option<CloseReason>,
}

impl<W: Transport> ScriptedConnection<W> {
    /// A connection that has just been accepted and not been driven yet. One read brings at most `read_bytes`.
    pub fn new(
        protocol: impl Protocol + 'static,
        wire: W,
        limits: Limits,
        read_bytes: usize,
    ) -> ScriptedConnection<W> {
        let mut state = LoopState::new(limits);
        let mut effects = Effects::default();
        let peer = Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let mut connection = Connection::new(
            Box::new(protocol),
            ConnectionId { slot: 0, generation: 0 },
            peer,
            state.clock.now,
        );
        let (mut wire, mut ready) = (Scripted(wire), Readiness::UNKNOWN);
        connection.open(&mut wire, &mut ready, &mut state, &mut effects);
        ScriptedConnection {
            connection: Some(connection),
            wire,
            ready,
            scratch: vec![0; read_bytes],
            state,
            effects,
            ended: None,
        }
    }

    /// The wire, to change what it will do.
    pub fn wire(&mut self) -> &mut W {
        &mut self.wire.0
    }

    /// The kernel tells of an edge.
    pub fn note(&mut self, readable: bool, writable: bool, closing: bool) {
        self.ready.readable |= readable;
        self.ready.writable |= writable;
        self.ready.read_until_would_block |= closing;
    }

    /// Drives it once, and returns whether it could go on.
    ///
    /// # Panics
    ///
    /// If it says that it is blocked and could go on, or that it could go on and cannot.
    pub fn drive(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let outcome = connection.drive(
            &mut self.wire,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        self.follow(outcome)
    }

    /// Lets time pass, and looks at it if that is due, as a reactor would in its next turn. Returns whether it could go on.
    pub fn wait(&mut self, ms: u64) -> bool {
        self.state.clock.now = self.state.clock.now.plus_ms(ms);
        if !self.is_due() {
            return false;
        }
        let Some(connection) = &mut self.connection else { return false };
        let outcome = connection.expire(
            &mut self.wire,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        self.follow(outcome)
    }

    /// Would a reactor have to look at it at this very moment, without any news?
    pub fn is_due(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.filing_time(&self.state.limits, self.state.clock.now) <= self.state.clock.now
        })
    }

    /// Would it read, if there were something?
    pub fn wants_read(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_read)
    }

    /// Does output wait?
    pub fn wants_write(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_write)
    }

    /// Why it has ended, if it has.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.ended
    }

    fn follow(&mut self, outcome: Outcome) -> bool {
        self.effects = Effects::default(); // there is nobody else
        assert!(self.state.output.is_empty(), "the output scratch is empty between drives");
        match outcome {
            Outcome::Blocked | Outcome::Idle | Outcome::Unfinished => {
                let can_progress = self
                    .connection
                    .as_ref()
                    .is_some_and(|connection| connection.can_progress(&self.ready));
                assert_eq!(
                    outcome == Outcome::Unfinished,
                    can_progress,
                    "what it says of itself is true"
                );
                can_progress
            }
            Outcome::Ended(why) => {
                self.ended = Some(why);
                if let Some(mut connection) = self.connection.take() {
                    connection.call_closed(why);
                }
                false
            }
        }
    }
}
