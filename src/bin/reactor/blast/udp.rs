//! A client over UDP: one socket, connected to the server.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use mio_reactor::{Batching, Datagram, DatagramProtocol, Replies};

use super::limits::{BURST, GIVE_UP_MS};
use super::load::Load;
use super::outstanding::Outstanding;
use super::payload::Payloads;
use super::plan::{Pace, Plan};

pub(super) struct Client {
    number: u32,
    plan: Rc<Plan>,
    load: Rc<RefCell<Load>>,
    messages: Payloads,
    outstanding: Outstanding,
}

impl Client {
    pub(super) fn new(number: u32, plan: &Rc<Plan>, load: &Rc<RefCell<Load>>) -> Client {
        Client {
            number,
            messages: Payloads::new(load.borrow().run(), number, plan.size),
            outstanding: Outstanding::new(plan.memory()),
            plan: plan.clone(),
            load: load.clone(),
        }
    }
}

impl DatagramProtocol for Client {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.wake_when_writable();
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let load = &mut *self.load.borrow_mut();
        let now_ns = load.ns(replies.received_at());
        // An empty prefix lies nowhere, and memcmp may read none of it by a masked load, for which that is an exception: 100 ns.
        let message = match &self.plan.prefix[..] {
            [] => Some(datagram.payload),
            prefix => datagram.payload.strip_prefix(prefix),
        };
        let Some(number) = message.and_then(|message| self.messages.number_of(message)) else {
            load.counts.corrupt += 1;
            return;
        };
        load.count(self.outstanding.settle(number), now_ns);
        if let Pace::Window(window) = self.plan.pace
            && self.outstanding.under_way() < window
            && load.is_sending()
        {
            say(&mut self.outstanding, &mut self.messages, load, now_ns, replies);
        }
    }

    /// Comes in every turn.
    fn writable(&mut self, replies: &mut Replies<'_>) {
        let load = &mut *self.load.borrow_mut();
        if !load.is_sending() {
            return;
        }
        let now_ns = load.ns(Instant::now());
        match self.plan.pace {
            Pace::Window(window) => {
                self.outstanding.give_up(now_ns.saturating_sub(GIVE_UP_MS * 1_000_000));
                let missing = window.saturating_sub(self.outstanding.under_way());
                for _ in 0..missing.min(BURST as u64) {
                    if replies.is_full() {
                        break;
                    }
                    say(&mut self.outstanding, &mut self.messages, load, now_ns, replies);
                }
            }
            Pace::Rate(rate) => {
                for _ in 0..BURST {
                    let due_ns =
                        Plan::due_ns(rate, self.plan.place(self.number, self.outstanding.next()));
                    if !load.is_due(due_ns, now_ns) || replies.is_full() {
                        break;
                    }
                    say(&mut self.outstanding, &mut self.messages, load, due_ns, replies);
                }
            }
        }
        replies.wake_when_writable();
    }

    fn error_received(&mut self, error: &io::Error, _: &mut Replies<'_>) {
        self.load.borrow_mut().fail(error);
    }

    fn batching(&self) -> Batching {
        self.plan.batching
    }
}

/// Sends the next message, at `now_ns` or for that time.
#[inline]
fn say(
    outstanding: &mut Outstanding,
    messages: &mut Payloads,
    load: &mut Load,
    now_ns: u64,
    replies: &mut Replies<'_>,
) {
    replies.send(messages.compose(outstanding.send(now_ns)));
    load.counts.sent += 1;
}
