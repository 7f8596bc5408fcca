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
//! The request is written anew, and so is the response: `Http` has found where the client's request
//! ends, and writes where the response ends. Fields that are about one connection (hop-by-hop, RFC
//! 9110 section 7.6.1) are not passed on. The client is answered when the whole response is there,
//! so one that breaks off becomes an error and no page that ends too early.
//!
//! | The server | The client gets |
//! | --- | --- |
//! | cannot be reached, breaks off, or sends what is no HTTP | 502 |
//! | takes too long | 504 |
//! | is asked over all connections that there may be | 503 |

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, CloseReason, ConnectionId, ContentType, Context, Http, HttpContext, Limits, Method,
    Next, Promise, Protocol, Reactor, Request, Responder, Response, Status, Upload,
};

/// Connections to the server. A request that finds all of them busy gets 503.
const CONNECTIONS_MAX: usize = 32;
/// The longest that the server may take for a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head and body of a response. For requests, `Http` has bounds.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Fields about one connection (hop-by-hop), and those that each side writes itself.
const NOT_PASSED_ON: &str = "connection content-length date expect host keep-alive \
    proxy-connection te trailer transfer-encoding upgrade x-forwarded-for";

/// A request to the server, and the promise of its response to the client.
struct Exchange {
    request: Vec<u8>,
    method: Method,
    promise: Promise,
}

/// The connections to the server.
struct Pool {
    server: SocketAddr,
    timeout: Duration,
    connections: usize,
    idle: Vec<ConnectionId>,
}

/// The responder of one client.
#[derive(Clone)]
struct Proxy(Rc<RefCell<Pool>>);

impl Responder for Proxy {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        self.send(request.method(), self.head(request, cx), cx)
    }

    fn receive(
        &mut self,
        request: &Request<'_>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Box<dyn Upload>> {
        let (proxy, method, request) = (self.clone(), request.method(), self.head(request, cx));
        Some(Box::new(WithBody { proxy, method, request }))
    }
}

/// A request whose body still comes.
struct WithBody {
    proxy: Proxy,
    method: Method,
    request: Vec<u8>,
}

impl Upload for WithBody {
    fn take(&mut self, piece: &[u8]) {
        self.request.extend_from_slice(piece);
    }

    fn respond(self: Box<Self>, cx: &mut HttpContext<'_, '_>) -> Response<'static> {
        self.proxy.send(self.method, self.request, cx)
    }
}

impl Proxy {
    /// Gives the request to an idle connection, or to a new one.
    fn send(
        &self,
        method: Method,
        request: Vec<u8>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Response<'static> {
        let mut pool = self.0.borrow_mut();
        if method == Method::Connect {
            return Response::error(Status::NOT_IMPLEMENTED); // it is no proxy for browsers
        }
        if pool.idle.is_empty() && pool.connections == CONNECTIONS_MAX {
            return Response::error(Status::SERVICE_UNAVAILABLE);
        }
        // The timer of the connection to the server comes first.
        let (promise, promised) = cx.promise(2 * pool.timeout);
        let exchange = Exchange { request, method, promise };
        match pool.idle.pop() {
            Some(id) => cx.connections().send_message(id, exchange),
            None => {
                pool.connections += 1;
                cx.connect(pool.server, Upstream::new(self.clone(), exchange));
            }
        }
        promised
    }

    /// Returns the head of the request to the server. It is HTTP/1.0, which has no chunks.
    fn head(&self, request: &Request<'_>, cx: &HttpContext<'_, '_>) -> Vec<u8> {
        let mut head = format!("{} ", request.method().as_str()).into_bytes();
        head.extend_from_slice(request.path());
        if let Some(query) = request.query() {
            head.push(b'?');
            head.extend_from_slice(query);
        }
        head.extend_from_slice(b" HTTP/1.0\r\nConnection: keep-alive\r\n");
        let mut add = |name: &str, value: &[u8]| {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        };
        let server = self.0.borrow().server.to_string();
        add("Host", request.host().unwrap_or(server.as_bytes()));
        let client = cx.peer().address().map_or(String::new(), |client| client.ip().to_string());
        let mut path: Vec<&[u8]> = request.header_values("X-Forwarded-For").collect();
        path.push(client.as_bytes());
        add("X-Forwarded-For", &path.join(&b", "[..]));
        if request.header("Content-Length").is_some() {
            add("Content-Length", request.body_bytes().to_string().as_bytes());
        }
        let connection: Vec<&[u8]> = request.header_values("Connection").collect();
        for (name, value) in request.headers().filter(|field| is_passed_on(field.0, &connection)) {
            add(name, value);
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// `connection` are the values of the Connection fields, which may name more fields.
fn is_passed_on(name: &str, connection: &[&[u8]]) -> bool {
    !NOT_PASSED_ON.split(' ').any(|other| other.eq_ignore_ascii_case(name))
        && !has_option(connection, name)
}

fn has_option(connection: &[&[u8]], option: &str) -> bool {
    let mut options = connection.iter().flat_map(|value| value.split(|&byte| byte == b','));
    options.any(|other| other.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// A connection to the server.
struct Upstream {
    proxy: Proxy,
    /// Its own id, once it is connected.
    id: Option<ConnectionId>,
    /// What it is asked. `None`: it is idle, or about to close.
    exchange: Option<Exchange>,
    /// The response, once its head is there.
    answer: Option<Answer>,
    /// It has answered a request before.
    is_reused: bool,
}

impl Upstream {
    fn new(proxy: Proxy, exchange: Exchange) -> Upstream {
        Upstream { proxy, id: None, exchange: Some(exchange), answer: None, is_reused: false }
    }

    fn begin(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(exchange) = &self.exchange {
            cx.send(&exchange.request);
            cx.set_timer(self.proxy.0.borrow().timeout);
        }
        Next::Continue
    }

    fn leave_idle(&self) {
        self.proxy.0.borrow_mut().idle.retain(|id| Some(*id) != self.id);
    }

    fn fail(&mut self, status: Status) {
        if let Some(exchange) = self.exchange.take() {
            exchange.promise.fulfill(move || Response::error(status));
        }
    }

    /// Fulfills the promise: the response is whole.
    fn finish(&mut self, persists: bool, cx: &mut Context<'_>) -> Next {
        if let (Some(exchange), Some(answer)) = (self.exchange.take(), self.answer.take()) {
            exchange.promise.fulfill(move || answer.into_response());
        }
        if !persists {
            return Next::CloseWithoutLinger;
        }
        cx.cancel_timer();
        cx.set_held_bytes(0);
        self.is_reused = true;
        self.proxy.0.borrow_mut().idle.push(cx.id());
        Next::Continue
    }
}

impl Protocol for Upstream {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.id = Some(cx.id());
        self.begin(cx)
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        self.exchange = message.downcast().ok().map(|exchange| *exchange);
        self.begin(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(exchange) = &self.exchange else {
            self.leave_idle(); // what no request has asked for would be taken for the next response
            return Advance::need_more().then(Next::Abort);
        };
        let mut rest = input;
        if self.answer.is_none() {
            match Answer::parse(input, exchange.method) {
                Ok(None) => return Advance::need_more(),
                Ok(Some((answer, length))) => {
                    rest = &input[length..];
                    self.answer = Some(answer);
                }
                Err(Invalid) => return Advance::need_more().then(Next::Abort), // 502 in `closed`
            }
        }
        let answer = self.answer.as_mut().expect("its head is there");
        let missing = answer.body_bytes.map_or(rest.len(), |length| length - answer.body.len());
        let (body, behind) = rest.split_at(missing.min(rest.len()));
        answer.body.extend_from_slice(body);
        cx.set_held_bytes(answer.body.len());
        let step = Advance::consumed(input.len() - behind.len());
        if answer.body.len() > BODY_BYTES_MAX {
            step.then(Next::Abort)
        } else if answer.body_bytes == Some(answer.body.len()) {
            let persists = answer.persists;
            step.then(self.finish(persists, cx))
        } else {
            step
        }
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.leave_idle();
        if self.answer.as_ref().is_some_and(|answer| answer.body_bytes.is_none()) {
            return self.finish(false, cx); // its body ends with the connection
        }
        // The server has closed an idle connection while the request was on its way there. One that
        // changes nothing is sent again (RFC 9112 section 9.3.1).
        let is_stale = self.is_reused && self.answer.is_none() && rest.is_empty();
        let exchange = self.exchange.take_if(|exchange| {
            is_stale && matches!(exchange.method, Method::Get | Method::Head | Method::Options)
        });
        if let Some(exchange) = exchange {
            let mut pool = self.proxy.0.borrow_mut();
            pool.connections += 1;
            cx.connect(pool.server, Upstream::new(self.proxy.clone(), exchange));
        }
        Next::CloseWithoutLinger
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.fail(Status::GATEWAY_TIMEOUT);
        Next::Abort
    }

    fn closed(&mut self, _: CloseReason) {
        self.fail(Status::BAD_GATEWAY);
        self.leave_idle();
        self.proxy.0.borrow_mut().connections -= 1;
    }
}

/// A response of the server.
struct Answer {
    status: Status,
    content_type: String,
    fields: Vec<(String, String)>,
    /// Of a response to HEAD, the length of the body that GET would get.
    head_bytes: Option<u64>,
    /// How long the body will be. `None`: it ends with the connection.
    body_bytes: Option<usize>,
    body: Vec<u8>,
    persists: bool,
}

/// The server sends what is no response to this request, or one that is too long.
struct Invalid;

impl Answer {
    /// Parses the head of the response to a request of this method. Returns its length, too.
    fn parse(input: &[u8], method: Method) -> Result<Option<(Answer, usize)>, Invalid> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let end = match head.parse(input) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(Invalid),
        };
        let values = |name: &'static str| {
            let fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            fields.map(|field| field.value)
        };
        let status = Status::new(head.code.unwrap_or(0)).map_err(|_| Invalid)?; // 200 to 599
        if values("Transfer-Encoding").next().is_some() {
            return Err(Invalid); // not in an answer to HTTP/1.0 (RFC 9112 section 6.1)
        }
        let connection: Vec<&[u8]> = values("Connection").collect();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let lengths: Vec<&[u8]> = values("Content-Length").collect();
        let length = match lengths[..] {
            [] => None,
            [digits] if digits.iter().all(u8::is_ascii_digit) => {
                Some(text(digits).parse::<u64>().map_err(|_| Invalid)?)
            }
            _ => return Err(Invalid),
        };
        let is_head = method == Method::Head;
        let body_bytes = match length {
            _ if is_head || matches!(status.code(), 204 | 304) => Some(0),
            None => None,
            Some(length) => match usize::try_from(length) {
                Ok(length @ ..=BODY_BYTES_MAX) => Some(length),
                _ => return Err(Invalid),
            },
        };
        let persists = match head.version {
            Some(1) => !has_option(&connection, "close"),
            _ => has_option(&connection, "keep-alive"),
        };
        let is_type = |name: &str| name.eq_ignore_ascii_case("Content-Type");
        let fields = head.headers.iter().filter(|field| is_passed_on(field.name, &connection));
        let fields = fields.filter(|field| !is_type(field.name)); // it is written with the status
        let answer = Answer {
            status,
            content_type: values("Content-Type").next().map(text).unwrap_or_default(),
            fields: fields.map(|field| (field.name.to_owned(), text(field.value))).collect(),
            head_bytes: is_head.then_some(length.unwrap_or(0)),
            body_bytes,
            body: Vec::new(),
            persists,
        };
        Ok(Some((answer, end)))
    }

    fn into_response(self) -> Response<'static> {
        let content_type = ContentType::new(&self.content_type);
        let content_type = content_type.unwrap_or(ContentType::OCTET_STREAM);
        let response = match self.head_bytes {
            Some(length) => Response::streamed(self.status, content_type, length, io::empty()),
            None => Response::new(self.status, content_type, self.body),
        };
        let mut fields = self.fields.iter();
        let response =
            fields.try_fold(response, |response, (name, value)| response.with_header(name, value));
        response.unwrap_or_else(|_| Response::error(Status::BAD_GATEWAY)) // an invalid field
    }
}

/// Serves on `address` what `server` serves. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    server: SocketAddr,
    timeout: Duration,
) -> io::Result<SocketAddr> {
    let pool = Pool { server, timeout, connections: 0, idle: Vec::new() };
    let proxy = Proxy(Rc::new(RefCell::new(pool)));
    reactor.listen(address, move |_peer| Http::new(proxy.clone()))
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
