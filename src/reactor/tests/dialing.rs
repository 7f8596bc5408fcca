//! Relays in the loop: what comes first, what a client that leaves costs, and names.

use std::io::ErrorKind;

use super::*;
use crate::protocol::dial::Dial;
use crate::protocol::relay::{Dialer, Relay};
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;
use crate::workers::{Worker, Workers, job_queue};

const FRONT: u16 = 7000;
const DEADLINE: Duration = Duration::from_secs(8);

fn host(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], number))
}

/// Looks up what each client sends, at port 1, and says what comes of it.
struct Names(Workers);

impl Dialer for Names {
    fn advance(&mut self, input: &[u8], dial: &mut Dial, _: &mut Context<'_>) -> Option<Advance> {
        dial.to_name(&self.0, String::from_utf8_lossy(input), 1);
        Some(Advance::consumed(input.len()))
    }

    fn connected(&mut self, server: SocketAddr, cx: &mut Context<'_>) {
        cx.send(format!("to {server} ").as_bytes());
    }

    fn failed(&mut self, error: ErrorKind, cx: &mut Context<'_>) -> Next {
        cx.send(format!("{error:?}").as_bytes());
        Next::Close
    }
}

/// A world with a relay, to a host that accepts after `after_us`, and the threads that look up
/// names: the test runs their jobs.
fn world_with_names(after_us: u64) -> (World, Worker) {
    let mut world = World::without_faults();
    world.connects_are_witnessed = false;
    let host_accepts = Host::Accepts { after_us, buffer_bytes: 1 << 20 };
    world.kernel().hosts.insert(host(1), host_accepts);
    let (workers, worker) = job_queue(10, world.reactor().completer().unwrap());
    world.serve(FRONT, move |_| Relay::new(Names(workers.clone()), DEADLINE));
    (world, worker)
}

/// The stream to the host that has been opened last.
fn last_stream(world: &World) -> usize {
    let kernel = world.kernel();
    let is_outbound = |number: &usize| kernel.streams[*number].peer == host(1);
    (0..kernel.streams.len()).rev().find(is_outbound).expect("the relay has connected")
}

// pitfall: 212
#[test]
fn success_is_told_before_the_first_bytes_of_a_server_that_speaks_first() {
    for turns in 0..4 {
        let (mut world, worker) = world_with_names(0);
        let client = world.connect(FRONT, 1);
        world.peer_sends(client, b"10.0.0.9");
        world.run_until_blocked();
        assert!(worker.try_run_next(), "an address that is written as a name is looked up, too");
        let streams = world.kernel().streams.len();
        while world.kernel().streams.len() == streams {
            world.turn();
        }
        (0..turns).for_each(|_| world.turn());
        let server = last_stream(&world);
        world.peer_sends(server, b"hello");
        world.run_until_blocked();
        assert_eq!(world.peer_receives_all(client), b"to 10.0.0.9:1 hello", "{turns} turns");
        world.kernel().peer_closes(client);
        world.run_until_blocked();
        assert_eq!(world.peer_receives_end(server), PeerReceived::Fin);
        world.kernel().peer_closes(server);
        world.run_until_blocked();
        assert!(world.reactor().effects.has_nothing_pending());
        drop(worker); // it has the waker
        world.stop();
    }
}

// pitfall: 213
#[test]
fn client_that_leaves_while_its_server_is_connected_leaves_nothing_behind() {
    let (mut world, worker) = world_with_names(100_000);
    let client = world.connect(FRONT, 1);
    world.peer_sends(client, b"10.0.0.9");
    world.run_until_blocked();
    assert!(worker.try_run_next());
    world.run_until_blocked();
    world.kernel().fail(client, errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::PeerReset));
    let server = last_stream(&world);
    world.run_for(200);
    assert_eq!(world.peer_receives_end(server), PeerReceived::Reset);
    assert_eq!(world.stats().connections, 0);
    drop(worker);
    world.stop();
}

#[test]
fn name_without_an_address_fails_and_a_stop_ends_what_waits() {
    let (mut world, worker) = world_with_names(0);
    let [unknown, waiting] = [1, 2].map(|number| world.connect(FRONT, number));
    world.peer_sends(unknown, b"no name\0");
    world.run_until_blocked();
    assert!(worker.try_run_next());
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(unknown), b"NotFound");
    world.peer_sends(waiting, b"never looked up");
    world.run_until_blocked();
    drop(worker);
    world.stop();
}
