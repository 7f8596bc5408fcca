//! A layer that chooses the protocol inside, and names its peer, by what it has read.

use super::*;
use crate::protocol::ident::Peer;

/// Chooses the protocol inside by the first byte, and names another peer.
struct Chooser;

impl Layer for Chooser {
    fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, _: &mut Context<'_>) -> Next {
        Next::Continue
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        if inner.is_open() {
            return inner.advance(self, input, cx);
        }
        if input[0] == b's' {
            inner.replace(Layered::new(Shift::default(), Echo::with_prefix("x")));
        }
        cx.set_peer(Peer::Ip("192.0.2.7:80".parse().unwrap()));
        Advance::consumed(1).then(inner.open(self, cx))
    }
}

/// Sends the address of its peer for each piece of input.
struct TellsPeer;

impl Protocol for TellsPeer {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(cx.peer().to_string().as_bytes());
        Advance::consumed(input.len())
    }
}

// pitfall: 186
#[test]
fn layer_chooses_the_protocol_and_its_peer_by_what_it_has_read() {
    let layered = || Layered::new(Chooser, Box::new(TellsPeer) as Box<dyn Protocol>);
    let mut first = TestConnection::new(layered());
    first.peer_sends(b"tell me");
    assert_eq!(first.take_received(), b"192.0.2.7:80");
    let mut other = TestConnection::new(layered());
    other.peer_sends(&[b"sHELLO".to_vec(), shifted("abc")].concat());
    assert_eq!(other.take_received(), [b"hello".to_vec(), shifted("xabc")].concat());
}

#[test]
#[should_panic(expected = "only a `Box<dyn Protocol>` is replaced")]
fn layer_replaces_no_protocol_of_a_fixed_type() {
    let mut connection = TestConnection::new(Layered::new(Chooser, TellsPeer));
    connection.peer_sends(b"s");
}
