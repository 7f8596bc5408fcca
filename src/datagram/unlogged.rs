//! What a drive of a datagram socket has met, until it is logged in one line for the whole drive.

use std::fmt;
use std::net::SocketAddr;

use log::{debug, error};

use super::filter::DropReason;

/// What a drive has met that is logged in one line for the whole drive.
#[derive(Default)]
pub(super) struct Unlogged {
    /// How many datagrams were dropped, and the sender and the reason of the last one.
    dropped: usize,
    pub(super) last_dropped: Option<(Option<SocketAddr>, DropReason)>,
    /// How many calls of the protocol panicked.
    pub(super) panics: usize,
}

impl Unlogged {
    pub(super) fn add_dropped(&mut self, count: usize, peer: Option<SocketAddr>, why: DropReason) {
        self.dropped += count;
        self.last_dropped = Some((peer, why));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dropped == 0 && self.panics == 0
    }

    /// Logs what was dropped, and that the protocol panicked: one line each for the whole drive.
    #[cold]
    pub(super) fn log(&mut self, address: SocketAddr) {
        let Unlogged { dropped, last_dropped, panics } = std::mem::take(self);
        if let Some((peer, why)) = last_dropped {
            let peer: &dyn fmt::Display = peer.as_ref().map_or(&"an unknown address", |peer| peer);
            debug!("udp {}: dropped a datagram from {peer}: {why} ({dropped} this turn)", address);
        }
        if panics > 0 {
            error!("udp {}: protocol panicked ({panics} times this turn)", address);
        }
    }
}
