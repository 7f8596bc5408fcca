//! A chat room: what one user writes, all others read. Try it with `nc 127.0.0.1 4000` from several
//! terminals.
//!
//! It shows how connections of one reactor reach each other. A protocol never holds another
//! connection: it queues effects ([`Connections::send_to_all`]), which are applied when its call is
//! over. What it must know of their outcome arrives later, as a [`Notification`].
//!
//! - **A user who does not read delays no others.** When more than the high watermark waits for
//!   such a user, the connections that have sent to it are notified, and the room leaves it out.
//!   When one of them is notified that its output is low again, it is included again. If all of
//!   them have left by then, the next user who writes probes it. So what waits for one user is
//!   bounded by the high watermark and what others write in one turn.
//! - **Each line is either read or counted as missed**: a line is sent whole or not at all. A user
//!   who leaves gracefully stays connected for a moment, to be notified about its last lines. If it
//!   disconnects without a FIN (a reset), its last lines may wait above the watermark, or be missed
//!   uncounted.
//! - **No user is mistaken for a later one**: a [`ConnectionId`] is not used again, unless 2³²
//!   others have been issued since.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, CloseReason, ConnectionId, Context, Limits, Next, Notification, Protocol, Reactor,
};

/// The longest line with its end, in bytes. A longer one is answered with an error, and the
/// connection closes.
const LINE_BYTES_MAX: usize = 1024;
/// The longest name, in characters. A longer one, or one that is taken, is refused.
const NAME_CHARS_MAX: usize = 20;
/// The most connections, with a name or without. Further ones are sent that the room is full, and
/// are closed.
pub(crate) const CONNECTIONS_MAX: usize = 1000;
/// The shortest timer. Notifications are delivered before timers expire, so after this time a
/// connection has been notified of everything that its earlier effects led to. (Under a flood of
/// notifications some come later. Then the next line that is written finds out.)
const NOTIFICATION_DELAY: Duration = Duration::from_millis(1);

/// What all connections share.
#[derive(Default)]
struct Room {
    users: BTreeMap<ConnectionId, User>,
    connections_max: usize,
    /// Users that were disconnected without leaving. The next line reports them.
    disconnected: Vec<String>,
}

struct User {
    name: String,
    /// Lines missed since the user joined, and how many of them have been reported to it.
    missed: u64,
    missed_reported: u64,
    lagging: Option<Lagging>,
}

/// A user for whom too much output waits. It is left out until that has fallen.
#[derive(Default)]
struct Lagging {
    /// Connections that were notified of it, and will be notified when the output is low again.
    notified: BTreeSet<ConnectionId>,
    /// If all of those have left: a connection that has probed it, with a send of no bytes. That is
    /// enough to be notified if too much still waits.
    prober: Option<ConnectionId>,
}

pub(crate) struct Chat {
    room: Rc<RefCell<Room>>,
    /// This connection's id while it is a user: from when it has a name until it leaves.
    user: Option<ConnectionId>,
}

impl Protocol for Chat {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        // One reference is the listener's, each other one is a connection's.
        let is_full = Rc::strong_count(&self.room) - 1 > self.room.borrow().connections_max;
        if is_full {
            self.room = Rc::default(); // so that this connection does not count in the real room
        }
        cx.send(if is_full { &b"* the room is full\n"[..] } else { b"* what is your name?\n" });
        if is_full { Next::Close } else { Next::Continue }
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
            if input.len() < LINE_BYTES_MAX {
                return Advance::need_more();
            }
            cx.send(b"* line too long\n");
            return Advance::consumed(input.len()).then(self.eof(&[], cx));
        };
        // Without control characters, which other users' terminals would execute.
        let line: String = String::from_utf8_lossy(&input[..end])
            .chars()
            .filter(|letter| !letter.is_control())
            .collect();
        let room = &mut *self.room.borrow_mut();
        match self.user.and_then(|id| room.users.get(&id)) {
            None => self.user = room.join(line.trim(), cx),
            Some(user) if line == "/who" => {
                let names: Vec<&str> = room.users.values().map(|user| user.name.as_str()).collect();
                let list = format!("* here are: {}. You are {}.\n", names.join(", "), user.name);
                cx.send(list.as_bytes());
            }
            Some(user) => room.broadcast(&format!("{}: {line}\n", user.name), cx),
        }
        Advance::consumed(end + 1)
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        _cx: &mut Context<'_>,
    ) -> Next {
        let mut room = self.room.borrow_mut();
        let Some(user) = room.users.get_mut(&about) else { return Next::Unchanged };
        match notification {
            // A connection that has left the room is no user any more, and is not added.
            Notification::AboveHighWatermark => {
                user.lagging.get_or_insert_default().notified.extend(self.user);
            }
            // All connections in `notified` get this in one turn, before any other line is written.
            Notification::BelowLowWatermark => user.lagging = None,
            Notification::Rejected => user.missed += 1,
            Notification::Closed | _ => {} // its own protocol removes it, in `eof` or `closed`
        }
        Next::Unchanged
    }

    /// `NOTIFICATION_DELAY` ago this connection left the room or probed lagging users. A probed
    /// user about whom it was not notified since then does not lag any more.
    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        for user in self.room.borrow_mut().users.values_mut() {
            user.lagging.take_if(|lagging| {
                lagging.prober.take_if(|id| *id == cx.id()).is_some() && lagging.notified.is_empty()
            });
        }
        if self.user.is_some() { Next::Unchanged } else { Next::Close }
    }

    fn output_low(&mut self, _cx: &mut Context<'_>) -> Next {
        Next::Unchanged // only a leaving connection is paused, and it has nothing more to send
    }

    /// The user leaves the room, and the other users see it.
    fn eof(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        let room = &mut *self.room.borrow_mut();
        let Some(user) = self.user.take().and_then(|id| room.users.get(&id)) else {
            return Next::Close;
        };
        room.broadcast(&format!("* {} has left\n", user.name), cx);
        room.remove(cx.id());
        cx.set_timer(NOTIFICATION_DELAY);
        Next::Pause
    }

    fn closed(&mut self, _why: CloseReason) {
        let name = self.user.and_then(|id| self.room.borrow_mut().remove(id));
        self.room.borrow_mut().disconnected.extend(name);
    }
}

impl Room {
    /// Removes the user `id`, who will not be notified about others any more. Returns its name.
    fn remove(&mut self, id: ConnectionId) -> Option<String> {
        for lagging in self.users.values_mut().filter_map(|user| user.lagging.as_mut()) {
            lagging.notified.remove(&id);
            lagging.prober.take_if(|prober| *prober == id);
        }
        self.users.remove(&id).map(|user| user.name)
    }

    /// Adds this connection as the user `name`, and returns its id. `None`: the name is not valid,
    /// or taken. None may look like a line: those of the room begin with `*`, others with `name:`.
    fn join(&mut self, name: &str, cx: &mut Context<'_>) -> Option<ConnectionId> {
        let is_taken = self.users.values().any(|user| user.name == name);
        let is_odd = name.contains(|char: char| char.is_control() || "*:".contains(char));
        if name.is_empty() || is_odd || name.chars().count() > NAME_CHARS_MAX || is_taken {
            cx.send(b"* that name is not available. What is your name?\n");
            return None;
        }
        let user = User { name: name.to_owned(), missed: 0, missed_reported: 0, lagging: None };
        self.users.insert(cx.id(), user);
        let count = self.users.len();
        cx.send(format!("* welcome, {name}. {count} are here; /who lists them.\n").as_bytes());
        self.broadcast(&format!("* {name} has joined\n"), cx);
        Some(cx.id())
    }

    /// Sends `line` to all users but this one and those that lag. Reports disconnected users first.
    fn broadcast(&mut self, line: &str, cx: &mut Context<'_>) {
        if !self.disconnected.is_empty() {
            let names = std::mem::take(&mut self.disconnected).join(", ");
            self.broadcast(&format!("* disconnected: {names}\n"), cx);
        }
        let (own, mut others) = (cx.id(), Vec::with_capacity(self.users.len()));
        for (&id, user) in self.users.iter_mut().filter(|(id, _)| **id != own) {
            if let Some(lagging) = &mut user.lagging {
                user.missed += 1;
                if lagging.notified.is_empty() && lagging.prober.is_none() {
                    lagging.prober = Some(own);
                    cx.connections().send_to(id, b"");
                    cx.set_timer(NOTIFICATION_DELAY);
                }
            } else if user.missed > user.missed_reported {
                user.missed_reported = user.missed;
                let line = format!("* you have missed {} lines so far\n{line}", user.missed);
                cx.connections().send_to(id, line.as_bytes());
            } else {
                others.push(id);
            }
        }
        cx.connections().send_to_all(others, line.as_bytes());
    }
}

/// Makes a room for `connections_max` connections. Returns what makes the protocol of each.
pub(crate) fn room(connections_max: usize) -> impl FnMut(SocketAddr) -> Chat {
    let room = Rc::new(RefCell::new(Room { connections_max, ..Room::default() }));
    move |_peer| Chat { room: Rc::clone(&room), user: None }
}

/// Opens a room for `connections_max` connections on `address`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    connections_max: usize,
) -> io::Result<SocketAddr> {
    reactor.listen(address, room(connections_max))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_string());
    let address =
        address.parse().map_err(|_| io::Error::other(format!("{address}: not an IP:PORT")))?;
    let mut reactor =
        Reactor::new(Limits::default().with_idle_timeout(Duration::from_secs(3_600)))?;
    writeln!(io::stdout(), "chat {}", listen(&mut reactor, address, CONNECTIONS_MAX)?)?;
    reactor.run()?;
    Ok(())
}
