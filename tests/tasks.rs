//! Tasks that other threads submit with a handle, over the public API.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use common::{TIMEOUT, any_port, check_echo, connect, turn_until};
use mio_reactor::limits::TASKS_QUEUED_MAX;
use mio_reactor::{
    Advance, ConnectionId, Context, Echo, Handle, Limits, Next, Protocol, Reactor, SendStatus,
    Stopped, SubmitErrorKind,
};

/// Runs a reactor in a thread of its own. Returns its handle and what `set_up` returned.
fn spawn_reactor(
    set_up: impl FnOnce(&mut Reactor) -> SocketAddr + Send + 'static,
) -> (Handle, SocketAddr, thread::JoinHandle<Stopped>) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let address = set_up(&mut reactor);
        sender.send((reactor.handle().unwrap(), address)).unwrap();
        reactor.run().unwrap()
    });
    let (handle, address) = receiver.recv_timeout(TIMEOUT).unwrap();
    (handle, address, thread)
}

/// Submits `task`, waits for it, and returns what it returned.
fn run_task<T: Send + 'static>(
    handle: &Handle,
    task: impl FnOnce(&mut Reactor) -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    handle.submit(move |reactor| sender.send(task(reactor)).unwrap()).unwrap();
    receiver.recv_timeout(TIMEOUT).unwrap()
}

#[test]
fn handle_is_clone_send_and_sync() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Handle>();
}

#[test]
fn tasks_of_many_threads_all_run_in_the_order_of_each_thread() {
    let (handle, _, thread) =
        spawn_reactor(|reactor| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    const THREADS: usize = 4;
    const EACH: usize = 5000;
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (handle, sender) = (handle.clone(), sender.clone());
            scope.spawn(move || {
                for count in 0..EACH {
                    loop {
                        let sender = sender.clone();
                        match handle.submit(move |_| sender.send((number, count)).unwrap()) {
                            Ok(()) => break,
                            Err(error) if error.kind() == SubmitErrorKind::Full => {
                                thread::yield_now();
                            }
                            Err(error) => panic!("the reactor runs: {error}"),
                        }
                    }
                }
            });
        }
        let mut next = [0; THREADS];
        for _ in 0..THREADS * EACH {
            let (number, count) = receiver.recv_timeout(TIMEOUT).unwrap();
            assert_eq!(count, next[number]);
            next[number] += 1;
        }
    });
    assert_eq!(run_task(&handle, |reactor| reactor.stats().tasks_run), (THREADS * EACH + 1) as u64);
    handle.stop();
    assert_eq!(thread.join().unwrap(), Stopped::Graceful);
    assert_eq!(handle.submit(|_| ()).unwrap_err().kind(), SubmitErrorKind::Stopped);
}

/// Stores the id of each connection.
struct IdRecorder(Rc<RefCell<Vec<ConnectionId>>>);

thread_local! {
    /// The ids in the thread of the reactor.
    static IDS: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
}

impl Protocol for IdRecorder {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        Advance::consumed(input.len())
    }
}

#[test]
fn tasks_of_another_thread_listen_send_and_close() {
    let (handle, echo, thread) =
        spawn_reactor(|reactor| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    check_echo(&mut connect(echo), b"from the start");
    let address = run_task(&handle, |reactor| {
        reactor.listen(any_port(), |_| IdRecorder(IDS.with(Rc::clone))).unwrap()
    });
    let mut stream = connect(address);
    while run_task(&handle, |_| IDS.with(|ids| ids.borrow().is_empty())) {}
    run_task(&handle, |reactor| {
        let id = IDS.with(|ids| ids.borrow()[0]);
        assert_eq!(reactor.send_to(id, b"closing"), Ok(SendStatus::Accepted));
        reactor.connections().close(id);
    });
    let mut received = String::new();
    stream.read_to_string(&mut received).unwrap();
    assert_eq!(received, "closing");
    drop(stream);
    handle.stop();
    assert_eq!(thread.join().unwrap(), Stopped::Graceful);
}

#[test]
fn panic_in_a_task_costs_nothing_else() {
    let (handle, address, thread) =
        spawn_reactor(|reactor| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    let mut stream = connect(address);
    check_echo(&mut stream, b"before");
    handle.submit(|_| panic!("on purpose")).unwrap();
    assert_eq!(run_task(&handle, |reactor| reactor.stats().panics), 1);
    check_echo(&mut stream, b"after");
    drop(stream);
    handle.stop();
    thread.join().unwrap();
}

#[test]
fn submit_fails_as_full_without_turns_and_as_stopped_after_drop() {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let handle = reactor.handle().unwrap();
    for _ in 0..TASKS_QUEUED_MAX {
        handle.submit(|_| ()).unwrap();
    }
    let (sender, receiver) = mpsc::channel();
    let error = handle.submit(move |_| sender.send("ran").unwrap()).unwrap_err();
    assert_eq!(error.kind(), SubmitErrorKind::Full);
    assert_eq!(error.to_string(), "the task queue of the reactor is full");
    turn_until(&mut reactor, "all tasks run", |stats| stats.tasks_run == TASKS_QUEUED_MAX as u64);
    handle.submit(error.into_task()).unwrap();
    turn_until(&mut reactor, "the rest", |stats| stats.tasks_run > TASKS_QUEUED_MAX as u64);
    assert_eq!(receiver.try_recv(), Ok("ran"), "the task that was given back");
    handle.submit(|_| ()).unwrap();
    drop(reactor);
    assert_eq!(handle.submit(|_| ()).unwrap_err().kind(), SubmitErrorKind::Stopped);
    handle.stop();
}
