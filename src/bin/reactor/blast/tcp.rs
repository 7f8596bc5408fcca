//! A client over TCP: one connection to the server.
//!
//! What is under way on a connection is no more than the mark above which its peer is not read: so the two cannot both wait for the
//! other to read. What is owed beyond that waits here, and is late.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Instant;

use mio_reactor::{Advance, CloseReason, ConnectionId, Context, Next, Protocol, Reactor};

use super::limits::BURST;
use super::load::Load;
use super::outstanding::Outstanding;
use super::payload::Payloads;
use super::plan::{Pace, Plan};

/// The connections of all clients, from outside.
pub(super) struct Clients {
    plan: Rc<Plan>,
    load: Rc<RefCell<Load>>,
    all: Vec<(ConnectionId, Rc<RefCell<Conversation>>)>,
    /// How many messages of an open loop have been due, of all clients together.
    due: u64,
}

impl Clients {
    /// Begins all connections.
    pub(super) fn connect(
        reactor: &mut Reactor,
        plan: &Rc<Plan>,
        load: &Rc<RefCell<Load>>,
    ) -> Clients {
        let all = (0..plan.clients).map(|number| {
            let conversation = Rc::new(RefCell::new(Conversation::new(number, plan, load)));
            let client = Client { conversation: conversation.clone(), load: load.clone() };
            (reactor.connect(plan.address, client), conversation)
        });
        Clients { all: all.collect(), plan: plan.clone(), load: load.clone(), due: 0 }
    }

    /// Fails if this machine has kept some from trying: the load that was asked for cannot be offered then. How many a server lets
    /// in is its own affair.
    pub(super) fn all_have_tried(&self) -> io::Result<()> {
        let load = self.load.borrow();
        match &load.obstacle {
            None => Ok(()),
            Some(why) => {
                let made = load.reached;
                Err(io::Error::other(format!(
                    "only {made} of {} connections could be made: {why}",
                    self.plan.clients
                )))
            }
        }
    }

    /// The load begins: in a closed loop, all that shall be under way is sent.
    pub(super) fn start(&self, reactor: &mut Reactor) {
        let Pace::Window(window) = self.plan.pace else { return };
        for (id, conversation) in &self.all {
            let mut conversation = conversation.borrow_mut();
            conversation.owed = window;
            conversation.say(&mut self.load.borrow_mut(), 0, |message| {
                reactor.send_to(*id, message); // who has gone says so itself
            });
        }
    }

    /// In an open loop, sends what is due at `now`.
    pub(super) fn send_due(&mut self, reactor: &mut Reactor, now: Instant) {
        let Pace::Rate(rate) = self.plan.pace else { return };
        let now_ns = self.load.borrow_mut().ns(now);
        let count = u64::from(self.plan.clients);
        for _ in 0..BURST {
            let place =
                usize::try_from(self.due % count).expect("it is less than the number of clients");
            let (id, conversation) = &self.all[place];
            let mut conversation = conversation.borrow_mut();
            let load = &mut self.load.borrow_mut();
            if !load.is_due(Plan::due_ns(rate, self.due), now_ns) {
                return;
            }
            self.due += 1;
            conversation.owed += 1;
            conversation.say(load, now_ns, |message| {
                reactor.send_to(*id, message);
            });
        }
    }

    /// Nobody waits any more. Returns the place of the first message that no client has come to.
    pub(super) fn give_up(&self, load: &mut Load, now_ns: u64) -> u64 {
        for (_, conversation) in &self.all {
            let conversation = conversation.borrow();
            if conversation.stage != Stage::Over {
                conversation.give_up(load, now_ns); // who is over has done so
            }
        }
        self.due
    }
}

/// What is said on one connection.
struct Conversation {
    number: u32,
    plan: Rc<Plan>,
    messages: Payloads,
    outstanding: Outstanding,
    /// Messages that are due and have not been sent.
    owed: u64,
    /// The number of the message that the next reply belongs to.
    expected: u64,
    stage: Stage,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The server has not been reached yet.
    Connecting,
    /// Messages and replies pass.
    Open,
    /// The server could not be reached, or is lost. Nothing is sent any more.
    Over,
}

impl Conversation {
    fn new(number: u32, plan: &Rc<Plan>, load: &Rc<RefCell<Load>>) -> Conversation {
        Conversation {
            number,
            plan: plan.clone(),
            messages: Payloads::new(load.borrow().run(), number, plan.size),
            outstanding: Outstanding::new(plan.memory()),
            owed: 0,
            expected: 0,
            stage: Stage::Connecting,
        }
    }

    /// Sends what is owed, as far as there is room.
    fn say(&mut self, load: &mut Load, now_ns: u64, mut send: impl FnMut(&[u8])) {
        let under_way_max = self.plan.under_way_max();
        while self.owed > 0
            && self.outstanding.under_way() < under_way_max
            && load.is_sending()
            && self.stage == Stage::Open
        {
            let at_ns = match self.plan.pace {
                Pace::Window(_) => now_ns,
                Pace::Rate(rate) => self.due_ns(rate, self.outstanding.next()),
            };
            send(self.messages.compose(self.outstanding.send(at_ns)));
            load.counts.sent += 1;
            self.owed -= 1;
        }
    }

    /// Nobody waits on this connection any more. On a stream nothing is lost, only late: so all that has no reply counts, sent or
    /// still owed.
    fn give_up(&self, load: &mut Load, now_ns: u64) {
        self.outstanding.unanswered().for_each(|sent_ns| load.give_up(sent_ns, 1, now_ns));
        if let Pace::Rate(rate) = self.plan.pace {
            let next = self.outstanding.next();
            (next..next + self.owed)
                .for_each(|number| load.give_up(self.due_ns(rate, number), 1, now_ns));
        }
    }

    /// The moment at which message `number` is due.
    fn due_ns(&self, rate: u64, number: u64) -> u64 {
        Plan::due_ns(rate, self.plan.place(self.number, number))
    }
}

struct Client {
    conversation: Rc<RefCell<Conversation>>,
    load: Rc<RefCell<Load>>,
}

impl Protocol for Client {
    fn opened(&mut self, _: &mut Context<'_>) -> Next {
        self.conversation.borrow_mut().stage = Stage::Open;
        self.load.borrow_mut().connect();
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let (conversation, load) =
            (&mut *self.conversation.borrow_mut(), &mut *self.load.borrow_mut());
        let size = conversation.plan.size;
        if input.len() < size {
            return Advance::need_more();
        }
        let now_ns = load.ns(Instant::now());
        let replies = input.chunks_exact(size);
        for reply in replies {
            let Some(number) = conversation.messages.number_of(reply) else {
                // Where the next reply begins cannot be known any more.
                load.counts.corrupt += 1;
                return Advance::consumed(input.len()).then(Next::Abort);
            };
            load.count(conversation.outstanding.settle(number), now_ns);
            load.counts.misplaced += u64::from(number != conversation.expected);
            conversation.expected = number.wrapping_add(1); // one that never was sent may have any number
        }
        if let Pace::Window(window) = conversation.plan.pace {
            conversation.owed = window.saturating_sub(conversation.outstanding.under_way());
        }
        conversation.say(load, now_ns, |message| cx.send(message));
        Advance::consumed(input.len() / size * size)
    }

    fn closed(&mut self, why: CloseReason) {
        let kind = if let CloseReason::ConnectFailed(kind) | CloseReason::Io(kind) = why {
            kind
        } else if why == CloseReason::Finished {
            ErrorKind::UnexpectedEof
        } else if why == CloseReason::PeerReset {
            ErrorKind::ConnectionReset
        } else {
            ErrorKind::ConnectionAborted
        };
        let (conversation, load) =
            (&mut *self.conversation.borrow_mut(), &mut *self.load.borrow_mut());
        // What is due later waits for nobody, and is told as unsent alone.
        let now_ns = load.ns(Instant::now());
        conversation.give_up(load, now_ns);
        match std::mem::replace(&mut conversation.stage, Stage::Over) {
            Stage::Connecting => load.fail_to_connect(kind),
            Stage::Open => load.lose_connection(kind),
            Stage::Over => unreachable!("a connection closes once"),
        }
    }
}
