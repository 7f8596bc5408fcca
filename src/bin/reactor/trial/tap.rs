//! What a trial prints: the Test Anything Protocol, version 14 (testanything.org).
//!
//! ```text
//!     ok 1 - echo: a message comes back byte for byte
//!     not ok 2 - half-close: …
//!       ---                     a block of YAML
//!       expected: "…"
//!       ...
//!     ok 3 - port-zero: … # SKIP the reason
//! ```
//!
//! Invariant: each row is written when it is over, and what a server has sent appears quoted. So it
//! can neither forge a row nor control the terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::row::{Fault, Row};

/// What the version line and the plan say of rows that follow.
pub(super) fn write_head(out: &mut impl Write, target: &str, rows: usize) -> io::Result<()> {
    let target = crate::cli::escape_controls(target);
    out.write_all(format!("TAP version 14\n1..{rows}\n# {target}\n").as_bytes())
}

/// Writes one row as one write.
pub(super) fn write_row(
    out: &mut impl Write,
    number: usize,
    row: &Row,
    result: &Result<(), Fault>,
) -> io::Result<()> {
    out.write_all(row_text(number, row, result).as_bytes())
}

fn row_text(number: usize, row: &Row, result: &Result<(), Fault>) -> String {
    let Row { name, proves, source, chapter, .. } = row;
    match result {
        Ok(()) => format!("ok {number} - {name}: {proves}\n"),
        Err(Fault::Skipped(why)) => {
            let why = crate::cli::escape_controls(why);
            format!("ok {number} - {name}: {proves} # SKIP {why}\n")
        }
        Err(Fault::Failed { expected, came }) => {
            let mut text = format!("not ok {number} - {name}: {proves}\n  ---\n");
            let lines = [
                ("expected", expected.as_str()),
                ("came", came),
                ("source", source),
                ("chapter", chapter.title()),
            ];
            for (key, value) in lines {
                let _ = writeln!(text, "  {key}: {}", yaml_string(value));
            }
            text + "  ...\n"
        }
    }
}

/// Returns `text` as a double-quoted scalar of YAML, which a string of JSON is (YAML 1.2 section
/// 5.7).
fn yaml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::row::Chapter;
    use super::*;

    const ROW: Row = Row {
        name: "name",
        proves: "it is so",
        source: "RFC 862",
        chapter: Chapter::OneClient,
        bound_ms: 1,
        check: |_| Ok(()),
    };

    #[test]
    fn row_is_ok_or_skipped_or_not_ok_with_a_block() {
        assert_eq!(row_text(1, &ROW, &Ok(())), "ok 1 - name: it is so\n");
        let skipped = Err(Fault::Skipped("no root\nok 7".to_string()));
        assert_eq!(row_text(2, &ROW, &skipped), "ok 2 - name: it is so # SKIP no root\\nok 7\n");
        let failed = Err(Fault::failed("a \"b\"", "c\nnot ok 9"));
        assert_eq!(
            row_text(3, &ROW, &failed),
            "not ok 3 - name: it is so\n  ---\n  expected: \"a \\\"b\\\"\"\n  \
             came: \"c\\nnot ok 9\"\n  source: \"RFC 862\"\n  \
             chapter: \"1, One client at a time\"\n  ...\n"
        );
    }
}
