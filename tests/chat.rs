//! The chat room of docs/examples, over real sockets.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/chat.rs"]
mod chat;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use common::{Program, TIMEOUT, any_port, be_server, connect, connect_narrow, reset};
use mio_reactor::{Limits, Reactor};

/// A room in a thread of its own, which goes with the test.
fn open_room() -> SocketAddr {
    open_room_for(20)
}

fn open_room_for(guests_max: usize) -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        told.send(chat::listen(&mut reactor, any_port(), guests_max).unwrap()).unwrap();
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

    /// Says `lines`, and waits until they have been said.
    fn say_and_be_heard(&mut self, lines: &str) {
        self.0.get_mut().write_all(format!("{lines}/who\n").as_bytes()).unwrap();
        while !self.read().starts_with("* here are: ") {}
    }

    /// Says no more, and waits until it is let go.
    fn leave(mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
        self.0.read_to_end(&mut Vec::new()).unwrap();
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
    assert_eq!((ada.read(), ada.read()), ("* gone: Cid".to_owned(), "* Cid has come".to_owned()));
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
    other.say(&format!("{}\nFay", "x".repeat(100_000)));
    assert_eq!(other.read(), "* that was too long");
    let mut rest = String::new();
    other.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "nothing that comes behind it is taken for a name");
}

#[test]
fn a_room_is_full_whether_those_in_it_have_said_their_names_or_not() {
    let address = open_room_for(3);
    let knock = || {
        let mut somebody = Guest(BufReader::new(connect(address)));
        let answer = somebody.read();
        (somebody, answer)
    };
    let _ada = Guest::enter(connect(address), "Ada");
    let [(bob, _), (mut cid, _)] = [knock(), knock()];
    let (mut dan, answer) = knock();
    assert_eq!(answer, "* the room is full");
    dan.say("Dan");
    assert_eq!(dan.0.read_line(&mut String::new()).unwrap(), 0, "and that is all");
    cid.say("Cid");
    assert_eq!(cid.read(), "* welcome, Cid. 2 are here; /who tells who.");

    // There is room for another as soon as the room knows of it, and then for nobody again.
    drop((bob, dan));
    let give_up = Instant::now() + TIMEOUT;
    let _eve = loop {
        let (eve, answer) = knock();
        if answer == "* what is your name?" {
            break eve;
        }
        assert!(Instant::now() < give_up, "{answer}");
    };
    assert_eq!(knock().1, "* the room is full");
}

/// What has become of the lines that somebody did not read when they were said.
struct Awakening {
    missed: usize,
    /// The last line that was read before the first that was missed.
    last_before: String,
}

/// Wakes `sleeper`: it reads all that waits for it, while `speaker` says good morning until it is heard. Where a line ends with
/// a number, the sleeper must have read so many lines before, or been told that it has missed them. Good mornings are numbered
/// from `said` on.
#[track_caller]
fn check_all_was_read_or_missed(mut sleeper: Guest, mut speaker: Guest, said: usize) -> Awakening {
    let reading = thread::spawn(move || {
        let mut awakening = Awakening { missed: 0, last_before: String::new() };
        let (mut read, mut last) = (0, String::new());
        loop {
            let line = sleeper.read();
            if let Some(count) = line.strip_prefix("* you have missed ") {
                if awakening.missed == 0 {
                    awakening.last_before = last.clone();
                }
                awakening.missed = count.strip_suffix(" lines so far").unwrap().parse().unwrap();
                continue;
            }
            if let Some((_, number)) = line.rsplit_once(" #") {
                let missed = awakening.missed;
                assert_eq!(
                    read + missed,
                    number.parse::<usize>().unwrap(),
                    "{read} read, {missed} missed"
                );
            }
            if line.contains("good morning") {
                return awakening;
            }
            read += 1;
            last = line;
        }
    });
    let give_up = Instant::now() + TIMEOUT;
    for number in said.. {
        if reading.is_finished() {
            break;
        }
        assert!(Instant::now() < give_up, "the sleeper does not hear anything");
        speaker.say_and_be_heard(&format!("good morning #{number}\n"));
    }
    reading.join().unwrap()
}

#[test]
#[ignore = "the room in a process of its own, which other tests start"]
fn be_a_room() {
    be_server(|reactor, _| chat::listen(reactor, any_port(), 20));
}

#[test]
fn somebody_who_does_not_read_misses_lines_and_holds_up_nobody() {
    // Far more is said than the kernel and the room hold for one. All others get all of it. Then the sleeper wakes, and what it
    // has read and what it is told to have missed makes up the whole, at each place.
    const LINES: usize = 40_000;
    const AT_A_TIME: usize = 500; // what Bob can be trusted to have room for
    let address = open_room();
    let sleeper = Guest::enter(connect_narrow(address), "Sleeper");
    let mut ada = Guest::enter(connect(address), "Ada");
    let mut bob = Guest::enter(connect(address), "Bob");
    assert_eq!(ada.read(), "* Bob has come");
    let text = "x".repeat(250);
    for first in (2..LINES).step_by(AT_A_TIME) {
        let numbers = first..first + AT_A_TIME;
        let said: String = numbers.clone().map(|number| format!("{text} #{number}\n")).collect();
        ada.0.get_mut().write_all(said.as_bytes()).unwrap();
        for number in numbers {
            assert_eq!(bob.read(), format!("Ada: {text} #{number}"));
        }
    }
    let Awakening { missed, .. } = check_all_was_read_or_missed(sleeper, ada, LINES + 2);
    assert!(missed > LINES / 2, "{missed} missed");
}

#[test]
#[cfg(unix)]
fn who_waits_for_a_sleeper_may_go_and_the_sleeper_is_found_again() {
    // Ada's lines were too much, so she is the one who would be told when there is room. She leaves before. Bob speaks next, and so
    // it is he who asks; but he breaks off at once, for the room is held meanwhile. Cid takes over.
    let (room, address) = Program::start_server("be_a_room", "");
    let sleeper = Guest::enter(connect_narrow(address), "Sleeper");
    let mut ada = Guest::enter(connect(address), "Ada");
    let mut bob = Guest::enter(connect(address), "Bob");
    for _ in 0..10 {
        ada.say_and_be_heard(&format!("{}\n", "x".repeat(500)).repeat(1000));
        bob.say_and_be_heard("");
    }
    ada.leave();
    room.while_suspended(|| {
        bob.say("is it still asleep?");
        reset(bob.0.into_inner());
    });
    let cid = Guest::enter(connect(address), "Cid");
    let said =
        ["Ada has come", "Bob has come", "Ada has gone", "is it", "gone: Bob", "Cid has come"]
            .len()
            + 10 * 1000;
    check_all_was_read_or_missed(sleeper, cid, said);
}

/// Eight guests fall asleep, and then `story` happens, of which the last speaker and the number of lines said are returned. The
/// room must not have grown much. The last of the sleepers wakes, and must have read each line, or be told that it has missed it.
#[cfg(target_os = "linux")]
#[track_caller]
fn check_with_sleepers(story: impl FnOnce(&Program, SocketAddr) -> (Guest, usize)) -> Awakening {
    let (room, address) = Program::start_server("be_a_room", "");
    let names = ["Doc", "Grumpy", "Happy", "Sleepy", "Bashful", "Sneezy", "Dopey", "Snow White"];
    let [sleepers @ .., snow_white] = names.map(|name| Guest::enter(connect_narrow(address), name));
    let before_kib = room.memory_kib("VmRSS");
    let (speaker, said) = story(&room, address);
    let grown_kib = room.memory_kib("VmHWM") - before_kib;
    assert!(
        grown_kib < 10 * 1024,
        "{grown_kib} KiB, where as much as connections may hold would be 32 MiB"
    );
    let awakening = check_all_was_read_or_missed(snow_white, speaker, said);
    drop(sleepers);
    awakening
}

#[test]
#[cfg(target_os = "linux")]
fn who_has_been_told_that_somebody_sleeps_may_leave_before_others_who_were_told_too() {
    // Ada speaks and then Bob, but the room is held meanwhile, and hears both in one turn. So when it comes to be too much for the
    // sleepers, both are told. Then Bob leaves, and Ada goes on alone.
    const LINES: usize = 50; // what a socket has room for
    const TIMES: usize = 150;
    check_with_sleepers(|room, address| {
        let mut ada = Guest::enter(connect(address), "Ada");
        let mut bob = Guest::enter(connect(address), "Bob");
        let lines = format!("{}\n", "x".repeat(1000)).repeat(LINES);
        for _ in 0..TIMES {
            room.while_suspended(|| {
                ada.0.get_mut().write_all(lines.as_bytes()).unwrap();
                bob.say("I see");
            });
            ada.say_and_be_heard("");
            bob.say_and_be_heard("");
        }
        bob.leave();
        for _ in 0..TIMES {
            ada.say_and_be_heard(&lines);
        }
        (ada, ["Ada has come", "Bob has come", "Bob has gone"].len() + TIMES * (LINES + 1 + LINES))
    });
}

#[test]
#[cfg(target_os = "linux")]
fn who_leaves_with_its_last_word_is_told_what_came_of_it() {
    // The room is held until a guest has said much and left, and hears all of it in one turn. If that was too much for the
    // sleepers, nobody else knows; but what Ada says next is left out.
    const LINES: usize = 50; // what a socket has room for
    const TIMES: usize = 150;
    let Awakening { missed, last_before } = check_with_sleepers(|room, address| {
        let mut ada = Guest::enter(connect(address), "Ada");
        let lines = format!("{}\n", "x".repeat(1000)).repeat(LINES);
        for _ in 0..TIMES {
            let mut bob = Guest::enter(connect(address), "Bob");
            room.while_suspended(|| {
                bob.0.get_mut().write_all(lines.as_bytes()).unwrap();
                bob.0.get_mut().shutdown(Shutdown::Write).unwrap();
            });
            bob.0.read_to_end(&mut Vec::new()).unwrap();
            ada.say_and_be_heard("he has said what he wanted\n");
        }
        (ada, 1 + TIMES * (LINES + ["Bob has come", "Bob has gone", "he has said"].len()))
    });
    assert!(missed > 0);
    assert_eq!(last_before, "* Bob has gone");
}
