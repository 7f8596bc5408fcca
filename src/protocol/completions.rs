//! Completions: a value for a connection that any thread sends, once, and that is never refused.
//!
//! ```text
//!     another thread                          the loop's thread
//!     Completer::send ─┬─► channel ──┬─► note: queued as a message ──► message_received
//!                      └─► waker ────┘
//! ```
//!
//! A task ([`Handle::submit`](crate::Handle::submit)) may find its queue full, and a message its
//! mailbox. An answer that was promised may not get lost. So each promise has its place from the
//! start: it sends one completion and no more, and the channel holds no more than there are
//! promises. A job of a worker thread (`src/workers.rs`) sends one, too.
//!
//! Invariant: a completion that was sent is delivered in this turn or the next, and the loop does
//! not sleep before. A reactor that has none pays one branch for each turn.

use std::any::Any;
use std::cell::Cell;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use super::effects::Effects;
use super::ident::ConnectionId;
use crate::wake::Wake;

/// What is delivered to a connection as a message.
pub(crate) struct Completion {
    to: ConnectionId,
    message: Box<dyn Any + Send>,
}

/// The loop's end of the channel.
pub(crate) struct Completions {
    arrived: Receiver<Completion>,
    has_warned: Cell<bool>,
    shared: Arc<Shared>,
}

struct Shared {
    arriving: Sender<Completion>,
    /// Opened after the call in which the first completer was made. Until then the loop is awake.
    wake: OnceLock<Wake>,
}

/// Sends completions to one connection.
#[derive(Clone)]
pub(crate) struct Completer {
    to: ConnectionId,
    shared: Arc<Shared>,
}

impl Completions {
    #[cfg_attr(
        test,
        expect(clippy::arc_with_non_send_sync, reason = "the simulated waker stays on its thread")
    )]
    pub(crate) fn new() -> Completions {
        let (arriving, arrived) = channel();
        let shared = Arc::new(Shared { arriving, wake: OnceLock::new() });
        Completions { arrived, has_warned: Cell::new(false), shared }
    }

    pub(crate) fn completer(&self, to: ConnectionId) -> Completer {
        Completer { to, shared: Arc::clone(&self.shared) }
    }

    /// Returns whether it is to be logged that the loop cannot be woken: once.
    pub(crate) fn warns(&self) -> bool {
        !self.has_warned.replace(true)
    }

    /// Returns whether sending a completion wakes the loop.
    pub(crate) fn can_wake(&self) -> bool {
        self.shared.wake.get().is_some()
    }

    /// Lets completions wake the loop from now on. Those that were sent before are to be taken
    /// then.
    pub(crate) fn set_wake(&self, wake: Wake) {
        self.shared.wake.get_or_init(|| wake);
        // With the one in `send`: a completion either is there now, or finds the waker.
        fence(Ordering::SeqCst);
    }

    /// Queues what has arrived as messages.
    pub(crate) fn deliver(&self, effects: &mut Effects) {
        while let Some(Completion { to, message }) = self.take() {
            effects.push_completion(to, message);
        }
    }

    /// Takes the next that has arrived.
    pub(crate) fn take(&self) -> Option<Completion> {
        self.arrived.try_recv().ok()
    }
}

impl Completer {
    /// Returns what sends to the connection `to` of the same reactor.
    pub(crate) fn for_other(&self, to: ConnectionId) -> Completer {
        Completer { to, shared: Arc::clone(&self.shared) }
    }

    /// Sends `message`. If the reactor has been dropped, it is dropped as well.
    pub(crate) fn send(&self, message: Box<dyn Any + Send>) {
        let _ = self.shared.arriving.send(Completion { to: self.to, message });
        fence(Ordering::SeqCst); // see `Completions::set_wake`
        if let Some(wake) = self.shared.wake.get() {
            wake.wake();
        }
    }
}
