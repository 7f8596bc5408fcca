//! Peers that are gone while nothing is read from them: each ends its connection at once.
//!
//! A connection that is paused, and has nothing to send, makes no call that would return the error.
//! So the event alone must be enough. But a FIN is no such event: that peer may still read.

use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{ERROR, HANG_UP};

const PAUSES: u16 = 5000;

/// Pauses at each byte. `e` does so at the peer's FIN, too, and `s` shuts down its own side before.
#[derive(Default)]
struct Pauser {
    stays_at_eof: bool,
}

impl Protocol for Pauser {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match input[0] {
            b'e' => {
                self.stays_at_eof = true;
                return Advance::consumed(1);
            }
            b's' => {
                let own = cx.id();
                cx.connections().shutdown_write(own);
            }
            b't' => cx.set_timer(Duration::from_secs(30)),
            _ => {}
        }
        Advance::consumed(1).then(Next::Pause)
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        if self.stays_at_eof { Next::Pause } else { Next::Continue }
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        Next::Continue
    }
}

/// A connection whose peer has sent `input`, and that is blocked.
fn paused_after(input: &[u8]) -> (World, usize) {
    let mut world = World::without_faults();
    let address = world.serve(PAUSES, |_| Pauser::default());
    world.kernel().allow_pauses(address);
    let stream = world.connect(PAUSES, 1);
    world.peer_sends(stream, input);
    world.run_until_blocked();
    (world, stream)
}

// pitfall: 140
#[test]
fn error_ends_a_connection_that_is_paused() {
    // `pp`: input is buffered. `later`: bytes of the peer are unread when the error comes.
    for (input, later) in [("p", ""), ("t", ""), ("pp", ""), ("p", "more"), ("s", ""), ("s", "x")] {
        for (error, why) in [
            (errno::ECONNRESET, CloseReason::PeerReset),
            (errno::ETIMEDOUT, CloseReason::Io(io::ErrorKind::TimedOut)),
        ] {
            let (mut world, stream) = paused_after(input.as_bytes());
            world.peer_sends(stream, later.as_bytes());
            world.run_until_blocked();
            world.kernel().fail(stream, error);
            world.turn();
            assert_eq!(world.close_reason_of(1), Some(why), "{input} {later}");
            world.stop();
        }
    }
}

// pitfall: 140
#[test]
fn reset_after_a_fin_ends_a_connection_that_waits() {
    // In the second case the FIN is not read before the reset, since the connection is paused.
    for input in ["e", "p"] {
        let (mut world, stream) = paused_after(input.as_bytes());
        world.kernel().peer_shuts_down(stream);
        world.run_until_blocked();
        assert_eq!(world.close_reason_of(1), None, "{input}: a FIN alone ends nothing");
        world.kernel().fail(stream, errno::ECONNRESET);
        world.turn();
        assert_eq!(world.close_reason_of(1), Some(CloseReason::PeerReset), "{input}");
        world.stop();
    }
}

/// The error and the last bytes are reported by one event, before the protocol pauses.
#[test]
fn reset_that_came_with_the_bytes_ends_the_pause_that_they_begin() {
    let (mut world, stream) = paused_after(b"");
    world.peer_sends(stream, b"p");
    world.kernel().fail(stream, errno::ECONNRESET);
    world.turn();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::PeerReset));
    world.stop();
}

/// Both sides have sent their FIN. What the peer sent before is read when its reader resumes.
// pitfall: 141
#[test]
fn hang_up_leaves_unread_input_to_a_paused_connection() {
    for (later, ends) in [("more", false), ("", true)] {
        let (mut world, stream) = paused_after(b"s");
        world.peer_sends(stream, later.as_bytes());
        world.kernel().peer_shuts_down(stream);
        world.run_until_blocked();
        assert_eq!(world.close_reason_of(1).is_some(), ends, "{later}");
        if !ends {
            let id = connection_ids(world.reactor())[0];
            for _ in 0..later.len() {
                world.reactor().connections().resume(id);
                world.run_until_blocked();
            }
        }
        assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished), "{later}");
        world.stop();
    }
}

#[test]
fn spurious_error_event_ends_no_paused_connection() {
    for input in ["p", "s", "e"] {
        for bits in [ERROR, HANG_UP, ERROR | HANG_UP] {
            let (mut world, stream) = paused_after(input.as_bytes());
            if input == "e" {
                world.kernel().peer_shuts_down(stream);
            }
            world.run_until_blocked();
            let descriptor = descriptor_of(&world, stream);
            world.kernel().queue_spurious_event(descriptor, bits);
            assert_eq!(world.run_until_blocked(), 1, "{input} {bits:#x}");
            assert_eq!(world.close_reason_of(1), None, "{input} {bits:#x}");
            world.kernel().fail(stream, errno::ECONNRESET);
            world.run_until_blocked();
            world.stop();
        }
    }
}
