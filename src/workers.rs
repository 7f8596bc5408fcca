//! Worker threads: work that takes long, done beside the loop, with a bound on what waits.
//!
//! ```text
//!     a protocol ──submit_for──► bounded queue ──► thread: the job runs
//!                ◄──message_received── completion ◄── its result
//! ```
//!
//! The loop shares nothing with the threads but two channels: it never waits for them, and holds no
//! lock. A result is a completion (`src/protocol/completions.rs`), so it is never refused, and it
//! is delivered as a message.
//!
//! Invariant: each job that was accepted for a protocol sends it one message, whatever becomes of
//! the job, as long as the threads run.

use std::any::Any;
use std::error::Error;
use std::fmt;
#[cfg(not(test))]
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::protocol::completions::Completer;
use crate::protocol::ident::ConnectionId;
#[cfg(not(test))]
use crate::reactor::Reactor;

/// Threads that do what would make the loop wait: look up names, compute, ask a database.
///
/// Made by [`Reactor::workers`]. Clones have the same threads and the same queue. It is `Send`, so
/// a job may submit others.
///
/// ```
/// use std::any::Any;
/// use mio_reactor::{Advance, Context, Limits, Next, Protocol, Reactor, Workers};
///
/// /// Answers with the sum of the bytes that it has received, which it lets a thread compute.
/// struct Sums(Workers);
///
/// struct Sum(u64);
///
/// impl Protocol for Sums {
///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
///         let bytes = input.to_vec();
///         let job = move || Sum(bytes.iter().map(|&byte| u64::from(byte)).sum());
///         let next = match self.0.submit_for(cx.id(), job) {
///             Ok(()) => Next::Pause, // until the answer is there
///             Err(_) => Next::Close, // too much is asked: as many jobs wait as may
///         };
///         Advance::consumed(input.len()).then(next)
///     }
///
///     fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
///         match message.downcast::<Sum>() {
///             Ok(sum) => cx.send(format!("{}\n", sum.0).as_bytes()),
///             Err(_) => return Next::Close, // `JobPanicked`
///         }
///         Next::Continue
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new(Limits::default())?;
/// let workers = reactor.workers(4, 64)?;
/// reactor.listen("127.0.0.1:0", move |_| Sums(workers.clone()))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Workers {
    jobs: SyncSender<Job>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

/// A job that was not accepted: as many wait as may, so more would only wait longer. The answer to
/// a client is that the server is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkersBusyError;

impl fmt::Display for WorkersBusyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many jobs wait for a worker thread as may")
    }
}

impl Error for WorkersBusyError {}

/// The message in place of the result of a job that has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobPanicked;

/// A piece of work, and the protocol that gets its result, if one does.
struct Job {
    to: Option<ConnectionId>,
    run: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
}

/// One thread's end of the queue.
#[derive(Clone)]
pub(crate) struct Worker {
    jobs: Arc<Mutex<Receiver<Job>>>,
    completer: Completer,
}

/// Makes a queue of at most `jobs_max` jobs. Results are sent with copies of `completer`.
pub(crate) fn job_queue(jobs_max: usize, completer: Completer) -> (Workers, Worker) {
    let (sender, receiver) = sync_channel(jobs_max);
    (Workers { jobs: sender }, Worker { jobs: Arc::new(Mutex::new(receiver)), completer })
}

impl Workers {
    /// Gives `job` to a thread. The protocol of the connection or datagram socket `to` gets its
    /// result in `message_received`, as a message of type `T`, or [`JobPanicked`]. If it has ended
    /// by then, the result is dropped.
    ///
    /// Never blocks. Jobs begin in the order in which they were submitted.
    ///
    /// # Errors
    ///
    /// [`WorkersBusyError`] if all threads are busy and as many jobs wait as may. The job is
    /// dropped.
    pub fn submit_for<T: Send + 'static>(
        &self,
        to: ConnectionId,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(), WorkersBusyError> {
        self.push(Some(to), Box::new(move || Box::new(job())))
    }

    /// Gives `job` to a thread, as [`submit_for`](Workers::submit_for) does, but its result goes
    /// where the job itself sends it: it fulfills a [`Promise`](crate::Promise), for example.
    ///
    /// # Errors
    ///
    /// As for [`submit_for`](Workers::submit_for).
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), WorkersBusyError> {
        self.push(
            None,
            Box::new(move || {
                job();
                Box::new(())
            }),
        )
    }

    fn push(
        &self,
        to: Option<ConnectionId>,
        run: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Result<(), WorkersBusyError> {
        self.jobs.try_send(Job { to, run }).map_err(|_| WorkersBusyError)
    }
}

impl Worker {
    /// Runs the next job, and waits for one. Returns false once no more can come.
    #[cfg(not(test))]
    fn run_next(&self) -> bool {
        // The threads wait for the lock, and one of them for a job. None panics while it has it.
        let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        job.map(|job| self.run(job)).is_ok()
    }

    /// Runs the next job, if there is one now.
    #[cfg(test)]
    pub(crate) fn try_run_next(&self) -> bool {
        let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
        job.map(|job| self.run(job)).is_ok()
    }

    /// Runs a job. A panic is reported on standard error by the panic hook, and costs no more than
    /// the job.
    fn run(&self, Job { to, run }: Job) {
        let message = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
            Box::new(JobPanicked)
        });
        if let Some(to) = to {
            self.completer.for_other(to).send(message);
        }
    }
}

#[cfg(not(test))] // the simulated kernel has one thread: its tests run the jobs themselves
impl Reactor {
    /// Starts `threads` worker threads, with a queue for `jobs_max` jobs that wait for them.
    ///
    /// The threads end when all clones of the value and the protocols that have one are dropped,
    /// after the jobs that wait. A stop of the reactor waits for no job: a connection that waits
    /// for a result keeps the stop waiting only if it is paused or its timer is set.
    ///
    /// # Errors
    ///
    /// The kernel's error if it has no thread for each (pthread_create(3)), or no descriptor for a
    /// waker (eventfd(2)). Those that were started end.
    ///
    /// # Panics
    ///
    /// If `threads` is 0: no job would ever run.
    pub fn workers(&mut self, threads: usize, jobs_max: usize) -> io::Result<Workers> {
        assert!(threads > 0, "without a thread, no job would ever run");
        let (workers, worker) = job_queue(jobs_max, self.completer()?);
        for _ in 0..threads {
            let worker = worker.clone();
            let run = move || while worker.run_next() {};
            std::thread::Builder::new().name("reactor-worker".to_owned()).spawn(run)?;
        }
        Ok(workers)
    }
}
