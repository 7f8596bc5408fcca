//! Runs the programs of the book.
//!
//! Invariant: no program outlives its test. Dropping the guard kills the process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use socket2::{Domain, Socket, Type};

use super::in_rust::RUST_PROGRAMS;
use super::page::{Page, book, root};
use super::peer::Client;
use super::sockets::hold_port;

/// The timeout of every socket and of every wait.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the interpreter itself. What is called `python3` may be a script that looks for it.
pub(super) fn python() -> &'static OsStr {
    static PATH: OnceLock<OsString> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut command = Command::new("python3");
        let output = command.args(["-c", "import sys; print(sys.executable)"]).output();
        let output =
            output.unwrap_or_else(|error| panic!("python3, which the book needs: {error}"));
        String::from_utf8(output.stdout).unwrap().trim().into()
    })
}

/// Returns what docs/book/check.py prints.
pub(super) fn check<A: AsRef<OsStr> + std::fmt::Debug>(arguments: &[A]) -> String {
    let mut command = Command::new(python());
    command.current_dir(book()).arg("check.py").args(arguments);
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let is_complete = printed.lines().count() > 1;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(is_complete, "check.py {arguments:?}: {printed} {error}");
    printed
}

/// Checks that docs/book/idle.py prints the lines that the page shows, and how many threads the
/// program has. The other values are those of one computer.
#[track_caller]
pub(super) fn check_idle(page: &Page, program: &str, clients: usize, threads: usize) {
    let mut command = Command::new(python());
    command.current_dir(book()).args(["idle.py", &clients.to_string(), program]);
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: idle.py {program}: {errors}", page.path);
    let name = |line: &str| line.split("  ").next().unwrap().to_owned();
    let (_, shown) = page.text.split_once("$ python3 idle.py").unwrap();
    let shown = shown.split("```").next().unwrap().lines().skip(1);
    assert!(printed.lines().map(name).eq(shown.map(name)), "{}: {printed}", page.path);
    let line = printed.lines().find(|line| line.starts_with("threads ")).unwrap();
    let counted = line.rsplit(' ').next().unwrap();
    assert_eq!(counted, threads.to_string(), "{}: threads", page.path);
}

/// Checks that the solution passes each row of its exercise.
#[track_caller]
pub(super) fn check_solution(exercise: usize, solution: &str) {
    let options = ["--exercise", &exercise.to_string()];
    check_passes(&options, &format!("solutions/{solution}"), &[]);
}

/// Checks that a program, with its own arguments, passes each row that the options choose.
#[track_caller]
pub(super) fn check_passes(options: &[&str], path: &str, arguments: &[&str]) {
    let program = if path.ends_with(".rs") { command(path) } else { vec![OsString::from(path)] };
    let owned = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let printed = check(&[owned(options), program, owned(arguments)].concat());
    assert!(!printed.contains("not ok"), "{path} {arguments:?}:\n{printed}");
}

/// An empty folder for a test's files. Dropping it removes it.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// Tests of several processes may run at a time, so the name has the process's number.
    pub(super) fn new(name: &str) -> Folder {
        let name = format!("book-{name}-{}", std::process::id());
        let folder = Folder(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // one that stays behind harms no other run
    }
}

/// A running program of the book, which gets a free port as its last argument.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    /// Bound but not listening, it keeps the port free for the program alone.
    _holder: Socket,
}

impl Server {
    /// Starts `program`, a path from the root.
    pub(super) fn start(program: &str) -> Server {
        Server::start_through(&[], program)
    }

    /// Starts `program` through a wrapper, such as strace.
    pub(super) fn start_through(wrapper: &[OsString], program: &str) -> Server {
        let (holder, address) = hold_port();
        let child = start(wrapper, program, address.port());
        Server { child, address, _holder: holder }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Connects. Until the program listens, the kernel refuses.
    #[track_caller]
    pub(super) fn connect(&self) -> Client {
        self.connect_to(self.address)
    }

    /// Connects to an address of the program.
    #[track_caller]
    pub(super) fn connect_to(&self, address: SocketAddr) -> Client {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    return Client(stream);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            }
            assert!(Instant::now() < deadline, "the program does not listen");
            thread::sleep(Duration::from_millis(1)); // leaves the processor to the program
        }
    }

    /// Connects, and waits until the program has done all that it does then.
    #[track_caller]
    pub(super) fn connect_and_settle(&self) -> Client {
        let client = self.connect();
        self.wait_until_it_settles();
        client
    }

    /// Connects with a small receive buffer, so that the program's output soon finds no room. The
    /// program listens already: it has another client.
    #[track_caller]
    pub(super) fn connect_narrow(&self) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TIMEOUT)).unwrap();
        socket.connect(&self.address.into()).unwrap();
        Client(socket.into())
    }

    /// Returns how many sockets the program has open.
    pub(super) fn sockets(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
    }

    /// Returns how many threads the program has.
    pub(super) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count()
    }

    /// Returns the number after `name` in /proc/PID/status.
    pub(super) fn status(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Returns how often its threads have gone to sleep.
    pub(super) fn sleeps(&self) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")));
        let lines = statuses.filter_map(|status| {
            let status = status.ok()?; // a thread may have ended meanwhile
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line?.trim().parse::<usize>().ok()
        });
        lines.sum()
    }

    /// Returns its state and its processor time in clock ticks, from /proc/PID/stat (proc(5)).
    fn stat(&self) -> (String, u64) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap());
        (fields[0].to_owned(), ticks.iter().sum())
    }

    /// Waits until the program has run for `ticks` of processor time: only one that never sleeps
    /// gets there while no client sends.
    #[track_caller]
    pub(super) fn wait_until_it_has_run(&self, ticks: u64) {
        let before = self.stat().1;
        self.wait_until("it runs", || self.stat().1 >= before + ticks);
    }

    /// Waits until the program has done all that its clients have asked for: it sleeps, or, if it
    /// never sleeps, it has run for some time since.
    #[track_caller]
    pub(super) fn wait_until_it_settles(&self) {
        const SAMPLES: usize = 5;
        let ran_before = self.stat().1;
        let (mut asleep, mut sleeps) = (0, self.sleeps());
        self.wait_until("it settles", || {
            let is_same = self.sleeps() == std::mem::replace(&mut sleeps, self.sleeps());
            asleep = if is_same && self.all_threads_are(&['S', 'Z']) { asleep + 1 } else { 0 };
            asleep == SAMPLES || self.stat().1 >= ran_before + 3
        });
    }

    /// Returns whether each thread is in one of these states of /proc/PID/stat.
    fn all_threads_are(&self, states: &[char]) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")));
        stats
            .flatten()
            .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(states)))
    }

    /// Runs `action` while the program is suspended by SIGSTOP. All its effects are there when the
    /// program continues.
    #[track_caller]
    pub(super) fn while_suspended(&self, action: impl FnOnce()) {
        self.signal("STOP");
        // The thread that serves stops later than the one that gets the signal.
        let is_suspended = || self.all_threads_are(&['T', 't']);
        self.wait_until("it is suspended", is_suspended);
        action();
        self.signal("CONT");
    }

    /// Lets the program open no more descriptors than it has now (setrlimit(2), RLIMIT_NOFILE).
    pub(super) fn use_up_descriptors(&self) {
        let descriptors = PathBuf::from(format!("/proc/{}/fd", self.pid()));
        let path = |number: &u64| descriptors.join(number.to_string());
        let lowest_free = (0..).find(|number| path(number).symlink_metadata().is_err());
        let pid = Pid::from_child(&self.child);
        let maximum = getrlimit(Resource::Nofile).maximum; // which the child has inherited
        let limit = Rlimit { current: lowest_free, maximum };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }

    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.unwrap().success(), "kill -s {name} {}", self.pid());
    }

    #[track_caller]
    pub(super) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !is_so() {
            assert!(Instant::now() < deadline, "timeout waiting until {what}");
            thread::sleep(Duration::from_millis(1)); // leaves the processor to the program
        }
    }

    /// Returns what the program writes to standard error, if it ends by itself within the timeout.
    pub(super) fn errors_at_end(&mut self) -> Option<String> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return Some(read_to_end(&mut self.child));
            }
            thread::sleep(Duration::from_millis(1)); // leaves the processor to the program
        }
        None
    }

    /// Kills it, and waits until the wrapper, too, has ended.
    pub(super) fn finish(mut self) {
        let _ = self.child.kill(); // it may have ended already
        read_to_end(&mut self.child);
    }
}

/// A pipe ends when the last process that could write to it has ended.
pub(super) fn read_to_end(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Stands for the program of this repository, where programs of the book have a path.
pub(super) const REACTOR: &str = "reactor";
/// Its path, if the package has its default features.
pub(super) const REACTOR_PATH: Option<&str> = option_env!("CARGO_BIN_EXE_reactor");

/// The environment variable that makes this test executable a program of the book.
const IN_RUST: &str = "REACTOR_BOOK_PROGRAM";

/// Returns the command that runs `program`, a path from the root. A program in Rust is a part of
/// this executable, which runs nothing else then.
pub(super) fn command(program: &str) -> Vec<OsString> {
    if program == REACTOR {
        // One number for both: a stream shows when the program is ready.
        let script = r#"exec "$0" --prefix "echo -> " --tcp "$1" --udp "$1""#;
        let reactor = REACTOR_PATH.expect("its scene is recorded only if it is built");
        return ["sh", "-c", script, reactor].map(OsString::from).to_vec();
    }
    let path = root().join(program).into_os_string();
    if program.ends_with(".py") {
        return vec![python().to_owned(), "-S".into(), path]; // starts faster without `site`
    }
    let program = program.strip_prefix("docs/book/").unwrap_or(program);
    let variable = format!("{IN_RUST}={program}");
    let test = "book::programs::run_program_in_rust";
    let options = ["--exact", "--ignored", "--nocapture", "--test-threads=1"];
    let executable = env::current_exe().unwrap().into_os_string();
    let words = ["env".into(), variable.into(), executable, test.into()];
    words.into_iter().chain(options.map(OsString::from)).collect()
}

/// Runs the `main` of a program in Rust, whose last argument is a port, as for every program.
#[test]
#[ignore = "it is a program of the book, which other tests run"]
fn run_program_in_rust() {
    let Ok(path) = env::var(IN_RUST) else { return };
    let program = RUST_PROGRAMS.iter().find(|(program, _)| *program == path);
    program.unwrap_or_else(|| panic!("RUST_PROGRAMS has no {path}")).1().unwrap();
}

/// Starts a program, a path from the root, perhaps with arguments behind it.
pub(super) fn start(wrapper: &[OsString], program: &str, port: u16) -> Child {
    let mut parts = program.split(' ');
    let words = wrapper.iter().cloned().chain(command(parts.next().unwrap()));
    let words: Vec<OsString> = words.chain(parts.map(OsString::from)).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(port.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // both fail only if it has ended already
        let _ = self.child.wait();
    }
}
