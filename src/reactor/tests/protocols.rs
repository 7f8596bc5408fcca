//! The protocols that the simulated peers are served by, and the ledger of how connections ended.
//!
//! Everything that is sent is taken from a few endless texts, in which no stretch of a few bytes
//! looks like another. So a lost, repeated or misplaced byte is always noticed.

use std::any::Any;
use std::sync::LazyLock;

use super::*;
use crate::protocol::layer::Layers;
use crate::protocol::notification::Notification;

/// Random bytes, of which the texts are made.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).take(65_521).collect()
});

/// Calls `with` on the bytes `position..position + count` of the endless text `tag`, slice by
/// slice.
pub(super) fn text(tag: u16, position: usize, count: usize, mut with: impl FnMut(&[u8])) {
    let (mut at, mut left) = ((usize::from(tag) * 977 + position) % PATTERN.len(), count);
    while left > 0 {
        let length = left.min(PATTERN.len() - at);
        with(&PATTERN[at..][..length]);
        left -= length;
        at = 0;
    }
}

pub(super) fn text_of(tag: u16, position: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count);
    text(tag, position, count, |slice| bytes.extend_from_slice(slice));
    bytes
}

/// Returns whether `bytes` are those of the text `tag` from `position` on.
pub(super) fn is_text(tag: u16, position: usize, bytes: &[u8]) -> bool {
    let (mut at, mut is_same) = (0, true);
    text(tag, position, bytes.len(), |slice| {
        is_same &= bytes[at..][..slice.len()] == *slice;
        at += slice.len();
    });
    is_same
}

/// The protocols that were made, each with its peer and, once it was closed, the reason.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) close_reasons: Vec<Option<CloseReason>>,
    pub(super) peers: Vec<SocketAddr>,
}

impl Ledger {
    pub(super) fn close_reason_of(&self, peer: SocketAddr) -> Option<CloseReason> {
        let number = self.peers.iter().position(|&other| other == peer)?;
        self.close_reasons[number]
    }
}

/// A protocol with an entry in the ledger. Checks that `closed` is called once, and nothing after
/// it.
pub(super) struct Witnessed<P> {
    protocol: P,
    number: usize,
    ledger: Rc<RefCell<Ledger>>,
}

impl<P> Witnessed<P> {
    pub(super) fn new(protocol: P, peer: SocketAddr, ledger: &Rc<RefCell<Ledger>>) -> Witnessed<P> {
        let number = ledger.borrow().close_reasons.len();
        ledger.borrow_mut().close_reasons.push(None);
        ledger.borrow_mut().peers.push(peer);
        Witnessed { protocol, number, ledger: ledger.clone() }
    }

    /// The protocol, which has not been closed.
    fn protocol(&mut self) -> &mut P {
        let closed = self.ledger.borrow().close_reasons[self.number];
        assert_eq!(closed, None, "no call comes after closed()");
        &mut self.protocol
    }
}

impl<P: Protocol> Protocol for Witnessed<P> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.protocol().opened(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "advance() is called with input");
        self.protocol().advance(input, cx)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.protocol().eof(rest, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.protocol().output_low(cx)
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        self.protocol().notified(about, notification, cx)
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        self.protocol().message_received(message, cx)
    }

    fn layers(&mut self) -> Option<&mut dyn Layers> {
        self.protocol.layers()
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.protocol().timer_expired(cx)
    }

    /// No connection of a random run is evicted: its peer might be about to send a request, which
    /// would then be answered with a reset.
    fn is_evictable(&self) -> bool {
        false
    }

    fn closed(&mut self, why: CloseReason) {
        self.protocol().closed(why);
        self.ledger.borrow_mut().close_reasons[self.number] = Some(why);
    }
}

/// Sends long replies in chunks, and pauses between them. After the peer's FIN it sends a trailer.
///
/// A request has four bytes: for how many milliseconds to wait, and how many bytes to send.
pub(super) struct BulkServer {
    pub(super) tag: u16,
    /// The bytes that it sends in one call.
    pub(super) chunk_bytes: usize,
    position: usize,
    left: usize,
}

impl BulkServer {
    pub(super) fn new(tag: u16, chunk_bytes: usize) -> BulkServer {
        BulkServer { tag, chunk_bytes, position: 0, left: 0 }
    }

    pub(super) fn request(wait_ms: u8, count: usize) -> Vec<u8> {
        let mut request = u32::try_from(count).expect("a reply is short").to_be_bytes();
        assert_eq!(request[0], 0);
        request[0] = wait_ms;
        request.to_vec()
    }

    pub(super) fn trailer_bytes(tag: u16) -> usize {
        usize::from(tag) * 1721 % 60_000
    }

    fn send_chunk(&mut self, cx: &mut Context<'_>) -> Next {
        let count = self.left.min(self.chunk_bytes);
        text(self.tag, self.position, count, |slice| cx.send(slice));
        self.position += count;
        self.left -= count;
        if self.left == 0 { Next::Continue } else { Next::Pause }
    }
}

impl Protocol for BulkServer {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert_eq!(self.left, 0, "no input is fed while it has paused");
        let Some(&[wait_ms, high, middle, low]) = input.first_chunk() else {
            return Advance::need_more();
        };
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        let next = match wait_ms {
            0 => self.send_chunk(cx),
            ms => {
                cx.set_timer(Duration::from_millis(u64::from(ms)));
                Next::Pause
            }
        };
        Advance::consumed(4).then(next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        assert!(rest.len() < 4 && self.left == 0, "all whole requests have been consumed");
        self.left = BulkServer::trailer_bytes(self.tag);
        self.send_chunk(cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        assert!(self.left > 0, "it has paused because there is more to send");
        self.send_chunk(cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.send_chunk(cx)
    }
}
