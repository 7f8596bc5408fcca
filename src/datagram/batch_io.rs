//! How a socket's batches cross to the kernel and back: by the calls that this system has for batches, or one by one.

use std::io;

use super::batch::Batch;
#[cfg(target_os = "linux")]
use super::linux;
use super::portable;
use super::socket::Batching;
use crate::sys::UdpSocket;

pub(crate) enum BatchIo {
    #[cfg(target_os = "linux")]
    Batched(linux::MmsgIo),
    Plain(portable::PlainIo),
}

impl BatchIo {
    pub(crate) fn new(socket: &UdpSocket, batching: Batching) -> BatchIo {
        let _ = socket;
        match batching {
            #[cfg(target_os = "linux")]
            Batching::Mmsg | Batching::Gso => {
                BatchIo::Batched(linux::MmsgIo::new(socket, batching))
            }
            #[cfg(not(target_os = "linux"))]
            Batching::Mmsg | Batching::Gso => BatchIo::Plain(portable::PlainIo::new()),
            Batching::Plain => BatchIo::Plain(portable::PlainIo::new()),
        }
    }

    #[inline]
    pub(crate) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        match self {
            #[cfg(target_os = "linux")]
            BatchIo::Batched(exchange) => exchange.receive(socket, batch),
            BatchIo::Plain(exchange) => exchange.receive(socket, batch),
        }
    }

    #[inline]
    pub(crate) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            BatchIo::Batched(exchange) => exchange.send(socket, batch),
            BatchIo::Plain(exchange) => exchange.send(socket, batch),
        }
    }
}
