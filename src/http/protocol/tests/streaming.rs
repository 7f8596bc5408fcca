//! Response bodies that are read while they are sent.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::http::limits::{BODY_READ_BYTES_MAX, BODY_READS_MAX, BODY_RETRY_MS, BODY_RETRY_MS_MAX};
use crate::testing::test_connection::TestConnection;

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
                connection.wait(BODY_RETRY_MS_MAX);
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
    // It lingers, although the client has announced its last request: the end of a long body may
    // still be on its way.
    let end = ServerCloses(Next::Close);
    assert_eq!(connection.peer_shuts_down(), Transcript { output, end });
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

/// A body whose reads are answered by a closure, which gets the number of the read, from 0.
struct ScriptedBody<F> {
    reads: Rc<Cell<usize>>,
    answer: F,
}

impl<F: FnMut(usize, &mut [u8]) -> io::Result<usize>> Read for ScriptedBody<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let number = self.reads.get();
        self.reads.set(number + 1);
        (self.answer)(number, into)
    }
}

/// Responds with such a body, and counts its reads.
struct ScriptedResponder<F> {
    reads: Rc<Cell<usize>>,
    answer: F,
    length: u64,
}

impl<F: FnMut(usize, &mut [u8]) -> io::Result<usize> + Copy + 'static> Responder
    for ScriptedResponder<F>
{
    fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        let body = ScriptedBody { reads: Rc::clone(&self.reads), answer: self.answer };
        Response::streamed(Status::OK, ContentType::ASCII, self.length, body)
    }
}

/// A connection whose peer has requested such a body, and the number of its reads.
fn scripted<F: FnMut(usize, &mut [u8]) -> io::Result<usize> + Copy + 'static>(
    length: u64,
    answer: F,
) -> (HttpConnection<ScriptedResponder<F>>, Rc<Cell<usize>>) {
    let reads = Rc::new(Cell::new(0));
    let mut connection =
        HttpConnection::new(ScriptedResponder { reads: Rc::clone(&reads), answer, length });
    connection.receive(PLAIN);
    (connection, reads)
}

// pitfall: 133
#[test]
fn body_that_claims_more_than_its_buffer_is_reset_and_counted() {
    // Nothing is known of the bytes of such a read. Earlier ones were sent.
    for claim in [1, 100, usize::MAX - 5, usize::MAX] {
        for good_reads in [0, 1, 3] {
            let (connection, reads) = scripted(1_000_000, move |number, into| {
                if number < good_reads {
                    into[..10].copy_from_slice(b"0123456789");
                    return Ok(10);
                }
                Ok(into.len().saturating_add(claim))
            });
            assert_eq!(connection.state.stats.bodies_failed, 1);
            assert_eq!(reads.get(), good_reads + 1);
            let (_, sent) = split_head(&connection.output);
            assert_eq!(sent, 10 * good_reads, "no byte that was not written");
            assert_eq!(connection.peer_shuts_down().end, ServerCloses(Next::Abort));
        }
    }
}

// pitfall: 133
#[test]
fn failing_or_short_body_is_reset_and_counted() {
    type Answer = fn(usize, &mut [u8]) -> io::Result<usize>;
    for answer in [
        (|_, _| Ok(0)) as Answer,
        |_, _| Err(io::ErrorKind::UnexpectedEof.into()),
        |_, _| Err(io::ErrorKind::TimedOut.into()),
    ] {
        let (connection, _) = scripted(u64::MAX, answer);
        assert_eq!(connection.state.stats.bodies_failed, 1);
        assert_eq!(connection.peer_shuts_down().end, ServerCloses(Next::Abort));
    }
    // A length that no memory holds is only a number: the body ends before it.
    let (connection, _) = scripted(u64::MAX, |number, into| match number {
        0 => Ok(into.len()),
        _ => Ok(0),
    });
    assert!(without_dates(&connection.output).contains("Content-Length: 18446744073709551615\r\n"));
    assert_eq!(split_head(&connection.output).1, BODY_READ_BYTES_MAX);
}

// pitfall: 133
#[test]
fn interrupted_read_is_repeated_at_once_and_not_for_ever() {
    let (connection, reads) = scripted(5, |number, into| match number {
        0..3 => Err(io::ErrorKind::Interrupted.into()),
        _ => {
            into.copy_from_slice(b"hello");
            Ok(5)
        }
    });
    assert_eq!((reads.get(), connection.is_paused), (4, false));
    assert!(connection.peer_shuts_down().output.ends_with("\r\n\r\nhello"));
    let (connection, reads) = scripted(5, |_, _| Err(io::ErrorKind::Interrupted.into()));
    assert!(reads.get() <= 2 * BODY_READS_MAX, "{}: with the head, and behind it", reads.get());
    assert!(
        connection.is_paused && connection.meta.timer.get() != Time::NEVER,
        "it is read again later"
    );
}

// pitfall: 134
#[test]
fn waiting_body_is_read_less_often_until_bytes_come() {
    // It has a byte at first, and another one after 30 s.
    const WAITS_MS: u64 = 30_000;
    let (reads, now_ms) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    struct Waiting(Rc<Cell<usize>>, Rc<Cell<u64>>);
    impl Responder for Waiting {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            let (now_ms, mut due_ms) = (Rc::clone(&self.1), 0);
            let answer = move |_, into: &mut [u8]| {
                if now_ms.get() < due_ms {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                due_ms += WAITS_MS;
                into[0] = b'a';
                Ok(1)
            };
            let body = ScriptedBody { reads: Rc::clone(&self.0), answer };
            Response::streamed(Status::OK, ContentType::ASCII, 1000, body)
        }
    }
    let mut connection =
        TestConnection::new(Http::new(Waiting(Rc::clone(&reads), Rc::clone(&now_ms))));
    connection.peer_sends(PLAIN);
    let mut read_at = Vec::new();
    for ms in 1..=WAITS_MS + 1000 {
        let before = reads.get();
        now_ms.set(ms);
        connection.advance_clock(Duration::from_millis(1));
        if reads.get() > before {
            read_at.push(ms);
        }
    }
    assert_eq!(read_at[..9], [1, 3, 7, 15, 31, 63, 127, 227, 327]);
    let delays: Vec<u64> = read_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(delays.iter().max(), Some(&BODY_RETRY_MS_MAX));
    let byte_at = read_at.iter().position(|&ms| ms >= WAITS_MS).unwrap();
    assert_eq!(delays[byte_at..][..5], [BODY_RETRY_MS, 2, 4, 8, 16], "the next byte begins anew");
    assert!(reads.get() < 350, "{} reads in 31 s", reads.get());
}

#[test]
fn body_that_stalls_for_the_idle_timeout_is_reset() {
    // It pauses with a timer, and so is not idle for the connection.
    struct Stalls(Rc<Cell<usize>>);
    impl Responder for Stalls {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            let answer = |_, _: &mut [u8]| Err(io::ErrorKind::WouldBlock.into());
            let body = ScriptedBody { reads: Rc::clone(&self.0), answer };
            Response::streamed(Status::OK, ContentType::ASCII, 1000, body)
        }
    }
    let mut connection = TestConnection::new(Http::new(Stalls(Rc::default())));
    connection.peer_sends(PLAIN);
    connection.advance_clock(Duration::from_secs(59));
    assert_eq!(connection.close_reason(), None);
    connection.advance_clock(Duration::from_secs(1));
    assert_eq!(connection.close_reason(), Some(CloseReason::Aborted));
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
        fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
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
