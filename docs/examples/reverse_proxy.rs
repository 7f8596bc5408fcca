//! An HTTP reverse proxy: each request goes to one server, over a few connections that are kept.
//!
//! ```text
//! cargo run --example reverse_proxy 127.0.0.1:8083 127.0.0.1:8000
//! python3 -m http.server 8000            is a server for it
//!
//!     client ──► Http ──► Proxy ──► an exchange: request and promise ──► Upstream ──► server
//!            ◄── Http ◄──────────── the promise is fulfilled ◄────────── Upstream ◄──
//! ```
//!
//! Both messages are written anew ([`Request::forwarded_head`], [`ServerResponse`]), so the two
//! sides cannot see different ones. The client is answered when the whole response is there. So one
//! that breaks off becomes an error, and no page that ends too early.
//!
//! | The server | The client gets |
//! | --- | --- |
//! | cannot be reached, breaks off, or sends what is no HTTP | 502 |
//! | takes too long | 504 |
//! | is asked over all connections that there may be | 503 |

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, CloseReason, ConnectionId, Context, Http, HttpContext, Limits, Method, Next, Promise,
    Protocol, Reactor, Request, Responder, Response, ServerResponse, Status, Upload,
};

/// Connections to the server. A request that finds all of them busy gets 503.
const CONNECTIONS_MAX: usize = 32;
/// The longest that the server may take for a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// So often an exchange is checked whether its client still waits.
const CHECK_PERIOD: Duration = Duration::from_millis(500);
/// The longest response, in bytes. For requests, `Http` has bounds.
const RESPONSE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The server, and the connections to it that all clients share.
struct Pool {
    server: SocketAddr,
    timeout: Duration,
    connections: Cell<usize>,
    idle: RefCell<Vec<ConnectionId>>,
}

/// The responder of one client.
struct Proxy(Rc<Pool>);

impl Proxy {
    fn exchange(&self, request: &Request<'_>, cx: &HttpContext<'_, '_>) -> Box<Exchange> {
        let (pool, bytes) = (Rc::clone(&self.0), request.forwarded_head(cx.peer()));
        Box::new(Exchange { pool, method: request.method(), request: bytes, promise: None })
    }
}

impl Responder for Proxy {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        self.exchange(request, cx).respond(cx)
    }

    fn receive(
        &mut self,
        request: &Request<'_>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Box<dyn Upload>> {
        Some(self.exchange(request, cx))
    }
}

/// A request to the server, and the promise of its response to the client.
struct Exchange {
    pool: Rc<Pool>,
    method: Method,
    /// The request as the server gets it. Its body may still come.
    request: Vec<u8>,
    /// Made when the request is whole.
    promise: Option<Promise>,
}

impl Upload for Exchange {
    fn take(&mut self, piece: &[u8]) {
        self.request.extend_from_slice(piece);
    }

    /// Gives the request to an idle connection, or to a new one.
    fn respond(mut self: Box<Self>, cx: &mut HttpContext<'_, '_>) -> Response<'static> {
        if self.method == Method::Connect {
            return Response::error(Status::NOT_IMPLEMENTED); // it is no proxy for browsers
        }
        let pool = Rc::clone(&self.pool);
        let idle = pool.idle.borrow_mut().pop();
        if idle.is_none() && pool.connections.get() >= CONNECTIONS_MAX {
            return Response::error(Status::SERVICE_UNAVAILABLE);
        }
        let (promise, promised) = cx.promise(pool.timeout); // it becomes 504 by itself
        self.promise = Some(promise);
        // While it connects, the message waits. If it fails, the message is dropped.
        let id = idle.unwrap_or_else(|| cx.connect(pool.server, Upstream::new(&pool)));
        cx.connections().send_message(id, *self);
        promised
    }
}

/// An exchange that is dropped without a response: the server has failed.
impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(promise) = self.promise.take() {
            promise.fulfill(|| Response::error(Status::BAD_GATEWAY));
        }
    }
}

/// A connection to the server.
struct Upstream {
    pool: Rc<Pool>,
    /// Its own id, once it is asked something.
    id: Option<ConnectionId>,
    /// What it is asked. `None`: it is idle, or about to close.
    exchange: Option<Exchange>,
    /// What has come of the response.
    received: Vec<u8>,
    /// It has answered a request before.
    is_reused: bool,
}

impl Upstream {
    fn new(pool: &Rc<Pool>) -> Upstream {
        pool.connections.update(|count| count + 1);
        let (pool, received) = (Rc::clone(pool), Vec::new());
        Upstream { pool, id: None, exchange: None, received, is_reused: false }
    }

    fn leave_idle(&self) {
        self.pool.idle.borrow_mut().retain(|id| Some(*id) != self.id);
    }

    /// Passes the response on, which is whole.
    fn finish(&mut self, persists: bool, cx: &mut Context<'_>) -> Next {
        let received = std::mem::take(&mut self.received);
        let exchange = self.exchange.take().map(|mut it| (it.method, it.promise.take()));
        if let Some((method, Some(promise))) = exchange {
            promise.fulfill(move || pass_on(&received, method));
        }
        if !persists {
            return Next::CloseWithoutLinger;
        }
        cx.cancel_timer();
        cx.set_held_bytes(0);
        self.is_reused = true;
        self.pool.idle.borrow_mut().push(cx.id());
        Next::Continue
    }
}

fn pass_on(received: &[u8], method: Method) -> Response<'static> {
    let response = ServerResponse::parse(received, method).ok().flatten();
    let response = response.and_then(|head| head.pass_on(received[head.length()..].to_vec()).ok());
    response.unwrap_or_else(|| Response::error(Status::BAD_GATEWAY)) // a field is invalid
}

impl Protocol for Upstream {
    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        self.id = Some(cx.id());
        cx.set_timer(CHECK_PERIOD);
        self.exchange = message.downcast::<Exchange>().ok().map(|exchange| *exchange);
        self.exchange.iter().for_each(|exchange| cx.send(&exchange.request));
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let step = Advance::consumed(input.len());
        let Some(exchange) = &self.exchange else {
            self.leave_idle(); // what no request has asked for would be taken for the next response
            return step.then(Next::Abort);
        };
        self.received.extend_from_slice(input);
        cx.set_held_bytes(self.received.len());
        let Ok(head) = ServerResponse::parse(&self.received, exchange.method) else {
            return step.then(Next::Abort); // 502
        };
        let Some(head) = head else { return step };
        let count = self.received.len() as u64;
        let end = head.body_bytes().map(|body| body.saturating_add(head.length() as u64));
        if count.max(end.unwrap_or(0)) > RESPONSE_BYTES_MAX {
            return step.then(Next::Abort);
        }
        let Some(end) = end.filter(|end| count >= *end) else { return step };
        let persists = head.keeps_alive() && count == end;
        self.received.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        step.then(self.finish(persists, cx))
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        self.leave_idle();
        let method = self.exchange.as_ref().map(|exchange| exchange.method);
        let head = method.and_then(|method| ServerResponse::parse(&self.received, method).ok()?);
        if head.is_some_and(|head| head.body_bytes().is_none()) {
            return self.finish(false, cx); // its body ends with the connection
        }
        // It closed while the request came. A safe one is sent again (RFC 9112 section 9.3.1).
        let is_stale = self.is_reused && self.received.is_empty();
        if let Some(exchange) = self.exchange.take_if(|it| is_stale && it.method.is_safe()) {
            let id = cx.connect(self.pool.server, Upstream::new(&self.pool));
            cx.connections().send_message(id, exchange);
        }
        Next::CloseWithoutLinger
    }

    /// A client that has left, or has its 504, must not keep a place that others need.
    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        let promise = self.exchange.as_ref().and_then(|exchange| exchange.promise.as_ref());
        cx.set_timer(CHECK_PERIOD);
        if promise.is_some_and(Promise::is_wanted) { Next::Unchanged } else { Next::Abort }
    }

    fn closed(&mut self, _: CloseReason) {
        self.leave_idle();
        self.pool.connections.update(|count| count - 1);
    }
}

/// Serves on `address` what `server` serves. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    server: SocketAddr,
    timeout: Duration,
) -> io::Result<SocketAddr> {
    let (connections, idle) = (Cell::default(), RefCell::default());
    let pool = Rc::new(Pool { server, timeout, connections, idle });
    reactor.listen(address, move |_peer| Http::new(Proxy(Rc::clone(&pool))))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let addresses: Vec<_> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let [Ok(address), Ok(server)] = addresses[..] else {
        return Err(io::Error::other("usage: reverse_proxy LISTEN SERVER, each an IP:PORT"));
    };
    let mut reactor = Reactor::new(Limits::default())?;
    let address = listen(&mut reactor, address, server, TIMEOUT)?;
    writeln!(io::stdout(), "http {address} -> {server}")?;
    reactor.run()?;
    Ok(())
}
