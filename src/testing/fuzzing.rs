//! A connection over a scripted transport, for the fuzz targets in `tests/fuzz`.
//!
//! They are a crate of their own and see only what is public. Compiled with `--cfg fuzzing` only,
//! as cargo-fuzz does.
//!
//! The code here lends the connection what a reactor would lend it, and checks its deadline as a
//! reactor would. It decides nothing.

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

/// A non-blocking byte stream: the `Transport` of `src/stream/readiness.rs`.
#[expect(missing_docs, reason = "they are documented there")]
pub trait Transport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn shutdown_write(&mut self) -> io::Result<()>;
}

struct Scripted<T>(T);

impl<T: Transport + 'static> readiness::Transport for Scripted<T> {
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

/// One connection over a scripted transport.
pub struct ScriptedConnection<T> {
    /// `None` once it has ended.
    connection: Option<Connection>,
    transport: Scripted<T>,
    ready: Readiness,
    scratch: Vec<u8>,
    state: LoopState,
    effects: Effects,
    ended: Option<CloseReason>,
}

impl<T: Transport + 'static> ScriptedConnection<T> {
    /// Makes a connection that has just been accepted and not been driven yet. One read returns at
    /// most `read_bytes`.
    pub fn new(
        protocol: impl Protocol + 'static,
        transport: T,
        limits: Limits,
        read_bytes: usize,
    ) -> ScriptedConnection<T> {
        let mut state = LoopState::new(limits);
        let mut effects = Effects::default();
        let peer = Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let mut connection = Connection::new(
            Box::new(protocol),
            ConnectionId { slot: 0, generation: 0 },
            peer,
            state.clock.now,
        );
        let (mut transport, mut ready) = (Scripted(transport), Readiness::UNKNOWN);
        connection.open(&mut transport, &mut ready, &mut state, &mut effects);
        ScriptedConnection {
            connection: Some(connection),
            transport,
            ready,
            scratch: vec![0; read_bytes],
            state,
            effects,
            ended: None,
        }
    }

    /// Returns the transport, to change what it does next.
    pub fn wire(&mut self) -> &mut T {
        &mut self.transport.0
    }

    /// Notes an event, as the loop does. `read_until_would_block`: it reports a FIN, an error or
    /// the urgent mark, so a short read proves nothing.
    pub fn note(&mut self, readable: bool, writable: bool, read_until_would_block: bool) {
        self.ready.readable |= readable;
        self.ready.writable |= writable;
        self.ready.read_until_would_block |= read_until_would_block;
    }

    /// Drives the connection once, and returns whether it is unfinished.
    ///
    /// # Panics
    ///
    /// If the outcome is blocked and the connection could go on, or unfinished and it could not.
    pub fn drive(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let outcome = connection.drive(
            &mut self.transport,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        self.finish_drive(outcome)
    }

    /// Moves the clock by `ms` milliseconds, and acts on the deadline if it is due, as a reactor
    /// would in its next turn. Returns whether the connection is unfinished.
    pub fn wait(&mut self, ms: u64) -> bool {
        self.state.clock.now = self.state.clock.now.plus_ms(ms);
        if !self.is_due() {
            return false;
        }
        let Some(connection) = &mut self.connection else { return false };
        let outcome = connection.expire(
            &mut self.transport,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        self.finish_drive(outcome)
    }

    /// Returns whether its deadline is due now, without a further event.
    pub fn is_due(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.filing_time(&self.state.loop_limits, self.state.clock.now)
                <= self.state.clock.now
        })
    }

    /// Returns whether it would read more input.
    pub fn wants_read(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_read)
    }

    /// Returns whether output waits.
    pub fn wants_write(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_write)
    }

    /// Returns why it has ended; `None` while it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.ended
    }

    fn finish_drive(&mut self, outcome: Outcome) -> bool {
        self.effects = Effects::default(); // there are no other connections
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
                    "the outcome is unfinished exactly if the connection could go on"
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
