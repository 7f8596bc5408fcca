//! Echo over UDP: datagrams of any size, batches, GSO, and replies that cannot be sent.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::SockRef;

use super::common::{Program, TIMEOUT, connect_udp, pattern};
use super::{MIB, check_datagrams, check_reply};

const UDP: [&str; 2] = ["--udp", "127.0.0.1:0"];
const UDP_V6: [&str; 2] = ["--udp", "[::1]:0"];
const UDP_PREFIXED: [&str; 4] = ["--udp", "127.0.0.1:0", "--prefix", "echo -> "];

// pitfall: 50, 55
// rule: datagram-echo
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

// pitfall: 49
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

// pitfall: 1, 27
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

// pitfall: 41
// rule: datagram-echo
#[test]
fn empty_datagram_is_answered_with_the_prefix_alone() {
    let program = Program::start(&UDP_PREFIXED);
    check_datagrams(&connect_udp(program.udp()), &[b"", b"", b"x", b""], b"echo -> ");
}

// pitfall: 44
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

// pitfall: 51
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

// pitfall: 45
// rule: unanswerable-peer
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

// pitfall: 53
// rule: reply-address
#[test]
#[cfg(target_os = "linux")]
fn reply_leaves_from_the_address_the_datagram_was_sent_to() {
    // RFC 1122 section 4.1.3.5. On Linux every address of 127.0.0.0/8 is local, and the program
    // serves all of them. The peer's socket is connected to 127.0.0.2, so the kernel does not
    // deliver a reply from 127.0.0.1 to it.
    if cfg!(mio_unsupported_force_poll_poll) {
        return; // only recvmmsg(2) reports that address
    }
    let program = Program::start(&["--udp", "0.0.0.0:0"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(SocketAddr::from(([127, 0, 0, 2], program.udp().port()))).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    check_datagrams(&socket, &[b"from 127.0.0.2?"], b"");
}
