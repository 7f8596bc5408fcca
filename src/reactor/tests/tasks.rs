//! Tasks submitted with a handle, on the simulated kernel and in one thread.
//!
//! `tests/tasks.rs` submits them from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::echo::Echo;
use crate::limits::TASKS_QUEUED_MAX;
use crate::reactor::tasks::SubmitErrorKind;

const ECHO: u16 = 2000;

/// A world that serves echo, a handle of its reactor, and a counter for the tasks.
fn world_with_handle() -> (World, Handle, Arc<AtomicUsize>) {
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Echo::new());
    let handle = world.reactor().handle().unwrap();
    world.run_until_blocked();
    (world, handle, Arc::default())
}

/// Submits a task that adds one to `counter`.
fn submit_count(handle: &Handle, counter: &Arc<AtomicUsize>) -> Result<(), SubmitErrorKind> {
    let counter = counter.clone();
    let count = move |_: &mut Reactor| {
        counter.fetch_add(1, Ordering::Relaxed);
    };
    handle.submit(count).map_err(|error| error.kind())
}

/// How many of these tasks were run.
fn tasks_run(counter: &Arc<AtomicUsize>) -> usize {
    counter.load(Ordering::Relaxed)
}

// pitfall: 66
#[test]
fn task_wakes_a_sleeping_loop_which_then_sleeps_again() {
    let (mut world, handle, counter) = world_with_handle();
    world.take_calls();
    submit_count(&handle, &counter).unwrap();
    world.reactor().turn(None).unwrap(); // without the task it would sleep for ever
    assert_eq!((tasks_run(&counter), world.take_calls()), (1, vec!["poll"]));
    assert_eq!(world.run_until_blocked(), 0, "nothing more to do");
    drop(handle);
    world.stop();
}

// pitfall: 66
#[test]
fn one_turn_runs_a_budget_of_tasks_and_serves_connections() {
    let (mut world, handle, counter) = world_with_handle();
    let stream = world.connect(ECHO, 1);
    world.run_until_blocked();
    for _ in 0..3 * TASKS_PER_TURN + 1 {
        submit_count(&handle, &counter).unwrap();
    }
    for turn in 1..=4 {
        world.peer_sends(stream, b"hello");
        world.turn();
        assert_eq!(tasks_run(&counter), (turn * TASKS_PER_TURN).min(3 * TASKS_PER_TURN + 1));
        assert_eq!(world.peer_receives_all(stream), b"hello", "in the same turn");
    }
    assert_eq!(world.stats().tasks_run, 3 * TASKS_PER_TURN as u64 + 1);
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    drop(handle);
    world.stop();
}

#[test]
fn full_task_queue_rejects_tasks_until_some_have_run() {
    let (mut world, handle, counter) = world_with_handle();
    for _ in 0..TASKS_QUEUED_MAX {
        submit_count(&handle, &counter).unwrap();
    }
    assert_eq!(submit_count(&handle, &counter), Err(SubmitErrorKind::Full));
    world.turn();
    for _ in 0..TASKS_PER_TURN {
        submit_count(&handle, &counter).unwrap();
    }
    assert_eq!(submit_count(&handle, &counter), Err(SubmitErrorKind::Full));
    world.run_until_blocked();
    assert_eq!(tasks_run(&counter), TASKS_QUEUED_MAX + TASKS_PER_TURN);
    drop(handle);
    world.stop();
}

#[test]
fn stop_runs_the_tasks_queued_before_it_and_rejects_later_ones() {
    for stop_by_handle in [true, false] {
        let (mut world, handle, counter) = world_with_handle();
        for _ in 0..TASKS_QUEUED_MAX {
            submit_count(&handle, &counter).unwrap();
        }
        if stop_by_handle {
            handle.stop();
        } else {
            world.reactor().stop();
        }
        let mut turns = 0;
        while !world.reactor().is_stopped() {
            world.turn();
            // A thread that keeps submitting does not delay the stop.
            while submit_count(&handle, &counter).is_ok() {}
            turns += 1;
            assert!(turns < 50);
        }
        assert_eq!(tasks_run(&counter), TASKS_QUEUED_MAX);
        assert_eq!(submit_count(&handle, &counter), Err(SubmitErrorKind::Stopped));
        handle.stop(); // has no effect any more
        drop(handle);
        world.check_nothing_is_left();
    }
}

#[test]
fn task_may_use_the_reactor_but_not_run_a_turn() {
    let (mut world, handle, counter) = world_with_handle();
    handle
        .submit(|reactor| {
            reactor.listen(server(2222), |_| Echo::new()).unwrap();
        })
        .unwrap();
    let shared = counter.clone();
    handle
        .submit(move |reactor| {
            shared.fetch_add(1, Ordering::Relaxed);
            reactor.turn(Some(Duration::ZERO)).unwrap();
            shared.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    submit_count(&handle, &counter).unwrap();
    world.run_until_blocked();
    assert_eq!(
        (tasks_run(&counter), world.stats().panics),
        (2, 1),
        "the nested turn panics, and the next task is run"
    );
    let stream = world.connect(2222, 1);
    world.peer_sends(stream, b"hello");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"hello");
    // The ledger has no entry for this connection, because the task listened without it.
    world.ledger.borrow_mut().close_reasons.push(Some(CloseReason::Finished));
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    drop(handle);
    world.stop();
}

#[test]
fn handle_requested_during_a_stop_does_not_delay_it() {
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Echo::new());
    world.reactor().stop();
    let handle = world.reactor().handle().unwrap();
    world.turn();
    world.turn();
    assert!(world.reactor().is_stopped());
    assert_eq!(handle.submit(|_| ()).unwrap_err().kind(), SubmitErrorKind::Stopped);
    drop(handle);
    world.check_nothing_is_left();
}
