//! The command line: what it accepts, what it rejects, and with which exit status.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};

use super::run;
use crate::common::{Program, connect};

#[test]
fn help_has_every_flag_the_default_addresses_and_message_boundaries() {
    // Line breaks do not matter.
    let ending = run(&["--help"]);
    assert_eq!(ending.status.code(), Some(0));
    assert!(ending.stderr.is_empty(), "{:?}", ending.stderr);
    let help = ending.stdout.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "--tcp",
        "--udp",
        "--http",
        "--root",
        "--prefix",
        "--answer-all-ports",
        "message boundaries",
        "127.0.0.1:2000",
        "127.0.0.1:8080",
    ] {
        assert!(help.contains(text), "{text} is not in: {help}");
    }
}

#[test]
fn invalid_serve_arguments_exit_2_with_one_line() {
    let invalid: [&[&str]; 9] = [
        &["--frob"],
        &["unknown"],
        &["serve", "--frob"],
        &["--tcp"],
        &["--tcp", "127.0.0.1"],
        &["--udp", "somewhere"],
        &["--http", "127.0.0.1:65536"],
        &["--tcp", "127.0.0.1:0", "--log", "loud"],
        &["--tcp", "127.0.0.1:0", "--root", "."],
    ];
    for arguments in invalid {
        let ending = run(arguments);
        assert_eq!(ending.status.code(), Some(2), "{arguments:?}: {:?}", ending.stderr);
        assert_eq!(ending.stderr.len(), 1, "{arguments:?}: {:?}", ending.stderr);
        assert!(ending.stderr[0].starts_with("reactor: "), "{arguments:?}: {:?}", ending.stderr);
        assert!(ending.stdout.is_empty(), "{arguments:?}: {:?}", ending.stdout);
    }
}

#[test]
fn port_in_use_exits_1_naming_service_address_and_reason() {
    // The test itself has bound the ports. If one address cannot be served, no address is printed.
    let (stream, datagram) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (stream, datagram) =
        (stream.local_addr().unwrap().to_string(), datagram.local_addr().unwrap().to_string());
    for (flag, service, address) in [("--tcp", "tcp echo", stream), ("--udp", "udp echo", datagram)]
    {
        let ending = run(&["--http", "127.0.0.1:0", flag, &address]);
        assert_eq!(ending.status.code(), Some(1));
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(
            line.contains(&format!("{service} {address}: ")) && line.contains("in use"),
            "{line}"
        );
    }
}

#[test]
fn serve_command_serves_like_no_command() {
    let program = Program::start(&["serve", "--tcp", "127.0.0.1:0", "--prefix", "echo -> "]);
    let mut stream = connect(program.tcp());
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "echo -> hello");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn only_named_addresses_are_served_and_port_0_becomes_real() {
    // The program prints one line for each socket that it opens. After its end no further line can
    // follow.
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo"), ("--http", "http")] {
        let program = Program::start(&[flag, "127.0.0.1:0"]);
        let [address] = program.addresses(service)[..] else { panic!("one address") };
        assert_ne!(address.port(), 0);
        assert_eq!(program.stop().stdout, [format!("{service} {address}")]);
    }
}
