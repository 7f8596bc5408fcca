//! The simulated kernel: descriptors, sockets, an epoll, a clock, and the world on the other side of the network.
//!
//! ```text
//!     the loop ──call──► time passes a little ──► whoever acts by then has acted ──► the call's answer
//! ```
//!
//! Everything happens in one thread and in one order, which follows from the seed alone. The world is a set of actors, each
//! with a moment at which it wants to act. Time passes only in calls, a few microseconds in each and as long as need be in a
//! poll; so the world goes on between any two calls, and in the middle of a turn.
//!
//! The poll is edge-triggered as epoll is: something that happens to a watched socket puts it on a list once, and a poll takes
//! it from the list and tells the state that the socket has then. So edges merge, and one may tell of a state that has
//! meanwhile gone.
//!
//! The kernel knows what no test outside of it could see, and says so by a panic: that the loop sleeps although nothing
//! will ever wake it, that it spins, that it leaves somebody unserved, or alive who should long have been closed.

mod calls;
mod checks;
mod datagrams;
mod epoll;
mod faults;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;

use super::errno;
use super::stream::{OUT, Stream};
use crate::sys::Token;
use datagrams::Datagrams;
pub(crate) use faults::Faults;

/// Somebody in the world.
pub(crate) trait Actor {
    /// Does something, and says in how many microseconds it wants to act again; `None` once it is done.
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64>;
    /// What it still waits for, for whoever reads of a failure.
    fn plight(&self) -> String;
}

struct Descriptor {
    file: File,
    watch: Option<Watch>,
}

#[derive(Clone, Copy, Debug)]
enum File {
    Poll,
    Door(usize),
    Stream(usize),
    Datagrams(usize),
    Bell(usize),
    Waker,
}

struct Watch {
    token: Token,
    bits: u32,
    /// It is on the list of those to be told.
    is_listed: bool,
}

struct Door {
    address: SocketAddr,
    descriptor: Option<usize>,
    waiting: VecDeque<usize>,
    may_pause: bool,
}

/// What comes of calling an address in the world.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host {
    /// It answers after so many microseconds, and takes so many bytes before it reads.
    Answers { after_us: u64, room_max: usize },
    /// The network or the host says no after so many microseconds, with this error.
    Fails { after_us: u64, error: i32 },
    /// The call itself fails.
    Unreachable { error: i32 },
    /// Nothing is ever heard of it.
    Silent,
}

enum Due {
    Actor(usize),
    /// There is memory again for this stream.
    Memory(usize),
    /// The world answers a call of ours: with an error, or not.
    Answer(usize, Option<i32>),
    /// So many bytes of this socket's have left.
    Left(usize, usize),
}

pub(crate) struct Kernel {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    now_us: u64,
    started: Instant,
    /// What the clock on the wall is ahead, in microseconds since the epoch.
    pub(crate) wall_us: i64,
    descriptors: Vec<Option<Descriptor>>,
    pub(crate) streams: Vec<Stream>,
    doors: Vec<Door>,
    /// Who can be called, and what comes of it. Everybody else refuses at once.
    pub(crate) hosts: BTreeMap<SocketAddr, Host>,
    datagrams: Vec<Datagrams>,
    bells: Vec<bool>,
    /// What each address in the world has received.
    mailboxes: BTreeMap<SocketAddr, VecDeque<(Vec<u8>, SocketAddr)>>,
    /// The descriptors of which epoll has something to tell.
    listed: VecDeque<usize>,
    false_alarms: Vec<(usize, u32)>,
    actors: Vec<Option<Box<dyn Actor>>>,
    timeline: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Due>,
    next_due: u64,
    /// Calls made since this was last taken.
    pub(crate) calls: Vec<&'static str>,
    pub(crate) polls: u64,
    pub(crate) polls_interrupted: u64,
    /// Polls in a row between which nothing has happened.
    idle_polls: u32,
    something_happened: bool,
    /// When the last poll returned.
    polled_us: u64,
    /// The longest that nothing may move over an open stream.
    pub(crate) silence_us_max: u64,
    /// The bell has been rung: from now on, nobody is owed all of their answer.
    pub(crate) is_stopping: bool,
    /// Tells of every call.
    pub(crate) traces: bool,
}

/// The longest that a test may last on the simulated clock, in microseconds: four hours. Who waits at a door without end is not
/// told so by anybody, and has no deadline.
const TIME_US_MAX: u64 = 4 * 3_600_000_000;

impl Kernel {
    pub(crate) fn new(seed: u64) -> Kernel {
        Kernel {
            rng: Rng::with_seed(seed),
            faults: Faults::default(),
            now_us: 0,
            started: Instant::now(),
            wall_us: 1_772_323_199_000_000,
            descriptors: Vec::new(),
            streams: Vec::new(),
            doors: Vec::new(),
            hosts: BTreeMap::new(),
            datagrams: Vec::new(),
            bells: Vec::new(),
            mailboxes: BTreeMap::new(),
            listed: VecDeque::new(),
            false_alarms: Vec::new(),
            actors: Vec::new(),
            timeline: BinaryHeap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            calls: Vec::new(),
            polls: 0,
            polls_interrupted: 0,
            idle_polls: 0,
            something_happened: true,
            polled_us: 0,
            silence_us_max: u64::MAX,
            is_stopping: false,
            traces: false,
        }
    }

    // ---- time, and the world in it

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(crate) fn now(&self) -> Instant {
        self.started + Duration::from_micros(self.now_us)
    }

    pub(crate) fn wall_clock(&self) -> SystemTime {
        let us = self.wall_us.saturating_add_unsigned(self.now_us);
        let distance = Duration::from_micros(us.unsigned_abs());
        if us >= 0 { SystemTime::UNIX_EPOCH + distance } else { SystemTime::UNIX_EPOCH - distance }
    }

    /// Puts `actor` into the world; it first acts after `delay_us`.
    pub(crate) fn add(&mut self, actor: impl Actor + 'static, delay_us: u64) {
        self.actors.push(Some(Box::new(actor)));
        self.plan(delay_us, Due::Actor(self.actors.len() - 1));
    }

    /// What those who are not done still wait for.
    pub(crate) fn plights(&self) -> Vec<String> {
        self.actors.iter().flatten().map(|actor| actor.plight()).collect()
    }

    /// Is everybody done but who asks?
    pub(crate) fn others_are_done(&self) -> bool {
        self.actors.iter().all(Option::is_none)
    }

    /// Is everybody done, served and gone?
    pub(crate) fn is_deserted(&self) -> bool {
        let is_stream = |descriptor: &Descriptor| matches!(descriptor.file, File::Stream(_));
        self.actors.iter().all(Option::is_none)
            && self.doors.iter().all(|door| door.waiting.is_empty())
            && !self.descriptors.iter().flatten().any(is_stream)
            && self.datagrams.iter().all(|socket| socket.arrived.is_empty())
    }

    fn plan(&mut self, delay_us: u64, due: Due) {
        self.next_due += 1;
        self.timeline.push(Reverse((self.now_us + delay_us, self.next_due)));
        self.due.insert(self.next_due, due);
    }

    /// Lets time pass until `until`, and everybody act who wants to by then.
    pub(crate) fn pass_until(&mut self, until: u64) {
        while let Some(&Reverse((at, number))) = self.timeline.peek()
            && at <= until
        {
            self.timeline.pop();
            self.now_us = self.now_us.max(at);
            assert!(self.now_us < TIME_US_MAX, "somebody waits without end; {}", self.describe());
            match self.due.remove(&number).expect("what is planned is due once") {
                Due::Actor(index) => {
                    let mut actor = self.actors[index].take().expect("who acts again is there");
                    if let Some(delay_us) = actor.act(self) {
                        self.actors[index] = Some(actor);
                        self.plan(delay_us, Due::Actor(index));
                    }
                }
                Due::Memory(stream) => self.tell_of_room(stream),
                Due::Answer(stream, error) => self.answer_call(stream, error),
                Due::Left(socket, bytes) => {
                    self.datagrams[socket].leaving -= bytes;
                    if self.datagrams[socket].leaving * 2 <= self.faults.datagram_room {
                        self.list(self.datagrams[socket].descriptor, OUT);
                    }
                }
            }
        }
        self.now_us = self.now_us.max(until);
    }

    pub(crate) fn chance(&mut self, in_a_thousand: u32) -> bool {
        in_a_thousand > 0 && self.rng.u32(..1000) < in_a_thousand
    }

    pub(crate) fn one_of(&mut self, errors: &[i32]) -> i32 {
        errors[self.rng.usize(..errors.len())]
    }

    /// Every call begins here: it takes its time.
    fn call(&mut self, name: &'static str) {
        self.calls.push(name);
        let mut us = 0;
        if self.faults.call_us_max > 0 {
            us = self.rng.u64(..=self.faults.call_us_max);
        }
        if self.chance(self.faults.held_up) {
            us += self.rng.u64(..=self.faults.held_up_us_max);
        }
        self.pass_until(self.now_us + us);
    }

    #[expect(clippy::print_stderr, reason = "whoever replays a schedule wants to see it")]
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{:>12} {}", self.now_us, line());
        }
    }

    // ---- descriptors

    /// The lowest number that is free, as POSIX wants it: so numbers come back at once.
    fn open(&mut self, file: File) -> io::Result<usize> {
        let number =
            self.descriptors.iter().position(Option::is_none).unwrap_or(self.descriptors.len());
        if number >= self.faults.descriptors_max {
            return Err(io::Error::from_raw_os_error(errno::EMFILE));
        }
        if number == self.descriptors.len() {
            self.descriptors.push(None);
        }
        self.descriptors[number] = Some(Descriptor { file, watch: None });
        Ok(number)
    }

    pub(crate) fn close(&mut self, number: usize) {
        self.call("close");
        self.something_happened = true;
        let descriptor = self.descriptors[number].take().expect("a descriptor is closed once");
        self.tell(|| format!("close {number} {:?}", descriptor.file));
        // A closed descriptor has no events.
        self.listed.retain(|&listed| listed != number);
        self.false_alarms.retain(|&(listed, _)| listed != number);
        match descriptor.file {
            File::Poll | File::Bell(_) | File::Waker => {}
            File::Stream(stream) => self.streams[stream].close(),
            File::Datagrams(socket) => self.datagrams[socket].descriptor = None,
            File::Door(door) => {
                self.doors[door].descriptor = None;
                for stream in std::mem::take(&mut self.doors[door].waiting) {
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

    fn datagrams_of(&self, number: usize) -> usize {
        let File::Datagrams(socket) = self.file(number) else {
            panic!("{number} has no datagrams")
        };
        socket
    }
}
