//! What does a task cost that is submitted to the reactor, from its own thread or from another?
//!
//! [`Handle::submit`] puts a task, which is a closure, into a bounded channel and wakes the poll.
//! The reactor runs it in its next turn. The tasks here do next to nothing.
//!
//! - `same thread, 1` and `same thread, 64`: the reactor's own thread submits so many tasks and
//!   runs turns until all have run. All of that is timed. No thread is woken in it.
//! - `another thread`: the reactor waits in a thread of its own. The benchmark's thread submits a
//!   task that sends a value back through a channel, and waits for the value. So two threads are
//!   woken one after the other, which is most of the time.
//!
//! How to read it. `baseline` does the same without a reactor: a bounded channel of boxed closures,
//! a `mio::Waker`, and a `Poll::poll` before the closures run. `reactor` minus `baseline` is our
//! share. The time given for 64 tasks is that of all of them together.
//!
//! [`Handle::submit`]: mio_reactor::Handle::submit

mod common;

use std::hint::black_box;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mio::{Events, Poll, Token, Waker};
use mio_reactor::limits::TASKS_QUEUED_MAX;
use mio_reactor::{Limits, Reactor};

use common::{TIMEOUT, time_turns};

fn same_thread(c: &mut Criterion) {
    for count in [1, 64] {
        let mut group = c.benchmark_group(format!("task: same thread, {count}"));
        group.throughput(Throughput::Elements(count));

        let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
        let handle = reactor.handle().expect("a waker can be made");
        group.bench_function("reactor", |b| {
            b.iter(|| {
                let target = reactor.stats().tasks_run + count;
                for number in 0..count {
                    let task = move |_: &mut Reactor| _ = black_box(number);
                    handle.submit(task).expect("the reactor runs, and its queue is not full");
                }
                time_turns(&mut reactor, |stats| stats.tasks_run == target);
            });
        });

        let (mut baseline, handle) = baseline();
        group.bench_function("baseline", |b| {
            b.iter(|| {
                for number in 0..count {
                    handle.submit(move || _ = black_box(number));
                }
                let mut left = count;
                while left > 0 {
                    left -= baseline.turn().expect("the handle is not dropped");
                }
            });
        });
        group.finish();
    }
}

fn another_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("task: another thread");
    let (send_value, value) = mpsc::channel();

    let (send_handle, handle) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
        let handle = reactor.handle().expect("a waker can be made");
        send_handle.send(handle).expect("the benchmark waits for it");
        reactor.run().expect("the poll works");
    });
    let handle = handle.recv_timeout(TIMEOUT).expect("the reactor has started");
    group.bench_function("reactor", |b| {
        b.iter(|| {
            let send_value = send_value.clone();
            let task = move |_: &mut Reactor| send_value.send(()).expect("the benchmark waits");
            handle.submit(task).expect("the reactor runs, and its queue is not full");
            value.recv_timeout(TIMEOUT).expect("the task runs");
        });
    });
    handle.stop();
    thread.join().expect("the reactor stops");

    let (mut baseline, handle) = baseline();
    let thread = thread::spawn(move || while baseline.turn().is_some() {});
    group.bench_function("baseline", |b| {
        b.iter(|| {
            let send_value = send_value.clone();
            handle.submit(move || send_value.send(()).expect("the benchmark waits"));
            value.recv_timeout(TIMEOUT).expect("the task runs");
        });
    });
    handle.stop();
    thread.join().expect("the baseline stops");
    group.finish();
}

type Task = Box<dyn FnOnce() + Send>;

/// A loop that runs tasks, and nothing else.
struct Baseline {
    poll: Poll,
    events: Events,
    tasks: Receiver<Task>,
}

struct BaselineHandle {
    tasks: SyncSender<Task>,
    waker: Waker,
}

fn baseline() -> (Baseline, BaselineHandle) {
    let poll = Poll::new().expect("a poll can be made");
    let waker = Waker::new(poll.registry(), Token(0)).expect("a waker can be made");
    let (sender, tasks) = mpsc::sync_channel(TASKS_QUEUED_MAX);
    let baseline = Baseline { poll, events: Events::with_capacity(1024), tasks };
    (baseline, BaselineHandle { tasks: sender, waker })
}

impl Baseline {
    /// Waits, runs all tasks, and returns how many these were. `None`: the handle was dropped.
    fn turn(&mut self) -> Option<u64> {
        self.poll.poll(&mut self.events, Some(TIMEOUT)).expect("the poll works");
        let mut count = 0;
        loop {
            match self.tasks.try_recv() {
                Ok(task) => task(),
                Err(TryRecvError::Empty) => return Some(count),
                Err(TryRecvError::Disconnected) => return None,
            }
            count += 1;
        }
    }
}

impl BaselineHandle {
    fn submit(&self, task: impl FnOnce() + Send + 'static) {
        self.tasks.try_send(Box::new(task)).expect("the baseline runs, and its queue is not full");
        self.waker.wake().expect("the waker works");
    }

    fn stop(self) {
        drop(self.tasks);
        self.waker.wake().expect("the waker works");
    }
}

criterion_group!(benches, same_thread, another_thread);
criterion_main!(benches);
