//! What does an idle connection cost: in memory, and in how long it can delay the others?
//!
//! ```text
//! cargo bench --bench what_does_an_idle_connection_cost            # 1,000, 5,000 and 9,000
//! cargo bench --bench what_does_an_idle_connection_cost -- 100000  # as many as given
//! ```
//!
//! For each row a new process is the server and another one has all peers, so that only the
//! server's memory counts. The peers connect, one after the other and as fast as they can, and send
//! nothing. They stay for half a second. Then all of them close at once, and only after that does
//! the server run its next turn.
//!
//! How to read the table:
//!
//! - `bytes each` is the growth of the server's resident memory (`Rss` in /proc/self/smaps_rollup)
//!   from before the first connection to after the last, divided by their number: slot, connection,
//!   protocol, deadline, and the allocator's overhead. What the kernel holds for a socket, some
//!   kilobytes, is not in it, nor is what is needed only once. It is known on Linux only; elsewhere
//!   there is a dash.
//! - `open` and `close` are the times in milliseconds from the start of the peers to the last
//!   accept, and from the peers' end to the last close. The first is mostly the peers' own time.
//! - `longest turn` is the longest time in milliseconds that a single turn took while the peers
//!   connected, were idle, and closed. The turns never sleep here, so this is the longest delay of
//!   an active connection. Nearly all of the third is close(2), of all connections that can close
//!   in one turn. It is wall time: on a busy machine it includes the time slices of other
//!   processes.
//!
//! Not a Criterion benchmark, because most of this is no time to be averaged. In test mode it runs
//! once with few connections, and prints no figures.

mod common;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mio_reactor::{Echo, Http, Limits, Reactor};

use common::site::Site;
use common::{
    LOOPBACK, TOO_FEW_DESCRIPTORS, advice, connect, is_test, rerun_with_descriptors, source,
};

const COUNTS: [usize; 3] = [1_000, 5_000, 9_000];
const COUNT_IN_TEST: usize = 50;

/// Peers with the same source address. There are about 28,000 ephemeral ports for each address.
const PEERS_PER_SOURCE: usize = 20_000;

/// Descriptors that a server or its peers need besides the connections.
const OTHER_DESCRIPTORS: usize = 100;

/// How long all connections are idle.
const IDLE_TIME: Duration = Duration::from_millis(500);

/// The run fails if no connection opens or closes for so long.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

// pitfall: 68
fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--server", protocol, count] => serve(protocol, number(count)?),
        ["--peers", address, count] => {
            run_peers(address.parse().map_err(io::Error::other)?, number(count)?)
        }
        _ if is_test() => check(),
        // Cargo adds `--bench`, and Criterion's options may stand beside it.
        [count, ..] if count.parse::<usize>().is_ok_and(|count| count > 0) => {
            print_table(&[number(count)?])
        }
        _ => print_table(&COUNTS),
    }
}

fn number(argument: &str) -> io::Result<usize> {
    argument.parse().map_err(io::Error::other)
}

const HEAD: &str = "\
                                                         longest turn (ms) while they
protocol  connections  bytes each  open (ms)  close (ms)    open  are idle     close";

fn print_table(counts: &[usize]) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{HEAD}")?;
    for protocol in ["echo", "http"] {
        for &count in counts {
            if !run_server(protocol, count, Stdio::inherit())? {
                let advice = advice(count + OTHER_DESCRIPTORS);
                writeln!(stdout, "{protocol:8}  {count:11}  {advice}")?;
            }
        }
    }
    Ok(())
}

/// Makes a small run that prints no figures, as Criterion does in its test mode.
fn check() -> io::Result<()> {
    for protocol in ["echo", "http"] {
        writeln!(io::stdout(), "Testing idle connection: {protocol}")?;
        if run_server(protocol, COUNT_IN_TEST, Stdio::null())? {
            writeln!(io::stdout(), "Success")?;
        }
    }
    Ok(())
}

/// Runs a server process. Returns false if the hard limit on descriptors is too low for it.
fn run_server(protocol: &str, count: usize, row: Stdio) -> io::Result<bool> {
    let arguments = ["--server", protocol, &count.to_string()];
    let mut server = rerun_with_descriptors(count + OTHER_DESCRIPTORS, arguments)?;
    let status = server.stdout(row).status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(TOO_FEW_DESCRIPTORS) => Ok(false),
        _ => Err(io::Error::other(format!("the server ended with {status}"))),
    }
}

/// Serves `count` peers, and prints their row of the table.
fn serve(protocol: &str, count: usize) -> io::Result<()> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let limits = Limits::default()
        .with_connections_max(count + 1)
        .with_first_byte_timeout(Duration::from_millis(DAY_MS))
        .with_idle_timeout(Duration::from_millis(DAY_MS));
    let mut reactor = Reactor::new(limits)?;
    let address = if protocol == "http" {
        let site = Site::new();
        reactor.listen(LOOPBACK, move |_| Http::new(site.clone()))?
    } else {
        reactor.listen(LOOPBACK, |_| Echo::new())?
    };
    let mut server = Server { reactor, longest_turn: Duration::ZERO };
    server.warm_up(address)?;

    let begun = Instant::now();
    let mut peers = rerun_with_descriptors(
        count + OTHER_DESCRIPTORS,
        ["--peers", &address.to_string(), &count.to_string()],
    )?
    .stdin(Stdio::piped())
    .spawn()?;
    let bytes_before = resident_bytes();
    server.turn_until_connections_are(count, Some(&mut peers))?;
    let (opening, longest_opening) = (begun.elapsed(), server.take_longest_turn());

    let begun = Instant::now();
    while begun.elapsed() < IDLE_TIME {
        server.turn()?;
    }
    let longest_idle = server.take_longest_turn();
    let grown = bytes_before
        .zip(resident_bytes())
        .map(|(before, after)| after.saturating_sub(before) / count);

    drop(peers.stdin.take()); // the peers close when their input ends
    if !peers.wait()?.success() {
        return Err(io::Error::other("the peers failed"));
    }
    let begun = Instant::now();
    server.turn_until_connections_are(0, None)?;
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
    /// Runs one turn that does not sleep.
    fn turn(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        self.reactor.turn(Some(Duration::ZERO))?;
        self.longest_turn = self.longest_turn.max(begun.elapsed());
        Ok(())
    }

    fn take_longest_turn(&mut self) -> Duration {
        std::mem::take(&mut self.longest_turn)
    }

    /// Accepts and closes one connection, so that memory that is needed only once is not measured.
    fn warm_up(&mut self, address: SocketAddr) -> io::Result<()> {
        let peer = connect(address, source(0))?;
        self.turn_until_connections_are(1, None)?;
        drop(peer);
        self.turn_until_connections_are(0, None)?;
        self.take_longest_turn();
        Ok(())
    }

    /// Runs turns until there are `count` connections.
    ///
    /// # Errors
    ///
    /// If the peers fail, or if no connection opens or closes for `STALL_TIMEOUT`.
    fn turn_until_connections_are(
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
            if has_failed || changed.elapsed() > STALL_TIMEOUT {
                return Err(io::Error::other(format!(
                    "{connections} connections instead of {count}"
                )));
            }
        }
        Ok(())
    }
}

/// Opens `count` connections, and closes them at the end of standard input.
fn run_peers(address: SocketAddr, count: usize) -> io::Result<()> {
    let peers: Vec<_> = (0..count)
        .map(|number| connect(address, source(number / PEERS_PER_SOURCE)))
        .collect::<Result<_, _>>()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    drop(peers);
    Ok(())
}

/// Returns this process's resident memory, counted page by page. (`VmRSS` is summed from counters
/// of each CPU, and may be wrong by some hundred kilobytes.)
fn resident_bytes() -> Option<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = smaps.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
