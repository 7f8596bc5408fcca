//! What is left of the input when it ends: a part of a message, or of what encodes it.

use super::*;

/// Takes the bytes two by two, and sends each byte twice if it encodes.
struct Pairs {
    encodes: bool,
}

impl Encoder for Pairs {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        encoded.extend(output.iter().flat_map(|&byte| [byte, byte]));
    }
}

impl Layer for Pairs {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        if self.encodes { Some(self) } else { None }
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        let Some(pair) = input.first_chunk::<2>() else { return Advance::need_more() };
        Advance::consumed(2).then(inner.receive(self, pair, cx))
    }
}

#[test]
fn rest_of_the_input_is_the_inner_protocols_unless_it_is_encoded() {
    for (encodes, received) in [(false, &b"abc"[..]), (true, b"aabb")] {
        let mut echo = TestConnection::new(Layered::new(Pairs { encodes }, Echo::new()));
        echo.peer_sends(b"abc");
        echo.peer_shuts_down();
        assert_eq!(echo.take_received(), received, "encodes: {encodes}");
        assert_eq!(echo.close_reason(), Some(CloseReason::Finished));
    }
}
