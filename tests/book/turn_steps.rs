//! Small recordings, and what the model shows at their steps.

use super::call::Line;
use super::model::{Shape, Step, steps};
use super::page::read;
use super::state::{Slot, SlotState};

const ACCEPT: [&str; 4] = [
    "epoll_wait(4, [{EPOLLIN, 0}], -1) = 1",
    "accept4(3) = 5",
    "epoll_ctl(4, EPOLL_CTL_ADD, 5, {EPOLLIN|EPOLLOUT|EPOLLET, 1}) = 0",
    "accept4(3) = -1 EAGAIN",
];

/// Returns the steps of a program of the book that makes these calls.
fn record(program: &str, calls: &[&str]) -> Vec<Step> {
    let shape = Shape::of(&read(&format!("docs/book/programs/{program}")));
    let line = |call: &&str| Line { call: (*call).to_owned(), says: String::new() };
    steps(&shape, &calls.iter().map(line).collect::<Vec<_>>())
}

/// The same after a client has come.
fn record_after_accept(program: &str, calls: &[&str]) -> Vec<Step> {
    let all = [&ACCEPT[..], calls].concat();
    record(program, &all).into_iter().skip_while(|step| step.turn < 2).collect()
}

fn slot(step: &Step, token: i64) -> &Slot {
    step.state.slots.iter().find(|slot| slot.token == Some(token)).unwrap()
}

fn stages(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.stage.unwrap_or("none")).collect()
}

#[test]
fn accepted_connection_gets_its_slot_with_the_registration() {
    let steps = record("08_stages.rs", &ACCEPT);
    assert_eq!(stages(&steps), ["wait", "note", "drive", "drive", "drive"]);
    let [_, noted, accepted, added, _] = &steps[..] else { panic!() };
    assert_eq!(slot(noted, 0).source, "listener");
    assert_eq!(noted.state.queue.waiting, [0]);
    let new = accepted.state.slots.iter().find(|slot| slot.descriptor == Some(5)).unwrap();
    assert_eq!((new.token, new.source), (None, "connection"));
    assert_eq!(slot(added, 1).descriptor, Some(5));
    assert_eq!(added.state.registered.last().unwrap().token, 1);
    assert_eq!(added.state.queue.driven, Some(0));
}

#[test]
fn short_read_clears_readable_unless_the_end_was_noted() {
    for (flags, is_left) in [("EPOLLIN", false), ("EPOLLIN|EPOLLRDHUP", true)] {
        let wait = format!("epoll_wait(4, [{{{flags}, 1}}], TIMEOUT) = 1");
        let calls = [&wait, "recvfrom(5, \"hi\", 1024) = 2", "recvfrom(5, \"\", 1024) = 0"];
        let steps = record_after_accept("08_stages.rs", &calls);
        assert!(
            steps[0].state.events.len() == 1 && slot(&steps[0], 1).ready[0] == Some(false),
            "{flags}"
        );
        assert!(
            slot(&steps[1], 1).ready[0] == Some(true) && steps[1].stage == Some("note"),
            "{flags}"
        );
        assert_eq!(slot(&steps[2], 1).ready[0], Some(is_left), "{flags}");
        assert_eq!(slot(&steps[2], 1).input, ["2 bytes"]);
        assert_eq!(slot(&steps[3], 1).input, ["2 bytes", "the end"]);
    }
}

#[test]
fn eagain_clears_the_readiness_that_it_disproves() {
    let calls = [
        "epoll_wait(4, [{EPOLLIN|EPOLLOUT, 1}], TIMEOUT) = 1",
        "recvfrom(5, 1024) = -1 EAGAIN",
        "sendto(5, \"hi\", 2) = -1 EAGAIN",
    ];
    let steps = record_after_accept("08_stages.rs", &calls);
    let ready = steps.iter().map(|step| slot(step, 1).ready.map(|one| one == Some(true)));
    let expected =
        [[false, false, false], [true, true, false], [false, true, false], [false, false, false]];
    assert_eq!(ready.collect::<Vec<_>>(), expected);
    let last = slot(&steps[3], 1);
    assert_eq!((last.output.as_deref(), last.sent.as_deref()), (Some("2 bytes"), None));
}

#[test]
fn short_send_leaves_output_until_the_rest_is_sent() {
    let calls = [
        "epoll_wait(4, [{EPOLLIN|EPOLLOUT, 1}], TIMEOUT) = 1",
        "recvfrom(5, \"xx\"..., 1024) = 1024 …",
        "sendto(5, \"xx\"..., 1088) = FEWER",
        "epoll_wait(4, [{EPOLLOUT, 1}], TIMEOUT) = 1",
        "sendto(5, ..., REST) = REST",
        "epoll_wait(4, [{EPOLLIN|EPOLLOUT, 1}], TIMEOUT) = 1",
    ];
    let steps = record_after_accept("09_watermarks.rs", &calls);
    let output = |at: usize| slot(&steps[at], 1).output.as_deref();
    let sent = |at: usize| slot(&steps[at], 1).sent.as_deref();
    assert_eq!(slot(&steps[2], 1).input, ["1024 bytes …"]);
    assert_eq!((output(3), sent(3)), (Some("REST bytes"), Some("1088 bytes: FEWER sent")));
    assert!(slot(&steps[3], 1).input.is_empty() && slot(&steps[3], 1).ready[1] == Some(false));
    assert_eq!((output(4), sent(4)), (Some("REST bytes"), None));
    assert_eq!((output(6), sent(6)), (None, Some("REST bytes: all sent")));
    assert_eq!((output(7), sent(7)), (None, None));
}

#[test]
fn ended_source_keeps_its_slot_until_reap_closes_it() {
    let calls = [
        "epoll_wait(4, [{EPOLLIN|EPOLLRDHUP, 1}], TIMEOUT) = 1",
        "recvfrom(5, \"\", 1024) = 0",
        "close(5) = 0",
        "epoll_wait(4, [{EPOLLIN, 0}], -1) = 1",
        "accept4(3) = 5",
        "epoll_ctl(4, EPOLL_CTL_ADD, 5, {EPOLLIN|EPOLLOUT|EPOLLET, 1}) = 0",
    ];
    let steps = record_after_accept("08_stages.rs", &calls);
    assert_eq!(stages(&steps[..4]), ["wait", "note", "drive", "reap"]);
    assert!(slot(&steps[2], 1).state == SlotState::Ended);
    assert_eq!(steps[2].state.registered.len(), 2);
    assert!(slot(&steps[3], 1).state == SlotState::Free);
    assert_eq!(steps[3].state.registered.len(), 1);
    let last = steps.last().unwrap();
    assert!(slot(last, 1).state == SlotState::Open && last.state.slots.len() == 2);
}

#[test]
fn due_deadline_ends_a_source_in_expire() {
    let calls = ["epoll_wait(4, [], TIMEOUT) = 0", "close(5) = 0"];
    let steps = record_after_accept("08_stages.rs", &calls);
    assert_eq!(stages(&steps), ["wait", "expire", "reap"]);
    assert_eq!(steps[0].state.timers, Some("the soonest is due"));
    assert_eq!(steps[1].says, "A deadline is due, and slot 1 is marked as ended.");
    assert!(slot(&steps[1], 1).state == SlotState::Ended);
}

#[test]
fn unfinished_slot_waits_in_the_run_queue_for_the_next_turn() {
    let calls = [
        "epoll_wait(4, [{EPOLLIN|EPOLLOUT, 1}], TIMEOUT) = 1",
        "recvfrom(5, \"xx\"..., 1024) = 1024 …",
        "sendto(5, \"xx\"..., 1088) = 1088 …",
        "epoll_wait(4, [], 0) = 0",
        "recvfrom(5, \"xx\"..., 1024) = 128",
        "epoll_wait(4, [], TIMEOUT) = 0",
    ];
    let steps = record_after_accept("08_stages.rs", &calls);
    assert_eq!(
        stages(&steps),
        ["wait", "note", "drive", "drive", "wait", "drive", "wait", "expire"]
    );
    assert_eq!(steps[2].state.queue.driven, Some(1));
    assert_eq!(steps[4].state.queue.waiting, [1]);
    assert!(steps[6].state.queue.waiting.is_empty());
}

#[test]
fn run_queue_is_not_empty_before_a_wait_that_does_not_sleep() {
    let calls = ["epoll_wait(4, [{EPOLLOUT, 1}], TIMEOUT) = 1", "epoll_wait(4, [], 0) = 0"];
    let steps = record_after_accept("08_stages.rs", &calls);
    let last = &steps.last().unwrap().state.queue;
    assert!(last.has_unseen && last.waiting.is_empty());
}

#[test]
fn driven_slots_without_a_call_are_one_step() {
    let calls = ["epoll_wait(4, [{EPOLLOUT, 1}], TIMEOUT) = 1", "epoll_wait(4, [], TIMEOUT) = 0"];
    let steps = record_after_accept("08_stages.rs", &calls);
    assert_eq!(stages(&steps[..3]), ["wait", "note", "drive"]);
    assert_eq!(steps[1].says, "Slot 1 is queued, with the readiness reported. Nothing runs yet.");
    assert_eq!(steps[2].says, "Slot 1 is driven, without a system call.");
}

#[test]
fn source_from_before_the_recording_gets_the_token_of_its_event() {
    let calls = [
        "recvfrom(5, \"yy\"..., 1024) = 1024",
        "shutdown(5, SHUT_WR) = 0",
        "epoll_wait(4, [{EPOLLOUT, 1}], TIMEOUT) = 1",
        "epoll_wait(4, [{EPOLLIN, 1}], TIMEOUT) = 1",
        "recvfrom(5, \"hi\", 1024) = 2",
    ];
    let steps = record("08_stages.rs", &calls);
    assert_eq!(stages(&steps[..3]), ["drive", "drive", "wait"]);
    let first = slot(&steps[0], 1);
    assert_eq!((first.descriptor, first.source), (Some(5), "connection"));
    assert_eq!(first.ready, [Some(true), None, None]);
    assert_eq!(slot(steps.last().unwrap(), 1).ready, [None, Some(true), None]);
}

#[test]
fn event_of_a_source_without_calls_is_noted_on_no_slot() {
    let calls = [
        "epoll_wait(4, [{EPOLLIN, 9}], -1) = 1",
        "accept4(3) = -1 EAGAIN",
        "recvfrom(6, 1024) = -1 EAGAIN",
        "close(3) = 0",
    ];
    let steps = record_after_accept("08_stages.rs", &calls);
    // The calls are those of a stop: it is the event of no slot.
    assert_eq!(stages(&steps), ["wait", "note", "none", "none", "reap"]);
    assert!(steps[1].state.queue.waiting.is_empty());
    assert!(steps[1].state.slots.iter().all(|slot| slot.token != Some(9)));
}

#[test]
fn listener_that_had_no_room_accepts_in_drive_when_the_limit_is_over() {
    let calls = ["epoll_wait(4, [], TIMEOUT) = 0", "accept4(3) = -1 EMFILE"];
    assert_eq!(stages(&record_after_accept("08_stages.rs", &calls)), ["wait", "drive"]);
}

#[test]
fn program_without_stages_has_none_and_no_timers() {
    for program in ["06_epoll.py", "06_mio.rs"] {
        let calls = [
            "epoll_wait(4, [{EPOLLIN, 1}], -1) = 1",
            "recvfrom(5, \"\", 1024) = 0",
            "close(5) = 0",
        ];
        let steps = record_after_accept(program, &calls);
        assert_eq!(stages(&steps), ["none"; 3], "{program}");
        assert!(steps.iter().all(|step| step.state.timers.is_none()), "{program}");
        assert_eq!(steps[2].state.slots.len(), 1, "{program}: the source is removed at once");
    }
}
