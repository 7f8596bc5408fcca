//! The example docs/examples/reverse_proxy.rs between clients and servers of the test, and with
//! curl and the HTTP server of Python.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/reverse_proxy.rs"]
mod reverse_proxy;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use mio_reactor::{Limits, Reactor};
use socket2::SockRef;

use common::{Program, TIMEOUT, any_port, be_server, connect, pattern, reset, run_in_thread};

/// What [`Program::start_server`] runs in a process of its own.
#[test]
#[ignore = "is a server, not a test"]
fn be_a_server() {
    be_server(|reactor, server| {
        reverse_proxy::listen(reactor, any_port(), server.parse().unwrap(), TIMEOUT)
    });
}

/// A proxy, and the server that it asks, which the test plays.
struct Setup {
    address: SocketAddr,
    server: TcpListener,
}

fn start(timeout: Duration) -> Setup {
    let server = TcpListener::bind(any_port()).unwrap();
    SockRef::from(&server).set_read_timeout(Some(TIMEOUT)).unwrap(); // of accept, on Linux
    let address = proxy_to(server.local_addr().unwrap(), timeout);
    Setup { address, server }
}

fn proxy_to(server: SocketAddr, timeout: Duration) -> SocketAddr {
    run_in_thread(move |reactor| {
        reverse_proxy::listen(reactor, any_port(), server, timeout).unwrap()
    })
}

impl Setup {
    /// Sends a request as a client, and returns its connection.
    fn ask(&self, request: &str) -> TcpStream {
        let mut client = connect(self.address);
        client.write_all(request.as_bytes()).unwrap();
        client
    }

    /// Accepts the next connection as the server.
    fn accept(&self) -> BufReader<TcpStream> {
        let (stream, _) = self.server.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        BufReader::new(stream)
    }

    /// Asks, lets the server send `answer` and a FIN, and returns what the client gets.
    fn exchange(&self, request: &str, answer: &[u8]) -> String {
        let mut client = self.ask(request);
        let mut server = self.accept();
        read_head(&mut server);
        server.get_mut().write_all(answer).unwrap();
        drop(server);
        read_end(&mut client)
    }
}

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

fn read_head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "EOF after {head:?}");
    }
    head
}

fn read_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[track_caller]
fn check_status(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.0 {status}")), "{answer}");
}

// pitfall: 181
#[test]
fn fields_about_one_connection_stay_there_and_others_are_passed_on() {
    let setup = start(TIMEOUT);
    let request = "GET /a?b HTTP/1.1\r\nHost: a.example\r\nConnection: close, X-Own\r\nX-Own: 1\r\n\
        Keep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Forwarded-For: 192.0.2.1\r\n\
        Accept: text/html\r\nCookie: a=b\r\n\r\n";
    let mut client = setup.ask(request);
    let mut server = setup.accept();
    assert_eq!(
        read_head(&mut server),
        "GET /a?b HTTP/1.0\r\nConnection: keep-alive\r\nHost: a.example\r\n\
         Via: 1.1 mio-reactor\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.1\r\nAccept: text/html\r\n\
         Cookie: a=b\r\n\r\n"
    );
    let answer = "HTTP/1.1 203 Odd\r\nServer: s\r\nConnection: X-Own\r\nX-Own: 2\r\n\
        Keep-Alive: 1\r\nContent-Type: text/css\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
        Content-Length: 2\r\n\r\nhi";
    server.get_mut().write_all(answer.as_bytes()).unwrap();
    let answer = read_end(&mut client);
    check_status(&answer, "203 ");
    for line in ["Server: s", "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Type: text/css"] {
        assert_eq!(answer.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}: {answer}");
    }
    assert!(!answer.contains("X-Own") && !answer.contains("Keep-Alive"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
}

#[test]
fn bodies_are_passed_on_in_both_directions() {
    let setup = start(TIMEOUT);
    let body = pattern(5, 300_000);
    let mut client = setup.ask("PUT /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    write!(client, "Content-Type: a/b\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    client.write_all(&body).unwrap();
    let mut server = setup.accept();
    let head = read_head(&mut server);
    assert!(head.contains("\r\nContent-Length: 300000\r\nContent-Type: a/b\r\n"), "{head}");
    let mut received = vec![0; body.len()];
    server.read_exact(&mut received).unwrap();
    assert!(received == body);
    write!(server.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    server.get_mut().write_all(&body).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&body));
}

#[test]
fn answer_without_length_ends_with_the_servers_connection() {
    let answer = start(TIMEOUT).exchange(GET, b"HTTP/1.0 200 OK\r\n\r\nup to the end");
    check_status(&answer, "200 OK");
    assert!(answer.contains("\r\nContent-Length: 13\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nup to the end"), "{answer}");
}

#[test]
fn head_and_304_have_no_body_and_keep_their_fields() {
    let setup = start(TIMEOUT);
    let head = GET.replacen("GET", "HEAD", 1);
    let answer = setup.exchange(&head, b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
    assert!(answer.contains("\r\nContent-Length: 5000\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = setup.exchange(&head, b"HTTP/1.1 200 OK\r\n\r\n");
    check_status(&answer, "200 OK");
    assert!(!answer.contains("Content-Length"), "{answer}");
    let answer = setup.exchange(GET, b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    check_status(&answer, "304 Not Modified");
    assert!(answer.contains("\r\nETag: \"x\"\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn connection_to_the_server_is_used_again() {
    let setup = start(TIMEOUT);
    let mut client =
        setup.ask("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut server = setup.accept();
    for number in 1..=3 {
        if number == 3 {
            client = setup.ask(&GET.replacen("/a?b", "/3", 1)); // another client
        }
        let head = read_head(&mut server);
        assert!(head.starts_with(&format!("GET /{number} ")), "{head}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
        server.get_mut().write_all(answer.as_bytes()).unwrap();
        let mut received = BufReader::new(client.try_clone().unwrap());
        check_status(&read_head(&mut received), "200 OK");
        let mut body = [0];
        received.read_exact(&mut body).unwrap();
        assert_eq!(body, [b'0' + number]);
    }
}

// pitfall: 181
#[test]
fn request_that_crosses_the_servers_fin_is_sent_again_on_a_new_connection() {
    let setup = start(TIMEOUT);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1";
    let mut client = setup.ask(GET);
    let mut server = setup.accept();
    read_head(&mut server);
    server.get_mut().write_all(answer).unwrap();
    assert!(read_end(&mut client).ends_with("\r\n\r\n1"));
    let mut client = setup.ask(GET);
    read_head(&mut server); // the server closes the connection instead of an answer
    server.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let mut second = setup.accept();
    read_head(&mut second);
    second.get_mut().write_all(answer).unwrap();
    assert!(read_end(&mut client).ends_with("\r\n\r\n1"));
}

/// Answers one request of `client`, and keeps the connection.
fn answer_once(setup: &Setup) -> BufReader<TcpStream> {
    let mut client = setup.ask(GET);
    let mut server = setup.accept();
    read_head(&mut server);
    server.get_mut().write_all(ONE).unwrap();
    assert!(read_end(&mut client).ends_with("\r\n\r\n1"));
    server
}

const ONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1";

// pitfall: 215
#[test]
fn idempotent_request_that_meets_a_reset_is_sent_again_and_a_post_is_not() {
    let setup = start(TIMEOUT);
    for (method, is_sent_again) in [("GET", true), ("DELETE", true), ("POST", false)] {
        let mut reused = answer_once(&setup);
        let mut client = setup.ask(&GET.replacen("GET", method, 1));
        read_head(&mut reused);
        reset(reused.into_inner());
        if is_sent_again {
            let mut second = setup.accept();
            assert!(read_head(&mut second).starts_with(method));
            second.get_mut().write_all(ONE).unwrap();
            drop(second); // the next one is answered on a connection of its own
            check_status(&read_end(&mut client), "200 OK");
        } else {
            check_status(&read_end(&mut client), "502 Bad Gateway");
        }
    }
    // Once is enough: the second connection is new.
    let mut reused = answer_once(&setup);
    let mut client = setup.ask(GET);
    read_head(&mut reused);
    reset(reused.into_inner());
    let mut second = setup.accept();
    read_head(&mut second);
    reset(second.into_inner());
    check_status(&read_end(&mut client), "502 Bad Gateway");
}

// pitfall: 215, 219
#[test]
fn answer_before_the_end_of_a_long_upload_ends_its_connection() {
    let setup = start(TIMEOUT);
    // Small segments and a small receive buffer: the kernels do not hold the body.
    let server = SockRef::from(&setup.server);
    server.set_recv_buffer_size(4096).unwrap();
    #[cfg(target_os = "linux")]
    server.set_tcp_mss(536).unwrap();
    let body = vec![b'x'; 1_000_000];
    let mut client = setup.ask("PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    write!(client, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    client.write_all(&body).unwrap();
    let mut server = setup.accept();
    read_head(&mut server);
    server.get_mut().write_all(ONE).unwrap(); // and it reads no more
    check_status(&read_end(&mut client), "200 OK");
    let answer = setup.exchange(GET, b"HTTP/1.1 200 OK\r\n\r\non a new connection");
    assert!(answer.ends_with("on a new connection"), "{answer}");
}

#[test]
fn request_that_is_not_to_be_forwarded_gets_501() {
    let setup = start(TIMEOUT);
    for request in [
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    ] {
        check_status(&read_end(&mut setup.ask(request)), "501 Not Implemented");
    }
}

// pitfall: 181
#[test]
fn answer_that_is_cut_off_or_no_http_is_502() {
    let setup = start(TIMEOUT);
    for answer in [
        &b""[..],
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
    ] {
        check_status(&setup.exchange(GET, answer), "502 Bad Gateway");
    }
    let mut client = setup.ask(GET);
    reset(setup.accept().into_inner());
    check_status(&read_end(&mut client), "502 Bad Gateway");
}

#[test]
fn server_that_cannot_be_reached_is_502() {
    let closed = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let mut client = connect(proxy_to(closed, TIMEOUT));
    client.write_all(GET.as_bytes()).unwrap();
    check_status(&read_end(&mut client), "502 Bad Gateway");
}

#[test]
fn slow_server_is_504_and_its_late_answer_goes_to_no_client() {
    let setup = start(Duration::from_millis(200));
    let mut client = setup.ask(GET);
    let mut server = setup.accept();
    read_head(&mut server);
    check_status(&read_end(&mut client), "504 Gateway Timeout");
    let mut end = Vec::new();
    assert!(server.read_to_end(&mut end).is_err(), "its connection is reset, and not used again");
}

#[test]
fn request_that_finds_all_connections_busy_is_503() {
    let setup = start(TIMEOUT);
    let mut busy = Vec::new();
    for _ in 0..32 {
        let client = setup.ask(GET);
        busy.push((client, setup.accept()));
    }
    check_status(&read_end(&mut setup.ask(GET)), "503 Service Unavailable");
    let (mut client, server) = busy.pop().unwrap();
    drop(server);
    check_status(&read_end(&mut client), "502 Bad Gateway");
    let _client = setup.ask(GET);
    setup.accept(); // there is room again
}

#[test]
fn request_that_is_sent_again_makes_no_room_for_further_connections() {
    let server = TcpListener::bind(any_port()).unwrap();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let to = server.local_addr().unwrap();
    let address = reverse_proxy::listen(&mut reactor, any_port(), to, TIMEOUT).unwrap();
    let setup = Setup { address, server };
    let mut run = || (0..5).for_each(|_| reactor.turn(Some(Duration::from_millis(10))).unwrap());
    let mut client = setup.ask(GET);
    run();
    let mut reused = setup.accept();
    run();
    read_head(&mut reused);
    reused.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").unwrap();
    run();
    assert!(read_end(&mut client).ends_with("\r\n\r\n1"));
    let busy: Vec<_> = (0..32).map(|_| setup.ask(GET)).collect();
    let mut last = connect(setup.address);
    run();
    // Both are read in one turn: the server's FIN, for which a request is sent again, and then the
    // request of another client.
    reused.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    last.write_all(GET.as_bytes()).unwrap();
    run();
    last.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    check_status(&read_end(&mut last), "503 Service Unavailable");
    drop(busy);
}

#[test]
fn clients_that_leave_free_the_connections_to_a_slow_server() {
    let setup = start(10 * TIMEOUT);
    let mut servers = Vec::new();
    for _ in 0..32 {
        let client = setup.ask(GET);
        let mut server = setup.accept();
        read_head(&mut server);
        servers.push(server);
        reset(client);
    }
    for mut server in servers {
        let mut end = Vec::new();
        let error = server.read_to_end(&mut end).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let _client = setup.ask(GET);
    setup.accept();
}

// pitfall: 181
#[test]
fn bytes_behind_an_answer_are_not_the_next_answer() {
    let setup = start(TIMEOUT);
    let mut client = setup.ask(GET);
    let mut server = setup.accept();
    read_head(&mut server);
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\n\r\nforged";
    server.get_mut().write_all(two.as_bytes()).unwrap();
    assert!(read_end(&mut client).ends_with("\r\n\r\n1"));
    let answer = setup.exchange(GET, b"HTTP/1.1 200 OK\r\n\r\non a new connection");
    assert!(answer.ends_with("on a new connection"), "{answer}");
}

/// A server that shows a request, with the threads and the parser of Python's own library.
const PYTHON: &str = r#"
import http.server, sys
class Show(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def show(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        shown = self.command, self.path, self.headers['X-Forwarded-For']
        text = (' '.join(shown) + '\n').encode() + body
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(text)
    do_GET = do_HEAD = do_POST = show
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Show)
print('python 127.0.0.1:%d' % server.server_port, flush=True)
server.serve_forever()
"#;

#[test]
fn curl_asks_pythons_server_through_the_proxy() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return;
    }
    let mut python = Program::spawn(Command::new("python3").args(["-c", PYTHON]));
    python.read_address_lines(1);
    let server = python.addresses("python")[0];
    let (_proxy, address) = Program::start_server("be_a_server", &server.to_string());
    let url = format!("http://{address}/some%20path?q");
    let curl = |options: &[&str]| {
        let limit = ["-sS", "--max-time", "10"];
        let run = Command::new("curl").args(limit).args(options).arg(&url).output().unwrap();
        String::from_utf8(run.stdout).unwrap() + &String::from_utf8(run.stderr).unwrap()
    };
    assert_eq!(curl(&[]), "GET /some%20path?q 127.0.0.1\n");
    assert_eq!(curl(&["-d", "a body"]), "POST /some%20path?q 127.0.0.1\na body");
    let head = curl(&["-I"]);
    assert!(head.contains("\r\nContent-Length: 30\r\n"), "{head}");
    drop(python);
    assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}"]), "502");
}
