//! Protocols.

use super::*;

/// Answers the peer's FIN (or its first byte, where `at_end` is false) with a long text, piece by piece.
struct Long {
    text: Rc<Vec<u8>>,
    said: Rc<Cell<usize>>,
    at_end: bool,
    endings: Endings,
}

impl Long {
    const PIECE: usize = 10_000;

    fn say_more(&mut self, cx: &mut Context<'_>) -> Next {
        let said = self.said.get();
        let piece = &self.text[said..self.text.len().min(said + Long::PIECE)];
        cx.send(piece);
        self.said.set(said + piece.len());
        if self.said.get() < self.text.len() { Next::Pause } else { Next::Close }
    }
}

impl Protocol for Long {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let next = if self.at_end { Next::Continue } else { self.say_more(cx) };
        Advance::consumed(input.len()).then(next)
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        if self.at_end { self.say_more(cx) } else { Next::Close }
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.say_more(cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push((0, why));
    }
}

#[test]
fn one_reactor_serves_several_protocols_each_at_its_address() {
    // Two kinds of streams and one of datagrams: each peer is answered in the words of what it has turned to.
    let running = Running::start(Limits::default(), |reactor| {
        let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
        let http = reactor.listen(any_port(), |_| Http::new(Site::new())).unwrap();
        let datagrams = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
        vec![echo, http, datagrams]
    });
    let request = b"GET /plaintext HTTP/1.0\r\n\r\n";
    check_echo(&mut connect(running.addresses[0]), request);

    let mut http = connect(running.addresses[1]);
    http.write_all(request).unwrap();
    let mut answer = Vec::new();
    http.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200 ") && answer.ends_with(b"Hello, World!"));

    let datagrams = connect_udp(running.addresses[2]);
    datagrams.send(request).unwrap();
    let mut reply = [0; 100];
    let count = datagrams.recv(&mut reply).unwrap();
    assert_same(&reply[..count], request);
    assert_eq!(running.stop().0, Stopped::Graceful);
}

#[test]
fn a_protocol_may_speak_first() {
    // The peer says nothing until it has been greeted, and then only its end.
    let running = Running::start(Limits::default(), |reactor| {
        let make =
            |_| Says { text: b"220 at your service\r\n".to_vec(), endings: Endings::default() };
        vec![reactor.listen(any_port(), make).unwrap()]
    });
    let mut peer = connect(running.address());
    let mut greeting = [0; 21];
    peer.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 at your service\r\n");
    peer.shutdown(Shutdown::Write).unwrap();
    check_end(peer, b"");
    assert_eq!(running.stop().1.closed_finished, 1);
}

/// A text of 6 MiB (more than the kernel holds), asked for by `ask`, reaches a peer that reads in odd pieces; and no more of it waits than must.
#[track_caller]
fn check_long_answer(at_end: bool, ask: impl FnOnce(&mut TcpStream)) {
    let text = Rc::new(pattern(7, 6 * 1024 * 1024));
    let said = Rc::new(Cell::new(0));
    let endings = Endings::default();
    let protocol = (Rc::clone(&text), Rc::clone(&said), Rc::clone(&endings));
    let (mut reactor, address) = serve(Limits::default(), move |_| {
        let (text, said, endings) = protocol.clone();
        Long { text, said, at_end, endings }
    });
    let mut peer = connect_narrow(address);
    ask(&mut peer);
    // Nobody reads yet: it stops when the kernel takes no more.
    let mut quiet_turns = 0;
    while quiet_turns < 5 {
        let out_before = reactor.stats().bytes_out;
        reactor.turn(Some(A_MOMENT)).unwrap();
        quiet_turns = if reactor.stats().bytes_out == out_before && out_before > 0 {
            quiet_turns + 1
        } else {
            0
        };
    }
    assert!(said.get() < text.len(), "it waits for its peer");
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
    turn_until(&mut reactor, "the end", |stats| {
        let waiting = said.get() - usize::try_from(stats.bytes_out).unwrap();
        assert!(waiting <= LOW_WATERMARK_BYTES + Long::PIECE, "{waiting} bytes wait");
        stats.connections == 0
    });
    assert_same(&reader.join().unwrap(), &text);
    assert_eq!(*endings.borrow(), [(0, CloseReason::Finished)]);
}

#[test]
fn a_long_answer_in_pieces_reaches_a_slow_reader_whole() {
    // The protocol says a piece whenever the last has drained. The peer reads nothing at first, and then a little at a time.
    check_long_answer(false, |peer| peer.write_all(b"x").unwrap());
}

#[test]
fn a_half_closed_peer_gets_an_answer_that_only_begins_with_its_fin() {
    // The same, but it is the peer's FIN that is answered, by a protocol that pauses then.
    check_long_answer(true, |peer| {
        peer.write_all(b"x").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    });
}
