//! Where a relay connects to: a list of addresses, or a name that is looked up beside the loop.
//!
//! Invariant: a look-up has one result, a message with its number. The relay compares the number,
//! so a result that comes late is not taken for that of a later look-up.

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};

use super::ident::ConnectionId;
use crate::overload_limits::DIAL_ADDRESSES_MAX;
use crate::workers::{Workers, WorkersBusyError};

/// Takes where a [`Relay`](crate::Relay) is to connect to: lent to its
/// [`Dialer`](crate::Dialer) for one call. The dial begins when the call is over, unless that
/// closes the connection.
pub struct Dial {
    id: ConnectionId,
    /// The number of the look-up, if this call begins one.
    pub(super) lookup: u32,
    pub(super) target: Target,
}

/// What the dialer has asked for.
pub(super) enum Target {
    None,
    Addresses(Vec<SocketAddr>),
    /// A name is being looked up, for as long as this is kept.
    Name(Arc<()>),
    Failed(ErrorKind),
}

/// The message to the relay that a name was looked up. Without addresses: the name has none.
pub(super) struct Found {
    pub(super) lookup: u32,
    pub(super) addresses: Vec<SocketAddr>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

impl Dial {
    pub(super) fn new(id: ConnectionId, lookup: u32) -> Dial {
        Dial { id, lookup, target: Target::None }
    }

    /// Connects to the first of `addresses` that can be connected to. The first eight are tried.
    pub fn to(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.target = Target::Addresses(addresses.into_iter().take(DIAL_ADDRESSES_MAX).collect());
    }

    /// Lets a worker thread look up `name`, and connects to the first of its addresses that can be
    /// connected to, at `port`. The order is that of the system (getaddrinfo(3), RFC 6724). An
    /// address that is written as a name is one.
    pub fn to_name(&mut self, workers: &Workers, name: impl Into<String>, port: u16) {
        let (name, lookup) = (name.into(), self.lookup);
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let job = move || Found { lookup, addresses: look_up(&name, port, &is_wanted) };
        self.target = match workers.submit_for(self.id, job) {
            Ok(()) => Target::Name(wanted),
            Err(WorkersBusyError) => Target::Failed(ErrorKind::ResourceBusy),
        };
    }
}

/// Returns the addresses of a name. None, if it has none, or if the client has left or its deadline
/// has passed before the look-up begins: a crowd of such clients must not keep others waiting.
fn look_up(name: &str, port: u16, is_wanted: &Weak<()>) -> Vec<SocketAddr> {
    if is_wanted.strong_count() == 0 {
        return Vec::new();
    }
    // An error is one of the name, mostly: it has no address.
    match (name, port).to_socket_addrs() {
        Ok(addresses) => addresses.take(DIAL_ADDRESSES_MAX).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // pitfall: 218
    #[test]
    fn name_is_looked_up_only_while_its_client_waits() {
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        assert_eq!(look_up("127.0.0.1", 80, &is_wanted), [SocketAddr::from(([127, 0, 0, 1], 80))]);
        drop(wanted);
        assert_eq!(look_up("127.0.0.1", 80, &is_wanted), []);
    }
}
