//! Timeouts: how long a head and a body may take to be received.

use super::*;

// pitfall: 86
// rule: timeouts
#[test]
fn head_in_small_pieces_has_one_deadline() {
    // 9112 9.5. Each piece is received well within the timeout. All of them together exceed it.
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
    let mut connection = HttpConnection::new(Site::default());
    assert_eq!(
        connection.meta.timer.get(),
        Time::NEVER,
        "no timeout before the first byte of a request"
    );
    for piece in pieces {
        assert_eq!(connection.ended, None);
        connection.receive(piece.as_bytes());
        connection.wait(head_timeout_ms() / 10);
    }
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: error("408 Request Timeout", CLOSE), end: ServerCloses(Next::Close) }
    );
}

// rule: timeouts
#[test]
fn empty_lines_in_small_pieces_come_to_an_end() {
    // 9112 9.5 and 2.2. A complete empty line resets the timeout. Otherwise a client that sends one
    // after a body would seem to have begun a head. But few such lines are allowed, and the first
    // half of one starts the timeout as any other byte does.
    let mut connection = HttpConnection::new(Site::default());
    for _ in 0..EMPTY_LINES_MAX {
        connection.receive(b"\r");
        connection.wait(head_timeout_ms() - 1);
        connection.receive(b"\n");
        connection.wait(head_timeout_ms() + 1); // only the idle timeout applies here
        assert_eq!(connection.ended, None);
    }
    connection.receive(b"\r");
    connection.wait(head_timeout_ms());
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: error("408 Request Timeout", CLOSE), end: ServerCloses(Next::Close) }
    );
}

// pitfall: 86
// rule: timeouts
#[test]
fn body_has_its_own_deadline() {
    // The head takes almost all of its timeout, and the body all of its own. The response is then
    // 408.
    let mut connection = HttpConnection::new(Site::default());
    let head = line("POST / HTTP/1.1\r\nContent-Length: 9");
    connection.receive(&head.as_bytes()[..10]);
    connection.wait(head_timeout_ms() - 1);
    connection.receive(&head.as_bytes()[10..]);
    connection.receive(b"body");
    connection.wait(body_timeout_ms() - 1);
    assert_eq!(connection.ended, None);
    connection.receive(b"body");
    connection.wait(1);
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: error("408 Request Timeout", CLOSE), end: ServerCloses(Next::Close) }
    );
}

#[test]
fn answered_request_leaves_no_timer_set() {
    // Requests are received in pieces, so that timers are set. The next request starts with a
    // timeout of its own.
    let mut connection = HttpConnection::new(Site::default());
    for request in
        [get(""), line("POST / HTTP/1.1\r\nContent-Length: 5") + "hello", line("GET / HTTP/1.2")]
    {
        for byte in request.as_bytes().chunks(1) {
            connection.receive(byte);
            connection.wait(1);
        }
        assert_eq!(connection.meta.timer.get(), Time::NEVER, "{request:?}");
        connection.wait(head_timeout_ms() + body_timeout_ms());
    }
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: plain(KEEP) + &not_allowed(KEEP) + &page(KEEP), end: PeerCloses }
    );
}
