//! A load client over UDP: one socket, connected to the server.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use mio_reactor::{Batching, Datagram, DatagramProtocol, Replies};

use super::diagnosis::describe_wrong_reply;
use super::limits::BURST;
use super::load::Load;
use super::outstanding::Outstanding;
use super::payload::Payloads;
use super::plan::{Pace, Plan};

pub(super) struct UdpClient {
    number: u32,
    plan: Rc<Plan>,
    load: Rc<RefCell<Load>>,
    payloads: Payloads,
    outstanding: Outstanding,
}

impl UdpClient {
    pub(super) fn new(number: u32, plan: &Rc<Plan>, load: &Rc<RefCell<Load>>) -> UdpClient {
        UdpClient {
            number,
            payloads: Payloads::new(load.borrow().run_id(), number, plan.size),
            outstanding: Outstanding::new(plan.memory()),
            plan: plan.clone(),
            load: load.clone(),
        }
    }
}

impl DatagramProtocol for UdpClient {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.wake_when_writable();
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let load = &mut *self.load.borrow_mut();
        let now_ns = load.ns(replies.received_at());
        // Fast path: no memcmp for an empty prefix. It has no valid address, and a masked load of
        // zero bytes from there raises an exception in the processor, which costs 100 ns.
        let message = match &self.plan.prefix[..] {
            [] => Some(datagram.payload),
            prefix => datagram.payload.strip_prefix(prefix),
        };
        let Some(number) = message.and_then(|message| self.payloads.number_of(message)) else {
            load.count_wrong(|counts| {
                let (received, plan) = (counts.received, &*self.plan);
                describe_wrong_reply(datagram.payload, received, plan, &self.payloads)
            });
            return;
        };
        load.count(self.outstanding.record_reply(number), now_ns);
        if let Pace::Window(window) = self.plan.pace
            && self.outstanding.in_flight() < window
            && load.is_sending()
        {
            send_next(&mut self.outstanding, &mut self.payloads, now_ns, replies);
            load.count_sent(now_ns, now_ns);
        }
    }

    /// Called in every turn, because it asks for it each time.
    fn writable(&mut self, replies: &mut Replies<'_>) {
        let load = &mut *self.load.borrow_mut();
        if !load.is_sending() {
            return;
        }
        let now_ns = load.ns(Instant::now());
        match self.plan.pace {
            Pace::Window(window) => {
                let patience = &mut load.patience;
                let is_over = |sent_ns| patience.is_over(sent_ns, now_ns);
                if let Some(sent_ns) = self.outstanding.stop_awaiting(is_over) {
                    patience.back_off(sent_ns, now_ns);
                }
                let missing = window.saturating_sub(self.outstanding.in_flight());
                for _ in 0..missing.min(BURST as u64) {
                    if replies.is_full() {
                        break;
                    }
                    send_next(&mut self.outstanding, &mut self.payloads, now_ns, replies);
                    load.count_sent(now_ns, now_ns);
                }
            }
            Pace::Rate(rate) => {
                for _ in 0..BURST {
                    let next = self.outstanding.next_number();
                    let due_ns = Plan::due_ns(rate, self.plan.sequence(self.number, next));
                    if !load.is_due(due_ns, now_ns) || replies.is_full() {
                        break;
                    }
                    send_next(&mut self.outstanding, &mut self.payloads, due_ns, replies);
                    load.count_sent(due_ns, now_ns);
                }
            }
        }
        replies.wake_when_writable();
    }

    fn error_received(&mut self, error: &io::Error, _: &mut Replies<'_>) {
        self.load.borrow_mut().on_error(error);
    }

    fn batching(&self) -> Batching {
        self.plan.batching
    }
}

/// Sends the next message, and records it with its send or due time.
#[inline]
fn send_next(
    outstanding: &mut Outstanding,
    payloads: &mut Payloads,
    at_ns: u64,
    replies: &mut Replies<'_>,
) {
    replies.send(payloads.compose(outstanding.record_sent(at_ns)));
}
