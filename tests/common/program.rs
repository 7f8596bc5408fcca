//! The program as a child process under a guard, and the lines that it writes.
//!
//! Invariant: no child outlives its test. Dropping the guard kills the process and waits for it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use mio_reactor::{Limits, Reactor};

use super::TIMEOUT;

/// A running `reactor`. Dropping it kills the process, however the test ends.
pub(crate) struct Program {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// The service and the address of each line that it printed at its start. Unix sockets are left
    /// out: their paths are known.
    addresses: Vec<(String, SocketAddr)>,
}

/// The exit status of a program, and all that it wrote.
pub(crate) struct Ending {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Program {
    /// Starts `reactor` with `arguments`, and returns when all addresses among them listen.
    pub(crate) fn start(arguments: &[&str]) -> Program {
        let mut program = Program::spawn(reactor().args(arguments));
        program.read_addresses(arguments);
        program
    }

    /// Starts a program with the arguments `first`, and another with those that `second` returns
    /// for it, which name ports of the first one.
    ///
    /// A port that is free for one address may be in use at another, by a test that runs at the
    /// same time. Then both start again, at other ports. If the two programs themselves exclude
    /// each other, no try succeeds.
    #[track_caller]
    pub(crate) fn start_pair(
        first: &[&str],
        second: impl Fn(&Program) -> Vec<String>,
    ) -> (Program, Program) {
        const TRIES: usize = 20;
        for _ in 0..TRIES {
            let one = Program::start(first);
            let arguments = second(&one);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut other = Program::spawn(reactor().args(&arguments));
            if other.prints_addresses(&arguments) {
                return (one, other);
            }
            let ending = other.wait();
            let is_in_use = ending.stderr.iter().any(|line| line.contains("in use"));
            assert!(is_in_use, "{arguments:?}: {:?}", ending.stderr);
        }
        panic!("every port of {first:?} is in use at the other address, {TRIES} times")
    }

    /// Starts `command` without input, and collects its output.
    pub(crate) fn spawn(command: &mut Command) -> Program {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program::spawn_as_configured(command)
    }

    /// Starts `command` with the standard streams that it has. Output that goes to pipes is
    /// collected.
    pub(crate) fn spawn_as_configured(command: &mut Command) -> Program {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map_or_else(Lines::none, Lines::collect);
        let stderr = child.stderr.take().map_or_else(Lines::none, Lines::collect);
        Program { child, stdout, stderr, addresses: Vec::new() }
    }

    /// Starts this test executable again, to run nothing but its ignored test `name`, which calls
    /// [`be_server`]. So a server that is only a protocol gets a process of its own, whose memory
    /// can be measured. Returns the process and the server's address.
    pub(crate) fn start_server(name: &str, argument: &str) -> (Program, SocketAddr) {
        let mut test = Command::new(env::current_exe().unwrap());
        let program = Program::spawn(
            test.args([name, "--exact", "--ignored", "--nocapture"]).env(SERVER_ARGUMENT, argument),
        );
        let (_, address) = parse_address(&program.wait_for_log("server "));
        (program, address)
    }

    /// Reads one line of standard output for each address among `arguments`.
    #[track_caller]
    pub(crate) fn read_addresses(&mut self, arguments: &[&str]) {
        assert!(self.prints_addresses(arguments), "no address is printed: {}", self.log());
    }

    /// Reads them, and returns whether they come before the program ends.
    fn prints_addresses(&mut self, arguments: &[&str]) -> bool {
        let is_service = |argument: &&&str| ["--tcp", "--udp", "--http"].contains(*argument);
        self.prints_address_lines(arguments.iter().filter(is_service).count())
    }

    /// Reads `count` lines of standard output, each with an address.
    #[track_caller]
    pub(crate) fn read_address_lines(&mut self, count: usize) {
        assert!(self.prints_address_lines(count), "no address is printed: {}", self.log());
    }

    fn prints_address_lines(&mut self, count: usize) -> bool {
        let lines = self
            .stdout
            .wait_until(|lines, _| (lines.len() >= count).then(|| lines[..count].to_vec()));
        let Some(lines) = lines else { return false };
        self.addresses = lines
            .iter()
            .filter(|line| !line.contains(" unix:"))
            .map(|line| parse_address(line))
            .collect();
        true
    }

    /// Returns every address of `service` (`tcp echo`, `udp echo` or `http`), in the order of the
    /// command line.
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

    /// Sends the signal `name`, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        // The pid is still this child's: the kernel reuses it only after wait(2).
        let status =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name} {}", self.pid());
    }

    /// Runs `action` while the program is suspended by SIGSTOP. All its effects are there when the
    /// program continues.
    pub(crate) fn while_suspended<T>(&self, action: impl FnOnce() -> T) -> T {
        self.signal("STOP");
        let deadline = Instant::now() + TIMEOUT;
        // Without /proc there is no way to check.
        while fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .is_ok_and(|stat| !is_suspended(&stat))
        {
            assert!(Instant::now() < deadline, "SIGSTOP does not suspend it");
            thread::yield_now();
        }
        let result = action();
        self.signal("CONT");
        result
    }

    /// Waits for a log line that contains `text`, and returns it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let line = self
            .stderr
            .wait_until(|lines, _| lines.iter().find(|line| line.contains(text)).cloned());
        line.unwrap_or_else(|| panic!("no log line contains {text:?}: {}", self.log()))
    }

    /// Returns what it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.so_far().join("\n")
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Ending {
        // A pipe ends when the last process that could write to it has ended.
        let stdout = self.stdout.wait_until(|lines, has_ended| has_ended.then(|| lines.to_vec()));
        let stderr = self.stderr.wait_until(|lines, has_ended| has_ended.then(|| lines.to_vec()));
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            panic!("timeout: the program does not end: {}", self.log())
        };
        Ending { status: self.child.wait().unwrap(), stdout, stderr }
    }

    /// Stops it with SIGTERM, and waits until it has ended.
    pub(crate) fn stop(self) -> Ending {
        self.signal("TERM");
        self.wait()
    }

    /// Returns the value of `name` in `/proc/PID/status`, in KiB.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_kib(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns how many descriptors it has open.
    #[cfg(target_os = "linux")]
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The environment variable that makes a test process a server. Its value is the argument of
/// `listen`.
const SERVER_ARGUMENT: &str = "REACTOR_TEST_SERVER_ARGUMENT";

/// Serves until the process is killed, if [`Program::start_server`] has started it. Otherwise does
/// nothing.
pub(crate) fn be_server(listen: impl FnOnce(&mut Reactor, &str) -> io::Result<SocketAddr>) {
    let Ok(argument) = env::var(SERVER_ARGUMENT) else { return };
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    eprintln!("server {}", listen(&mut reactor, &argument).unwrap());
    reactor.run().unwrap();
}

const PROGRAM_PATH: &str = env!("CARGO_BIN_EXE_reactor");

/// Returns the program as a command without arguments, and without options from the environment.
pub(crate) fn reactor() -> Command {
    with_own_settings(Command::new(PROGRAM_PATH))
}

/// Returns `wrapper`, a program with its arguments, that runs `reactor`: whatever arguments are
/// added are those of `reactor`.
pub(crate) fn reactor_through(wrapper: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(PROGRAM_PATH);
    with_own_settings(command)
}

/// Returns `sh` with a command line in which `"$@"` is `reactor` with the arguments that are added.
pub(crate) fn reactor_in_shell(line: &str) -> Command {
    reactor_through(&["sh", "-c", line, "sh"])
}

/// Removes the settings that the test itself has been started with.
fn with_own_settings(mut command: Command) -> Command {
    command.env_remove("RUST_LOG"); // the log level is the one that a test sets
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("REACTOR_")) {
            command.env_remove(name); // and so is every option
        }
    }
    command
}

/// Returns whether `/proc/PID/stat` shows a stopped process: `T`, or `t` if it is traced. The state
/// follows the name, which is in parentheses (proc(5)).
fn is_suspended(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// Splits a line such as `tcp echo 127.0.0.1:2000` into the service and its address.
fn parse_address(line: &str) -> (String, SocketAddr) {
    let parsed = line
        .rsplit_once(' ')
        .and_then(|(service, address)| Some((service.to_owned(), address.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("no service and address: {line:?}"))
}

/// The lines of a pipe, collected by a thread of its own. So the pipe never fills, and a test can
/// wait for a line.
#[derive(Clone)]
struct Lines(Arc<(Mutex<Collected>, Condvar)>);

struct Collected {
    lines: Vec<String>,
    has_ended: bool,
}

impl Lines {
    /// No lines, for a stream that goes elsewhere.
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

    /// Waits until `find` returns something. It is given the lines, and whether the pipe has ended.
    /// Returns `None` if it never does.
    fn wait_until<T>(&self, mut find: impl FnMut(&[String], bool) -> Option<T>) -> Option<T> {
        let (collected, changed) = &*self.0;
        let mut found = None;
        let is_missing = |collected: &mut Collected| {
            found = find(&collected.lines, collected.has_ended);
            found.is_none() && !collected.has_ended
        };
        drop(changed.wait_timeout_while(collected.lock().unwrap(), TIMEOUT, is_missing).unwrap());
        found
    }

    fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }
}

/// Returns whether this process ignores the signal, as under nohup(1). The program inherits that,
/// and keeps it. Only Linux tells.
pub(crate) fn ignores(signal: &str) -> bool {
    // The numbers of Linux (signal(7)). On the few processors that have others, a test may fail
    // where a signal is ignored.
    let number = match signal {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ALRM" => 14,
        "TERM" => 15,
        "XCPU" => 24,
        "PWR" => 30,
        _ => panic!("SIG{signal} is not in this list"),
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    set & (1 << (number - 1)) != 0
}
