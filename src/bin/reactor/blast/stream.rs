//! The load over streams: all clients, each with one connection to the server at a time.
//!
//! What a message is, and where a reply ends, is said by the protocol of a connection: `tcp.rs` for
//! echo, `http.rs` for HTTP. When messages are sent is decided here, alike for both.
//!
//! Invariant: the messages in flight on a connection do not exceed the high watermark, at which a
//! reactor stops reading from its peer. So client and server never both stop reading and wait for
//! the other. Messages beyond that are owed: they wait here, and are sent late.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Instant;

use mio_reactor::{CloseReason, ConnectionId, Reactor};

use super::http::{HttpClient, Requests};
use super::limits::BURST;
use super::load::Load;
use super::outstanding::{Outstanding, ReplyKind};
use super::payload::Payloads;
use super::plan::{Pace, Plan, Service};
use super::target::Server;
use super::tcp::TcpClient;

/// All clients, as the load generator sees them from outside the reactor.
pub(super) struct StreamClients {
    plan: Rc<Plan>,
    load: Rc<RefCell<Load>>,
    /// The connection that each client has now, or had last.
    all: Vec<(Option<ConnectionId>, Rc<RefCell<LoadConnection>>)>,
    /// How many messages of an open loop have been due, of all clients together.
    due: u64,
}

impl StreamClients {
    /// Starts all connects.
    pub(super) fn connect(
        reactor: &mut Reactor,
        plan: &Rc<Plan>,
        load: &Rc<RefCell<Load>>,
    ) -> StreamClients {
        let run_id = load.borrow().run_id();
        let all = (0..plan.clients)
            .map(|number| (None, Rc::new(RefCell::new(LoadConnection::new(number, plan, run_id)))));
        let mut clients =
            StreamClients { all: all.collect(), plan: plan.clone(), load: load.clone(), due: 0 };
        (0..clients.all.len()).for_each(|index| clients.open(reactor, index));
        clients
    }

    /// Starts the connects of clients that need another connection.
    #[inline]
    pub(super) fn reconnect(&mut self, reactor: &mut Reactor) {
        if self.load.borrow().to_connect.is_empty() {
            return;
        }
        let numbers = std::mem::take(&mut self.load.borrow_mut().to_connect);
        for number in numbers {
            self.open(reactor, usize::try_from(number).expect("a client's number is an index"));
        }
    }

    fn open(&mut self, reactor: &mut Reactor, index: usize) {
        let (id, connection) = &mut self.all[index];
        let load = &self.load;
        *id = match &self.plan.service {
            Service::Tcp(address) => {
                Some(reactor.connect(*address, TcpClient::new(connection, load)))
            }
            Service::Http(http) => {
                let client = HttpClient::new(http, connection, load);
                match &http.server {
                    Server::Net(address) => Some(reactor.connect(*address, client)),
                    Server::Unix(path) => match connect_unix(reactor, path, client) {
                        Ok(id) => Some(id),
                        Err(error) => {
                            connection.borrow_mut().on_unix_error(&mut load.borrow_mut(), &error);
                            None
                        }
                    },
                }
            }
            Service::Udp(_) => unreachable!("datagrams have clients of their own"),
        };
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
                // A lost connection is counted in `closed`.
                let _ = id.map(|id| reactor.send_to(id, message));
            });
            connection.reconnect_if_needed(&mut self.load.borrow_mut());
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
                let _ = id.map(|id| reactor.send_to(id, message));
            });
            connection.reconnect_if_needed(load);
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

/// The state of one client, shared by the protocol of its connection and [`StreamClients`].
pub(super) struct LoadConnection {
    number: u32,
    pub(super) plan: Rc<Plan>,
    pub(super) messages: Messages,
    pub(super) outstanding: Outstanding,
    /// Messages that are due and have not been sent.
    pub(super) owed: u64,
    /// The number of the message to which the next reply belongs.
    pub(super) expected: u64,
    pub(super) stage: ConnectionStage,
    /// When its last connect began.
    connecting_since: Instant,
    has_connected: bool,
    /// How many connections in a row have ended without a reply (HTTP only).
    pub(super) fruitless: u32,
}

/// What a client sends.
pub(super) enum Messages {
    /// A message that differs from every other, and is to come back.
    Echo(Payloads),
    /// The same request each time.
    Http(Requests),
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionStage {
    /// The connect has not finished.
    Connecting,
    /// Messages and replies pass.
    Open,
    /// The server has ended it between two replies. The next message opens another one (HTTP only).
    Unconnected,
    /// The client is given up, and nothing is sent any more. For echo: the connect failed, or the
    /// connection has ended.
    Closed,
}

impl LoadConnection {
    fn new(number: u32, plan: &Rc<Plan>, run_id: u32) -> LoadConnection {
        LoadConnection {
            number,
            plan: plan.clone(),
            messages: match &plan.service {
                Service::Http(http) => Messages::Http(Requests::new(http)),
                Service::Tcp(_) | Service::Udp(_) => {
                    Messages::Echo(Payloads::new(run_id, number, plan.size))
                }
            },
            outstanding: Outstanding::new(plan.memory()),
            owed: 0,
            expected: 0,
            stage: ConnectionStage::Connecting,
            connecting_since: Instant::now(),
            has_connected: false,
            fruitless: 0,
        }
    }

    /// The connect has succeeded. Returns when it began.
    pub(super) fn on_connected(&mut self, load: &mut Load) -> Instant {
        self.stage = ConnectionStage::Open;
        if !std::mem::replace(&mut self.has_connected, true) {
            load.on_connected();
        }
        self.connecting_since
    }

    /// Gives the client up: its connect or its connection has failed.
    pub(super) fn give_up(&mut self, load: &mut Load, why: ErrorKind) {
        // Messages that `send_due` reaches on this connection later have no latency: they only
        // count as unsent.
        let now_ns = load.ns(Instant::now());
        self.record_unanswered(load, now_ns);
        self.stage = ConnectionStage::Closed;
        if self.has_connected {
            load.on_connection_lost(why);
        } else {
            load.on_connect_failed(why);
        }
    }

    /// A Unix socket could not be connected. If its backlog is full (`WouldBlock`), it is tried
    /// again: unlike over TCP, the kernel does not do that.
    fn on_unix_error(&mut self, load: &mut Load, error: &io::Error) {
        let is_late = self.connecting_since.elapsed() >= self.plan.connect_timeout;
        if error.kind() != ErrorKind::WouldBlock {
            self.give_up(load, error.kind());
        } else if is_late {
            self.give_up(load, ErrorKind::TimedOut);
        } else {
            load.to_connect.push(self.number);
        }
    }

    /// Asks for another connection if there is none and something is to be sent.
    #[inline]
    pub(super) fn reconnect_if_needed(&mut self, load: &mut Load) {
        let has_message = self.outstanding.in_flight() > 0 || (self.owed > 0 && load.is_sending());
        if self.stage == ConnectionStage::Unconnected && has_message {
            self.stage = ConnectionStage::Connecting;
            self.connecting_since = Instant::now();
            load.to_connect.push(self.number);
        }
    }

    /// Sends owed messages, as many as may be in flight.
    #[inline]
    pub(super) fn send_owed(&mut self, load: &mut Load, now_ns: u64, mut send: impl FnMut(&[u8])) {
        let in_flight_max = self.plan.in_flight_max();
        while self.owed > 0
            && self.outstanding.in_flight() < in_flight_max
            && load.is_sending()
            && self.stage == ConnectionStage::Open
            && self.messages.may_follow()
        {
            let at_ns = match self.plan.pace {
                Pace::Window(_) => now_ns,
                Pace::Rate(rate) => self.due_ns(rate, self.outstanding.next_number()),
            };
            send(self.messages.compose(self.outstanding.record_sent(at_ns)));
            load.count_sent(at_ns, now_ns);
            self.owed -= 1;
        }
    }

    /// Sends again what is in flight, on a new connection. Returns how many messages.
    pub(super) fn resend(&mut self, mut send: impl FnMut(&[u8])) -> u64 {
        let unanswered = self.expected..self.outstanding.next_number();
        unanswered.clone().for_each(|number| send(self.messages.compose(number)));
        unanswered.end - unanswered.start
    }

    /// Records that the next reply in order does not come, and the one after it is the next.
    pub(super) fn lose_reply(&mut self, load: &mut Load, now_ns: u64) {
        let reply = self.outstanding.record_reply(self.expected);
        if let ReplyKind::First { sent_ns, .. } = reply {
            load.record_unanswered(sent_ns, 1, now_ns);
            self.expected += 1;
        }
    }

    /// Records all messages without a reply in the latencies, whether sent or still owed: a stream
    /// drops no single message, so a reply would have come later. In the report, those that were
    /// sent count as lost, too, and those owed as unsent.
    pub(super) fn record_unanswered(&self, load: &mut Load, now_ns: u64) {
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

impl Messages {
    /// Returns whether another message may be sent on the present connection.
    #[inline]
    pub(super) fn may_follow(&self) -> bool {
        match self {
            Messages::Echo(_) => true,
            Messages::Http(requests) => requests.may_follow(),
        }
    }

    #[inline]
    fn compose(&mut self, number: u64) -> &[u8] {
        match self {
            Messages::Echo(payloads) => payloads.compose(number),
            Messages::Http(requests) => requests.next(),
        }
    }
}

/// Connects without blocking, and hands the stream to the reactor.
#[cfg(unix)]
fn connect_unix(
    reactor: &mut Reactor,
    path: &std::path::Path,
    client: HttpClient,
) -> io::Result<ConnectionId> {
    use socket2::{Domain, Socket, Type};

    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&crate::unix_address::unix_address(path)?)?;
    reactor.add_unix_stream(std::os::fd::OwnedFd::from(socket).into(), client)
}

#[cfg(not(unix))]
fn connect_unix(_: &mut Reactor, _: &std::path::Path, _: HttpClient) -> io::Result<ConnectionId> {
    Err(io::Error::new(ErrorKind::Unsupported, crate::address::NO_UNIX_SOCKETS))
}

/// Returns the kind of error that the report counts for a connection that has ended.
pub(super) fn kind_of(why: CloseReason) -> ErrorKind {
    match why {
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
    }
}
