//! Descriptors: none is inherited, none is left behind, and what happens when they run out.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::TCP;
use crate::common::{
    Ending, PATIENCE, Program, check_echo, check_end, connect, pattern, persist, reactor, reset,
};
use mio_reactor::limits::ACCEPT_RETRY_MS;

#[test]
#[cfg(target_os = "linux")]
fn no_descriptor_is_inherited_by_another_program() {
    // Each one that it has opened is marked close-on-exec, which is 02000000 (octal) among its flags. The standard streams
    // and what we have too, it has from us.
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
    check_echo(&mut stream, b"One of them is mine.");
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
    // Three sockets that serve, one that is served, the two ends of the bell's rope, and the root of the files.
    assert!(checked >= 7, "{checked} descriptors");
}

/// Starts the program with `arguments` where no more than 64 files may be open.
#[cfg(target_os = "linux")]
fn start_with_64_files(arguments: &[&str]) -> Program {
    let mut command = std::process::Command::new("sh");
    let path = reactor().get_program().to_owned();
    command
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(path)
        .args(arguments)
        .env_remove("RUST_LOG");
    let mut program = Program::spawn(&mut command);
    program.read_addresses(arguments);
    program
}

/// The counter `name` in the line of statistics that the program logs at its end.
#[cfg(target_os = "linux")]
fn counted(ending: &Ending, name: &str) -> u64 {
    let stats = ending.stderr.iter().find(|line| line.contains("Stats {")).unwrap();
    let from =
        stats.split([' ', '{']).skip_while(|word| *word != format!("{name}:")).nth(1).unwrap();
    from.trim_end_matches([',', '}']).parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn when_descriptors_run_out_it_serves_those_it_has_and_later_the_others() {
    // It may have 64 files open, and 200 peers come and speak. Some are served; the others wait, and cost neither turns nor
    // lines of the log. When those who have been served leave, the others are. Nobody is turned away.
    let program = start_with_64_files(&["--tcp", "127.0.0.1:0", "--log", "debug"]);
    let began = Instant::now();
    let mut peers: Vec<TcpStream> = (0..200).map(|_| connect(program.tcp())).collect();
    peers.iter_mut().for_each(|peer| peer.write_all(b"first").unwrap());
    program.logged("accept paused");
    // For two seconds the last of them hears nothing, neither an answer nor an end.
    peers[199].set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let error = persist(|| peers[199].read(&mut [0; 1])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    peers[199].set_read_timeout(Some(PATIENCE)).unwrap();
    for (number, mut peer) in peers.into_iter().enumerate() {
        // They are let in in the order in which they came: whoever leaves makes room for the next.
        let mut reply = [0; 5];
        peer.read_exact(&mut reply).unwrap_or_else(|error| panic!("number {number}: {error}"));
        assert_eq!(&reply, b"first");
        check_echo(&mut peer, b"And again, although there is no room for anybody else.");
    }
    let mut last = connect(program.tcp());
    check_echo(&mut last, b"There is room again.");
    drop(last);
    let line = program.logged("accept overload over");
    let told = |count: u64, what: &str| line.contains(&format!(" {count} {what}"));
    assert!(line.contains("INFO") && told(0, "idle connections evicted"), "{line}");
    let took = began.elapsed();
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let of_the_episode = ending
        .stderr
        .iter()
        .filter(|line| line.contains("accept paused") || line.contains("accept overload over"));
    assert_eq!(
        of_the_episode.count(),
        2,
        "one line at its beginning, one at its end: {:?}",
        ending.stderr
    );
    let count = |name: &str| counted(&ending, name);
    assert_eq!(
        (count("accepted"), count("connections"), count("evicted")),
        (201, 0, 0),
        "{:?}",
        ending.stderr
    );
    assert!(told(count("accept_pauses"), "pauses"), "{line}");
    // Each conversation is worth a few turns, the signal an empty one, and it looks ten times a second for room; a loop that
    // spins takes hundreds of thousands in these seconds.
    let turns_max = 8 * 201 + u64::try_from(took.as_millis()).unwrap() / ACCEPT_RETRY_MS + 20;
    assert!(
        count("turns") < turns_max && count("empty_turns") <= 2,
        "at most {turns_max} turns: {:?}",
        ending.stderr
    );
}

#[test]
#[cfg(target_os = "linux")]
fn when_descriptors_run_out_idle_http_connections_give_way_and_no_others() {
    // 200 clients of HTTP keep their connections after a request, where only some 50 can be held. Every one is served, since
    // those who have been idle longest give way. Before them came a peer of echo, which is idle all the time, and a client
    // that has sent half a request: neither has to go.
    let program =
        start_with_64_files(&["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "debug"]);
    let request = b"GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let read_answer = |stream: &mut TcpStream| {
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"Hello, World!") {
            stream
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error} after {}", answer.escape_ascii()));
            answer.push(byte[0]);
        }
    };
    let mut echoed = connect(program.tcp());
    check_echo(&mut echoed, b"I stay.");
    let mut busy = connect(program.http());
    busy.write_all(&request[..9]).unwrap();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = connect(program.http());
            client.write_all(request).unwrap();
            read_answer(&mut client);
            client
        })
        .collect();
    busy.write_all(&request[9..]).unwrap();
    read_answer(&mut busy);
    check_echo(&mut echoed, b"I am still here.");
    // The first of them have had to go, and saw an end and no reset.
    clients.into_iter().take(100).for_each(|client| check_end(client, b""));
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let evicted = counted(&ending, "evicted");
    assert!((140..=200).contains(&evicted), "{evicted} gave way");
    assert_eq!(
        counted(&ending, "closed_finished"),
        counted(&ending, "closed"),
        "{:?}",
        ending.stderr
    );
    let beginnings = ending.stderr.iter().filter(|line| line.contains("accept paused")).count();
    let ends = ending.stderr.iter().filter(|line| line.contains("accept overload over")).count();
    // One, unless this machine is so slow that there was room for a while in between.
    assert!(beginnings == ends && (1..=3).contains(&beginnings), "{:?}", ending.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_connections_leave_no_descriptor_behind() {
    // They leave in every way there is. Then one exchange after the other gives it the time to notice; when such a one
    // has seen its end, its own descriptor is closed already.
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
