//! What a program and the kernel hold, as a recording shows it: the boxes of the page.

use super::call::Call;

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) registered: Vec<Registered>,
    /// Token and flags of what the last wait has returned and the program has not noted yet.
    pub(super) events: Vec<(i64, String)>,
    pub(super) queue: Queue,
    pub(super) slots: Vec<Slot>,
    /// What the limit of the last wait says.
    pub(super) timers: Option<&'static str>,
}

/// An entry of the epoll set.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) descriptor: i64,
    /// `None` if the recording began later.
    pub(super) interest: Option<String>,
    pub(super) token: i64,
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
    /// What the program remembers of a connection: readable, writable, end noted. Of other sources,
    /// the programs remember nothing. `None` is what the recording has not shown.
    pub(super) ready: [Option<bool>; 3],
    /// What was received since the last send.
    pub(super) input: Vec<String>,
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
            input: Vec::new(),
            sent: None,
            output: None,
        }
    }

    /// Returns whether a call is about it.
    pub(super) fn is(&self, call: &Call<'_>) -> bool {
        self.descriptor.is_some() && self.descriptor == call.descriptor()
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
        if count.starts_with('-') {
            self.ready[READABLE] = Some(false);
            return;
        }
        // A short read proves that nothing is left, unless the end of the stream has come.
        let is_full = call.arguments.get(2) == Some(&count);
        self.ready[READABLE] = if is_full { Some(true) } else { self.ready[END_NOTED] };
        self.input.push(if count == "0" { END.to_owned() } else { call.amount(count) });
    }

    /// A call has sent all, a part, or nothing.
    pub(super) fn send(&mut self, call: &Call<'_>) {
        let asked = call.arguments.get(2).copied().unwrap_or_default();
        let is_whole = call.result == asked;
        self.input.retain(|piece| piece == END);
        self.ready[WRITABLE] = Some(is_whole);
        self.output = match call.result {
            _ if is_whole => None,
            "FEWER" => Some("REST bytes".to_owned()),
            _ => Some(call.amount(asked)),
        };
        let taken = if is_whole { "all" } else { call.result };
        let has_failed = taken.starts_with('-');
        self.sent = (!has_failed).then(|| format!("{}: {taken} sent", call.amount(asked)));
    }
}

const READABLE: usize = 0;
const WRITABLE: usize = 1;
const END_NOTED: usize = 2;

pub(super) const CONNECTION: &str = "connection";
pub(super) const LISTENER: &str = "listener";
pub(super) const DATAGRAM_SOCKET: &str = "datagram socket";
pub(super) const SOURCE: &str = "source";
/// What `input` shows of the end of a stream.
const END: &str = "the end";
