//! Files in transfer: large, slow, pipelined, shrinking and growing.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::common::{connect, connect_narrow, pattern};
use super::{MIB, Place, check_bytes_of, get, read_answer};

#[test]
fn a_hundred_mebibytes_are_sent_exactly_and_never_held() {
    let place = Place::new("large");
    let path = place.file("large.bin", b"");
    let (mut file, piece) = (File::create(&path).unwrap(), pattern(1, 1_000_003));
    (0..105).for_each(|_| file.write_all(&piece).unwrap());
    let length = file.metadata().unwrap().len();
    assert!(length > 100 * MIB as u64);
    let program = place.serve(&[]);
    assert_eq!(get(program.http(), "/nothing").status(), "404"); // what it takes for any answer, it has now
    #[cfg(target_os = "linux")]
    let before = program.memory_kib("VmHWM");
    let mut stream = connect(program.http());
    stream
        .write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n")
        .unwrap();
    let head = read_answer(&mut stream, false);
    assert_eq!(head.field("Content-Length"), Some(&*length.to_string()));
    assert_eq!(check_bytes_of(&path, &mut stream) as u64, length);
    assert_eq!(read_answer(&mut stream, true).body, b"Hello, World!");
    #[cfg(target_os = "linux")]
    {
        let grown = program.memory_kib("VmHWM") - before;
        assert!(grown < 4 * 1024, "{grown} KiB more than before");
    }
}

#[test]
fn a_slow_reader_gets_its_file_and_keeps_nobody_waiting() {
    // Ten ask for a file and do not read, until five hundred others have been answered.
    let place = Place::new("slow");
    let path = place.file("large.bin", &pattern(2, 8 * MIB));
    place.file("small.txt", b"hello");
    let program = place.serve(&[]);
    assert_eq!(get(program.http(), "/nothing").status(), "404"); // what it takes for any answer, it has now
    #[cfg(target_os = "linux")]
    let before = program.memory_kib("VmHWM");
    let mut slow: Vec<TcpStream> = (0..10).map(|_| connect_narrow(program.http())).collect();
    slow.iter_mut()
        .for_each(|stream| stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap());
    let mut quick = connect(program.http());
    for _ in 0..500 {
        quick.write_all(b"GET /small.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut quick, true).body, b"hello");
    }
    for stream in &mut slow {
        assert_eq!(read_answer(stream, false).status(), "200");
        check_bytes_of(&path, stream);
    }
    // No more than a piece and what waits for each, in vectors that have grown to twice that.
    #[cfg(target_os = "linux")]
    {
        let grown = program.memory_kib("VmHWM") - before;
        assert!(grown < 4 * 1024, "{grown} KiB more than before for 80 MiB");
    }
}

#[test]
fn pipelined_requests_for_files_are_answered_in_order() {
    let place = Place::new("pipelined");
    let files = [pattern(3, 10), pattern(4, 70_000), pattern(5, 300_000), Vec::new()];
    for (number, bytes) in files.iter().enumerate() {
        place.file(number.to_string(), bytes);
    }
    let program = place.serve(&[]);
    let order: Vec<usize> = pattern(6, 200).into_iter().map(|byte| usize::from(byte) % 5).collect();
    let requests: String =
        order.iter().map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let mut stream = connect(program.http());
    stream.write_all(requests.as_bytes()).unwrap();
    for (count, &number) in order.iter().enumerate() {
        let answer = read_answer(&mut stream, true);
        match files.get(number) {
            Some(bytes) => assert!(answer.body == *bytes, "answer {count}"),
            None => assert_eq!(answer.status(), "404", "answer {count}"),
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_in_a_reset() {
    // The client has been told a length, and must not take what comes for all of it. The file is far larger than what can be
    // on the way.
    let place = Place::new("shrinks");
    let path = place.file("large.bin", b"");
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(64 * MIB as u64).unwrap();
    let program = place.serve(&[]);
    let mut stream = connect_narrow(program.http());
    stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, false).status(), "200");
    file.set_len(1000).unwrap();
    let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(get(program.http(), "/large.bin").body.len(), 1000);
}

#[test]
fn of_a_file_that_grows_while_it_is_sent_comes_what_was_said() {
    let place = Place::new("grows");
    let path = place.file("large.bin", b"");
    let mut file = File::options().append(true).open(path).unwrap();
    file.set_len(32 * MIB as u64).unwrap();
    let program = place.serve(&[]);
    let mut stream = connect_narrow(program.http());
    stream
        .write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n")
        .unwrap();
    let head = read_answer(&mut stream, false);
    assert_eq!(head.field("Content-Length"), Some(&*(32 * MIB).to_string()));
    file.write_all(&pattern(7, MIB)).unwrap();
    let mut bytes = vec![1; 32 * MIB];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0), "what was there when it began");
    assert_eq!(read_answer(&mut stream, true).body, b"Hello, World!");
}
