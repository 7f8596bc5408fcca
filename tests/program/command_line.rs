//! The command line: what it accepts, what it refuses, and with which status.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};

use super::run;
use crate::common::{Program, connect};

#[test]
fn help_tells_every_flag_the_default_addresses_and_what_a_stream_is_not() {
    // How the lines are broken does not matter.
    let ending = run(&["--help"]);
    assert_eq!(ending.status.code(), Some(0));
    assert!(ending.stderr.is_empty(), "{:?}", ending.stderr);
    let help = ending.stdout.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
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
        assert!(help.contains(told), "{told} is not in: {help}");
    }
}

#[test]
fn what_makes_no_sense_is_told_in_one_line_with_status_2() {
    let nonsense: [&[&str]; 9] = [
        &["--frob"],
        &["nonsense"],
        &["serve", "--frob"],
        &["--tcp"],
        &["--tcp", "127.0.0.1"],
        &["--udp", "somewhere:2000"],
        &["--http", "127.0.0.1:65536"],
        &["--tcp", "127.0.0.1:0", "--log", "loud"],
        &["--tcp", "127.0.0.1:0", "--root", "."],
    ];
    for arguments in nonsense {
        let ending = run(arguments);
        assert_eq!(ending.status.code(), Some(2), "{arguments:?}: {:?}", ending.stderr);
        assert_eq!(ending.stderr.len(), 1, "{arguments:?}: {:?}", ending.stderr);
        assert!(ending.stderr[0].starts_with("reactor: "), "{arguments:?}: {:?}", ending.stderr);
        assert!(ending.stdout.is_empty(), "{arguments:?}: {:?}", ending.stdout);
    }
}

#[test]
fn a_taken_port_is_told_with_its_service_its_address_and_the_reason() {
    // The test itself holds the ports. Neither is one of the two services announced if the other cannot be had.
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
fn serve_is_what_is_meant_where_no_command_is_named() {
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
fn only_what_is_named_is_opened_and_port_0_becomes_a_real_one() {
    // It prints a line for each socket that it opens; once it has ended, there can be no further line.
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo"), ("--http", "http")] {
        let program = Program::start(&[flag, "127.0.0.1:0"]);
        let [address] = program.addresses(service)[..] else { panic!("one address") };
        assert_ne!(address.port(), 0);
        assert_eq!(program.stop().stdout, [format!("{service} {address}")]);
    }
}
