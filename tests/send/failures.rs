//! No reply, or not all of it.

use std::io;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::mpsc;

use super::{
    Client, ECHO, MIB, check_failure, check_reply, client, finish, hold_port, pipe, run, send,
    serve_one, socket_path,
};
use crate::common::{PATIENCE, Program, assert_same, pattern, reset};
use socket2::{Domain, Socket, Type};

#[test]
fn where_nobody_listens_it_says_so_with_status_1() {
    let (_held, tcp) = hold_port();
    check_failure(
        &send(&format!("tcp://{tcp}"), "hello"),
        1,
        &format!("{tcp}: nobody listens there"),
    );
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check_failure(
        &send(&format!("udp://{udp}"), "hello"),
        1,
        &format!("{udp}: nobody listens there"),
    );
    let path = socket_path("stale");
    let server = format!("unix:{}", path.display());
    check_failure(&send(&server, "hello"), 1, &format!("{server}: No such file or directory"));
    drop(UnixListener::bind(&path).unwrap());
    check_failure(&send(&server, "hello"), 1, &format!("{server}: nobody listens there"));
    std::fs::remove_file(&path).unwrap();
    check_failure(&send("tcp://nowhere.invalid:1", "hello"), 1, "nowhere.invalid:1: ");
}

#[test]
fn a_server_that_never_answers_is_left_with_status_1() {
    // None of them ever reads. The last one's queue is full as well, so that nobody is let in.
    let (stream, datagram) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let path = socket_path("silent");
    let local = UnixListener::bind(&path).unwrap();
    let (tcp, udp) = (stream.local_addr().unwrap(), datagram.local_addr().unwrap());
    let place = format!("unix:{}", path.display());
    for server in [format!("tcp://{tcp}"), format!("udp://{udp}"), place.clone()] {
        check_failure(
            &run(&mut client(&["--timeout", "100", &server, "hello"])),
            1,
            "no reply came within 100 ms",
        );
    }
    let bytes = vec![0; 32 * MIB];
    for server in [format!("tcp://{tcp}"), place.clone()] {
        check_failure(&pipe(&["--timeout", "200", &server], &bytes), 1, "takes no more");
    }
    drop(local);
    std::fs::remove_file(&path).unwrap();
    if cfg!(target_os = "linux") {
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        full.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        full.listen(0).unwrap();
        let _let_in = std::os::unix::net::UnixStream::connect(&path).unwrap();
        check_failure(
            &run(&mut client(&["--timeout", "100", &place, "hello"])),
            1,
            "nobody has let us in in time",
        );
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_reply_counts_although_its_server_never_closes() {
    // It is told on standard error that there may be more.
    let (tell, ended) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HELLO").unwrap();
        ended.recv_timeout(PATIENCE).unwrap();
    });
    let sent = run(&mut client(&["--timeout", "200", &server, "hello"]));
    tell.send(()).unwrap();
    assert_eq!((sent.status, &sent.stdout[..]), (Some(0), &b"HELLO"[..]), "{}", sent.stderr);
    assert!(
        sent.stderr.starts_with("reactor: ") && sent.stderr.contains("has not closed"),
        "{}",
        sent.stderr
    );
    serving.join().unwrap();
}

#[test]
fn a_server_that_closes_without_a_word_is_noticed() {
    let (server, serving) = serve_one(|mut stream| {
        io::copy(&mut stream, &mut io::sink()).unwrap();
    });
    check_failure(&send(&server, "hello"), 1, "closed without a word");
    serving.join().unwrap();
}

#[test]
fn what_a_server_does_not_take_was_not_sent_whatever_it_has_replied() {
    // One says all that it has to say after the first byte, and reads no more. The other is gone at once, and which of the two calls
    // learns of it first is a matter of time.
    let bytes = vec![0; 32 * MIB];
    let (tell, ended) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"ok").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        ended.recv_timeout(PATIENCE).unwrap();
    });
    let sent = pipe(&["--timeout", "200", &server], &bytes);
    tell.send(()).unwrap();
    serving.join().unwrap();
    assert_eq!((sent.status, &sent.stdout[..]), (Some(1), &b"ok"[..]), "{}", sent.stderr);
    assert!(
        sent.stderr.starts_with("reactor: ") && sent.stderr.contains("takes no more"),
        "{}",
        sent.stderr
    );
    let (server, serving) = serve_one(drop);
    check_failure(&pipe(&[&server], &bytes), 1, "");
    serving.join().unwrap();
}

#[test]
fn a_server_that_has_said_all_may_still_take_all() {
    // It ends its side after the first byte, and only then reads the rest, to the end of ours.
    let bytes = pattern(3, 32 * MIB);
    let (tell, told) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        let mut taken = vec![0];
        stream.read_exact(&mut taken).unwrap();
        stream.write_all(b"ok").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut taken).unwrap();
        tell.send(taken).unwrap();
    });
    check_reply(&pipe(&[&server], &bytes), b"ok");
    assert_same(&told.recv_timeout(PATIENCE).unwrap(), &bytes);
    serving.join().unwrap();
}

#[test]
fn a_server_that_has_said_all_is_not_kept_waiting_for_our_input() {
    // Our input does not end, as where somebody types. All of it has been sent.
    let (server, serving) = serve_one(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HELLO").unwrap();
    });
    let mut client =
        Client(client(&["--timeout", "3600000", &server]).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = client.0.stdin.take().unwrap();
    stdin.write_all(b"hello").unwrap();
    check_reply(&finish(client), b"HELLO");
    serving.join().unwrap();
    drop(stdin);
}

#[test]
fn a_reply_that_breaks_off_is_printed_as_far_as_it_came_with_status_1() {
    let (tell, told) = mpsc::channel();
    let (server, serving) = serve_one(move |mut stream| {
        io::copy(&mut stream, &mut io::sink()).unwrap(); // until its FIN
        stream.write_all(b"half of").unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        reset(stream);
    });
    let mut client = Client(client(&[&server, "hello"]).spawn().unwrap());
    let mut half = [0; 7];
    client.0.stdout.as_mut().unwrap().read_exact(&mut half).unwrap();
    assert_eq!(&half, b"half of");
    tell.send(()).unwrap();
    check_failure(&finish(client), 1, "broke off");
    serving.join().unwrap();
}

#[test]
fn who_does_not_read_its_output_any_more_is_not_told_of_a_panic() {
    // Its standard output is a pipe whose reader has gone.
    let program = Program::start(&ECHO);
    for server in [format!("tcp://{}", program.tcp()), format!("udp://{}", program.udp())] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sent = run(client(&[&server, "hello"]).stdout(writer));
        assert_eq!((sent.status, sent.stderr.as_str()), (Some(1), ""));
    }
}

#[test]
fn what_does_not_fit_into_a_datagram_is_refused_before_it_is_sent() {
    let program = Program::start(&ECHO);
    let server = format!("udp://{}", program.udp());
    let most = "x".repeat(65_507);
    check_reply(&send(&server, &most), most.as_bytes());
    check_reply(&pipe(&[&server], most.as_bytes()), most.as_bytes());
    check_failure(&send(&server, &(most + "x")), 2, "room for 65507 bytes");
    check_failure(&pipe(&[&server], &vec![0; MIB]), 2, "room for 65507 bytes");
}

#[test]
fn what_makes_no_sense_is_told_in_one_line_with_status_2() {
    let nonsense: [&[&str]; 16] = [
        &[],
        &["127.0.0.1:2000", "hello"],
        &["tcp://127.0.0.1", "hello"],
        &["tcp://:2000", "hello"],
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
        &["--timeout", "0", "tcp://127.0.0.1:2000", "hello"],
        &["--timeout", "soon", "tcp://127.0.0.1:2000", "hello"],
    ];
    for arguments in nonsense {
        check_failure(&run(&mut client(arguments)), 2, "");
    }
}
