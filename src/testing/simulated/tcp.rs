//! TCP sockets: mio's names, over the simulated kernel.
//!
//! Each call is passed on to the kernel under the same name (`kernel/calls.rs`).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

use super::kernel::Kernel;
use super::{OwnedDescriptor, Source};
use crate::stream::listen_options::ListenOptions;
use crate::sys::AcceptedOptions;
use crate::sys::PeerState;

pub(crate) struct TcpListener(OwnedDescriptor);

pub(crate) fn listen(address: SocketAddr, _options: &ListenOptions) -> io::Result<TcpListener> {
    Ok(TcpListener(OwnedDescriptor::open(|kernel| kernel.listen(address))?))
}

pub(crate) fn defer_accept(listener: &TcpListener, is_deferred: bool) -> bool {
    listener.0.kernel.borrow_mut().defer_accept(listener.0.number, is_deferred);
    true
}

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    Ok(TcpStream(OwnedDescriptor::open(|kernel| kernel.connect_out(address))?))
}

pub(crate) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    stream.0.kernel.borrow_mut().is_connected(stream.0.number)
}

pub(crate) fn peer_state(stream: &TcpStream) -> io::Result<PeerState> {
    stream.0.kernel.borrow_mut().peer_state(stream.0.number)
}

/// The simulated kernel refuses no call.
pub(crate) fn accept(
    listener: &TcpListener,
    _accept4_refused: &mut bool,
) -> io::Result<(TcpStream, SocketAddr)> {
    listener.accept()
}

impl TcpListener {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.kernel.borrow().address_of(self.0.number))
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (number, peer) = self.0.call(Kernel::accept)?;
        Ok((TcpStream(OwnedDescriptor { kernel: self.0.kernel.clone(), number }), peer))
    }
}

impl Source for TcpListener {
    fn number(&self) -> usize {
        self.0.number
    }
}

/// The simulated kernel has no sockets of the standard library. Taking them over is tested in
/// `tests/reactor/openings.rs`.
pub(crate) fn adopt_listener(_socket: std::net::TcpListener) -> io::Result<TcpListener> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn adopt_stream(_stream: std::net::TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
pub(crate) fn adopt_unix_stream(_: std::os::unix::net::UnixStream) -> io::Result<TcpStream> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The simulated kernel has no Unix sockets. What is particular about them is tested over a
/// scripted transport and in `tests/unix.rs`.
#[cfg(unix)]
pub(crate) enum UnixListener {}

#[cfg(unix)]
impl UnixListener {
    pub(crate) fn bind(
        _path: &std::path::Path,
        _options: &ListenOptions,
    ) -> io::Result<UnixListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn adopt(_socket: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn accept(&self, _accept4_refused: &mut bool) -> io::Result<TcpStream> {
        match *self {}
    }
}

#[cfg(unix)]
impl Source for UnixListener {
    fn number(&self) -> usize {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) struct TcpStream(OwnedDescriptor);

impl TcpStream {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.kernel.borrow().address_of(self.0.number))
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        assert_eq!(how, Shutdown::Write, "the loop shuts down only its writing side");
        self.0.kernel.borrow_mut().shutdown_write(self.0.number)
    }
}

impl Read for &TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.call(|kernel, number| kernel.receive(number, into))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.call(|kernel, number| kernel.send(number, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn send_before_fin(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.0.call(|kernel, number| kernel.send_before_fin(number, bytes))
}

impl Source for TcpStream {
    fn number(&self) -> usize {
        self.0.number
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the real one may fail")]
pub(crate) fn set_accepted_options(
    _stream: &TcpStream,
    _options: AcceptedOptions,
) -> io::Result<()> {
    Ok(())
}

pub(crate) fn bound_unsent(stream: &TcpStream, is_bounded: bool) {
    stream.0.kernel.borrow_mut().bound_unsent(stream.0.number, is_bounded);
}

pub(crate) fn reset_on_close(stream: &TcpStream) {
    stream.0.kernel.borrow_mut().reset_on_close(stream.0.number);
}
