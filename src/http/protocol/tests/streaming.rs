//! Bodies that are read while they are sent.

use super::*;
use crate::limits::{BODY_READ_BYTES_MAX, BODY_READS_MAX};

#[test]
fn a_streamed_body_is_complete_however_its_pieces_come() {
    // And the requests behind it are answered, in their order. The alarm rings whenever there is nothing for now.
    for length in
        [0, 1, 5, BODY_READ_BYTES_MAX - 1, BODY_READ_BYTES_MAX, BODY_READ_BYTES_MAX + 1, 300_000]
    {
        for pieces in
            [vec![usize::MAX], vec![70_000, 0, 9_000], vec![0, 0, 30_000], vec![100_000, 1]]
        {
            let body = text(length);
            let mut peer =
                Peer::new(Springs { bytes: body.clone().into(), pieces, length: length as u64 });
            peer.receive(&[PLAIN, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN].concat());
            while peer.is_paused {
                peer.wait(BODY_RETRY_MS);
            }
            let full = answer("200 OK", "text/plain", "", KEEP, &body);
            let output = [full.clone(), without_body(&full), full].concat();
            assert_eq!(peer.leave(), Talk { output, end: Disconnected }, "{length} bytes");
        }
    }
}

#[test]
fn a_streamed_body_leaves_behind_the_body_of_its_request_and_may_be_the_last() {
    // A GET may have a body, too. It is skipped first.
    let mut peer =
        Peer::new(Springs { bytes: text(200_000).into(), pieces: vec![50_000], length: 200_000 });
    peer.receive(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    assert!(peer.output.is_empty(), "the request is not complete");
    peer.receive(b"loGET / HTTP/1.0\r\n\r\n");
    let body = text(200_000);
    let output = answer("200 OK", "text/plain", "", KEEP, &body)
        + &answer("200 OK", "text/plain", "", CLOSE, &body);
    assert_eq!(peer.leave(), Talk { output, end: Ours(Next::CloseWithoutLinger) });
}

#[test]
fn a_streamed_body_that_is_not_as_long_as_said_cannot_be_taken_for_the_whole() {
    // What is beyond the length is not sent. Where something is missing, the connection is reset.
    let mut peer = Peer::new(Springs { bytes: text(100).into(), pieces: vec![7], length: 90 });
    peer.receive(PLAIN);
    assert_eq!(
        peer.leave(),
        Talk { output: answer("200 OK", "text/plain", "", KEEP, &text(90)), end: Disconnected }
    );
    let mut peer = Peer::new(Springs { bytes: text(100).into(), pieces: vec![7], length: 101 });
    peer.receive(&[PLAIN, PLAIN].concat());
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 101\r\nDate: *\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(peer.leave(), Talk { output: head.to_owned() + &text(100), end: Ours(Next::Abort) });
}

#[test]
fn a_piece_is_made_of_a_bounded_number_of_reads() {
    // A body that comes by the byte would else hold up everybody for the 65,536 reads of a whole piece.
    let mut peer = Peer::new(Springs { bytes: text(1000).into(), pieces: vec![1], length: 1000 });
    let mut cx = context(&mut peer.state, &mut peer.effects, &mut peer.meta);
    let mut next = peer.http.advance(PLAIN, &mut cx).next;
    let (_, first) = split_head(&cx.state.output);
    assert_eq!(first, BODY_READS_MAX);
    let mut pieces = 1;
    while next == Next::Pause {
        next =
            peer.http.output_low(&mut context(&mut peer.state, &mut peer.effects, &mut peer.meta));
        pieces += 1;
    }
    assert_eq!(pieces, 1000usize.div_ceil(BODY_READS_MAX));
}

/// The lengths of the head and of what follows it.
fn split_head(output: &[u8]) -> (usize, usize) {
    let end =
        output.windows(4).position(|window| window == b"\r\n\r\n").expect("a head has an end") + 4;
    (end, output.len() - end)
}

#[test]
fn a_long_body_leaves_in_pieces_although_nobody_asked_for_that() {
    // So a peer that reads slowly costs the body once, and no application has to think about it. Borrowed or not, on
    // its own or behind others.
    struct Long(usize, Vec<u8>);
    impl Responder for Long {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            match request.path() {
                b"/borrowed" => Response::ok("text/plain", &self.1[..self.0]),
                _ => Response::ok("text/plain", self.1[..self.0].to_vec()),
            }
        }
    }
    for length in [BODY_READ_BYTES_MAX - 1, BODY_READ_BYTES_MAX, BODY_READ_BYTES_MAX + 1, 5_000_000]
    {
        let request = b"GET /borrowed HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut peer = Peer::new(Long(length, text(length).into()));
        let next = peer
            .http
            .advance(request, &mut context(&mut peer.state, &mut peer.effects, &mut peer.meta))
            .next;
        let (_, first) = split_head(&peer.state.output);
        assert_eq!(first, length.min(BODY_READ_BYTES_MAX));
        assert_eq!(next == Next::Pause, length > BODY_READ_BYTES_MAX);

        let mut peer = Peer::new(Long(length, text(length).into()));
        peer.receive(request);
        let output = answer("200 OK", "text/plain", "", KEEP, &text(length)).repeat(2);
        assert_eq!(peer.leave(), Talk { output, end: Disconnected });
    }
}

#[test]
fn a_simple_answer_may_be_streamed() {
    let mut peer =
        Peer::new(Springs { bytes: text(100_000).into(), pieces: vec![30_000], length: 100_000 });
    peer.receive(b"GET /\r\n");
    assert_eq!(peer.leave(), Talk { output: text(100_000), end: Ours(Next::Close) });
}
