//! Layers around the protocols of random schedules: one that changes nothing, and one that encodes.

use super::*;
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
