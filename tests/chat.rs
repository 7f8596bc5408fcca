//! The chat room of docs/examples, over real sockets.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/chat.rs"]
mod chat;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use common::{any_port, connect, connect_narrow, reset};
use reactor::{Limits, Reactor};

/// A room in a thread of its own, which goes with the test.
fn open_room() -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        told.send(chat::listen(&mut reactor, any_port()).unwrap()).unwrap();
        reactor.run().unwrap();
    });
    address.recv().unwrap()
}

/// Somebody who is in the room.
struct Guest(BufReader<TcpStream>);

impl Guest {
    fn enter(stream: TcpStream, name: &str) -> Guest {
        let mut guest = Guest(BufReader::new(stream));
        assert_eq!(guest.read(), "* what is your name?");
        guest.say(name);
        assert!(guest.read().starts_with(&format!("* welcome, {name}. ")));
        guest
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next line that reaches it.
    fn read(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap_or_else(|| panic!("the end, after {line:?}")).to_owned()
    }
}

#[test]
fn what_one_says_all_others_read() {
    let address = open_room();
    let mut ada = Guest::enter(connect(address), "Ada");
    let mut bob = Guest::enter(connect(address), "Bob");
    assert_eq!(ada.read(), "* Bob has come");
    ada.say("hello");
    assert_eq!(bob.read(), "Ada: hello");
    bob.say("/who");
    assert_eq!(bob.read(), "* here are: Ada, Bob. You are Bob.");
    bob.say("he\x1b[2Jllo");
    assert_eq!(ada.read(), "Bob: he[2Jllo", "nothing that moves a cursor");

    bob.0.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(ada.read(), "* Bob has gone");
    let mut rest = String::new();
    bob.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");

    // Who is torn away cannot say so. It is said with what comes next.
    let cid = Guest::enter(connect(address), "Cid");
    assert_eq!(ada.read(), "* Cid has come");
    reset(cid.0.into_inner());
    let mut bob = loop {
        // The name is free as soon as the room knows.
        let mut stream = BufReader::new(connect(address));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(b"Cid\n").unwrap();
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line.starts_with("* welcome") {
            break Guest(stream);
        }
    };
    assert_eq!((ada.read(), ada.read()), ("* Cid has gone".to_owned(), "* Cid has come".to_owned()));
    ada.say("you again");
    assert_eq!(bob.read(), "Ada: you again");
}

#[test]
fn a_name_is_somebodys_own() {
    let address = open_room();
    let _ada = Guest::enter(connect(address), "Ada");
    let mut other = Guest(BufReader::new(connect(address)));
    assert_eq!(other.read(), "* what is your name?");
    for name in ["Ada", "", "a name that is far too long to be read"] {
        other.say(name);
        assert_eq!(other.read(), "* that cannot be yours. What is your name?", "{name}");
    }
    other.say("Eve");
    assert_eq!(other.read(), "* welcome, Eve. 2 are here; /who tells who.");
    other.say(&"x".repeat(2000));
    assert_eq!(other.read(), "* that was too long");
}

#[test]
fn somebody_who_does_not_read_misses_lines_and_holds_up_nobody() {
    // Far more is said than the kernel and the room hold for one. All others get all of it. Then the sleeper wakes, and what it has
    // read and what it is told to have missed makes up the whole.
    const LINES: usize = 40_000;
    const AT_A_TIME: usize = 500; // what Bob can be trusted to have room for
    let address = open_room();
    let mut sleeper = Guest::enter(connect_narrow(address), "Sleeper");
    let mut ada = Guest::enter(connect(address), "Ada");
    let mut bob = Guest::enter(connect(address), "Bob");
    assert_eq!(ada.read(), "* Bob has come");
    let text = "x".repeat(250);
    for first in (0..LINES).step_by(AT_A_TIME) {
        let numbers = first..first + AT_A_TIME;
        let said: String = numbers.clone().map(|number| format!("{number} {text}\n")).collect();
        ada.0.get_mut().write_all(said.as_bytes()).unwrap();
        for number in numbers {
            assert_eq!(bob.read(), format!("Ada: {number} {text}"));
        }
    }

    assert_eq!(sleeper.read(), "* Ada has come");
    assert_eq!(sleeper.read(), "* Bob has come");
    let (mut heard, mut missed) = (0, 0);
    while heard + missed < LINES {
        let line = sleeper.read();
        if let Some(rest) = line.strip_prefix("* you have missed ") {
            missed += rest.strip_suffix(" lines").unwrap().parse::<usize>().unwrap();
        } else {
            assert_eq!(line, format!("Ada: {} {text}", heard + missed));
            heard += 1;
        }
    }
    assert!(missed > LINES / 2, "{missed} missed");
    ada.say("good morning");
    assert_eq!(sleeper.read(), "Ada: good morning", "it is one of them again");
}

#[test]
fn who_waits_for_a_sleeper_may_go_and_the_sleeper_is_found_again() {
    // The one whose line was too much is the one who is told when there is room. It leaves before; another takes over.
    let address = open_room();
    let mut sleeper = Guest::enter(connect_narrow(address), "Sleeper");
    let mut ada = Guest::enter(connect(address), "Ada");
    for number in 0..20_000 {
        ada.say(&format!("{number} {}", "x".repeat(400)));
    }
    ada.say("/who");
    while !ada.read().starts_with("* here are") {}
    ada.0.get_mut().shutdown(Shutdown::Write).unwrap();
    ada.0.read_to_end(&mut Vec::new()).unwrap();
    let mut bob = Guest::enter(connect(address), "Bob");
    while sleeper.read() != "* Bob has come" {
        // Each word of Bob's is the occasion for which the sleeper may be found awake.
        bob.say("are you there?");
    }
    bob.say("good morning");
    while sleeper.read() != "Bob: good morning" {}
}
