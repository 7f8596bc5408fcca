//! Tests of the responses' framing: the length, the chunks, the end, and every cut of the bytes.

use proptest::prelude::*;

use super::*;

/// What a stream of responses comes to: each status with its body and whether the connection
/// persists, and how the stream ends.
type Outcome = (Vec<(u16, Vec<u8>, bool)>, Result<AtEof, Fault>);

/// Reads `stream`, which arrives in pieces that end at `cuts`.
fn read(stream: &[u8], cuts: &[usize]) -> Outcome {
    let (mut reader, mut responses, mut body) = (ResponseReader::new(), Vec::new(), Vec::new());
    let mut consumed = 0;
    for end in cuts.iter().copied().filter(|&end| end < stream.len()).chain([stream.len()]) {
        while consumed < end {
            let step = match reader.step(&stream[consumed..end]) {
                Ok(step) => step,
                Err(fault) => return (responses, Err(fault)),
            };
            if step.consumed == 0 {
                break;
            }
            consumed += step.consumed;
            body.extend_from_slice(step.body);
            if step.is_complete {
                responses.push((reader.status, std::mem::take(&mut body), reader.persists));
            }
        }
    }
    let end = reader.at_eof(&stream[consumed..]);
    if end == Ok(AtEof::Complete) {
        responses.push((reader.status, body, reader.persists));
    }
    (responses, end)
}

/// Checks that `stream` is one response with `body`, and returns whether the connection persists.
#[track_caller]
fn check_body(stream: &str, body: &str) -> bool {
    let (responses, end) = read(stream.as_bytes(), &[]);
    let [(_, found, persists)] = &responses[..] else {
        panic!("{stream:?}: {responses:?} {end:?}")
    };
    assert_eq!(String::from_utf8_lossy(found), body, "{stream:?}");
    assert!(matches!(end, Ok(AtEof::Between | AtEof::Complete)), "{stream:?}: {end:?}");
    *persists
}

#[track_caller]
fn check_fault(stream: &str, fault: Fault) {
    let stream = stream.as_bytes();
    let bytewise: Vec<usize> = (1..stream.len()).collect();
    for cuts in [&[][..], &bytewise] {
        assert_eq!(read(stream, cuts).1, Err(fault), "{}", stream.escape_ascii());
    }
}

// pitfall: 188
#[test]
fn body_ends_where_length_chunks_or_close_say() {
    let ok = "HTTP/1.1 200 OK\r\n";
    assert!(check_body(&format!("{ok}Content-Length: 5\r\n\r\nhello"), "hello"));
    assert!(check_body(
        &format!("{ok}Content-Length: 5, 5\r\ncontent-length: 5\r\n\r\nhello"),
        "hello"
    ));
    assert!(check_body(&format!("{ok}Content-Length: 0\r\n\r\n"), ""));
    assert!(!check_body(&format!("{ok}\r\nhello"), "hello"), "until the close");
    assert!(!check_body(&format!("{ok}Transfer-Encoding: gzip\r\n\r\nhello"), "hello"));
    let chunked = format!("{ok}Transfer-Encoding: gzip, Chunked\r\n\r\n");
    assert!(check_body(&format!("{chunked}0\r\n\r\n"), ""));
    assert!(check_body(
        &format!("{chunked}2\r\nhe\r\n003 ;a=\"b\"\r\nllo\r\n000\r\nA: b\r\nC: d\r\n\r\n"),
        "hello"
    ));
    assert!(check_body("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ""));
    assert!(check_body("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", ""));
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    assert!(check_body(&format!("{interim}{ok}Content-Length: 1\r\n\r\na"), "a"));
}

#[test]
fn connection_persists_as_version_and_connection_field_say() {
    let persists = |version: &str, connection: &str| {
        check_body(&format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{connection}\r\n"), "")
    };
    assert!(persists("1.1", "") && !persists("1.0", ""));
    assert!(persists("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!persists("1.1", "Connection: te, Close\r\n"));
    assert!(!persists("1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
}

#[test]
fn response_that_can_be_read_in_two_ways_is_a_fault() {
    let ok = "HTTP/1.1 200 OK\r\n";
    check_fault("220 mail.example ESMTP\r\n", Fault::NotHttp);
    check_fault("HTTP/2.0 200 OK\r\n\r\n", Fault::NotHttp);
    check_fault("HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n", Fault::NotHttp);
    check_fault("HTTP/1.1 099 None\r\nContent-Length: 0\r\n\r\n", Fault::NotHttp);
    check_fault("HTTP/1.1 101 Switching Protocols\r\n\r\n", Fault::Upgrade);
    for length in ["5, 6", "-1", "+1", "1.0", "0x5", "", "18446744073709551616", "5 5"] {
        check_fault(&format!("{ok}Content-Length: {length}\r\n\r\n"), Fault::ContentLength);
    }
    check_fault(
        &format!("{ok}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        Fault::ContentLength,
    );
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_fault(&format!("{ok}{both}"), Fault::TransferEncoding);
    check_fault("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncoding);
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    for line in ["\r\n", ";a\r\n", "g\r\n", "-1\r\n", "+1\r\n", " 1\r\n", "1\n", "1\rx", "1;a\n"] {
        check_fault(&format!("{chunked}{line}"), Fault::ChunkLine);
    }
    check_fault(&format!("{chunked}10000000000000000\r\n"), Fault::ChunkSize);
    check_fault(&format!("{chunked}2\r\nabc\r\n"), Fault::ChunkEnd);
    check_fault(&format!("{chunked}0\r\nA: b\n\r\n"), Fault::ChunkLine);
}

#[test]
fn head_chunk_line_and_trailer_have_bounds() {
    let ok = "HTTP/1.1 200 OK\r\n";
    check_fault(&format!("{ok}A: {}", "b".repeat(RESPONSE_HEAD_BYTES_MAX)), Fault::HeadTooLong);
    check_fault(
        &format!("{ok}{}\r\n", "A: b\r\n".repeat(RESPONSE_FIELDS_MAX + 1)),
        Fault::TooManyFields,
    );
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    for line in ["0".repeat(70_000), format!("1;{}", "a".repeat(70_000))] {
        check_fault(&format!("{chunked}{line}"), Fault::ChunkLineTooLong);
    }
    let trailer = "A: b\r\n".repeat(20_000);
    check_fault(&format!("{chunked}0\r\n{trailer}"), Fault::TrailerTooLong);
}

#[test]
fn end_of_stream_within_a_response_cuts_it_off() {
    for stream in [
        "H",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        assert_eq!(read(stream.as_bytes(), &[]), (vec![], Ok(AtEof::Cut)), "{stream:?}");
    }
    assert_eq!(read(b"", &[]), (vec![], Ok(AtEof::Between)));
}

/// A response, with its framing, and the body that it has.
fn response() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let body = proptest::collection::vec(any::<u8>(), 0..40);
    (body, 0..4, 1_usize..20).prop_map(|(body, form, size)| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nDate: now\r\n".to_vec();
        match form {
            0 => {
                bytes.extend_from_slice(
                    format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                bytes.extend_from_slice(&body);
            }
            1 => {
                bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec();
                return (bytes, Vec::new());
            }
            _ => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(size) {
                    bytes.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\nTrailer: field\r\n\r\n");
            }
        }
        (bytes, body)
    })
}

proptest! {
    #[test]
    fn cuts_never_change_what_a_stream_comes_to(
        responses in proptest::collection::vec(response(), 1..5),
        mut cuts in proptest::collection::vec(0_usize..1000, 0..20),
    ) {
        cuts.sort_unstable();
        let stream: Vec<u8> = responses.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let bodies: Vec<Vec<u8>> = responses.into_iter().map(|(_, body)| body).collect();
        let (found, end) = read(&stream, &cuts);
        prop_assert_eq!(end, Ok(AtEof::Between));
        prop_assert_eq!(found.into_iter().map(|(_, body, _)| body).collect::<Vec<_>>(), bodies);
    }

    #[test]
    fn cuts_never_change_what_damaged_bytes_come_to(
        responses in proptest::collection::vec(response(), 1..4),
        damage in (any::<prop::sample::Index>(), any::<u8>()),
        mut cuts in proptest::collection::vec(0_usize..1000, 0..20),
    ) {
        cuts.sort_unstable();
        let mut stream: Vec<u8> = responses.into_iter().flat_map(|(bytes, _)| bytes).collect();
        let at = damage.0.index(stream.len());
        stream[at] = damage.1;
        prop_assert_eq!(read(&stream, &cuts), read(&stream, &[]));
    }
}
