//! What bytes that are no HTTP request look like, for the log.
//!
//! A client that speaks another protocol to an HTTP port gets 400, which it mostly cannot read. The
//! operator finds in the debug log what it was.
//!
//! Invariant: a guess from the first bytes, made only for the log. It decides nothing.

use std::fmt;

use crate::http::limits::REFUSED_BYTES_SHOWN_MAX;

/// The first bytes of a refused request, shown as what they look like.
pub(super) struct LooksLike<'i> {
    /// What the client has sent, from its first byte that is not an empty line.
    pub(super) input: &'i [u8],
    /// How many empty lines preceded it.
    pub(super) empty_lines: u8,
}

/// Protocols by their first bytes. Of two that fit, the first one holds.
const FIRST_BYTES: [(&[u8], &str); 22] = [
    (b"\x16\x03", "a TLS handshake (https on an http port)"), // RFC 8446 section 5.1
    (b"\x15\x03", "a TLS alert"),
    (b"\x17\x03", "TLS application data"),
    (b"PRI * HTTP/2", "HTTP/2 with prior knowledge"), // RFC 9113 section 3.4
    (b"PROXY TCP4 ", "a PROXY protocol header, version 1"),
    (b"PROXY TCP6 ", "a PROXY protocol header, version 1"),
    (b"PROXY UNKNOWN", "a PROXY protocol header, version 1"),
    (b"SSH-", "SSH"), // RFC 4253 section 4.2
    (b"HTTP/", "an HTTP response"),
    (b"\x03\0\0", "RDP"),
    (b"\x05\x01", "SOCKS, version 5"),
    (b"\x05\x02", "SOCKS, version 5"),
    (b"\x04\x01", "SOCKS, version 4"),
    (b"\x13BitTorrent", "BitTorrent"),
    (b"AMQP", "AMQP"),
    (b"JRMI", "Java RMI"),
    (b"EHLO ", "SMTP"),
    (b"HELO ", "SMTP"),
    (b"\xef\xbb\xbf", "text with a byte order mark"),
    (b"\x1f\x8b", "a gzip body without its request"),
    (b"{", "a JSON body without its request"),
    (b"<", "an XML or HTML body without its request"),
];

/// The end of the signature of PROXY protocol 2. It begins with two empty lines.
const PROXY_2: &[u8] = b"\0\r\nQUIT\n";

impl LooksLike<'_> {
    /// Returns the name of what it looks like, if it is known.
    fn name(&self) -> Option<&'static str> {
        // Of a signature that arrives byte by byte, the request is refused at its first wrong byte.
        let begins = |signature: &[u8]| {
            let common = signature.len().min(self.input.len());
            common > 0 && self.input[..common] == signature[..common]
        };
        if self.empty_lines == 2 && begins(PROXY_2) {
            return Some("a PROXY protocol header, version 2");
        }
        let line = self.input.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let has = |word: &[u8]| memchr::memmem::find(line, word).is_some();
        match self.input {
            [0, 0, _, _, 0xff | 0xfe, b'S', b'M', b'B', ..] => return Some("SMB"),
            [0, 0, _, _, 0, 3, 0, 0, ..] | [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, ..] => {
                return Some("PostgreSQL");
            }
            [0xff, 0xfb..=0xfe, ..] => return Some("Telnet"),
            [0x80..=0xff, _, 1, ..] => return Some("an SSL 2 handshake"),
            [0x81 | 0x82 | 0x88 | 0x89 | 0x8a, 0x80..=0xff, ..] => {
                return Some("a WebSocket frame");
            }
            [0x10, _, 0, 4, b'M', b'Q', b'T', b'T', ..] => return Some("MQTT"),
            [b'*', b'1'..=b'9', ..] if line.ends_with(b"\r") => return Some("Redis"),
            _ if has(b" RTSP/") => return Some("RTSP"),
            _ if has(b" SIP/") => return Some("SIP"),
            _ if is_chunk_size(line) => return Some("a chunk of an earlier body"),
            _ => {}
        }
        // A single letter begins too many words to tell anything.
        let is_told = |signature: &[u8]| self.input.len() > 1 || !signature[0].is_ascii_uppercase();
        FIRST_BYTES
            .into_iter()
            .find(|(signature, _)| begins(signature) && is_told(signature))
            .map(|(_, name)| name)
    }
}

/// Returns whether `line` begins as the size of a chunk does (RFC 9112 section 7.1).
fn is_chunk_size(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    digits > 0 && matches!(line.get(digits), Some(b'\r' | b';'))
}

/// `a TLS handshake (https on an http port)`; the first bytes, escaped, if they are not known.
impl fmt::Display for LooksLike<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "looks like {name}"),
            None => {
                let shown = &self.input[..self.input.len().min(REFUSED_BYTES_SHOWN_MAX)];
                let rest = if shown.len() < self.input.len() { "..." } else { "" };
                write!(f, "begins with \"{}{rest}\"", shown.escape_ascii())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // pitfall: 131
    #[test]
    fn first_bytes_of_other_protocols_are_named() {
        for (empty_lines, input, shown) in [
            (0, &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], "looks like a TLS handshake"),
            (0, b"\x16", "looks like a TLS handshake"),
            (0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "looks like HTTP/2 with prior knowledge"),
            (0, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "looks like a PROXY protocol header"),
            (0, b"PROXY UNKNOWN\r\n", "looks like a PROXY protocol header, version 1"),
            (2, b"\0\r\nQUIT\n\x21\x11\0\x0c", "looks like a PROXY protocol header, version 2"),
            (2, b"\0", "looks like a PROXY protocol header, version 2"),
            (0, b"SSH-2.0-OpenSSH_9.2\r\n", "looks like SSH"),
            (0, b"\0\0\0\x85\xffSMBr\0", "looks like SMB"),
            (0, b"\x03\0\0\x2c\x27\xe0", "looks like RDP"),
            (0, b"\0\0\0\x08\x04\xd2\x16\x2f", "looks like PostgreSQL"),
            (0, b"\0", "begins with \"\\x00\""),
            (0, b"\xff\xfb\x01", "looks like Telnet"),
            (0, b"*1\r\n$4\r\nPING\r\n", "looks like Redis"),
            (0, b"5\r\nhello\r\n", "looks like a chunk of an earlier body"),
            (0, b"0\r\n\r\n", "looks like a chunk of an earlier body"),
            (0, b"\x80\x2e\x01\x03\x01", "looks like an SSL 2 handshake"),
            (0, b"\x81\x85\x37\xfa\x21\x3d", "looks like a WebSocket frame"),
            (0, b"OPTIONS rtsp://a/ RTSP/1.0\r\n", "looks like RTSP"),
            (0, b"{\"a\": 1}", "looks like a JSON body without its request"),
            (0, b"GET /a b\r\n", "begins with \"GET /a b\\r\\n\""),
            (0, b"S", "begins with \"S\""),
            (0, b"", "begins with \"\""),
            (0, &[b'a'; 40], "begins with \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\""),
            (0, b"\x1b[2J\"", "begins with \"\\x1b[2J\\\"\""),
        ] {
            let guess = LooksLike { input, empty_lines }.to_string();
            assert!(guess.starts_with(shown), "{}: {guess}", input.escape_ascii());
        }
    }
}
