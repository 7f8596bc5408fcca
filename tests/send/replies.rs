//! Replies.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    Client, ECHO, MIB, Sent, check_failure, check_reply, client, finish, hold_port, pipe, run,
    send, socket_path,
};
use crate::common::{PATIENCE, Program, be_late, pattern, reactor};

#[test]
fn a_text_is_answered_over_tcp_udp_and_a_unix_socket_byte_for_byte() {
    // No line end is added where a program reads. A host may have a name, and a URL its final slash.
    let path = socket_path("text");
    let place = format!("unix:{}", path.display());
    let program = Program::start(&[&ECHO[..], &["--tcp", &place]].concat());
    let (tcp, udp) = (program.tcp(), program.udp());
    let named = format!("tcp://localhost:{}/", tcp.port());
    for server in [format!("tcp://{tcp}"), format!("udp://{udp}"), place, named] {
        for text in ["Hello world", "with\na line end\n", "ünï"] {
            check_reply(&send(&server, text), text.as_bytes());
        }
        check_reply(&run(&mut client(&["--timeout", "10000", &server, "--", "-x"])), b"-x");
        check_reply(&pipe(&[&server], b"from standard input\n"), b"from standard input\n");
    }
    check_reply(&send(&format!("udp://{udp}"), ""), b"");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn eight_mib_go_through_an_echo_server_that_answers_while_it_reads() {
    let path = socket_path("bulk");
    let place = format!("unix:{}", path.display());
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--tcp", &place]);
    let bytes = pattern(1, 8 * MIB);
    for server in [format!("tcp://{}", program.tcp()), place] {
        check_reply(&pipe(&[&server], &bytes), &bytes);
    }
}

#[test]
fn a_page_is_fetched_as_text() {
    let program = Program::start(&["--http", "127.0.0.1:0"]);
    let sent = send(&format!("tcp://{}", program.http()), "GET /plaintext HTTP/1.0\r\n\r\n");
    assert_eq!((sent.status, sent.stderr.as_str()), (Some(0), ""));
    let page = String::from_utf8(sent.stdout).unwrap();
    assert!(
        page.starts_with("HTTP/1.0 200 OK\r\n") && page.ends_with("\r\n\r\nHello, World!"),
        "{page}"
    );
}

#[test]
fn only_a_terminal_gets_a_line_end_behind_the_reply() {
    // Python's pty gives it one, and copies what is shown there; a terminal shows a line end as CR LF.
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    for (text, shown) in [("Hello world", "Hello world\r\n"), ("Hello world\n", "Hello world\r\n")]
    {
        let mut python = Command::new("python3");
        python.args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]);
        python.arg(reactor().get_program()).args(["send", &server, text]).env_remove("RUST_LOG");
        check_reply(
            &run(python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())),
            shown.as_bytes(),
        );
    }
}

#[test]
fn as_long_as_our_input_goes_on_nobody_is_out_of_time() {
    // Nothing happens for much longer than the timeout: it is we who are awaited.
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    let mut client =
        Client(client(&["--timeout", "50", &server]).stdin(Stdio::piped()).spawn().unwrap());
    let (mut stdin, stdout) = (client.0.stdin.take().unwrap(), client.0.stdout.as_mut().unwrap());
    for word in [b"one", b"two"] {
        stdin.write_all(word).unwrap();
        let mut reply = [0; 3];
        stdout.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, word, "it is printed as it comes");
        be_late(Duration::from_millis(250));
    }
    drop(stdin);
    check_reply(&finish(client), b"");
}

#[test]
fn as_long_as_our_output_is_not_read_nobody_is_out_of_time() {
    // The server cannot send, and so does not read; all buffers are full for much longer than the timeout.
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    let bytes = pattern(2, 32 * MIB);
    let mut client =
        Client(client(&["--timeout", "100", &server]).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = client.0.stdin.take().unwrap();
    let sent = bytes.clone();
    let writing = thread::spawn(move || stdin.write_all(&sent));
    be_late(Duration::from_millis(500));
    check_reply(&finish(client), &bytes);
    writing.join().unwrap().unwrap();
}

// ---- the lecture's servers

/// Runs `script` of docs/lecture at `port`.
fn lecture(script: &str, port: u16) -> Program {
    let mut command = Command::new("python3");
    command
        .arg(format!("{}/docs/lecture/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(port.to_string());
    Program::spawn(&mut command)
}

/// Sends `text` until somebody listens, for a script does not say when it does.
#[track_caller]
fn send_when_it_listens(server: &str, text: &str) -> Sent {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let sent = send(server, text);
        if sent.status == Some(0) || Instant::now() > give_up {
            return sent;
        }
        check_failure(&sent, 1, "nobody listens there");
    }
}

#[test]
fn the_lectures_servers_answer_it_as_they_answer_the_lectures_clients() {
    let (_held, address) = hold_port();
    let _server = lecture("tcp_echo_server.py", address.port());
    let server = format!("tcp://{address}");
    check_reply(&send_when_it_listens(&server, "Hello world"), b"echo -> Hello world");
    // It puts the prefix before whatever one recv(1024) has brought.
    let sent = pipe(&[&server], &[b'x'; 100_000]);
    assert_eq!(
        (sent.status, sent.stdout.iter().filter(|&&byte| byte == b'x').count()),
        (Some(0), 100_000),
        "{}",
        sent.stderr
    );

    let (_held, address) = hold_port();
    let _server = lecture("web_server.py", address.port());
    let sent = send_when_it_listens(&format!("tcp://{address}"), "GET / HTTP/1.0\r\n\r\n");
    let page = String::from_utf8(sent.stdout).unwrap();
    assert!(
        page.starts_with("HTTP/1.1 200 OK\r\n")
            && page.ends_with("Hello world!</p></body></html>\n"),
        "{page}"
    );

    let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _server = lecture("udp_echo_server.py", address.port());
    check_reply(
        &send_when_it_listens(&format!("udp://{address}"), "Hello world"),
        b"echo -> Hello world",
    );
}
