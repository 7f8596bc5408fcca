//! Records a program's system calls with strace, and writes them as the book does.
//!
//! What differs from run to run is normalised: descriptors count from 3 on as if nothing else were
//! open, threads and ports are counted, and FEWER and REST stand for numbers. Calls that have not
//! returned when the scene ends are left out, and so are those on other descriptors than sockets.
//! What comes again and again appears once, with "…".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::addresses::{Ports, between};
use super::programs::{Folder, Server};

/// The calls that are recorded.
const CALLS: &str = "trace=socket,setsockopt,bind,listen,accept4,accept,connect,recvfrom,sendto,\
                     recvmmsg,sendmmsg,read,write,close,ioctl,shutdown,?select,pselect6,?poll,\
                     ppoll,epoll_create1,epoll_ctl,?epoll_wait,epoll_pwait,clone3,?clone";

/// A scene: what clients do while a program is traced. Returns `None` if strace cannot be used.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) record: fn() -> Option<Vec<String>>,
}

/// Records `program` while `clients` use it, from the call on that begins with `first`. What
/// `clients` returns stays connected until the program has ended.
pub(super) fn record<T>(
    name: &str,
    program: &str,
    first: &str,
    clients: impl FnOnce(&Server) -> T,
) -> Option<Vec<String>> {
    let folder = Folder::new(&format!("trace-{name}"));
    let server = Server::start_through(&strace(&folder.0)?, program);
    let pid = server.pid();
    let _connected = clients(&server);
    server.wait_until_it_settles();
    server.finish();
    Some(written(&folder.0, program, pid, first))
}

/// Records a client, which `run` runs to its end through the wrapper that it gets.
pub(super) fn record_client(
    name: &str,
    program: &str,
    run: impl FnOnce(&[OsString]),
) -> Option<Vec<String>> {
    let folder = Folder::new(&format!("trace-{name}"));
    run(&strace(&folder.0)?);
    let mut files = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name());
    let pid = files.next().unwrap().into_string().unwrap();
    let pid = pid.rsplit('.').next().unwrap().parse().unwrap();
    Some(written(&folder.0, program, pid, "socket("))
}

/// Returns the command that traces, or says that it is skipped.
fn strace(folder: &Path) -> Option<Vec<OsString>> {
    static MAY_TRACE: OnceLock<bool> = OnceLock::new();
    let may_trace = *MAY_TRACE.get_or_init(|| {
        let mut command = Command::new("strace");
        let run = command.args(["-qq", "-o", "/dev/null", "true"]).output();
        run.is_ok_and(|run| run.status.success())
    });
    if !may_trace {
        eprintln!("skipped: strace is not installed or may not trace");
        return None;
    }
    // With -D, strace runs as a grandchild: the child, whose pid is known, is the program. With
    // -ff, each thread has a file of its own.
    let words = ["strace", "-D", "-ff", "-qq", "-s", "24", "-e", "signal=none", "-e", CALLS, "-o"];
    let words = words.map(OsString::from).into_iter();
    Some(words.chain([folder.join("t").into_os_string()]).collect())
}

/// Returns the calls of all threads, those of the first one first.
fn written(folder: &Path, program: &str, pid: u32, first: &str) -> Vec<String> {
    let data_are_descriptors = program.ends_with(".py");
    let mut descriptors = Descriptors { data_are_descriptors, ..Descriptors::default() };
    let mut threads = vec![pid];
    let mut lines = Vec::new();
    let mut next = 0;
    while let Some(thread) = threads.get(next) {
        let text = fs::read_to_string(folder.join(format!("t.{thread}"))).unwrap();
        let calls = text.lines().filter_map(Call::parse);
        let mut own: Vec<String> = calls
            .filter_map(|call| {
                if call.name.starts_with("clone") {
                    threads.push(call.result.parse().ok()?);
                    return Some(format!("clone(a thread) = thread {}", threads.len() - 1));
                }
                descriptors.write(&call)
            })
            .collect();
        // A program in Rust is a test, which has a thread of its own.
        if next == 0 || !data_are_descriptors {
            own = own.into_iter().skip_while(|line| !is_start(line, first)).collect();
        }
        // A FIN is an edge when it is sent, and when it is confirmed, if that is later.
        own.dedup_by(|next, call| next == call && call.contains("[{EPOLLOUT, "));
        let own = collapse_groups(&collapse(own));
        lines.push((next, own));
        next += 1;
    }
    // Only where several threads call is it of interest which one does.
    let is_single = lines.iter().filter(|(_, own)| !own.is_empty()).count() == 1;
    let prefix = |thread: usize, line: String| match thread {
        _ if is_single => line,
        0 => format!("main      {line}"),
        _ => format!("thread {thread}  {line}"),
    };
    let lines = lines.into_iter();
    lines.flat_map(|(n, own)| own.into_iter().map(move |line| prefix(n, line))).collect()
}

fn is_start(line: &str, first: &str) -> bool {
    line.starts_with(first) && !line.contains("= -1")
}

/// Keeps the first of all equal lines in a run of EAGAINs, and marks it with "…".
fn collapse(lines: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    let mut run_start = 0;
    for line in lines {
        if !line.ends_with("= -1 EAGAIN") {
            kept.push(line);
            run_start = kept.len();
            continue;
        }
        let is_same = |kept: &String| kept.strip_suffix(" …").unwrap_or(kept) == line;
        match kept[run_start..].iter_mut().find(|kept| is_same(kept)) {
            Some(same) if same.ends_with('…') => {}
            Some(same) => same.push_str(" …"),
            None => kept.push(line),
        }
    }
    kept
}

/// Keeps the first of many equal groups of few calls, and marks each of its calls with "…".
fn collapse_groups(lines: &[String]) -> Vec<String> {
    const CALLS_MAX: usize = 3;
    const MANY: usize = 8;
    let mut kept: Vec<String> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let repeats = |size: usize| {
            let mut groups = lines[at..].chunks_exact(size);
            let first = groups.next();
            1 + groups.take_while(|group| Some(*group) == first).count()
        };
        match (1..=CALLS_MAX).find(|&size| repeats(size) >= MANY) {
            Some(size) => {
                kept.extend(lines[at..at + size].iter().map(|line| format!("{line} …")));
                let (first, end) = (at, at + size * repeats(size));
                // The recording may end within a group.
                let is_part =
                    lines[end..].len() < size && lines[first..].starts_with(&lines[end..]);
                at = if is_part { lines.len() } else { end };
            }
            None => {
                kept.push(lines[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// One line of strace: `name(argument, …) = result`.
struct Call<'l> {
    name: &'l str,
    arguments: Vec<&'l str>,
    result: &'l str,
}

impl Call<'_> {
    /// Returns `None` for a call that has not returned, and for what is no call.
    fn parse(line: &str) -> Option<Call<'_>> {
        let (call, result) = line.rsplit_once(" = ")?;
        let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
        Some(Call { name, arguments: split(arguments), result })
            .filter(|_| !result.contains('?') && result != "-1")
    }
}

/// Splits at the commas that are within no quotation and no bracket.
pub(super) fn split(arguments: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut is_quoted) = (Vec::new(), 0, 0, false);
    let mut previous = ' ';
    for (at, c) in arguments.char_indices() {
        match c {
            '"' if previous != '\\' => is_quoted = !is_quoted,
            '[' | '{' | '(' if !is_quoted => depth += 1,
            ']' | '}' | ')' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                parts.push(arguments[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
        previous = if previous == '\\' { ' ' } else { c };
    }
    parts.push(arguments[start..].trim());
    parts
}

/// Writes each element of a list in brackets anew.
fn listed(text: &str, write: impl FnMut(&str) -> String) -> String {
    let elements = split(between(text, "[", "]")).into_iter().filter(|one| !one.is_empty());
    format!("[{}]", elements.map(write).collect::<Vec<_>>().join(", "))
}

/// Returns a timeout as the book writes it: NULL and -1 are no limit, 0 is no wait.
fn timeout(value: &str) -> &str {
    if ["-1", "0", "NULL"].contains(&value) { value } else { "TIMEOUT" }
}

/// The descriptors of sockets, and the numbers that the book gives them: the lowest that is free.
#[derive(Default)]
struct Descriptors {
    shown: BTreeMap<i32, i32>,
    /// How many bytes the last send on a socket has left over.
    rest: BTreeMap<i32, i64>,
    ports: Ports,
    /// Whether the program gives epoll each descriptor as its own data, as Python does.
    data_are_descriptors: bool,
}

impl Descriptors {
    fn open(&mut self, actual: &str) -> Option<i32> {
        let free = (3..).find(|number| !self.shown.values().any(|used| used == number))?;
        self.shown.insert(actual.parse().ok()?, free);
        Some(free)
    }

    fn shown(&self, actual: &str) -> Option<i32> {
        self.shown.get(&actual.parse().ok()?).copied()
    }

    /// Replaces the descriptors from the first bracket on: `[3 4]`, `1 (in [4])`.
    fn sets(&self, text: &str) -> String {
        const AROUND: [char; 4] = ['[', ']', ' ', ')'];
        let (count, sets) = text.split_at(text.find('[').unwrap_or(text.len()));
        let parts = sets.split_inclusive(AROUND).map(|part| {
            let number = part.trim_end_matches(AROUND);
            let shown = self.shown(number).map(|shown| shown.to_string());
            shown.unwrap_or_else(|| number.to_owned()) + &part[number.len()..]
        });
        count.to_owned() + &parts.collect::<String>()
    }

    /// Writes an event of epoll: `{events=EPOLLIN, data={u32=3, u64=3}}` becomes `{EPOLLIN, 3}`.
    fn event(&self, text: &str) -> String {
        // Python's data are the descriptor, in the lower half. Those of mio are the token.
        let (low, all) = (between(text, "u32=", ","), between(text, "u64=", "}"));
        let descriptor = self.shown(low).filter(|_| self.data_are_descriptors);
        let data = descriptor.map_or_else(|| all.to_owned(), |shown| shown.to_string());
        format!("{{{}, {data}}}", between(text, "events=", ","))
    }

    /// Writes what poll(2) asks or answers: `{fd=7, events=POLLIN}` becomes `{3, POLLIN}`.
    fn polled(&self, text: &str) -> String {
        let descriptor = self.shown(between(text, "fd=", ",")).unwrap_or(-1);
        format!("{{{descriptor}, {}}}", between(text, "events=", "}"))
    }

    /// Returns the call as the book shows it, or `None` if it is not about a socket.
    fn write(&mut self, call: &Call<'_>) -> Option<String> {
        let result = call.result.split(" (").next().unwrap_or(call.result);
        let argument = |at: usize| call.arguments.get(at).copied().unwrap_or_default();
        match call.name {
            "socket" => {
                let kind = argument(1).split('|').next()?;
                Some(format!("socket({}, {kind}) = {}", argument(0), self.open(result)?))
            }
            "epoll_create1" => Some(format!("epoll_create1() = {}", self.open(result)?)),
            "select" | "pselect6" => {
                let highest = self.shown.values().max()? + 1;
                // Python's versions differ in how they write an empty set.
                let sets = [1, 2, 3].map(|at| self.sets(argument(at)).replace("NULL", "[]"));
                let (sets, ready) = (sets.join(", "), self.sets(call.result));
                Some(format!("select({highest}, {sets}, NULL) = {ready}"))
            }
            "poll" | "ppoll" => {
                let asked = listed(argument(0), |one| self.polled(one));
                let (count, ready) = call.result.split_once(' ').unwrap_or((call.result, ""));
                let ready = listed(ready, |one| self.polled(one));
                Some(format!("poll({asked}, {}) = {count} {ready}", timeout(argument(2))))
            }
            _ => self.write_call_on_descriptor(call, result),
        }
    }

    /// Returns a call whose first argument is a descriptor.
    fn write_call_on_descriptor(&mut self, call: &Call<'_>, result: &str) -> Option<String> {
        let argument = |at: usize| call.arguments.get(at).copied().unwrap_or_default();
        let socket = self.shown(argument(0))?;
        if result == "-1 EINTR" {
            return None; // a signal of the scene has interrupted it
        }
        Some(match call.name {
            "epoll_ctl" => {
                let about = self.shown(argument(2))?;
                let is_event = argument(3).starts_with('{');
                let event = if is_event { self.event(argument(3)) } else { argument(3).to_owned() };
                format!("epoll_ctl({socket}, {}, {about}, {event}) = {result}", argument(1))
            }
            "epoll_wait" | "epoll_pwait" => {
                let events = listed(argument(1), |one| self.event(one));
                format!("epoll_wait({socket}, {events}, {}) = {result}", timeout(argument(3)))
            }
            "accept" | "accept4" if result.starts_with('-') => {
                format!("accept4({socket}) = {result}")
            }
            "accept" | "accept4" => format!("accept4({socket}) = {}", self.open(result)?),
            "bind" | "connect" => {
                format!("{}({socket}, {}) = {result}", call.name, self.ports.address(argument(1))?)
            }
            "recvmmsg" | "sendmmsg" => {
                let (messages, count) = (self.ports.messages(argument(1)), argument(2));
                format!("{}({socket}, {messages}, {count}) = {result}", call.name)
            }
            "recvfrom" | "read" if result.starts_with('-') => {
                format!("{}({socket}, {}) = {result}", call.name, argument(2))
            }
            "recvfrom" | "read" => {
                let (data, length) = (argument(1), argument(2));
                let sender = self.ports.argument(argument(4));
                format!("{}({socket}, {data}, {length}{sender}) = {result}", call.name)
            }
            "sendto" | "write" => {
                let (data, length) = (argument(1), argument(2));
                let sent: i64 = result.split(' ').next()?.parse().ok()?;
                let asked: i64 = length.parse().ok()?;
                let is_short = sent >= 0 && sent < asked;
                let is_rest = self.rest.remove(&socket) == Some(asked);
                if is_short {
                    self.rest.insert(socket, asked - sent);
                }
                let (data, length) = if is_rest { ("...", "REST") } else { (data, length) };
                let result = match is_short {
                    true => "FEWER",
                    false if sent == asked => length,
                    false => result,
                };
                let recipient = self.ports.argument(argument(4));
                format!("{}({socket}, {data}, {length}{recipient}) = {result}", call.name)
            }
            "close" => {
                self.shown.remove(&argument(0).parse().ok()?);
                format!("close({socket}) = {result}")
            }
            "setsockopt" | "listen" | "ioctl" | "shutdown" => {
                format!("{}({socket}, {}) = {result}", call.name, call.arguments[1..].join(", "))
            }
            other => panic!("how is {other} written in the book?"),
        })
    }
}

#[test]
fn recorded_calls_are_written_without_what_differs_between_runs() {
    let mut descriptors = Descriptors { data_are_descriptors: true, ..Descriptors::default() };
    let mut write = |line: &str| descriptors.write(&Call::parse(line)?);
    for (recorded, shown) in [
        (
            "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 7",
            "socket(AF_INET, SOCK_STREAM) = 3",
        ),
        (
            r#"bind(7, {f=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 0"#,
            "bind(3, 127.0.0.1:PORT) = 0",
        ),
        (
            r#"recvfrom(7, "", 9, 0, {p=htons(8), a=inet_addr("127.0.0.2")}, [128 => 16]) = 0"#,
            r#"recvfrom(3, "", 9, 127.0.0.2:PORT1) = 0"#,
        ),
        (
            r#"sendto(7, "x", 1, 0, {p=htons(9), a=inet_addr("127.0.0.2")}, 16) = 1"#,
            r#"sendto(3, "x", 1, 127.0.0.2:PORT) = 1"#,
        ),
        (
            "recvmmsg(7, 0x7f, 64, 0, NULL) = -1 EAGAIN (Resource)",
            "recvmmsg(3, [], 64) = -1 EAGAIN",
        ),
        ("accept4(7, {sa_family=AF_INET, x=[1, 2]}, [16], SOCK_CLOEXEC) = 9", "accept4(3) = 4"),
        (
            r#"recvfrom(9, "a, \"b\n", 1024, 0, NULL, NULL) = 6"#,
            r#"recvfrom(4, "a, \"b\n", 1024) = 6"#,
        ),
        (r#"sendto(9, "xx"..., 90, 0, NULL, 0) = 30"#, r#"sendto(4, "xx"..., 90) = FEWER"#),
        (r#"sendto(9, "x"..., 60, 0, NULL, 0) = 60"#, "sendto(4, ..., REST) = REST"),
        (r#"sendto(9, "x"..., 60, 0, NULL, 0) = 60"#, r#"sendto(4, "x"..., 60) = 60"#),
        (
            "pselect6(10, [7 9], NULL, NULL, NULL, NULL) = 1 (in [9])",
            "select(5, [3 4], [], [], NULL) = 1 (in [4])",
        ),
        ("accept4(7, 0x7ffc, [16], SOCK_CLOEXEC) = -1 EAGAIN (Resource)", "accept4(3) = -1 EAGAIN"),
        ("close(9)          = 0", "close(4) = 0"),
        ("epoll_create1(EPOLL_CLOEXEC) = 5", "epoll_create1() = 4"),
        (
            "epoll_ctl(5, EPOLL_CTL_ADD, 7, {events=EPOLLIN, data={u32=7, u64=1397453509}}) = 0",
            "epoll_ctl(4, EPOLL_CTL_ADD, 3, {EPOLLIN, 3}) = 0",
        ),
        (
            "epoll_wait(5, [{events=EPOLLIN|EPOLLET, data={u32=7, u64=7}}], 1023, -1) = 1",
            "epoll_wait(4, [{EPOLLIN|EPOLLET, 3}], -1) = 1",
        ),
        ("epoll_wait(5, [], 1023, 250) = 0", "epoll_wait(4, [], TIMEOUT) = 0"),
        (
            "poll([{fd=7, events=POLLIN}, {fd=5, events=0}], 2, 0) = 1 ([{fd=7, revents=POLLIN}])",
            "poll([{3, POLLIN}, {4, 0}], 0) = 1 [{3, POLLIN}]",
        ),
        ("shutdown(7, SHUT_WR) = 0", "shutdown(3, SHUT_WR) = 0"),
    ] {
        assert_eq!(write(recorded).as_deref(), Some(shown), "{recorded}");
    }
    for left_out in [
        "accept4(7, <unfinished ...>) = ?",
        "close(6) = 0",
        "+++ exited with 0 +++",
        "epoll_wait(5, 0x7ffc, 1023, -1) = -1 EINTR (Interrupted system call)",
    ] {
        assert_eq!(write(left_out), None, "{left_out}");
    }
}

#[test]
fn repeated_eagains_are_written_once_with_an_ellipsis() {
    let lines =
        ["a = 1", "b = -1 EAGAIN", "c = -1 EAGAIN", "b = -1 EAGAIN", "a = 1", "b = -1 EAGAIN"];
    let expected = ["a = 1", "b = -1 EAGAIN …", "c = -1 EAGAIN", "a = 1", "b = -1 EAGAIN"];
    assert_eq!(collapse(lines.map(str::to_owned).to_vec()), expected);
}

#[test]
fn repeated_groups_of_calls_are_written_once_with_an_ellipsis() {
    let turns = |count: usize| ["wait", "recv", "send"].repeat(count);
    let lines = [vec!["accept"], turns(9), vec!["wait", "recv"], turns(2)].concat();
    let expected = ["accept", "wait …", "recv …", "send …", "wait", "recv"];
    let expected = [&expected[..], &turns(2)].concat();
    let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    assert_eq!(collapse_groups(&owned(&lines)), expected);
    let ends_within = [turns(9), vec!["wait"]].concat();
    assert_eq!(collapse_groups(&owned(&ends_within)), ["wait …", "recv …", "send …"]);
}
