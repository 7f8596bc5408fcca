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
use std::net::SocketAddr;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use mio_reactor::{
    Advance, Context, Encoder, Inner, Layer, Layered, Limits, Method, Next, Protocol, Reactor,
    Request,
};
use sha1::{Digest, Sha1};

#[allow(dead_code, reason = "its listener and its main function are not used here")]
#[path = "chat.rs"]
mod chat;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10); // for the whole request
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
/// Of the first byte, beside the opcode: this frame is the last of its message.
const LAST: u8 = 0x80;

/// Statuses of a close frame (section 7.4.1).
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_UTF8: u16 = 1007;
const MESSAGE_TOO_BIG: u16 = 1009;

/// The server's side of WebSocket on one connection. It is open when the protocol inside is.
#[derive(Default)]
pub(crate) struct WebSocket {
    /// The beginning of a message whose last frame has not come; `None` between two messages.
    message: Option<Vec<u8>>,
    awaits_pong: bool,
    /// Our last frame. Empty before the upgrade: what is refused ends as HTTP.
    close_frame: Vec<u8>,
}

impl WebSocket {
    /// Acts on the frame at the front of `input`, if it is whole.
    fn next_frame<P: Protocol>(
        &mut self,
        input: &[u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'_>,
    ) -> Result<Advance, u16> {
        let begun = self.message.as_ref().map_or(0, Vec::len);
        let Some((first, payload, end)) = parse(input, begun)? else {
            return Ok(Advance::need_more());
        };
        let (step, opcode) = (Advance::consumed(end), first & 0x0F);
        match (opcode, &mut self.message) {
            (TEXT, message @ None) => *message = Some(payload),
            (CONTINUATION, Some(message)) => message.extend(payload),
            (BINARY, None) => return Err(UNSUPPORTED_DATA),
            (CLOSE, _) => {
                self.close_frame = frame(CLOSE, status_of(&payload)?); // it is sent back
                return Ok(step.then(inner.eof(self, cx)));
            }
            (PING, _) => cx.send(&frame(PONG, &payload)),
            (PONG, _) => self.awaits_pong = false,
            _ => return Err(PROTOCOL_ERROR),
        }
        // Control frames may stand between the frames of a message, and end none.
        let ends_message = first & LAST != 0 && opcode < CLOSE;
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
        let close = Advance::consumed(input.len()).then(Next::Close);
        if inner.is_open() {
            return self.next_frame(input, inner, cx).unwrap_or_else(|status| {
                self.close_frame = frame(CLOSE, &status.to_be_bytes());
                close
            });
        }
        let Some((answer, upgrade)) = answer(input) else { return Advance::need_more() };
        cx.send(answer.as_bytes());
        let Some(length) = upgrade else { return close };
        cx.set_timer(PING_INTERVAL);
        self.close_frame = frame(CLOSE, &NORMAL.to_be_bytes());
        Advance::consumed(length).then(inner.open(self, cx))
    }

    fn timer_expired<P: Protocol>(&mut self, inner: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        if self.awaits_pong || !inner.is_open() {
            return Next::Close;
        }
        self.awaits_pong = true;
        cx.set_timer(PING_INTERVAL);
        cx.send(&frame(PING, b""));
        Next::Unchanged
    }
}

/// The protocol inside sends whole lines, each in one callback.
impl Encoder for WebSocket {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        for line in output.split_inclusive(|&byte| byte == b'\n') {
            encoded.extend(frame(TEXT, line.strip_suffix(b"\n").unwrap_or(line)));
        }
    }

    fn finish(&mut self, encoded: &mut Vec<u8>) {
        encoded.append(&mut self.close_frame);
    }
}

/// Returns a frame as a server sends it, without a mask. It is a whole message.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let long = (payload.len() as u64).to_be_bytes();
    let length = match payload.len() {
        0..126 => vec![long[7]],
        126..65_536 => vec![126, long[6], long[7]],
        _ => [&[127][..], &long].concat(),
    };
    [&[LAST | opcode][..], &length, payload].concat()
}

/// Takes apart the frame at the front of `input`: its first byte, its payload without the mask, and
/// its end. `None`: it is not whole. `begun`: the bytes of the message before it.
fn parse(input: &[u8], begun: usize) -> Result<Option<(u8, Vec<u8>, usize)>, u16> {
    let [first, second, rest @ ..] = input else { return Ok(None) };
    let (is_control, short) = (first & 0x08 != 0, second & 0x7F);
    // A client masks. Three bits are reserved. Control frames are short, and in one piece.
    if second & 0x80 == 0 || first & 0x70 != 0 || is_control && (first & LAST == 0 || short > 125) {
        return Err(PROTOCOL_ERROR);
    }
    let (bytes, rest) = match (short, rest) {
        // A length has as few bytes as it needs (section 5.2).
        (126, [0, 0..126, ..]) | (127, [0, 0, 0, 0, 0, 0, _, _, ..]) => return Err(PROTOCOL_ERROR),
        (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
        (127, [_, _, _, _, _, _, _, _, ..]) => return Err(MESSAGE_TOO_BIG),
        (126 | 127, _) => return Ok(None),
        _ => (usize::from(short), rest),
    };
    if !is_control && bytes.saturating_add(begun) > MESSAGE_BYTES_MAX {
        return Err(MESSAGE_TOO_BIG); // before any of it is awaited
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some((masked, behind)) = rest.split_at_checked(bytes) else { return Ok(None) };
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some((*first, payload, input.len() - behind.len())))
}

/// Returns the status of a close frame with this payload, if it has one, and checks the rest.
fn status_of(payload: &[u8]) -> Result<&[u8], u16> {
    let (status, reason) = payload.split_at(payload.len().min(2));
    let number = status.try_into().map(u16::from_be_bytes);
    if !status.is_empty() && !matches!(number, Ok(1000..=1003 | 1007..=1014 | 3000..=4999)) {
        return Err(PROTOCOL_ERROR); // cut off, or reserved (section 7.4.2)
    }
    str::from_utf8(reason).map(|_| status).map_err(|_| INVALID_UTF8)
}

/// Returns the answer to a request, and the request's length if it is an upgrade (RFC 6455 section
/// 4.2). `None`: it is not whole.
fn answer(input: &[u8]) -> Option<(String, Option<usize>)> {
    let (request, length) = match Request::parse(input) {
        Ok(parsed) => parsed?,
        Err(status) => return Some((refusal(&status.to_string()), None)),
    };
    let [key, host] =
        [request.header("Sec-WebSocket-Key"), request.host()].map(Option::unwrap_or_default);
    let is_key = BASE64.decode(key).is_ok_and(|key| key.len() == 16);
    let is_1_1 = input.split(|it| *it == b'\r').next().is_some_and(|line| line.ends_with(b"/1.1"));
    // A page of any site can open a WebSocket here, in the name of its reader (section 10.2).
    let page = request.header("Origin").map(|it| it.splitn(3, |it| *it == b'/').nth(2));
    let is_own = page.is_none_or(|it| it.is_some_and(|it| it.eq_ignore_ascii_case(host)));
    let refusals = [
        (request.method() != Method::Get || request.body_bytes() > 0, "400 Bad Request"),
        (!request.lists("Upgrade", "websocket"), "200 OK"), // with the page
        (!is_own, "403 Forbidden"),
        (!request.lists("Sec-WebSocket-Version", "13"), "426 Upgrade Required"),
        (!request.lists("Connection", "upgrade") || !is_key || !is_1_1, "400 Bad Request"),
    ];
    if let Some((_, status)) = refusals.into_iter().find(|(applies, _)| *applies) {
        return Some((refusal(status), None));
    }
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
    let digest = Sha1::digest([key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
    let accept = format!("Sec-WebSocket-Accept: {}", BASE64.encode(digest));
    Some((format!("{head}\r\n{accept}\r\n\r\n"), Some(length)))
}

/// Returns a response after which the connection closes. It says which upgrade there is.
fn refusal(status: &str) -> String {
    let page = if status == "200 OK" { include_str!("websocket.html") } else { "" };
    let (head, bytes) = (format!("HTTP/1.1 {status}\r\nContent-Type: text/html"), page.len());
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: close, Upgrade";
    format!("{head}\r\n{upgrade}\r\nContent-Length: {bytes}\r\n\r\n{page}")
}

/// Serves the page and the room on `address`. Returns the address bound.
pub(crate) fn listen(reactor: &mut Reactor, address: SocketAddr) -> io::Result<SocketAddr> {
    let mut room = chat::room(chat::CONNECTIONS_MAX);
    reactor.listen(address, move |peer| Layered::new(WebSocket::default(), room(peer)))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut reactor = Reactor::new(Limits::default())?;
    writeln!(io::stdout(), "http {}", listen(&mut reactor, ([127, 0, 0, 1], 4001).into())?)?;
    reactor.run().map(drop)
}
