//! A stream whose system calls go to the trace log, if that is on.
//!
//! The check of the log level is here, once for each drive, and not beside each call. The frequent
//! drive (`Reactor::drive_batch`) makes its own check, and lends the stream as it is.

use std::io;
use std::net::SocketAddr;

use super::readiness::Transport;
use crate::loop_state::LoopState;
use crate::sys::{self, PeerState, TcpStream};
use crate::trace::{self, Line, Place, Returned};

pub(crate) struct MaybeTraced<'t> {
    stream: &'t TcpStream,
    traced: Option<Place>,
}

impl<'t> MaybeTraced<'t> {
    /// Lends the stream in `slot` for what the loop does now.
    #[inline(always)]
    pub(crate) fn new(stream: &'t TcpStream, slot: usize, state: &LoopState) -> MaybeTraced<'t> {
        MaybeTraced { stream, traced: trace::is_on().then(|| Place::new(state, slot)) }
    }

    fn write(&self, line: &Line<'_>) {
        if let Some(place) = &self.traced {
            place.write(line);
        }
    }
}

impl Transport for MaybeTraced<'_> {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let result = self.stream.receive(into);
        self.write(&Line::Receive { offered: into.len(), returned: count(&result) });
        result
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.stream.send(bytes);
        self.write(&Line::Send { offered: bytes.len(), flags: "", returned: count(&result) });
        result
    }

    fn send_before_fin(&self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.stream.send_before_fin(bytes);
        let flags = if sys::HAS_MSG_MORE { ", MSG_MORE" } else { "" };
        self.write(&Line::Send { offered: bytes.len(), flags, returned: count(&result) });
        result
    }

    fn shutdown_write(&self) -> io::Result<()> {
        let result = self.stream.shutdown_write();
        self.write(&Line::Shutdown { returned: Returned(result.as_ref().map(|()| 0)) });
        result
    }

    fn is_connected(&self) -> io::Result<bool> {
        let result = self.stream.is_connected();
        self.write(&Line::IsConnected { result: &result });
        result
    }

    fn peer_state(&self) -> io::Result<PeerState> {
        let result = self.stream.peer_state();
        self.write(&Line::CheckPeer { peer: &result });
        result
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_address()
    }
}

fn count(result: &io::Result<usize>) -> Returned<'_> {
    Returned(result.as_ref().copied())
}
