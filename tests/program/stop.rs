//! Signals, and the stop that they begin.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::{MIB, TCP};
use crate::common::{
    Program, assert_same, check_echo, check_end, connect, connect_narrow, pattern, stuff,
};

#[test]
fn a_signal_ends_it_with_status_0_when_nobody_is_there() {
    for signal in ["TERM", "INT"] {
        let program = Program::start(&[
            "--tcp",
            "127.0.0.1:0",
            "--udp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ]);
        program.signal(signal);
        assert_eq!(program.wait().status.code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_stop_ends_idle_connections_in_order() {
    // One has never spoken, one has been served: both see an end, not a reset.
    let program = Program::start(&TCP);
    let (silent, mut served) = (connect(program.tcp()), connect(program.tcp()));
    check_echo(&mut served, b"That was all.");
    program.signal("TERM");
    for stream in [silent, served] {
        check_end(stream, b"");
    }
    assert_eq!(program.wait().status.code(), Some(0));
}

/// The peer is stuffed, `last` is done to it, and the program is asked to stop, before it reads anything. All that the
/// program had read by then must come back, and then the end, and it ends well. (It also echoes what it reads later, as
/// long as there is any; what is still on its way when it finds no more, it cannot know of.)
#[track_caller]
fn check_drain(last: impl FnOnce(&TcpStream)) {
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "trace"]);
    let mut stream = connect_narrow(program.tcp());
    let bytes = pattern(20, 8 * MIB);
    let sent = stuff(&mut stream, &bytes);
    last(&stream);
    program.signal("TERM");
    program.logged("stopping: 1 connections");
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .unwrap_or_else(|error| panic!("{error} after {} of {sent}", received.len()));
    drop(stream);
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(0));
    let log_before = ending.stderr.iter().take_while(|line| !line.contains("stopping: "));
    let accepted: usize =
        log_before.filter(|line| line.contains(" recv ")).map(|line| count_returned(line)).sum();
    assert!(accepted > 64 * 1024, "only {accepted} bytes were read before the stop");
    assert!(
        (accepted..=sent).contains(&received.len()),
        "{accepted} read before the stop, {} came back",
        received.len()
    );
    assert_same(&received, &bytes[..received.len()]);
}

/// How many bytes the system call of the line moved: it ends with `-> Ok(5)`, or with an error.
fn count_returned(line: &str) -> usize {
    let count = line.rsplit_once("Ok(").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    count.unwrap_or(0)
}

#[test]
fn a_stop_lets_a_slow_reader_have_all_that_it_is_owed() {
    // It has half-closed: nothing else can come from it.
    check_drain(|stream| stream.shutdown(Shutdown::Write).unwrap());
}

#[test]
fn a_stop_lets_a_slow_reader_that_could_still_speak_have_all_that_it_is_owed() {
    check_drain(|_| {});
}

#[test]
fn a_stop_does_not_take_a_reply_back_from_a_peer_that_speaks_again() {
    // All of the reply has left the program, but most of it waits in the kernel for a peer that reads slowly. When the
    // other connection has seen its end, ours has been ended too. Now that peer says more, which nobody will hear: this
    // must not turn the end into a reset, for a reset destroys the rest of the reply.
    let program = Program::start(&TCP);
    let (mut stream, mut other) = (connect_narrow(program.tcp()), connect(program.tcp()));
    let bytes = pattern(23, 30_000);
    let mut reply = vec![0; bytes.len()];
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut reply[..1]).unwrap();
    check_echo(&mut other, b"I have nothing else to say.");
    program.signal("TERM");
    check_end(other, b"");
    stream.write_all(b"By the way").unwrap();
    stream.read_exact(&mut reply[1..]).unwrap();
    assert_same(&reply, &bytes);
    drop(stream);
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_stop_still_serves_those_who_already_stand_at_the_door() {
    // The program is held while they connect and send, and while it is asked to stop. The kernel has welcomed them in its
    // name, and closing the door on them would reset them all. They are more than one turn accepts.
    let program = Program::start(&TCP);
    let streams: Vec<TcpStream> = program.while_held(|| {
        let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(program.tcp())).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"first").unwrap());
        program.signal("TERM");
        streams
    });
    for (number, mut stream) in streams.into_iter().enumerate() {
        let mut reply = String::new();
        stream
            .read_to_string(&mut reply)
            .unwrap_or_else(|error| panic!("number {number}: {error}"));
        assert_eq!(reply, "first", "number {number}");
    }
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_stop_that_has_to_cut_somebody_off_says_so_and_has_a_status_of_its_own() {
    // The peer is owed more than the kernel holds, and does not read.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--drain-ms", "50"]);
    let mut stream = connect_narrow(program.tcp());
    stuff(&mut stream, &pattern(21, 8 * MIB));
    program.signal("TERM");
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(3));
    assert!(
        ending
            .stderr
            .iter()
            .any(|line| line
                .contains("stopped: drain timeout reached, 1 connections closed by force")),
        "{:?}",
        ending.stderr
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // A peer that reads nothing would keep it draining for seconds, and the status would be 0.
    let program = Program::start(&TCP);
    let mut stuck = connect_narrow(program.tcp());
    let bytes = pattern(21, 32 * MIB);
    assert!(stuff(&mut stuck, &bytes) < bytes.len(), "it is stuck");
    program.signal("TERM");
    program.logged("stopping: 1 connections");
    assert_eq!(program.stop().status.code(), Some(128 + 15));
}
