//! A chat room: what one says, all others read. Try it with `nc 127.0.0.1 4000` from several terminals.
//!
//! A protocol whose connections reach each other. One that runs has only itself in its hands: what it has for others is
//! queued with [`Context::send_to_all`], and what came of it is told later, to it alone, where there is something to tell.
//!
//! - Somebody who does not read holds up nobody. When more than the high mark waits for it, those who have spoken are told, and
//!   it is left out until one of them is told that it has caught up; if they have all left, the next to speak asks. So of what
//!   others say, no more waits for it than the high mark and what is said in one turn.
//! - Each line is read or counted as missed: it goes whole or not at all. Who leaves stays for a moment, to be told what came of
//!   its last words; only those of somebody who breaks off may wait above the mark, or be missed uncounted.
//! - Nobody can be confused with somebody else who has come later: names of connections are never used again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, CloseReason, ConnectionId, Context, Limits, Next, Notification, Protocol, Reactor,
};

/// The longest line, with its end, in bytes. Longer: the guest is told so, and has to go.
const LINE_BYTES_MAX: usize = 1024;
/// The longest name, in letters. Longer, or somebody else's: it is asked for again.
const NAME_LETTERS_MAX: usize = 20;
/// The most who are connected, with a name or without. More are told that the room is full, and have to go.
const GUESTS_MAX: usize = 1000;
/// News is told before alarms ring. So after the shortest alarm, all has been told that came of what was done before (but under
/// a flood of news: then the next to speak finds out).
const A_MOMENT: Duration = Duration::from_millis(1);

/// What the guests share.
#[derive(Default)]
struct Room {
    guests: BTreeMap<ConnectionId, Guest>,
    guests_max: usize,
    /// Who has gone without a word, which is said with the next line.
    gone: Vec<String>,
}

struct Guest {
    name: String,
    /// How many lines it has missed since it came, and how many it was last sent word of.
    missed: u64,
    missed_told: u64,
    behind: Option<Behind>,
}

/// Too much waits for a guest, and it is left out.
#[derive(Default)]
struct Behind {
    /// Those who have been told so, and will be told when it has caught up.
    tellers: BTreeSet<ConnectionId>,
    /// They have all left, and this one has sent it no bytes at all: it is told if too much waits even so.
    asker: Option<ConnectionId>,
}

struct Chat {
    room: Rc<RefCell<Room>>,
    /// Who it is, from when it has a name until it leaves.
    id: Option<ConnectionId>,
}

impl Protocol for Chat {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let is_full = Rc::strong_count(&self.room) - 1 > self.room.borrow().guests_max; // the listener knows it too
        if is_full {
            self.room = Rc::default(); // it takes nobody's place in this one
        }
        cx.send(if is_full { &b"* the room is full\n"[..] } else { b"* what is your name?\n" });
        if is_full { Next::Close } else { Next::Continue }
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
            if input.len() < LINE_BYTES_MAX {
                return Advance::need_more();
            }
            cx.send(b"* that was too long\n");
            return Advance::consumed(input.len()).then(self.eof(&[], cx));
        };
        // No control characters, which others' terminals would obey.
        let line: String = String::from_utf8_lossy(&input[..end])
            .chars()
            .filter(|letter| !letter.is_control())
            .collect();
        let room = &mut *self.room.borrow_mut();
        match self.id.and_then(|id| room.guests.get(&id)) {
            None => self.id = room.enter(line.trim(), cx),
            Some(guest) if line == "/who" => {
                let names: Vec<&str> =
                    room.guests.values().map(|guest| guest.name.as_str()).collect();
                cx.send(
                    format!("* here are: {}. You are {}.\n", names.join(", "), guest.name)
                        .as_bytes(),
                );
            }
            Some(guest) => room.tell_others(&format!("{}: {line}\n", guest.name), cx),
        }
        Advance::consumed(end + 1)
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, _cx: &mut Context<'_>) -> Next {
        let mut room = self.room.borrow_mut();
        let Some(guest) = room.guests.get_mut(&about) else { return Next::Unchanged };
        match news {
            Notification::AboveHighWatermark => {
                guest.behind.get_or_insert_default().tellers.extend(self.id);
            } // but not who has left
            Notification::BelowLowWatermark => guest.behind = None, // as all tellers are told, before anybody speaks again
            Notification::Rejected => guest.missed += 1,
            Notification::Closed | _ => {} // it goes, and says so itself
        }
        Next::Unchanged
    }

    /// A moment ago it has left, or has asked how others are: those of whom it was told nothing can hear again.
    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        for guest in self.room.borrow_mut().guests.values_mut() {
            guest.behind.take_if(|it| {
                it.asker.take_if(|id| *id == cx.id()).is_some() && it.tellers.is_empty()
            });
        }
        if self.id.is_some() { Next::Unchanged } else { Next::Close }
    }

    fn output_low(&mut self, _cx: &mut Context<'_>) -> Next {
        Next::Unchanged // only who leaves has paused, and not to say more
    }

    /// It leaves, with a word to the others.
    fn eof(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        let room = &mut *self.room.borrow_mut();
        let Some(guest) = self.id.take().and_then(|id| room.guests.get(&id)) else {
            return Next::Close;
        };
        room.tell_others(&format!("* {} has gone\n", guest.name), cx);
        room.forget(cx.id());
        cx.set_timer(A_MOMENT);
        Next::Pause
    }

    fn closed(&mut self, _why: CloseReason) {
        let name = self.id.and_then(|id| self.room.borrow_mut().forget(id));
        self.room.borrow_mut().gone.extend(name);
    }
}

impl Room {
    /// `id` goes, and tells nothing more of others. Returns its name.
    fn forget(&mut self, id: ConnectionId) -> Option<String> {
        for behind in self.guests.values_mut().filter_map(|guest| guest.behind.as_mut()) {
            behind.tellers.remove(&id);
            behind.asker.take_if(|asker| *asker == id);
        }
        self.guests.remove(&id).map(|guest| guest.name)
    }

    /// Lets somebody in who has said this name.
    fn enter(&mut self, name: &str, cx: &mut Context<'_>) -> Option<ConnectionId> {
        let is_taken = self.guests.values().any(|guest| guest.name == name);
        if name.is_empty() || name.chars().count() > NAME_LETTERS_MAX || is_taken {
            cx.send(b"* that cannot be yours. What is your name?\n");
            return None;
        }
        self.guests.insert(
            cx.id(),
            Guest { name: name.to_owned(), missed: 0, missed_told: 0, behind: None },
        );
        cx.send(
            format!("* welcome, {name}. {} are here; /who tells who.\n", self.guests.len())
                .as_bytes(),
        );
        self.tell_others(&format!("* {name} has come\n"), cx);
        Some(cx.id())
    }

    /// Says who has gone, and then `line`, to all but the one that is speaking and those who are behind.
    fn tell_others(&mut self, line: &str, cx: &mut Context<'_>) {
        if !self.gone.is_empty() {
            let names = std::mem::take(&mut self.gone).join(", ");
            self.tell_others(&format!("* gone: {names}\n"), cx);
        }
        let (own, mut others) = (cx.id(), Vec::with_capacity(self.guests.len()));
        for (&id, guest) in self.guests.iter_mut().filter(|(id, _)| **id != own) {
            if let Some(behind) = &mut guest.behind {
                guest.missed += 1;
                if behind.tellers.is_empty() && behind.asker.is_none() {
                    behind.asker = Some(own);
                    cx.send_to(id, b"");
                    cx.set_timer(A_MOMENT);
                }
            } else if guest.missed > guest.missed_told {
                guest.missed_told = guest.missed;
                cx.send_to(
                    id,
                    format!("* you have missed {} lines so far\n{line}", guest.missed).as_bytes(),
                );
            } else {
                others.push(id);
            }
        }
        cx.send_to_all(others, line.as_bytes());
    }
}

/// Opens a room for so many on `address`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    guests_max: usize,
) -> io::Result<SocketAddr> {
    let room = Rc::new(RefCell::new(Room { guests_max, ..Room::default() }));
    reactor.listen(address, move |_peer| Chat { room: Rc::clone(&room), id: None })
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_string());
    let address =
        address.parse().map_err(|_| io::Error::other(format!("{address} is no IP:PORT")))?;
    let mut reactor = Reactor::new(Limits { idle_timeout_ms: 3_600_000, ..Limits::default() })?;
    writeln!(io::stdout(), "chat {}", listen(&mut reactor, address, GUESTS_MAX)?)?;
    reactor.run()?;
    Ok(())
}
