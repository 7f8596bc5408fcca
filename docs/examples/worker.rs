//! Slow work on a pool of threads: the loop goes on, and every client gets its answers in order.
//!
//! ```text
//! cargo run --example worker
//! curl http://127.0.0.1:8082/1000000         how many primes there are below a million
//!
//!     loop ──► job: a number and a promise ──► bounded queue ──► thread
//!          ◄──────────── the promise is fulfilled ◄──────────────┘
//! ```
//!
//! A request that needs work is answered with a promise, and the job goes to the queue. Meanwhile
//! the loop serves others. Four cases need care:
//!
//! - **Too much work.** The queue is bounded. If it is full, the client gets 503 at once.
//! - **Work that takes too long.** At the deadline of the promise, the client gets 504. A thread
//!   cannot be stopped from outside, so the work asks now and then whether its answer is still
//!   wanted. Otherwise a few requests that never end would take all threads for ever.
//! - **A client that has left.** Once it has sent a reset, its answer is not wanted either. If the
//!   job still waits, it is skipped. A FIN alone may be a half-close, so it changes nothing.
//! - **A panic.** It drops the promise, and the client gets 500. The thread takes the next job.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mio_reactor::{
    ContentType, Http, HttpContext, Limits, Promise, Reactor, Request, Responder, Response, Status,
};

/// Threads that work. More than the machine has cores make nothing faster.
const THREADS: usize = 4;
/// Jobs that wait for a thread. With more, those at the end would miss their deadline.
const JOBS_MAX: usize = 64;
/// The longest that a client waits, from its request to the answer.
const DEADLINE: Duration = Duration::from_secs(10);

struct Job {
    number: u64,
    promise: Promise,
}

/// The responder of one connection.
struct Primes {
    jobs: SyncSender<Job>,
}

impl Responder for Primes {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        let path = str::from_utf8(request.path()).unwrap_or_default();
        let Some(number) = path.strip_prefix('/').and_then(|number| number.parse().ok()) else {
            return Response::error(Status::NOT_FOUND);
        };
        let (promise, promised) = cx.promise(DEADLINE);
        match self.jobs.try_send(Job { number, promise }) {
            Ok(()) => promised,
            // The promise comes back in the error. It is dropped, and 503 is the answer instead.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                Response::error(Status::SERVICE_UNAVAILABLE)
                    .with_header("Retry-After", "1")
                    .expect("a constant field is valid")
            }
        }
    }
}

/// Takes jobs until no more can come. All threads run this.
fn run_jobs(jobs: &Mutex<Receiver<Job>>, work: &impl Fn(u64, &Promise) -> Option<String>) {
    loop {
        // The threads wait for the lock, and one of them for a job.
        let job = jobs.lock().expect("no thread panics while it waits").recv();
        let Ok(job) = job else { return };
        if !job.promise.is_wanted() {
            continue;
        }
        let run = AssertUnwindSafe(move || {
            if let Some(answer) = work(job.number, &job.promise) {
                job.promise.fulfill(|| Response::ok(ContentType::TEXT, answer.into_bytes()));
            }
        });
        let _ = catch_unwind(run); // the panic is reported on standard error already
    }
}

/// Counts the primes below `number`, and takes its time. `None`: the answer is not wanted any more.
pub(crate) fn count_primes(number: u64, promise: &Promise) -> Option<String> {
    let is_prime = |n: u64| (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    let mut primes = 0;
    for n in 2..number {
        if n % 1024 == 0 && !promise.is_wanted() {
            return None;
        }
        primes += u64::from(is_prime(n));
    }
    Some(format!("{primes}\n"))
}

/// Serves `work` on `address`, done by `threads` threads with a queue of `jobs_max` before them.
/// Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    (threads, jobs_max): (usize, usize),
    work: impl Fn(u64, &Promise) -> Option<String> + Clone + Send + 'static,
) -> io::Result<SocketAddr> {
    let (sender, receiver) = mpsc::sync_channel(jobs_max);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..threads {
        let (receiver, work) = (Arc::clone(&receiver), work.clone());
        thread::Builder::new().spawn(move || run_jobs(&receiver, &work))?;
    }
    reactor.listen(address, move |_peer| Http::new(Primes { jobs: sender.clone() }))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut reactor = Reactor::new(Limits::default())?;
    let address = SocketAddr::from(([127, 0, 0, 1], 8082));
    let address = listen(&mut reactor, address, (THREADS, JOBS_MAX), count_primes)?;
    writeln!(io::stdout(), "http {address}")?;
    reactor.run()?;
    Ok(())
}
