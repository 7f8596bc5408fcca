//! Files in transfer: large, slow, pipelined, shrinking and growing.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::common::{connect, connect_narrow, pattern};
use super::{MIB, TempDir, check_bytes_of, get, read_response};

// pitfall: 96
#[test]
fn hundred_mebibyte_file_is_sent_exactly_and_never_held() {
    let temp = TempDir::new("large");
    let path = temp.file("large.bin", b"");
    let (mut file, piece) = (File::create(&path).unwrap(), pattern(1, 1_000_003));
    (0..105).for_each(|_| file.write_all(&piece).unwrap());
    let length = file.metadata().unwrap().len();
    assert!(length > 100 * MIB as u64);
    let program = temp.serve(&["--builtin-pages"]);
    // Allocates what any response needs.
    assert_eq!(get(program.http(), "/nothing").status(), "404");
    #[cfg(target_os = "linux")]
    let before = program.memory_kib("VmHWM");
    let mut stream = connect(program.http());
    stream
        .write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n")
        .unwrap();
    let head = read_response(&mut stream, false);
    assert_eq!(head.field("Content-Length"), Some(&*length.to_string()));
    assert_eq!(check_bytes_of(&path, &mut stream) as u64, length);
    assert_eq!(read_response(&mut stream, true).body, b"Hello, World!");
    #[cfg(target_os = "linux")]
    {
        let grown = program.memory_kib("VmHWM") - before;
        assert!(grown < 4 * 1024, "{grown} KiB more than before");
    }
}

// pitfall: 96
// rule: slow-reader
#[test]
fn slow_readers_get_their_files_without_delaying_others() {
    // Ten clients request a file and do not read until five hundred other requests have been
    // answered.
    let temp = TempDir::new("slow");
    let path = temp.file("large.bin", &pattern(2, 8 * MIB));
    temp.file("small.txt", b"hello");
    let program = temp.serve(&[]);
    // Allocates what any response needs.
    assert_eq!(get(program.http(), "/nothing").status(), "404");
    #[cfg(target_os = "linux")]
    let before = program.memory_kib("VmHWM");
    let mut slow: Vec<TcpStream> = (0..10).map(|_| connect_narrow(program.http())).collect();
    slow.iter_mut()
        .for_each(|stream| stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap());
    let mut quick = connect(program.http());
    for _ in 0..500 {
        quick.write_all(b"GET /small.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut quick, true).body, b"hello");
    }
    for stream in &mut slow {
        assert_eq!(read_response(stream, false).status(), "200");
        check_bytes_of(&path, stream);
    }
    // For each at most one piece and its waiting output, in vectors that may have grown to twice
    // the size.
    #[cfg(target_os = "linux")]
    {
        let grown = program.memory_kib("VmHWM") - before;
        assert!(grown < 4 * 1024, "{grown} KiB more than before, for 80 MiB");
    }
}

// pitfall: 272
#[test]
fn client_that_sends_on_after_its_last_request_receives_the_whole_file() {
    // The client reads all but the end, which lies in the kernel's send buffer then, and sends on.
    // If the program had closed the socket, the answer to that would be a reset, and the end lost.
    let temp = TempDir::new("sends-on");
    let bytes = pattern(6, MIB);
    temp.file("large.bin", &bytes);
    let program = temp.serve(&[]);
    let mut stream = connect_narrow(program.http());
    stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).status(), "200");
    let mut received = vec![0; MIB];
    let (most, end) = received.split_at_mut(MIB - 64 * 1024);
    stream.read_exact(most).unwrap();
    for _ in 0..10 {
        assert_eq!(get(program.http(), "/nothing").status(), "404"); // the program has gone on
    }
    stream.write_all(&[b'x'; 1000]).unwrap();
    for _ in 0..10 {
        assert_eq!(get(program.http(), "/nothing").status(), "404");
    }
    stream.read_exact(end).unwrap();
    assert!(received == bytes, "the file arrives as it is");
}

#[test]
fn pipelined_requests_for_files_are_answered_in_order() {
    let temp = TempDir::new("pipelined");
    let files = [pattern(3, 10), pattern(4, 70_000), pattern(5, 300_000), Vec::new()];
    for (number, bytes) in files.iter().enumerate() {
        temp.file(number.to_string(), bytes);
    }
    let program = temp.serve(&[]);
    let order: Vec<usize> = pattern(6, 200).into_iter().map(|byte| usize::from(byte) % 5).collect();
    let requests: String =
        order.iter().map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let mut stream = connect(program.http());
    stream.write_all(requests.as_bytes()).unwrap();
    for (count, &number) in order.iter().enumerate() {
        let response = read_response(&mut stream, true);
        match files.get(number) {
            Some(bytes) => assert!(response.body == *bytes, "response {count}"),
            None => assert_eq!(response.status(), "404", "response {count}"),
        }
    }
}

// pitfall: 97
// rule: content-length
#[test]
fn file_that_shrinks_while_it_is_sent_ends_in_a_reset() {
    // The client has received a Content-Length, and must not take fewer bytes for the whole. The
    // file is far larger than what can be in transit.
    let temp = TempDir::new("shrinks");
    let path = temp.file("large.bin", b"");
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(64 * MIB as u64).unwrap();
    let program = temp.serve(&[]);
    let mut stream = connect_narrow(program.http());
    stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream, false).status(), "200");
    file.set_len(1000).unwrap();
    let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(get(program.http(), "/large.bin").body.len(), 1000);
}

// pitfall: 97
#[test]
fn file_that_grows_while_it_is_sent_keeps_its_length() {
    let temp = TempDir::new("grows");
    let path = temp.file("large.bin", b"");
    let mut file = File::options().append(true).open(path).unwrap();
    file.set_len(32 * MIB as u64).unwrap();
    let program = temp.serve(&["--builtin-pages"]);
    let mut stream = connect_narrow(program.http());
    stream
        .write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n")
        .unwrap();
    let head = read_response(&mut stream, false);
    assert_eq!(head.field("Content-Length"), Some(&*(32 * MIB).to_string()));
    file.write_all(&pattern(7, MIB)).unwrap();
    let mut bytes = vec![1; 32 * MIB];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0), "the bytes that the file had at the start");
    assert_eq!(read_response(&mut stream, true).body, b"Hello, World!");
}
