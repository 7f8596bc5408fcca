//! Echo servers on tokio and quinn-udp, and HTTP on hyper: peers of the measurement.
//!
//!     bench-peers tokio-tcp | tokio-udp | quinn-udp | hyper PORT
//!
//! Each is written as its library's examples are, on one thread. None has timeouts or limits.

use std::convert::Infallible;
use std::io::{self, IoSliceMut};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// The buffer of each connection and datagram, in bytes. The largest message of the workloads fits.
const BUFFER_BYTES: usize = 64 * 1024;
const BACKLOG: u32 = 4096;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, port] = &arguments[..] else {
        return Err(io::Error::other("usage: bench-peers KIND PORT"));
    };
    let port = port.parse().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    match kind.as_str() {
        "tokio-tcp" => runtime.block_on(tokio_tcp(port)),
        "tokio-udp" => runtime.block_on(tokio_udp(port)),
        "quinn-udp" => runtime.block_on(quinn_udp(port)),
        "hyper" => runtime.block_on(hyper(port)),
        _ => Err(io::Error::other(format!("{kind} is not one of the kinds"))),
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(BACKLOG)
}

async fn tokio_tcp(port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

/// Sends back what the peer sends, until it has sent all.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn tokio_udp(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", port)).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (count, peer) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..count], peer).await?;
    }
}

/// Receives and sends in batches, as far as the system has recvmmsg, GRO and GSO.
async fn quinn_udp(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", port)).await?;
    let state = UdpSocketState::new((&socket).into())?;
    let mut buffers = vec![vec![0; BUFFER_BYTES]; BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        socket.readable().await?;
        let received = socket.try_io(Interest::READABLE, || {
            let mut each = buffers.iter_mut();
            let mut slices: [IoSliceMut; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(each.next().expect("BATCH_SIZE buffers")));
            state.recv((&socket).into(), &mut slices, &mut metas)
        });
        let count = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            received => received?,
        };
        for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
            let reply = Transmit {
                destination: meta.addr,
                ecn: None,
                contents: &buffer[..meta.len],
                segment_size: (meta.stride < meta.len).then_some(meta.stride),
                src_ip: None,
            };
            // A reply that finds no room in the socket's buffer is dropped, as on a network.
            let _ = state.try_send((&socket).into(), &reply);
        }
    }
}

async fn hyper(port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async {
            let mut http = http1::Builder::new();
            let served = http.pipeline_flush(true);
            let _ = served.serve_connection(TokioIo::new(stream), service_fn(hello)).await;
        });
    }
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"Hello, World!")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
