//! Where connections come from.
//!
//! A listener accepts until the kernel has no more, its budget is spent, or the house is full. Nothing that a peer can bring
//! about ends it: one that has left again is skipped, and when descriptors or memory run out the listener rests until
//! one of our connections ends or a moment has passed. It neither spins nor dies. Only a socket that does not listen at all
//! is given up, and the reactor serves on with the others.
//!
//! ```text
//!              no room                    nobody waits
//!     Open ─────────────► Crowded.Resting ◄───────────► Crowded.Easing
//!      ▲                                    no room           │
//!      └──────────────────────────────────────────────────────┘ EASE_MS without a rest
//! ```
//!
//! From the first rest until it is `Open` again is an episode. It has one line in the log at its beginning and one at its
//! end, however often the listener rests in between.

use std::io;

use log::{error, info, warn};

use crate::connection::Outcome;
use crate::deadline::Time;
use crate::errno::{self, AcceptError};
use crate::limits::{ACCEPT_REST_MS, EASE_MS};
#[cfg(unix)]
use crate::net::UnixListener;
use crate::net::{self, TcpListener, TcpStream};
use crate::protocol::{Peer, Protocol};
use crate::stats::Stats;
use crate::turn::Turn;

pub(crate) struct Listener {
    /// `None` once it is closed: at a stop, or because it is broken.
    socket: Option<Socket>,
    /// Where it listens, as the log has it.
    pub(crate) address: String,
    door: Door,
    /// Makes the protocol of each connection.
    pub(crate) make: Make,
}

pub(crate) type Make = Box<dyn FnMut(Peer) -> Box<dyn Protocol>>;

/// What is listened on. The streams that come from it are of one type, whatever this is.
pub(crate) enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Socket {
    /// What is registered with the poll.
    pub(crate) fn source(&mut self) -> &mut dyn net::Source {
        match self {
            Socket::Tcp(socket) => socket,
            #[cfg(unix)]
            Socket::Unix(socket) => socket,
        }
    }
}

/// Whether those who come find room.
enum Door {
    /// For a while everybody has.
    Open,
    Crowded(Episode, Room),
}

/// Whether there is room, in an episode in which there has been none.
#[derive(Clone, Copy)]
enum Room {
    /// It has more to accept, and rests until there is room.
    Resting,
    /// There has been room for all who waited, since then.
    Easing { since: Time },
}

/// What was the case when the listener first had to rest. The counts are of the whole reactor.
struct Episode {
    began: Time,
    rests: u64,
    accepted_before: u64,
    gave_way_before: u64,
}

/// What one call of accept(2) came to.
pub(crate) enum Accepted {
    Stream(TcpStream, Peer),
    /// The kernel has no more.
    Nothing,
    /// The call was interrupted.
    Again,
    /// This one failed; the next may not.
    Lost(io::Error),
    /// No descriptor or no memory for it: it stays in the backlog.
    Exhausted(io::Error),
    /// The socket does not listen.
    Broken(io::Error),
}

impl Listener {
    pub(crate) fn new(socket: Socket, address: String, make: Make) -> Listener {
        Listener { socket: Some(socket), address, door: Door::Open, make }
    }

    pub(crate) fn accept(&mut self) -> Accepted {
        match &self.socket {
            None => Accepted::Nothing,
            Some(Socket::Tcp(socket)) => match socket.accept() {
                Ok((stream, peer)) => match net::set_nodelay(&stream) {
                    Ok(()) => Accepted::Stream(stream, Peer::Ip(peer)),
                    Err(error) => Accepted::Lost(error), // whatever it is, it concerns this one alone
                },
                Err(error) => Accepted::from(error),
            },
            #[cfg(unix)]
            Some(Socket::Unix(socket)) => match socket.accept() {
                Ok(stream) => Accepted::Stream(stream, Peer::Unix),
                Err(error) => Accepted::from(error),
            },
        }
    }

    /// Closes the socket, so that whoever comes now is refused at once.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.socket.is_none()
    }

    /// It cannot be mended, and somebody must act; those whom others let in are served all the same.
    pub(crate) fn give_up(&mut self, why: &io::Error) {
        error!("{} does not listen any more, and is closed: {why}", self.address);
        self.close();
    }

    /// Somebody may wait, and there is no room: it accepts no more until somebody leaves or a moment has passed.
    pub(crate) fn rest(&mut self, why: &str, now: Time, stats: &mut Stats) {
        stats.accept_rests += 1;
        match &mut self.door {
            Door::Crowded(episode, room) => {
                episode.rests += 1;
                *room = Room::Resting;
            }
            Door::Open => {
                warn!("{} accepts no more for now: {why}", self.address);
                let (accepted_before, gave_way_before) = (stats.accepted, stats.gave_way);
                let episode = Episode { began: now, rests: 1, accepted_before, gave_way_before };
                self.door = Door::Crowded(episode, Room::Resting);
            }
        }
    }

    /// Nobody waits.
    pub(crate) fn ease(&mut self, now: Time) {
        if let Door::Crowded(_, room @ Room::Resting) = &mut self.door {
            *room = Room::Easing { since: now };
        }
    }

    pub(crate) fn is_resting(&self) -> bool {
        matches!(self.door, Door::Crowded(_, Room::Resting))
    }

    /// Look at me no later than this.
    pub(crate) fn deadline(&self, now: Time) -> Time {
        match &self.door {
            Door::Open => Time::NEVER,
            Door::Crowded(_, Room::Resting) => now.plus_ms(ACCEPT_REST_MS),
            Door::Crowded(_, Room::Easing { since }) => since.plus_ms(EASE_MS),
        }
    }

    /// Its deadline has come: it has rested, or has long enough had no need to.
    pub(crate) fn expire(&mut self, turn: &Turn) -> Outcome {
        match &self.door {
            Door::Crowded(_, Room::Resting) => Outcome::Unfinished,
            Door::Crowded(_, Room::Easing { since }) if since.plus_ms(EASE_MS) <= turn.now => {
                self.end_episode(turn);
                Outcome::Blocked
            }
            Door::Crowded(_, Room::Easing { .. }) | Door::Open => Outcome::Blocked,
        }
    }

    /// Says how an episode went, if it is in one.
    pub(crate) fn end_episode(&mut self, turn: &Turn) {
        let Door::Crowded(episode, _) = std::mem::replace(&mut self.door, Door::Open) else {
            return;
        };
        let Episode { began, rests, accepted_before, gave_way_before } = episode;
        info!(
            "{} had no room at times for {:.1?}: it rested {rests} times, {} gave way and {} were accepted meanwhile",
            self.address,
            turn.now.since(began),
            turn.stats.gave_way - gave_way_before,
            turn.stats.accepted - accepted_before,
        );
    }
}

impl From<io::Error> for Accepted {
    fn from(error: io::Error) -> Accepted {
        match errno::of_accept(&error) {
            AcceptError::NobodyThere => Accepted::Nothing,
            AcceptError::Again => Accepted::Again,
            AcceptError::Lost => Accepted::Lost(error),
            AcceptError::Exhausted => Accepted::Exhausted(error),
            AcceptError::Broken => Accepted::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::Echo;
    use crate::net::simulated::{Installed, kernel::Kernel};

    fn listener() -> Listener {
        let socket = net::listen(([127, 0, 0, 1], 2000).into()).unwrap();
        Listener::new(
            Socket::Tcp(socket),
            "127.0.0.1:2000".to_owned(),
            Box::new(|_| Box::new(Echo::new())),
        )
    }

    #[test]
    fn an_episode_lasts_until_there_has_been_room_for_a_while() {
        // It rests, has room, and rests again before the time is up: one episode with two rests. Then its time is counted from
        // the moment at which nobody waited any more, and not from later ones.
        let _kernel = Installed::new(Kernel::new(1));
        let mut turn = Turn::new(crate::limits::Limits::default());
        let at = |ms| Time::at(std::time::Duration::from_millis(ms));
        let mut listener = listener();
        assert_eq!(listener.deadline(turn.now), Time::NEVER);
        listener.rest("no room", at(0), &mut turn.stats);
        assert!(listener.is_resting());
        assert_eq!(listener.deadline(at(0)), at(ACCEPT_REST_MS));
        listener.ease(at(100));
        assert_eq!((listener.is_resting(), listener.deadline(at(100))), (false, at(100 + EASE_MS)));
        listener.rest("no room", at(900), &mut turn.stats);
        turn.now = at(100 + EASE_MS);
        assert_eq!(
            listener.expire(&turn),
            Outcome::Unfinished,
            "it looks again whether there is room"
        );
        assert_eq!(turn.stats.accept_rests, 2);

        listener.ease(at(2000));
        listener.ease(at(2500));
        turn.now = at(2000 + EASE_MS - 1);
        assert_eq!(listener.expire(&turn), Outcome::Blocked);
        assert!(
            matches!(&listener.door, Door::Crowded(episode, _) if episode.rests == 2),
            "one millisecond early"
        );
        turn.now = at(2000 + EASE_MS);
        assert_eq!(listener.expire(&turn), Outcome::Blocked);
        assert!(matches!(listener.door, Door::Open), "it is over");
        assert_eq!(listener.deadline(turn.now), Time::NEVER);
    }
}
