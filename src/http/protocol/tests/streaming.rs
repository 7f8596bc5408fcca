//! Response bodies that are read while they are sent.

use super::*;
use crate::http::limits::{BODY_READ_BYTES_MAX, BODY_READS_MAX};

// rule: content-length
#[test]
fn streamed_body_is_complete_whatever_its_pieces() {
    // The requests after it are answered too, in order. The timer expires whenever a read returns
    // `WouldBlock`.
    for length in
        [0, 1, 5, BODY_READ_BYTES_MAX - 1, BODY_READ_BYTES_MAX, BODY_READ_BYTES_MAX + 1, 300_000]
    {
        for pieces in
            [vec![usize::MAX], vec![70_000, 0, 9_000], vec![0, 0, 30_000], vec![100_000, 1]]
        {
            let body = text(length);
            let mut connection = HttpConnection::new(StreamingResponder {
                bytes: body.clone().into(),
                pieces,
                length: length as u64,
            });
            connection.receive(&[PLAIN, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN].concat());
            while connection.is_paused {
                connection.wait(BODY_RETRY_MS);
            }
            let full = response("200 OK", "text/plain", "", KEEP, &body);
            let output = [full.clone(), without_body(&full), full].concat();
            assert_eq!(
                connection.peer_shuts_down(),
                Transcript { output, end: PeerCloses },
                "{length} bytes"
            );
        }
    }
}

#[test]
fn streamed_response_follows_the_request_body_and_may_be_the_last() {
    // A GET may have a body, too. It is skipped before the response begins.
    let mut connection = HttpConnection::new(StreamingResponder {
        bytes: text(200_000).into(),
        pieces: vec![50_000],
        length: 200_000,
    });
    connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    assert!(connection.output.is_empty(), "the request is not complete");
    connection.receive(b"loGET / HTTP/1.0\r\n\r\n");
    let body = text(200_000);
    let output = response("200 OK", "text/plain", "", KEEP, &body)
        + &response("200 OK", "text/plain", "", CLOSE, &body);
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output, end: ServerCloses(Next::CloseWithoutLinger) }
    );
}

// rule: content-length
#[test]
fn streamed_body_of_the_wrong_length_is_cut_or_reset() {
    // Bytes beyond the length are not sent. If bytes are missing, the connection is reset.
    let mut connection = HttpConnection::new(StreamingResponder {
        bytes: text(100).into(),
        pieces: vec![7],
        length: 90,
    });
    connection.receive(PLAIN);
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript {
            output: response("200 OK", "text/plain", "", KEEP, &text(90)),
            end: PeerCloses
        }
    );
    let mut connection = HttpConnection::new(StreamingResponder {
        bytes: text(100).into(),
        pieces: vec![7],
        length: 101,
    });
    connection.receive(&[PLAIN, PLAIN].concat());
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 101\r\n\
        Date: *\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: head.to_owned() + &text(100), end: ServerCloses(Next::Abort) }
    );
}

#[test]
fn piece_takes_a_bounded_number_of_reads() {
    // Without the bound, a body that returns single bytes would stop the loop for the 65,536 reads
    // of a whole piece.
    let mut connection = HttpConnection::new(StreamingResponder {
        bytes: text(1000).into(),
        pieces: vec![1],
        length: 1000,
    });
    let mut cx = context(&mut connection.state, &mut connection.effects, &mut connection.meta);
    let mut next = connection.http.advance(PLAIN, &mut cx).next;
    let (_, first) = split_head(&cx.state.output);
    assert_eq!(first, BODY_READS_MAX);
    let mut pieces = 1;
    while next == Next::Pause {
        next = connection.http.output_low(&mut context(
            &mut connection.state,
            &mut connection.effects,
            &mut connection.meta,
        ));
        pieces += 1;
    }
    assert_eq!(pieces, 1000usize.div_ceil(BODY_READS_MAX));
}

/// The lengths of the head and of the part after it.
fn split_head(output: &[u8]) -> (usize, usize) {
    let end =
        output.windows(4).position(|window| window == b"\r\n\r\n").expect("a head has an end") + 4;
    (end, output.len() - end)
}

// rule: slow-reader
#[test]
fn long_body_is_sent_in_pieces_without_being_streamed() {
    // A slow peer costs memory for the body once, and not again for its output. The application
    // need not ask for that. Borrowed or not, alone or after others.
    struct LongBody(usize, Vec<u8>);
    impl Responder for LongBody {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            match request.path() {
                b"/borrowed" => Response::ok(ContentType::ASCII, &self.1[..self.0]),
                _ => Response::ok(ContentType::ASCII, self.1[..self.0].to_vec()),
            }
        }
    }
    for length in [BODY_READ_BYTES_MAX - 1, BODY_READ_BYTES_MAX, BODY_READ_BYTES_MAX + 1, 5_000_000]
    {
        let request = b"GET /borrowed HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut connection = HttpConnection::new(LongBody(length, text(length).into()));
        let next = connection
            .http
            .advance(
                request,
                &mut context(&mut connection.state, &mut connection.effects, &mut connection.meta),
            )
            .next;
        let (_, first) = split_head(&connection.state.output);
        assert_eq!(first, length.min(BODY_READ_BYTES_MAX));
        assert_eq!(next == Next::Pause, length > BODY_READ_BYTES_MAX);

        let mut connection = HttpConnection::new(LongBody(length, text(length).into()));
        connection.receive(request);
        let output = response("200 OK", "text/plain", "", KEEP, &text(length)).repeat(2);
        assert_eq!(connection.peer_shuts_down(), Transcript { output, end: PeerCloses });
    }
}

// rule: simple-request
#[test]
fn simple_response_may_be_streamed() {
    let mut connection = HttpConnection::new(StreamingResponder {
        bytes: text(100_000).into(),
        pieces: vec![30_000],
        length: 100_000,
    });
    connection.receive(b"GET /\r\n");
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: text(100_000), end: ServerCloses(Next::Close) }
    );
}
