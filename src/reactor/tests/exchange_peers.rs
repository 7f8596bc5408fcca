//! The peers of an exchange: each makes its member act, and checks every message that it receives.

use super::exchange::SharedLog;
use super::protocols::is_text;
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;

/// The peer of a member. Each byte that it sends makes the member act once.
pub(super) struct MemberPeer {
    pub(super) log: SharedLog,
    /// The stream; or, before it connects, its own address and the one that it connects to. On a
    /// host, the stream is there from the beginning.
    pub(super) place: Result<usize, (SocketAddr, SocketAddr)>,
    /// How many bytes it has still to send.
    pub(super) left: usize,
    pub(super) read_bytes_max: usize,
    pub(super) delay_us_max: u64,
    pub(super) ending: MemberPeerEnding,
    pub(super) has_ended: bool,
    /// How often it still acts before it ends, after its last byte.
    pub(super) waits_left: u32,
    /// What each byte that it receives is combined with.
    pub(super) key: u8,
    /// The beginning of a message.
    pub(super) partial: Vec<u8>,
    /// The number of its member, which every message names.
    pub(super) member: Option<usize>,
}

/// What the peer of a member does when it has sent everything.
#[derive(Clone, Copy, Debug)]
pub(super) enum MemberPeerEnding {
    /// Sends its FIN, and keeps reading.
    ShutDown,
    /// The same, but only after it has waited for our FIN for a while.
    WaitThenShutDown,
    Close,
    Reset,
    Vanish,
}

impl MemberPeer {
    pub(super) fn draw(
        kernel: &mut Kernel,
        log: &SharedLog,
        place: Result<usize, (SocketAddr, SocketAddr)>,
    ) -> MemberPeer {
        let rng = &mut kernel.rng;
        let ending = match rng.u8(..10) {
            0 => MemberPeerEnding::Close,
            1 => MemberPeerEnding::Reset,
            2 => MemberPeerEnding::Vanish,
            3 | 4 => MemberPeerEnding::WaitThenShutDown,
            _ => MemberPeerEnding::ShutDown,
        };
        let (left, read_bytes_max) = (rng.usize(0..60), [300, 5_000, 200_000][rng.usize(..3)]);
        let delay_us_max = [100, 2_000, 20_000][rng.usize(..3)];
        let waits = matches!(ending, MemberPeerEnding::WaitThenShutDown);
        MemberPeer {
            log: log.clone(),
            place,
            left,
            read_bytes_max,
            delay_us_max,
            ending,
            has_ended: false,
            waits_left: if waits { 100 } else { 0 },
            key: 0,
            partial: Vec::new(),
            member: None,
        }
    }

    /// Checks each whole message in `bytes`, and keeps the rest.
    fn check_messages(&mut self, bytes: &[u8]) {
        self.partial.extend(bytes.iter().map(|byte| byte ^ self.key));
        let mut rest = &self.partial[..];
        while let Some((head, behind)) = rest.split_first_chunk::<12>() {
            let [a, b, c, d, number @ .., e, f, g, h] = *head;
            let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let (number, length) =
                (u32::from_be_bytes(number), u32::from_be_bytes([e, f, g, h]) as usize);
            let Some(text) = behind.get(..length) else { break };
            assert!(
                is_text(from, number as usize, text),
                "message {number} from {from} to {to} has the wrong text"
            );
            let member = *self.member.get_or_insert(to.into());
            assert_eq!(member, usize::from(to), "a message from {from} reached the wrong member");
            if number > 0 {
                let mut log = self.log.borrow_mut();
                let received = log.received.entry((from.into(), to.into())).or_default();
                *received += 1;
                assert_eq!(number, *received, "a message from {from} to {to} is out of order");
            }
            rest = &behind[length..];
        }
        self.partial = rest.to_vec();
    }
}

impl Actor for MemberPeer {
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
        self.waits_left -= u32::from(self.left == 0 && self.waits_left > 0);
        if self.left == 0 && self.waits_left == 0 && !self.has_ended {
            self.has_ended = true;
            match self.ending {
                MemberPeerEnding::ShutDown | MemberPeerEnding::WaitThenShutDown => {
                    kernel.peer_shuts_down(stream);
                }
                MemberPeerEnding::Close => {
                    kernel.peer_closes(stream);
                    return None;
                }
                MemberPeerEnding::Reset => {
                    kernel.fail(stream, errno::ECONNRESET);
                    return None;
                }
                MemberPeerEnding::Vanish => return None,
            }
        }
        let count_max = kernel.rng.usize(1..=self.read_bytes_max);
        match kernel.peer_receives(stream, count_max) {
            PeerReceived::Bytes(bytes) => self.check_messages(&bytes),
            PeerReceived::WouldBlock => {}
            PeerReceived::Fin => {
                let is_orderly = !kernel.is_stopping && !kernel.streams[stream].was_faulted;
                assert!(
                    self.partial.is_empty() || !is_orderly,
                    "a FIN within a message: {}",
                    self.describe_wait()
                );
                self.log.borrow_mut().complete.extend(self.member.filter(|_| is_orderly));
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
            "{:?}, peer of member {:?}, has {} bytes to send and {} of a message",
            self.ending,
            self.member,
            self.left,
            self.partial.len()
        )
    }
}

/// Adds a `MemberPeer` for each stream that a host accepts, until every stream is closed.
pub(super) struct HostAcceptor {
    pub(super) log: SharedLog,
    /// How many streams of the kernel it has looked at.
    pub(super) seen: usize,
}

impl Actor for HostAcceptor {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        for stream in self.seen..kernel.streams.len() {
            let is_to_host = kernel.hosts.contains_key(&kernel.streams[stream].peer);
            if is_to_host && kernel.streams[stream].is_connecting {
                break; // it and those after it are looked at next time
            }
            self.seen = stream + 1;
            if is_to_host && kernel.streams[stream].descriptor.is_some() {
                kernel.streams[stream].may_be_paused = true;
                let peer = MemberPeer::draw(kernel, &self.log, Ok(stream));
                kernel.add(peer, 0);
            }
        }
        let is_done = kernel.other_actors_are_done()
            && kernel.streams.iter().all(|stream| stream.descriptor.is_none());
        (!is_done).then_some(20_000)
    }

    fn describe_wait(&self) -> String {
        format!("the hosts have looked at {} streams", self.seen)
    }
}
