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
    assert_eq!(added.state.registered.last().unwrap().token, Some(1));
    assert_eq!(added.state.queue.driven, Some(0));
}

#[test]
fn short_read_clears_readable_unless_the_end_was_reported() {
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
        assert_eq!(slot(&steps[2], 1).input(), "2 bytes");
        assert_eq!(slot(&steps[3], 1).input(), "2 bytes + the end");
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
    assert_eq!(slot(&steps[3], 1).output(), "2 bytes");
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
    let output = |at: usize| slot(&steps[at], 1).output();
    assert_eq!(slot(&steps[2], 1).input(), "1024 bytes …");
    assert_eq!(output(3), "REST bytes (FEWER of 1088 bytes sent)");
    assert_eq!(slot(&steps[3], 1).input(), "none");
    assert_eq!(slot(&steps[3], 1).ready[1], Some(false));
    assert_eq!(output(4), "REST bytes");
    // Output is what the kernel has not accepted: what it has just accepted is none.
    assert_eq!(output(6), "none (REST bytes sent)");
    assert_eq!(output(7), "none");
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
    assert_eq!(steps[0].state.deadlines, Some("the soonest is due"));
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
fn event_whose_source_no_call_shows_is_noted_on_no_slot() {
    let stop = |accept| {
        let wait = "epoll_wait(4, [{EPOLLIN, 9}], -1) = 1";
        [wait, accept, "recvfrom(6, 1024) = -1 EAGAIN", "close(3) = 0"]
    };
    let paused = ["epoll_wait(4, [], TIMEOUT) = 0", "accept4(3) = -1 EMFILE"];
    let calls = stop("accept4(3) = -1 EAGAIN");
    let calls_after_pause = [&paused[..], &stop("accept4(3) = -1 EMFILE")].concat();
    for (calls, first) in [(&calls[..], 0), (&calls_after_pause, 2)] {
        let steps = record_after_accept("08_stages.rs", calls);
        let steps = &steps[first..];
        // The calls are those of a stop: it is the event of no slot.
        assert_eq!(stages(steps), ["wait", "note", "none", "none", "reap"]);
        assert_eq!(steps[1].says, "The calls show no slot with token 9.");
        assert!(steps[1].state.queue.waiting.is_empty());
        assert!(steps[1].state.slots.iter().all(|slot| slot.token != Some(9)));
    }
}

/// The recording of chapter 14 in which there is no descriptor for a client.
const WITHOUT_ROOM: [&str; 5] = [
    "epoll_wait(3, [{EPOLLIN, 0}], TIMEOUT) = 1",
    "accept4(4) = -1 EMFILE",
    "epoll_wait(3, [{EPOLLIN|EPOLLRDHUP, 2}], TIMEOUT) = 1",
    "accept4(4) = -1 EMFILE",
    "recvfrom(6, \"\", 1024) = 0",
];

#[test]
fn client_that_leaves_a_full_server_is_driven_behind_the_paused_listener() {
    let end = ["close(6) = 0", "epoll_wait(3, [], 0) = 0", "accept4(4) = 6"];
    let steps = record("14_crowds.rs", &[&WITHOUT_ROOM[..], &end].concat());
    let expected = ["wait", "note", "drive", "wait", "note", "drive", "drive", "reap", "wait"];
    assert_eq!(stages(&steps[..9]), expected);
    assert_eq!((slot(&steps[0], 2).descriptor, slot(&steps[0], 2).source), (Some(6), "connection"));
    let says = "Slot 2 is queued, with the readiness reported, and so is the paused listener. \
        Nothing runs yet.";
    assert_eq!(steps[4].says, says);
    let queue = |at: usize| &steps[at].state.queue;
    assert_eq!(queue(4).waiting, [0, 2]);
    assert_eq!((queue(5).driven, &queue(5).waiting[..]), (Some(0), &[2][..]));
    assert_eq!(queue(6).driven, Some(2));
    // The close has brought the listener back.
    assert_eq!((&queue(8).waiting[..], queue(8).has_unseen), (&[0][..], false));
}

#[test]
fn sleep_with_a_paused_listener_says_nothing_of_deadlines() {
    let calls = [&WITHOUT_ROOM[..2], &["epoll_wait(3, [], TIMEOUT) = 0"]].concat();
    for (program, says) in [
        ("14_crowds.rs", "not known: a paused listener limits the sleep, too"),
        ("13_http.rs", "the soonest is due"), // Its listeners are never paused.
    ] {
        let steps = record(program, &calls);
        let wait = steps.iter().rfind(|step| step.stage == Some("wait")).unwrap();
        assert_eq!(wait.state.deadlines, Some(says), "{program}");
    }
}

#[test]
fn empty_datagram_is_a_message_and_no_end() {
    let calls = [
        "epoll_wait(3, [{EPOLLIN, 1}], TIMEOUT) = 1",
        "recvfrom(5, \"\", 65535, 127.0.0.2:PORT1) = 0",
        "sendto(5, \"echo -> \", 8, 127.0.0.2:PORT1) = 8",
        "recvfrom(5, \"from a server\", 65535, 127.0.0.3:PORT) = 13",
        "recvfrom(5, \"two\", 65535, 127.0.0.2:PORT1) = 3",
        "sendto(5, \"echo -> two\", 11, 127.0.0.2:PORT1) = -1 EAGAIN",
        "recvfrom(5, \"\", 65535, 127.0.0.3:PORT) = 0",
        "recvfrom(5, 65535) = -1 EAGAIN",
    ];
    let steps = record("12_datagrams.rs", &calls);
    let inputs: Vec<String> = steps[2..].iter().map(|step| slot(step, 1).input()).collect();
    // Messages are never joined. One that was dropped is gone with the next receive.
    let expected =
        ["an empty message", "none", "13 bytes", "3 bytes", "none", "an empty message", "none"];
    assert_eq!(inputs, expected);
    assert_eq!(slot(&steps[3], 1).output(), "none (8 bytes sent)");
    assert_eq!(slot(&steps[6], 1).output(), "none", "no reply waits for room");
}

#[test]
fn lingering_connection_discards_what_it_receives() {
    let calls = [
        "recvfrom(5, \"yy\"..., 1024) = 1024",
        "sendto(5, \"error\", 5) = 5",
        "shutdown(5, SHUT_WR) = 0",
        "recvfrom(5, \"yy\"..., 1024) = 1024",
        "recvfrom(5, \"yy\"..., 1024) = 12",
        "epoll_wait(4, [{EPOLLIN|EPOLLHUP|EPOLLRDHUP, 1}], TIMEOUT) = 1",
        "recvfrom(5, \"\", 1024) = 0",
        "close(5) = 0",
    ];
    let steps = record("10_endings.rs", &calls);
    let shown = steps[..8].iter().map(|step| (slot(step, 1).is_lingering, slot(step, 1).input()));
    let expected = [
        (false, "1024 bytes"),
        (false, "none"),
        (true, "none"),
        (true, "none (1024 bytes discarded)"),
        (true, "none (12 bytes discarded)"),
        (true, "none"),
        (true, "none"),
        (true, "the end"),
    ];
    assert_eq!(shown.collect::<Vec<_>>(), expected.map(|(is, text)| (is, text.to_owned())));
    assert!(slot(&steps[7], 1).state == SlotState::Ended);
}

#[test]
fn sources_of_a_stop_are_known_by_their_calls() {
    let calls = [
        "epoll_wait(3, [{EPOLLIN, 100}], TIMEOUT) = 1",
        "accept4(4) = -1 EAGAIN",
        "recvfrom(5, 65535) = -1 EAGAIN",
        "close(4) = 0",
        "close(5) = 0",
        "epoll_wait(3, [], TIMEOUT) = 0",
        "close(6) = 0",
        "close(3) = 0",
    ];
    let steps = record("14_crowds.rs", &calls);
    let sources: Vec<_> = steps[0].state.slots.iter().map(|slot| slot.source).collect();
    assert_eq!(sources, ["listener", "datagram socket", "connection"]);
    // All of them have been registered before, under tokens that no call shows.
    let registered = steps[0].state.registered.iter().map(|one| (one.descriptor, one.token));
    assert_eq!(registered.collect::<Vec<_>>(), [(4, None), (5, None), (6, None)]);
    let expire = steps.iter().find(|step| step.stage == Some("expire")).unwrap();
    assert_eq!(expire.says, "A deadline is due, and its source is marked as ended.");
}

#[test]
fn listener_that_had_no_room_accepts_in_drive_when_the_limit_is_over() {
    let calls = ["epoll_wait(4, [], TIMEOUT) = 0", "accept4(3) = -1 EMFILE"];
    assert_eq!(stages(&record_after_accept("08_stages.rs", &calls)), ["wait", "drive"]);
}

#[test]
fn program_without_stages_has_none_and_no_deadlines() {
    for program in ["06_epoll.py", "06_mio.rs"] {
        let calls = [
            "epoll_wait(4, [{EPOLLIN, 1}], -1) = 1",
            "recvfrom(5, \"\", 1024) = 0",
            "close(5) = 0",
        ];
        let steps = record_after_accept(program, &calls);
        assert_eq!(stages(&steps), ["none"; 3], "{program}");
        assert!(steps.iter().all(|step| step.state.deadlines.is_none()), "{program}");
        assert_eq!(steps[2].state.slots.len(), 1, "{program}: the source is removed at once");
    }
}
