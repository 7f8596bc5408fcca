//! Descriptors: none is inherited, none leaks, and what happens when they run out (EMFILE).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::overload_limits::ACCEPT_RETRY_MS;

use super::TCP;
use crate::common::{
    Ending, Program, TIMEOUT, check_echo, check_end, connect, pattern, reactor_in_shell, reset,
    retry_interrupted,
};

// pitfall: 11
#[test]
#[cfg(target_os = "linux")]
fn every_descriptor_is_close_on_exec() {
    // Each descriptor that the program has opened is close-on-exec: 02000000 (octal) among its
    // flags in /proc/PID/fdinfo. The standard streams, and those that the test has as well, are
    // inherited from the test.
    let directory = env!("CARGO_MANIFEST_DIR");
    let program = Program::start(&[
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--root",
        directory,
    ]);
    let mut stream = connect(program.tcp());
    check_echo(&mut stream, b"hello");
    let opened = |pid: &str| -> Vec<(String, std::path::PathBuf)> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(Result::unwrap);
        let named = entries.map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_link(entry.path()))
        });
        named.filter_map(|(number, target)| Some((number, target.ok()?))).collect()
    };
    let own = opened("self");
    let pid = program.pid().to_string();
    let mut checked = 0;
    let is_its_own = |number: &str, target: &std::path::PathBuf| {
        number.parse::<u32>().unwrap() > 2 && own.iter().all(|(_, ours)| ours != target)
    };
    for (number, target) in
        opened(&pid).into_iter().filter(|(number, target)| is_its_own(number, target))
    {
        let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert_ne!(flags & 0o2_000_000, 0, "descriptor {number}, {}: {text}", target.display());
        checked += 1;
    }
    // Three listening or bound sockets, one connection, both ends of the stop signal, and the root
    // directory.
    assert!(checked >= 7, "{checked} descriptors");
}

/// Starts the program with `arguments` and a limit of 64 open files.
#[cfg(target_os = "linux")]
fn start_with_64_files(arguments: &[&str]) -> Program {
    let mut command = reactor_in_shell("ulimit -n 64 && exec \"$@\"");
    let mut program = Program::spawn(command.args(arguments));
    program.read_addresses(arguments);
    program
}

/// Returns the counter `name` from the line of statistics that the program logs at its end.
#[cfg(target_os = "linux")]
fn counted(ending: &Ending, name: &str) -> u64 {
    let stats = ending.stderr.iter().find(|line| line.contains("Stats {")).unwrap();
    let from =
        stats.split([' ', '{']).skip_while(|word| *word != format!("{name}:")).nth(1).unwrap();
    from.trim_end_matches([',', '}']).parse().unwrap()
}

// pitfall: 30, 31, 70
// rule: no-descriptors
#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_connects_wait_in_backlog_and_are_served_later() {
    // With a limit of 64 open files, 200 peers connect and send. Some are served. The others wait
    // in the backlog, and cost neither turns nor log lines. They are served when earlier peers
    // close. None is refused.
    let program = start_with_64_files(&["--tcp", "127.0.0.1:0", "--log", "debug"]);
    let began = Instant::now();
    let mut peers: Vec<TcpStream> = (0..200).map(|_| connect(program.tcp())).collect();
    peers.iter_mut().for_each(|peer| peer.write_all(b"first").unwrap());
    program.wait_for_log("accept paused");
    // For two seconds the last of them receives nothing, neither a reply nor end of file.
    peers[199].set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let error = retry_interrupted(|| peers[199].read(&mut [0; 1])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    peers[199].set_read_timeout(Some(TIMEOUT)).unwrap();
    for (number, mut peer) in peers.into_iter().enumerate() {
        // They are accepted in the order in which they connected. Each close frees a descriptor for
        // the next.
        let mut reply = [0; 5];
        peer.read_exact(&mut reply).unwrap_or_else(|error| panic!("number {number}: {error}"));
        assert_eq!(&reply, b"first");
        check_echo(&mut peer, b"second");
    }
    let mut last = connect(program.tcp());
    check_echo(&mut last, b"third");
    drop(last);
    let line = program.wait_for_log("accept overload over");
    let has_count = |count: u64, what: &str| line.contains(&format!(" {count} {what}"));
    assert!(line.contains("INFO") && has_count(0, "idle connections evicted"), "{line}");
    let took = began.elapsed();
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let overload_lines = ending
        .stderr
        .iter()
        .filter(|line| line.contains("accept paused") || line.contains("accept overload over"));
    assert_eq!(
        overload_lines.count(),
        2,
        "one line when accepting pauses, one when the overload is over: {:?}",
        ending.stderr
    );
    let count = |name: &str| counted(&ending, name);
    assert_eq!(
        (count("accepted"), count("connections"), count("evicted")),
        (201, 0, 0),
        "{:?}",
        ending.stderr
    );
    assert!(has_count(count("accept_pauses"), "pauses"), "{line}");
    // Each connection takes a few turns, the signal an empty one, and accepting is retried ten
    // times a second. A loop that spins takes hundreds of thousands of turns in these seconds.
    let turns_max = 8 * 201 + u64::try_from(took.as_millis()).unwrap() / ACCEPT_RETRY_MS + 20;
    assert!(
        count("turns") < turns_max && count("empty_turns") <= 2,
        "at most {turns_max} turns: {:?}",
        ending.stderr
    );
}

// pitfall: 241
#[test]
fn listener_that_closes_at_a_stop_reports_no_end_of_its_overload() {
    // There is room for one connection, so the second waits in the backlog. During the stop the
    // first ends, the second is accepted and ends, too, and the listener closes. That is the end of
    // the listener, and nothing says that there would be room again.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--max-connections", "1"]);
    let mut first = connect(program.tcp());
    check_echo(&mut first, b"first");
    let mut second = connect(program.tcp());
    second.write_all(b"second").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    program.wait_for_log("accept paused");
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    check_end(second, b"second");
    let is_over = |line: &String| line.contains("accept overload over");
    assert!(!ending.stderr.iter().any(is_over), "{:?}", ending.stderr);
}

// pitfall: 30
#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_only_idle_http_connections_are_evicted() {
    // 200 HTTP clients keep their connections alive after a request, with descriptors for only some
    // 50. Every one is served, because the connections that have been idle longest are evicted.
    // Before them, an echo peer has connected that is idle all the time, and a client that has sent
    // half a request. Neither is evicted.
    let program =
        start_with_64_files(&["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "debug"]);
    let request = b"GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let read_response = |stream: &mut TcpStream| {
        let mut response = Vec::new();
        let mut byte = [0];
        while !response.ends_with(b"Hello, World!") {
            stream
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error} after {}", response.escape_ascii()));
            response.push(byte[0]);
        }
    };
    let mut echoed = connect(program.tcp());
    check_echo(&mut echoed, b"first");
    let mut busy = connect(program.http());
    busy.write_all(&request[..9]).unwrap();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = connect(program.http());
            client.write_all(request).unwrap();
            read_response(&mut client);
            client
        })
        .collect();
    busy.write_all(&request[9..]).unwrap();
    read_response(&mut busy);
    check_echo(&mut echoed, b"second");
    // The first of them have been evicted, and read end of file and no reset.
    clients.into_iter().take(100).for_each(|client| check_end(client, b""));
    program.wait_for_log("accept overload over");
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let evicted = counted(&ending, "evicted");
    assert!((140..=200).contains(&evicted), "{evicted} evicted");
    assert_eq!(
        counted(&ending, "closed_finished"),
        counted(&ending, "closed"),
        "{:?}",
        ending.stderr
    );
    let pauses = ending.stderr.iter().filter(|line| line.contains("accept paused")).count();
    let recoveries =
        ending.stderr.iter().filter(|line| line.contains("accept overload over")).count();
    // One overload, unless this machine is so slow that it recovered for a while in between.
    assert!(pauses == recoveries && (1..=3).contains(&pauses), "{:?}", ending.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn thousand_connections_leak_no_descriptor() {
    // They close in every way there is. Then further exchanges give the program time to handle
    // that. When such an exchange has read end of file, the descriptor of its own connection is
    // closed already.
    let program = Program::start(&TCP);
    let exchange = || {
        let mut stream = connect(program.tcp());
        check_echo(&mut stream, b"hello");
        stream.shutdown(Shutdown::Write).unwrap();
        check_end(stream, b"");
    };
    exchange();
    let before = program.descriptors();
    for _ in 0..250 {
        exchange();
        drop(connect(program.tcp()));
        reset(connect(program.tcp()));
        connect(program.tcp()).write_all(&pattern(22, 10_000)).unwrap();
    }
    let mut after = program.descriptors();
    for _ in 0..1000 {
        if after == before {
            return;
        }
        exchange();
        after = program.descriptors();
    }
    panic!("{before} descriptors before, {after} after");
}
