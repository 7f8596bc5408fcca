//! Signals, and the graceful stop that they begin.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::{MIB, TCP, ignores};
use crate::common::{
    Program, assert_same, check_echo, check_end, connect, connect_narrow, connect_udp,
    fill_buffers, pattern, reactor_in_shell,
};

// rule: early-signal
#[test]
fn signal_without_connections_exits_0() {
    for signal in ["TERM", "INT"].into_iter().filter(|signal| !ignores(signal)) {
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

// pitfall: 73
// rule: stop
#[test]
fn stop_closes_idle_connections_without_reset() {
    // One has never sent a byte, one has been served. Both read end of file, not a reset.
    let program = Program::start(&TCP);
    let (silent, mut served) = (connect(program.tcp()), connect(program.tcp()));
    check_echo(&mut served, b"hello");
    program.signal("TERM");
    for stream in [silent, served] {
        check_end(stream, b"");
    }
    assert_eq!(program.wait().status.code(), Some(0));
}

/// Fills all buffers of a peer that does not read, applies `before_stop` to it, and stops the
/// program.
///
/// All that the program had read before the stop must come back, followed by end of file, and the
/// exit status is 0. (The program also echoes what it reads later, as long as there is any. It
/// cannot know of bytes that are still on their way when it finds no more.)
#[track_caller]
fn check_drain(before_stop: impl FnOnce(&TcpStream)) {
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "trace"]);
    let mut stream = connect_narrow(program.tcp());
    let bytes = pattern(20, 8 * MIB);
    let sent = fill_buffers(&mut stream, &bytes);
    before_stop(&stream);
    program.signal("TERM");
    program.wait_for_log("stopping: 1 connections");
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .unwrap_or_else(|error| panic!("{error} after {} of {sent}", received.len()));
    drop(stream);
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(0));
    let log_before_stop = ending.stderr.iter().take_while(|line| !line.contains("stopping: "));
    let read: usize = log_before_stop
        .filter(|line| line.contains(": recv("))
        .map(|line| count_returned(line))
        .sum();
    assert!(read > 64 * 1024, "only {read} bytes were read before the stop");
    assert!(
        (read..=sent).contains(&received.len()),
        "{read} read before the stop, {} came back",
        received.len()
    );
    assert_same(&received, &bytes[..received.len()]);
}

/// Returns how many bytes the system call of a trace line moved. Its result stands behind the `=`:
/// `5; short read`, or `-1 EAGAIN`.
fn count_returned(line: &str) -> usize {
    let result = line.rsplit_once(" = ").map(|(_, result)| result);
    result.and_then(|result| result.split(';').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn stop_sends_all_output_to_a_slow_half_closed_reader() {
    // It is half-closed: nothing else can arrive from it.
    check_drain(|stream| stream.shutdown(Shutdown::Write).unwrap());
}

#[test]
fn stop_sends_all_output_to_a_slow_reader_still_open() {
    check_drain(|_| {});
}

// pitfall: 22
#[test]
fn input_after_the_stops_fin_does_not_reset_a_pending_reply() {
    // All of the reply has left the program, but most of it waits in the kernel for a slow reader.
    // Once the other connection has read end of file, the program has sent its FIN on this one,
    // too. Input that arrives now is never consumed. It must not turn the FIN into a reset, which
    // would destroy the rest of the reply.
    let program = Program::start(&TCP);
    let (mut stream, mut other) = (connect_narrow(program.tcp()), connect(program.tcp()));
    let bytes = pattern(23, 30_000);
    let mut reply = vec![0; bytes.len()];
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut reply[..1]).unwrap();
    check_echo(&mut other, b"hello");
    program.signal("TERM");
    check_end(other, b"");
    stream.write_all(b"after the FIN").unwrap();
    stream.read_exact(&mut reply[1..]).unwrap();
    assert_same(&reply, &bytes);
    drop(stream);
    assert_eq!(program.wait().status.code(), Some(0));
}

// pitfall: 3, 40
#[test]
fn stop_serves_connections_waiting_in_the_backlog() {
    // The program is suspended while the peers connect and send, and while it gets the signal. The
    // kernel has completed their handshakes, so closing the listener would reset them all. They are
    // more than one turn accepts.
    let program = Program::start(&TCP);
    let streams: Vec<TcpStream> = program.while_suspended(|| {
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

// rule: stop
#[test]
fn drain_timeout_exits_3_and_logs_connections_closed_by_force() {
    // The peer does not read, and its output is more than the kernel holds.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--drain-timeout", "50ms"]);
    let mut stream = connect_narrow(program.tcp());
    fill_buffers(&mut stream, &pattern(21, 8 * MIB));
    program.signal("TERM");
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(3));
    let line = "stopped: drain timeout (50ms) reached, 1 connections closed by force";
    assert!(ending.stderr.iter().any(|logged| logged.contains(line)), "{:?}", ending.stderr);
}

// pitfall: 120
// rule: stop
#[test]
#[cfg(target_os = "linux")]
fn stop_that_leaves_peers_in_the_backlog_exits_3_and_counts_them() {
    // With 64 descriptors, some of 200 HTTP clients are accepted, half of them over a Unix socket.
    // Each has sent half a request, so none of them can be closed as idle.
    use std::os::unix::net::UnixStream;

    let path = std::env::temp_dir().join(format!("reactor-backlog-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let arguments = ["--http", "127.0.0.1:0", "--http", &unix, "--drain-timeout", "300ms"];
    let mut command = reactor_in_shell("ulimit -n 64 && exec \"$@\"");
    let mut program = Program::spawn(command.args(arguments));
    program.read_addresses(&arguments);
    let mut peers: Vec<TcpStream> = (0..100).map(|_| connect(program.http())).collect();
    let mut local: Vec<UnixStream> =
        (0..100).map(|_| UnixStream::connect(&path).unwrap()).collect();
    peers.iter_mut().for_each(|peer| peer.write_all(b"GET / HT").unwrap());
    local.iter_mut().for_each(|peer| peer.write_all(b"GET / HT").unwrap());
    program.wait_for_log("accept paused");
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(3));
    let line = ending.stderr.iter().find(|line| line.contains(" closed by force, ")).unwrap();
    let (_, counts) = line.split_once("reached, ").unwrap();
    let counts: Vec<usize> = counts.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 200, "{line}");
    assert!(counts[0] > 40 && counts[1] > 100, "{line}");
}

// pitfall: 121
#[test]
#[cfg(target_os = "linux")]
fn stop_answers_all_datagrams_that_wait_in_the_receive_queue() {
    // They are more than one turn answers, if the kernel grants a buffer for as many: it counts
    // some 800 bytes for each, and twice what it grants.
    let granted = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
    let count = (2 * granted.trim().parse::<usize>().unwrap() / 1024).min(3000);
    if count < 1000 {
        println!("skipped: net.core.rmem_max is {granted}");
        return;
    }
    let program = Program::start(&["--udp", "127.0.0.1:0", "--log", "debug"]);
    let client = connect_udp(program.udp());
    program.while_suspended(|| {
        (0..count).for_each(|_| assert_eq!(client.send(b"hello").unwrap(), 5));
        program.signal("TERM");
    });
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(0));
    let stats = ending.stderr.iter().find(|line| line.contains("Stats {")).unwrap();
    assert!(stats.contains(&format!("datagrams_out: {count},")), "{count} sent: {stats}");
}

// pitfall: 74
// rule: stop
#[test]
fn second_signal_ends_the_process_at_once() {
    // A peer that reads nothing would keep the program draining for seconds.
    let program = Program::start(&TCP);
    let mut stuck = connect_narrow(program.tcp());
    let bytes = pattern(21, 32 * MIB);
    assert!(fill_buffers(&mut stuck, &bytes) < bytes.len(), "the buffers are full");
    program.signal("TERM");
    program.wait_for_log("stopping: 1 connections");
    assert_eq!(program.stop().status.code(), Some(128 + 15));
}
