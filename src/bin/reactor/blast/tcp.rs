//! A load client over TCP: one connection to the server.
//!
//! Invariant: the messages in flight on a connection do not exceed the high watermark, at which a
//! reactor stops reading from its peer. So client and server never both stop reading and wait for
//! the other. Messages beyond that are owed: they wait here, and are sent late.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Instant;

use mio_reactor::{Advance, CloseReason, ConnectionId, Context, Next, Protocol, Reactor};

use super::diagnosis::describe_wrong_reply;
use super::limits::BURST;
use super::load::Load;
use super::outstanding::Outstanding;
use super::payload::Payloads;
use super::plan::{Pace, Plan};

/// All clients, as the load generator sees them from outside the reactor.
pub(super) struct TcpClients {
    plan: Rc<Plan>,
    load: Rc<RefCell<Load>>,
    all: Vec<(ConnectionId, Rc<RefCell<LoadConnection>>)>,
    /// How many messages of an open loop have been due, of all clients together.
    due: u64,
}

impl TcpClients {
    /// Starts all connects.
    pub(super) fn connect(
        reactor: &mut Reactor,
        plan: &Rc<Plan>,
        load: &Rc<RefCell<Load>>,
    ) -> TcpClients {
        let all = (0..plan.clients).map(|number| {
            let connection = Rc::new(RefCell::new(LoadConnection::new(number, plan, load)));
            let client = TcpClient { connection: connection.clone(), load: load.clone() };
            (reactor.connect(plan.address, client), connection)
        });
        TcpClients { all: all.collect(), plan: plan.clone(), load: load.clone(), due: 0 }
    }

    /// Fails if this machine could not open all connections: then the requested load cannot be
    /// offered. How many connections the server accepts is no error of ours.
    pub(super) fn check_connected(&self) -> io::Result<()> {
        let load = self.load.borrow();
        match &load.local_error {
            None => Ok(()),
            Some(why) => Err(io::Error::other(format!(
                "only {} of {} connections opened: {why}",
                load.connected, self.plan.clients
            ))),
        }
    }

    /// The error of a signal that has arrived before all connects were over: nothing was sent.
    pub(super) fn interrupted(&self) -> io::Error {
        io::Error::other(format!(
            "stopped by a signal while connecting, {} of {} connections opened, nothing sent",
            self.load.borrow().connected,
            self.plan.clients
        ))
    }

    /// Begins the load. In a closed loop, sends a whole window on each connection.
    pub(super) fn start(&self, reactor: &mut Reactor) {
        let Pace::Window(window) = self.plan.pace else { return };
        for (id, connection) in &self.all {
            let mut connection = connection.borrow_mut();
            connection.owed = window;
            connection.send_owed(&mut self.load.borrow_mut(), 0, |message| {
                let _ = reactor.send_to(*id, message); // a lost connection is counted in `closed`
            });
        }
    }

    /// In an open loop, sends what is due at `now`.
    pub(super) fn send_due(&mut self, reactor: &mut Reactor, now: Instant) {
        let Pace::Rate(rate) = self.plan.pace else { return };
        let now_ns = self.load.borrow_mut().ns(now);
        let count = u64::from(self.plan.clients);
        for _ in 0..BURST {
            let index =
                usize::try_from(self.due % count).expect("it is less than the number of clients");
            let (id, connection) = &self.all[index];
            let mut connection = connection.borrow_mut();
            let load = &mut self.load.borrow_mut();
            if !load.is_due(Plan::due_ns(rate, self.due), now_ns) {
                return;
            }
            self.due += 1;
            connection.owed += 1;
            connection.send_owed(load, now_ns, |message| {
                let _ = reactor.send_to(*id, message);
            });
        }
    }

    /// Records what has no reply at the end. Returns the sequence number, among the messages of all
    /// clients, of the first message that was not yet handed to a client.
    pub(super) fn record_unanswered(&self, load: &mut Load, now_ns: u64) -> u64 {
        for (_, connection) in &self.all {
            let connection = connection.borrow();
            if connection.stage != ConnectionStage::Closed {
                connection.record_unanswered(load, now_ns); // a closed one has done so in `closed`
            }
        }
        self.due
    }
}

/// The state of one connection, shared by its protocol and [`TcpClients`].
struct LoadConnection {
    number: u32,
    plan: Rc<Plan>,
    payloads: Payloads,
    outstanding: Outstanding,
    /// Messages that are due and have not been sent.
    owed: u64,
    /// The number of the message to which the next reply belongs.
    expected: u64,
    stage: ConnectionStage,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionStage {
    /// The connect has not finished.
    Connecting,
    /// Messages and replies pass.
    Open,
    /// The connect failed, or the connection has ended. Nothing is sent any more.
    Closed,
}

impl LoadConnection {
    fn new(number: u32, plan: &Rc<Plan>, load: &Rc<RefCell<Load>>) -> LoadConnection {
        LoadConnection {
            number,
            plan: plan.clone(),
            payloads: Payloads::new(load.borrow().run_id(), number, plan.size),
            outstanding: Outstanding::new(plan.memory()),
            owed: 0,
            expected: 0,
            stage: ConnectionStage::Connecting,
        }
    }

    /// Sends owed messages, as many as may be in flight.
    fn send_owed(&mut self, load: &mut Load, now_ns: u64, mut send: impl FnMut(&[u8])) {
        let in_flight_max = self.plan.in_flight_max();
        while self.owed > 0
            && self.outstanding.in_flight() < in_flight_max
            && load.is_sending()
            && self.stage == ConnectionStage::Open
        {
            let at_ns = match self.plan.pace {
                Pace::Window(_) => now_ns,
                Pace::Rate(rate) => self.due_ns(rate, self.outstanding.next_number()),
            };
            send(self.payloads.compose(self.outstanding.record_sent(at_ns)));
            load.count_sent(at_ns, now_ns);
            self.owed -= 1;
        }
    }

    /// Records all messages without a reply in the latencies, whether sent or still owed: a stream
    /// drops no single message, so a reply would have come later. In the report, those that were
    /// sent count as lost, too, and those owed as unsent.
    fn record_unanswered(&self, load: &mut Load, now_ns: u64) {
        self.outstanding
            .unanswered()
            .for_each(|sent_ns| load.record_unanswered(sent_ns, 1, now_ns));
        if let Pace::Rate(rate) = self.plan.pace {
            let next = self.outstanding.next_number();
            (next..next + self.owed)
                .for_each(|number| load.record_unanswered(self.due_ns(rate, number), 1, now_ns));
        }
    }

    /// Returns when message `number` is due, in nanoseconds from the start.
    fn due_ns(&self, rate: u64, number: u64) -> u64 {
        Plan::due_ns(rate, self.plan.sequence(self.number, number))
    }
}

struct TcpClient {
    connection: Rc<RefCell<LoadConnection>>,
    load: Rc<RefCell<Load>>,
}

impl Protocol for TcpClient {
    fn opened(&mut self, _: &mut Context<'_>) -> Next {
        self.connection.borrow_mut().stage = ConnectionStage::Open;
        self.load.borrow_mut().on_connected();
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let (connection, load) = (&mut *self.connection.borrow_mut(), &mut *self.load.borrow_mut());
        let size = connection.plan.size;
        if input.len() < size {
            if connection.expected == 0 {
                load.note_fragment(input);
            }
            return Advance::need_more();
        }
        let now_ns = load.ns(Instant::now());
        for (at, reply) in input.chunks_exact(size).enumerate() {
            let Some(number) = connection.payloads.number_of(reply) else {
                // From here on it is unknown where the next reply begins.
                load.count_wrong(|counts| {
                    let (received, plan) = (counts.received, &*connection.plan);
                    let rest = &input[at * size..];
                    describe_wrong_reply(rest, received, plan, &connection.payloads)
                });
                return Advance::consumed(input.len()).then(Next::Abort);
            };
            load.count(connection.outstanding.record_reply(number), now_ns);
            load.counts.misplaced += u64::from(number != connection.expected);
            connection.expected = number.wrapping_add(1); // an unexpected reply may have any number
        }
        if let Pace::Window(window) = connection.plan.pace {
            connection.owed = window.saturating_sub(connection.outstanding.in_flight());
        }
        connection.send_owed(load, now_ns, |message| cx.send(message));
        Advance::consumed(input.len() / size * size)
    }

    fn closed(&mut self, why: CloseReason) {
        let kind = match why {
            CloseReason::ConnectFailed(kind) | CloseReason::Io(kind) => kind,
            CloseReason::Finished => ErrorKind::UnexpectedEof,
            CloseReason::PeerReset => ErrorKind::ConnectionReset,
            CloseReason::Aborted
            | CloseReason::FirstByteTimeout
            | CloseReason::IdleTimeout
            | CloseReason::WriteTimeout
            | CloseReason::InputTooLong
            | CloseReason::OutputOverflow
            | CloseReason::WriteAfterShutdown
            | CloseReason::ProtocolPanicked
            | CloseReason::Stopped
            | _ => ErrorKind::ConnectionAborted,
        };
        let (connection, load) = (&mut *self.connection.borrow_mut(), &mut *self.load.borrow_mut());
        // Messages that `send_due` reaches on this connection later have no latency: they only
        // count as unsent.
        let now_ns = load.ns(Instant::now());
        connection.record_unanswered(load, now_ns);
        match std::mem::replace(&mut connection.stage, ConnectionStage::Closed) {
            ConnectionStage::Connecting => load.on_connect_failed(kind),
            ConnectionStage::Open => load.on_connection_lost(kind),
            ConnectionStage::Closed => unreachable!("a connection closes once"),
        }
    }
}
