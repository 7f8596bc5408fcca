//! When descriptors run out, or the root cannot be opened.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::{Program, check_echo, connect, connect_narrow, pattern, reactor, reset};
use super::{MIB, Place, ask, check_bytes_of, get, read_answer};

#[test]
#[cfg(target_os = "linux")]
fn when_descriptors_run_out_files_are_sent_all_the_same_and_in_the_end_one_line_says_that_they_are_not()
 {
    // It may have 32 files open, of which it keeps an eighth for files; peers of echo take all the others. Four who have begun to ask
    // before want a large file, and take it slowly.
    let place = Place::new("descriptors");
    place.file("a.txt", b"hello");
    let large = place.file("large.bin", &pattern(4, 16 * MIB));
    let root = place.root();
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
        read_answer(stream, false).status().to_owned()
    };
    let mut slow: Vec<TcpStream> = (0..4).map(|_| begin("large.bin")).collect();
    let (mut late, mut quick) = (begin("large.bin"), begin("nothing"));
    // All of these have been accepted when the last one is answered. Who has begun to ask is not idle, and keeps its place.
    assert_eq!(end(&mut quick), "404");
    quick.read_exact(&mut [0; "404 Not Found\n".len()]).unwrap();
    quick.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n").unwrap();
    // (What the test's own process has left it from 32 on does not count.)
    let taken = || {
        let names = fs::read_dir(format!("/proc/{}/fd", program.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().parse::<u32>().unwrap() < 32).count()
    };
    let mut peers = Vec::new();
    while taken() < 32 {
        let mut peer = connect(program.tcp());
        check_echo(&mut peer, b"I take the place of a file.");
        peers.push(peer);
    }

    // Files that are sent at once need one descriptor, for a moment.
    quick.write_all(b"\r\n").unwrap();
    assert_eq!(read_answer(&mut quick, true).body, b"hello");
    let mut ask = || {
        quick.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_answer(&mut quick, true).status().to_owned()
    };
    (0..100).for_each(|_| assert_eq!(ask(), "200"));
    // Then there is nothing left.
    slow.iter_mut().for_each(|stream| assert_eq!(end(stream), "200"));
    assert_eq!(end(&mut late), "503");
    (0..10).for_each(|_| assert_eq!(ask(), "503"));
    let line = program.logged("opening files failed");
    assert!(line.contains("WARN"), "{line}");
    // A file that has been sent leaves its descriptor to the next one, and not to whoever waits at the door.
    let mut at_the_door = connect(program.tcp());
    check_bytes_of(&large, &mut slow[0]);
    let several_looks_at_the_door =
        Instant::now() + Duration::from_millis(5 * mio_reactor::limits::ACCEPT_RETRY_MS);
    while Instant::now() < several_looks_at_the_door {
        assert_eq!(ask(), "200");
    }
    drop(peers);
    check_echo(&mut at_the_door, b"Now there is room for me.");

    drop((slow, late, quick, at_the_door));
    let ending = program.stop();
    let lines = ending.stderr.iter().filter(|line| line.contains("opening files failed")).count();
    assert!((1..=2).contains(&lines), "{:?}", ending.stderr); // two, if this takes more than ten seconds
}

#[test]
#[cfg(target_os = "linux")]
fn no_answer_leaves_its_file_open() {
    // Complete ones, heads alone, conditions, refusals; and some of which the client has had enough.
    let place = Place::new("leaks");
    place.file("a.txt", b"hello");
    place.file("sub/b.txt", b"hello");
    File::create(place.root().join("large.bin")).unwrap().set_len(64 * MIB as u64).unwrap();
    let program = place.serve(&[]);
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
            ask(program.http(), line, "");
            ask(program.http(), line, &format!("If-Modified-Since: {date}\r\n"));
        }
        let mut stream = connect(program.http());
        stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap();
        read_answer(&mut stream, false);
        reset(stream);
    }
    // It is told of the last reset no later than of whoever connects behind it.
    for _ in 0..1000 {
        get(program.http(), "/a.txt");
        if program.descriptors() == before {
            return;
        }
    }
    panic!("{before} descriptors before, {} after", program.descriptors());
}

#[test]
fn a_root_that_cannot_be_served_is_told_in_one_line_with_status_1() {
    let place = Place::new("no-root");
    for root in [place.0.join("nothing"), place.0.join("secret")] {
        let root = root.to_str().unwrap();
        let ending =
            Program::spawn(reactor().args(["--http", "127.0.0.1:0", "--root", root])).wait();
        assert_eq!(ending.status.code(), Some(1), "{root}");
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: root {root}: ")), "{line}");
    }
}
