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
//! A request that needs work is answered with a promise, and the job goes to worker threads.
//! Meanwhile the loop serves others. Four cases need care:
//!
//! - **Too much work.** The queue is bounded. If it is full, the client gets 503 at once.
//! - **Work that takes too long.** At the deadline of the promise, the client gets 504. A thread
//!   cannot be stopped from outside, so the work asks now and then whether its answer is still
//!   wanted. Otherwise a few requests that never end would take all threads for ever.
//! - **A client that has left.** Once it has sent a reset, its answer is not wanted either. If the
//!   job still waits, it is skipped. A FIN alone may be a half-close, so it changes nothing.
//! - **A panic.** It drops the promise, and the client gets 500. The thread takes the next job.
//!
//! Work that never needs to ask whether it is wanted is shorter: `HttpContext::promise_job`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio_reactor::{
    Http, HttpContext, Limits, Promise, Reactor, Request, Response, Status, Workers,
    WorkersBusyError,
};

/// Threads that work. More than the machine has cores make nothing faster.
const THREADS: usize = 4;
/// Jobs that wait for a thread. With more, those at the end would miss their deadline.
const JOBS_MAX: usize = 64;
/// The longest that a client waits, from its request to the answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Answers a request for a number with what `work` returns for it.
fn respond(
    request: &Request<'_>,
    cx: &mut HttpContext<'_, '_>,
    workers: &Workers,
    work: impl Fn(u64, &Promise) -> Option<String> + Send + 'static,
) -> Response<'static> {
    let path = str::from_utf8(request.path()).unwrap_or_default();
    let Some(number) = path.strip_prefix('/').and_then(|number| number.parse().ok()) else {
        return Response::error(Status::NOT_FOUND);
    };
    let (promise, promised) = cx.promise(DEADLINE);
    let job = move || {
        if promise.is_wanted()
            && let Some(answer) = work(number, &promise)
        {
            promise.fulfill(|| Response::text(answer));
        }
    };
    match workers.submit(job) {
        Ok(()) => promised,
        // The promise is dropped with the job, and 503 is the answer instead.
        Err(WorkersBusyError) => Response::error(Status::SERVICE_UNAVAILABLE)
            .with_header("Retry-After", "1")
            .expect("a constant field is valid"),
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
    let workers = reactor.workers(threads, jobs_max)?;
    let respond = move |request: &Request<'_>, cx: &mut HttpContext<'_, '_>| {
        respond(request, cx, &workers, work.clone())
    };
    reactor.listen(address, Http::each(respond))
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
