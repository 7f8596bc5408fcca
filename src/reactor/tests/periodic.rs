//! Periodic tasks: when they are called, and what ends them.

use std::cell::Cell;
use std::ops::ControlFlow;

use super::*;
use crate::echo::Echo;

const ECHO: u16 = 2000;
const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());

/// A world with a periodic task that counts its calls, and answers each with what `answer` says of
/// the count.
fn world_with_task(
    period_ms: u64,
    mut answer: impl FnMut(u64, &mut Reactor) -> ControlFlow<()> + 'static,
) -> (World, Rc<Cell<u64>>) {
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Echo::new());
    world.run_until_blocked();
    let calls = Rc::new(Cell::new(0));
    let counter = calls.clone();
    world.reactor().run_every(Duration::from_millis(period_ms), move |reactor| {
        counter.set(counter.get() + 1);
        answer(counter.get(), reactor)
    });
    (world, calls)
}

// pitfall: 184
#[test]
fn periodic_task_is_called_once_a_period_and_the_loop_sleeps_between() {
    let (mut world, calls) = world_with_task(100, |_, _| CONTINUE);
    world.run_for(99);
    assert_eq!(calls.get(), 0);
    world.run_for(2);
    assert_eq!(calls.get(), 1);
    let turns = world.run_for(1_000);
    assert_eq!((calls.get(), world.stats().tasks_run), (11, 11));
    assert!(turns <= 2 * 10 + 2, "{turns} turns: one to find it due and one to call it");
    world.stop();
}

// pitfall: 184
#[test]
fn missed_periods_are_not_made_up_for_and_the_rhythm_stays() {
    let (mut world, calls) = world_with_task(100, |_, _| CONTINUE);
    world.run_for(101);
    world.deschedule(10_030);
    world.run_until_blocked();
    assert_eq!(calls.get(), 2, "one call for all that passed");
    world.run_for(60); // 10,191 ms
    assert_eq!(calls.get(), 2);
    world.run_for(20); // 10,211 ms
    assert_eq!(calls.get(), 3, "at a whole number of periods");
    world.stop();
}

// pitfall: 185
#[test]
fn periodic_task_ends_by_break_or_by_a_panic_and_costs_nothing_else() {
    for panics in [false, true] {
        let (mut world, calls) = world_with_task(10, move |count, _| {
            assert!(!(panics && count == 3), "on purpose");
            if count == 3 { ControlFlow::Break(()) } else { CONTINUE }
        });
        world.run_for(500);
        assert_eq!((calls.get(), world.stats().panics), (3, u64::from(panics)));
        assert_eq!(Rc::strong_count(&calls), 1, "the closure is dropped");
        assert_eq!(world.reactor().next_deadline(), Time::NEVER);
        let stream = world.connect(ECHO, 1);
        world.peer_sends(stream, b"hello");
        world.run_until_blocked();
        assert_eq!(world.peer_receives_all(stream), b"hello");
        world.kernel().peer_closes(stream);
        world.stop();
    }
}

// pitfall: 185
#[test]
fn panic_in_drop_of_a_periodic_task_is_caught() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    for replaces in [false, true] {
        let held = PanicsInDrop;
        let (mut world, _) = world_with_task(10, move |_, reactor| {
            let _held = &held;
            if replaces {
                *reactor = Reactor::new(Limits::default()).unwrap();
            }
            ControlFlow::Break(())
        });
        for _ in 0..4 {
            world.reactor().turn(Some(Duration::from_millis(20))).unwrap();
        }
        assert_eq!(world.stats().panics, 1);
        let _ = world.reactor.take();
    }
}

#[test]
fn period_of_zero_is_a_millisecond_and_an_endless_one_is_never() {
    let (mut world, calls) = world_with_task(0, |_, _| CONTINUE);
    world.reactor().run_every(Duration::MAX, |_| panic!("it is never due"));
    world.run_for(20);
    assert!((10..=21).contains(&calls.get()), "{} calls", calls.get());
    assert_eq!(world.stats().panics, 0);
    world.stop();
}

#[test]
fn stop_ends_periodic_tasks_also_from_within_one() {
    let (mut world, calls) = world_with_task(10, |count, reactor| {
        if count == 2 {
            reactor.stop();
            reactor.run_every(Duration::from_millis(1), |_| panic!("the reactor is stopping"));
        }
        CONTINUE
    });
    world.run_for(100);
    assert!(world.reactor().is_stopped());
    assert_eq!((calls.get(), world.stats().panics), (2, 0));
    world.check_nothing_is_left();
}

#[test]
fn what_a_periodic_task_asks_of_connections_is_done() {
    let id = Rc::new(Cell::new(None));
    struct TellsId(Rc<Cell<Option<ConnectionId>>>);
    impl Protocol for TellsId {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.set(Some(cx.id()));
            Next::Continue
        }
        fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len())
        }
    }
    let shared = id.clone();
    let (mut world, _) = world_with_task(100, move |_, reactor| {
        if let Some(id) = shared.get() {
            reactor.connections().send_to(id, b"tick ");
        }
        CONTINUE
    });
    world.serve(3000, move |_| TellsId(id.clone()));
    let stream = world.connect(3000, 1);
    world.run_for(250);
    assert_eq!(world.peer_receives_all(stream), b"tick tick ");
    world.kernel().peer_closes(stream);
    world.stop();
}
