//! Failures: no reply, only a part of one, or a server that does not read.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::mpsc;

use socket2::{Domain, Socket, Type};

use super::{
    ClientProcess, ECHO, MIB, check_failure, check_reply, finish, reserve_port, run, send_command,
    send_stdin, send_text, serve_one, socket_path,
};
use crate::common::{Program, TIMEOUT, assert_same, pattern, reset, stay_where_refusals_arrive};

#[test]
fn server_that_does_not_listen_exits_1_and_is_named() {
    if !stay_where_refusals_arrive() {
        return;
    }
    let (_reserved, tcp) = reserve_port();
    check_failure(
        &send_text(&format!("tcp://{tcp}"), "hello"),
        1,
        &format!("{tcp}: nothing listens there"),
    );
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check_failure(
        &send_text(&format!("udp://{udp}"), "hello"),
        1,
        &format!("{udp}: nothing listens there"),
    );
    let path = socket_path("stale");
    let server = format!("unix:{}", path.display());
    check_failure(&send_text(&server, "hello"), 1, &format!("{server}: No such file or directory"));
    drop(UnixListener::bind(&path).unwrap());
    check_failure(&send_text(&server, "hello"), 1, &format!("{server}: nothing listens there"));
    std::fs::remove_file(&path).unwrap();
    check_failure(&send_text("tcp://nowhere.invalid:1", "hello"), 1, "nowhere.invalid:1: ");
}

// pitfall: 128
#[test]
fn client_without_a_thread_exits_1_with_one_line() {
    // No address space has room for the stack of such a thread.
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    let mut command = send_command(&[&server, "hello"]);
    let sent = run(command.env("RUST_MIN_STACK", (1_u64 << 50).to_string()));
    check_failure(&sent, 1, "no thread could be started: ");
    // Nor for the resolver's.
    let mut command = send_command(&["udp://localhost:9", "hello"]);
    let sent = run(command.env("RUST_MIN_STACK", (1_u64 << 50).to_string()));
    check_failure(&sent, 1, "localhost:9: no thread could be started: ");
}

// pitfall: 127
#[test]
fn name_resolution_is_bounded_by_the_timeout() {
    // The resolver reads the file HOSTALIASES (hostname(7)): a FIFO that is never written to.
    let fifo = socket_path("aliases");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for scheme in ["tcp", "udp"] {
        let server = format!("{scheme}://alias:9");
        let mut command = send_command(&["--timeout", "200ms", &server, "hello"]);
        let sent = run(command.env("HOSTALIASES", &fifo));
        // A resolver that reads no such file reports that there is no such name.
        check_failure(&sent, 1, "alias:9: ");
    }
    std::fs::remove_file(&fifo).unwrap();
}

#[test]
fn path_too_long_for_a_unix_socket_exits_1_with_the_bound() {
    let server = format!("unix:/{}", "x".repeat(200));
    check_failure(&send_text(&server, "hello"), 1, "too long for a Unix socket (on Linux: 107");
}

#[test]
fn link_local_server_needs_a_zone_that_exists() {
    let send = |server: &str| send_text(server, "hello");
    check_failure(&send("udp://[fe80::1]:9"), 2, "needs its interface, as in [fe80::1%eth0]");
    check_failure(&send("tcp://[fe80::1%nowhere]:9"), 1, "[fe80::1%nowhere]:9: ");
    if cfg!(target_os = "linux") {
        // The loopback interface is there, but has no such neighbour.
        let sent = run(&mut send_command(&["--timeout", "100ms", "tcp://[fe80::1%lo]:9", "hello"]));
        check_failure(&sent, 1, "[fe80::1%1]:9: ");
    }
}

#[test]
fn wrong_timeout_or_server_is_rejected_with_what_is_allowed() {
    for (arguments, words) in [
        (["--timeout", "100", "tcp://9"], "100 has no unit: 100s or 100ms?"),
        (["--timeout", "0s", "tcp://9"], "a duration is from 1ms to 8760h"),
        (["--timeout", "1s", "127.0.0.1:9"], "tcp://HOST:PORT, udp://HOST:PORT or"),
        (["--timeout", "1s", "tcp://localhost"], "the port is missing, as in localhost:8080"),
        (["--timeout", "1s", "tcp://*:9"], "* is for listening"),
    ] {
        check_failure(&run(&mut send_command(&arguments)), 2, words);
    }
}

#[test]
fn server_that_never_replies_exits_1_after_the_timeout() {
    // None of these servers ever reads. The last one's backlog is full as well, so the connect does
    // not finish.
    let (stream, datagram) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let path = socket_path("silent");
    let local = UnixListener::bind(&path).unwrap();
    let (tcp, udp) = (stream.local_addr().unwrap(), datagram.local_addr().unwrap());
    let unix = format!("unix:{}", path.display());
    for server in [format!("tcp://{tcp}"), format!("udp://{udp}"), unix.clone()] {
        check_failure(
            &run(&mut send_command(&["--timeout", "100ms", &server, "hello"])),
            1,
            "no reply within 100ms",
        );
    }
    let bytes = vec![0; 32 * MIB];
    for server in [format!("tcp://{tcp}"), unix.clone()] {
        check_failure(&send_stdin(&["--timeout", "200ms", &server], &bytes), 1, "write timeout");
    }
    drop(local);
    std::fs::remove_file(&path).unwrap();
    if cfg!(target_os = "linux") {
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        full.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        full.listen(0).unwrap();
        let _accepted = std::os::unix::net::UnixStream::connect(&path).unwrap();
        check_failure(
            &run(&mut send_command(&["--timeout", "100ms", &unix, "hello"])),
            1,
            "connect timeout",
        );
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn reply_of_a_server_that_never_closes_exits_0_with_a_note() {
    // Standard error says that there may be more.
    let (client_ended, ended) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HELLO").unwrap();
        ended.recv_timeout(TIMEOUT).unwrap();
    });
    let sent = run(&mut send_command(&["--timeout", "200ms", &server, "hello"]));
    client_ended.send(()).unwrap();
    assert_eq!((sent.status, &sent.stdout[..]), (Some(0), &b"HELLO"[..]), "{}", sent.stderr);
    assert!(
        sent.stderr.starts_with("reactor: ") && sent.stderr.contains("has not closed"),
        "{}",
        sent.stderr
    );
    serving.join().unwrap();
}

#[test]
fn server_that_closes_without_a_reply_exits_1() {
    let (server, serving) = serve_one(|mut stream| {
        io::copy(&mut stream, &mut io::sink()).unwrap();
    });
    check_failure(&send_text(&server, "hello"), 1, "closed without a reply");
    serving.join().unwrap();
}

#[test]
fn input_that_the_server_does_not_accept_exits_1_despite_a_reply() {
    // One server sends its reply and FIN after the first byte, and reads no more. The other closes
    // at once. Then either the read or the write of the client fails first.
    let bytes = vec![0; 32 * MIB];
    let (client_ended, ended) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"ok").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        ended.recv_timeout(TIMEOUT).unwrap();
    });
    let sent = send_stdin(&["--timeout", "200ms", &server], &bytes);
    client_ended.send(()).unwrap();
    serving.join().unwrap();
    assert_eq!((sent.status, &sent.stdout[..]), (Some(1), &b"ok"[..]), "{}", sent.stderr);
    assert!(
        sent.stderr.starts_with("reactor: ") && sent.stderr.contains("write timeout"),
        "{}",
        sent.stderr
    );
    let (server, serving) = serve_one(drop);
    check_failure(&send_stdin(&[&server], &bytes), 1, "");
    serving.join().unwrap();
}

#[test]
fn input_is_sent_whole_after_the_servers_fin() {
    // The server sends its FIN after the first byte, and only then reads the rest, until our FIN.
    let bytes = pattern(3, 32 * MIB);
    let (sender, received) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        let mut bytes = vec![0];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(b"ok").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut bytes).unwrap();
        sender.send(bytes).unwrap();
    });
    check_reply(&send_stdin(&[&server], &bytes), b"ok");
    assert_same(&received.recv_timeout(TIMEOUT).unwrap(), &bytes);
    serving.join().unwrap();
}

#[test]
fn servers_fin_ends_the_wait_for_more_input() {
    // The input does not end, as on a terminal. All of it so far has been sent.
    let (server, serving) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HELLO").unwrap();
    });
    let mut client = ClientProcess(
        send_command(&["--timeout", "1h", &server]).stdin(Stdio::piped()).spawn().unwrap(),
    );
    let mut stdin = client.0.stdin.take().unwrap();
    stdin.write_all(b"hello").unwrap();
    check_reply(&finish(client), b"HELLO");
    serving.join().unwrap();
    drop(stdin);
}

#[test]
fn reply_cut_off_by_a_reset_is_printed_so_far_and_exits_1() {
    let (half_printed, printed) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        io::copy(&mut stream, &mut io::sink()).unwrap(); // until the client's FIN
        stream.write_all(b"half of").unwrap();
        printed.recv_timeout(TIMEOUT).unwrap();
        reset(stream);
    });
    let mut client = ClientProcess(send_command(&[&server, "hello"]).spawn().unwrap());
    let mut half = [0; 7];
    client.0.stdout.as_mut().unwrap().read_exact(&mut half).unwrap();
    assert_eq!(&half, b"half of");
    half_printed.send(()).unwrap();
    check_failure(&finish(client), 1, "reply cut off");
    serving.join().unwrap();
}

// pitfall: 128
#[test]
fn closed_standard_output_exits_1_without_a_message() {
    // Standard output is a pipe whose reader is closed.
    let program = Program::start(&ECHO);
    for server in [format!("tcp://{}", program.tcp()), format!("udp://{}", program.udp())] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sent = run(send_command(&[&server, "hello"]).stdout(writer));
        assert_eq!((sent.status, sent.stderr.as_str()), (Some(1), ""));
    }
}

#[test]
fn input_too_long_for_a_datagram_exits_2_before_sending() {
    let program = Program::start(&ECHO);
    let server = format!("udp://{}", program.udp());
    let most = "x".repeat(65_507);
    check_reply(&send_text(&server, &most), most.as_bytes());
    check_reply(&send_stdin(&[&server], most.as_bytes()), most.as_bytes());
    check_failure(&send_text(&server, &(most + "x")), 2, "holds 65507 bytes");
    check_failure(&send_stdin(&[&server], &vec![0; MIB]), 2, "holds 65507 bytes");
}

#[test]
fn invalid_send_arguments_exit_2_with_one_line() {
    let invalid: [&[&str]; 17] = [
        &[],
        &["127.0.0.1:2000", "hello"],
        &["tcp://127.0.0.1", "hello"],
        &["tcp://:", "hello"],
        &["tcp://127.0.0.1:65536", "hello"],
        &["tcp://127.0.0.1:+2000", "hello"],
        &["udp://127.0.0.1:+2000", "hello"],
        &["tcp://127.0.0.1:2000//", "hello"],
        &["tcp:///127.0.0.1:2000", "hello"],
        &["udp://", "hello"],
        &["unix:", "hello"],
        &["http://127.0.0.1:8080/", "hello"],
        &["tcp://127.0.0.1:2000", "hello", "world"],
        &["tcp://127.0.0.1:2000", "--frob"],
        &["--timeout", "0s", "tcp://127.0.0.1:2000", "hello"],
        &["--timeout", "5000", "tcp://127.0.0.1:2000", "hello"],
        &["--timeout", "soon", "tcp://127.0.0.1:2000", "hello"],
    ];
    for arguments in invalid {
        check_failure(&run(&mut send_command(arguments)), 2, "");
    }
}
