//! What a program and the kernel hold, as a recording shows it: the boxes of the page.

use super::call::Call;

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) registered: Vec<Registered>,
    /// Token and flags of what the last wait has returned and the program has not noted yet.
    pub(super) events: Vec<(i64, String)>,
    pub(super) queue: Queue,
    pub(super) slots: Vec<Slot>,
    /// What the limit of the last wait says of the filed deadlines.
    pub(super) deadlines: Option<&'static str>,
}

/// An entry of the interest list.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) descriptor: i64,
    /// `None` if the recording began later.
    pub(super) interest: Option<String>,
    /// `None` until a call shows it.
    pub(super) token: Option<i64>,
}

#[derive(Clone, Default)]
pub(super) struct Queue {
    /// The one that is driven now.
    pub(super) driven: Option<i64>,
    /// Those that this turn has not driven yet.
    pub(super) waiting: Vec<i64>,
    /// Those that have gone back into it, for the next turn.
    pub(super) next: Vec<i64>,
    /// A wait has not slept, and no call has shown which slot can go on.
    pub(super) has_unseen: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Open,
    Ended,
    Free,
}

#[derive(Clone)]
pub(super) struct Slot {
    /// `None` until a call shows it.
    pub(super) token: Option<i64>,
    pub(super) descriptor: Option<i64>,
    pub(super) source: &'static str,
    pub(super) state: SlotState,
    /// What the program remembers of a connection: readable, writable, to be read until
    /// `WouldBlock`. Of other sources, the programs remember nothing. `None` is what the recording
    /// has not shown.
    pub(super) ready: [Option<bool>; 3],
    /// After our FIN: what is received is discarded.
    pub(super) is_lingering: bool,
    /// What was received since the last send; of a datagram socket, since the last receive.
    pub(super) input: Vec<String>,
    /// What this step has received for nothing.
    pub(super) discarded: Option<String>,
    /// What this step does to the output.
    pub(super) sent: Option<String>,
    /// What the last send has left.
    pub(super) output: Option<String>,
}

impl Slot {
    pub(super) fn new(token: Option<i64>, descriptor: Option<i64>, source: &'static str) -> Slot {
        Slot {
            token,
            descriptor,
            source,
            state: SlotState::Open,
            ready: [Some(false); 3],
            is_lingering: false,
            input: Vec::new(),
            discarded: None,
            sent: None,
            output: None,
        }
    }

    /// Returns whether a call is about it.
    pub(super) fn is(&self, call: &Call<'_>) -> bool {
        self.descriptor.is_some() && self.descriptor == call.descriptor()
    }

    /// Returns what the page shows of its input.
    pub(super) fn input(&self) -> String {
        let waiting = if self.input.is_empty() { NONE.to_owned() } else { self.input.join(" + ") };
        let discarded = self.discarded.as_ref();
        discarded.map_or(waiting.clone(), |amount| format!("{waiting} ({amount} discarded)"))
    }

    /// Returns what the page shows of its output.
    pub(super) fn output(&self) -> String {
        let waiting = self.output.as_deref().unwrap_or(NONE);
        let sent = self.sent.as_ref();
        sent.map_or(waiting.to_owned(), |amount| format!("{waiting} ({amount} sent)"))
    }

    fn is_at_end(&self) -> bool {
        self.input.last().is_some_and(|last| last == END)
    }

    pub(super) fn can_go_on(&self) -> bool {
        let [readable, writable, _] = self.ready.map(|one| one == Some(true));
        readable && !self.is_at_end() || writable && self.output.is_some()
    }

    /// Stores what an event reports.
    pub(super) fn note(&mut self, flags: &str) {
        let has = |flag: &str| flags.split('|').any(|one| one == flag);
        let has_end = has("EPOLLHUP") || has("EPOLLRDHUP") && has("EPOLLIN");
        for (ready, is_reported) in
            self.ready.iter_mut().zip([has("EPOLLIN"), has("EPOLLOUT"), has_end])
        {
            if is_reported {
                *ready = Some(true);
            }
        }
    }

    /// A call has received, or has failed to.
    pub(super) fn receive(&mut self, call: &Call<'_>) {
        let count = call.result;
        let is_datagram = self.source == DATAGRAM_SOCKET;
        if is_datagram {
            self.input.clear(); // The one before it was answered or dropped.
        }
        if count.starts_with('-') {
            self.ready[READABLE] = Some(false);
            return;
        }
        // A short read proves that nothing is left, unless the end of the stream has come.
        let is_full = call.arguments.get(2) == Some(&count);
        self.ready[READABLE] = if is_full { Some(true) } else { self.ready[UNTIL_WOULD_BLOCK] };
        match count {
            "0" if is_datagram => self.input.push("an empty message".to_owned()),
            "0" => self.input.push(END.to_owned()),
            _ if self.is_lingering => self.discarded = Some(call.amount(count)),
            _ => self.input.push(call.amount(count)),
        }
    }

    /// Our FIN is sent. What still arrives is discarded, until the end of the stream.
    pub(super) fn shut_write_side(&mut self) {
        self.is_lingering = !self.is_at_end();
        self.input.retain(|piece| piece == END);
    }

    /// A call has sent all, a part, or nothing.
    pub(super) fn send(&mut self, call: &Call<'_>) {
        let asked = call.arguments.get(2).copied().unwrap_or_default();
        let is_whole = call.result == asked;
        self.input.retain(|piece| piece == END);
        self.ready[WRITABLE] = Some(is_whole);
        self.output = match call.result {
            // A reply for which there is no room is dropped.
            _ if is_whole || self.source == DATAGRAM_SOCKET => None,
            "FEWER" => Some("REST bytes".to_owned()),
            _ => Some(call.amount(asked)),
        };
        let amount = call.amount(asked);
        self.sent = match call.result {
            _ if is_whole => Some(amount),
            result if result.starts_with('-') => None,
            result => Some(format!("{result} of {amount}")),
        };
    }
}

const READABLE: usize = 0;
const WRITABLE: usize = 1;
/// Because the end of the stream has been reported: a short read proves nothing.
const UNTIL_WOULD_BLOCK: usize = 2;

pub(super) const CONNECTION: &str = "connection";
pub(super) const LISTENER: &str = "listener";
pub(super) const DATAGRAM_SOCKET: &str = "datagram socket";
pub(super) const SOURCE: &str = "source";
/// What `input` shows of the end of a stream.
const END: &str = "the end";
const NONE: &str = "none";
