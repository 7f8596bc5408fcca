//! What the simulated peers talk to.

use std::sync::LazyLock;

use super::*;
use crate::http::protocol::Responder;
use crate::http::request::Request;
use crate::http::response::{Response, Status};
use crate::protocol::notification::Notification;

/// Bytes in which no stretch of a few looks like another.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).take(65_521).collect()
});

/// Calls `with` on the bytes `position..position + count` of the endless text that has the number `tag`, slice by slice.
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

/// Are `bytes` those of the text `tag` from `position` on?
pub(super) fn is_text(tag: u16, position: usize, bytes: &[u8]) -> bool {
    let (mut at, mut is_same) = (0, true);
    text(tag, position, bytes.len(), |slice| {
        is_same &= bytes[at..][..slice.len()] == *slice;
        at += slice.len();
    });
    is_same
}

/// How each conversation has ended.
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

/// A protocol that must be told of its end once, and of nothing after that.
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

    fn is_told(&mut self) -> &mut P {
        assert_eq!(
            self.ledger.borrow().close_reasons[self.number],
            None,
            "nothing comes after the end"
        );
        &mut self.protocol
    }
}

impl<P: Protocol> Protocol for Witnessed<P> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.is_told().opened(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "there is something to hear");
        self.is_told().advance(input, cx)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.is_told().eof(rest, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.is_told().output_low(cx)
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
        self.is_told().notified(about, news, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.is_told().timer_expired(cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.is_told().closed(why);
        self.ledger.borrow_mut().close_reasons[self.number] = Some(why);
    }
}

/// Long answers, piece by piece. An order has four bytes: how many milliseconds to think, and how many bytes are wanted.
/// What follows the peer's FIN is a farewell.
pub(super) struct Feeder {
    pub(super) tag: u16,
    /// The bytes that it says at once.
    pub(super) piece: usize,
    position: usize,
    left: usize,
}

impl Feeder {
    pub(super) fn new(tag: u16, piece: usize) -> Feeder {
        Feeder { tag, piece, position: 0, left: 0 }
    }

    pub(super) fn order(think_ms: u8, count: usize) -> Vec<u8> {
        let mut order = u32::try_from(count).expect("an order is small").to_be_bytes();
        assert_eq!(order[0], 0);
        order[0] = think_ms;
        order.to_vec()
    }

    pub(super) fn farewell(tag: u16) -> usize {
        usize::from(tag) * 1721 % 60_000
    }

    fn feed(&mut self, cx: &mut Context<'_>) -> Next {
        let count = self.left.min(self.piece);
        text(self.tag, self.position, count, |slice| cx.send(slice));
        self.position += count;
        self.left -= count;
        if self.left == 0 { Next::Continue } else { Next::Pause }
    }
}

impl Protocol for Feeder {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert_eq!(self.left, 0, "nothing is heard while it speaks");
        let Some(&[think_ms, high, middle, low]) = input.first_chunk() else {
            return Advance::need_more();
        };
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        let next = match think_ms {
            0 => self.feed(cx),
            ms => {
                cx.set_timer(Duration::from_millis(u64::from(ms)));
                Next::Pause
            }
        };
        Advance::consumed(4).then(next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        assert!(rest.len() < 4 && self.left == 0, "all whole orders have been taken");
        self.left = Feeder::farewell(self.tag);
        self.feed(cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        assert!(self.left > 0, "it has paused because there is more");
        self.feed(cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.feed(cx)
    }
}

/// `/7/300` is 300 bytes of the text that has the number 7.
pub(super) struct Library;

impl Responder for Library {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        let path = std::str::from_utf8(request.path()).unwrap_or_default();
        let mut parts = path.split('/').skip(1);
        let (tag, length) = (
            parts.next().and_then(|part| part.parse().ok()),
            parts.next().and_then(|part| part.parse().ok()),
        );
        match (tag, length) {
            (Some(tag), Some(length)) => Response::ok("text/plain", text_of(tag, 0, length)),
            _ => Response::error(Status::NotFound),
        }
    }
}

/// One side of a proxy: all that comes goes to the other, and so does the end.
pub(super) struct Side {
    /// Whom to call; `None` for the side that is called.
    pub(super) upstream: Option<SocketAddr>,
    pub(super) other: Option<ConnectionId>,
    pub(super) ledger: Rc<RefCell<Ledger>>,
}

impl Protocol for Side {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(upstream) = self.upstream {
            let side = Side { upstream: None, other: Some(cx.id()), ledger: self.ledger.clone() };
            self.other = Some(cx.connect(upstream, Witnessed::new(side, upstream, &self.ledger)));
        }
        cx.monitor(self.other.expect("both are named"));
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        cx.send_to(self.other.expect("both are named"), input);
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        cx.shutdown_write(self.other.expect("both are named"));
        Next::Pause
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, _: &mut Context<'_>) -> Next {
        assert_eq!(Some(about), self.other);
        match news {
            Notification::Connected => Next::Unchanged,
            Notification::AboveHighWatermark => Next::Pause,
            Notification::BelowLowWatermark => Next::Continue,
            Notification::Closed | Notification::ConnectFailed(_) => Next::Close,
            Notification::Rejected => panic!("who pauses above the mark is never refused"),
        }
    }
}
