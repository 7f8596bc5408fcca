//! The program as a client: `reactor send`, against its own servers, the lecture's, and some that do not behave.

#![cfg(unix)]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Program, assert_same, be_late, pattern, reactor, reset};
use socket2::{Domain, Socket, Type};

const MIB: usize = 1024 * 1024;
const ECHO: [&str; 4] = ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"];

/// What `reactor send` came to.
#[derive(Debug)]
struct Sent {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

/// A client that runs. It ends with the value.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(arguments: &[&str]) -> Command {
    let mut command = reactor();
    command
        .arg("send")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Collects what comes from `pipe`, and waits no longer than is patient for its end.
fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        let _ = tell.send(bytes); // the test may have given up
    });
    told
}

fn run(command: &mut Command) -> Sent {
    finish(Client(command.spawn().unwrap()))
}

fn finish(mut client: Client) -> Sent {
    let stdout = client.0.stdout.take().map(collect);
    let stderr = collect(client.0.stderr.take().unwrap());
    let stdout = stdout
        .map(|stdout| stdout.recv_timeout(2 * PATIENCE).expect("it ends"))
        .unwrap_or_default();
    let stderr = String::from_utf8(stderr.recv_timeout(2 * PATIENCE).expect("it ends")).unwrap();
    Sent { status: client.0.wait().unwrap().code(), stdout, stderr }
}

/// Sends what it is given as a text.
fn send(server: &str, text: &str) -> Sent {
    run(&mut client(&[server, text]))
}

/// Sends what it is given through standard input.
fn pipe(arguments: &[&str], bytes: &[u8]) -> Sent {
    let mut client = Client(client(arguments).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = client.0.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // Who has given up does not read the rest.
    thread::spawn(move || stdin.write_all(&bytes));
    finish(client)
}

#[track_caller]
fn check_reply(sent: &Sent, reply: &[u8]) {
    assert_eq!(
        (sent.status, sent.stderr.as_str()),
        (Some(0), ""),
        "{:?}",
        sent.stdout.escape_ascii().to_string()
    );
    assert_same(&sent.stdout, reply);
}

/// Nothing was printed, and standard error has one line with `why` in it.
#[track_caller]
fn check_failure(sent: &Sent, status: i32, why: &str) {
    assert_eq!((sent.status, sent.stdout.len()), (Some(status), 0), "{sent:?}");
    let lines: Vec<&str> = sent.stderr.lines().collect();
    let [line] = lines[..] else { panic!("one line: {sent:?}") };
    assert!(line.starts_with("reactor: ") && line.contains(why), "{line}");
}

/// The path of a socket of the test's own.
fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("reactor-send-{}-{name}", std::process::id()))
}

/// A server of the test's own that talks with one client.
fn serve_one(talk: impl FnOnce(TcpStream) + Send + 'static) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        talk(stream);
    });
    (server, serving)
}

/// A port that nobody listens at, and nobody else is given as long as the value lives. Only who says SO_REUSEADDR may use it.
fn hold_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

// ---- replies

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

// ---- no reply

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
