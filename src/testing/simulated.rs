//! The names that the loop knows from mio, over a simulated kernel.
//!
//! A kernel is installed on a thread for as long as a test needs it. Each of the types below is a descriptor's number and the
//! kernel that it belongs to; what the calls mean is the kernel's affair (`kernel`, `stream`). Where no kernel is installed,
//! the clocks are the real ones and a datagram socket is the system's, so that the tests which want real datagrams have them.

#![allow(
    unreachable_pub,
    reason = "the trait stands in for a public one of mio's, in a public signature"
)]

pub(crate) mod batch_io;
pub(crate) mod errno;
pub(crate) mod kernel;
pub(crate) mod stream;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use mio::{Interest, Token};

use crate::sys::mio as system;
use kernel::Kernel;
use stream::{ERROR, HANG_UP, IN, OUT, PEER_HAS_FINISHED, PRIORITY};

thread_local! {
    static INSTALLED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

type Shared = Rc<RefCell<Kernel>>;

/// A kernel that this thread's reactor runs on, until it is dropped.
pub(crate) struct Installed(pub(crate) Shared);

impl Installed {
    pub(crate) fn new(kernel: Kernel) -> Installed {
        let kernel = Rc::new(RefCell::new(kernel));
        INSTALLED.set(Some(kernel.clone()));
        Installed(kernel)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        INSTALLED.set(None);
    }
}

fn installed() -> Option<Shared> {
    INSTALLED.with_borrow(Clone::clone)
}

fn kernel() -> Shared {
    installed().expect("a test that makes a reactor has installed a kernel for it")
}

// ---- clocks

pub(crate) fn now() -> Instant {
    installed().map_or_else(system::now, |kernel| kernel.borrow().now())
}

pub(crate) fn wall_clock() -> SystemTime {
    installed().map_or_else(system::wall_clock, |kernel| kernel.borrow().wall_clock())
}

// ---- a descriptor

/// Closes itself, as those of the standard library do.
struct Descriptor {
    kernel: Shared,
    number: usize,
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

impl Descriptor {
    fn open(open: impl FnOnce(&mut Kernel) -> io::Result<usize>) -> io::Result<Descriptor> {
        let kernel = kernel();
        let number = open(&mut kernel.borrow_mut())?;
        Ok(Descriptor { kernel, number })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // After a panic in the kernel, nobody asks any more whether all was closed.
        if !std::thread::panicking() {
            self.kernel.borrow_mut().close(self.number);
        }
    }
}

/// What can be registered.
pub trait Source {
    /// Its number in the simulated kernel.
    fn number(&self) -> usize;
}

// ---- the poll

pub(crate) struct Poll(Registry);

pub(crate) struct Registry(Descriptor);

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll(Registry(Descriptor::open(Kernel::open_poll)?)))
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0
    }

    pub(crate) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        events.told = self.0.0.kernel.borrow_mut().poll(events.capacity, timeout)?;
        Ok(())
    }
}

impl Registry {
    pub(crate) fn register<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.kernel.borrow_mut().watch(source.number(), token, interest, false)
    }

    pub(crate) fn reregister<S: Source + ?Sized>(
        &self,
        source: &mut S,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.0.kernel.borrow_mut().watch(source.number(), token, interest, true)
    }
}

pub(crate) struct Events {
    told: Vec<Event>,
    capacity: usize,
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Events {
        Events { told: Vec::new(), capacity }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.told.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.told.clear();
    }
}

impl<'e> IntoIterator for &'e Events {
    type Item = &'e Event;
    type IntoIter = std::slice::Iter<'e, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One event. What mio makes of epoll's bits is made of them here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) bits: u32,
}

impl Event {
    fn has(&self, bits: u32) -> bool {
        self.bits & bits == bits
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.has(IN) || self.has(PRIORITY)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.has(OUT)
    }

    pub(crate) fn is_error(&self) -> bool {
        self.has(ERROR)
    }

    pub(crate) fn is_read_closed(&self) -> bool {
        self.has(HANG_UP) || self.has(IN | PEER_HAS_FINISHED)
    }

    pub(crate) fn is_write_closed(&self) -> bool {
        self.has(HANG_UP) || self.has(OUT | ERROR) || self.bits == ERROR
    }
}

pub(crate) fn read_interest() -> Interest {
    Interest::READABLE | Interest::PRIORITY
}

pub(crate) fn is_priority(event: &Event) -> bool {
    event.has(PRIORITY)
}

// ---- streams

pub(crate) struct TcpListener(Descriptor);

pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    Ok(TcpListener(Descriptor::open(|kernel| kernel.listen(address))?))
}

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    Ok(TcpStream(Descriptor::open(|kernel| kernel.call_out(address))?))
}

pub(crate) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    stream.0.kernel.borrow_mut().is_connected(stream.0.number)
}

impl TcpListener {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.kernel.borrow().address_of(self.0.number))
    }

    pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (number, peer) = self.0.kernel.borrow_mut().accept(self.0.number)?;
        Ok((TcpStream(Descriptor { kernel: self.0.kernel.clone(), number }), peer))
    }
}

impl Source for TcpListener {
    fn number(&self) -> usize {
        self.0.number
    }
}

/// There are none in the simulated kernel; what is particular about them is tested over a scripted wire and in `tests/unix.rs`.
#[cfg(unix)]
pub(crate) enum UnixListener {}

#[cfg(unix)]
impl UnixListener {
    pub(crate) fn bind(_path: &std::path::Path) -> io::Result<UnixListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn accept(&self) -> io::Result<TcpStream> {
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
pub(crate) struct TcpStream(Descriptor);

impl TcpStream {
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        assert_eq!(how, Shutdown::Write, "the loop never stops reading by a call");
        self.0.kernel.borrow_mut().finish(self.0.number)
    }
}

impl Read for TcpStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.kernel.borrow_mut().receive(self.0.number, into)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.kernel.borrow_mut().send(self.0.number, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for TcpStream {
    fn number(&self) -> usize {
        self.0.number
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the real one may fail")]
pub(crate) fn set_nodelay(_stream: &TcpStream) -> io::Result<()> {
    Ok(())
}

pub(crate) fn reset_on_close(stream: &TcpStream) {
    stream.0.kernel.borrow_mut().reset_on_close(stream.0.number);
}

// ---- datagrams

/// A simulated socket, or one of the system's where no kernel is installed.
pub(crate) enum UdpSocket {
    Simulated(DatagramSocket),
    System(system::UdpSocket),
}

pub(crate) struct DatagramSocket(Descriptor);

pub(crate) fn bind_datagram(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    match installed() {
        Some(_) => {
            let descriptor = Descriptor::open(|kernel| kernel.bind_datagram(address))?;
            Ok(UdpSocket::Simulated(DatagramSocket(descriptor)))
        }
        None => system::bind_datagram(address, buffer_bytes).map(UdpSocket::System),
    }
}

pub(crate) fn connect_datagram(peer: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    match installed() {
        Some(_) => {
            let descriptor = Descriptor::open(|kernel| kernel.connect_datagram(peer))?;
            Ok(UdpSocket::Simulated(DatagramSocket(descriptor)))
        }
        None => system::connect_datagram(peer, buffer_bytes).map(UdpSocket::System),
    }
}

/// The simulated machine has one address.
pub(crate) fn is_own_address(peer: SocketAddr) -> io::Result<bool> {
    match installed() {
        Some(_) => Ok(peer.ip().is_loopback()),
        None => system::is_own_address(peer),
    }
}

impl UdpSocket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            UdpSocket::Simulated(socket) => {
                Ok(socket.0.kernel.borrow().address_of(socket.0.number))
            }
            UdpSocket::System(socket) => socket.local_addr(),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            UdpSocket::Simulated(socket) => {
                Ok(socket.0.kernel.borrow_mut().peer_of_datagrams(socket.0.number))
            }
            UdpSocket::System(socket) => socket.peer_addr(),
        }
    }

    pub(crate) fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            UdpSocket::Simulated(socket) => {
                let (payload, peer) =
                    socket.0.kernel.borrow_mut().receive_datagram(socket.0.number)?;
                into[..payload.len()].copy_from_slice(&payload);
                Ok((payload.len(), peer))
            }
            UdpSocket::System(socket) => socket.recv_from(into),
        }
    }

    pub(crate) fn send(&self, payload: &[u8]) -> io::Result<usize> {
        match self {
            UdpSocket::Simulated(socket) => {
                let peer = socket.0.kernel.borrow_mut().peer_of_datagrams(socket.0.number);
                socket.send_train(&[payload], peer).map(|()| payload.len())
            }
            UdpSocket::System(socket) => socket.send(payload),
        }
    }

    pub(crate) fn send_to(&self, payload: &[u8], peer: SocketAddr) -> io::Result<usize> {
        match self {
            UdpSocket::Simulated(socket) => {
                socket.send_train(&[payload], peer).map(|()| payload.len())
            }
            UdpSocket::System(socket) => socket.send_to(payload, peer),
        }
    }
}

impl DatagramSocket {
    pub(crate) fn receive_many(&self, count_max: usize) -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
        self.0.kernel.borrow_mut().receive_datagrams(self.0.number, count_max)
    }

    pub(crate) fn send_train(&self, datagrams: &[&[u8]], peer: SocketAddr) -> io::Result<()> {
        self.0.kernel.borrow_mut().send_train(self.0.number, datagrams, peer)
    }

    /// Every other socket batches.
    pub(crate) fn batches(&self) -> bool {
        self.0.kernel.borrow_mut().rng.bool()
    }
}

impl Source for UdpSocket {
    fn number(&self) -> usize {
        match self {
            UdpSocket::Simulated(socket) => socket.0.number,
            UdpSocket::System(_) => panic!("a socket of the system's is on no simulated poll"),
        }
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            UdpSocket::Simulated(_) => panic!("the system knows nothing of a simulated socket"),
            UdpSocket::System(socket) => socket.as_raw_fd(),
        }
    }
}

// ---- the waker

/// What wakes the poll from elsewhere; here, from the same thread.
pub(crate) struct Waker(Descriptor);

impl Waker {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        let waker = Waker(Descriptor::open(Kernel::open_waker)?);
        registry.0.kernel.borrow_mut().watch(waker.0.number, token, Interest::READABLE, false)?;
        Ok(waker)
    }

    #[expect(clippy::unnecessary_wraps, reason = "the real one may fail")]
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.0.kernel.borrow_mut().wake(self.0.number);
        Ok(())
    }
}

// ---- the bell

/// What a test rings to stop the reactor.
pub(crate) struct Bell(Descriptor);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell(Descriptor::open(Kernel::open_bell)?))
    }
}

impl Source for Bell {
    fn number(&self) -> usize {
        self.0.number
    }
}
