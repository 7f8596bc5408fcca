//! How a socket's batches cross to the kernel and back: many datagrams in a call, or one by one.

use std::io;

#[cfg(target_os = "linux")]
use super::batched::MmsgIo;
use super::portable::PlainIo;
use super::receive::Batch;
use super::replies::ReplyQueue;
use super::scratch::CallArrays;
use crate::protocol::datagram::Batching;
#[cfg(any(target_os = "linux", test))]
use crate::sys;
use crate::sys::UdpSocket;

pub(crate) enum BatchIo {
    #[cfg(target_os = "linux")]
    Mmsg(MmsgIo),
    Plain,
}

/// Returns whether a socket may be used by calls that mio does not see, as recvmmsg(2) and
/// sendmmsg(2) are. Where the poller rearms only on `WouldBlock`, mio has to see that.
#[cfg(any(target_os = "linux", test))]
pub(crate) fn may_pass_by_mio() -> bool {
    !sys::rearms_only_on_would_block()
}

impl BatchIo {
    pub(crate) fn new(socket: &UdpSocket, batching: Batching) -> BatchIo {
        let _ = socket;
        match batching {
            #[cfg(target_os = "linux")]
            Batching::Mmsg | Batching::Gso if may_pass_by_mio() => {
                BatchIo::Mmsg(MmsgIo::new(socket, batching))
            }
            Batching::Mmsg | Batching::Gso | Batching::Plain => BatchIo::Plain,
        }
    }

    /// Returns whether a batch takes one system call, or one for each message.
    pub(crate) fn is_batched(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            BatchIo::Mmsg(_) => true,
            BatchIo::Plain => false,
        }
    }

    /// Receives a batch. Returns whether it is full, so that there may be more.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        batch: &mut Batch,
        arrays: &mut CallArrays,
    ) -> io::Result<bool> {
        let _ = &arrays; // single receives need none
        match self {
            #[cfg(target_os = "linux")]
            BatchIo::Mmsg(_) => MmsgIo::receive(socket, batch, arrays),
            BatchIo::Plain => PlainIo::receive(socket, batch),
        }
    }

    /// Sends what waits in `replies`. Returns how many GSO batches the kernel took, at least one;
    /// otherwise the error of the first one.
    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        match self {
            #[cfg(target_os = "linux")]
            BatchIo::Mmsg(io) => io.send(socket, batch, replies, arrays),
            BatchIo::Plain => PlainIo::send(socket, batch, replies, arrays),
        }
    }
}
