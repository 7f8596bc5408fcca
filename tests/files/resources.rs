//! Descriptors: the reserve for files, what holds one open, and a root that cannot be opened.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::{Program, check_echo, connect, connect_narrow, pattern, reactor, reset};
use super::{MIB, TempDir, check_bytes_of, get, read_response, request};

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
    let arguments =
        ["--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--root", root.to_str().unwrap()];
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 32 && exec \"$0\" \"$@\""])
        .arg(reactor().get_program())
        .args(arguments);
    let mut program = Program::spawn(command.env_remove("RUST_LOG"));
    program.read_addresses(&arguments);
    let begin = |name: &str| {
        let mut stream = connect_narrow(program.http());
        write!(stream, "GET /{name} HTTP/1.1\r\nHost: a\r\n").unwrap();
        stream
    };
    let end = |stream: &mut TcpStream| {
        stream.write_all(b"\r\n").unwrap();
        read_response(stream, false).status().to_owned()
    };
    let mut slow: Vec<TcpStream> = (0..4).map(|_| begin("large.bin")).collect();
    let (mut late, mut quick) = (begin("large.bin"), begin("nothing"));
    // All of these have been accepted once the last one has its response. A connection with a
    // request in progress is not idle, so it is not evicted.
    assert_eq!(end(&mut quick), "404");
    quick.read_exact(&mut [0; "404 Not Found\n".len()]).unwrap();
    quick.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n").unwrap();
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
    quick.write_all(b"\r\n").unwrap();
    assert_eq!(read_response(&mut quick, true).body, b"hello");
    let mut request_status = || {
        quick.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_response(&mut quick, true).status().to_owned()
    };
    (0..100).for_each(|_| assert_eq!(request_status(), "200"));
    // The slow clients use up the reserve.
    slow.iter_mut().for_each(|stream| assert_eq!(end(stream), "200"));
    assert_eq!(end(&mut late), "503");
    (0..10).for_each(|_| assert_eq!(request_status(), "503"));
    let line = program.wait_for_log("opening files failed");
    assert!(line.contains("WARN"), "{line}");
    // The descriptor of a file that has been sent goes to the next file, not to a connection in the
    // backlog.
    let mut in_backlog = connect(program.tcp());
    check_bytes_of(&large, &mut slow[0]);
    let several_accept_retries =
        Instant::now() + Duration::from_millis(5 * mio_reactor::limits::ACCEPT_RETRY_MS);
    while Instant::now() < several_accept_retries {
        assert_eq!(request_status(), "200");
    }
    drop(peers);
    check_echo(&mut in_backlog, b"This connection is accepted now.");

    drop((slow, late, quick, in_backlog));
    let ending = program.stop();
    let lines = ending.stderr.iter().filter(|line| line.contains("opening files failed")).count();
    // Two, if the test takes more than ten seconds.
    assert!((1..=2).contains(&lines), "{:?}", ending.stderr);
}

// pitfall: 99
#[test]
#[cfg(target_os = "linux")]
fn no_response_leaves_its_file_open() {
    // Whole responses, heads alone, conditional requests, errors, and responses that the client
    // resets.
    let temp = TempDir::new("leaks");
    temp.file("a.txt", b"hello");
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
    for root in [temp.0.join("nothing"), temp.0.join("secret")] {
        let root = root.to_str().unwrap();
        let ending =
            Program::spawn(reactor().args(["--http", "127.0.0.1:0", "--root", root])).wait();
        assert_eq!(ending.status.code(), Some(1), "{root}");
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: root {root}: ")), "{line}");
    }
}
