//! The program under a guard, and the lines that it writes.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use mio_reactor::{Limits, Reactor};

use super::PATIENCE;

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
