//! A chat for web browsers: WebSocket (RFC 6455) is a layer around the chat room of chat.rs.
//!
//! ```text
//! cargo run --example websocket        then open http://127.0.0.1:4001/ in two windows
//!
//!     browser ──► frames ──► WebSocket ──► lines ──► Chat
//!             ◄── frames ◄──           ◄── lines ◄──
//! ```
//!
//! Each text message is a line for the protocol inside, and each line that it sends is a text
//! message. So the room is the one for `nc`, unchanged. A peer that breaks a rule is closed with
//! the status that RFC 6455 has for it. One that answers no ping is closed, too.

use std::io::{self, Write};
use std::iter;
use std::net::SocketAddr;
use std::str;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use mio_reactor::{
    Advance, Context, Encoder, Inner, Layer, Layered, Limits, Next, Protocol, Reactor,
};
use sha1::{Digest, Sha1};

#[allow(dead_code, reason = "its listener and its main function are not used here")]
#[path = "chat.rs"]
mod chat;

/// The request has at most so many bytes and fields, and comes within this time.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message, in one frame or in several.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// The time between two pings. The first must be answered before the second.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Opcodes (RFC 6455 section 5.2). Control frames are those from 8 on.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Statuses of a close frame (section 7.4.1).
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_UTF8: u16 = 1007;
const MESSAGE_TOO_BIG: u16 = 1009;

/// The server's side of WebSocket on one connection.
pub(crate) struct WebSocket {
    state: State,
    /// The beginning of a message whose last frame has not come; `None` between two messages.
    message: Option<Vec<u8>>,
    awaits_pong: bool,
    /// The protocol inside has sent a part of a line. The next part continues the message.
    is_in_line: bool,
}

enum State {
    Handshake,
    Open,
    /// What still comes is not looked at. This is the payload of our close frame.
    Closing(Vec<u8>),
}

impl WebSocket {
    pub(crate) fn new() -> WebSocket {
        let state = State::Handshake;
        WebSocket { state, message: None, awaits_pong: false, is_in_line: false }
    }

    /// Acts on the frame at the front of `input`, if it is whole.
    fn next_frame<P: Protocol>(
        &mut self,
        input: &[u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'_>,
    ) -> Result<Advance, u16> {
        let Some(received) = parse(input)? else { return Ok(Advance::need_more()) };
        let step = Advance::consumed(received.length);
        match (received.opcode, &mut self.message) {
            (TEXT, message @ None) => *message = Some(received.payload),
            (CONTINUATION, Some(message)) => message.extend(received.payload),
            (BINARY, None) => return Err(UNSUPPORTED_DATA),
            (CLOSE, _) => {
                check_close(&received.payload)?;
                let status = received.payload.into_iter().take(2).collect();
                self.state = State::Closing(status); // `finish` sends it back
                return Ok(step.then(inner.eof(self, cx)));
            }
            (PING, _) => cx.send(&frame(true, PONG, &received.payload)),
            (PONG, _) => self.awaits_pong = false,
            _ => return Err(PROTOCOL_ERROR),
        }
        if self.message.as_ref().is_some_and(|message| message.len() > MESSAGE_BYTES_MAX) {
            return Err(MESSAGE_TOO_BIG);
        }
        // Control frames may stand between the frames of a message, and end none.
        let ends_message = received.is_last && received.opcode < CLOSE;
        let Some(mut message) = self.message.take_if(|_| ends_message) else { return Ok(step) };
        // Two frames may share a character, so only the whole message can be checked.
        str::from_utf8(&message).map_err(|_| INVALID_UTF8)?;
        message.push(b'\n');
        Ok(step.then(inner.receive(self, &message, cx)))
    }
}

impl Layer for WebSocket {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        Some(self)
    }

    fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        cx.set_timer(HANDSHAKE_TIMEOUT);
        Next::Continue
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        match self.state {
            State::Handshake => match answer(input) {
                None => Advance::need_more(),
                Some((answer, Some(length))) => {
                    cx.send(answer.as_bytes());
                    cx.set_timer(PING_INTERVAL);
                    self.state = State::Open;
                    Advance::consumed(length).then(inner.open(self, cx))
                }
                Some((answer, None)) => {
                    cx.send(answer.as_bytes());
                    Advance::consumed(input.len()).then(Next::Close)
                }
            },
            State::Open => self.next_frame(input, inner, cx).unwrap_or_else(|status| {
                self.state = State::Closing(status.to_be_bytes().to_vec());
                Advance::consumed(input.len()).then(Next::Close)
            }),
            State::Closing(_) => Advance::consumed(input.len()).then(Next::Unchanged),
        }
    }

    /// A stream may end without a close frame, but no part of a frame is passed on.
    fn eof<P: Protocol>(&mut self, _: &[u8], inner: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        inner.eof(self, cx)
    }

    fn timer_expired<P: Protocol>(&mut self, _: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        if self.awaits_pong || !matches!(self.state, State::Open) {
            return Next::Close;
        }
        self.awaits_pong = true;
        cx.set_timer(PING_INTERVAL);
        cx.send(&frame(true, PING, b""));
        Next::Unchanged
    }
}

impl Encoder for WebSocket {
    /// A line that is sent in parts becomes a message of as many frames.
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        for line in output.split_inclusive(|&byte| byte == b'\n') {
            let opcode = if self.is_in_line { CONTINUATION } else { TEXT };
            self.is_in_line = !line.ends_with(b"\n");
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            encoded.extend(frame(!self.is_in_line, opcode, text));
        }
    }

    fn finish(&mut self, encoded: &mut Vec<u8>) {
        let normal = NORMAL.to_be_bytes();
        let payload = match &self.state {
            State::Handshake => return, // it was HTTP
            State::Open => &normal[..],
            State::Closing(payload) => payload,
        };
        encoded.extend(frame(true, CLOSE, payload));
    }
}

/// Returns a frame as a server sends it, without a mask.
fn frame(is_last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_be_bytes();
    let mut frame = vec![u8::from(is_last) << 7 | opcode];
    match payload.len() {
        0..126 => frame.push(length[7]),
        126..65_536 => frame.extend([126, length[6], length[7]]),
        _ => frame.extend(iter::once(127).chain(length)),
    }
    frame.extend(payload);
    frame
}

/// A frame of a client, unmasked.
struct Frame {
    is_last: bool,
    opcode: u8,
    payload: Vec<u8>,
    /// With what stands before the payload.
    length: usize,
}

/// Takes apart the frame at the front of `input`. `None`: it is not whole.
fn parse(input: &[u8]) -> Result<Option<Frame>, u16> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    let (is_last, opcode, short) = (first & 0x80 != 0, first & 0x0F, second & 0x7F);
    let (is_masked, is_extended) = (second & 0x80 != 0, first & 0x70 != 0);
    if !is_masked || is_extended || opcode >= CLOSE && (!is_last || short > 125) {
        return Err(PROTOCOL_ERROR);
    }
    // A short length is in these seven bits, and a longer one behind them.
    let long_bytes = [0, 2, 8][usize::from(short.saturating_sub(125))];
    let Some((long, rest)) = rest.split_at_checked(long_bytes) else { return Ok(None) };
    let start = if long.is_empty() { u64::from(short) } else { 0 };
    let bytes = long.iter().fold(start, |bytes, &byte| bytes << 8 | u64::from(byte));
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > MESSAGE_BYTES_MAX {
        return Err(MESSAGE_TOO_BIG); // before any of it is awaited
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(masked) = rest.get(..bytes) else { return Ok(None) };
    let payload: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
    let length = 2 + long_bytes + mask.len() + payload.len();
    Ok(Some(Frame { is_last, opcode, payload, length }))
}

/// Checks the payload of a close frame: nothing, or a status that may be sent, and a reason.
fn check_close(payload: &[u8]) -> Result<(), u16> {
    let status = payload.first_chunk().map(|status| u16::from_be_bytes(*status));
    match status {
        None if payload.is_empty() => Ok(()),
        Some(1000..=1003 | 1007..=1014 | 3000..=4999) => {
            str::from_utf8(&payload[2..]).map(drop).map_err(|_| INVALID_UTF8)
        }
        _ => Err(PROTOCOL_ERROR),
    }
}

/// Returns the answer to a request, and the request's length if it is an upgrade (RFC 6455 section
/// 4.2). `None`: it is not whole.
fn answer(input: &[u8]) -> Option<(String, Option<usize>)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => Some(length),
        Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) | Err(_) => None,
    };
    let values = |name: &'static str| {
        let fields = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.filter_map(|field| str::from_utf8(field.value).ok())
    };
    let has = |name, token| {
        let mut parts = values(name).flat_map(|value| value.split(','));
        parts.any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let key = values("Sec-WebSocket-Key").next().unwrap_or_default();
    let is_key = BASE64.decode(key).is_ok_and(|key| key.len() == 16);
    // A page of any site can open a WebSocket here, in the name of its reader (section 10.2).
    let host = values("Host").next();
    let is_foreign = |origin: &str| origin.split_once("://").map(|(_, host)| host) != host;
    let (status, page) = if length.is_none() || request.method != Some("GET") {
        ("400 Bad Request", "")
    } else if !has("Upgrade", "websocket") {
        ("200 OK", include_str!("websocket.html"))
    } else if values("Origin").any(is_foreign) {
        ("403 Forbidden", "")
    } else if !has("Sec-WebSocket-Version", "13") {
        ("426 Upgrade Required", "")
    } else if !has("Connection", "upgrade") || !is_key || request.version != Some(1) {
        ("400 Bad Request", "")
    } else {
        let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            BASE64.encode(accept)
        );
        return Some((answer, length));
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
         Sec-WebSocket-Version: 13\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    Some((answer, None))
}

/// Serves the page and a room for `connections_max` on `address`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    connections_max: usize,
) -> io::Result<SocketAddr> {
    let mut room = chat::room(connections_max);
    reactor.listen(address, move |peer| Layered::new(WebSocket::new(), room(peer)))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut reactor = Reactor::new(Limits::default())?;
    let address = listen(&mut reactor, SocketAddr::from(([127, 0, 0, 1], 4001)), 1000)?;
    writeln!(io::stdout(), "http {address}")?;
    reactor.run()?;
    Ok(())
}
