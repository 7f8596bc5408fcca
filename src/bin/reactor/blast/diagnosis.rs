//! What a user is told about a server that does not echo: one line that says what came instead.
//!
//! A server that is no echo closes at once, sends a banner or an error message, or nothing. Or it
//! is one, and puts a prefix before each reply or cuts it short. The first wrong reply shows which.

use std::io::{self, ErrorKind};

use super::limits::QUOTED_BYTES_MAX;
use super::payload::Payloads;
use super::plan::{Plan, Service};
use crate::values::PREFIX_BYTES_MAX;

/// Returns a few words for an error of a socket. `error` has them where no kind does.
pub(super) fn error_words(error: &io::Error) -> String {
    const WORDS: [(ErrorKind, &str); 5] = [
        (ErrorKind::ConnectionRefused, "connection refused"),
        (ErrorKind::ConnectionReset, "connection reset by the server"),
        (ErrorKind::UnexpectedEof, "connection closed by the server"),
        (ErrorKind::TimedOut, "timed out"),
        (ErrorKind::NotFound, "no such file"),
    ];
    let words = WORDS.iter().find(|(kind, _)| *kind == error.kind());
    words.map_or_else(|| error.to_string(), |(_, words)| (*words).to_string())
}

/// Describes the first reply that is not what was sent. Over a stream, `reply` is all that has
/// arrived from its beginning on. `received` is how many were right.
pub(super) fn describe_wrong_reply(
    reply: &[u8],
    received: u64,
    plan: &Plan,
    payloads: &Payloads,
) -> String {
    let cause = match (payloads.find(reply), &plan.service) {
        _ if received > 0 => String::new(),
        (Some(0), Service::Udp(_)) if !plan.prefix.is_empty() => {
            "the server sends no prefix, leave --prefix out; ".to_string()
        }
        (Some(0), Service::Udp(_)) if reply.len() < plan.size => {
            "the server cuts messages short; ".to_string()
        }
        (Some(0), Service::Udp(_)) => "the server adds bytes to what was sent; ".to_string(),
        (Some(length), Service::Udp(_)) if length <= PREFIX_BYTES_MAX => {
            match std::str::from_utf8(&reply[..length]) {
                Ok(prefix) => format!("the server sends a prefix, try --prefix {prefix:?}; "),
                Err(_) => format!("{length} bytes come before what was sent; "),
            }
        }
        (Some(1..), Service::Tcp(_)) => {
            "the server sends a prefix, which cannot be checked over TCP; ".to_string()
        }
        (None | Some(_), _) => "the server may be no echo server; ".to_string(),
    };
    let expected = plan.prefix.len() + plan.size;
    let length = match plan.service {
        Service::Udp(_) if reply.len() != expected => {
            format!(" has {} bytes instead of {expected}, and", reply.len())
        }
        Service::Udp(_) | Service::Tcp(_) | Service::Http(_) => String::new(),
    };
    format!("{cause}the first wrong reply{length} begins with {}", quote(reply))
}

/// Says why there is no reply where no error does. `instead` is what came and is no reply.
pub(super) fn describe_silence(plan: &Plan, sent: u64, instead: &[u8]) -> String {
    let reason = match plan.service {
        _ if !instead.is_empty() => {
            format!("the server may be no {}; it sent {}", plan.server_kind(), quote(instead))
        }
        Service::Tcp(_) | Service::Http(_) => {
            "the server accepts connections and sends nothing back".to_string()
        }
        Service::Udp(_) => {
            "no echo server is there, or datagrams are dropped on the way".to_string()
        }
    };
    format!("no reply ({sent} messages sent): {reason}")
}

/// Says what came where responses have begun and none is whole. `first`: the beginning of one.
pub(super) fn describe_parts(sent: u64, cut_off: u64, first: &[u8]) -> String {
    let parts = match cut_off {
        0 => format!("no whole response ({sent} requests sent)"),
        count => format!("{count} responses were cut off, and none was whole"),
    };
    format!("{parts}: the first begins with {}", quote(first))
}

/// Quotes the beginning of `bytes` in printable characters.
pub(super) fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}
