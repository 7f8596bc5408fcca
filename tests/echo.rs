//! What peers get back, over real sockets: every byte of a stream, in order, and every datagram, whole.

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

/// Sends `bytes` in pieces as odd as these while it reads, then ends its side: all must come back, and then the end.
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
fn every_byte_comes_back_in_order_whatever_the_size_and_the_pieces() {
    // RFC 862. Sizes around those of segments, of pages and of the server's read (64 KiB), each in pieces that fit none of them.
    let program = Program::start(&TCP);
    for size in [1, 2, 1447, 4096, 65_535, 65_536, 65_537, MIB] {
        check_stream(connect(program.tcp()), &pattern(1, size), &[size]);
        check_stream(connect(program.tcp()), &pattern(2, size), &[1, 3, 1447, 4099, 65_537]);
    }
}

#[test]
fn a_half_closed_peer_gets_8_mib_whole_and_then_the_end() {
    // RFC 862. The FIN follows the last byte at once, long before the last byte is back.
    let program = Program::start(&TCP);
    check_stream(connect(program.tcp()), &pattern(3, 8 * MIB), &[8 * MIB]);
}

#[test]
fn a_peer_that_ends_with_its_first_bytes_gets_them_back_and_then_the_end() {
    // Bytes and FIN are one event to the program: it is held meanwhile, once before it has accepted, and once after.
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
        check_echo(&mut stream, b"We have met.");
        program.while_suspended(|| {
            stream.write_all(&bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        check_end(stream, &bytes);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_slower_than_its_writer_loses_nothing_and_costs_little_memory() {
    // It pushes until nobody takes any more, only then reads 64 KiB, and so on. The program must have stopped to read.
    let program = Program::start(&TCP);
    let mut stream = connect_narrow(program.tcp());
    let bytes = pattern(5, 32 * MIB);
    let (mut sent, mut received) = (fill_buffers(&mut stream, &bytes), 0);
    assert!(sent < bytes.len(), "it was stopped");
    let mut reply = vec![0; 64 * 1024];
    while received < bytes.len() {
        let count = retry_interrupted(|| stream.read(&mut reply)).unwrap();
        assert_ne!(count, 0, "the end after {received} bytes");
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
    let most_kib = program.memory_kib("VmHWM");
    assert!(most_kib < 16 * 1024, "{most_kib} KiB");
}

#[test]
fn a_peer_that_never_reads_does_not_stop_50_others() {
    // It is stuffed until nobody takes any more; then come the others, and are served several times each.
    let program = Program::start(&TCP);
    let mut stuck = connect_narrow(program.tcp());
    let bytes = pattern(6, 32 * MIB);
    assert!(fill_buffers(&mut stuck, &bytes) < bytes.len(), "it is stuck");
    let mut others: Vec<TcpStream> = (0..50).map(|_| connect(program.tcp())).collect();
    for round in 0..5 {
        for (number, stream) in others.iter_mut().enumerate() {
            check_echo(stream, &pattern(number as u64, 1 + 1000 * round));
        }
    }
}

#[test]
fn peers_that_reset_do_not_matter() {
    // They do so at once, with bytes on the way, and when the reply is there. The neighbour is served all the while.
    let program = Program::start(&TCP);
    let mut neighbour = connect(program.tcp());
    for round in 0..100 {
        reset(connect(program.tcp()));
        let mut stream = connect(program.tcp());
        stream.write_all(&pattern(round, 10_000)).unwrap();
        reset(stream);
        let mut stream = connect(program.tcp());
        check_echo(&mut stream, b"I shall leave without a word.");
        reset(stream);
        check_echo(&mut neighbour, &pattern(round, 100));
    }
}

#[test]
fn two_hundred_who_came_before_anyone_was_served_are_all_served() {
    // The program is held while they connect and send: all of them stand behind one edge of the listener.
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
fn an_urgent_byte_holds_up_nothing() {
    // The urgent mark cuts a read short although there is more behind it. The byte itself is not part of the stream.
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
        // Once as it comes, and once all of it before the program can look.
        for is_held in [false, true] {
            if is_held {
                program.while_suspended(|| send(&mut stream));
            } else {
                send(&mut stream);
            }
            let mut reply = vec![0; sent.len()];
            stream
                .read_exact(&mut reply)
                .unwrap_or_else(|error| panic!("round {round}, held {is_held}: {error}"));
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
    // The first takes any port of IPv4; the second takes the same one of IPv6. Each serves its own family.
    let first = Program::start(&["--tcp", "0.0.0.0:0", "--udp", "0.0.0.0:0"]);
    let (tcp, udp) = (first.tcp().port(), first.udp().port());
    let second = Program::start(&[
        "--tcp",
        &format!("[::]:{tcp}"),
        "--udp",
        &format!("[::]:{udp}"),
        "--prefix",
        "six: ",
    ]);
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
    // As above, the other way round: that of IPv6 does not take IPv4 with it.
    let first = Program::start(&["--tcp", "[::]:0"]);
    let port = first.tcp().port();
    let second = Program::start(&["--tcp", &format!("0.0.0.0:{port}"), "--prefix", "four: "]);
    check_echo(&mut connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))), b"six");
    let mut four = connect(SocketAddr::from(([127, 0, 0, 1], port)));
    four.write_all(b"hello").unwrap();
    four.shutdown(Shutdown::Write).unwrap();
    check_end(four, b"four: hello");
    assert_eq!(second.tcp().port(), port);
}

// ---- datagrams

/// What comes next is `prefix` and then `datagram`, whole.
#[track_caller]
fn check_reply(socket: &UdpSocket, datagram: &[u8], prefix: &[u8]) {
    let mut reply = vec![0; 65_536];
    let count = retry_interrupted(|| socket.recv(&mut reply)).unwrap();
    assert_same(&reply[..count], &[prefix, datagram].concat());
}

/// Sends all `datagrams`; each must come back behind `prefix`, whole, and in order.
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
fn datagrams_of_every_size_come_back_whole_to_their_sender() {
    // RFC 862. From nothing to the most that UDP over IPv4 can carry, by both families.
    for arguments in [UDP, UDP_V6] {
        let program = Program::start(&arguments);
        let socket = connect_udp(program.udp());
        for size in [0, 1, 1200, 1472, 9000, 65_507] {
            check_datagrams(&socket, &[&pattern(10, size)], b"");
        }
    }
}

#[test]
fn twenty_senders_at_once_get_each_their_own() {
    // All send one datagram, then all the next, of sizes that differ, while the program is held: one batch has many senders.
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
fn a_burst_of_equal_datagrams_comes_back_in_order() {
    // 64 fill a batch, and 600 are more than a turn's budget: no new edge comes for the rest. Equal ones share trains.
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
fn the_empty_datagram_gets_the_bare_prefix() {
    let program = Program::start(&UDP_PREFIXED);
    check_datagrams(&connect_udp(program.udp()), &[b"", b"", b"x", b""], b"echo -> ");
}

#[test]
fn a_reply_that_no_datagram_can_hold_is_not_sent_and_harms_no_neighbour() {
    // With 8 bytes of prefix, 65,499 bytes are the most that can be answered. Nothing comes for one more; the next does.
    let program = Program::start(&UDP_PREFIXED);
    let socket = connect_udp(program.udp());
    check_datagrams(&socket, &[&pattern(11, 65_499)], b"echo -> ");
    socket.send(&pattern(12, 65_500)).unwrap();
    check_datagrams(&socket, &[b"next"], b"echo -> ");
}

#[test]
#[cfg(target_os = "linux")]
fn a_train_of_datagrams_comes_back_datagram_by_datagram() {
    // The kernel cuts what is sent every 64 bytes (UDP_SEGMENT), and may hand it to the program in one piece (UDP_GRO).
    let program = Program::start(&UDP_PREFIXED);
    let socket = connect_udp(program.udp());
    cut_every(&socket, 64);
    for bytes in [64 * 20, 64 * 20 + 7, 64] {
        let train = pattern(13, bytes);
        assert_eq!(socket.send(&train).unwrap(), bytes);
        train.chunks(64).for_each(|datagram| check_reply(&socket, datagram, b"echo -> "));
    }
}

/// Has the kernel cut all that `socket` sends into datagrams of `segment` bytes.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // neither std nor socket2 has this option
fn cut_every(socket: &UdpSocket, segment: libc::c_int) {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the pointer and the length describe `segment`, which lives through the call; the descriptor is open.
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
fn senders_that_have_left_do_not_keep_the_rest_from_their_replies() {
    // A thousand close before their reply can come, so that each reply meets a closed port. They have an address of
    // their own, lest a program of another test takes one of their ports and hears a reply.
    let program = Program::start(&["--udp", "0.0.0.0:0"]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, program.udp().port()));
    let socket = connect_udp(address);
    program.while_suspended(|| {
        for _ in 0..1000 {
            UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"Goodbye.", address).unwrap();
        }
        socket.send(b"Hello.").unwrap();
    });
    check_reply(&socket, b"Hello.", b"");
    for _ in 0..100 {
        UdpSocket::bind("127.0.0.2:0").unwrap().send_to(b"Goodbye.", address).unwrap();
        check_datagrams(&socket, &[b"Hello again."], b"");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reply_comes_from_the_address_that_was_asked() {
    // RFC 1122 section 4.1.3.5. On Linux all of 127.0.0.0/8 is ours, and the program serves all of it. We are connected to
    // 127.0.0.2, so the kernel does not show us a reply from 127.0.0.1.
    let program = Program::start(&["--udp", "0.0.0.0:0"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(SocketAddr::from(([127, 0, 0, 2], program.udp().port()))).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    check_datagrams(&socket, &[b"Is it you?"], b"");
}

// ---- all together

#[test]
fn one_program_speaks_three_protocols_at_once() {
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
fn flags_that_are_repeated_give_as_many_sockets() {
    // Each address named is served, and printed in the order of the command line.
    let program = Program::start(&[
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "[::1]:0",
        "--tcp",
        "[::1]:0",
        "--udp",
        "127.0.0.1:0",
    ]);
    let (tcp, udp) = (program.addresses("tcp echo"), program.addresses("udp echo"));
    assert_eq!(tcp.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    assert_eq!(udp.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [true, false]);
    tcp.iter().for_each(|&address| check_echo(&mut connect(address), b"stream"));
    udp.iter().for_each(|&address| check_datagrams(&connect_udp(address), &[b"datagram"], b""));
}
