//! The server that is tried, as a row sees it: where it is, what it serves, and one client's visit.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::echo::{self, EchoReader};
use super::http;
use super::link::{Buffers, Event, Link};
use super::row::Fault;
use crate::blast::Server;

/// What the server serves.
#[derive(Clone, Debug)]
pub(super) enum Service {
    Echo {
        /// What it puts before each reply.
        prefix: Vec<u8>,
    },
    Http(http::Resource),
}

/// A server, for the time of one row.
pub(super) struct Subject<'a> {
    pub(super) server: &'a Server,
    pub(super) service: &'a Service,
    /// When the row must be over.
    pub(super) deadline: Instant,
    /// How many times longer than usual it waits.
    pub(super) time_factor: u32,
}

impl<'a> Subject<'a> {
    /// Connects to the server.
    pub(super) fn connect(&self) -> Result<Link, Fault> {
        self.connect_with(Buffers::Usual)
    }

    pub(super) fn connect_with(&self, buffers: Buffers) -> Result<Link, Fault> {
        Link::connect_with(self.server, buffers, self.deadline)
            .map_err(|error| Fault::of_call("a connection", &error))
    }

    /// Returns the server's address over IP, or skips the row.
    pub(super) fn net_address(&self) -> Result<SocketAddr, Fault> {
        match self.server {
            Server::Net(address) => Ok(*address),
            Server::Unix(_) => {
                Err(Fault::Skipped("a Unix socket has no port and no urgent byte".to_string()))
            }
        }
    }

    /// Returns what the server puts before each reply of an echo.
    pub(super) fn prefix(&self) -> &'a [u8] {
        match self.service {
            Service::Echo { prefix } => prefix,
            Service::Http(_) => b"",
        }
    }

    /// Checks that another client is served, from its connect to the server's FIN.
    pub(super) fn check_served(&self, when: &str) -> Result<(), Fault> {
        let mut link = self.connect().map_err(|fault| also(fault, when))?;
        self.visit(&mut link, when)
    }

    /// Sends one message or request on `link` as the last one, and checks the answer and the FIN
    /// behind it.
    pub(super) fn visit(&self, link: &mut Link, when: &str) -> Result<(), Fault> {
        match self.service {
            Service::Echo { .. } => {
                let message = self.payload(1, echo::MESSAGE_BYTES);
                self.send(link, &message, when)?;
                self.half_close(link, when)?;
                self.expect_echo(link, &message, when)?;
                self.expect_fin(link, when)
            }
            Service::Http(resource) => http::visit(resource, link, when),
        }
    }

    /// Returns `count` bytes for an echo: the prefix cannot begin in them.
    pub(super) fn payload(&self, seed: u64, count: usize) -> Vec<u8> {
        echo::payload(seed, count, self.prefix())
    }

    /// Sends bytes that the server must take. `when` says what the client has done before.
    pub(super) fn send(&self, link: &mut Link, bytes: &[u8], when: &str) -> Result<(), Fault> {
        let expected = || format!("{} bytes are taken {when}", bytes.len());
        link.send(bytes).map_err(|error| Fault::of_call(&expected(), &error))
    }

    /// Sends our FIN.
    pub(super) fn half_close(&self, link: &Link, when: &str) -> Result<(), Fault> {
        let expected = || format!("the connection is open {when}");
        link.finish().map_err(|error| Fault::of_call(&expected(), &error))
    }

    /// Checks that all of `sent` comes back.
    pub(super) fn expect_echo(
        &self,
        link: &mut Link,
        sent: &[u8],
        when: &str,
    ) -> Result<(), Fault> {
        EchoReader::new(sent, sent.len(), self.prefix()).read_all(link, when)
    }

    /// Checks that the server's FIN is all that comes.
    pub(super) fn expect_fin(&self, link: &mut Link, when: &str) -> Result<(), Fault> {
        let mut more = [0; 64];
        match link.receive(&mut more) {
            Event::Fin => Ok(()),
            Event::Bytes(count) => Err(Fault::failed(
                format!("nothing but the server's FIN {when}"),
                super::row::quote(&more[..count]),
            )),
            event @ (Event::Reset | Event::Silence | Event::Error(_)) => {
                Err(Fault::failed(format!("the server's FIN {when}"), event.to_string()))
            }
        }
    }
}

/// Adds to a fault when it has shown.
fn also(fault: Fault, when: &str) -> Fault {
    match fault {
        Fault::Failed { expected, came } => Fault::failed(format!("{expected} {when}"), came),
        skipped @ Fault::Skipped(_) => skipped,
    }
}

/// Returns a failed call as a fault of the server, if it is one.
pub(super) fn in_call<T>(result: io::Result<T>, expected: &str) -> Result<T, Fault> {
    result.map_err(|error| Fault::of_call(expected, &error))
}
