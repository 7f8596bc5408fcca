//! Addresses as people write them: which sockets the program opens for each form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use super::run;
use crate::common::{Program, check_echo, connect, connect_udp, reactor};

/// Returns whether this machine has IPv6. Where it does not, the test says what it left out.
fn has_ipv6() -> bool {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has_ipv6 {
        println!("skipped: no IPv6");
    }
    has_ipv6
}

/// Checks that bytes and datagrams come back from `address`.
#[track_caller]
fn check_served(flag: &str, address: SocketAddr) {
    if flag == "--tcp" {
        return check_echo(&mut connect(address), b"hello");
    }
    let socket = connect_udp(address);
    socket.send(b"hello").unwrap();
    let mut reply = [0; 16];
    let count = socket.recv(&mut reply).unwrap();
    assert_eq!(&reply[..count], b"hello");
}

#[test]
fn port_alone_is_served_on_the_ipv4_loopback_address() {
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo")] {
        for form in ["0", ":0"] {
            let program = Program::start(&[flag, form]);
            let [address] = program.addresses(service)[..] else { panic!("one address") };
            assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST), "{flag} {form}");
            check_served(flag, address);
        }
    }
}

#[test]
fn name_is_served_at_loopback_addresses_of_one_port() {
    // How many addresses `localhost` has is for the machine to say.
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo")] {
        let program = Program::start(&[flag, "localhost:0"]);
        program.wait_for_log("serving: ");
        let ending = program.stop();
        assert_eq!(ending.status.code(), Some(0));
        let addresses: Vec<SocketAddr> = ending
            .stdout
            .iter()
            .map(|line| line.strip_prefix(service).unwrap().trim().parse().unwrap())
            .collect();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
    }
}

#[test]
fn star_is_two_sockets_with_one_port_and_no_mapped_addresses() {
    // With a single socket for both, the log would have `[::ffff:127.0.0.1]` as the peer.
    if !has_ipv6() {
        return;
    }
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo")] {
        let mut program = Program::spawn(reactor().args([flag, "*:0", "--log", "debug"]));
        program.read_address_lines(2);
        let addresses = program.addresses(service);
        let port = addresses[0].port();
        let any = [(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()];
        assert_eq!(addresses, any);
        check_served(flag, (Ipv4Addr::LOCALHOST, port).into());
        check_served(flag, (Ipv6Addr::LOCALHOST, port).into());
        let ending = program.stop();
        assert_eq!(ending.status.code(), Some(0));
        let log = ending.stderr.join("\n");
        assert!(!log.contains("::ffff:"), "{log}");
        if flag == "--tcp" {
            assert!(log.contains(" 127.0.0.1:") && log.contains(" [::1]:"), "{log}");
        }
    }
}

#[test]
fn several_addresses_may_be_repeated_or_separated_by_commas() {
    let mut program = Program::spawn(reactor().args(["--tcp", "0,:0", "--tcp", "127.0.0.1:0"]));
    program.read_address_lines(3);
    for address in program.addresses("tcp echo") {
        check_served("--tcp", address);
    }
}

#[test]
fn address_that_this_machine_lacks_exits_1_naming_it() {
    // 192.0.2.1 is for documentation (RFC 5737), and no machine has it.
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo"), ("--http", "http")] {
        let ending = run(&[flag, "192.0.2.1:0"]);
        assert_eq!(ending.status.code(), Some(1));
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        let start = format!("reactor: {service} 192.0.2.1:0: ");
        assert!(line.starts_with(&start) && line.contains("ssign requested address"), "{line}");
    }
}

#[test]
fn unknown_name_and_unknown_zone_exit_1_naming_the_argument() {
    // RFC 6761 section 6.4: no name below "invalid" exists.
    for address in ["nowhere.invalid:80", "[fe80::1%nowhere]:80"] {
        let ending = run(&["--tcp", "127.0.0.1:0", "--http", address]);
        assert_eq!(ending.status.code(), Some(1));
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: http {address}: ")), "{line}");
    }
}

#[test]
fn port_in_use_at_one_address_of_a_name_names_both() {
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ending = run(&["--udp", &format!("*:{port}")]);
    assert_eq!(ending.status.code(), Some(1));
    assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    let start = format!("reactor: udp echo *:{port}: 0.0.0.0:{port}: ");
    assert!(line.starts_with(&start) && line.contains("in use"), "{line}");
}
