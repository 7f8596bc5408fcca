//! What an event loop holds at each step of a recording, as far as the recording shows it.
//!
//! A step is a system call, or a stage of the turn that has something to do and makes none. What
//! stands in a box follows from the calls and from the parts that the program has. A part that the
//! program does not have is `None`, and so is what no call has shown. It never guesses.

use std::collections::BTreeSet;

use super::before::{kind, old_sources};
use super::call::{Call, Line};
use super::state::{CONNECTION, Queue, Registered, Slot, SlotState, State};

/// The stages of a turn, in their order.
pub(super) const STAGES: [&str; 5] = ["wait", "note", "drive", "expire", "reap"];

/// Which parts a program has. Its source says so.
pub(super) struct Shape {
    /// Those of the five stages that it has. Without `note`, it has no stages at all.
    pub(super) stages: Vec<&'static str>,
    /// What it finds a source in: `slots`, `sources by token` or `clients by descriptor`.
    pub(super) table: &'static str,
    pub(super) has_deadlines: bool,
    /// A listener without room for a client is paused, and tried again in each turn.
    pauses_listeners: bool,
}

impl Shape {
    pub(super) fn of(source: &str) -> Shape {
        let mut stages = STAGES.to_vec();
        stages.retain(|stage| source.contains(&format!("fn {stage}(&mut self")));
        if !stages.contains(&"note") {
            stages.clear();
        }
        let table = if source.contains("Slab<") {
            "slots"
        } else if source.contains("HashMap<usize") {
            "sources by token"
        } else {
            "clients by descriptor"
        };
        let has_deadlines = stages.contains(&"expire");
        let pauses_listeners = source.contains("const ACCEPT_RETRY: ");
        Shape { stages, table, has_deadlines, pauses_listeners }
    }

    fn has(&self, stage: &str) -> bool {
        self.stages.contains(&stage)
    }

    /// Remembers readiness, and has a run queue.
    fn is_staged(&self) -> bool {
        !self.stages.is_empty()
    }
}

pub(super) struct Step {
    pub(super) stage: Option<&'static str>,
    /// Counted from 1. What precedes the first turn has 0.
    pub(super) turn: usize,
    /// Empty for a stage without a system call.
    pub(super) call: String,
    pub(super) says: String,
    pub(super) state: State,
}

/// Returns the steps of a recording.
pub(super) fn steps(shape: &Shape, lines: &[Line]) -> Vec<Step> {
    let calls: Vec<Call<'_>> = lines.iter().map(Call::parse).collect();
    let (state, steps) = (State::default(), Vec::new());
    let paused = BTreeSet::new();
    let mut model = Model { shape, calls: &calls, state, paused, steps, turn: 0 };
    model.know_what_was_there();
    let first_wait = calls.iter().position(Call::is_wait).unwrap_or(calls.len());
    let (before, turns) = calls.split_at(first_wait);
    // Without a server's work among them, these calls open the server.
    let is_work = |call: &Call<'_>| call.is_accept() || call.is_receive();
    if before.iter().any(is_work) {
        model.run_turn(None, before, limit_of_next(turns));
    } else {
        before.iter().for_each(|call| model.apply(None, call));
    }
    let mut rest = turns;
    while let [wait, behind @ ..] = rest {
        let end = behind.iter().position(Call::is_wait).unwrap_or(behind.len());
        model.run_turn(Some(wait), &behind[..end], limit_of_next(&behind[end..]));
        rest = &behind[end..];
    }
    model.steps
}

fn limit_of_next<'l>(calls: &[Call<'l>]) -> Option<&'l str> {
    calls.first().map(Call::limit)
}

struct Model<'s> {
    shape: &'s Shape,
    /// All of the recording.
    calls: &'s [Call<'s>],
    state: State,
    /// The descriptors of the listeners that are paused.
    paused: BTreeSet<i64>,
    steps: Vec<Step>,
    turn: usize,
}

impl Model<'_> {
    /// Begins with the sources that the recording does not see begin.
    fn know_what_was_there(&mut self) {
        for (descriptor, token) in old_sources(self.calls) {
            self.state.registered.push(Registered { descriptor, interest: None, token });
            let source = kind(self.calls, descriptor);
            let slot = Slot::new(token, Some(descriptor), source);
            self.state.slots.push(Slot { ready: [None; 3], ..slot });
        }
        self.sort_slots();
    }

    fn sort_slots(&mut self) {
        self.state.slots.sort_by_key(|slot| (slot.token.is_none(), slot.token));
    }

    fn step(&mut self, stage: Option<&'static str>, line: Option<&Line>, says: &str) {
        let (call, says) = line.map_or(("", says), |line| (&line.call, &line.says));
        let (call, says) = (call.to_owned(), says.to_owned());
        let state = self.state.clone();
        self.steps.push(Step { stage, turn: self.turn, call, says, state });
        for slot in &mut self.state.slots {
            (slot.discarded, slot.sent) = (None, None);
        }
    }

    /// A stage of its own, if the program has it.
    fn stage(&self, name: &'static str) -> Option<&'static str> {
        self.shape.has(name).then_some(name)
    }

    /// What a turn does. What follows it shows whether the run queue is empty at its end.
    fn run_turn(&mut self, wait: Option<&Call<'_>>, calls: &[Call<'_>], next_limit: Option<&str>) {
        self.turn += 1;
        let is_due = wait.is_some_and(Call::is_wait_until_due);
        if let Some(wait) = wait {
            self.wait(wait);
            self.note();
        }
        let is_close = |call: &&Call<'_>| call.name == "close" && self.shape.has("reap");
        let closes = calls.iter().rev().take_while(is_close).count();
        let (work, closes) = calls.split_at(calls.len() - closes);
        let ended: Vec<i64> = closes.iter().filter_map(Call::descriptor).collect();
        // A limit may have been for a listener that had no room: then it accepts.
        let accepts = work.iter().any(Call::is_accept);
        if is_due && !accepts && self.shape.has("expire") {
            self.expire(work, &ended);
        } else {
            let has_events = wait.is_some_and(|wait| wait.result != "0");
            self.drive(work, &ended, has_events, next_limit == Some("0"));
        }
        for close in closes {
            let is_source = self.state.slots.iter().any(|slot| slot.is(close));
            self.apply(self.stage("reap").filter(|_| is_source), close);
        }
        let mut waiting = std::mem::take(&mut self.state.queue.next);
        if next_limit == Some("0") && !ended.is_empty() {
            waiting.extend(self.paused_listeners()); // Now there is room.
        }
        let has_unseen = next_limit == Some("0") && waiting.is_empty();
        self.state.queue = Queue { waiting, has_unseen, ..Queue::default() };
    }

    fn wait(&mut self, wait: &Call<'_>) {
        self.state.events = wait.pairs();
        let says_of_deadlines = match wait.limit() {
            "-1" => "none: the sleep has no limit",
            "0" => "not asked: the run queue is not empty, so there is no sleep",
            _ if !self.paused.is_empty() => "not known: a paused listener limits the sleep, too",
            _ if wait.result == "0" => "the soonest is due",
            _ => "at least one: the sleep ends with the soonest",
        };
        self.state.deadlines = self.shape.has_deadlines.then_some(says_of_deadlines);
        self.step(self.stage("wait"), Some(wait.line), "");
    }

    /// Stores the readiness, and queues the slots, if the program does so.
    fn note(&mut self) {
        if !self.shape.is_staged() || self.state.events.is_empty() {
            return;
        }
        let mut tokens = Vec::new();
        for (token, flags) in self.state.events.clone() {
            let mut slots = self.state.slots.iter_mut();
            // It may be no slot's: of a source whose token no call shows, nothing is known.
            let Some(slot) = slots.find(|slot| slot.token == Some(token)) else { continue };
            slot.note(&flags);
            tokens.push(token);
        }
        let paused = self.paused_listeners();
        let waiting = &mut self.state.queue.waiting;
        waiting.extend(tokens.iter().chain(&paused));
        waiting.sort_unstable();
        waiting.dedup();
        let says = match &tokens[..] {
            [] => {
                let events = self.state.events.iter();
                let unknown: Vec<String> = events.map(|(token, _)| token.to_string()).collect();
                let unknown = unknown.join(" or ");
                format!("The calls show no {} with token {unknown}.", self.word())
            }
            tokens => {
                let others = if paused.is_empty() { "" } else { ", and so is the paused listener" };
                let says = format!("{} queued, with the readiness reported", self.named(tokens));
                format!("{}{others}. Nothing runs yet.", capitalized(&says))
            }
        };
        self.step(self.stage("note"), None, &says);
        self.state.events.clear();
    }

    fn paused_listeners(&self) -> Vec<i64> {
        let is_paused =
            |slot: &&Slot| slot.descriptor.is_some_and(|one| self.paused.contains(&one));
        self.state.slots.iter().filter(is_paused).filter_map(|slot| slot.token).collect()
    }

    fn word(&self) -> &'static str {
        if self.shape.table == "slots" { "slot" } else { "source" }
    }

    /// Names slots or sources, and the verb behind them: `slots 1 and 2 are`.
    fn named(&self, tokens: &[i64]) -> String {
        let word = self.word();
        let tokens: Vec<String> = tokens.iter().map(i64::to_string).collect();
        match &tokens[..] {
            [one] => format!("{word} {one} is"),
            all => format!("{word}s {} are", all.join(" and ")),
        }
    }

    fn drive(&mut self, calls: &[Call<'_>], ended: &[i64], has_events: bool, is_queue_left: bool) {
        // Calls without a slot in the run queue belong to no stage, such as those of a stop.
        let queue = &self.state.queue;
        let is_between = queue.waiting.is_empty() && !queue.has_unseen && has_events;
        let stage = self.stage("drive").filter(|_| !is_between);
        self.state.queue.has_unseen = false;
        if calls.is_empty() {
            let queue = &mut self.state.queue;
            let batch = std::mem::take(&mut queue.waiting);
            if let Some(stage) = stage.filter(|_| !batch.is_empty()) {
                let says = format!("{} driven, without a system call.", self.named(&batch));
                self.step(Some(stage), None, &capitalized(&says));
            }
            return;
        }
        for (at, call) in calls.iter().enumerate() {
            let token = call.descriptor().and_then(|descriptor| self.token_of(call, descriptor));
            let queue = &mut self.state.queue;
            queue.waiting.retain(|one| Some(*one) != token);
            queue.next.retain(|one| Some(*one) != token);
            queue.driven = token.or(queue.driven).filter(|_| !is_between);
            self.end_after_last_call(&calls[at..], ended);
            self.apply(stage, call);
            let driven = self.state.queue.driven;
            let of_next = calls.get(at + 1).map(|next| {
                next.descriptor().and_then(|descriptor| self.token_of(next, descriptor))
            });
            let is_last_of_source = of_next.is_none_or(|next| next.is_some() && next != driven);
            if let Some(token) = driven.filter(|_| is_last_of_source && is_queue_left)
                && self.can_go_on(token, call)
            {
                self.state.queue.next.push(token);
            }
        }
        self.state.queue.driven = None;
        self.state.queue.waiting.clear();
    }

    /// What a deadline does that is due: calls, or the end of sources that make none.
    fn expire(&mut self, calls: &[Call<'_>], ended: &[i64]) {
        let stage = self.stage("expire");
        for (at, call) in calls.iter().enumerate() {
            self.end_after_last_call(&calls[at..], ended);
            self.apply(stage, call);
        }
        if calls.is_empty() {
            let (mut tokens, mut has_ended) = (Vec::new(), false);
            for slot in &mut self.state.slots {
                if slot.descriptor.is_some_and(|descriptor| ended.contains(&descriptor)) {
                    (slot.state, has_ended) = (SlotState::Ended, true);
                    tokens.extend(slot.token);
                }
            }
            let says = match &tokens[..] {
                [] if has_ended => {
                    "A deadline is due, and its source is marked as ended.".to_owned()
                }
                [] => "A deadline is due. No system call follows from it.".to_owned(),
                tokens => format!("A deadline is due, and {} marked as ended.", self.named(tokens)),
            };
            self.step(stage, None, &says);
        }
    }

    /// A source that this turn's reap closes has been marked as ended by its last call.
    fn end_after_last_call(&mut self, calls: &[Call<'_>], ended: &[i64]) {
        let of_call = calls[0].descriptor();
        let comes_again = calls[1..].iter().any(|later| later.descriptor() == of_call);
        let of_call = of_call.filter(|descriptor| ended.contains(descriptor) && !comes_again);
        let mut slots = self.state.slots.iter_mut();
        if let Some(slot) = of_call.and_then(|_| slots.find(|slot| slot.descriptor == of_call)) {
            slot.state = SlotState::Ended;
        }
    }

    /// Whether a source can go on after its last call.
    fn can_go_on(&self, token: i64, last: &Call<'_>) -> bool {
        let mut slots = self.state.slots.iter();
        slots.find(|slot| slot.token == Some(token)).is_some_and(|slot| match slot.source {
            CONNECTION => slot.can_go_on(),
            _ => !last.result.starts_with('-'),
        })
    }

    /// The token of the source that makes a call: for a new connection, that of its listener.
    fn token_of(&self, call: &Call<'_>, descriptor: i64) -> Option<i64> {
        let is_setup = ["epoll_ctl", "ioctl", "setsockopt"].contains(&call.name);
        let mut slots = self.state.slots.iter();
        let slot = slots.find(|slot| slot.descriptor == Some(descriptor));
        slot.and_then(|slot| slot.token).filter(|_| !is_setup)
    }

    /// Applies what a call has shown, and makes it a step.
    fn apply(&mut self, stage: Option<&'static str>, call: &Call<'_>) {
        let failed = call.result.starts_with('-');
        self.pause_or_resume(call);
        match call.name {
            "accept" | "accept4" if !failed => {
                self.state.slots.push(Slot::new(None, call.result.parse().ok(), CONNECTION));
            }
            "epoll_ctl" if !failed => self.change_interest_list(call),
            "close" => self.close(call.descriptor()),
            _ => {
                let of_call = call.descriptor();
                let mut slots = self.state.slots.iter_mut();
                match slots.find(|slot| slot.descriptor == of_call && of_call.is_some()) {
                    Some(slot) if call.is_receive() => slot.receive(call),
                    Some(slot) if call.is_send() => slot.send(call),
                    Some(slot) if call.name == "shutdown" && !failed => slot.shut_write_side(),
                    _ => {}
                }
            }
        }
        self.step(stage, Some(call.line), "");
    }

    fn pause_or_resume(&mut self, call: &Call<'_>) {
        let Some(descriptor) = call.descriptor().filter(|_| self.shape.pauses_listeners) else {
            return;
        };
        if call.finds_no_room() {
            self.paused.insert(descriptor);
        } else if call.is_accept() || call.name == "close" {
            self.paused.remove(&descriptor);
        }
    }

    fn change_interest_list(&mut self, call: &Call<'_>) {
        let (Some(descriptor), pairs) = (call.descriptor(), call.pairs()) else { return };
        let registered = &mut self.state.registered;
        let interest = pairs.into_iter().next();
        match (call.arguments[1], interest) {
            ("EPOLL_CTL_DEL", _) => registered.retain(|one| one.descriptor != descriptor),
            ("EPOLL_CTL_ADD", Some((token, interest))) => {
                let interest = Some(interest);
                registered.push(Registered { descriptor, interest, token: Some(token) });
                let slots = &mut self.state.slots;
                slots.retain(|slot| slot.token != Some(token) || slot.state != SlotState::Free);
                match slots.iter_mut().find(|slot| slot.descriptor == Some(descriptor)) {
                    Some(slot) => slot.token = Some(token),
                    None => {
                        let source = kind(self.calls, descriptor);
                        slots.push(Slot::new(Some(token), Some(descriptor), source));
                    }
                }
                self.sort_slots();
            }
            (_, Some((token, interest))) => {
                let mut all = registered.iter_mut();
                if let Some(one) = all.find(|one| one.descriptor == descriptor) {
                    (one.interest, one.token) = (Some(interest), Some(token));
                }
            }
            _ => {}
        }
    }

    /// The kernel forgets the interest in a closed socket. A slab keeps the slot, and it is free.
    fn close(&mut self, descriptor: Option<i64>) {
        self.state.registered.retain(|one| Some(one.descriptor) != descriptor);
        let is_slab = self.shape.table == "slots";
        let slots = &mut self.state.slots;
        slots.retain(|slot| slot.descriptor != descriptor || is_slab && slot.token.is_some());
        for slot in slots.iter_mut().filter(|slot| slot.descriptor == descriptor) {
            let token = slot.token;
            *slot = Slot { state: SlotState::Free, ..Slot::new(token, None, "") };
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
