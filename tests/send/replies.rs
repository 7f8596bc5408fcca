//! Replies: printed whole, byte for byte, from every kind of server.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    ClientProcess, ECHO, MIB, SendResult, check_failure, check_reply, finish, reserve_port, run,
    send_command, send_stdin, send_text, socket_path,
};
use crate::common::{Program, TIMEOUT, pattern, reactor, stall, stay_where_refusals_arrive};

#[test]
fn reply_over_tcp_udp_and_unix_sockets_is_printed_byte_for_byte() {
    // No line end is added, since the output is a pipe. A host may be a name, and a URL may end
    // with a slash.
    let path = socket_path("text");
    let unix = format!("unix:{}", path.display());
    let program = Program::start(&[&ECHO[..], &["--tcp", &unix]].concat());
    let (tcp, udp) = (program.tcp(), program.udp());
    let named = format!("tcp://localhost:{}/", tcp.port());
    for server in [format!("tcp://{tcp}"), format!("udp://{udp}"), unix, named] {
        for text in ["Hello world", "with\na line end\n", "ünï"] {
            check_reply(&send_text(&server, text), text.as_bytes());
        }
        check_reply(&run(&mut send_command(&["--timeout", "10s", &server, "--", "-x"])), b"-x");
        check_reply(&send_stdin(&[&server], b"from standard input\n"), b"from standard input\n");
    }
    check_reply(&send_text(&format!("udp://{udp}"), ""), b"");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn server_may_be_a_port_a_name_or_an_ipv6_address_in_brackets() {
    let program = Program::start(&ECHO);
    for (scheme, address) in [("tcp", program.tcp()), ("udp", program.udp())] {
        let port = address.port();
        for host in ["", ":", "localhost:", "127.0.0.1:"] {
            check_reply(&send_text(&format!("{scheme}://{host}{port}"), "hello"), b"hello");
        }
    }
    drop(program);
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let program = Program::start(&["--tcp", "[::1]:0", "--udp", "[::1]:0"]);
        for server in [format!("tcp://{}", program.tcp()), format!("udp://{}", program.udp())] {
            check_reply(&send_text(&server, "hello"), b"hello");
        }
    }
}

#[test]
fn eight_mib_pass_an_echo_server_that_replies_while_it_reads() {
    let path = socket_path("bulk");
    let unix = format!("unix:{}", path.display());
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--tcp", &unix]);
    let bytes = pattern(1, 8 * MIB);
    for server in [format!("tcp://{}", program.tcp()), unix] {
        check_reply(&send_stdin(&[&server], &bytes), &bytes);
    }
    assert_eq!(program.stop().status.code(), Some(0)); // it removes the socket's file
}

#[test]
fn http_page_is_fetched_with_a_request_as_text() {
    let program = Program::start(&["--http", "127.0.0.1:0"]);
    let sent = send_text(&format!("tcp://{}", program.http()), "GET /plaintext HTTP/1.0\r\n\r\n");
    assert_eq!((sent.status, sent.stderr.as_str()), (Some(0), ""));
    let page = String::from_utf8(sent.stdout).unwrap();
    assert!(
        page.starts_with("HTTP/1.0 200 OK\r\n") && page.ends_with("\r\n\r\nHello, World!"),
        "{page}"
    );
}

#[test]
fn only_a_terminal_gets_a_line_end_after_the_reply() {
    // Python's pty module runs the client on a terminal and copies what it shows. A terminal turns
    // a line end into CR LF.
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
fn slow_input_does_not_count_towards_the_timeout() {
    // No byte moves for much longer than the timeout, but the server is not at fault: our input is
    // awaited.
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    let mut client = ClientProcess(
        send_command(&["--timeout", "50ms", &server]).stdin(Stdio::piped()).spawn().unwrap(),
    );
    let (mut stdin, stdout) = (client.0.stdin.take().unwrap(), client.0.stdout.as_mut().unwrap());
    for word in [b"one", b"two"] {
        stdin.write_all(word).unwrap();
        let mut reply = [0; 3];
        stdout.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, word, "it is printed as it arrives");
        stall(Duration::from_millis(250));
    }
    drop(stdin);
    check_reply(&finish(client), b"");
}

#[test]
fn unread_output_does_not_count_towards_the_timeout() {
    // The server cannot send, so it does not read. All buffers are full for much longer than the
    // timeout.
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    let bytes = pattern(2, 32 * MIB);
    let mut client = ClientProcess(
        send_command(&["--timeout", "100ms", &server]).stdin(Stdio::piped()).spawn().unwrap(),
    );
    let mut stdin = client.0.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = thread::spawn(move || stdin.write_all(&sent));
    stall(Duration::from_millis(500));
    check_reply(&finish(client), &bytes);
    writer.join().unwrap().unwrap();
}

// ---- the lecture's servers

/// Starts `script` of docs/lecture on `port`.
fn lecture(script: &str, port: u16) -> Program {
    let mut command = Command::new("python3");
    command
        .arg(format!("{}/docs/lecture/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(port.to_string());
    Program::spawn(&mut command)
}

/// Sends `text`, and again until the server listens: a script does not report when it does.
#[track_caller]
fn send_when_it_listens(server: &str, text: &str) -> SendResult {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let sent = send_text(server, text);
        if sent.status == Some(0) || Instant::now() > deadline {
            return sent;
        }
        check_failure(&sent, 1, "nothing listens there");
    }
}

#[test]
fn lecture_servers_reply_as_to_the_lecture_clients() {
    if !stay_where_refusals_arrive() {
        return;
    }
    let (_reserved, address) = reserve_port();
    let _server = lecture("tcp_echo_server.py", address.port());
    let server = format!("tcp://{address}");
    check_reply(&send_when_it_listens(&server, "Hello world"), b"echo -> Hello world");
    // This server puts its prefix before the bytes of each recv(1024).
    let sent = send_stdin(&[&server], &[b'x'; 100_000]);
    assert_eq!(
        (sent.status, sent.stdout.iter().filter(|&&byte| byte == b'x').count()),
        (Some(0), 100_000),
        "{}",
        sent.stderr
    );

    let (_reserved, address) = reserve_port();
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

// pitfall: 125
#[test]
#[cfg(target_os = "linux")]
fn non_blocking_streams_lose_neither_input_nor_reply() {
    // Both pipes are smaller than the text, which is written only once the client has found its
    // input empty, and read only once its output is full.
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::os::fd::AsFd;

    let set_non_blocking = |descriptor: &dyn AsFd| {
        let flags = fcntl_getfl(descriptor.as_fd()).unwrap() | OFlags::NONBLOCK;
        fcntl_setfl(descriptor.as_fd(), flags).unwrap();
    };
    let program = Program::start(&ECHO);
    let server = format!("tcp://{}", program.tcp());
    let (stdin, mut input) = std::io::pipe().unwrap();
    let (mut output, stdout) = std::io::pipe().unwrap();
    set_non_blocking(&stdin);
    set_non_blocking(&stdout);
    let mut command = send_command(&[&server]);
    let client = ClientProcess(command.stdin(stdin).stdout(stdout).spawn().unwrap());
    drop(command);
    stall(Duration::from_millis(100));
    let text = pattern(4, 4 * MIB);
    let bytes = text.clone();
    let writer = thread::spawn(move || input.write_all(&bytes).unwrap());
    stall(Duration::from_millis(100));
    let mut reply = Vec::new();
    output.read_to_end(&mut reply).unwrap();
    writer.join().unwrap();
    crate::common::assert_same(&reply, &text);
    let sent = finish(client);
    assert_eq!((sent.status, sent.stderr.as_str()), (Some(0), ""));
}
