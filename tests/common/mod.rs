//! What the tests share: the program under a guard, sockets with timeouts, and bytes that can be told apart.
//!
//! Nothing here sleeps. To wait is to read a socket, or to wait for a line or for the end of what the program writes, and
//! every wait gives up after [`PATIENCE`].

// Each test file is a crate of its own and uses a part of this one; a helper of tests may unwrap as tests do, and say why
// there is nothing to do.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr)]

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mio_reactor::{Limits, Protocol, Reactor, Stats};
use socket2::{Domain, SockRef, Socket, Type};

/// The longest that anything here or any socket waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running `reactor`. It ends with the value, however the test ends.
pub(crate) struct Program {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// The service and the address of each line that it printed on start, but for Unix sockets: their paths are known.
    addresses: Vec<(String, SocketAddr)>,
}

/// How a program ended, and all that it wrote.
pub(crate) struct Ending {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Program {
    /// Starts `reactor` with `arguments`, and returns when all the addresses named among them listen.
    pub(crate) fn start(arguments: &[&str]) -> Program {
        let mut program = Program::spawn(reactor().args(arguments));
        program.read_addresses(arguments);
        program
    }

    /// Starts `command`, with its output collected here unless it already goes elsewhere.
    pub(crate) fn spawn(command: &mut Command) -> Program {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program::spawn_as_it_is(command)
    }

    /// The same, with the streams that `command` already has.
    pub(crate) fn spawn_as_it_is(command: &mut Command) -> Program {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map_or_else(Lines::none, Lines::collect);
        let stderr = child.stderr.take().map_or_else(Lines::none, Lines::collect);
        Program { child, stdout, stderr, addresses: Vec::new() }
    }

    /// Starts this very test again, to run nothing but its function `name`, which calls [`be_server`] and is ignored otherwise:
    /// so a server that is no program has a process of its own, with no memory in it but its own. Returns it and its address.
    pub(crate) fn start_server(name: &str, argument: &str) -> (Program, SocketAddr) {
        let mut test = Command::new(env::current_exe().unwrap());
        let program = Program::spawn(
            test.args([name, "--exact", "--ignored", "--nocapture"]).env(SERVER_ARGUMENT, argument),
        );
        let (_, address) = parse_address(&program.logged("server "));
        (program, address)
    }

    /// Reads one line of standard output for each address named in `arguments`.
    pub(crate) fn read_addresses(&mut self, arguments: &[&str]) {
        let count = arguments
            .iter()
            .filter(|argument| ["--tcp", "--udp", "--http"].contains(argument))
            .count();
        let lines = self
            .stdout
            .wait_until(|lines, _| (lines.len() >= count).then(|| lines[..count].to_vec()));
        let lines =
            lines.unwrap_or_else(|| panic!("{count} addresses were not printed: {}", self.log()));
        self.addresses = lines
            .iter()
            .filter(|line| !line.contains(" unix:"))
            .map(|line| parse_address(line))
            .collect();
    }

    /// Every address of `service` (`tcp echo`, `udp echo` or `http`), in the order of the command line.
    pub(crate) fn addresses(&self, service: &str) -> Vec<SocketAddr> {
        self.addresses
            .iter()
            .filter(|(name, _)| name == service)
            .map(|&(_, address)| address)
            .collect()
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.addresses("tcp echo")[0]
    }

    pub(crate) fn udp(&self) -> SocketAddr {
        self.addresses("udp echo")[0]
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.addresses("http")[0]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it the signal `name`, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        // It cannot be another's process: a pid is not given anew before we have waited for it.
        let status =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name} {}", self.pid());
    }

    /// Does `what` while the program is held, so that it finds all of it at once when it goes on.
    pub(crate) fn while_held<T>(&self, what: impl FnOnce() -> T) -> T {
        self.signal("STOP");
        let give_up = Instant::now() + PATIENCE;
        // Where there is no /proc, the signal has to be trusted.
        while fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .is_ok_and(|stat| !is_held(&stat))
        {
            assert!(Instant::now() < give_up, "SIGSTOP holds it");
            thread::yield_now();
        }
        let done = what();
        self.signal("CONT");
        done
    }

    /// Waits until it has logged a line that contains `text`, and returns that line.
    pub(crate) fn logged(&self, text: &str) -> String {
        let line = self
            .stderr
            .wait_until(|lines, _| lines.iter().find(|line| line.contains(text)).cloned());
        line.unwrap_or_else(|| panic!("nothing was logged with {text:?} in it: {}", self.log()))
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.so_far().join("\n")
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> Ending {
        // The pipes end with the last process that could write to them.
        let stdout = self.stdout.wait_until(|lines, has_ended| has_ended.then(|| lines.to_vec()));
        let stderr = self.stderr.wait_until(|lines, has_ended| has_ended.then(|| lines.to_vec()));
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            panic!("it does not end: {}", self.log())
        };
        Ending { status: self.child.wait().unwrap(), stdout, stderr }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Ending {
        self.signal("TERM");
        self.wait()
    }

    /// The value of `name` in `/proc/PID/status`, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_kib(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many descriptors it has open.
    #[cfg(target_os = "linux")]
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Its being set says that a process is to be a server, and its value for what.
const SERVER_ARGUMENT: &str = "REACTOR_TEST_SERVER_ARGUMENT";

/// Listens and serves until the process is killed, if [`Program::start_server`] has started it; else does nothing.
pub(crate) fn be_server(listen: impl FnOnce(&mut Reactor, &str) -> io::Result<SocketAddr>) {
    let Ok(argument) = env::var(SERVER_ARGUMENT) else { return };
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    eprintln!("server {}", listen(&mut reactor, &argument).unwrap());
    reactor.run().unwrap();
}

/// The program as a command, without arguments.
pub(crate) fn reactor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    command.env_remove("RUST_LOG"); // only what a test asks for is logged
    command
}

/// Does `/proc/PID/stat` tell of a process that is stopped (`T`, or `t` if it is traced)? The state follows the name,
/// which stands in parentheses.
fn is_held(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// `tcp echo 127.0.0.1:2000` is a service and its address.
fn parse_address(line: &str) -> (String, SocketAddr) {
    let parsed = line
        .rsplit_once(' ')
        .and_then(|(service, address)| Some((service.to_owned(), address.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("no service and address: {line:?}"))
}

/// The lines of a pipe, collected by a thread of their own: so the pipe never fills, and one can wait for a line.
#[derive(Clone)]
struct Lines(Arc<(Mutex<Collected>, Condvar)>);

struct Collected {
    lines: Vec<String>,
    has_ended: bool,
}

impl Lines {
    /// Of a pipe that does not exist.
    fn none() -> Lines {
        Lines(Arc::new((
            Mutex::new(Collected { lines: Vec::new(), has_ended: true }),
            Condvar::new(),
        )))
    }

    fn collect(pipe: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::new((
            Mutex::new(Collected { lines: Vec::new(), has_ended: false }),
            Condvar::new(),
        )));
        let collector = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                collector.change(|collected| collected.lines.push(line));
            }
            collector.change(|collected| collected.has_ended = true);
        });
        lines
    }

    fn change(&self, how: impl FnOnce(&mut Collected)) {
        let (collected, changed) = &*self.0;
        how(&mut collected.lock().unwrap());
        changed.notify_all();
    }

    /// Waits until `find` finds something in the lines, given also whether the pipe has ended. `None`: it never did.
    fn wait_until<T>(&self, mut find: impl FnMut(&[String], bool) -> Option<T>) -> Option<T> {
        let (collected, changed) = &*self.0;
        let mut found = None;
        let is_missing = |collected: &mut Collected| {
            found = find(&collected.lines, collected.has_ended);
            found.is_none() && !collected.has_ended
        };
        drop(changed.wait_timeout_while(collected.lock().unwrap(), PATIENCE, is_missing).unwrap());
        found
    }

    fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }
}

/// A TCP connection to `address` that does not wait for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .unwrap_or_else(|error| panic!("connect {address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same with a receive buffer of a few KiB, so that it soon holds all that it can hold of what it does not read.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    // Before the connection is made: it decides which window is offered.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes `stream` with a reset instead of a FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Makes `call` until no signal interrupts it. A call that waits with a timeout is not restarted by the kernel (signal(7)).
pub(crate) fn persist<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sends `bytes` until they are all gone, or until nobody has taken any for a moment: then every buffer between us and the
/// program is full, and so is the program. Returns how many went. (Were the moment too short, there would be fewer.)
pub(crate) fn stuff(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(250))).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match persist(|| stream.write(&bytes[sent..])) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("write: {error}"),
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    sent
}

/// A UDP socket on a port of its own that sends to `address`, hears of nobody else, and does not wait for ever.
pub(crate) fn connect_udp(address: SocketAddr) -> UdpSocket {
    let own = SocketAddr::new(address.ip(), 0);
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// `count` bytes that are the same on each run, and in which a piece that is lost, doubled or moved shows (xorshift64).
pub(crate) fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Fails where `received` is not `sent`, and says from where on, rather than print a million bytes.
#[track_caller]
pub(crate) fn assert_same(received: &[u8], sent: &[u8]) {
    let differs_at = received.iter().zip(sent).position(|(one, other)| one != other);
    assert_eq!(
        differs_at,
        None,
        "the first byte that differs (of {} received, {} sent)",
        received.len(),
        sent.len()
    );
    assert_eq!(received.len(), sent.len(), "bytes received, bytes sent");
}

/// One exchange: sends `bytes`, and reads as many back, which must be the same.
#[track_caller]
pub(crate) fn check_echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut reply = vec![0; bytes.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, bytes);
}

/// What is still to come is `bytes`, and then the end.
#[track_caller]
pub(crate) fn check_end(mut stream: TcpStream, bytes: &[u8]) {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_same(&received, bytes);
}

// ---- a reactor in the test's own thread

/// Lets time pass in which the loop takes no turn. Nobody is waited for: it is the lateness that is tested.
pub(crate) fn be_late(how_long: Duration) {
    thread::sleep(how_long);
}

/// The longest that a turn here waits for nothing.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(10);

pub(crate) fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A reactor that serves one protocol, and its address.
pub(crate) fn serve<P: Protocol + 'static>(
    limits: Limits,
    make: impl FnMut(SocketAddr) -> P + 'static,
) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(limits).unwrap();
    let address = reactor.listen(any_port(), make).unwrap();
    (reactor, address)
}

/// May `count` files be open in this process at once? Where they may not, says so, for the test cannot be made here.
#[cfg(target_os = "linux")]
pub(crate) fn may_open(count: usize) -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let most = line.split_whitespace().next().unwrap();
    let is_enough = most.parse().map_or(true, |most: usize| most >= count);
    if !is_enough {
        eprintln!("skipped: only {most} files may be open");
    }
    is_enough
}

/// Takes turns until `done`, and returns how many it took.
#[track_caller]
pub(crate) fn turn_until(
    reactor: &mut Reactor,
    what: &str,
    mut done: impl FnMut(&Stats) -> bool,
) -> u64 {
    let give_up = Instant::now() + PATIENCE;
    let turns_before = reactor.stats().turns;
    while !done(reactor.stats()) {
        assert!(Instant::now() < give_up, "in vain: {what}; {:?}", reactor.stats());
        reactor.turn(Some(A_MOMENT)).unwrap();
    }
    reactor.stats().turns - turns_before
}
