//! What a datagram protocol has requested of its own socket.

use std::time::{Duration, Instant};

use crate::protocol::ident::ConnectionId;
use crate::sys;
use crate::time::Time;

pub(crate) struct SocketRequests {
    pub(crate) phase: SocketPhase,
    /// Issued when it gets its slot, before its protocol is called.
    pub(crate) id: ConnectionId,
    /// When the protocol's timer expires. `NEVER`: none is set.
    pub(crate) timer: Time,
    pub(crate) now: Time,
    /// When the reactor was made.
    pub(crate) started: Instant,
    /// When the batch was received, if the protocol has requested that.
    pub(crate) received_at: Option<Instant>,
}

/// What a datagram socket does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketPhase {
    /// It has not been driven yet, nor its protocol called.
    New,
    /// It answers what arrives, and its timer.
    Receiving,
    /// The same, and its protocol is called again once all that waits has been sent.
    AwaitingWritable,
    /// It ends once all that waits has been sent.
    Closing,
}

impl SocketRequests {
    pub(crate) fn new(started: Instant) -> SocketRequests {
        SocketRequests {
            phase: SocketPhase::New,
            id: ConnectionId::NONE,
            timer: Time::NEVER,
            now: Time::at(Duration::ZERO),
            started,
            received_at: None,
        }
    }

    pub(crate) fn set_timer(&mut self, delay: Duration) {
        if self.phase != SocketPhase::Closing {
            let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            self.timer = self.now.plus_ms(ms.max(1));
        }
    }

    pub(crate) fn wake_when_writable(&mut self) {
        if self.phase != SocketPhase::Closing {
            self.phase = SocketPhase::AwaitingWritable;
        }
    }

    pub(crate) fn close(&mut self) {
        self.phase = SocketPhase::Closing;
        self.timer = Time::NEVER;
    }

    pub(crate) fn now_as_instant(&self) -> Instant {
        self.started + self.now.since(Time::at(Duration::ZERO))
    }

    pub(crate) fn received_at(&mut self) -> Instant {
        *self.received_at.get_or_insert_with(sys::now)
    }
}
