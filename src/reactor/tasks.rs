//! Tasks: closures that other threads submit, and that the loop runs on its own thread.
//!
//! ```text
//!     another thread                              the loop's thread
//!     Handle::submit ─┬─► task ──► bounded channel ──┬─► TaskQueue ──► run, a few in each turn
//!                     └─► waker ─► event ────────────┘
//! ```
//!
//! A reactor stays on its thread, and none of its state is shared. Another thread submits a
//! closure, which the loop runs between two drives and which gets the whole reactor as its argument
//! (asyncio's `call_soon_threadsafe`). Only the channel, a stop flag and the waker are used by both
//! sides.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use log::error;

use super::Reactor;
use super::sources::Source;
use crate::limits::{CONNECTION_COST_BYTES, TASKS_QUEUED_MAX};
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;
use crate::sys::{Registry, Token, Waker};

type Task = Box<dyn FnOnce(&mut Reactor) + Send>;

/// Submits tasks to a [`Reactor`] from any thread. Returned by [`Reactor::handle`]. Clones belong
/// to the same reactor.
///
/// A handle neither keeps its reactor alive nor prevents it from stopping. It is `Send` and `Sync`:
/// threads may share one, or have a clone each.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::mpsc;
/// use mio_reactor::{Echo, Limits, Reactor};
///
/// let mut reactor = Reactor::new(Limits::default())?;
/// reactor.listen(([127, 0, 0, 1], 0).into(), |_| Echo::new())?;
/// let handle = reactor.handle()?;
/// let monitor = std::thread::spawn(move || {
///     let (sender, receiver) = mpsc::channel();
///     handle
///         .submit(move |reactor| {
///             sender.send(reactor.stats().connections).expect("the receiver waits");
///         })
///         .expect("the reactor runs");
///     assert_eq!(receiver.recv(), Ok(0));
///     handle.stop();
/// });
/// reactor.run()?;
/// monitor.join().expect("there was no connection");
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

/// Why a task was not taken. The task has been dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// [`TASKS_QUEUED_MAX`] tasks are queued already.
    Full,
    /// The reactor has been dropped, or is stopping and takes no more tasks.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitError::Full => f.write_str("the task queue of the reactor is full"),
            SubmitError::Stopped => f.write_str("the reactor has stopped"),
        }
    }
}

impl std::error::Error for SubmitError {}

impl Handle {
    /// Submits a task: the reactor runs it soon on its own thread. Wakes the reactor if it sleeps,
    /// and returns at once. Tasks from one thread run in the order in which they were submitted.
    ///
    /// While a task runs, no source is served, so it must not block. It may do whatever the
    /// reactor's owner may do between two turns: listen, connect, send, stop, read the counters. A
    /// panic in a task is caught, counted and logged, and the reactor continues.
    ///
    /// Tasks that were taken before the reactor was asked to stop are run before it stops. Tasks
    /// that are taken later may be dropped.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] if the queue is full, or the reactor stops or has been dropped. Then the
    /// task is dropped before this returns.
    ///
    /// # Panics
    ///
    /// The task panics if it calls [`Reactor::run`] or [`Reactor::turn`], because it runs within a
    /// turn.
    pub fn submit(
        &self,
        task: impl FnOnce(&mut Reactor) + Send + 'static,
    ) -> Result<(), SubmitError> {
        self.0.tasks.try_send(Box::new(task)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })?;
        self.wake();
        Ok(())
    }

    /// Stops the reactor, as [`Reactor::stop`] does, when it has run the tasks that were submitted
    /// before. Never fails. If the reactor has stopped already, nothing happens.
    pub fn stop(&self) {
        self.0.stop_requested.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.0.waker.wake() {
            // Only a descriptor that other code has closed causes this. The task is queued, and
            // runs after the next event.
            error!("waking the poll failed: {error}");
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// The reactor's end of the channel.
pub(crate) struct TaskQueue {
    tasks: Receiver<Task>,
    handle: Handle,
    /// How many more tasks run before the stop, once it has been requested. Bounded, because
    /// threads may submit without end.
    tasks_before_stop: Option<usize>,
}

/// What the loop does next.
pub(crate) enum NextTask {
    Run(Task),
    Stop,
    Empty,
}

impl TaskQueue {
    /// Makes the queue and its handle. Each submit wakes the poll with an event for `token`.
    #[cfg_attr(
        test,
        expect(clippy::arc_with_non_send_sync, reason = "the simulated waker stays on its thread")
    )]
    pub(crate) fn open(registry: &Registry, token: Token) -> io::Result<TaskQueue> {
        let waker = Waker::new(registry, token)?;
        let (sender, receiver) = sync_channel(TASKS_QUEUED_MAX);
        let handle = Handle(Arc::new(Shared {
            tasks: sender,
            stop_requested: AtomicBool::new(false),
            waker,
        }));
        Ok(TaskQueue { tasks: receiver, handle, tasks_before_stop: None })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Returns what to do next: tasks run in the order in which they were submitted.
    pub(crate) fn next(&mut self, is_stopping: bool) -> NextTask {
        if self.tasks_before_stop.is_none()
            && (is_stopping || self.handle.0.stop_requested.load(Ordering::Acquire))
        {
            self.tasks_before_stop = Some(TASKS_QUEUED_MAX); // no more can have been queued then
        }
        match &mut self.tasks_before_stop {
            Some(0) => return NextTask::Stop,
            Some(left) => *left -= 1,
            None => {}
        }
        match self.tasks.try_recv() {
            Ok(task) => NextTask::Run(task),
            Err(_) if self.tasks_before_stop.is_some() => NextTask::Stop,
            Err(_) => NextTask::Empty,
        }
    }
}

impl Reactor {
    /// Runs submitted tasks until the queue is empty or the budget is spent.
    pub(super) fn run_tasks(&mut self, token: usize) -> Outcome {
        let share = self.state.budget.quarter();
        while !self.state.budget.share_is_spent(share) {
            let slot = &mut self.slots[token];
            let Source::Tasks(queue) = &mut slot.source else { break };
            match queue.next(self.state.stop.is_stopping()) {
                NextTask::Run(task) => {
                    self.state.budget.charge(CONNECTION_COST_BYTES);
                    self.state.stats.tasks_run += 1;
                    task(self);
                    self.apply_effects();
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
