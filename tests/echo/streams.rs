//! Echo over TCP: backpressure, half-close, resets, and edges that stand for several things.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use socket2::SockRef;

use super::MIB;
use super::common::{
    Program, assert_same, check_echo, check_end, connect, connect_narrow, fill_buffers, pattern,
    reset, retry_interrupted,
};

const TCP: [&str; 2] = ["--tcp", "127.0.0.1:0"];

/// Sends `bytes` in pieces of these sizes while it reads, then its FIN. All bytes must come back,
/// and then the server's FIN.
#[track_caller]
fn check_stream(mut stream: TcpStream, bytes: &[u8], pieces: &[usize]) {
    let mut writer = stream.try_clone().unwrap();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = bytes;
            for &piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at(piece.min(rest.len()));
                writer.write_all(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    return writer.shutdown(Shutdown::Write).unwrap();
                }
            }
        });
        stream.read_to_end(&mut received).unwrap();
    });
    assert_same(&received, bytes);
}

// rule: stream-echo
#[test]
fn stream_is_echoed_in_order_at_any_size_and_in_any_pieces() {
    // RFC 862. Sizes around those of a segment, a page and 64 KiB, in pieces that divide none of
    // them.
    let program = Program::start(&TCP);
    for size in [1, 2, 1447, 4096, 65_535, 65_536, 65_537, MIB] {
        check_stream(connect(program.tcp()), &pattern(1, size), &[size]);
        check_stream(connect(program.tcp()), &pattern(2, size), &[1, 3, 1447, 4099, 65_537]);
    }
}

// pitfall: 7, 21
// rule: full-buffers
#[test]
fn half_closed_peer_receives_whole_8_mib_and_then_a_fin() {
    // RFC 862. The peer's FIN follows its last byte at once, long before that byte is echoed.
    let program = Program::start(&TCP);
    check_stream(connect(program.tcp()), &pattern(3, 8 * MIB), &[8 * MIB]);
}

// pitfall: 4
// rule: stream-echo
#[test]
fn fin_in_the_same_event_as_the_bytes_does_not_lose_the_echo() {
    // The program is suspended (SIGSTOP) while the peer sends bytes and FIN, so epoll reports both
    // as one event. Once before the connection is accepted, and once after.
    let program = Program::start(&TCP);
    for size in [1, 5, 65_536, 70_000] {
        let bytes = pattern(4, size);
        let stream = program.while_suspended(|| {
            let mut stream = connect(program.tcp());
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            stream
        });
        check_end(stream, &bytes);

        let mut stream = connect(program.tcp());
        check_echo(&mut stream, b"accepted");
        program.while_suspended(|| {
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        check_end(stream, &bytes);
    }
}

// pitfall: 20
// rule: unread-echo
#[test]
#[cfg(target_os = "linux")]
fn slow_reader_loses_nothing_and_costs_little_memory() {
    // The peer writes until every buffer is full, only then reads 64 KiB, writes again, and so on.
    // So the program must have stopped reading.
    let program = Program::start(&TCP);
    let mut stream = connect_narrow(program.tcp());
    let bytes = pattern(5, 32 * MIB);
    let (mut sent, mut received) = (fill_buffers(&mut stream, &bytes), 0);
    assert!(sent < bytes.len(), "backpressure reaches the peer");
    let mut reply = vec![0; 64 * 1024];
    while received < bytes.len() {
        let count = retry_interrupted(|| stream.read(&mut reply)).unwrap();
        assert_ne!(count, 0, "FIN after {received} bytes");
        assert_same(&reply[..count], &bytes[received..received + count]);
        received += count;
        stream.set_nonblocking(true).unwrap();
        while sent < bytes.len()
            && let Ok(count) = stream.write(&bytes[sent..])
        {
            sent += count;
        }
        stream.set_nonblocking(false).unwrap();
    }
    let peak_kib = program.memory_kib("VmHWM");
    assert!(peak_kib < 16 * 1024, "{peak_kib} KiB");
}

// rule: unread-echo
#[test]
fn peer_that_never_reads_does_not_block_50_others() {
    // Its buffers are filled until it blocks. Then 50 others connect, and each has five echoes.
    let program = Program::start(&TCP);
    let mut stuck = connect_narrow(program.tcp());
    let bytes = pattern(6, 32 * MIB);
    assert!(fill_buffers(&mut stuck, &bytes) < bytes.len(), "the peer blocks");
    let mut others: Vec<TcpStream> = (0..50).map(|_| connect(program.tcp())).collect();
    for round in 0..5 {
        for (number, stream) in others.iter_mut().enumerate() {
            check_echo(stream, &pattern(number as u64, 1 + 1000 * round));
        }
    }
}

// pitfall: 26
#[test]
fn resets_do_not_affect_other_connections() {
    // Peers reset at once, with bytes in flight, and after the reply has arrived. Another
    // connection is served all the while.
    let program = Program::start(&TCP);
    let mut other = connect(program.tcp());
    for round in 0..100 {
        reset(connect(program.tcp()));
        let mut stream = connect(program.tcp());
        stream.write_all(&pattern(round, 10_000)).unwrap();
        reset(stream);
        let mut stream = connect(program.tcp());
        check_echo(&mut stream, b"A reset follows this.");
        reset(stream);
        check_echo(&mut other, &pattern(round, 100));
    }
}

// pitfall: 1, 14
#[test]
fn two_hundred_connects_behind_one_listener_event_are_all_served() {
    // The program is suspended while they connect, and once also while they send. So one edge of
    // the listener stands for all of them.
    let program = Program::start(&TCP);
    let mut streams: Vec<TcpStream> =
        program.while_suspended(|| (0..200).map(|_| connect(program.tcp())).collect());
    for (number, stream) in streams.iter_mut().enumerate() {
        check_echo(stream, &pattern(number as u64, 500));
    }
    let mut streams: Vec<TcpStream> = program.while_suspended(|| {
        let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(program.tcp())).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"first").unwrap());
        streams
    });
    for stream in &mut streams {
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"first");
    }
}

// pitfall: 5
#[test]
fn urgent_byte_does_not_stall_the_stream() {
    // The urgent mark cuts a read short although more bytes are behind it. The urgent byte itself
    // is not part of the stream.
    let program = Program::start(&TCP);
    let mut stream = connect(program.tcp());
    for (round, (before, behind)) in
        [(1, 1), (1000, 1), (1, 1000), (70_000, 70_000), (0, 5)].into_iter().enumerate()
    {
        let (before, behind) = (pattern(7, before), pattern(8, behind));
        let send = |stream: &mut TcpStream| {
            stream.write_all(&before).unwrap();
            assert_eq!(SockRef::from(&*stream).send_out_of_band(b"!").unwrap(), 1);
            stream.write_all(&behind).unwrap();
        };
        let sent = [&before[..], &behind].concat();
        // Once while the program runs, and once all of it before the program can read.
        for is_suspended in [false, true] {
            if is_suspended {
                program.while_suspended(|| send(&mut stream));
            } else {
                send(&mut stream);
            }
            let mut reply = vec![0; sent.len()];
            stream
                .read_exact(&mut reply)
                .unwrap_or_else(|error| panic!("round {round}, suspended {is_suspended}: {error}"));
            assert_same(&reply, &sent);
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
    check_end(stream, b"");
}

#[test]
fn ipv6_is_served_like_ipv4() {
    let program = Program::start(&["--tcp", "[::1]:0"]);
    assert!(program.tcp().is_ipv6());
    check_stream(connect(program.tcp()), &pattern(9, MIB), &[1447]);
}
