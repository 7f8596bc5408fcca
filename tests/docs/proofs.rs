//! The rows of docs/pitfalls.md and docs/http.md, and the changes that docs/mutations.md makes.

use std::collections::BTreeSet;
use std::process::Command;

use super::files::{files_below, read};
use super::markdown::{bold_at_line_start, rows, section, without_backticks};

/// Returns the text of each proof in a cell that scripts/shown-by has written: of a test its
/// source, up to the next test, and of a file without tests the whole.
fn proofs(cell: &str, row: &str) -> Vec<String> {
    let mut proofs = Vec::new();
    for part in cell.split("; ") {
        let (file, tests) = part.split_once(" → ").unwrap_or((part, ""));
        let source = read(without_backticks(file, row));
        for test in tests.split(", ").filter(|test| !test.is_empty()) {
            let definition = format!("fn {}(", without_backticks(test, row));
            let (_, body) = source
                .split_once(&definition)
                .unwrap_or_else(|| panic!("row {row}: {file} has no {test}"));
            proofs.push(body.split("#[test]").next().expect("a split has a first part").to_owned());
        }
        if tests.is_empty() {
            proofs.push(source);
        }
    }
    proofs
}

#[test]
fn pitfall_rows_have_a_number_and_whole_sentences() {
    let page = read("docs/pitfalls.md");
    let (mut count, mut shown) = (0, 0);
    for part in page.split("\n## ").skip(1) {
        for row in rows(part) {
            let [number, pitfall, answer, shown_by] = row[..] else {
                panic!("a row has four cells: {row:?}")
            };
            assert!(number.parse::<u32>().is_ok(), "{number:?} is no number");
            assert!(
                pitfall.ends_with('.') && answer.ends_with('.'),
                "row {number} is made of sentences"
            );
            count += 1;
            shown += if shown_by == "–" { 0 } else { proofs(shown_by, number).len() };
        }
    }
    assert!(
        count > 80 && shown > 120,
        "the form of the tables has not changed: {count} rows, {shown} proofs"
    );
}

#[test]
fn every_http_rule_has_tests_that_name_its_section() {
    let page = read("docs/http.md");
    let (mut count, mut shown) = (0, 0);
    for part in page.split("\n## ").skip(1).filter(|part| part.contains("\n| Rule |")) {
        for row in rows(part) {
            let [key, rule, source, answer, shown_by] = row[..] else {
                panic!("a row has five cells: {row:?}")
            };
            assert!(
                rule.ends_with('.') && answer.ends_with(['.', ')']),
                "row {key} is made of sentences"
            );
            let proofs = proofs(shown_by, key);
            for section in source.split(", ").filter(|source| *source != "–") {
                let words: Vec<&str> = section.split(' ').collect();
                let ["RFC", document, sections @ ..] = &words[..] else {
                    panic!("row {key}: {section:?} is no source")
                };
                let section = sections.first().copied().unwrap_or_default();
                let is_named = proofs.iter().any(|proof| names_section(proof, document, section));
                assert!(is_named, "row {key}: no test names RFC {document} {section}");
            }
            count += 1;
            shown += proofs.len();
        }
    }
    assert!(
        count > 60 && shown > 90,
        "the form of the tables has not changed: {count} rows, {shown} proofs"
    );
}

/// Returns whether `text` names `section` of RFC `document`, alone or among others, as in
/// `RFC 9112 sections 6.1 and 6.3` or `9110 9.1, 15.5.6`.
fn names_section(text: &str, document: &str, section: &str) -> bool {
    let is_number = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.split('.').all(|part| part.len() <= 2)
    };
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    words.iter().enumerate().filter(|(_, word)| **word == document).any(|(at, _)| {
        let mut sections = words[at + 1..].iter().take_while(|word| {
            is_number(word) || ["", "section", "sections", "and"].contains(*word)
        });
        section.is_empty() || sections.any(|word| *word == section)
    })
}

#[test]
fn every_accepted_parser_difference_is_listed() {
    let page = read("docs/http.md");
    let listed: BTreeSet<&str> =
        bold_at_line_start(section(&page, "Where others disagree"), "- ").into_iter().collect();
    let script = read("scripts/http-differential");
    let starts = ["EMPTY_LINE, ", "EXPECTATION, ", "BEYOND_ASCII = "];
    let names = script.lines().filter(|line| starts.iter().any(|start| line.starts_with(start)));
    let accepted: BTreeSet<&str> =
        names.flat_map(|line| line.split('"').skip(1).step_by(2)).collect();
    assert_eq!(listed, accepted);
}

#[test]
fn every_mutation_can_be_applied_and_names_a_test() {
    const RED: &str = "\n```\n\nGoes red: `cargo test --";
    let page = read("docs/mutations.md");
    let mutations: Vec<&str> = page.split("```mutation\n").skip(1).collect();
    assert_eq!(mutations.len(), 71, "the page is called after their number");
    let tests = files_below("src").into_iter().chain(files_below("tests"));
    let tests: String =
        tests.filter(|path| path.ends_with(".rs")).map(|path| read(&path)).collect();
    for mutation in mutations {
        let (mutation, red) = mutation.split_once(RED).expect("a test stands below each block");
        let (file, lines) =
            mutation.split_once('\n').expect("a mutation begins with a file's name");
        let side = |sign: char| {
            lines
                .lines()
                .filter_map(move |line| line.strip_prefix(sign))
                .flat_map(|line| [line, "\n"])
        };
        let old: String = side('-').collect();
        assert_eq!(read(file).matches(&old).count(), 1, "{file} has these lines once: {old}");
        assert_ne!(old, side('+').collect::<String>(), "a mutation changes something");
        let red = red.split('`').next().expect("a split has a first part");
        let name = red.rsplit([' ', ':']).next().expect("a split has a first part");
        assert!(tests.contains(&format!("fn {name}(")), "{name} is a test");
    }
}

#[test]
fn every_mutation_names_the_row_in_which_a_peer_sees_it_or_a_reason() {
    let page = read("docs/mutations.md");
    let (mut seen, mut unseen) = (0, 0);
    for mutation in page.split("```mutation\n").skip(1) {
        let file = mutation.lines().next().expect("a mutation begins with a file's name");
        let peer = mutation.split("\n\n").nth(2).unwrap_or_default().trim_end();
        if let Some(reason) = peer.strip_prefix("No peer sees it: ") {
            assert!(reason.ends_with('.') && reason.len() > 10, "{file}: {reason:?} is no reason");
            unseen += 1;
            continue;
        }
        let row = peer
            .strip_prefix("A peer sees it: `reactor try ")
            .and_then(|row| row.strip_suffix('`'))
            .and_then(|row| row.split_once("://… --only "));
        let Some((scheme, name)) = row else { panic!("{file}: below its test stands {peer:?}") };
        let mut list = Command::new(env!("CARGO_BIN_EXE_reactor"));
        let list = list.args(["try", &format!("{scheme}://9/"), "--list"]).output();
        let rows = String::from_utf8(list.expect("the program runs").stdout).expect("UTF-8");
        let is_row = rows.lines().any(|line| line.trim().starts_with(&format!("{name}: ")));
        assert!(is_row, "{file}: {name} is no row for {scheme}");
        seen += 1;
    }
    assert!(seen > 10 && unseen > 40, "the form has not changed: {seen} seen, {unseen} unseen");
}
