//! Other threads and the loop, over the public API.

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
    Advance, ConnectionId, Context, Echo, Handle, Limits, Next, Protocol, Reactor, Stopped,
    SubmitError,
};

/// A reactor that runs in a thread of its own, and a way to it.
fn running(
    set_up: impl FnOnce(&mut Reactor) -> SocketAddr + Send + 'static,
) -> (Handle, SocketAddr, thread::JoinHandle<Stopped>) {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let address = set_up(&mut reactor);
        tell.send((reactor.handle().unwrap(), address)).unwrap();
        reactor.run().unwrap()
    });
    let (handle, address) = told.recv_timeout(TIMEOUT).unwrap();
    (handle, address, thread)
}

/// Runs `work` there, and returns what it returned.
fn ask<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce(&mut Reactor) -> T + Send + 'static,
) -> T {
    let (tell, told) = mpsc::channel();
    handle.submit(move |reactor| tell.send(work(reactor)).unwrap()).unwrap();
    told.recv_timeout(TIMEOUT).unwrap()
}

#[test]
fn a_handle_can_go_to_any_thread() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Handle>();
}

#[test]
fn work_from_many_threads_is_all_run_in_the_order_of_each() {
    let (handle, _, thread) =
        running(|reactor| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    const THREADS: usize = 4;
    const EACH: usize = 5000;
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (handle, tell) = (handle.clone(), tell.clone());
            scope.spawn(move || {
                for count in 0..EACH {
                    loop {
                        let tell = tell.clone();
                        match handle.submit(move |_| tell.send((number, count)).unwrap()) {
                            Ok(()) => break,
                            Err(SubmitError::Full) => thread::yield_now(),
                            Err(SubmitError::Stopped) => panic!("it runs"),
                        }
                    }
                }
            });
        }
        let mut next = [0; THREADS];
        for _ in 0..THREADS * EACH {
            let (number, count) = told.recv_timeout(TIMEOUT).unwrap();
            assert_eq!(count, next[number]);
            next[number] += 1;
        }
    });
    assert_eq!(ask(&handle, |reactor| reactor.stats().tasks_run), (THREADS * EACH + 1) as u64);
    handle.stop();
    assert_eq!(thread.join().unwrap(), Stopped::Graceful);
    assert_eq!(handle.submit(|_| ()), Err(SubmitError::Stopped));
}

/// Notes who is here.
struct Guest(Rc<RefCell<Vec<ConnectionId>>>);

thread_local! {
    static ROOM: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
}

impl Protocol for Guest {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        Advance::consumed(input.len())
    }
}

#[test]
fn another_thread_listens_sends_and_closes() {
    let (handle, echo, thread) =
        running(|reactor| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    check_echo(&mut connect(echo), b"from the start");
    let address = ask(&handle, |reactor| {
        reactor.listen(any_port(), |_| Guest(ROOM.with(Rc::clone))).unwrap()
    });
    let mut guest = connect(address);
    while ask(&handle, |_| ROOM.with(|room| room.borrow().is_empty())) {}
    ask(&handle, |reactor| {
        let guest = ROOM.with(|room| room.borrow()[0]);
        assert_eq!(reactor.send_to(guest, b"It is time to go."), None);
        reactor.close(guest);
    });
    let mut heard = String::new();
    guest.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "It is time to go.");
    drop(guest);
    handle.stop();
    assert_eq!(thread.join().unwrap(), Stopped::Graceful);
}

#[test]
fn work_that_panics_costs_nothing_else() {
    let (handle, address, thread) =
        running(|reactor| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    let mut stream = connect(address);
    check_echo(&mut stream, b"before");
    handle.submit(|_| panic!("this is the panic")).unwrap();
    assert_eq!(ask(&handle, |reactor| reactor.stats().panics), 1);
    check_echo(&mut stream, b"behind");
    drop(stream);
    handle.stop();
    thread.join().unwrap();
}

#[test]
fn a_reactor_that_takes_no_turns_fills_up_and_one_that_is_dropped_is_gone() {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let handle = reactor.handle().unwrap();
    for _ in 0..TASKS_QUEUED_MAX {
        handle.submit(|_| ()).unwrap();
    }
    assert_eq!(handle.submit(|_| ()), Err(SubmitError::Full));
    turn_until(&mut reactor, "all is run", |stats| stats.tasks_run == TASKS_QUEUED_MAX as u64);
    handle.submit(|_| ()).unwrap();
    drop(reactor);
    assert_eq!(handle.submit(|_| ()), Err(SubmitError::Stopped));
    handle.stop();
}
