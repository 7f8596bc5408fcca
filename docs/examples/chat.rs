//! A chat room: what one says, all others read. Try it with `nc 127.0.0.1 4000` from several terminals.
//!
//! A protocol whose connections reach each other. One that runs has only itself in its hands: what it has for others is
//! queued with [`Context::send_to_all`], and what came of it is told later, where there is something to tell. Two things
//! follow:
//!
//! - Somebody who does not read holds up nobody. When too much waits for it, whoever spoke last is told so, and it is left out
//!   until it has caught up; then it reads how many lines it has missed. So it never costs more than the high mark of memory.
//! - Nobody can be confused with somebody else who has come later: names of connections are never used again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use reactor::{Advance, CloseReason, ConnectionId, Context, Limits, News, Next, Protocol, Reactor};

/// The longest line, with its end, in bytes. Longer: the guest is told so, and has to go.
const LINE_BYTES_MAX: usize = 1024;
/// The longest name, in letters. Longer, or somebody else's: it is asked for again.
const NAME_LETTERS_MAX: usize = 20;
/// The most guests. More are told that the room is full, and have to go.
const GUESTS_MAX: usize = 1000;

/// What the guests share.
#[derive(Default)]
struct Room {
    guests: BTreeMap<ConnectionId, Guest>,
    /// Who has gone without a word, which is said with the next line.
    gone: Vec<String>,
}

struct Guest {
    name: String,
    behind: Option<Behind>,
}

/// Too much waits for it. It is left out until `teller` is told that it has caught up; if that one has gone, it is tried again.
struct Behind {
    teller: Option<ConnectionId>,
    missed: u64,
}

struct Chat {
    room: Rc<RefCell<Room>>,
    /// Who it is, once it has a name.
    id: Option<ConnectionId>,
}

impl Protocol for Chat {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        if self.room.borrow().guests.len() >= GUESTS_MAX {
            cx.send(b"* the room is full\n");
            return Next::Close;
        }
        cx.send(b"* what is your name?\n");
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
            if input.len() < LINE_BYTES_MAX {
                return Advance::need_more();
            }
            cx.send(b"* that was too long\n");
            return Advance::consumed(input.len()).then(self.leave(cx));
        };
        // Nothing that would move somebody else's cursor.
        let line: String = String::from_utf8_lossy(&input[..end]).chars().filter(|letter| !letter.is_control()).collect();
        let room = &mut *self.room.borrow_mut();
        match self.id.and_then(|id| room.guests.get(&id)) {
            None => self.id = room.enter(line.trim(), cx),
            Some(guest) if line == "/who" => {
                let names: Vec<&str> = room.guests.values().map(|guest| guest.name.as_str()).collect();
                cx.send(format!("* here are: {}. You are {}.\n", names.join(", "), guest.name).as_bytes());
            }
            Some(guest) => {
                let text = format!("{}: {line}\n", guest.name);
                room.tell_others(&text, cx);
            }
        }
        Advance::consumed(end + 1)
    }

    fn told(&mut self, about: ConnectionId, news: News, cx: &mut Context<'_>) -> Next {
        let mut room = self.room.borrow_mut();
        let Some(guest) = room.guests.get_mut(&about) else { return Next::Stay };
        match news {
            News::OverMark => guest.behind = Some(Behind { teller: Some(cx.id()), missed: 0 }),
            News::Drained => guest.catch_up(about, cx),
            News::Gone | News::Refused | _ => {} // it goes, and says so itself
        }
        Next::Stay
    }

    fn ended(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.leave(cx)
    }

    fn closed(&mut self, _why: CloseReason) {
        if let Some(id) = self.id.take() {
            self.room.borrow_mut().forget(id);
        }
    }
}

impl Chat {
    /// Goes, with a word to the others.
    fn leave(&mut self, cx: &mut Context<'_>) -> Next {
        let mut room = self.room.borrow_mut();
        if let Some(id) = self.id.take() {
            room.forget(id);
            room.tell_others("", cx);
        }
        Next::Close
    }
}

impl Guest {
    /// It has read what waited for it.
    fn catch_up(&mut self, id: ConnectionId, cx: &mut Context<'_>) {
        if let Some(Behind { missed: missed @ 1.., .. }) = self.behind.take() {
            cx.send_to(id, format!("* you have missed {missed} lines\n").as_bytes());
        }
    }
}

impl Room {
    /// `id` has gone, and will not be told any more who has caught up.
    fn forget(&mut self, id: ConnectionId) {
        self.gone.extend(self.guests.remove(&id).map(|guest| guest.name));
        let behind = self.guests.values_mut().filter_map(|guest| guest.behind.as_mut());
        behind.filter(|behind| behind.teller == Some(id)).for_each(|behind| behind.teller = None);
    }

    /// Lets somebody in who has said this name.
    fn enter(&mut self, name: &str, cx: &mut Context<'_>) -> Option<ConnectionId> {
        let is_taken = self.guests.values().any(|guest| guest.name == name);
        if name.is_empty() || name.chars().count() > NAME_LETTERS_MAX || is_taken {
            cx.send(b"* that cannot be yours. What is your name?\n");
            return None;
        }
        self.guests.insert(cx.id(), Guest { name: name.to_owned(), behind: None });
        cx.send(format!("* welcome, {name}. {} are here; /who tells who.\n", self.guests.len()).as_bytes());
        self.tell_others(&format!("* {name} has come\n"), cx);
        Some(cx.id())
    }

    /// Says who has gone, and then `text`, to all but the one that is speaking and those who are behind.
    fn tell_others(&mut self, text: &str, cx: &mut Context<'_>) {
        let mut lines: String = self.gone.drain(..).map(|name| format!("* {name} has gone\n")).collect();
        lines += text;
        let count = lines.matches('\n').count() as u64;
        let (own, mut others) = (cx.id(), Vec::with_capacity(self.guests.len()));
        for (&id, guest) in self.guests.iter_mut().filter(|(id, _)| **id != own) {
            match &mut guest.behind {
                Some(Behind { teller: Some(_), missed }) => *missed += count,
                Some(Behind { teller: None, .. }) | None => {
                    guest.catch_up(id, cx);
                    others.push(id);
                }
            }
        }
        cx.send_to_all(others, lines.as_bytes());
    }
}

/// Opens a room on `address`. Returns the address bound.
pub(crate) fn listen(reactor: &mut Reactor, address: SocketAddr) -> io::Result<SocketAddr> {
    let room = Rc::new(RefCell::new(Room::default()));
    reactor.listen(address, move |_peer| Chat { room: Rc::clone(&room), id: None })
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_string());
    let address = address.parse().map_err(|_| io::Error::other(format!("{address} is no IP:PORT")))?;
    let mut reactor = Reactor::new(Limits { idle_ms_max: 3_600_000, ..Limits::default() })?;
    writeln!(io::stdout(), "chat {}", listen(&mut reactor, address)?)?;
    reactor.run()?;
    Ok(())
}
