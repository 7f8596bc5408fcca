//! The example docs/examples/websocket.rs: its layer, frame by frame, and its chat with a browser.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/websocket.rs"]
mod websocket;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{Program, any_port, be_server, connect};
use mio_reactor::{CloseReason, Echo, Layered, TestConnection};
use websocket::WebSocket;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The first bytes of a last frame, and of one that others follow (RFC 6455 section 5.2).
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const CONTINUES: u8 = 0x00;
const CONTINUES_LAST: u8 = 0x80;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// A browser takes seconds to start, and more on a busy machine.
const BROWSER_TIMEOUT: Duration = Duration::from_secs(120);

/// Returns a frame as a client sends it: masked.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 0, 255, 42];
    let mut frame = head(first, 0x80, payload.len());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns a frame as a server sends it.
fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, 0, payload.len());
    frame.extend(payload);
    frame
}

fn head(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    let length = length as u64;
    match u8::try_from(length) {
        Ok(short @ 0..126) => vec![first, mask_bit | short],
        _ => match u16::try_from(length) {
            Ok(middle) => [&[first, mask_bit | 126][..], &middle.to_be_bytes()].concat(),
            Err(_) => [&[first, mask_bit | 127][..], &length.to_be_bytes()].concat(),
        },
    }
}

/// Returns an echo inside WebSocket, on a connection that has been upgraded.
fn echo() -> TestConnection {
    let mut connection = TestConnection::new(Layered::new(WebSocket::default(), Echo::new()));
    connection.peer_sends(UPGRADE.as_bytes());
    let answer = String::from_utf8(connection.take_received()).unwrap();
    // The key and its answer are those of RFC 6455 section 1.3.
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(answer.ends_with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    connection
}

/// Sends `frames`, and checks that the connection closes with `status`.
#[track_caller]
fn check_closed_with(status: u16, frames: &[u8]) {
    let mut connection = echo();
    connection.peer_sends(frames);
    connection.peer_shuts_down();
    let received = connection.take_received();
    let close = plain(CLOSE, &status.to_be_bytes());
    assert_eq!(received.escape_ascii().to_string(), close.escape_ascii().to_string());
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn messages_of_any_length_come_back_however_their_bytes_arrive() {
    for length in [0, 1, 125, 126, 127, 1000, 16 * 1024] {
        let text = vec![b'x'; length];
        let frame = masked(TEXT, &text);
        for size in [1, 2, 7, frame.len()] {
            let mut connection = echo();
            frame.chunks(size).for_each(|piece| connection.peer_sends(piece));
            assert_eq!(connection.take_received(), plain(TEXT, &text), "{length} in {size}s");
        }
    }
}

// pitfall: 179
#[test]
fn fragments_are_one_message_with_control_frames_between_them() {
    let mut connection = echo();
    let whole = "a € sign".as_bytes(); // divided within the sign
    connection.peer_sends(&masked(TEXT_BEGINS, &whole[..3]));
    connection.peer_sends(&masked(PING, b"are you there?"));
    connection.peer_sends(&masked(CONTINUES, &whole[3..4]));
    connection.peer_sends(&masked(PONG, b"unasked"));
    assert_eq!(connection.take_received(), plain(PONG, b"are you there?"));
    connection.peer_sends(&masked(CONTINUES_LAST, &whole[4..]));
    assert_eq!(connection.take_received(), plain(TEXT, whole));
}

#[test]
fn close_is_answered_with_its_status_and_ends_the_connection() {
    for (payload, answer) in [(&b""[..], &b""[..]), (b"\x03\xE8bye", b"\x03\xE8")] {
        let mut connection = echo();
        connection.peer_sends(&masked(TEXT, b"last"));
        connection.peer_sends(&masked(CLOSE, payload));
        connection.peer_sends(&masked(TEXT, b"too late"));
        connection.peer_shuts_down();
        let expected = [plain(TEXT, b"last"), plain(CLOSE, answer)].concat();
        assert_eq!(connection.take_received(), expected);
        assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    }
}

// pitfall: 179
#[test]
fn frame_that_breaks_a_rule_closes_with_protocol_error() {
    check_closed_with(1002, &plain(TEXT, b"not masked"));
    check_closed_with(1002, &masked(TEXT | 0x40, b"a reserved bit"));
    check_closed_with(1002, &masked(0x83, b"a reserved opcode"));
    check_closed_with(1002, &masked(CONTINUES_LAST, b"of nothing"));
    check_closed_with(1002, &masked(PING & 0x7F, b"a ping in fragments"));
    check_closed_with(1002, &masked(PING, &[0; 126]));
    let second = [masked(TEXT_BEGINS, b"one"), masked(TEXT, b"another in it")].concat();
    check_closed_with(1002, &second);
    for payload in [&b"\x03"[..], b"\x03\xE7", b"\x03\xED", b"\x03\xF7", b"\xFF\xFF"] {
        check_closed_with(1002, &masked(CLOSE, payload));
    }
}

#[test]
fn message_that_is_no_utf8_closes_with_1007_and_binary_with_1003() {
    check_closed_with(1007, &masked(TEXT, b"\xFF"));
    let parts = [masked(TEXT_BEGINS, b"\xE2\x82"), masked(CONTINUES_LAST, b"x")].concat();
    check_closed_with(1007, &parts);
    check_closed_with(1007, &masked(CLOSE, b"\x03\xE8\xFF"));
    check_closed_with(1003, &masked(BINARY, b"1"));
}

// pitfall: 179
#[test]
fn message_above_its_bound_closes_with_1009_before_its_end() {
    check_closed_with(1009, &head(TEXT, 0x80, 16 * 1024 + 1));
    check_closed_with(1009, &head(TEXT, 0x80, usize::MAX));
    let parts = [masked(TEXT_BEGINS, &[b'x'; 10_000]), masked(CONTINUES, &[b'x'; 10_000])];
    check_closed_with(1009, &parts.concat());
}

// pitfall: 179
#[test]
fn length_with_more_bytes_than_it_needs_closes_with_protocol_error() {
    let mask = [0; 4];
    check_closed_with(1002, &[&[TEXT, 0x80 | 126, 0, 125][..], &mask, &[b'x'; 125]].concat());
    let long = (0xFFFF_u64).to_be_bytes();
    check_closed_with(1002, &[&[TEXT, 0x80 | 127][..], &long].concat());
}

#[test]
fn peer_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let mut connection = echo();
    for _ in 0..3 {
        connection.advance_clock(Duration::from_secs(30));
        assert_eq!(connection.take_received(), plain(PING, b""));
        connection.peer_sends(&masked(PONG, b""));
    }
    connection.advance_clock(Duration::from_secs(30));
    connection.peer_sends(&masked(TEXT_BEGINS, b"not a pong"));
    connection.advance_clock(Duration::from_secs(30));
    let close = plain(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(connection.take_received(), [plain(PING, b""), close].concat());
}

// pitfall: 216
#[test]
fn request_that_is_no_valid_upgrade_gets_a_page_or_an_error() {
    for (from, to, status) in [
        ("Upgrade: websocket", "Upgrade: h2c", "200 OK"),
        ("GET", "POST", "400 Bad Request"),
        ("Host: a.example", "Host: a.example\r\nOrigin: https://b.example", "403 Forbidden"),
        ("Host: a.example", "Host: a.example\r\nOrigin: null", "403 Forbidden"),
        ("Version: 13", "Version: 12", "426 Upgrade Required"),
        ("keep-alive, Upgrade", "keep-alive", "400 Bad Request"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", "400 Bad Request"),
        ("HTTP/1.1", "HTTP/1.0", "400 Bad Request"),
        ("HTTP/1.1", "HTTP", "400 Bad Request"),
        ("/chat", &"/".repeat(9000), "414 URI Too Long"),
        ("Host: a.example", "Host: a.example\r\nHost: a.example", "400 Bad Request"),
        ("Host: a.example", "Host: a.example\r\nContent-Length: 1", "400 Bad Request"),
        ("Host: a.example\r\n", "Host: a.example\n", "400 Bad Request"),
        ("Host: a.example", "Host: A.Example\r\nOrigin: https://a.eXample", "101 Switching"),
        ("Host: a.example", "Host: a.example\r\nOrigin: http://a.example", "101 Switching"),
    ] {
        let request = UPGRADE.replacen(from, to, 1);
        for piece_bytes in [600, request.len()] {
            let layered = Layered::new(WebSocket::default(), Echo::new());
            let mut connection = TestConnection::new(layered);
            request.as_bytes().chunks(piece_bytes).for_each(|piece| connection.peer_sends(piece));
            let answer = String::from_utf8(connection.take_received()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}{answer}");
            assert!(answer.contains("\r\nUpgrade: websocket\r\n"), "RFC 9110 15.5.22: {answer}");
        }
    }
}

#[test]
fn handshake_that_does_not_end_is_closed_at_its_deadline() {
    let mut connection = TestConnection::new(Layered::new(WebSocket::default(), Echo::new()));
    connection.peer_sends(&UPGRADE.as_bytes()[..100]);
    connection.advance_clock(Duration::from_secs(10));
    connection.peer_sends(&UPGRADE.as_bytes()[100..]);
    connection.peer_shuts_down();
    assert_eq!(connection.take_received(), b"");
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

// ---- the chat, in a process of its own

/// What [`Program::start_server`] runs in a process of its own.
#[test]
#[ignore = "is a server, not a test"]
fn be_a_server() {
    be_server(|reactor, _| websocket::listen(reactor, any_port()));
}

/// A user of the chat. Its connection is upgraded.
fn join(address: SocketAddr, name: &str) -> TcpStream {
    let mut user = connect(address);
    user.write_all(UPGRADE.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        user.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    check_message(&mut user, "* what is your name?");
    user.write_all(&masked(TEXT, name.as_bytes())).unwrap();
    user
}

#[track_caller]
fn check_message(user: &mut TcpStream, text: &str) {
    let mut frame = plain(TEXT, text.as_bytes());
    let expected = frame.clone();
    user.read_exact(&mut frame).unwrap();
    assert_eq!(frame.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn users_chat_over_websocket_in_the_room_of_the_chat_example() {
    let (_server, address) = Program::start_server("be_a_server", "");
    let mut alice = join(address, "alice");
    check_message(&mut alice, "* welcome, alice. 1 are here; /who lists them.");
    let mut bob = join(address, "bob");
    check_message(&mut bob, "* welcome, bob. 2 are here; /who lists them.");
    check_message(&mut alice, "* bob has joined");
    alice.write_all(&masked(TEXT, "Grüße".as_bytes())).unwrap();
    check_message(&mut bob, "alice: Grüße");
    bob.write_all(&masked(CLOSE, &1001_u16.to_be_bytes())).unwrap();
    check_message(&mut alice, "* bob has left");
    let mut rest = Vec::new();
    bob.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, plain(CLOSE, &1001_u16.to_be_bytes()));
}

#[test]
fn browser_joins_the_chat_from_the_page() {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let is_installed = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let Some(browser) = browsers.into_iter().find(is_installed) else {
        println!("skipped: none of {browsers:?} is installed");
        return;
    };
    let (_server, address) = Program::start_server("be_a_server", "");
    let mut alice = join(address, "alice");
    check_message(&mut alice, "* welcome, alice. 1 are here; /who lists them.");
    let profile = format!("{}/websocket-browser", env!("CARGO_TARGET_TMPDIR"));
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]);
    command.args([format!("--user-data-dir={profile}"), format!("http://{address}/#Bob%20B")]);
    let _browser = Program::spawn(&mut command);
    alice.set_read_timeout(Some(BROWSER_TIMEOUT)).unwrap();
    // The page sends the name when it is asked for it, so bytes have gone in both directions.
    check_message(&mut alice, "* Bob B has joined");
}
