//! The program's echo over TCP and UDP: every byte in order, every datagram whole.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;

use common::{
    Program, TIMEOUT, assert_same, check_echo, check_end, connect, connect_narrow, connect_udp,
    fill_buffers, pattern, reset, retry_interrupted,
};
use socket2::SockRef;

const TCP: [&str; 2] = ["--tcp", "127.0.0.1:0"];
const UDP: [&str; 2] = ["--udp", "127.0.0.1:0"];
const UDP_V6: [&str; 2] = ["--udp", "[::1]:0"];
const UDP_PREFIXED: [&str; 4] = ["--udp", "127.0.0.1:0", "--prefix", "echo -> "];
const MIB: usize = 1024 * 1024;

// ---- streams

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

#[test]
fn half_closed_peer_receives_whole_8_mib_and_then_a_fin() {
    // RFC 862. The peer's FIN follows its last byte at once, long before that byte is echoed.
    let program = Program::start(&TCP);
    check_stream(connect(program.tcp()), &pattern(3, 8 * MIB), &[8 * MIB]);
}

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

#[test]
fn both_wildcards_can_have_the_same_port() {
    // The first program takes any port of IPv4, and the second takes the same port of IPv6. Each
    // serves its own family.
    let any_ports = ["--tcp", "0.0.0.0:0", "--udp", "0.0.0.0:0"];
    let (first, second) = Program::start_pair(&any_ports, |first| {
        let addresses = [first.tcp(), first.udp()].map(|own| format!("[::]:{}", own.port()));
        let [tcp, udp] = addresses.each_ref().map(String::as_str);
        ["--tcp", tcp, "--udp", udp, "--prefix", "six: "].map(str::to_owned).to_vec()
    });
    let (tcp, udp) = (first.tcp().port(), first.udp().port());
    assert_eq!((second.tcp().port(), second.udp().port()), (tcp, udp));
    check_echo(&mut connect(SocketAddr::from(([127, 0, 0, 1], tcp))), b"four");
    let mut six = connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], tcp)));
    six.write_all(b"hello").unwrap();
    six.shutdown(Shutdown::Write).unwrap();
    check_end(six, b"six: hello");
    check_datagrams(&connect_udp(SocketAddr::from(([127, 0, 0, 1], udp))), &[b"four"], b"");
    check_datagrams(
        &connect_udp(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], udp))),
        &[b"hello"],
        b"six: ",
    );
}

#[test]
fn either_wildcard_may_come_first() {
    // As above, the other way round: the IPv6 wildcard does not take the IPv4 port.
    let (first, second) = Program::start_pair(&["--tcp", "[::]:0"], |first| {
        let address = format!("0.0.0.0:{}", first.tcp().port());
        ["--tcp", &address, "--prefix", "four: "].map(str::to_owned).to_vec()
    });
    let port = first.tcp().port();
    check_echo(&mut connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))), b"six");
    let mut four = connect(SocketAddr::from(([127, 0, 0, 1], port)));
    four.write_all(b"hello").unwrap();
    four.shutdown(Shutdown::Write).unwrap();
    check_end(four, b"four: hello");
    assert_eq!(second.tcp().port(), port);
}

// ---- datagrams

/// The next datagram received is `prefix` and `datagram`, whole.
#[track_caller]
fn check_reply(socket: &UdpSocket, datagram: &[u8], prefix: &[u8]) {
    let mut reply = vec![0; 65_536];
    let count = retry_interrupted(|| socket.recv(&mut reply)).unwrap();
    assert_same(&reply[..count], &[prefix, datagram].concat());
}

/// Sends all `datagrams`. Each must come back with `prefix` before it, whole, and in order.
#[track_caller]
fn check_datagrams(socket: &UdpSocket, datagrams: &[&[u8]], prefix: &[u8]) {
    for datagram in datagrams {
        assert_eq!(socket.send(datagram).unwrap(), datagram.len());
    }
    for datagram in datagrams {
        check_reply(socket, datagram, prefix);
    }
}

#[test]
fn datagram_of_any_size_is_echoed_whole() {
    // RFC 862. From the empty datagram to the largest that UDP over IPv4 can carry, over both
    // families.
    for arguments in [UDP, UDP_V6] {
        let program = Program::start(&arguments);
        let socket = connect_udp(program.udp());
        for size in [0, 1, 1200, 1472, 9000, 65_507] {
            check_datagrams(&socket, &[&pattern(10, size)], b"");
        }
    }
}

#[test]
fn replies_to_one_batch_go_to_the_sender_of_each_datagram() {
    // While the program is suspended, twenty peers send one datagram each, then the next, of
    // different sizes. So one batch has many senders.
    for arguments in [UDP, UDP_V6] {
        let program = Program::start(&arguments);
        let sockets: Vec<UdpSocket> = (0..20).map(|_| connect_udp(program.udp())).collect();
        let datagram =
            |round: usize, sender: usize| pattern(sender as u64, round * 700 + sender % 3);
        program.while_suspended(|| {
            for round in 0..6 {
                for (sender, socket) in sockets.iter().enumerate() {
                    socket.send(&datagram(round, sender)).unwrap();
                }
            }
        });
        for round in 0..6 {
            for (sender, socket) in sockets.iter().enumerate() {
                check_reply(socket, &datagram(round, sender), b"");
            }
        }
    }
}

#[test]
fn burst_of_equal_datagrams_is_echoed_in_order() {
    // 64 datagrams fill a batch. 600 are more than a turn's budget, and no new edge is reported for
    // the rest. Replies of equal size share GSO batches.
    let program = Program::start(&UDP_PREFIXED);
    let socket = connect_udp(program.udp());
    SockRef::from(&socket).set_recv_buffer_size(2 * MIB).unwrap();
    for count in [64, 65, 128, 600] {
        let datagrams: Vec<Vec<u8>> = (0..count).map(|number| pattern(number, 64)).collect();
        program.while_suspended(|| {
            datagrams.iter().for_each(|datagram| assert_eq!(socket.send(datagram).unwrap(), 64));
        });
        datagrams.iter().for_each(|datagram| check_reply(&socket, datagram, b"echo -> "));
        let datagrams: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        check_datagrams(&socket, &datagrams[..64], b"echo -> ");
    }
}

#[test]
fn empty_datagram_is_answered_with_the_prefix_alone() {
    let program = Program::start(&UDP_PREFIXED);
    check_datagrams(&connect_udp(program.udp()), &[b"", b"", b"x", b""], b"echo -> ");
}

#[test]
fn reply_longer_than_a_datagram_is_dropped_without_affecting_the_next() {
    // With a prefix of 8 bytes, at most 65,499 bytes can be answered. A datagram of one byte more
    // gets no reply, and the next one does.
    let program = Program::start(&UDP_PREFIXED);
    let socket = connect_udp(program.udp());
    check_datagrams(&socket, &[&pattern(11, 65_499)], b"echo -> ");
    socket.send(&pattern(12, 65_500)).unwrap();
    check_datagrams(&socket, &[b"next"], b"echo -> ");
}

#[test]
#[cfg(target_os = "linux")]
fn gso_batch_is_echoed_datagram_by_datagram() {
    // The kernel cuts what the peer sends every 64 bytes (UDP_SEGMENT), and may deliver it to the
    // program in one piece (UDP_GRO).
    let program = Program::start(&UDP_PREFIXED);
    let socket = connect_udp(program.udp());
    set_gso_segment(&socket, 64);
    for bytes in [64 * 20, 64 * 20 + 7, 64] {
        let segments = pattern(13, bytes);
        assert_eq!(socket.send(&segments).unwrap(), bytes);
        segments.chunks(64).for_each(|datagram| check_reply(&socket, datagram, b"echo -> "));
    }
}

/// Makes the kernel cut everything that `socket` sends into datagrams of `segment` bytes.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // neither std nor socket2 has this option
fn set_gso_segment(socket: &UdpSocket, segment: libc::c_int) {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the pointer and the length describe `segment`, which lives through the call; the
    // descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const segment).cast(),
            length,
        )
    };
    assert_eq!(result, 0, "UDP_SEGMENT: {}", std::io::Error::last_os_error());
}

#[test]
#[cfg(target_os = "linux")]
fn replies_to_closed_ports_do_not_affect_other_replies() {
    // A thousand senders close before their reply can arrive, so each reply goes to a closed port.
    // They have an address of their own (127.0.0.2): else a socket of another test might take one
    // of their ports and receive a reply.
    let program = Program::start(&["--udp", "0.0.0.0:0"]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, program.udp().port()));
    let socket = connect_udp(address);
    program.while_suspended(|| {
        for _ in 0..1000 {
            UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"closing", address).unwrap();
        }
        socket.send(b"hello").unwrap();
    });
    check_reply(&socket, b"hello", b"");
    for _ in 0..100 {
        UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"closing", address).unwrap();
        check_datagrams(&socket, &[b"hello again"], b"");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn reply_leaves_from_the_address_the_datagram_was_sent_to() {
    // RFC 1122 section 4.1.3.5. On Linux every address of 127.0.0.0/8 is local, and the program
    // serves all of them. The peer's socket is connected to 127.0.0.2, so the kernel does not
    // deliver a reply from 127.0.0.1 to it.
    let program = Program::start(&["--udp", "0.0.0.0:0"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(SocketAddr::from(([127, 0, 0, 2], program.udp().port()))).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    check_datagrams(&socket, &[b"from 127.0.0.2?"], b"");
}

// ---- the whole program

#[test]
fn one_program_serves_three_protocols_at_once() {
    let program =
        Program::start(&["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let (mut stream, socket) = (connect(program.tcp()), connect_udp(program.udp()));
    for round in 0..20 {
        check_echo(&mut stream, &pattern(round, 1000));
        check_datagrams(&socket, &[&pattern(round, 1000)], b"");
        let mut browser = connect(program.http());
        browser.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        browser.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.0 200 OK\r\n") && page.contains("Hello world!"), "{page}");
    }
}

#[test]
fn repeated_flags_open_one_socket_each() {
    // Each address is served, and printed in the order of the command line.
    let (v4, v6) = ("127.0.0.1:0", "[::1]:0");
    let program = Program::start(&["--tcp", v4, "--udp", v6, "--tcp", v6, "--udp", v4]);
    let (tcp, udp) = (program.addresses("tcp echo"), program.addresses("udp echo"));
    assert_eq!(tcp.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    assert_eq!(udp.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [true, false]);
    tcp.iter().for_each(|&address| check_echo(&mut connect(address), b"stream"));
    udp.iter().for_each(|&address| check_datagrams(&connect_udp(address), &[b"datagram"], b""));
}
