//! How the replies of a datagram socket leave, and what an error costs: the datagram that it is
//! about, and no other.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use log::debug;

use super::failures::{may_be_of_earlier_send, warn_of_sends};
use super::replies::ReplyQueue;
use super::scratch::DatagramScratch;
use super::socket::DatagramSocket;
use super::traced::write_send;
use super::transport::DatagramTransport;
use crate::limits::DATAGRAM_COST_BYTES;
use crate::loop_state::LoopState;
use crate::stream::readiness::Readiness;
use crate::sys::errno::{self, DatagramError};
use crate::trace::{self, Place};

impl<T: DatagramTransport> DatagramSocket<T> {
    /// Sends the replies that wait, as far as the kernel takes them.
    pub(super) fn send(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
    ) {
        if !scratch.replies.is_empty() {
            self.flush(ready, scratch, state);
        }
    }

    #[inline(never)] // mostly nothing waits when `send` is called
    fn flush(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
    ) {
        let DatagramSocket { transport, failure, peer, slot, .. } = self;
        let DatagramScratch { batch, replies, arrays } = scratch;
        // On a connected socket, the error of a send is mostly that of an earlier datagram (from
        // ICMP), and reporting it clears it. So this datagram is sent again; only once, because the
        // error may be its own after all.
        let may_retry = peer.is_some() && failure.is_none();
        send_replies(replies, ready, state, self.address, |replies, state| {
            let result = transport.send(batch, replies, arrays);
            if trace::is_on() {
                let place = Place::new(state, *slot);
                write_send(place, transport.is_batched(), replies, &result);
            }
            match result {
                Err(error) if may_retry && failure.is_none() && may_be_of_earlier_send(&error) => {
                    *failure = Some(error);
                    Err(ErrorKind::Interrupted.into())
                }
                other => other,
            }
        });
        state.stats.datagram_errors += u64::from(may_retry && failure.is_some());
    }
}

/// Counts the replies that were not queued.
pub(super) fn count_unsendable(replies: &mut ReplyQueue, state: &mut LoopState) {
    if !replies.has_unsendable() {
        return;
    }
    let (too_long, dropped) = replies.take_unsendable();
    state.stats.datagrams_too_long += too_long;
    state.stats.datagrams_unsent += dropped;
}

/// Sends the replies that wait until all have left or the kernel takes no more. `send` makes one
/// system call, and returns how many GSO batches the kernel took; in tests it may be a function
/// that fails.
pub(super) fn send_replies(
    replies: &mut ReplyQueue,
    ready: &mut Readiness,
    state: &mut LoopState,
    address: SocketAddr,
    mut send: impl FnMut(&ReplyQueue, &LoopState) -> io::Result<usize>,
) {
    while !replies.is_empty() && ready.writable() {
        let result = send(replies, state);
        match result {
            Ok(messages) => {
                let (datagrams, bytes) = replies.mark_sent(messages);
                state.stats.datagrams_out += datagrams as u64;
                state.budget.charge(datagrams * DATAGRAM_COST_BYTES + bytes);
            }
            Err(error) => match errno::classify_send_datagram(&error) {
                DatagramError::WouldBlock => ready.set_writable(false),
                DatagramError::Interrupted => {}
                DatagramError::GsoUnsupported if replies.split_segments(false) => {
                    debug!("udp {address}: GSO is off from now on: {error}");
                }
                DatagramError::GsoTooLargeForPath if replies.split_segments(true) => {
                    debug!("udp {address}: GSO batch sent as single datagrams: {error}");
                }
                // Without segments to split, the error is that of a single datagram.
                kind @ (DatagramError::GsoUnsupported
                | DatagramError::GsoTooLargeForPath
                | DatagramError::Unsendable) => {
                    state.stats.datagrams_unsent += replies.mark_sent(1).0 as u64;
                    debug!("udp {address}: send: {error}");
                    if kind == DatagramError::GsoUnsupported {
                        warn_of_sends(address, &error, state);
                    }
                }
            },
        }
    }
}
