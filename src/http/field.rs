//! A response's header fields: which names and values are valid, and which the server writes.
//!
//! Invariant: a field that passes these checks is one line of the head, and does not frame the
//! message.

use std::error::Error;
use std::fmt;

/// The fields that frame the message, or that the server writes from what it knows itself.
const OF_THE_SERVER: [&str; 5] =
    ["Content-Length", "Transfer-Encoding", "Connection", "Date", "Content-Type"];

/// Why a header field cannot be added to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is empty.
    EmptyName,
    /// The name has a byte that no name may have (RFC 9110 section 5.6.2: a name is a token).
    InvalidName {
        /// The first such byte.
        byte: u8,
        /// Its position in the name, from 0.
        at: usize,
    },
    /// The value has a control character other than the tab, such as a line end (RFC 9110 section
    /// 5.5).
    InvalidValue {
        /// The first such byte.
        byte: u8,
        /// Its position in the value, from 0.
        at: usize,
    },
    /// The head of the response would have more than this many bytes. Clients take no such head.
    TooLong {
        /// The most bytes that a head may have.
        bytes_max: usize,
    },
    /// The server writes this field itself: Content-Length, Transfer-Encoding, Connection, Date, or
    /// Content-Type.
    ReservedName,
    /// The response is only promised ([`Response::later`](crate::Response::later)). The answer that
    /// follows has the head.
    NoHead,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::EmptyName => f.write_str("a header name is empty"),
            HeaderError::InvalidName { byte, at } => {
                write!(f, "a header name has the byte {byte:#04x} at position {at}")
            }
            HeaderError::InvalidValue { byte, at } => {
                write!(f, "a header value has the byte {byte:#04x} at position {at}")
            }
            HeaderError::TooLong { bytes_max } => {
                write!(f, "the head of the response would be longer than {bytes_max} bytes")
            }
            HeaderError::ReservedName => f.write_str("the server writes this header itself"),
            HeaderError::NoHead => f.write_str("a promised response has no head yet"),
        }
    }
}

impl Error for HeaderError {}

/// Checks a field that an application adds.
pub(super) fn check_field(name: &str, value: &[u8]) -> Result<(), HeaderError> {
    if name.is_empty() {
        return Err(HeaderError::EmptyName);
    }
    if let Some(at) = name.bytes().position(|byte| !is_token_byte(byte)) {
        return Err(HeaderError::InvalidName { byte: name.as_bytes()[at], at });
    }
    if OF_THE_SERVER.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(HeaderError::ReservedName);
    }
    if let Some(at) = value.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(HeaderError::InvalidValue { byte: value[at], at });
    }
    Ok(())
}

/// Returns whether `byte` can be part of a field name or a method (RFC 9110 section 5.6.2).
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_error_names_the_first_invalid_byte() {
        // RFC 9110 sections 5.5 and 5.6.2.
        use HeaderError::{EmptyName, InvalidName, InvalidValue, ReservedName};
        for (name, value, error) in [
            ("", "a", EmptyName),
            ("Na me", "a", InvalidName { byte: b' ', at: 2 }),
            ("X-Split: a\r\nX", "a", InvalidName { byte: b':', at: 7 }),
            ("N\u{e4}me", "a", InvalidName { byte: 0xc3, at: 1 }),
            ("X", "a\r\nX: y", InvalidValue { byte: b'\r', at: 1 }),
            ("X", "a\n", InvalidValue { byte: b'\n', at: 1 }),
            ("X", "\0", InvalidValue { byte: 0, at: 0 }),
            ("X", "ab\x7f", InvalidValue { byte: 0x7f, at: 2 }),
            ("content-LENGTH", "5", ReservedName),
            ("Transfer-Encoding", "5", ReservedName),
            ("Connection", "5", ReservedName),
            ("Date", "5", ReservedName),
            ("Content-Type", "5", ReservedName),
        ] {
            assert_eq!(check_field(name, value.as_bytes()), Err(error), "{name:?}: {value:?}");
        }
        assert_eq!(
            InvalidValue { byte: b'\n', at: 1 }.to_string(),
            "a header value has the byte 0x0a at position 1"
        );
        for (name, value) in [("X", ""), ("x_!#$%&'*+-.^`|~9", "a\tb, \"c\" caf\u{e9}")] {
            assert_eq!(check_field(name, value.as_bytes()), Ok(()), "{name:?}: {value:?}");
        }
    }
}
