//! The type of a body, checked where it is made.
//!
//! Invariant: a [`ContentType`] is a media type by the grammar of RFC 9110 section 8.3.1. So it is
//! a valid field value, too.

use std::error::Error;
use std::fmt;

use super::field::is_token_byte;
use crate::http::limits::CONTENT_TYPE_BYTES_MAX;

/// The media type of a body, such as `text/html; charset=utf-8` (RFC 9110 section 8.3.1).
///
/// A type that is known when compiling is checked then:
///
/// ```
/// use mio_reactor::ContentType;
///
/// const PNG: ContentType<'static> = ContentType::from_static("image/png");
/// assert_eq!(PNG.as_str(), "image/png");
/// assert_eq!(ContentType::new("image").unwrap_err().position(), 5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentType<'t>(&'t str);

impl ContentType<'static> {
    /// `text/plain; charset=utf-8`: any text that Rust holds in a `str`.
    pub const TEXT: ContentType<'static> = ContentType::from_static("text/plain; charset=utf-8");
    /// `text/html; charset=utf-8`.
    pub const HTML: ContentType<'static> = ContentType::from_static("text/html; charset=utf-8");
    /// `application/json`.
    pub const JSON: ContentType<'static> = ContentType::from_static("application/json");
    /// `application/octet-stream`: bytes whose type is not known.
    pub const OCTET_STREAM: ContentType<'static> =
        ContentType::from_static("application/octet-stream");
    /// `text/plain` alone, for a text that is ASCII.
    pub(super) const ASCII: ContentType<'static> = ContentType::from_static("text/plain");

    /// Returns `media_type` as a content type. In a constant, an invalid one does not compile.
    ///
    /// # Panics
    ///
    /// If `media_type` is invalid. For a type that is not known when compiling, use
    /// [`new`](ContentType::new).
    pub const fn from_static(media_type: &'static str) -> ContentType<'static> {
        match ContentType::new(media_type) {
            Ok(content_type) => content_type,
            Err(_) => panic!("a media type is type/subtype, and then parameters"),
        }
    }
}

impl<'t> ContentType<'t> {
    /// Returns `media_type` as a content type. It is not copied.
    ///
    /// # Errors
    ///
    /// [`ContentTypeError`] if it is not a type, a slash, a subtype, and then any number of
    /// parameters, each `; name=value`; or if it has more than 1024 bytes.
    pub const fn new(media_type: &'t str) -> Result<ContentType<'t>, ContentTypeError> {
        match invalid_at(media_type.as_bytes()) {
            None => Ok(ContentType(media_type)),
            Some(position) => Err(ContentTypeError { position }),
        }
    }

    /// Returns the type as it is sent.
    pub const fn as_str(self) -> &'t str {
        self.0
    }
}

impl<'t> TryFrom<&'t str> for ContentType<'t> {
    type Error = ContentTypeError;

    fn try_from(media_type: &'t str) -> Result<ContentType<'t>, ContentTypeError> {
        ContentType::new(media_type)
    }
}

impl fmt::Display for ContentType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// A text that is not a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentTypeError {
    position: usize,
}

impl ContentTypeError {
    /// Returns the position of the first byte that is not as it must be, from 0; the length of the
    /// text, if it ends too early.
    pub fn position(self) -> usize {
        self.position
    }
}

impl fmt::Display for ContentTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a content type is invalid at position {}", self.position)
    }
}

impl Error for ContentTypeError {}

/// Returns where `text` is no media type: `token "/" token *( OWS ";" OWS parameter )`, with
/// `parameter = token "=" ( token / quoted-string )`. `None`: it is one.
///
/// Loops instead of iterators, which a `const fn` cannot use.
const fn invalid_at(text: &[u8]) -> Option<usize> {
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        return Some(CONTENT_TYPE_BYTES_MAX);
    }
    let slash = token_end(text, 0);
    if slash == 0 || !has(text, slash, b'/') {
        return Some(slash);
    }
    let mut at = token_end(text, slash + 1);
    if at == slash + 1 {
        return Some(at);
    }
    while at < text.len() {
        let semicolon = space_end(text, at);
        if !has(text, semicolon, b';') {
            return Some(semicolon);
        }
        let name = space_end(text, semicolon + 1);
        let equals = token_end(text, name);
        if equals == name || !has(text, equals, b'=') {
            return Some(equals);
        }
        at = token_end(text, equals + 1);
        if at == equals + 1 {
            match quoted_end(text, at) {
                Ok(end) => at = end,
                Err(invalid) => return Some(invalid),
            }
        }
    }
    None
}

const fn has(text: &[u8], at: usize, byte: u8) -> bool {
    at < text.len() && text[at] == byte
}

/// Returns where the token ends that begins at `at`; `at` itself if none does.
const fn token_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && is_token_byte(text[at]) {
        at += 1;
    }
    at
}

/// Returns where the spaces and tabs end that begin at `at`.
const fn space_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && (text[at] == b' ' || text[at] == b'\t') {
        at += 1;
    }
    at
}

/// Returns where the quoted string ends that begins at `at`, or where it is invalid (RFC 9110
/// section 5.6.4).
const fn quoted_end(text: &[u8], mut at: usize) -> Result<usize, usize> {
    if !has(text, at, b'"') {
        return Err(at);
    }
    at += 1;
    while at < text.len() {
        match text[at] {
            b'"' => return Ok(at + 1),
            b'\\' => at += 1, // the byte after it stands for itself
            _ => {}
        }
        if at == text.len() || (text[at].is_ascii_control() && text[at] != b'\t') {
            return Err(at);
        }
        at += 1;
    }
    Err(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_is_checked_by_the_grammar() {
        // RFC 9110 section 8.3.1; 5.6.4 for quoted strings. Each with the position of its fault.
        for (text, invalid_at) in [
            ("text/html", None),
            ("a/b;c=d", None),
            ("text/html \t; charset=utf-8;x=\"a; \\\"b\u{e9}\"", None),
            ("image/svg+xml", None),
            ("a/b;c=\"\"", None),
            ("", Some(0)),
            ("/", Some(0)),
            ("text", Some(4)),
            ("text/", Some(5)),
            ("te xt/html", Some(2)),
            ("text/html/x", Some(9)),
            ("text/html ", Some(10)),
            ("text/html;", Some(10)),
            ("text/html; ", Some(11)),
            ("text/html; charset", Some(18)),
            ("text/html; charset=", Some(19)),
            ("text/html; charset =utf-8", Some(18)),
            ("text/html charset=utf-8", Some(10)),
            ("a/b;c=\"d", Some(8)),
            ("a/b;c=\"d\\", Some(9)),
            ("a/b;c=\"d\\\"", Some(10)),
            ("a/b;c=\"d\r\n\"", Some(8)),
            ("a/b;c=\"\\\n\"", Some(8)),
            ("a/b;c=\"d\"e", Some(9)),
            ("text/plain\r\nX: y", Some(10)),
            ("text/plain\0", Some(10)),
            ("text/pl\u{e4}in", Some(7)),
        ] {
            let expected = invalid_at
                .map_or(Ok(ContentType(text)), |position| Err(ContentTypeError { position }));
            assert_eq!(ContentType::new(text), expected, "{text:?}");
        }
        assert_eq!(
            ContentType::new("text").unwrap_err().to_string(),
            "a content type is invalid at position 4"
        );
    }
}
