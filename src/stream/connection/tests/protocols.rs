//! A protocol that does what its input orders.

use super::*;

/// A protocol that obeys. Each line of its input is an order, and so is each field below when its call comes. The order
/// `500 wake:9 pause` is to say 500 bytes, ask for a call in 9 ms, and pause; the empty one is to go on.
pub(super) struct Puppet {
    pub(super) opened: &'static str,
    /// One after the other.
    pub(super) drained: VecDeque<&'static str>,
    pub(super) elapsed: &'static str,
    pub(super) ended: &'static str,
    /// How much it has said. It says `bytes(0, ..)`.
    pub(super) said: usize,
    pub(super) log: Log,
}

impl Default for Puppet {
    /// The defaults of `Protocol`.
    fn default() -> Puppet {
        let drained = VecDeque::new();
        Puppet {
            opened: "",
            drained,
            elapsed: "close",
            ended: "close",
            said: 0,
            log: Log::default(),
        }
    }
}

impl Puppet {
    pub(super) fn drains(orders: impl IntoIterator<Item = &'static str>) -> Puppet {
        Puppet { drained: orders.into_iter().collect(), ..Puppet::default() }
    }

    pub(super) fn obey(&mut self, call: &str, order: &str, cx: &mut Context<'_>) -> Next {
        self.log.borrow_mut().push(call.to_owned());
        let mut next = Next::Continue;
        for word in order.split_whitespace() {
            match word.split_once(':').unwrap_or((word, "")) {
                ("pause", _) => next = Next::Pause,
                ("close", _) => next = Next::Close,
                ("agree", _) => next = Next::CloseWithoutLinger,
                ("abort", _) => next = Next::Abort,
                ("wake", ms) => cx.set_timer(Duration::from_millis(ms.parse().unwrap())),
                ("sleep", _) => cx.cancel_timer(),
                (number, _) => {
                    let count = number.parse().unwrap();
                    cx.send(&bytes(self.said, count));
                    self.said += count;
                }
            }
        }
        next
    }
}

impl Protocol for Puppet {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.obey("opened", self.opened, cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "there is always something to hear");
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return Advance::need_more();
        };
        let order = std::str::from_utf8(&input[..end]).unwrap();
        let next = self.obey(order, order, cx);
        Advance::consumed(end + 1).then(next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.obey(&format!("ended {}", std::str::from_utf8(rest).unwrap()), self.ended, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let order = self.drained.pop_front().unwrap_or("");
        self.obey("drained", order, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.obey("elapsed", self.elapsed, cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.log.borrow_mut().push(format!("closed {why:?}"));
    }
}
