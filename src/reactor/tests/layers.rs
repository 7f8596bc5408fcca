//! Layers around the protocols of random schedules: one that changes nothing, and one that encodes.

use super::*;
use crate::echo::Echo;
use crate::limits::{HIGH_WATERMARK_BYTES, MAILBOX_MESSAGES_MAX};
use crate::protocol::layer::{Encoder, Inner, Layer, Layered};

/// What is around the protocols of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    Plain,
    Identity,
    Encoding,
}

impl Wrapping {
    /// Half of the schedules have layers. Drawn apart, so that a seed keeps all its other choices.
    pub(super) fn draw(seed: u64) -> Wrapping {
        let all = [Wrapping::Plain, Wrapping::Identity, Wrapping::Plain, Wrapping::Encoding];
        all[fastrand::Rng::with_seed(seed.rotate_left(32)).usize(..4)]
    }

    /// Returns `protocol` with what is around it.
    pub(super) fn wrap(self, protocol: impl Protocol + 'static) -> Box<dyn Protocol> {
        match self {
            Wrapping::Plain => Box::new(protocol),
            Wrapping::Identity => Box::new(Layered::new(Identity, protocol)),
            Wrapping::Encoding => Box::new(Layered::new(Identity, Layered::new(Xor, protocol))),
        }
    }

    /// What each byte is combined with on its way.
    pub(super) fn key(self) -> u8 {
        match self {
            Wrapping::Plain | Wrapping::Identity => 0,
            Wrapping::Encoding => XOR_KEY,
        }
    }
}

const XOR_KEY: u8 = 0xA5;

struct Identity;

impl Layer for Identity {}

/// Inverts some bits of each byte, in both directions.
struct Xor;

impl Encoder for Xor {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        encoded.extend(output.iter().map(|byte| byte ^ XOR_KEY));
    }
}

impl Layer for Xor {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        Some(self)
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        let decoded: Vec<u8> = input.iter().map(|byte| byte ^ XOR_KEY).collect();
        let next = inner.receive(self, &decoded, cx);
        Advance::consumed(input.len()).then(next)
    }
}

/// Opens the protocol inside at the first byte, and takes `.` for the end of the input.
struct Marked;

impl Layer for Marked {
    fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, _: &mut Context<'_>) -> Next {
        Next::Continue
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        let next = match input[0] {
            b'.' => inner.eof(self, cx),
            _ if inner.is_open() => inner.receive(self, &input[..1], cx),
            _ => inner.open(self, cx),
        };
        Advance::consumed(1).then(next)
    }
}

const MARKED: u16 = 5000;

#[test]
fn layer_that_another_connection_has_paused_in_its_handshake_reads_on_after_the_resume() {
    let mut world = World::without_faults();
    world.serve(MARKED, |_| Layered::new(Marked, Echo::new()));
    let stream = world.connect(MARKED, 1);
    world.run_until_blocked();
    let id = connection_ids(world.reactor())[0];
    world.reactor().connections().pause(id);
    world.run_until_blocked();
    world.reactor().connections().resume(id);
    world.peer_sends(stream, b"!x");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"x");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

/// Sends its last bytes in two parts, the second one when the first has left.
struct TwoParts;

impl Protocol for TwoParts {
    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        cx.send(&[b'1'; HIGH_WATERMARK_BYTES]);
        Next::Pause
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"2");
        Next::Close
    }
}

#[test]
fn resume_after_the_announced_end_leaves_the_protocol_waiting_for_low_output() {
    for nested in [false, true] {
        let mut world = World::without_faults();
        world.serve(MARKED, move |_| -> Box<dyn Protocol> {
            let layered = Layered::new(Marked, TwoParts);
            if nested { Box::new(Layered::new(Identity, layered)) } else { Box::new(layered) }
        });
        let stream = world.kernel().peer_connects(peer(1), server(MARKED), 1000).unwrap();
        world.peer_sends(stream, b"!.");
        world.run_until_blocked();
        let id = connection_ids(world.reactor())[0];
        for _ in 0..2 {
            world.reactor().connections().resume(id);
        }
        world.run_until_blocked();
        let mut received = Vec::new();
        loop {
            let bytes = world.peer_receives_all(stream);
            if bytes.is_empty() {
                break;
            }
            received.extend(bytes);
            world.run_until_blocked();
        }
        assert_eq!((received.len(), received.last()), (HIGH_WATERMARK_BYTES + 1, Some(&b'2')));
        world.kernel().peer_closes(stream);
        world.run_until_blocked();
        world.stop();
    }
}

/// Sends much for each byte, so that a layer keeps the bytes that follow.
struct Long;

impl Protocol for Long {
    fn advance(&mut self, _: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(&[b'x'; HIGH_WATERMARK_BYTES]);
        Advance::consumed(1)
    }
}

/// Pauses without having sent anything, and tells if that ends by itself.
struct Parked;

impl Protocol for Parked {
    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len()).then(Next::Pause)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"low");
        Next::Continue
    }
}

#[test]
fn backpressure_in_a_layer_ends_no_pause_of_another_connection() {
    const PARKED: u16 = MARKED + 1;
    let mut world = World::without_faults();
    world.serve(MARKED, |_| Layered::new(Xor, Long));
    world.serve(PARKED, |_| Parked);
    let [layered, parked] = [MARKED, PARKED].map(|port| world.connect(port, 1));
    world.peer_sends(layered, b"ab");
    world.run_until_blocked();
    world.peer_sends(parked, b"a");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(parked), b"");
    for id in connection_ids(world.reactor()) {
        world.reactor().connections().abort(id);
    }
    world.run_until_blocked();
    world.stop();
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn panic_in_drop_of_a_message_that_is_one_too_many_leaves_the_connection_open() {
    let mut world = World::without_faults();
    world.serve(MARKED, |_| Layered::new(Marked, Echo::new()));
    let stream = world.connect(MARKED, 1);
    world.run_until_blocked();
    let id = connection_ids(world.reactor())[0];
    for _ in 0..MAILBOX_MESSAGES_MAX {
        world.reactor().send_message(id, ()).unwrap();
    }
    world.run_until_blocked();
    world.reactor().send_message(id, Bomb).unwrap();
    world.run_until_blocked();
    let stats = world.reactor().stats();
    assert_eq!((stats.panics, stats.messages_rejected), (1, 1));
    world.peer_sends(stream, b"!x");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"x");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

/// Encodes nothing: it panics, where other connections send through it, and at its end.
struct PanicsInEncoder;

impl Encoder for PanicsInEncoder {
    fn encode(&mut self, _: &[u8], _: &mut Vec<u8>) {
        panic!("on purpose, in encode");
    }

    fn finish(&mut self, _: &mut Vec<u8>) {
        panic!("on purpose, in finish");
    }
}

impl Layer for PanicsInEncoder {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        Some(self)
    }
}

/// Sends each byte that it receives to connection `to`.
struct SendsTo(ConnectionId);

impl Protocol for SendsTo {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.connections().send_to(self.0, input);
        Advance::consumed(input.len())
    }
}

// pitfall: 57
#[test]
fn panic_in_an_encoder_costs_only_its_own_connection() {
    const SENDER: u16 = MARKED + 1;
    type Act = fn(&mut World, usize, ConnectionId);
    let acts: [(Act, &str); 5] = [
        (|world, sender, _| world.peer_sends(sender, b"x"), "send by a connection"),
        (|world, _, id| world.reactor().connections().send_to(id, b"x"), "send by the owner"),
        (|world, _, id| world.reactor().connections().shutdown_write(id), "end of the output"),
        (|world, _, id| world.reactor().connections().close(id), "close by the owner"),
        (
            |world, sender, id| {
                world.reactor().connections().send_to(id, b"x");
                world.peer_sends(sender, b"x");
            },
            "two at once",
        ),
    ];
    for (act, name) in acts {
        let mut world = World::without_faults();
        world.serve(MARKED, |_| Layered::new(PanicsInEncoder, Echo::new()));
        let layered = world.connect(MARKED, 1);
        world.run_until_blocked();
        let id = connection_ids(world.reactor())[0];
        world.serve(SENDER, move |_| SendsTo(id));
        let sender = world.connect(SENDER, 1);
        world.run_until_blocked();
        act(&mut world, sender, id);
        world.run_until_blocked();
        assert_eq!((world.stats().panics, world.stats().connections), (1, 1), "{name}");
        assert_eq!(world.close_reason_of(1), Some(CloseReason::ProtocolPanicked), "{name}");
        assert_eq!(world.peer_receives_all(layered), b"", "{name}");
        world.kernel().peer_closes(sender);
        world.run_until_blocked();
        world.stop();
    }
}
