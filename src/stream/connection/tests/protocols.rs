//! A protocol that does what a script says.

use super::*;

/// A protocol whose input is a script: each line has the actions of one call of `advance`. The
/// fields have the actions of the other callbacks.
///
/// `500 timer:9 pause` is: send 500 bytes, set a timer of 9 ms, return `Next::Pause`. An empty line
/// is: return `Next::Continue`.
pub(super) struct ScriptedProtocol {
    pub(super) opened: &'static str,
    /// One for each call. When they are used up, the actions are empty.
    pub(super) output_low: VecDeque<&'static str>,
    pub(super) timer_expired: &'static str,
    pub(super) eof: &'static str,
    /// How many bytes it has sent. It sends `bytes(0, ..)`.
    pub(super) sent: usize,
    pub(super) calls: CallLog,
}

/// The calls of a protocol, in order.
pub(super) type CallLog = Rc<RefCell<Vec<String>>>;

impl Default for ScriptedProtocol {
    /// Acts as the default methods of `Protocol` do.
    fn default() -> ScriptedProtocol {
        ScriptedProtocol {
            opened: "",
            output_low: VecDeque::new(),
            timer_expired: "close",
            eof: "close",
            sent: 0,
            calls: CallLog::default(),
        }
    }
}

impl ScriptedProtocol {
    pub(super) fn with_output_low(
        actions: impl IntoIterator<Item = &'static str>,
    ) -> ScriptedProtocol {
        ScriptedProtocol {
            output_low: actions.into_iter().collect(),
            ..ScriptedProtocol::default()
        }
    }

    fn act(&mut self, call: &str, actions: &str, cx: &mut Context<'_>) -> Next {
        self.calls.borrow_mut().push(call.to_owned());
        let mut next = Next::Continue;
        for action in actions.split_whitespace() {
            match action.split_once(':').unwrap_or((action, "")) {
                ("pause", _) => next = Next::Pause,
                ("close", _) => next = Next::Close,
                ("close_without_linger", _) => next = Next::CloseWithoutLinger,
                ("abort", _) => next = Next::Abort,
                ("timer", ms) => cx.set_timer(Duration::from_millis(ms.parse().unwrap())),
                ("cancel_timer", _) => cx.cancel_timer(),
                (number, _) => {
                    let count = number.parse().unwrap();
                    cx.send(&bytes(self.sent, count));
                    self.sent += count;
                }
            }
        }
        next
    }
}

impl Protocol for ScriptedProtocol {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.act("opened", self.opened, cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "advance is called only with input");
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return Advance::need_more();
        };
        let line = std::str::from_utf8(&input[..end]).unwrap();
        let next = self.act(line, line, cx);
        Advance::consumed(end + 1).then(next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.act(&format!("eof {}", std::str::from_utf8(rest).unwrap()), self.eof, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let actions = self.output_low.pop_front().unwrap_or("");
        self.act("output_low", actions, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.act("timer_expired", self.timer_expired, cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.calls.borrow_mut().push(format!("closed {why:?}"));
    }
}
