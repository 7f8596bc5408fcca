//! How long a request may take to arrive.

use super::*;

#[test]
fn a_head_has_one_deadline_however_it_drips() {
    // 9112 9.5. Byte by byte and line by line, each well within the deadline: together they exceed it.
    let pieces = [
        "G",
        "ET / HTTP/1.1",
        "\r\n",
        "Host:",
        " a\r\n",
        "Name",
        ": value\r",
        "\nOther:",
        "value",
        "\r\n",
    ];
    let mut peer = Peer::new(Site::default());
    assert_eq!(peer.meta.timer, Time::NEVER, "before its first byte a request has no deadline");
    for piece in pieces {
        assert_eq!(peer.last_word, None);
        peer.receive(piece.as_bytes());
        peer.wait(head_timeout_ms() / 10);
    }
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn empty_lines_that_drip_have_an_end_too() {
    // 9112 9.5 and 2.2. Each begins the time anew, or who sends one behind a body would be taken for somebody with half a head. But
    // there are few of them; and half a line begins it as any other byte does.
    let mut peer = Peer::new(Site::default());
    for _ in 0..EMPTY_LINES_MAX {
        peer.receive(b"\r");
        peer.wait(head_timeout_ms() - 1);
        peer.receive(b"\n");
        peer.wait(head_timeout_ms() + 1); // nothing is begun: this is for the idle deadline to end
        assert_eq!(peer.last_word, None);
    }
    peer.receive(b"\r");
    peer.wait(head_timeout_ms());
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn a_body_has_a_deadline_of_its_own() {
    // The head takes most of its time, and the body all of its own. The answer to the whole request is then 408.
    let mut peer = Peer::new(Site::default());
    let head = line("POST / HTTP/1.1\r\nContent-Length: 9");
    peer.receive(&head.as_bytes()[..10]);
    peer.wait(head_timeout_ms() - 1);
    peer.receive(&head.as_bytes()[10..]);
    peer.receive(b"body");
    peer.wait(body_timeout_ms() - 1);
    assert_eq!(peer.last_word, None);
    peer.receive(b"body");
    peer.wait(1);
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn an_answered_request_leaves_no_deadline_behind() {
    // In pieces, so that deadlines are set; the next request then starts with a deadline of its own.
    let mut peer = Peer::new(Site::default());
    for request in
        [get(""), line("POST / HTTP/1.1\r\nContent-Length: 5") + "hello", line("GET / HTTP/1.2")]
    {
        for byte in request.as_bytes().chunks(1) {
            peer.receive(byte);
            peer.wait(1);
        }
        assert_eq!(peer.meta.timer, Time::NEVER, "{request:?}");
        peer.wait(head_timeout_ms() + body_timeout_ms());
    }
    assert_eq!(
        peer.leave(),
        Talk { output: plain(KEEP) + &not_allowed(KEEP) + &page(KEEP), end: Disconnected }
    );
}
