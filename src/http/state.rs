//! The message in progress on an HTTP connection, and what is known of it.
//!
//! Invariant: one message is in progress at a time. The next request waits in the input of the
//! connection.

use std::fmt;

use super::body::{BodyStream, ReadOutcome};
use super::exchange::{Exchange, Promised};
use super::ongoing::Ongoing;
use super::responder::Upload;
use super::scan::Scan;
use crate::caught::CaughtDrop;
use crate::protocol::context::Context;
use crate::protocol::protocol::Next;
use crate::time::Time;

/// The parts of an exchange of messages, of which one is in progress.
pub(super) enum State {
    /// Receiving a request's head.
    Head(HeadProgress),
    /// Receiving a request's body. The response follows its last byte.
    Body(Box<BodyProgress>),
    /// Sending a response's body in pieces. Input waits until it is complete.
    StreamingBody(Box<BodyStream>),
    /// Waiting for an answer. Input waits until it has been sent.
    Promised(Box<Promised>),
    /// Sending a body that goes on, and after which the connection closes.
    Ongoing(Box<Ongoing>),
}

impl State {
    /// Between two requests: no byte of the next one has been received.
    pub(super) const NEXT: State = State::Head(HeadProgress::NEXT);
    /// No byte has been received on the connection.
    pub(super) const FIRST: State =
        State::Head(HeadProgress { is_first: true, ..HeadProgress::NEXT });

    /// Sends the next piece of the response body that is being sent. Returns what follows.
    #[cold]
    pub(super) fn stream_more(&mut self, cx: &mut Context<'_>) -> Next {
        let State::StreamingBody(stream) = self else { unreachable!("a body is being sent") };
        cx.cancel_timer();
        let next = match stream.read(cx.compose().0) {
            ReadOutcome::Data => {
                stream.linger_at_end();
                return Next::Pause;
            }
            ReadOutcome::WouldBlock(retry) if !stream.has_stalled(cx.limits().idle_timeout) => {
                cx.set_timer(retry);
                return Next::Pause;
            }
            ReadOutcome::Last => stream.next,
            // The client has received a Content-Length, and must not take less for the whole body.
            ReadOutcome::Failed | ReadOutcome::WouldBlock(_) => {
                cx.state.stats.bodies_failed += 1;
                Next::Abort
            }
        };
        cx.set_held_bytes(0);
        stream.log();
        *self = State::NEXT;
        next
    }

    /// When the responder's own timer expires.
    pub(super) fn responder_timer(&self) -> Time {
        match self {
            State::Promised(promised) => promised.timer(),
            State::Ongoing(ongoing) => ongoing.timer(),
            State::Head(_) | State::Body(_) | State::StreamingBody(_) => Time::NEVER,
        }
    }

    /// The responder's timer expires at `timer` from now on, while an answer is to come.
    pub(super) fn rearm(&mut self, timer: Time, cx: &mut Context<'_>) {
        match self {
            State::Promised(promised) => promised.rearm(timer, cx),
            State::Ongoing(ongoing) => ongoing.rearm(timer, cx),
            State::Head(_) | State::Body(_) | State::StreamingBody(_) => {}
        }
    }
}

/// The name of the state alone.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Head(_) => "Head",
            State::Body(_) => "Body",
            State::StreamingBody(_) => "StreamingBody",
            State::Promised(_) => "Promised",
            State::Ongoing(_) => "Ongoing",
        })
    }
}

/// What is known of a head that is not complete yet.
#[derive(Clone, Copy)]
pub(super) struct HeadProgress {
    /// How many bytes have been read without finding the end of the head, and how far it is then.
    pub(super) scanned: u16,
    pub(super) scan: Scan,
    /// The method is HEAD, so no response to it has a body, not even an error.
    pub(super) is_head: bool,
    /// How many empty lines preceded it.
    pub(super) empty_lines: u8,
    /// It is the first request on its connection.
    pub(super) is_first: bool,
}

impl HeadProgress {
    /// No byte has been received.
    pub(super) const NEXT: HeadProgress = HeadProgress {
        scanned: 0,
        scan: Scan::NEXT,
        is_head: false,
        empty_lines: 0,
        is_first: false,
    };
}

/// A request's body in progress, and how to respond after it.
pub(super) struct BodyProgress {
    /// Bytes still to be received.
    pub(super) left: u64,
    pub(super) body_use: BodyUse,
    pub(super) exchange: Exchange,
}

/// What is done with a request's body, and what gives the response.
pub(super) enum BodyUse {
    /// It is skipped. The responder then responds to the request, whose head is kept here.
    Skip(Box<[u8]>),
    /// The upload takes it, and responds.
    Upload(CaughtDrop<Box<dyn Upload>>),
}
