//! Connections that do to each other what the lot decides, and the books that are kept of it.
//!
//! A member writes letters to others by name: to those who are there, who have gone, and who have been called and not been
//! reached yet. It pauses, resumes, finishes, closes and watches them, and calls hosts. Each letter says from whom to whom it is
//! and which of all between these two. So a peer can hold what it hears against what was written: every letter is heard
//! whole, once and in order, or its sender is told that it was not taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::protocols::text_of;
use super::*;
use crate::protocol::notification::Notification;

/// Two members: who writes, and to whom.
type Pair = (usize, usize);

#[derive(Default)]
pub(super) struct Books {
    /// How many calls the members have had: a turn with one is not for nothing.
    pub(super) calls: u64,
    pub(super) members: Vec<ConnectionId>,
    /// How many letters have been written.
    pub(super) written: BTreeMap<Pair, u32>,
    /// How many of them have not been taken, as their senders have been told; perhaps one or two too many.
    pub(super) refused: BTreeMap<Pair, u32>,
    /// How many have been taken, at least: the sender has been told all that there is to be told of them.
    pub(super) taken: BTreeMap<Pair, u32>,
    /// How many have been heard by the peer.
    pub(super) heard: BTreeMap<Pair, u32>,
    /// Who has been told that much waits, and not yet that it has drained.
    pub(super) above_watermark: BTreeSet<Pair>,
    /// Who has been called, and whether its caller has been told what came of it.
    pub(super) called: BTreeMap<usize, bool>,
    /// Those whose peers have heard our FIN, and so all that was taken for them.
    pub(super) heard_out: BTreeSet<usize>,
}

pub(super) type Shared = Rc<RefCell<Books>>;

impl Books {
    /// Everybody has gone: does all agree?
    pub(super) fn check(&self) {
        for (&(from, to), &heard) in &self.heard {
            assert!(
                heard <= self.written[&(from, to)],
                "{to} has heard more from {from} than was written"
            );
        }
        for (&(from, to), &taken) in &self.taken {
            let heard = self.heard.get(&(from, to)).copied().unwrap_or(0);
            let all_is_heard = heard >= taken || !self.heard_out.contains(&to);
            assert!(
                all_is_heard,
                "{to} has heard {heard} of {taken} letters from {from}, and the end"
            );
        }
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// How many letters were heard by those who have heard all.
    pub(super) fn letters_heard_out(&self) -> u32 {
        self.heard
            .iter()
            .filter(|((_, to), _)| self.heard_out.contains(to))
            .map(|(_, count)| count)
            .sum()
    }
}

/// A letter's text, behind its head of 12 bytes.
fn letter((from, to): Pair, number: u32, length: u16) -> Vec<u8> {
    let (from, to) = (
        u16::try_from(from).expect("few are members"),
        u16::try_from(to).expect("few are members"),
    );
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend(number.to_be_bytes());
    bytes.extend(u32::from(length).to_be_bytes());
    bytes.extend(text_of(from, number as usize, length.into()));
    bytes
}

/// For whose end anybody may ask: it has gone before the first has come.
const NOBODY: ConnectionId = ConnectionId { slot: 0, generation: 0 };

pub(super) struct Member {
    number: Option<usize>,
    books: Shared,
    ledger: Rc<RefCell<Ledger>>,
    hosts: Rc<[SocketAddr]>,
    rng: fastrand::Rng,
    length_max: u16,
    /// How often it still acts unasked: or two whose peers are silent would keep each other alive for long.
    alarms_left: u32,
    /// For each question after `NONE` that has not been answered, how many letters had been written to whom. News is told in
    /// order: so with the answer, what is to be told of those letters has been.
    asked: VecDeque<Vec<(usize, u32)>>,
}

impl Member {
    pub(super) fn new(
        books: &Shared,
        ledger: &Rc<RefCell<Ledger>>,
        hosts: &Rc<[SocketAddr]>,
        mut rng: fastrand::Rng,
    ) -> Member {
        let length_max = [10, 300, 3_000, 20_000][rng.usize(..4)];
        let (books, ledger, hosts) = (books.clone(), ledger.clone(), hosts.clone());
        Member {
            number: None,
            books,
            ledger,
            hosts,
            rng,
            length_max,
            alarms_left: 60,
            asked: VecDeque::new(),
        }
    }

    /// Does something to somebody, perhaps to itself.
    fn act(&mut self, cx: &mut Context<'_>) {
        let own = self.number.expect("it has been opened");
        let books = self.books.clone();
        let mut books = books.borrow_mut();
        books.calls += 1;
        let other = self.rng.usize(..books.members.len());
        let id = books.members[other];
        match self.rng.u8(..100) {
            0..5 => cx.pause(id),
            5..10 => cx.resume(id),
            10..14 => cx.monitor(id),
            14..15 => cx.shutdown_write(id),
            15..16 => cx.close(id),
            16..20 if books.members.len() < 15 => {
                let number = books.members.len();
                let host = self.hosts[self.rng.usize(..self.hosts.len())];
                let called = Member {
                    number: Some(number),
                    ..Member::new(&self.books, &self.ledger, &self.hosts, self.rng.fork())
                };
                let id = cx.connect(host, Witnessed::new(called, host, &self.ledger));
                books.members.push(id);
                books.called.insert(number, false);
            }
            20..25 => cx.send_to_all(books.members.clone(), b""),
            _ => {
                let number = books.written.entry((own, other)).or_default();
                *number += 1;
                cx.send_to(id, &letter((own, other), *number, self.rng.u16(..=self.length_max)));
            }
        }
        if self.rng.u8(..4) == 0 {
            let written = books.written.iter().filter(|((from, _), _)| *from == own);
            self.asked.push_back(written.map(|(&(_, to), &count)| (to, count)).collect());
            cx.monitor(NOBODY);
        }
    }
}

impl Protocol for Member {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let own = *self.number.get_or_insert_with(|| {
            let mut books = self.books.borrow_mut();
            books.members.push(cx.id());
            books.members.len() - 1
        });
        assert_eq!(self.books.borrow().members[own], cx.id());
        cx.send(&letter((own, own), 0, 0)); // who it is
        cx.set_timer(Duration::from_millis(self.rng.u64(1..1000)));
        Next::Continue
    }

    fn advance<'i>(&mut self, _: &'i [u8], cx: &mut Context<'i>) -> Advance {
        self.act(cx);
        Advance::consumed(1).then(if self.rng.u8(..50) == 0 {
            Next::Pause
        } else {
            Next::Unchanged
        })
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
        let own = self.number.expect("it has been opened");
        self.books.borrow_mut().calls += 1;
        if about == NOBODY {
            assert_eq!(news, Notification::Closed);
            let mut books = self.books.borrow_mut();
            for (to, written) in self.asked.pop_front().expect("it has asked") {
                let refused = books.refused.get(&(own, to)).copied().unwrap_or(0);
                books.taken.insert((own, to), written.saturating_sub(refused));
            }
            return Next::Unchanged;
        }
        {
            let mut books = self.books.borrow_mut();
            let other = books
                .members
                .iter()
                .position(|&member| member == about)
                .expect("nobody else is known");
            match news {
                Notification::AboveHighWatermark => {
                    assert!(books.above_watermark.insert((own, other)), "told once");
                }
                Notification::BelowLowWatermark => {
                    assert!(
                        books.above_watermark.remove(&(own, other)),
                        "only after `AboveHighWatermark`"
                    );
                }
                Notification::Connected | Notification::ConnectFailed(_) => {
                    let was_told = books.called.insert(other, true);
                    assert_eq!(was_told, Some(false), "told once, and nobody else's call");
                }
                Notification::Rejected => panic!("nobody writes so much"),
                // Mostly of a letter. Of who was watched, called, or over the mark, it may come once more.
                Notification::Closed => *books.refused.entry((own, other)).or_default() += 1,
            }
        }
        if self.rng.u8(..8) == 0 {
            self.act(cx);
        }
        [Next::Unchanged, Next::Unchanged, Next::Pause, Next::Continue][self.rng.usize(..4)]
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.act(cx);
        self.alarms_left -= 1;
        if self.alarms_left > 0 {
            cx.set_timer(Duration::from_millis(self.rng.u64(1..1000)));
        }
        Next::Continue // whoever had paused it
    }
}
