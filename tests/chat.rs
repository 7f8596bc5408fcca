//! The chat room of docs/examples over real sockets: joining, leaving, and users who do not read.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/chat.rs"]
mod chat;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use common::{
    Program, TIMEOUT, any_port, be_server, check_layered, connect, connect_narrow, is_layered,
    listen_layered, reset,
};
use mio_reactor::{Limits, Reactor};

/// Runs a room in a thread of its own, which ends with the test. Returns its address.
fn open_room() -> SocketAddr {
    open_room_for(20)
}

fn open_room_for(connections_max: usize) -> SocketAddr {
    let (send_address, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let address = listen(&mut reactor, connections_max).unwrap();
        send_address.send(address).unwrap();
        reactor.run().unwrap();
    });
    address.recv().unwrap()
}

fn listen(reactor: &mut Reactor, connections_max: usize) -> io::Result<SocketAddr> {
    if is_layered() {
        listen_layered(reactor, chat::room(connections_max))
    } else {
        chat::listen(reactor, any_port(), connections_max)
    }
}

/// A user in the room.
struct User(BufReader<TcpStream>);

impl User {
    fn join(stream: TcpStream, name: &str) -> User {
        let mut user = User(BufReader::new(stream));
        assert_eq!(user.read(), "* what is your name?");
        user.write(name);
        assert!(user.read().starts_with(&format!("* welcome, {name}. ")));
        user
    }

    fn write(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// Writes `lines`, and waits until the room has handled them.
    fn write_and_wait(&mut self, lines: &str) {
        self.0.get_mut().write_all(format!("{lines}/who\n").as_bytes()).unwrap();
        while !self.read().starts_with("* here are: ") {}
    }

    /// Sends a FIN, and waits until the room closes the connection.
    fn leave(mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
        self.0.read_to_end(&mut Vec::new()).unwrap();
    }

    /// Reads the next line.
    fn read(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap_or_else(|| panic!("EOF after {line:?}")).to_owned()
    }
}

#[test]
fn room_inside_a_layer_passes_the_same_tests() {
    check_layered("room_inside_a_layer_passes_the_same_tests");
}

#[test]
fn each_line_reaches_all_other_users() {
    let address = open_room();
    let mut ada = User::join(connect(address), "Ada");
    let mut bob = User::join(connect(address), "Bob");
    assert_eq!(ada.read(), "* Bob has joined");
    ada.write("hello");
    assert_eq!(bob.read(), "Ada: hello");
    bob.write("/who");
    assert_eq!(bob.read(), "* here are: Ada, Bob. You are Bob.");
    bob.write("he\x1b[2Jllo");
    assert_eq!(ada.read(), "Bob: he[2Jllo", "control characters are removed");

    bob.0.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(ada.read(), "* Bob has left");
    let mut rest = String::new();
    bob.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");

    // A reset sends no line of its own. The next line that is sent reports it.
    let cid = User::join(connect(address), "Cid");
    assert_eq!(ada.read(), "* Cid has joined");
    reset(cid.0.into_inner());
    let mut new_cid = loop {
        // The name is free as soon as the room has noticed the reset.
        let mut stream = BufReader::new(connect(address));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(b"Cid\n").unwrap();
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line.starts_with("* welcome") {
            break User(stream);
        }
    };
    assert_eq!(
        (ada.read().as_str(), ada.read().as_str()),
        ("* disconnected: Cid", "* Cid has joined")
    );
    ada.write("you again");
    assert_eq!(new_cid.read(), "Ada: you again");
}

#[test]
fn name_must_be_valid_and_not_taken() {
    let address = open_room();
    let _ada = User::join(connect(address), "Ada");
    let mut other = User(BufReader::new(connect(address)));
    assert_eq!(other.read(), "* what is your name?");
    for name in ["Ada", "", "a name that is far too long to be read", "* Ada has left", "Ada: hi"] {
        other.write(name);
        assert_eq!(other.read(), "* that name is not available. What is your name?", "{name}");
    }
    other.write("Eve");
    assert_eq!(other.read(), "* welcome, Eve. 2 are here; /who lists them.");
    other.write(&format!("{}\nFay", "x".repeat(100_000)));
    assert_eq!(other.read(), "* line too long");
    let mut rest = String::new();
    other.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "what follows the long line is discarded");
}

#[test]
fn full_room_counts_connections_without_a_name() {
    let address = open_room_for(3);
    let enter = || {
        let mut user = User(BufReader::new(connect(address)));
        let answer = user.read();
        (user, answer)
    };
    let _ada = User::join(connect(address), "Ada");
    let [(bob, _), (mut cid, _)] = [enter(), enter()];
    let (mut dan, answer) = enter();
    assert_eq!(answer, "* the room is full");
    dan.write("Dan");
    assert_eq!(dan.0.read_line(&mut String::new()).unwrap(), 0, "nothing else is sent");
    cid.write("Cid");
    assert_eq!(cid.read(), "* welcome, Cid. 2 are here; /who lists them.");

    // One connection can enter as soon as the room has noticed that another has closed, and then no
    // further one.
    drop((bob, dan));
    let give_up = Instant::now() + TIMEOUT;
    let _eve = loop {
        let (eve, answer) = enter();
        if answer == "* what is your name?" {
            break eve;
        }
        assert!(Instant::now() < give_up, "{answer}");
    };
    assert_eq!(enter().1, "* the room is full");
}

/// What a user missed while it did not read.
struct Missed {
    lines: usize,
    /// The last line that it read before the first that it missed.
    last_before: String,
}

/// Lets `lagging` read all that waits for it, while `writer` writes good mornings until one
/// arrives. Where a line ends with a number, `lagging` must have read so many lines before it, or
/// have been sent that it has missed them. The good mornings are numbered from `first` on.
#[track_caller]
fn check_all_lines_read_or_missed(mut lagging: User, mut writer: User, first: usize) -> Missed {
    let reading = thread::spawn(move || {
        let mut missed = Missed { lines: 0, last_before: String::new() };
        let (mut read, mut last) = (0, String::new());
        loop {
            let line = lagging.read();
            if let Some(count) = line.strip_prefix("* you have missed ") {
                if missed.lines == 0 {
                    missed.last_before = last.clone();
                }
                missed.lines = count.strip_suffix(" lines so far").unwrap().parse().unwrap();
                continue;
            }
            if let Some((_, number)) = line.rsplit_once(" #") {
                let (number, lines) = (number.parse::<usize>().unwrap(), missed.lines);
                assert_eq!(read + lines, number, "{read} read, {lines} missed");
            }
            if line.contains("good morning") {
                return missed;
            }
            read += 1;
            last = line;
        }
    });
    let give_up = Instant::now() + TIMEOUT;
    for number in first.. {
        if reading.is_finished() {
            break;
        }
        assert!(Instant::now() < give_up, "no good morning arrives");
        writer.write_and_wait(&format!("good morning #{number}\n"));
    }
    reading.join().unwrap()
}

#[test]
#[ignore = "the room in a process of its own, which other tests start"]
fn be_a_room() {
    be_server(|reactor, _| listen(reactor, 20));
}

#[test]
fn user_who_does_not_read_misses_lines_and_delays_no_others() {
    // Far more is written than the kernel and the room hold for one connection. All others receive
    // all of it. Then the lagging user reads, and what it has read and missed adds up at each line.
    const LINES: usize = 40_000;
    const AT_A_TIME: usize = 500; // fits into Bob's socket buffers
    let address = open_room();
    let lagging = User::join(connect_narrow(address), "Lagging");
    let mut ada = User::join(connect(address), "Ada");
    let mut bob = User::join(connect(address), "Bob");
    assert_eq!(ada.read(), "* Bob has joined");
    let text = "x".repeat(250);
    for first in (2..LINES).step_by(AT_A_TIME) {
        let numbers = first..first + AT_A_TIME;
        let lines: String = numbers.clone().map(|number| format!("{text} #{number}\n")).collect();
        ada.0.get_mut().write_all(lines.as_bytes()).unwrap();
        for number in numbers {
            assert_eq!(bob.read(), format!("Ada: {text} #{number}"));
        }
    }
    let missed = check_all_lines_read_or_missed(lagging, ada, LINES + 2);
    assert!(missed.lines > LINES / 2, "{} missed", missed.lines);
}

#[test]
#[cfg(unix)]
fn lagging_user_is_probed_again_when_the_notified_users_are_gone() {
    // Ada's lines were too much, so the room would notify her when the lagging user's output is low
    // again. She leaves before that. Bob writes next, so his connection probes; but the room is
    // suspended (SIGSTOP) meanwhile, and he resets at once. Cid's connection probes again.
    let (room, address) = Program::start_server("be_a_room", "");
    let lagging = User::join(connect_narrow(address), "Lagging");
    let mut ada = User::join(connect(address), "Ada");
    let mut bob = User::join(connect(address), "Bob");
    for _ in 0..10 {
        ada.write_and_wait(&format!("{}\n", "x".repeat(500)).repeat(1000));
        bob.write_and_wait("");
    }
    ada.leave();
    room.while_suspended(|| {
        bob.write("is it still lagging?");
        reset(bob.0.into_inner());
    });
    let cid = User::join(connect(address), "Cid");
    let other_lines = [
        "Ada has joined",
        "Bob has joined",
        "Ada has left",
        "is it still lagging?",
        "disconnected: Bob",
        "Cid has joined",
    ];
    check_all_lines_read_or_missed(lagging, cid, other_lines.len() + 10 * 1000);
}

/// Makes eight users lag while `scenario` runs, which returns the last writer and the number of
/// lines written. The room's memory must not have grown much. Then the last of the eight reads, and
/// must have read each line, or have been sent that it has missed it.
#[cfg(target_os = "linux")]
#[track_caller]
fn check_with_lagging_users(
    scenario: impl FnOnce(&Program, SocketAddr) -> (User, usize),
) -> Missed {
    let (room, address) = Program::start_server("be_a_room", "");
    let names = ["Doc", "Grumpy", "Happy", "Sleepy", "Bashful", "Sneezy", "Dopey", "Snow White"];
    let [others @ .., snow_white] = names.map(|name| User::join(connect_narrow(address), name));
    let before_kib = room.memory_kib("VmRSS");
    let (writer, lines) = scenario(&room, address);
    let grown_kib = room.memory_kib("VmHWM") - before_kib;
    assert!(
        grown_kib < 10 * 1024,
        "{grown_kib} KiB, where as much as connections may hold would be 32 MiB"
    );
    let missed = check_all_lines_read_or_missed(snow_white, writer, lines);
    drop(others);
    missed
}

#[test]
#[cfg(target_os = "linux")]
fn one_of_two_notified_users_may_leave_while_others_lag() {
    // Ada writes and then Bob, but the room is suspended meanwhile, and reads both in one turn. So
    // when the lagging users' output passes the watermark, both are notified. Then Bob leaves, and
    // Ada goes on alone.
    const LINES: usize = 50; // fit into a socket buffer
    const TIMES: usize = 150;
    check_with_lagging_users(|room, address| {
        let mut ada = User::join(connect(address), "Ada");
        let mut bob = User::join(connect(address), "Bob");
        let lines = format!("{}\n", "x".repeat(1000)).repeat(LINES);
        for _ in 0..TIMES {
            room.while_suspended(|| {
                ada.0.get_mut().write_all(lines.as_bytes()).unwrap();
                bob.write("I see");
            });
            ada.write_and_wait("");
            bob.write_and_wait("");
        }
        bob.leave();
        for _ in 0..TIMES {
            ada.write_and_wait(&lines);
        }
        let other_lines = ["Ada has joined", "Bob has joined", "Bob has left"];
        (ada, other_lines.len() + TIMES * (LINES + 1 + LINES))
    });
}

#[test]
#[cfg(target_os = "linux")]
fn leaving_user_is_still_notified_about_its_last_lines() {
    // The room is suspended until a user has written a lot and left, and reads all of it in one
    // turn. If that was too much for the lagging users, only this connection is notified. So the
    // room must know when Ada writes next, and leave them out.
    const LINES: usize = 50; // fit into a socket buffer
    const TIMES: usize = 150;
    let missed = check_with_lagging_users(|room, address| {
        let mut ada = User::join(connect(address), "Ada");
        let lines = format!("{}\n", "x".repeat(1000)).repeat(LINES);
        for _ in 0..TIMES {
            let mut bob = User::join(connect(address), "Bob");
            room.while_suspended(|| {
                bob.0.get_mut().write_all(lines.as_bytes()).unwrap();
                bob.0.get_mut().shutdown(Shutdown::Write).unwrap();
            });
            bob.0.read_to_end(&mut Vec::new()).unwrap();
            ada.write_and_wait("a line after Bob's\n");
        }
        let other_lines = ["Bob has joined", "Bob has left", "a line after Bob's"];
        (ada, 1 + TIMES * (LINES + other_lines.len()))
    });
    assert!(missed.lines > 0);
    assert_eq!(missed.last_before, "* Bob has left");
}
