//! What other threads have the loop do.
//!
//! ```text
//!     another thread                              the loop's thread
//!     Handle::submit ──► work ──► a bounded channel ──► TaskQueue ──► run, a few in each turn
//!                       └────► waker ──► an event ────┘
//! ```
//!
//! A reactor stays on its thread, and nothing of it is shared. Whoever is elsewhere hands in work: a closure that the loop runs
//! between two drives, with the whole reactor in its hands. The channel and the waker are all that both sides touch.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use log::error;

use super::Reactor;
use super::sources::Source;
use crate::limits::{TASKS_PER_TURN, TASKS_QUEUED_MAX};
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;
use crate::sys::{Registry, Token, Waker};

type Task = Box<dyn FnOnce(&mut Reactor) + Send>;

/// A way to a [`Reactor`] from any thread. Made by [`Reactor::handle`]; clones lead to the same reactor.
///
/// A handle does not keep its reactor alive, nor from stopping.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::mpsc;
/// use mio_reactor::{Echo, Limits, Reactor};
///
/// let mut reactor = Reactor::new(Limits::default())?;
/// reactor.listen(([127, 0, 0, 1], 0).into(), |_| Echo::new())?;
/// let handle = reactor.handle()?;
/// let watching = std::thread::spawn(move || {
///     let (tell, told) = mpsc::channel();
///     handle.submit(move |reactor| tell.send(reactor.stats().connections).expect("somebody waits")).expect("it runs");
///     assert_eq!(told.recv(), Ok(0));
///     handle.stop();
/// });
/// reactor.run()?;
/// watching.join().expect("it has seen nobody");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    tasks: SyncSender<Task>,
    stop_requested: AtomicBool,
    waker: Waker,
}

/// Why work was not taken. It has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// [`TASKS_QUEUED_MAX`] pieces of work wait already.
    Full,
    /// The reactor has been dropped, or stops and takes no more.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Full => f.write_str("too much work waits for the reactor already"),
            SubmitError::Stopped => f.write_str("the reactor has stopped"),
        }
    }
}

impl std::error::Error for SubmitError {}

impl Handle {
    /// Has the reactor run `task` in its own thread, soon, in the order in which work is taken from each thread. Wakes it if
    /// it sleeps; returns at once.
    ///
    /// While the work runs nobody is served, so it must not block. It may do to the reactor whatever the owner could between
    /// two turns: listen, connect, send, stop, look at the counters. If it panics, that is caught, counted and logged, and
    /// the reactor goes on.
    ///
    /// What was taken before the reactor was asked to stop is run before it stops. What is taken afterwards may be dropped.
    ///
    /// # Errors
    ///
    /// The reactor has too much to do already, or does not exist any more. Then the work is dropped, here and now.
    ///
    /// # Panics
    ///
    /// The work itself does, if it calls [`Reactor::run`] or [`Reactor::turn`]: a turn is being taken.
    pub fn submit(
        &self,
        work: impl FnOnce(&mut Reactor) + Send + 'static,
    ) -> Result<(), SubmitError> {
        self.0.tasks.try_send(Box::new(work)).map_err(|refused| match refused {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })?;
        self.wake();
        Ok(())
    }

    /// Has the reactor stop, as [`Reactor::stop`] does, when it has run what was handed in before. This is never refused; if
    /// the reactor has stopped already, nothing happens.
    pub fn stop(&self) {
        self.0.stop_requested.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.0.waker.wake() {
            // Only a descriptor that was closed behind our back does this. The work is taken, and waits for the next event.
            error!("waking the poll failed: {error}");
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// The reactor's end.
pub(crate) struct TaskQueue {
    tasks: Receiver<Task>,
    handle: Handle,
    /// How much more is run before the stop, once that has been asked for. Bounded, since others may hand in work without end.
    tasks_before_stop: Option<usize>,
}

/// What is to be done next.
pub(crate) enum NextTask {
    Run(Task),
    Stop,
    Empty,
}

impl TaskQueue {
    /// Whoever hands in work wakes the poll with `token`.
    #[cfg_attr(
        test,
        expect(clippy::arc_with_non_send_sync, reason = "the simulated waker stays on its thread")
    )]
    pub(crate) fn open(registry: &Registry, token: Token) -> io::Result<TaskQueue> {
        let waker = Waker::new(registry, token)?;
        let (sender, work) = sync_channel(TASKS_QUEUED_MAX);
        let handle = Handle(Arc::new(Shared {
            tasks: sender,
            stop_requested: AtomicBool::new(false),
            waker,
        }));
        Ok(TaskQueue { tasks: work, handle, tasks_before_stop: None })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The next errand, in the order in which they were handed in.
    pub(crate) fn next(&mut self, is_stopping: bool) -> NextTask {
        if self.tasks_before_stop.is_none()
            && (is_stopping || self.handle.0.stop_requested.load(Ordering::Acquire))
        {
            self.tasks_before_stop = Some(TASKS_QUEUED_MAX); // no more can have waited then
        }
        match &mut self.tasks_before_stop {
            Some(0) => return NextTask::Stop,
            Some(left) => *left -= 1,
            None => {}
        }
        match self.tasks.try_recv() {
            Ok(work) => NextTask::Run(work),
            Err(_) if self.tasks_before_stop.is_some() => NextTask::Stop,
            Err(_) => NextTask::Empty,
        }
    }
}

impl Reactor {
    /// Runs submitted tasks until the queue is empty or the budget is spent.
    pub(super) fn run_tasks(&mut self, token: usize) -> Outcome {
        for _ in 0..TASKS_PER_TURN {
            let slot = &mut self.slots[token];
            let Source::Tasks(queue) = &mut slot.source else { break };
            match queue.next(self.state.stopping) {
                NextTask::Run(task) => {
                    self.state.stats.tasks_run += 1;
                    task(self);
                }
                NextTask::Empty => {
                    slot.ready = Readiness::NOT_READY; // the next submit wakes the poll
                    return Outcome::Blocked;
                }
                NextTask::Stop => {
                    self.stop();
                    return Outcome::Ended(CloseReason::Stopped);
                }
            }
        }
        Outcome::Unfinished
    }
}
