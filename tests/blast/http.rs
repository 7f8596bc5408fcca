//! Load over HTTP: what a server may do, and what of it the report and the exit status say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
#[cfg(target_os = "linux")]
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
#[cfg(target_os = "linux")]
use socket2::{Domain, SockAddr, Socket, Type};

#[cfg(target_os = "linux")]
use super::http_server::serve;
use super::http_server::{HttpServer, Then, ok};
use super::{blast, count, figures};
use crate::common::{Program, TIMEOUT, any_port, stall};

/// Checks that nothing was lost or wrong.
#[track_caller]
fn check_all_well((figures, status): (Value, i32)) -> Value {
    let [sent, received] = ["sent", "received"].map(|name| count(&figures, name));
    assert!(received > 0 && sent == received && status == 0, "{figures}");
    for name in ["corrupt", "unsuccessful", "differing", "cut_off", "errors", "lost"] {
        assert_eq!(count(&figures, name), 0, "{name}: {figures}");
    }
    assert_eq!(figures["statuses"]["200"].as_u64(), Some(received), "{figures}");
    figures
}

/// Checks that the load fails, and returns the figures and what the error line says.
#[track_caller]
fn failure(url: &str, arguments: &[&str]) -> (Value, String) {
    let ending = blast(url, &[arguments, &["--json"]].concat());
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    let why = line.strip_prefix(&format!("reactor: {url}: ")).unwrap_or_else(|| panic!("{line}"));
    let figures =
        ending.stdout.first().map_or(Value::Null, |json| serde_json::from_str(json).unwrap());
    (figures, why.to_owned())
}

#[test]
fn own_server_answers_every_request_in_closed_and_open_loops() {
    let program = Program::start(&["--http", "127.0.0.1:0"]);
    let url = format!("http://{}/plaintext", program.http());
    for arguments in [
        &["--connections", "3"][..],
        &["--connections", "3", "--pipeline", "16"],
        &["--rate", "2000"],
        &["--rate", "20000", "--pipeline", "8", "--connections", "2"],
        &["--connections", "5", "--requests-per-connection", "7", "--pipeline", "3"],
        &["--connections", "2", "--requests-per-connection", "1"],
        &["--connections", "2", "--header", "X-Test: a", "--header", "Host: example"],
    ] {
        let figures = check_all_well(figures(&url, arguments));
        let [received, bytes] = ["received", "received_bytes"].map(|name| count(&figures, name));
        let requests_max = figures["requests_per_connection"].as_u64().unwrap_or(u64::MAX);
        assert!(count(&figures, "connects") >= received.div_ceil(requests_max), "{figures}");
        let is_each_alike = requests_max == u64::MAX && bytes % received == 0;
        assert!(is_each_alike || requests_max < u64::MAX, "one length: {figures}");
    }
}

#[cfg(unix)]
#[test]
fn own_server_is_reached_over_a_unix_socket() {
    let directory = std::env::temp_dir().join(format!("reactor-blast-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = format!("unix:{}/http", directory.display());
    let program = Program::start(&["--http", &socket]);
    let url = format!("http://{socket}:/plaintext");
    for arguments in [&["--connections", "300"][..], &["--requests-per-connection", "2"]] {
        let figures = check_all_well(figures(&url, arguments));
        assert_eq!(figures["target"].as_str(), Some(url.as_str()));
    }
    drop(program);
    let (_, why) = failure(&url, &[]);
    assert_eq!(why, "nothing listens there (connection refused)", "the file is left behind");
    let (_, why) = failure(&url.replace("/http:", "/none:"), &[]);
    assert_eq!(why, "nothing listens there (no such file)");
    std::fs::remove_dir_all(directory).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn full_backlog_of_a_unix_socket_delays_connects_and_fails_none() {
    // Fifty connects at once, of which the kernel keeps two while the server is busy. Elsewhere it
    // refuses the others.
    const CONNECTIONS: usize = 50;
    let path = std::env::temp_dir().join(format!("reactor-backlog-{}", std::process::id()));
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(1).unwrap();
    let server = thread::spawn(move || {
        stall(Duration::from_millis(300));
        let streams = [(); CONNECTIONS].map(|()| TcpStream::from(listener.accept().unwrap().0));
        thread::scope(|scope| {
            for (number, stream) in streams.iter().enumerate() {
                let answer = |_, _, _: &str| (ok("hello"), Then::Continue);
                scope.spawn(move || serve(stream, number, &answer));
            }
        });
    });
    let url = format!("http://unix:{}:/", path.display());
    let figures = check_all_well(figures(&url, &["--connections", &CONNECTIONS.to_string()]));
    std::fs::remove_file(path).unwrap();
    assert_eq!(count(&figures, "connects"), CONNECTIONS as u64, "{figures}");
    server.join().unwrap();
}

#[test]
fn python_server_that_closes_after_each_response_is_no_failure() {
    // HTTP/1.0 without keep-alive, and with it in HTTP/1.1.
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let script = format!(
            "import http.server as h\n\
             class H(h.SimpleHTTPRequestHandler):\n    protocol_version = '{version}'\n    \
             def log_message(self, *arguments): pass\n\
             s = h.ThreadingHTTPServer(('127.0.0.1', 0), H)\n\
             print(s.server_port, flush=True)\ns.serve_forever()\n"
        );
        let python = Command::new("python3")
            .args(["-c", &script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut python) = python else { return println!("skipped: python3 is not installed") };
        let mut port = String::new();
        BufReader::new(python.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let url = format!("http://127.0.0.1:{}/README.md", port.trim());
        let figures = figures(&url, &["--connections", "3", "--duration", "300ms"]);
        python.kill().unwrap();
        python.wait().unwrap();
        let figures = check_all_well(figures);
        if version == "HTTP/1.0" {
            assert!(count(&figures, "connects") >= count(&figures, "received"), "{figures}");
        }
    }
}

#[test]
fn body_may_end_by_length_chunks_or_close_and_is_the_same() {
    const FORMS: [&str; 4] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         2;x\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    ];
    let server = HttpServer::start(|_, number, head| {
        assert!(head.starts_with("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:"), "{head}");
        let then = if number % 4 == 3 { Then::Finish } else { Then::Continue };
        (FORMS[number % 4].into(), then)
    });
    let figures =
        check_all_well(figures(&server.url(), &["--connections", "2", "--duration", "1s"]));
    assert!(count(&figures, "connects") > 2, "{figures}");
}

#[test]
fn chunks_dripped_byte_by_byte_make_whole_responses() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut requests = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while matches!(requests.read_line(&mut line), Ok(1..)) {
            if line == "\r\n" {
                let response =
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
                if !response.iter().all(|&byte| (&stream).write_all(&[byte]).is_ok()) {
                    break;
                }
            }
            line.clear();
        }
    });
    check_all_well(figures(&url, &["--connections", "1"]));
    server.join().unwrap();
}

// pitfall: 189
#[test]
fn close_between_responses_is_no_failure_and_requests_are_sent_again() {
    // Five requests are in flight. The server answers two of them and closes, with an announcement
    // or without, or resets the connection.
    for then in [Then::Finish, Then::Reset] {
        let server = HttpServer::start(move |_, number, _| match number % 2 {
            1 => (ok("hello"), then),
            _ => (ok("hello"), Then::Continue),
        });
        let arguments = ["--connections", "2", "--pipeline", "5", "--duration", "1s"];
        let (figures, status) = figures(&server.url(), &arguments);
        if then == Then::Reset {
            // It may destroy the second response on its way.
            assert!(count(&figures, "received") > 10, "{figures}");
            continue;
        }
        let figures = check_all_well((figures, status));
        assert!(count(&figures, "retried") > 0 && count(&figures, "connects") > 4, "{figures}");
    }
}

#[test]
fn announced_close_ends_the_requests_on_a_connection() {
    // The server announces its close, and does not close. RFC 9112 section 9.6: no more is sent.
    let response = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for pace in [&["--pipeline", "1"], &["--rate", "100"]] {
        let server = HttpServer::start(|_, _, _| (response.to_vec(), Then::Continue));
        let arguments = [&["--connections", "1", "--duration", "1500ms"], &pace[..]].concat();
        let (figures, _) = figures(&server.url(), &arguments);
        let [sent, retried] = ["sent", "retried"].map(|name| count(&figures, name));
        assert_eq!((sent, retried), (2, 0), "the second on another connection: {figures}");
    }
}

#[test]
fn response_cut_off_by_a_close_is_lost_and_exits_1() {
    for (whole, name) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"[..], "length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "chunked"),
        (b"HTTP/1.1 200 OK\r\nContent-", "head"),
    ] {
        // Every second connection ends so after one whole response, the others after two.
        let server = HttpServer::start(move |connection, number, _| match number {
            0 => (ok("hello!"), Then::Continue),
            _ if connection % 2 == 0 => (ok("hello!"), Then::Finish),
            _ => (whole.to_vec(), Then::Finish),
        });
        let (figures, why) = failure(&server.url(), &["--connections", "2", "--duration", "500ms"]);
        let cut_off = count(&figures, "cut_off");
        assert!(cut_off > 0, "{name}: {figures}");
        assert_eq!(why, format!("{cut_off} responses were cut off"), "{name}");
        let lost = count(&figures, "sent") - count(&figures, "received");
        assert_eq!(
            (count(&figures, "lost"), count(&figures, "errors")),
            (lost, cut_off),
            "{figures}"
        );
        assert_eq!(lost, cut_off, "{figures}");
    }
}

#[test]
fn garbage_is_quoted_with_the_rule_that_it_breaks() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (response, words) in [
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "begins with \"SSH-2.0-OpenSSH_9.2\\r\\n\""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello".to_owned(), "Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(), "not one"),
        (format!("{chunked}xyz\r\n"), "a chunk does not begin with its size"),
        (format!("{chunked}fffffffffffffffff\r\n"), "above 64 bits"),
        (format!("{chunked}2\r\nhello\r\n"), "longer than its size"),
        (format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(70_000)), "its head has more than"),
    ] {
        let server =
            HttpServer::start(move |_, _, _| (response.clone().into_bytes(), Then::Continue));
        let arguments = ["--connections", "2", "--duration", "1h"];
        let (figures, why) = failure(&server.url(), &arguments);
        let corrupt = count(&figures, "corrupt");
        assert!(why.starts_with(&format!("{corrupt} responses are corrupt: ")), "{why}");
        assert!(why.contains(words), "{why}");
        assert_eq!(corrupt, 2 * 8, "each client is given up after eight connections: {figures}");
    }
}

#[test]
fn response_to_no_request_is_corrupt() {
    let server = HttpServer::start(|_, _, _| ([ok("a"), ok("a")].concat(), Then::Continue));
    let (figures, why) = failure(&server.url(), &["--connections", "1", "--duration", "100ms"]);
    assert!(why.contains("it answers no request") && count(&figures, "corrupt") > 0, "{why}");
    assert!(why.contains("begins with \"HTTP/1.1 200 OK"), "{why}");
}

// pitfall: 190
#[test]
fn statuses_are_counted_and_any_other_than_2xx_exits_1() {
    let server = HttpServer::start(|_, number, _| {
        let status = ["200 OK", "404 Not Found", "200 OK", "503 Service Unavailable"][number % 4];
        let body = if number % 2 == 0 { "well" } else { "an error page of its own" };
        let length = body.len();
        (
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes(),
            Then::Continue,
        )
    });
    let (figures, why) = failure(&server.url(), &["--connections", "1", "--duration", "1s"]);
    let of = |status: &str| figures["statuses"][status].as_u64().unwrap();
    assert_eq!(of("200") + of("404") + of("503"), count(&figures, "received"), "{figures}");
    assert_eq!(count(&figures, "unsuccessful"), of("404") + of("503"), "{figures}");
    assert_eq!(count(&figures, "differing"), 0, "{figures}");
    assert!(why.contains("responses without success (404: "), "{why}");
}

#[test]
fn body_unlike_the_first_exits_1_unless_any_is_accepted() {
    // The same length, another length.
    for other in ["hellO", "hello!", "hell", ""] {
        let server = HttpServer::start(move |_, number, _| {
            (ok(if number % 2 == 1 { other } else { "hello" }), Then::Continue)
        });
        let arguments = ["--connections", "1", "--duration", "500ms"];
        let (different, why) = failure(&server.url(), &arguments);
        let differing = count(&different, "differing");
        assert!(differing > 0, "{different}");
        assert!(why.starts_with(&format!("{differing} responses have another body")), "{why}");
        let arguments = [&arguments[..], &["--any-body"]].concat();
        check_all_well(figures(&server.url(), &arguments));
    }
}

#[test]
fn server_that_never_answers_ends_the_load_with_the_reason() {
    // It closes each connection when a request has come, or answers nothing at all.
    let server = HttpServer::start(|_, _, _| (Vec::new(), Then::Finish));
    let (figures, why) = failure(&server.url(), &["--connections", "3", "--duration", "1h"]);
    assert_eq!(figures, Value::Null);
    assert!(why.contains("connection closed by the server"), "{why}");
    assert!(why.contains("may be no HTTP server"), "{why}");
    drop(server);
    let server = HttpServer::start(|_, _, _| (Vec::new(), Then::Continue));
    let (_, why) = failure(&server.url(), &["--connections", "3", "--duration", "100ms"]);
    assert!(why.contains("no reply (3 messages sent)"), "{why}");
}

#[test]
fn responses_of_which_none_is_whole_are_quoted() {
    let part = || b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello".to_vec();
    let begins = "begins with \"HTTP/1.1 200 OK\\r\\nContent-Length:\"…";
    let server = HttpServer::start(move |_, _, _| (part(), Then::Finish));
    let (_, why) = failure(&server.url(), &["--connections", "1", "--duration", "1h"]);
    assert_eq!(why, format!("8 responses were cut off, and none was whole: the first {begins}"));
    drop(server);
    let server = HttpServer::start(move |_, _, _| (part(), Then::Continue));
    let (_, why) = failure(&server.url(), &["--connections", "1", "--duration", "100ms"]);
    assert_eq!(why, format!("no whole response (1 requests sent): the first {begins}"));
}

// pitfall: 191
#[test]
fn stall_of_one_second_in_ten_shows_in_the_tail_of_an_open_loop() {
    // At half the length: the server stalls for 500 ms in a load of 5 s. Of 1,000 requests, 100 are
    // due meanwhile, one every 5 ms, and the first 11 of them wait for 450 ms or longer, however
    // slow the machine is. These are more than one in a hundred.
    let is_stalled = AtomicBool::new(false);
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let (mut buffer, mut request, mut answered) = ([0; 64 * 1024], Vec::new(), 0);
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            for &byte in &buffer[..length] {
                request.push(byte);
                if request.ends_with(b"\r\n\r\n") {
                    request.clear();
                    if answered == 500 && !is_stalled.swap(true, Ordering::Relaxed) {
                        stall(Duration::from_millis(500));
                    }
                    answered += 1;
                    if stream.write_all(&ok("hello")).is_err() {
                        return;
                    }
                }
            }
        }
    });
    let arguments = ["--connections", "1", "--rate", "200", "--duration", "5s"];
    let (figures, _) = figures(&url, &arguments);
    server.join().unwrap();
    assert_eq!(count(&figures, "received") + count(&figures, "unanswered"), 1000, "{figures}");
    let p99 = figures["latency_us"]["p99"].as_f64().unwrap();
    assert!(p99 >= 450_000.0, "{figures}");
}

#[test]
fn table_has_statuses_and_connects() {
    let server = HttpServer::start(|_, _, _| (ok("hello"), Then::Continue));
    let ending = blast(&server.url(), &["--connections", "2", "--duration", "100ms"]);
    let begins = |start: &str| ending.stdout.iter().any(|line| line.trim().starts_with(start));
    assert!(begins(&format!("{}: ", server.url())), "{:?}", ending.stdout);
    for name in ["non-2xx", "differing", "cut off", "retried", "connects"] {
        assert!(begins(name), "{name}: {:?}", ending.stdout);
    }
    assert!(ending.stdout.iter().any(|line| line.contains("200: ")), "{:?}", ending.stdout);
    assert!(!begins("reordered") && !begins("misplaced"), "{:?}", ending.stdout);
}
