//! Results of worker threads: they wake the loop, and arrive as messages. The tests run the jobs.

use std::any::Any;

use super::*;
use crate::workers::{JobPanicked, Worker, Workers, WorkersBusyError, job_queue};

const ASKERS: u16 = 3000;
const JOBS_MAX: usize = 2;

/// For each byte, gives a job that returns its double, or panics. Sends its peer the results.
struct Asker(Workers);

impl Protocol for Asker {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let byte = input[0];
        if byte == b'-' {
            return Advance::consumed(1).then(Next::Close);
        }
        let job = move || match byte {
            b'!' => panic!("a job that panics"),
            _ => [byte, byte],
        };
        if self.0.submit_for(cx.id(), job) == Err(WorkersBusyError) {
            cx.send(b"busy ");
        }
        Advance::consumed(1)
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        match message.downcast::<[u8; 2]>() {
            Ok(result) => cx.send(&*result),
            Err(other) => {
                assert!(other.is::<JobPanicked>());
                cx.send(b"panic ");
            }
        }
        Next::Unchanged
    }
}

fn world_with_askers() -> (World, Worker) {
    let mut world = World::without_faults();
    let completer = world.reactor().completer().unwrap();
    let (workers, worker) = job_queue(JOBS_MAX, completer);
    world.serve(ASKERS, move |_| Asker(workers.clone()));
    (world, worker)
}

// pitfall: 211
#[test]
fn job_beyond_the_queue_is_refused_and_a_panic_is_told() {
    let (mut world, worker) = world_with_askers();
    let asker = world.connect(ASKERS, 1);
    world.peer_sends(asker, b"a!cd");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(asker), b"busy busy ");
    assert!(worker.try_run_next() && worker.try_run_next() && !worker.try_run_next());
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(asker), b"aapanic ");
    world.peer_sends(asker, b"e");
    world.run_until_blocked();
    assert!(worker.try_run_next(), "there is room again");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(asker), b"ee");
    drop(worker); // it has the waker
    world.stop();
}

#[test]
fn result_of_a_job_wakes_a_sleeping_loop() {
    let (mut world, worker) = world_with_askers();
    let asker = world.connect(ASKERS, 1);
    world.peer_sends(asker, b"a");
    world.run_until_blocked();
    assert!(worker.try_run_next());
    let began_us = world.kernel().now_us();
    world.turn_within(10_000);
    assert!(world.kernel().now_us() - began_us < 1_000_000, "the poll ended by the wake");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(asker), b"aa");
    drop(worker); // it has the waker
    world.stop();
}

#[test]
fn result_for_a_connection_that_has_ended_is_dropped() {
    let (mut world, worker) = world_with_askers();
    let asker = world.connect(ASKERS, 1);
    world.peer_sends(asker, b"a-");
    world.run_until_blocked();
    world.kernel().peer_closes(asker);
    world.run_until_blocked();
    assert!(worker.try_run_next());
    world.run_until_blocked();
    assert!(world.reactor().effects.has_nothing_pending());
    drop(worker); // it has the waker
    world.stop();
}
