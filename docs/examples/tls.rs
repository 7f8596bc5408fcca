//! HTTP over TLS, with rustls: TLS is a layer, and the protocol inside knows nothing of it.
//!
//! ```text
//! cargo run --example tls CERTIFICATE.pem KEY.pem [ADDRESS]
//! curl --cacert CERTIFICATE.pem https://localhost:8443/
//! ```
//!
//! rustls has no socket either: bytes go in, bytes come out. So the layer only passes them on, and
//! decides what a handshake that takes too long or a cut stream means.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio_reactor::{
    Advance, ContentType, Context, Encoder, Http, HttpContext, Inner, Layer, Layered, Limits, Next,
    Protocol, Reactor, Request, Responder, Response,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// A handshake takes a few round trips. A client that takes longer is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's side of TLS on one connection.
pub(crate) struct Tls {
    session: ServerConnection,
    /// The peer has announced that it sends no more (close_notify, RFC 8446 section 6.1).
    has_ended: bool,
}

impl Tls {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Tls, rustls::Error> {
        let mut session = ServerConnection::new(config)?;
        session.set_buffer_limit(None); // what is written leaves at once, into the connection
        Ok(Tls { session, has_ended: false })
    }

    /// Appends what the session has to send: records, parts of the handshake, alerts.
    fn take_records(&mut self, encoded: &mut Vec<u8>) {
        while self.session.wants_write() {
            self.session.write_tls(encoded).expect("a vector takes every byte");
        }
    }

    fn send_records(&mut self, cx: &mut Context<'_>) {
        let mut records = Vec::new();
        self.take_records(&mut records);
        cx.send(&records);
    }

    /// Passes on what has been decrypted.
    fn pass_on<P: Protocol>(&mut self, inner: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        let mut next = Next::Continue;
        let mut text = [0; 16 * 1024]; // as much as one record has
        while matches!(next, Next::Continue | Next::Unchanged | Next::Pause) {
            next = match self.session.reader().read(&mut text) {
                Ok(0) if self.has_ended => return next,
                Ok(0) => {
                    self.has_ended = true;
                    inner.eof(self, cx)
                }
                Ok(count) => inner.receive(self, &text[..count], cx),
                Err(_) => return next, // `WouldBlock`: no more whole records
            };
        }
        next
    }
}

impl Encoder for Tls {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        self.session.writer().write_all(output).expect("the session takes every byte");
        self.take_records(encoded);
    }

    fn finish(&mut self, encoded: &mut Vec<u8>) {
        self.session.send_close_notify();
        self.take_records(encoded);
    }
}

impl Layer for Tls {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        Some(self)
    }

    fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        cx.set_timer(HANDSHAKE_TIMEOUT); // by default, its expiry closes the connection
        Next::Continue
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        let mut rest = input;
        let mut next = Next::Continue;
        while !rest.is_empty() && matches!(next, Next::Continue | Next::Unchanged | Next::Pause) {
            let is_read = self.session.read_tls(&mut rest).is_ok_and(|count| count > 0);
            if !is_read || self.session.process_new_packets().is_err() {
                self.send_records(cx); // the alert that says why
                return Advance::consumed(input.len()).then(Next::Close);
            }
            self.send_records(cx);
            if !inner.is_open() && !self.session.is_handshaking() {
                cx.cancel_timer();
                next = inner.open(self, cx);
            }
            if matches!(next, Next::Continue | Next::Unchanged | Next::Pause) {
                let passed = self.pass_on(inner, cx);
                next = if passed == Next::Continue { next } else { passed };
            }
        }
        Advance::consumed(input.len()).then(next)
    }

    /// A stream that ends without close_notify may have been cut on its way.
    fn eof<P: Protocol>(&mut self, _: &[u8], _: &mut Inner<P>, _: &mut Context<'_>) -> Next {
        if self.has_ended { Next::Unchanged } else { Next::Abort }
    }
}

struct Hello;

impl Responder for Hello {
    fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        let path = request.path().escape_ascii();
        Response::ok(ContentType::TEXT, format!("Hello over TLS: {path}\n").into_bytes())
    }
}

/// Serves HTTP over TLS on `address`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    config: Arc<ServerConfig>,
) -> io::Result<SocketAddr> {
    reactor.listen(address, move |_peer| {
        let tls = Tls::new(config.clone()).expect("the configuration is complete");
        Layered::new(tls, Http::new(Hello))
    })
}

/// Makes a configuration from a certificate chain and its key, both as PEM.
pub(crate) fn configure(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, io::Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.map_err(io::Error::other)?, key)
        .map(Arc::new)
        .map_err(io::Error::other)
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(certificates), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: tls CERTIFICATE.pem KEY.pem [ADDRESS]"));
    };
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8443".to_string());
    let address = address.parse().map_err(io::Error::other)?;
    let config = configure(&std::fs::read(certificates)?, &std::fs::read(key)?)?;
    let mut reactor = Reactor::new(Limits::default())?;
    writeln!(io::stdout(), "https {}", listen(&mut reactor, address, config)?)?;
    reactor.run()?;
    Ok(())
}
