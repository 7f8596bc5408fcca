//! Waking the loop from another thread, or from its own.
//!
//! Invariant: a wake that begins after the loop has looked for work ends the next poll, whatever
//! the selector does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::error;

use crate::sys::{self, Registry, Token, Waker};

/// Wakes the poll of one reactor. Clones wake the same one.
#[derive(Clone)]
pub(crate) struct Wake(Arc<Shared>);

struct Shared {
    /// The poll was to be woken, and the loop has not looked since. mio's poll(2) selector loses a
    /// wake that meets a registration, or a call that returns `WouldBlock`.
    woken: AtomicBool,
    waker: Waker,
}

impl Wake {
    /// Opens a waker. Each wake is an event for `token`.
    #[cfg_attr(
        test,
        expect(clippy::arc_with_non_send_sync, reason = "the simulated waker stays on its thread")
    )]
    pub(crate) fn open(registry: &Registry, token: Token) -> io::Result<Wake> {
        let waker = Waker::new(registry, token)?;
        Ok(Wake(Arc::new(Shared { woken: AtomicBool::new(false), waker })))
    }

    /// Ends the poll if it sleeps; otherwise the next one does not sleep.
    pub(crate) fn wake(&self) {
        if sys::rearms_only_on_would_block() {
            self.0.woken.store(true, Ordering::Release);
        }
        if let Err(error) = self.0.waker.wake() {
            // Only a descriptor that other code has closed causes this. What was asked for is
            // stored, and is done after the next wake that succeeds.
            error!("waking the poll failed: {error}");
        }
    }

    /// Returns whether a wake may have been lost since the last call.
    pub(crate) fn take_lost(&self) -> bool {
        self.0.woken.swap(false, Ordering::Acquire)
    }
}
