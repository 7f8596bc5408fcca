//! The field lines of a head that is parsed: each is found by its name.
//!
//! ```text
//!     Host: a              name, colon, white space, value, white space, CR LF
//!     Content-Length: 5
//! ```
//!
//! httparse has split and checked them (`head.rs`), and its table of them is gone. A lookup goes
//! through the lines again. That costs less than to keep a table for the few requests whose
//! responder asks, and a request borrows its input alone.
//!
//! Invariant: each line has a name and a colon, and CR and LF at its end alone.

use std::fmt;

use memchr::{memchr, memchr_iter};

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'i> {
    pub(super) name: &'i [u8],
    /// Without the white space around it.
    pub(super) value: &'i [u8],
}

impl<'i> Field<'i> {
    /// Returns whether it has this name. Case does not matter.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    pub(super) fn name_as_str(&self) -> &'i str {
        str::from_utf8(self.name).expect("a name is a token, and so ASCII")
    }
}

/// The field lines of a head, without the empty line behind them.
#[derive(Clone, Copy)]
pub(super) struct FieldLines<'i>(&'i [u8]);

impl<'i> FieldLines<'i> {
    pub(super) const NONE: FieldLines<'static> = FieldLines(b"");

    pub(super) fn new(lines: &'i [u8]) -> FieldLines<'i> {
        FieldLines(lines)
    }

    /// Returns the length of the lines with the empty line behind them, in bytes.
    pub(super) fn section_bytes(&self) -> usize {
        self.0.len() + "\r\n".len()
    }

    /// Returns the fields in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'i>> + use<'i> {
        self.lines().map(|line| {
            let colon = memchr(b':', line).expect("a valid line has a colon behind its name");
            let (name, value) = line.split_at(colon);
            Field { name, value: value[1..].trim_ascii() }
        })
    }

    /// Returns the values of the fields with this name, in order. Case does not matter.
    ///
    /// Most other lines are known by the place of their colon alone.
    pub(super) fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'i [u8]> + use<'i, 'n> {
        self.lines().filter_map(move |line| {
            let (own_name, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            let is_named = own_name.eq_ignore_ascii_case(name.as_bytes());
            // A colon in `name` would be that of the line, and what follows it no name.
            (is_named && !own_name.contains(&b':')).then(|| value.trim_ascii())
        })
    }

    /// A valid line has a line feed at its end, and nowhere else.
    fn lines(&self) -> impl Iterator<Item = &'i [u8]> + use<'i> {
        let (lines, mut start) = (self.0, 0);
        memchr_iter(b'\n', lines).map(move |end| {
            let line = &lines[start..end];
            start = end + 1;
            line
        })
    }
}

/// As text, with the bytes that are no ASCII escaped.
impl fmt::Debug for FieldLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_are_those_that_httparse_finds(
            lines in prop::collection::vec(
                ("[!-9;-~]{1,9}", "[ \t]{0,2}[ -~\t\u{e9}]{0,12}"),
                0..9,
            ),
        ) {
            let mut section = String::new();
            for (name, value) in &lines {
                section += &format!("{}:{value}\r\n", name.replace(|c| !is_token(c), "x"));
            }
            let fields = FieldLines::new(section.as_bytes());
            let whole = format!("{section}\r\n");
            let mut table = [httparse::EMPTY_HEADER; 9];
            let parsed = httparse::parse_headers(whole.as_bytes(), &mut table).unwrap();
            let (_, expected) = parsed.unwrap();
            let expected: Vec<_> =
                expected.iter().map(|field| (field.name, field.value)).collect();
            let found: Vec<_> =
                fields.iter().map(|field| (field.name_as_str(), field.value)).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(fields.section_bytes(), whole.len());
            for (name, _) in &expected {
                let same = expected.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
                let values: Vec<_> = same.map(|(_, value)| *value).collect();
                prop_assert_eq!(fields.values(&name.to_uppercase()).collect::<Vec<_>>(), values);
            }
        }
    }

    #[test]
    fn what_is_no_name_finds_no_field() {
        let fields = FieldLines::new(b"Name: a: b\r\n");
        for no_name in ["", "Nam", "Name: a", "Name:", "ame"] {
            assert_eq!(fields.values(no_name).next(), None, "{no_name}");
        }
        assert_eq!(fields.values("nAME").next(), Some(&b"a: b"[..]));
    }

    proptest! {
        #[test]
        fn fields_of_an_accepted_section_are_those_that_httparse_finds(
            bytes in prop::collection::vec(
                prop::sample::select(b"ab:\r\n\r\n \t\x0b\x0c\x00\x7f\xe9\x85,".to_vec()),
                0..40,
            ),
            is_ended in any::<bool>(),
        ) {
            let mut section = bytes;
            if is_ended {
                section.extend_from_slice(b"\r\n\r\n");
            }
            let mut table = [httparse::EMPTY_HEADER; 64];
            let accepted = crate::http::head::Framing::read(&section);
            if let Ok((_, fields)) = accepted {
                let parsed = httparse::parse_headers(&section, &mut table).unwrap();
                let (length, expected) = parsed.unwrap();
                let expected: Vec<_> =
                    expected.iter().map(|field| (field.name, field.value)).collect();
                let found: Vec<_> =
                    fields.iter().map(|field| (field.name_as_str(), field.value)).collect();
                prop_assert_eq!(found, expected);
                prop_assert_eq!(fields.section_bytes(), length);
            }
        }
    }

    #[test]
    fn field_lines_are_shown_with_each_byte_escaped_once() {
        let fields = FieldLines::new(b"A: \"\xe9\"\r\n");
        assert_eq!(format!("{fields:?}"), r#""A: \"\xe9\"\r\n""#);
    }

    fn is_token(character: char) -> bool {
        u8::try_from(character).is_ok_and(crate::http::field::is_token_byte)
    }
}
