//! What the clients of all listeners share: connections, descriptors and memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::common::{Program, check_echo, connect, reactor_in_shell};

const GET: &[u8] = b"GET /plaintext HTTP/1.0\r\n\r\n";

/// Requests a page on a new connection, and returns the response.
fn get(http: SocketAddr) -> Vec<u8> {
    let mut client = connect(http);
    client.write_all(GET).unwrap();
    let mut response = Vec::new();
    client.read_to_end(&mut response).unwrap();
    response
}

/// Connects 300 echo clients, which send a byte each and stay. Returns when the program has paused
/// accepting, for which it gives this reason.
fn crowd(program: &Program, why: &str) -> Vec<TcpStream> {
    let mut clients: Vec<TcpStream> = (0..300).map(|_| connect(program.tcp())).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
    let line = program.wait_for_log("accept paused");
    assert!(line.contains(why), "{line}");
    clients
}

// pitfall: 154
#[test]
fn echo_clients_at_max_connections_leave_room_for_http() {
    let program = Program::start(&[
        "--tcp",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--max-connections",
        "100",
    ]);
    // A quarter of 100, split between two listeners.
    let _clients = crowd(&program, "connections_max (100) reached, less 12 for other listeners");
    for _ in 0..50 {
        assert!(get(program.http()).ends_with(b"Hello, World!"));
    }
    let kept: Vec<TcpStream> = (0..12).map(|_| connect(program.http())).collect();
    for mut client in kept {
        client.write_all(GET).unwrap();
        client.read_exact(&mut [0; 15]).unwrap();
    }
}

// pitfall: 155
#[test]
#[cfg(target_os = "linux")]
fn echo_clients_out_of_descriptors_leave_room_for_http() {
    let arguments = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"];
    let mut command = reactor_in_shell("ulimit -n 64 && exec \"$@\"");
    let mut program = Program::spawn(command.args(arguments));
    program.read_addresses(&arguments);
    let _clients = crowd(&program, "for other listeners");
    for _ in 0..50 {
        assert!(get(program.http()).ends_with(b"Hello, World!"));
    }
}

/// The memory that the program has in use, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes(program: &Program) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", program.pid())).unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

// pitfall: 153
#[test]
#[cfg(target_os = "linux")]
fn stalled_uploads_are_bounded_and_others_are_served() {
    const LENGTH: usize = 500_000;
    let program = Program::start(&[
        "--tcp",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--max-memory",
        "16M",
        "--linger-timeout",
        "60s",
    ]);
    let head = format!("POST /echo HTTP/1.0\r\nContent-Length: {LENGTH}\r\n\r\n");
    let body = vec![b'x'; LENGTH - 1];
    let mut uploads: Vec<TcpStream> = (0..100).map(|_| connect(program.http())).collect();
    for upload in &mut uploads {
        upload.write_all(head.as_bytes()).unwrap();
        upload.write_all(&body).unwrap();
    }
    assert!(get(program.http()).ends_with(b"Hello, World!"));
    check_echo(&mut connect(program.tcp()), b"hello");
    let resident = resident_bytes(&program);
    assert!(resident < 2 * (16 << 20), "{resident} bytes");
    // None that has begun is cut.
    let (mut echoed, mut refused) = (0, 0);
    for mut upload in uploads {
        upload.write_all(b"x").unwrap();
        let mut response = Vec::new();
        upload.shutdown(Shutdown::Write).unwrap();
        upload.read_to_end(&mut response).unwrap();
        match &response[..13] {
            b"HTTP/1.0 200 " if response.len() > LENGTH => echoed += 1,
            b"HTTP/1.0 503 " => refused += 1,
            other => panic!("{}", other.escape_ascii()),
        }
    }
    assert_eq!((echoed, refused), (25, 75), "three quarters of 16 MiB are for bodies");
}

// pitfall: 150, 152
#[test]
#[cfg(target_os = "linux")]
fn peers_that_do_not_read_are_bounded_and_others_are_served() {
    let program =
        Program::start(&["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--max-memory", "4M"]);
    let mut deaf: Vec<TcpStream> = (0..150).map(|_| connect(program.tcp())).collect();
    let bytes = vec![b'x'; 1 << 16];
    for peer in &mut deaf {
        peer.set_nonblocking(true).unwrap();
    }
    // Each sends until the program reads no more from it, or resets it.
    for _ in 0..200 {
        deaf.retain_mut(|peer| match peer.write(&bytes) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
    }
    program.wait_for_log("memory_bytes_max (4194304) reached");
    assert!(get(program.http()).ends_with(b"Hello, World!"));
    let resident = resident_bytes(&program);
    assert!(resident < (4 << 20) + (16 << 20), "{resident} bytes");
}
