//! What does an idle connection cost: in memory, and in how long it can make the others wait?
//!
//!     cargo bench --bench what_does_an_idle_connection_cost              # 1,000, 5,000 and 9,000 connections
//!     cargo bench --bench what_does_an_idle_connection_cost -- 100000    # so many
//!
//! For each row a new process is the server, and another one its peers, so that only the server's memory counts. The
//! peers connect, one after the other and as fast as they can, and say nothing. They stay for half a second. Then they all
//! leave at once, and only when they have left does the server take its next turn.
//!
//! How to read the table:
//!
//! - `bytes each` is how much the server's resident memory (`Rss` in /proc/self/smaps_rollup) has grown from before the
//!   first of them to after the last, divided by their number: slot, connection, protocol, deadline, and what the
//!   allocator makes of it. What the kernel holds for a socket, some kilobytes, is not in it, nor is what is needed but
//!   once. Only Linux tells; elsewhere there is a dash.
//! - `open` and `close` are the times, in milliseconds, from the start of the peers to the last accept, and from the peers'
//!   end to the last close. The first one is mostly the peers' own.
//! - `longest turn` is the longest time, in milliseconds, that a single turn took while they came, were idle, and left.
//!   The turns here never sleep, so this is the longest that an active connection would have been made to wait. Nearly all
//!   of the third is close(2), of all who can leave in one turn. It is time on the wall: unless the machine is quiet, it
//!   holds the moments in which another process was given the processor.
//!
//! Not a Criterion benchmark, since most of this is no time to be averaged. `cargo test --benches` makes a tiny run.

mod common;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mio_reactor::{Echo, Http, Limits, Reactor};

use common::site::Site;

use common::{LOOPBACK, NO_ROOM, advice, connect, once_more, source};

const COUNTS: [usize; 3] = [1_000, 5_000, 9_000];
const COUNT_IN_TEST: usize = 50;

/// So many peers have one address in common; there are about 28,000 ports for each.
const PEERS_PER_SOURCE: usize = 20_000;

/// Descriptors that a server or its peers need for other things.
const DESCRIPTORS_BESIDES: usize = 100;

/// How long they are all idle.
const STAY: Duration = Duration::from_millis(500);

/// The longest that nobody may come or leave before we give up.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--server", protocol, count] => serve(protocol, number(count)?),
        ["--peers", address, count] => {
            be_peers(address.parse().map_err(io::Error::other)?, number(count)?)
        }
        // Cargo adds `--bench`, and Criterion's options may stand beside it. Without it, this is a test.
        [count, ..] if count.parse::<usize>().is_ok_and(|count| count > 0) => {
            print_table(&[number(count)?])
        }
        _ if arguments.contains(&"--bench") && !arguments.contains(&"--test") => {
            print_table(&COUNTS)
        }
        _ => print_table(&[COUNT_IN_TEST]),
    }
}

fn number(argument: &str) -> io::Result<usize> {
    argument.parse().map_err(io::Error::other)
}

fn print_table(counts: &[usize]) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(
        stdout,
        "                                                         longest turn (ms) while they"
    )?;
    writeln!(
        stdout,
        "protocol  connections  bytes each  open (ms)  close (ms)    come  are idle     leave"
    )?;
    for protocol in ["echo", "http"] {
        for &count in counts {
            let descriptors = count + DESCRIPTORS_BESIDES;
            let status =
                once_more(descriptors, ["--server", protocol, &count.to_string()])?.status()?;
            match status.code() {
                Some(0) => {}
                Some(NO_ROOM) => {
                    writeln!(stdout, "{protocol:8}  {count:11}  {}", advice(descriptors))?;
                }
                _ => return Err(io::Error::other(format!("the server ended with {status}"))),
            }
        }
    }
    Ok(())
}

/// Serves so many peers, and prints the row about them.
fn serve(protocol: &str, count: usize) -> io::Result<()> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let limits = Limits {
        connections_max: count + 1,
        first_byte_timeout_ms: DAY_MS,
        idle_timeout_ms: DAY_MS,
        ..Limits::default()
    };
    let mut reactor = Reactor::new(limits)?;
    let address = if protocol == "http" {
        let site = Site::new();
        reactor.listen(LOOPBACK.into(), move |_| Http::new(site.clone()))?
    } else {
        reactor.listen(LOOPBACK.into(), |_| Echo::new())?
    };
    let mut server = Server { reactor, longest_turn: Duration::ZERO };
    server.meet_the_first(address)?;

    let begun = Instant::now();
    let mut peers = once_more(
        count + DESCRIPTORS_BESIDES,
        ["--peers", &address.to_string(), &count.to_string()],
    )?
    .stdin(Stdio::piped())
    .spawn()?;
    let bytes_before = resident_bytes();
    server.turn_until_there_are(count, Some(&mut peers))?;
    let (opening, longest_opening) = (begun.elapsed(), server.take_longest_turn());

    let begun = Instant::now();
    while begun.elapsed() < STAY {
        server.turn()?;
    }
    let longest_idle = server.take_longest_turn();
    let grown = bytes_before
        .zip(resident_bytes())
        .map(|(before, after)| after.saturating_sub(before) / count);

    drop(peers.stdin.take()); // they wait for that
    if !peers.wait()?.success() {
        return Err(io::Error::other("the peers failed"));
    }
    let begun = Instant::now();
    server.turn_until_there_are(0, None)?;
    let (closing, longest_closing) = (begun.elapsed(), server.take_longest_turn());

    writeln!(
        io::stdout(),
        "{protocol:8}  {count:11}  {:>10}  {:9.1}  {:10.1}  {:6.2}  {:8.2}  {:8.2}",
        grown.map_or("-".to_owned(), |bytes| bytes.to_string()),
        ms(opening),
        ms(closing),
        ms(longest_opening),
        ms(longest_idle),
        ms(longest_closing),
    )
}

struct Server {
    reactor: Reactor,
    longest_turn: Duration,
}

impl Server {
    /// One turn that does not sleep.
    fn turn(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        self.reactor.turn(Some(Duration::ZERO))?;
        self.longest_turn = self.longest_turn.max(begun.elapsed());
        Ok(())
    }

    fn take_longest_turn(&mut self) -> Duration {
        std::mem::take(&mut self.longest_turn)
    }

    /// Accepts and closes a single connection, so that what this needs but once is there before we measure.
    fn meet_the_first(&mut self, address: SocketAddr) -> io::Result<()> {
        let peer = connect(address, source(0))?;
        self.turn_until_there_are(1, None)?;
        drop(peer);
        self.turn_until_there_are(0, None)?;
        self.take_longest_turn();
        Ok(())
    }

    /// Takes turns until there are `count` connections, unless the peers fail or nothing happens for too long.
    fn turn_until_there_are(
        &mut self,
        count: usize,
        mut peers: Option<&mut Child>,
    ) -> io::Result<()> {
        let (mut changed, mut connections) = (Instant::now(), self.reactor.stats().connections);
        while connections != count {
            self.turn()?;
            if self.reactor.stats().connections != connections {
                (changed, connections) = (Instant::now(), self.reactor.stats().connections);
                continue;
            }
            let has_failed = peers.as_mut().map_or(Ok(None), |peers| peers.try_wait())?.is_some();
            if has_failed || changed.elapsed() > PATIENCE {
                return Err(io::Error::other(format!(
                    "there are {connections} connections and should be {count}"
                )));
            }
        }
        Ok(())
    }
}

/// Opens so many connections, and leaves when there is nothing more to read from standard input.
fn be_peers(address: SocketAddr, count: usize) -> io::Result<()> {
    let peers: Vec<_> = (0..count)
        .map(|number| connect(address, source(number / PEERS_PER_SOURCE)))
        .collect::<Result<_, _>>()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    drop(peers);
    Ok(())
}

/// This process's resident memory, counted page by page. (`VmRSS` is kept by each processor for itself, and so may be
/// wrong by some hundred kilobytes.)
fn resident_bytes() -> Option<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = smaps.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
