//! The peers of the members of an exchange.

use super::exchange::Shared;
use super::protocols::is_text;
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;

/// The peer of a member: says something, which makes the member do something, and hears letters.
pub(super) struct Mate {
    pub(super) books: Shared,
    /// Where it connects from, and to; or the stream to a host, which is there.
    pub(super) place: Result<usize, (SocketAddr, SocketAddr)>,
    pub(super) left: usize,
    pub(super) hear_max: usize,
    pub(super) delay_us_max: u64,
    pub(super) farewell: Farewell,
    pub(super) has_shut_down: bool,
    pub(super) patience: u32,
    pub(super) partial: Vec<u8>,
    /// Whose peer it is, once it has been told.
    pub(super) member: Option<usize>,
}

/// How a mate goes when it has said all.
#[derive(Clone, Copy, Debug)]
pub(super) enum Farewell {
    /// With its FIN, and hears on.
    Finish,
    /// The same, but when it has waited for ours for a while.
    Wait,
    Close,
    Reset,
    Vanish,
}

impl Mate {
    fn hear(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut rest = &self.partial[..];
        while let Some((head, behind)) = rest.split_first_chunk::<12>() {
            let [a, b, c, d, number @ .., e, f, g, h] = *head;
            let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let (number, length) =
                (u32::from_be_bytes(number), u32::from_be_bytes([e, f, g, h]) as usize);
            let Some(text) = behind.get(..length) else { break };
            assert!(
                is_text(from, number as usize, text),
                "the text of letter {number} from {from} to {to}"
            );
            let member = *self.member.get_or_insert(to.into());
            assert_eq!(member, usize::from(to), "a letter for somebody else, from {from}");
            if number > 0 {
                let mut books = self.books.borrow_mut();
                let heard = books.heard.entry((from.into(), to.into())).or_default();
                *heard += 1;
                assert_eq!(number, *heard, "the next letter from {from} to {to}");
            }
            rest = &behind[length..];
        }
        self.partial = rest.to_vec();
    }
}

impl Mate {
    pub(super) fn draw(
        kernel: &mut Kernel,
        books: &Shared,
        place: Result<usize, (SocketAddr, SocketAddr)>,
    ) -> Mate {
        let rng = &mut kernel.rng;
        let farewell = match rng.u8(..10) {
            0 => Farewell::Close,
            1 => Farewell::Reset,
            2 => Farewell::Vanish,
            3 | 4 => Farewell::Wait,
            _ => Farewell::Finish,
        };
        let (left, hear_max) = (rng.usize(0..60), [300, 5_000, 200_000][rng.usize(..3)]);
        let delay_us_max = [100, 2_000, 20_000][rng.usize(..3)];
        let patience = if matches!(farewell, Farewell::Wait) { 100 } else { 0 };
        let (books, partial) = (books.clone(), Vec::new());
        Mate {
            books,
            place,
            left,
            hear_max,
            delay_us_max,
            farewell,
            has_shut_down: false,
            patience,
            partial,
            member: None,
        }
    }
}

impl Actor for Mate {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let stream = match self.place {
            Ok(stream) => stream,
            Err((peer, server)) => {
                let buffer_bytes = [500, 5_000, 60_000][kernel.rng.usize(..3)];
                let stream = kernel.peer_connects(peer, server, buffer_bytes)?;
                self.place = Ok(stream);
                stream
            }
        };
        while self.left > 0 && kernel.rng.bool() {
            let count = kernel.rng.usize(1..=self.left.min(20));
            kernel.peer_sends(stream, &vec![b'x'; count]);
            self.left -= count;
        }
        self.patience -= u32::from(self.left == 0 && self.patience > 0);
        if self.left == 0 && self.patience == 0 && !self.has_shut_down {
            self.has_shut_down = true;
            match self.farewell {
                Farewell::Finish | Farewell::Wait => kernel.peer_shuts_down(stream),
                Farewell::Close => kernel.peer_closes(stream),
                Farewell::Reset => kernel.fail(stream, errno::ECONNRESET),
                Farewell::Vanish => {}
            }
            if matches!(self.farewell, Farewell::Close | Farewell::Reset | Farewell::Vanish) {
                return None;
            }
        }
        let count_max = kernel.rng.usize(1..=self.hear_max);
        match kernel.peer_receives(stream, count_max) {
            PeerReceived::Bytes(bytes) => self.hear(&bytes),
            PeerReceived::WouldBlock => {}
            PeerReceived::Fin => {
                let is_well = !kernel.is_stopping && !kernel.streams[stream].was_faulted;
                assert!(
                    self.partial.is_empty() || !is_well,
                    "the end comes within a letter: {}",
                    self.describe_wait()
                );
                self.books.borrow_mut().heard_out.extend(self.member.filter(|_| is_well));
                kernel.peer_closes(stream);
                return None;
            }
            PeerReceived::Reset => {
                kernel.peer_closes(stream);
                return None;
            }
        }
        Some(kernel.rng.u64(..=self.delay_us_max))
    }

    fn describe_wait(&self) -> String {
        format!(
            "{:?} of {:?} has {} left and {} of a letter",
            self.farewell,
            self.member,
            self.left,
            self.partial.len()
        )
    }
}

/// Gives each stream to a host a mate there, until all have gone.
pub(super) struct Household {
    pub(super) books: Shared,
    pub(super) seen: usize,
}

impl Actor for Household {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        for stream in self.seen..kernel.streams.len() {
            let name_is = kernel.hosts.contains_key(&kernel.streams[stream].peer);
            if name_is && kernel.streams[stream].is_connecting {
                break; // those behind it can wait
            }
            self.seen = stream + 1;
            if name_is && kernel.streams[stream].descriptor.is_some() {
                kernel.streams[stream].may_be_paused = true;
                let mate = Mate::draw(kernel, &self.books, Ok(stream));
                kernel.add(mate, 0);
            }
        }
        // While it acts itself, it is not among those who are not done.
        let is_over = kernel.describe_waits().is_empty()
            && kernel.streams.iter().all(|stream| stream.descriptor.is_none());
        (!is_over).then_some(20_000)
    }

    fn describe_wait(&self) -> String {
        format!("the hosts have let in {}", self.seen)
    }
}
