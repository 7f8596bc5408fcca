//! The example docs/examples/tls.rs: its layer with clients of rustls, and with curl.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/tls.rs"]
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{any_port, assert_same, connect, pattern, run_in_thread};
use mio_reactor::{CloseReason, Echo, Layered, TestConnection};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// A certificate for `localhost`, and its key, both as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn server_config() -> (Arc<ServerConfig>, String) {
    let (certificate, key) = certificate();
    (tls::configure(certificate.as_bytes(), key.as_bytes()).unwrap(), certificate)
}

fn session(certificate: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Serves HTTP over TLS, and returns the address and the certificate.
fn serve_http() -> (SocketAddr, String) {
    let (config, certificate) = server_config();
    (run_in_thread(move |reactor| tls::listen(reactor, any_port(), config).unwrap()), certificate)
}

fn serve_echo() -> (SocketAddr, String) {
    let (config, certificate) = server_config();
    let address = run_in_thread(move |reactor| {
        let make = move |_| Layered::new(tls::Tls::new(config.clone()).unwrap(), Echo::new());
        reactor.listen(any_port(), make).unwrap()
    });
    (address, certificate)
}

fn client(address: SocketAddr, certificate: &str) -> Client {
    StreamOwned::new(session(certificate), connect(address))
}

#[test]
fn response_ends_with_close_notify() {
    let (address, certificate) = serve_http();
    let mut client = client(address, &certificate);
    client.write_all(b"GET /a HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap(); // without close_notify, it is an error
    assert!(response.ends_with("\r\n\r\nHello over TLS: /a\n"), "{response}");
}

#[test]
fn pipelined_requests_are_answered_on_one_session() {
    let (address, certificate) = serve_http();
    let mut client = client(address, &certificate);
    let requests = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50)
        + "GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.write_all(requests.as_bytes()).unwrap();
    let mut responses = String::new();
    client.read_to_string(&mut responses).unwrap();
    assert_eq!(responses.matches("Hello over TLS: /a\n").count(), 50);
    assert!(responses.ends_with("Hello over TLS: /b\n"));
}

#[test]
fn many_bytes_are_echoed_to_a_client_that_reads_late() {
    let (address, certificate) = serve_echo();
    let mut client = client(address, &certificate);
    let bytes = pattern(3, 300_000);
    client.write_all(&bytes[..1000]).unwrap();
    let mut received = vec![0; 1000];
    client.read_exact(&mut received).unwrap();
    // The socket is used from two threads, and the session is not: records are made first.
    let (mut session, socket) = client.into_parts();
    session.set_buffer_limit(None);
    session.writer().write_all(&bytes[1000..]).unwrap();
    session.send_close_notify();
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).unwrap();
    }
    let mut writer = socket.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&records).unwrap());
    let mut socket = socket;
    let mut part = [0; 10_000];
    loop {
        match session.reader().read(&mut part) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&part[..count]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                session.read_tls(&mut socket).unwrap();
                session.process_new_packets().unwrap();
            }
        }
    }
    writing.join().unwrap();
    assert_same(&received, &bytes);
}

#[test]
fn stream_that_is_cut_is_reset_and_not_answered() {
    let (address, certificate) = serve_http();
    let mut client = client(address, &certificate);
    client.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n").unwrap();
    client.sock.shutdown(std::net::Shutdown::Write).unwrap(); // a FIN without close_notify
    let mut response = Vec::new();
    let error = client.read_to_end(&mut response).unwrap_err();
    assert_eq!((error.kind(), response.len()), (ErrorKind::ConnectionReset, 0));
}

#[test]
fn what_is_no_tls_gets_an_alert_and_is_closed() {
    let (address, _) = serve_http();
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received.first(), Some(&21), "an alert (RFC 8446 section 5.1)");
}

#[test]
fn handshake_that_does_not_end_is_closed_at_its_deadline() {
    let (config, certificate) = server_config();
    let tls = tls::Tls::new(config).unwrap();
    let mut connection = TestConnection::new(Layered::new(tls, Echo::new()));
    let mut hello = Vec::new();
    session(&certificate).write_tls(&mut hello).unwrap();
    connection.peer_sends(&hello[..hello.len() / 2]);
    connection.advance_clock(Duration::from_secs(9));
    connection.peer_sends(&hello[hello.len() / 2..hello.len() - 1]);
    assert_eq!(connection.take_received(), b"");
    connection.advance_clock(Duration::from_secs(1));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn curl_gets_a_page() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return;
    }
    let (address, certificate) = serve_http();
    let path = format!("{}/tls-certificate.pem", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, certificate).unwrap();
    let url = format!("https://localhost:{}/x", address.port());
    let resolve = format!("localhost:{}:127.0.0.1", address.port());
    let run = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--cacert", &path, "--resolve", &resolve, &url])
        .output()
        .unwrap();
    let (body, errors) = (String::from_utf8(run.stdout), String::from_utf8(run.stderr));
    assert_eq!(body.as_deref(), Ok("Hello over TLS: /x\n"), "{errors:?}");
}
