//! How a socket's batches cross to the kernel and back: by the calls that this system has for batches, or one by one.

use std::io;

use super::Batching;
use super::batch::Batch;
#[cfg(target_os = "linux")]
use super::linux;
use super::portable;
use crate::net::UdpSocket;

pub(super) enum Exchange {
    #[cfg(target_os = "linux")]
    Batched(linux::Exchange),
    Single(portable::Exchange),
}

impl Exchange {
    pub(super) fn new(socket: &UdpSocket, batching: Batching) -> Exchange {
        let _ = socket;
        match batching {
            #[cfg(target_os = "linux")]
            Batching::Batches | Batching::Trains => {
                Exchange::Batched(linux::Exchange::new(socket, batching))
            }
            #[cfg(not(target_os = "linux"))]
            Batching::Batches | Batching::Trains => Exchange::Single(portable::Exchange::new()),
            Batching::Single => Exchange::Single(portable::Exchange::new()),
        }
    }

    #[inline]
    pub(super) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        match self {
            #[cfg(target_os = "linux")]
            Exchange::Batched(exchange) => exchange.receive(socket, batch),
            Exchange::Single(exchange) => exchange.receive(socket, batch),
        }
    }

    #[inline]
    pub(super) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            Exchange::Batched(exchange) => exchange.send(socket, batch),
            Exchange::Single(exchange) => exchange.send(socket, batch),
        }
    }
}
