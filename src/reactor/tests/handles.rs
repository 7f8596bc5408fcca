//! Work that others hand in, one thing at a time. (Other threads are in `tests/handle.rs`; here all are one.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::echo::Echo;
use crate::limits::{TASKS_PER_TURN, TASKS_QUEUED_MAX};
use crate::reactor::tasks::SubmitError;

const ECHO: u16 = 2000;

fn working() -> (World, Handle, Arc<AtomicUsize>) {
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Echo::new());
    let handle = world.reactor().handle().unwrap();
    world.run_until_blocked();
    (world, handle, Arc::default())
}

/// Hands in work that counts how much has been run.
fn count(handle: &Handle, counter: &Arc<AtomicUsize>) -> Result<(), SubmitError> {
    let counter = counter.clone();
    handle.submit(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    })
}

fn run(counter: &Arc<AtomicUsize>) -> usize {
    counter.load(Ordering::Relaxed)
}

#[test]
fn a_sleeping_loop_is_woken_by_work_and_then_sleeps_again() {
    let (mut world, handle, counter) = working();
    world.take_calls();
    count(&handle, &counter).unwrap();
    world.reactor().turn(None).unwrap(); // it would be asleep for ever
    assert_eq!((run(&counter), world.take_calls()), (1, vec!["poll"]));
    assert_eq!(world.run_until_blocked(), 0, "and there is nothing more to do");
    drop(handle);
    world.stop();
}

#[test]
fn one_turn_runs_a_budget_of_work_and_serves_the_others() {
    let (mut world, handle, counter) = working();
    let stream = world.connect(ECHO, 1);
    world.run_until_blocked();
    for _ in 0..3 * TASKS_PER_TURN + 1 {
        count(&handle, &counter).unwrap();
    }
    for state in 1..=4 {
        world.peer_sends(stream, b"And me?");
        world.turn();
        assert_eq!(run(&counter), (state * TASKS_PER_TURN).min(3 * TASKS_PER_TURN + 1));
        assert_eq!(world.peer_receives_all(stream), b"And me?", "in that very turn");
    }
    assert_eq!(world.stats().tasks_run, 3 * TASKS_PER_TURN as u64 + 1);
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    drop(handle);
    world.stop();
}

#[test]
fn more_work_than_may_wait_is_not_taken_until_some_has_been_run() {
    let (mut world, handle, counter) = working();
    for _ in 0..TASKS_QUEUED_MAX {
        count(&handle, &counter).unwrap();
    }
    assert_eq!(count(&handle, &counter), Err(SubmitError::Full));
    world.turn();
    for _ in 0..TASKS_PER_TURN {
        count(&handle, &counter).unwrap();
    }
    assert_eq!(count(&handle, &counter), Err(SubmitError::Full));
    world.run_until_blocked();
    assert_eq!(run(&counter), TASKS_QUEUED_MAX + TASKS_PER_TURN);
    drop(handle);
    world.stop();
}

#[test]
fn what_was_handed_in_before_the_stop_is_run_and_later_work_is_not_taken() {
    for is_asked_by_handle in [true, false] {
        let (mut world, handle, counter) = working();
        for _ in 0..TASKS_QUEUED_MAX {
            count(&handle, &counter).unwrap();
        }
        if is_asked_by_handle {
            handle.stop();
        } else {
            world.reactor().stop();
        }
        let mut turns = 0;
        while !world.reactor().is_stopped() {
            world.turn();
            // Whoever goes on and on does not hold up the stop.
            while count(&handle, &counter).is_ok() {}
            turns += 1;
            assert!(turns < 50);
        }
        assert_eq!(run(&counter), TASKS_QUEUED_MAX);
        assert_eq!(count(&handle, &counter), Err(SubmitError::Stopped));
        handle.stop(); // nothing happens
        drop(handle);
        world.check_nothing_is_left();
    }
}

#[test]
fn work_may_do_what_the_owner_may_but_not_take_a_turn() {
    let (mut world, handle, counter) = working();
    handle
        .submit(|reactor| {
            reactor.listen(server(2222), |_| Echo::new()).unwrap();
        })
        .unwrap();
    let ran = counter.clone();
    handle
        .submit(move |reactor| {
            ran.fetch_add(1, Ordering::Relaxed);
            reactor.turn(Some(Duration::ZERO)).unwrap();
            ran.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    count(&handle, &counter).unwrap();
    world.run_until_blocked();
    assert_eq!(
        (run(&counter), world.stats().panics),
        (2, 1),
        "the turn is a panic, and what comes behind it is run"
    );
    let stream = world.connect(2222, 1);
    world.peer_sends(stream, b"Hello");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"Hello");
    // It is not a protocol that the ledger knows.
    world.ledger.borrow_mut().close_reasons.push(Some(CloseReason::Finished));
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    drop(handle);
    world.stop();
}

#[test]
fn a_handle_that_comes_during_a_stop_does_not_hold_it_up() {
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Echo::new());
    world.reactor().stop();
    let handle = world.reactor().handle().unwrap();
    world.turn();
    world.turn();
    assert!(world.reactor().is_stopped());
    assert_eq!(handle.submit(|_| ()), Err(SubmitError::Stopped));
    drop(handle);
    world.check_nothing_is_left();
}
