//! Descriptors: the reserve for files, what holds one open, and a root that cannot be opened.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use super::common::{
    Program, check_echo, connect, connect_narrow, pattern, reactor, reactor_in_shell,
    reactor_through, reset,
};
use super::{MIB, TempDir, check_bytes_of, get, read_response, request};

/// The beginning of a request for a small file: all but the empty line at its end.
const BEGUN: &str = "GET /a.txt HTTP/1.1\r\nHost: a\r\n";

// pitfall: 99
#[test]
#[cfg(target_os = "linux")]
fn files_are_opened_from_the_reserve_when_descriptors_run_out() {
    // The program may have 32 descriptors, of which it reserves an eighth for files. Echo clients
    // take all the others. Four clients that have begun a request before that want a large file,
    // and read it slowly.
    let temp = TempDir::new("descriptors");
    temp.file("a.txt", b"hello");
    let large = temp.file("large.bin", &pattern(4, 16 * MIB));
    let root = temp.root();
    let arguments = [
        ["--http", "127.0.0.1:0"],
        ["--tcp", "127.0.0.1:0"],
        ["--root", root.to_str().unwrap()],
        // The test may be delayed for seconds while a request is begun, or a response half read.
        ["--head-timeout", "600s"],
        ["--write-timeout", "600s"],
    ]
    .concat();
    let mut command = reactor_in_shell("ulimit -n 32 && exec \"$@\"");
    let started = Instant::now();
    let mut program = Program::spawn(command.args(&arguments));
    program.read_addresses(&arguments);
    let begin = |name: &str| {
        let mut stream = connect_narrow(program.http());
        write!(stream, "GET /{name} HTTP/1.1\r\nHost: a\r\n").unwrap();
        stream
    };
    // Ends the request of a client, and begins its next one with the same bytes. So no client is
    // ever idle: an idle one may be evicted once the descriptors are used up.
    let end = |stream: &mut TcpStream, has_body: bool| {
        stream.write_all(["\r\n", BEGUN].concat().as_bytes()).unwrap();
        read_response(stream, has_body)
    };
    let mut slow: Vec<TcpStream> = (0..4).map(|_| begin("large.bin")).collect();
    let (mut late, mut quick) = (begin("large.bin"), begin("nothing"));
    // All of these have been accepted once the last one has its response.
    assert_eq!(end(&mut quick, true).status(), "404");
    // (Descriptors from 32 up, which the program has inherited from the test, do not count.)
    let descriptors_in_use = || {
        let names = fs::read_dir(format!("/proc/{}/fd", program.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().parse::<u32>().unwrap() < 32).count()
    };
    let mut peers = Vec::new();
    while descriptors_in_use() < 32 {
        let mut peer = connect(program.tcp());
        check_echo(&mut peer, b"This connection takes a descriptor.");
        peers.push(peer);
    }

    // Files that are sent at once need one descriptor, for a short time.
    (0..100).for_each(|_| assert_eq!(end(&mut quick, true).body, b"hello"));
    // The slow clients use up the reserve.
    slow.iter_mut().for_each(|stream| assert_eq!(end(stream, false).status(), "200"));
    assert_eq!(end(&mut late, true).status(), "503");
    (0..10).for_each(|_| assert_eq!(end(&mut quick, true).status(), "503"));
    let line = program.wait_for_log("opening files failed");
    assert!(line.contains("WARN"), "{line}");
    // The descriptor of a file that has been sent goes to the next file, not to a connection in the
    // backlog: the listener tries to accept it every 100 ms.
    let mut in_backlog = connect(program.tcp());
    check_bytes_of(&large, &mut slow[0]);
    let after_several_tries = Instant::now() + Duration::from_millis(500);
    while Instant::now() < after_several_tries {
        assert_eq!(end(&mut quick, true).status(), "200");
    }
    drop(peers);
    check_echo(&mut in_backlog, b"This connection is accepted now.");

    drop((slow, late, quick, in_backlog));
    let ending = program.stop();
    let lines = ending.stderr.iter().filter(|line| line.contains("opening files failed")).count();
    let lines_max = 1 + started.elapsed().as_secs() / 10; // one in ten seconds
    assert!(lines >= 1 && lines as u64 <= lines_max, "{:?}", ending.stderr);
}

// pitfall: 99, 154
#[test]
#[cfg(target_os = "linux")]
fn files_in_progress_leave_other_listeners_their_descriptors() {
    let temp = TempDir::new("shared-descriptors");
    temp.file("large.bin", &pattern(4, 16 * MIB));
    let root = temp.root();
    let arguments = [
        ["--http", "127.0.0.1:0"],
        ["--tcp", "127.0.0.1:0"],
        ["--root", root.to_str().unwrap()],
        ["--write-timeout", "600s"],
    ]
    .concat();
    let mut command = reactor_in_shell("ulimit -n 64 && exec \"$@\"");
    let mut program = Program::spawn(command.args(&arguments));
    program.read_addresses(&arguments);
    // Each has begun a request, so none is idle, and none has a file yet.
    let mut slow: Vec<TcpStream> = (0..25).map(|_| connect_narrow(program.http())).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n").unwrap();
    }
    let statuses: Vec<String> = slow
        .iter_mut()
        .map(|stream| {
            stream.write_all(b"\r\n").unwrap();
            read_response(stream, false).status().to_string()
        })
        .collect();
    assert!(statuses.iter().all(|status| status == "200" || status == "503"), "{statuses:?}");
    assert!(statuses.contains(&"503".to_string()), "there is no descriptor for so many files");
    // A quarter of the descriptors is split between the two listeners.
    let mut echo: Vec<TcpStream> = (0..6).map(|_| connect(program.tcp())).collect();
    echo.iter_mut().for_each(|stream| check_echo(stream, b"Hello world"));
}

// pitfall: 99
#[test]
#[cfg(target_os = "linux")]
fn no_response_leaves_its_file_open() {
    // Whole responses, heads alone, conditional requests, errors, and responses that the client
    // resets.
    let temp = TempDir::new("leaks");
    let path = temp.file("a.txt", b"hello");
    let a_minute_ago = SystemTime::now() - Duration::from_secs(60);
    File::options().write(true).open(path).unwrap().set_modified(a_minute_ago).unwrap();
    temp.file("sub/b.txt", b"hello");
    File::create(temp.root().join("large.bin")).unwrap().set_len(64 * MIB as u64).unwrap();
    let program = temp.serve(&[]);
    let date = get(program.http(), "/a.txt").field("Last-Modified").unwrap().to_owned();
    let before = program.descriptors();
    for _ in 0..20 {
        for line in [
            "GET /a.txt",
            "HEAD /a.txt",
            "GET /sub",
            "GET /sub/",
            "HEAD /large.bin",
            "GET /nothing",
        ] {
            request(program.http(), line, "");
            request(program.http(), line, &format!("If-Modified-Since: {date}\r\n"));
        }
        let mut stream = connect(program.http());
        stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap();
        read_response(&mut stream, false);
        reset(stream);
    }
    // The program sees the last reset no later than a connection that is made after it.
    for _ in 0..1000 {
        get(program.http(), "/a.txt");
        if program.descriptors() == before {
            return;
        }
    }
    panic!("{before} descriptors before, {} after", program.descriptors());
}

#[test]
fn unusable_root_is_one_error_line_and_status_1() {
    let temp = TempDir::new("no-root");
    let fifo = temp.0.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for root in [temp.0.join("nothing"), temp.0.join("secret"), fifo] {
        let root = root.to_str().unwrap();
        let ending =
            Program::spawn(reactor().args(["--http", "127.0.0.1:0", "--root", root])).wait();
        assert_eq!(ending.status.code(), Some(1), "{root}");
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: root {root}: ")), "{line}");
    }
}

// pitfall: 126
#[test]
#[cfg(target_os = "linux")]
fn root_without_search_permission_is_an_error_at_start() {
    // The program runs as a user who is not root, since root may search any directory.
    use std::os::unix::fs::PermissionsExt;

    let temp = TempDir::new("unsearchable");
    temp.file("a.txt", b"hello");
    let other_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let as_other_user = || reactor_through(&other_user);
    let may_run = as_other_user().arg("--version").output();
    if !may_run.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: setpriv(1) cannot run the program as another user");
        return;
    }
    let root = temp.root();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o600)).unwrap();
    let root = root.to_str().unwrap();
    let ending = Program::spawn(as_other_user().args(["--http", "0", "--root", root])).wait();
    assert_eq!((ending.status.code(), ending.stdout.len()), (Some(1), 0), "{:?}", ending.stderr);
    assert_eq!(ending.stderr, [format!("reactor: root {root}: Permission denied (os error 13)")]);
}
