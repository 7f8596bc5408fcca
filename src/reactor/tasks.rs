//! Tasks: closures that other threads submit, and that the loop runs on its own thread.
//!
//! ```text
//!     another thread                              the loop's thread
//!     Handle::submit ─┬─► task ──► bounded channel ──┬─► TaskQueue ──► run, a few in each turn
//!                     └─► waker ─► event ────────────┘
//! ```
//!
//! A reactor stays on its thread, and none of its state is shared. Another thread submits a
//! closure, which the loop runs when it drives the task queue, so never during a callback of a
//! protocol, and which gets the whole reactor as its argument (asyncio's `call_soon_threadsafe`).
//! Only the channel, a stop flag and the waker are used by both sides.

pub(super) mod periodic; // closures that run once in each period

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use log::{error, warn};

use super::Reactor;
use super::slots::enqueue;
use super::sources::Source;
use crate::caught::{Panicked, catch};
use crate::limits::{CONNECTION_COST_BYTES, TASKS_QUEUED_MAX};
use crate::protocol::completions::{Completer, Completions};
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;
use crate::sys::{self, Registry, Token};
use crate::trace::Stage;
use crate::wake::Wake;

type Task = Box<dyn AnyTask>;

/// A submitted closure. If the queue does not accept it, it is downcast so that `submit` can return
/// it.
pub(crate) trait AnyTask: Send {
    fn run(self: Box<Self>, reactor: &mut Reactor);
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<F: FnOnce(&mut Reactor) + Send + 'static> AnyTask for F {
    fn run(self: Box<Self>, reactor: &mut Reactor) {
        self(reactor);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

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
/// reactor.listen("127.0.0.1:0", |_| Echo::new())?;
/// let handle = reactor.handle()?;
/// let observer = std::thread::spawn(move || {
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
/// observer.join().expect("there was no connection");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    tasks: SyncSender<Task>,
    stop_requested: AtomicBool,
    wake: Wake,
}

/// A task that was not accepted, and why. [`into_task`](SubmitError::into_task) gives it back.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use mio_reactor::{Limits, Reactor, SubmitErrorKind};
///
/// let mut reactor = Reactor::new(Limits::default())?;
/// let handle = reactor.handle()?;
/// drop(reactor);
/// let error = handle.submit(|reactor| reactor.stop()).unwrap_err();
/// assert_eq!(error.kind(), SubmitErrorKind::Stopped);
/// let _task = error.into_task(); // perhaps for another reactor
/// # Ok(())
/// # }
/// ```
pub struct SubmitError<F> {
    kind: SubmitErrorKind,
    task: F,
}

/// Why a task was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitErrorKind {
    /// [`TASKS_QUEUED_MAX`] tasks are queued already. A later attempt may succeed.
    Full,
    /// The reactor has been dropped, or is stopping and accepts no more tasks.
    Stopped,
}

impl<F> SubmitError<F> {
    /// Returns why the task was not accepted.
    pub fn kind(&self) -> SubmitErrorKind {
        self.kind
    }

    /// Returns the task, to be submitted again, run elsewhere or dropped.
    pub fn into_task(self) -> F {
        self.task
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SubmitErrorKind::Full => "the task queue of the reactor is full",
            SubmitErrorKind::Stopped => "the reactor is stopping or has stopped",
        })
    }
}

impl<F> std::error::Error for SubmitError<F> {}

impl Handle {
    /// Submits a task: the reactor runs it soon on its own thread. Wakes the reactor if it sleeps,
    /// and returns at once. Tasks from one thread run in the order in which they were submitted.
    ///
    /// While a task runs, no source is served, so it must not block. It may do whatever the
    /// reactor's owner may do between two turns: listen, connect, send, stop, read the counters. A
    /// panic in a task is caught, counted and logged, and the reactor continues.
    ///
    /// A task may put another reactor in the place of its own (`*reactor = …`). The loop then runs
    /// that one. The old one, if it is kept (`std::mem::replace`), can run no turn by itself, and
    /// goes on when another task puts it back.
    ///
    /// Tasks that were accepted before the reactor was asked to stop are run before it stops,
    /// within the drain timeout. Tasks that are accepted later may be dropped.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] if the queue is full, or the reactor stops or has been dropped. It gives the
    /// task back.
    ///
    /// # Panics
    ///
    /// The task panics if it calls [`Reactor::run`] or [`Reactor::turn`], because it runs within a
    /// turn.
    pub fn submit<F: FnOnce(&mut Reactor) + Send + 'static>(
        &self,
        task: F,
    ) -> Result<(), SubmitError<F>> {
        let (kind, task) = match self.0.tasks.try_send(Box::new(task)) {
            Ok(()) => {
                self.0.wake.wake();
                return Ok(());
            }
            Err(TrySendError::Full(task)) => (SubmitErrorKind::Full, task),
            Err(TrySendError::Disconnected(task)) => (SubmitErrorKind::Stopped, task),
        };
        let task = *task.into_any().downcast().expect("it is the task that was sent just now");
        Err(SubmitError { kind, task })
    }

    /// Stops the reactor, as [`Reactor::stop`] does, when it has run the tasks that were submitted
    /// before. Never fails. If the reactor has stopped already, nothing happens.
    pub fn stop(&self) {
        self.0.stop_requested.store(true, Ordering::Release);
        self.0.wake.wake();
    }

    /// What wakes the loop, for other uses than tasks.
    pub(crate) fn waker(&self) -> &Wake {
        &self.0.wake
    }
}

/// Two handles are equal if they belong to the same reactor.
impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Handle {}

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
        let wake = Wake::open(registry, token)?;
        let (sender, receiver) = sync_channel(TASKS_QUEUED_MAX);
        let handle = Handle(Arc::new(Shared {
            tasks: sender,
            stop_requested: AtomicBool::new(false),
            wake,
        }));
        Ok(TaskQueue { tasks: receiver, handle, tasks_before_stop: None })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes a task that will not be run.
    pub(super) fn take(&mut self) -> Option<impl Sized> {
        self.tasks.try_recv().ok()
    }

    /// Returns what to do next: tasks run in the order in which they were submitted.
    pub(crate) fn next_task(&mut self, is_stopping: bool) -> NextTask {
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
    /// Returns what sends completions to connections of this reactor, from any thread
    /// ([`Completer::for_other`]).
    pub(crate) fn completer(&mut self) -> io::Result<Completer> {
        let wake = self.handle()?.waker().clone();
        let completions = self.state.completions.get_or_insert_with(Completions::new);
        completions.set_wake(wake);
        let completer = completions.completer(ConnectionId::NONE);
        self.take_completions(); // those that have woken nothing
        Ok(completer)
    }

    /// Does what a wake asks for if it may have been lost: queues the task queue, and takes the
    /// completions. (A stop ends the task queue, but not the promises.) Called right before the
    /// poll: a wake that comes later ends the poll.
    #[inline]
    pub(super) fn note_lost_wake(&mut self) {
        if !sys::rearms_only_on_would_block() {
            return;
        }
        let Some(handle) = &self.handle else { return };
        if handle.0.wake.take_lost() {
            self.take_completions();
            for (token, slot) in &mut self.slots {
                if matches!(slot.source, Source::Tasks(_)) {
                    slot.ready.set_readable(true);
                    enqueue(&mut self.run_queue, token, slot);
                }
            }
        }
    }

    /// Runs submitted tasks until the queue is empty or the budget is spent. Returns `Idle` if a
    /// task has put another reactor in the place of this one.
    pub(super) fn run_tasks(&mut self, token: usize) -> Outcome {
        let share = self.state.budget.quarter_share();
        let handle = self.handle.clone();
        while !self.state.budget.share_is_spent(share) {
            let slot = &mut self.slots[token];
            let Source::Tasks(queue) = &mut slot.source else { break };
            match queue.next_task(self.state.stop.is_stopping()) {
                NextTask::Run(task) => {
                    // A panic is counted already.
                    let _: Result<(), Panicked> = self.call_task(|reactor| task.run(reactor));
                    if self.handle != handle {
                        self.take_over();
                        return Outcome::Idle;
                    }
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

    /// Calls what the application has handed in to be run with the whole reactor. A panic is
    /// counted by the reactor that is in this place afterwards.
    fn call_task<T>(&mut self, task: impl FnOnce(&mut Reactor) -> T) -> Result<T, Panicked> {
        self.state.budget.charge(CONNECTION_COST_BYTES);
        self.state.stats.tasks_run += 1;
        catch(|| task(self)).inspect_err(|_| {
            self.state.stats.panics += 1;
            error!("task panicked");
        })
    }

    /// A task has put this reactor in the place of the one that ran it (`*reactor = …`). The turn
    /// of that one is over, and the loop goes on with this one. It may have been replaced itself
    /// before, in the middle of a turn: what it has not driven is queued again.
    #[cold]
    fn take_over(&mut self) {
        warn!("a task has replaced the reactor that ran it");
        self.run_queue.end_turn();
        if let Some(slot) = self.slots.get_mut(self.running) {
            enqueue(&mut self.run_queue, self.running, slot);
        }
        self.apply_effects();
        self.state.stage = Stage::Drive; // the rest of this turn is its
    }
}
