//! The simulated kernel: descriptors, sockets, an epoll, a clock, and the peers at the other end.
//!
//! ```text
//!     the loop ──system call──► time advances ──► actors due by then act ──► the call returns
//! ```
//!
//! Everything runs on one thread and in one order, which follows from the seed alone. The peers are
//! *actors*: each returns when it is to act next. Time advances only within system calls, by a few
//! microseconds in each and by as much as needed in a poll. So peers act between any two calls of
//! the loop, also in the middle of a turn, as they do on a real machine.
//!
//! The poll is edge-triggered as epoll is (`epoll`): a change puts a registered socket on the ready
//! list once, and a poll takes it off and reports the state that the socket has then. So edges
//! merge, and one may report a state that has gone meanwhile. A test may choose one of the
//! selectors that mio has on other systems instead (`rearming`).
//!
//! The kernel sees what no test outside of it could see, and panics (`checks`): the loop sleeps
//! although nothing will ever wake it, it spins, it leaves input unread, or it keeps a connection
//! open on which nothing has moved for too long.

mod calls;
mod checks;
mod datagrams;
mod epoll;
mod faults;
mod rearming;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
#[cfg(feature = "http")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::errno;
use super::stream::{OUT, Stream};
use crate::sys::Token;
use datagrams::UdpEndpoint;
pub(crate) use faults::Faults;
pub(crate) use rearming::Selector;

/// A peer, or anything else outside the process that acts by itself.
pub(crate) trait Actor {
    /// Acts, and returns after how many microseconds to act again, or `None` once it is done.
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64>;
    /// What it still waits for, for the report of a failed run.
    fn describe_wait(&self) -> String;
}

struct Descriptor {
    file: File,
    registration: Option<Registration>,
}

/// What a descriptor refers to, with the index in the kernel's list of these.
#[derive(Clone, Copy, Debug)]
enum File {
    Poll,
    Listener(usize),
    Stream(usize),
    Udp(usize),
    StopSignal(usize),
    Waker,
}

/// What a descriptor is registered for with the poll.
struct Registration {
    token: Token,
    bits: u32,
    is_in_ready_list: bool,
    /// Without epoll: the bits that the next poll may report.
    armed: u32,
    /// Only a new registration brings further events (`Selector::Poll`).
    is_forgotten: bool,
}

struct ListeningSocket {
    address: SocketAddr,
    descriptor: Option<usize>,
    /// The streams that wait to be accepted.
    backlog: VecDeque<usize>,
    /// The protocols of its connections may pause reading by themselves.
    may_pause_reading: bool,
    /// A stream comes into the backlog only with its first byte or FIN, or after a second
    /// (TCP_DEFER_ACCEPT).
    is_deferred: bool,
    /// The streams that are kept until then.
    silent: Vec<usize>,
}

impl ListeningSocket {
    /// Returns whether no stream waits for being accepted, now or later.
    fn is_empty(&self) -> bool {
        self.backlog.is_empty() && self.silent.is_empty()
    }
}

/// What happens when the reactor connects to a host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host {
    /// It accepts after so many microseconds. The stream takes `buffer_bytes` before the host has
    /// to read.
    Accepts { after_us: u64, buffer_bytes: usize },
    /// The host or the network refuses after so many microseconds, with this error.
    Fails { after_us: u64, error: i32 },
    /// connect(2) itself fails.
    Unreachable { error: i32 },
    /// No SYN is ever answered.
    Silent,
}

/// What happens at a moment on the timeline.
enum Scheduled {
    Actor(usize),
    /// There is memory again for what this stream sends.
    SendMemory(usize),
    /// The kernel keeps this silent stream no longer from the listener.
    DeferralEnds(usize, usize),
    /// The host answers our connect: with an error, or by accepting.
    ConnectResult(usize, Option<i32>),
    /// So many bytes of this UDP socket have left the machine.
    DatagramsLeft(usize, usize),
}

pub(crate) struct Kernel {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) selector: Selector,
    now_us: u64,
    started: Instant,
    /// What the wall clock shows at time 0, in microseconds since the epoch. A test may set it.
    pub(crate) wall_us: i64,
    descriptors: Vec<Option<Descriptor>>,
    /// No descriptor below this number is free.
    lowest_free: usize,
    pub(crate) streams: Vec<Stream>,
    listeners: Vec<ListeningSocket>,
    /// The hosts to which the reactor may connect. Every other address refuses at once
    /// (ECONNREFUSED).
    pub(crate) hosts: BTreeMap<SocketAddr, Host>,
    udp_sockets: Vec<UdpEndpoint>,
    stop_signals: Vec<bool>,
    /// The datagrams that each peer has received and not read yet, each with its sender.
    peer_datagrams: BTreeMap<SocketAddr, VecDeque<(Vec<u8>, SocketAddr)>>,
    /// The descriptors that the next polls report, in the order in which their edges came.
    ready_list: VecDeque<usize>,
    spurious_events: Vec<(usize, u32)>,
    actors: Vec<Option<Box<dyn Actor>>>,
    /// When each scheduled item is due. Items due at the same time keep the order of their numbers.
    timeline: BinaryHeap<Reverse<(u64, u64)>>,
    scheduled: BTreeMap<u64, Scheduled>,
    last_scheduled: u64,
    /// The names of the system calls made since this was last taken.
    pub(crate) calls: Vec<&'static str>,
    pub(crate) polls: u64,
    pub(crate) polls_interrupted: u64,
    /// How often a waker was woken.
    pub(crate) wakes: u64,
    /// Consecutive polls between which nothing has happened.
    idle_polls: u32,
    something_happened: bool,
    /// When the last poll returned.
    last_poll_us: u64,
    /// How long an open stream may go without a byte moving over it.
    pub(crate) idle_us_max: u64,
    /// The descriptor at which a selector without a ready list looks first.
    first_looked_at: usize,
    /// The reactor has been asked to stop: from now on, replies may be incomplete.
    pub(crate) is_stopping: bool,
    /// The reactor may reset whatever connection holds the most.
    pub(crate) memory_is_tight: bool,
    /// Prints every call to standard error.
    pub(crate) is_traced: bool,
    /// Leaves out the check of every socket in each poll, and the record of the calls: with a
    /// million sockets they would take longer than the loop.
    pub(crate) is_measured: bool,
}

/// The longest that a run may last on the simulated clock, in microseconds: four hours. It ends a
/// run in which a connection waits in the backlog for ever, since that has no deadline.
const TIME_US_MAX: u64 = 4 * 3_600_000_000;

impl Kernel {
    pub(crate) fn new(seed: u64) -> Kernel {
        Kernel {
            rng: Rng::with_seed(seed),
            faults: Faults::default(),
            selector: Selector::Epoll,
            now_us: 0,
            started: Instant::now(),
            wall_us: 1_772_323_199_000_000,
            descriptors: Vec::new(),
            lowest_free: 0,
            streams: Vec::new(),
            listeners: Vec::new(),
            hosts: BTreeMap::new(),
            udp_sockets: Vec::new(),
            stop_signals: Vec::new(),
            peer_datagrams: BTreeMap::new(),
            ready_list: VecDeque::new(),
            spurious_events: Vec::new(),
            actors: Vec::new(),
            timeline: BinaryHeap::new(),
            scheduled: BTreeMap::new(),
            last_scheduled: 0,
            calls: Vec::new(),
            polls: 0,
            polls_interrupted: 0,
            wakes: 0,
            idle_polls: 0,
            something_happened: true,
            last_poll_us: 0,
            idle_us_max: u64::MAX,
            first_looked_at: 0,
            is_stopping: false,
            memory_is_tight: false,
            is_traced: false,
            is_measured: false,
        }
    }

    // ---- time, and the actors

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(crate) fn now(&self) -> Instant {
        self.started + Duration::from_micros(self.now_us)
    }

    #[cfg(feature = "http")]
    pub(crate) fn wall_clock(&self) -> SystemTime {
        let us = self.wall_us.saturating_add_unsigned(self.now_us);
        let distance = Duration::from_micros(us.unsigned_abs());
        if us >= 0 { SystemTime::UNIX_EPOCH + distance } else { SystemTime::UNIX_EPOCH - distance }
    }

    /// Adds an actor, which first acts after `delay_us`.
    pub(crate) fn add(&mut self, actor: impl Actor + 'static, delay_us: u64) {
        self.actors.push(Some(Box::new(actor)));
        self.schedule(delay_us, Scheduled::Actor(self.actors.len() - 1));
    }

    /// What the actors that are not done still wait for.
    pub(crate) fn describe_waits(&self) -> Vec<String> {
        self.actors.iter().flatten().map(|actor| actor.describe_wait()).collect()
    }

    /// Returns whether all actors are done but the one that is acting.
    pub(crate) fn other_actors_are_done(&self) -> bool {
        self.actors.iter().all(Option::is_none)
    }

    /// Returns whether all actors are done, nothing is left to accept or receive, and no stream is
    /// open.
    pub(crate) fn is_quiescent(&self) -> bool {
        let is_stream = |descriptor: &Descriptor| matches!(descriptor.file, File::Stream(_));
        self.actors.iter().all(Option::is_none)
            && self.listeners.iter().all(ListeningSocket::is_empty)
            && !self.descriptors.iter().flatten().any(is_stream)
            && self.udp_sockets.iter().all(|socket| socket.arrived.is_empty())
    }

    fn schedule(&mut self, delay_us: u64, item: Scheduled) {
        self.last_scheduled += 1;
        self.timeline.push(Reverse((self.now_us + delay_us, self.last_scheduled)));
        self.scheduled.insert(self.last_scheduled, item);
    }

    /// Advances the clock to `until_us`, and does what is scheduled by then.
    pub(crate) fn advance_time_to(&mut self, until_us: u64) {
        while let Some(&Reverse((at, number))) = self.timeline.peek()
            && at <= until_us
        {
            self.timeline.pop();
            self.now_us = self.now_us.max(at);
            assert!(self.now_us < TIME_US_MAX, "the run does not end; {}", self.describe());
            match self.scheduled.remove(&number).expect("an item is due once") {
                Scheduled::Actor(index) => {
                    let mut actor =
                        self.actors[index].take().expect("an actor that is scheduled is not done");
                    if let Some(delay_us) = actor.act(self) {
                        self.actors[index] = Some(actor);
                        self.schedule(delay_us, Scheduled::Actor(index));
                    }
                }
                Scheduled::SendMemory(stream) => self.report_writable(stream),
                Scheduled::DeferralEnds(listener, stream) => self.end_deferral(listener, stream),
                Scheduled::ConnectResult(stream, error) => self.finish_connect(stream, error),
                Scheduled::DatagramsLeft(socket, bytes) => {
                    self.udp_sockets[socket].send_queue_bytes -= bytes;
                    if self.udp_sockets[socket].send_queue_bytes * 2
                        <= self.faults.send_queue_bytes_max
                    {
                        self.add_to_ready_list(self.udp_sockets[socket].descriptor, OUT);
                    }
                }
            }
        }
        self.now_us = self.now_us.max(until_us);
    }

    /// Draws whether something happens whose probability is given in thousandths.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.u32(..1000) < per_mille
    }

    pub(crate) fn pick_error(&mut self, errors: &[i32]) -> i32 {
        errors[self.rng.usize(..errors.len())]
    }

    /// Every system call begins here. It takes time, in which actors may act.
    fn begin_call(&mut self, name: &'static str) {
        if !self.is_measured {
            self.calls.push(name);
        }
        let mut us = 0;
        if self.faults.call_us_max > 0 {
            us = self.rng.u64(..=self.faults.call_us_max);
        }
        if self.chance(self.faults.descheduled) {
            us += self.rng.u64(..=self.faults.descheduled_us_max);
        }
        self.advance_time_to(self.now_us + us);
    }

    #[expect(clippy::print_stderr, reason = "the trace of a replayed run")]
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{:>12} {}", self.now_us, line());
        }
    }

    // ---- descriptors

    /// Opens the lowest free descriptor, as POSIX requires. So a number is reused at once.
    fn open(&mut self, file: File) -> io::Result<usize> {
        let open = self.descriptors[self.lowest_free..].iter().take_while(|it| it.is_some());
        let number = self.lowest_free + open.count();
        if number >= self.faults.descriptors_max {
            return Err(io::Error::from_raw_os_error(errno::EMFILE));
        }
        if number == self.descriptors.len() {
            self.descriptors.push(None);
        }
        self.descriptors[number] = Some(Descriptor { file, registration: None });
        self.lowest_free = number + 1;
        Ok(number)
    }

    /// Makes the number of a descriptor free.
    fn free(&mut self, number: usize) -> Descriptor {
        self.lowest_free = self.lowest_free.min(number);
        self.descriptors[number].take().expect("a descriptor is closed once")
    }

    pub(crate) fn close(&mut self, number: usize) {
        self.begin_call("close");
        self.something_happened = true;
        let descriptor = self.free(number);
        self.trace(|| format!("close {number} {:?}", descriptor.file));
        // epoll forgets a descriptor that is closed (epoll(7)).
        if descriptor.registration.is_some_and(|registration| registration.is_in_ready_list) {
            self.ready_list.retain(|&ready| ready != number);
        }
        self.spurious_events.retain(|&(ready, _)| ready != number);
        match descriptor.file {
            File::Poll | File::StopSignal(_) | File::Waker => {}
            File::Stream(stream) => self.streams[stream].close(),
            File::Udp(socket) => self.udp_sockets[socket].descriptor = None,
            File::Listener(listener) => {
                self.listeners[listener].descriptor = None;
                let listener = &mut self.listeners[listener];
                for stream in listener.backlog.drain(..).chain(listener.silent.drain(..)) {
                    self.streams[stream].fail(errno::ECONNRESET);
                }
            }
        }
    }

    pub(crate) fn descriptors_open(&self) -> usize {
        self.descriptors.iter().flatten().count()
    }

    fn file(&self, number: usize) -> File {
        self.descriptors[number].as_ref().expect("the descriptor is open").file
    }

    fn stream_of(&self, number: usize) -> usize {
        let File::Stream(stream) = self.file(number) else { panic!("{number} is no stream") };
        stream
    }

    fn udp_socket_of(&self, number: usize) -> usize {
        let File::Udp(socket) = self.file(number) else { panic!("{number} is no UDP socket") };
        socket
    }
}
