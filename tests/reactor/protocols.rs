//! Protocols over real sockets: several in one reactor, one that sends first, and long replies.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::thread;

use mio_reactor::limits::LOW_WATERMARK_BYTES;
use mio_reactor::{Advance, CloseReason, Context, Echo, Http, Limits, Next, Protocol, Stopped};

use crate::common::{
    TURN_TIMEOUT, any_port, assert_same, check_echo, check_end, connect, connect_narrow,
    connect_udp, pattern, serve, turn_until,
};
use crate::site::Site;
use crate::{CloseLog, ReactorThread, SendsOnOpen};

#[test]
fn one_reactor_serves_several_protocols_each_at_its_address() {
    // Echo, HTTP and UDP echo receive the same bytes, and each replies according to its protocol.
    let reactor = ReactorThread::start(Limits::default(), |reactor| {
        let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
        let http = reactor.listen(any_port(), |_| Http::new(Site::new())).unwrap();
        let datagrams = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
        vec![echo, http, datagrams]
    });
    let request = b"GET /plaintext HTTP/1.0\r\n\r\n";
    check_echo(&mut connect(reactor.addresses[0]), request);

    let mut http = connect(reactor.addresses[1]);
    http.write_all(request).unwrap();
    let mut response = Vec::new();
    http.read_to_end(&mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.0 200 ") && response.ends_with(b"Hello, World!"));

    let datagrams = connect_udp(reactor.addresses[2]);
    datagrams.send(request).unwrap();
    let mut reply = [0; 100];
    let count = datagrams.recv(&mut reply).unwrap();
    assert_same(&reply[..count], request);
    assert_eq!(reactor.stop().0, Stopped::Graceful);
}

#[test]
fn protocol_may_send_before_it_receives() {
    // The peer sends nothing but its FIN, and that only after it has received the greeting.
    let reactor = ReactorThread::start(Limits::default(), |reactor| {
        let make = |_| SendsOnOpen {
            text: b"220 at your service\r\n".to_vec(),
            close_log: CloseLog::default(),
        };
        vec![reactor.listen(any_port(), make).unwrap()]
    });
    let mut peer = connect(reactor.address());
    let mut greeting = [0; 21];
    peer.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 at your service\r\n");
    peer.shutdown(Shutdown::Write).unwrap();
    check_end(peer, b"");
    assert_eq!(reactor.stop().1.closed_finished, 1);
}

/// Sends a long text piece by piece, and pauses between the pieces. Begins at the peer's FIN if
/// `on_eof`, else at its first byte.
struct LongReply {
    text: Rc<Vec<u8>>,
    sent: Rc<Cell<usize>>,
    on_eof: bool,
    close_log: CloseLog,
}

impl LongReply {
    const PIECE: usize = 10_000;

    fn send_piece(&mut self, cx: &mut Context<'_>) -> Next {
        let sent = self.sent.get();
        let piece = &self.text[sent..self.text.len().min(sent + LongReply::PIECE)];
        cx.send(piece);
        self.sent.set(sent + piece.len());
        if self.sent.get() < self.text.len() { Next::Pause } else { Next::Close }
    }
}

impl Protocol for LongReply {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let next = if self.on_eof { Next::Continue } else { self.send_piece(cx) };
        Advance::consumed(input.len()).then(next)
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        if self.on_eof { self.send_piece(cx) } else { Next::Close }
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.send_piece(cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.close_log.borrow_mut().push((0, why));
    }
}

/// A reply of 6 MiB, which is more than the kernel's buffers hold, reaches a peer that reads in odd
/// pieces. No more output waits meanwhile than the low watermark and one piece. `request` makes the
/// peer request it.
#[track_caller]
fn check_long_reply(on_eof: bool, request: impl FnOnce(&mut TcpStream)) {
    let text = Rc::new(pattern(7, 6 * 1024 * 1024));
    let sent = Rc::new(Cell::new(0));
    let close_log = CloseLog::default();
    let shared = (Rc::clone(&text), Rc::clone(&sent), Rc::clone(&close_log));
    let (mut reactor, address) = serve(Limits::default(), move |_| {
        let (text, sent, close_log) = shared.clone();
        LongReply { text, sent, on_eof, close_log }
    });
    let mut peer = connect_narrow(address);
    request(&mut peer);
    // The peer does not read yet: turns make no progress once the kernel's buffers are full.
    let mut turns_without_progress = 0;
    while turns_without_progress < 5 {
        let out_before = reactor.stats().bytes_out;
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        let has_stalled = reactor.stats().bytes_out == out_before && out_before > 0;
        turns_without_progress = if has_stalled { turns_without_progress + 1 } else { 0 };
    }
    assert!(sent.get() < text.len(), "the protocol is paused until the peer reads");
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        let mut piece = [0; 4099];
        for size in [1, 3, 1447, 4099].into_iter().cycle() {
            match peer.read(&mut piece[..size]).unwrap() {
                0 => return received,
                count => received.extend_from_slice(&piece[..count]),
            }
        }
        received
    });
    turn_until(&mut reactor, "the connection closes", |stats| {
        let waiting = sent.get() - usize::try_from(stats.bytes_out).unwrap();
        assert!(waiting <= LOW_WATERMARK_BYTES + LongReply::PIECE, "{waiting} bytes wait");
        stats.connections == 0
    });
    assert_same(&reader.join().unwrap(), &text);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::Finished)]);
}

#[test]
fn paused_producer_delivers_whole_reply_to_slow_reader() {
    // The protocol sends a piece whenever the one before has left. The peer reads nothing at first,
    // and then a little at a time.
    check_long_reply(false, |peer| peer.write_all(b"x").unwrap());
}

#[test]
fn half_closed_peer_receives_whole_reply_that_begins_at_its_fin() {
    // The protocol pauses in `eof`, and sends the rest in `output_low`.
    check_long_reply(true, |peer| {
        peer.write_all(b"x").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    });
}
