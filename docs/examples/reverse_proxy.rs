//! An HTTP reverse proxy: each request goes to one server, over a few connections that are kept.
//!
//! ```text
//! cargo run --example reverse_proxy 127.0.0.1:8083 127.0.0.1:8000
//!
//!     client ──► Http ──► Proxy ──► an exchange: request and promise ──► Upstream ──► server
//!            ◄── Http ◄──────────── the promise is fulfilled ◄────────── Upstream ◄──
//! ```
//!
//! Both messages are written anew ([`Request::forwarded_head`], [`ServerResponse`]), so the two
//! sides cannot see different ones. The client is answered when the whole response is there. So one
//! that breaks off becomes an error: 502. If the server takes too long, it is 504, and 503 if all
//! connections that there may be are busy.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, Write};
use std::mem::take;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, CloseReason, ConnectionId, Context, Http, HttpContext as Cx, Limits, Method, Next,
    Notification, Promise, Protocol, Reactor, Request, Responder, Response, ServerResponse, Status,
    Upload,
};

/// Connections to the server. A request that finds all of them busy gets 503.
const CONNECTIONS_MAX: usize = 32;
/// The longest that the server may take for a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is checked whether the client still waits.
const CHECK_PERIOD: Duration = Duration::from_millis(500);
/// A request that the kernel takes at once. A longer one may be answered before it is read to its
/// end, and then its connection ends.
const KEPT_BYTES_MAX: usize = 8 * 1024;
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The server, and the connections to it that all clients share.
struct Pool {
    server: SocketAddr,
    timeout: Duration,
    connections: Cell<usize>,
    idle: RefCell<Vec<ConnectionId>>,
    /// What idle connections were asked that had ended. The responders send it again.
    returned: RefCell<HashMap<ConnectionId, Exchange>>,
}

/// The responder of one client.
struct Proxy(Rc<Pool>);

impl Proxy {
    fn exchange(&self, asked: &Request<'_>, cx: &Cx<'_, '_>) -> Option<Box<Exchange>> {
        let (pool, request) = (Rc::clone(&self.0), asked.forwarded_head(cx.peer())?);
        let (method, promise, reused) = (asked.method(), None, None);
        Some(Box::new(Exchange { pool, method, request, promise, reused }))
    }
}

impl Responder for Proxy {
    fn respond(&mut self, request: &Request<'_>, cx: &mut Cx<'_, '_>) -> Response<'_> {
        let refusal = Response::error(Status::NOT_IMPLEMENTED); // it is no proxy for browsers
        self.exchange(request, cx).map_or(refusal, |exchange| exchange.respond(cx))
    }

    fn receive(&mut self, request: &Request<'_>, cx: &mut Cx<'_, '_>) -> Option<Box<dyn Upload>> {
        Some(self.exchange(request, cx)?)
    }

    /// A connection has ended, perhaps just before it was asked: asks again, once (RFC 9110 9.2.2).
    fn notified(
        &mut self,
        about: ConnectionId,
        _: Notification,
        cx: &mut Cx<'_, '_>,
    ) -> Option<Response<'_>> {
        let exchange = self.0.returned.borrow_mut().remove(&about)?;
        if self.0.connections.get() >= CONNECTIONS_MAX {
            return Some(Response::error(Status::SERVICE_UNAVAILABLE));
        }
        let id = cx.connect(self.0.server, Upstream::new(&self.0));
        cx.connections().send_message(id, exchange);
        None
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
    /// The connection that is asked, until it answers, if it was used before.
    reused: Option<ConnectionId>,
}

impl Upload for Exchange {
    fn take(&mut self, piece: &[u8]) {
        self.request.extend_from_slice(piece);
    }

    /// Gives the request to an idle connection, or to a new one.
    fn respond(mut self: Box<Self>, cx: &mut Cx<'_, '_>) -> Response<'static> {
        let pool = Rc::clone(&self.pool);
        let idle = pool.idle.borrow_mut().pop();
        if idle.is_none() && pool.connections.get() >= CONNECTIONS_MAX {
            return Response::error(Status::SERVICE_UNAVAILABLE);
        }
        let (promise, promised) = cx.promise(pool.timeout); // it becomes 504 by itself
        (self.promise, self.reused) = (Some(promise), idle);
        idle.iter().for_each(|id| cx.monitor(*id));
        // While it connects, the message waits. If it fails, the message is dropped.
        let id = idle.unwrap_or_else(|| cx.connect(pool.server, Upstream::new(&pool)));
        cx.connections().send_message(id, *self);
        promised
    }
}

/// An exchange that is dropped without a response: the connection or the server has failed.
impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(promise) = self.promise.take().filter(Promise::is_wanted) else { return };
        let Some(id) = self.reused.filter(|_| self.method.is_idempotent()) else {
            return promise.fulfill(|| Response::error(Status::BAD_GATEWAY));
        };
        let (pool, method, request) = (self.pool.clone(), self.method, take(&mut self.request));
        let again = Exchange { pool, method, request, promise: Some(promise), reused: None };
        let mut returned = self.pool.returned.borrow_mut();
        returned.retain(|_, it| it.promise.as_ref().is_some_and(Promise::is_wanted));
        returned.insert(id, again);
    }
}

/// A connection to the server.
struct Upstream {
    pool: Rc<Pool>,
    id: Option<ConnectionId>,   // its own, once it is asked something
    exchange: Option<Exchange>, // what it is asked; `None`: it is idle, or about to close
    received: Vec<u8>,          // what has come of the response
}

impl Upstream {
    fn new(pool: &Rc<Pool>) -> Upstream {
        pool.connections.update(|count| count + 1);
        Upstream { pool: pool.clone(), id: None, exchange: None, received: Vec::new() }
    }

    fn leave_idle(&self) {
        self.pool.idle.borrow_mut().retain(|id| Some(*id) != self.id);
    }

    /// Passes the response on, which is whole.
    fn finish(&mut self, persists: bool, cx: &mut Context<'_>) -> Next {
        let (received, asked) = (take(&mut self.received), self.exchange.take());
        let is_long = asked.as_ref().is_some_and(|it| it.request.len() > KEPT_BYTES_MAX);
        if let Some((method, Some(promise))) = asked.map(|mut it| (it.method, it.promise.take())) {
            promise.fulfill(move || ServerResponse::pass_on_whole(&received, method));
        }
        if !persists || is_long {
            // Of a long request, a part may still wait to be sent.
            return if is_long { Next::Abort } else { Next::CloseWithoutLinger };
        }
        cx.cancel_timer();
        cx.set_held_bytes(0);
        self.pool.idle.borrow_mut().push(cx.id());
        Next::Continue
    }
}

impl Protocol for Upstream {
    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        let own = *self.id.insert(cx.id());
        cx.set_timer(CHECK_PERIOD);
        self.exchange = message.downcast().ok().map(|exchange| *exchange);
        // Above the high watermark of `send` nothing is read, and an answer may come early.
        self.exchange.iter().for_each(|it| cx.connections().send_to(own, &it.request));
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let step = Advance::consumed(input.len());
        let Some(exchange) = &mut self.exchange else {
            self.leave_idle(); // what no request has asked for would be taken for the next response
            return step.then(Next::Abort);
        };
        exchange.reused = None;
        self.received.extend_from_slice(input);
        cx.set_held_bytes(self.received.capacity());
        match ServerResponse::parse_whole(&self.received, exchange.method, RESPONSE_BYTES_MAX) {
            Err(_) => step.then(Next::Abort), // 502
            Ok(None) => step,
            Ok(Some((head, end))) => {
                let persists = head.keeps_alive() && self.received.len() == end;
                self.received.truncate(end);
                step.then(self.finish(persists, cx))
            }
        }
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        self.leave_idle();
        let asked = self.exchange.as_ref();
        let head = asked.and_then(|it| ServerResponse::parse(&self.received, it.method).ok()?);
        match head.is_some_and(|head| head.body_bytes().is_none()) {
            true => self.finish(false, cx), // its body ends with the connection
            false => Next::CloseWithoutLinger,
        }
    }

    /// A client that has left, or has its 504, must not keep a place that others need.
    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        cx.set_timer(CHECK_PERIOD);
        let promise = self.exchange.as_ref().and_then(|it| it.promise.as_ref());
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
    let (connections, idle, returned) = Default::default();
    let pool = Rc::new(Pool { server, timeout, connections, idle, returned });
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
    reactor.run().map(drop)
}
