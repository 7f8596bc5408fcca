//! A load client of an echo server over TCP: it checks every byte that comes back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use mio_reactor::{Advance, CloseReason, Context, Next, Protocol};

use super::diagnosis::describe_wrong_reply;
use super::load::Load;
use super::plan::Pace;
use super::stream::{ConnectionStage, LoadConnection, Messages, kind_of};

pub(super) struct TcpClient {
    connection: Rc<RefCell<LoadConnection>>,
    load: Rc<RefCell<Load>>,
}

impl TcpClient {
    pub(super) fn new(
        connection: &Rc<RefCell<LoadConnection>>,
        load: &Rc<RefCell<Load>>,
    ) -> TcpClient {
        TcpClient { connection: connection.clone(), load: load.clone() }
    }
}

impl Protocol for TcpClient {
    fn opened(&mut self, _: &mut Context<'_>) -> Next {
        self.connection.borrow_mut().on_connected(&mut self.load.borrow_mut());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let (connection, load) = (&mut *self.connection.borrow_mut(), &mut *self.load.borrow_mut());
        let Messages::Echo(payloads) = &connection.messages else {
            unreachable!("what an echo client sends are payloads")
        };
        let size = connection.plan.size;
        if input.len() < size {
            if connection.expected == 0 {
                load.note_fragment(input);
            }
            return Advance::need_more();
        }
        let now_ns = load.ns(Instant::now());
        for (at, reply) in input.chunks_exact(size).enumerate() {
            let Some(number) = payloads.number_of(reply) else {
                // From here on it is unknown where the next reply begins.
                load.count_wrong(|counts| {
                    let (received, plan) = (counts.received, &*connection.plan);
                    describe_wrong_reply(&input[at * size..], received, plan, payloads)
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
        let (connection, load) = (&mut *self.connection.borrow_mut(), &mut *self.load.borrow_mut());
        assert_ne!(connection.stage, ConnectionStage::Closed, "a connection closes once");
        connection.give_up(load, kind_of(why));
    }
}
