//! Datagram clients that come and go in one reactor: what is left of them in memory.
//!
//! This test has a process of its own, because it reads how much memory the process has.

#![cfg(target_os = "linux")]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use mio_reactor::{CloseReason, Datagram, DatagramProtocol, Limits, Reactor, Replies};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Clients at one time.
const CLIENTS: usize = 200;
const ROUNDS: usize = 6;

/// Asks for one byte and closes its socket, unless it stays.
struct Client {
    stays: bool,
    /// How many have their answer or have given up.
    done: Rc<Cell<usize>>,
}

impl DatagramProtocol for Client {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.send(b"?");
        replies.set_timer(TIMEOUT);
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        assert_eq!(datagram.payload, b"?");
        self.done.set(self.done.get() + 1);
        replies.cancel_timer();
        if !self.stays {
            replies.close();
        }
    }

    fn timer_expired(&mut self, _: &mut Replies<'_>) {
        panic!("no answer within {TIMEOUT:?}");
    }

    fn closed(&mut self, why: CloseReason) {
        assert!(matches!(why, CloseReason::Finished | CloseReason::Stopped), "{why}");
    }
}

/// Serves one byte to each datagram, on a thread of its own that ends with the test.
fn serve() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut byte = [0];
        while let Ok((length, peer)) = socket.recv_from(&mut byte) {
            socket.send_to(&byte[..length], peer).unwrap();
        }
    });
    address
}

/// The memory of this process that is in use, in bytes (proc_pid_statm(5)).
fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

// pitfall: 115
#[test]
fn datagram_clients_that_come_and_go_leave_no_memory_behind() {
    // Each round opens 200 clients. One of them stays. When the others have closed their sockets,
    // the next round begins. With buffers for each socket, this took 800 MiB.
    let server = serve();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let before = resident_bytes();
    for round in 1..=ROUNDS {
        let done = Rc::new(Cell::new(0));
        for number in 0..CLIENTS {
            let client = Client { stays: number == 0, done: Rc::clone(&done) };
            reactor.connect_datagram(server, client).unwrap();
        }
        while done.get() < CLIENTS {
            reactor.turn(Some(TIMEOUT)).unwrap();
        }
        assert_eq!(reactor.stats().panics, 0);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 16 * 1024 * 1024, "{grown} bytes after round {round}");
    }
}
