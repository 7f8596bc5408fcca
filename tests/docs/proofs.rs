//! The tests that docs/pitfalls.md and docs/http.md name, and the changes that docs/mutations.md
//! makes.

use std::collections::BTreeSet;

use super::files::read;
use super::markdown::{blocks, bold_at_line_start, rows, section, without_backticks};

/// Returns the source of each test that a cell names, up to the next test. There is at least one,
/// and each exists.
fn tests_named(cell: &str, place: &str) -> Vec<String> {
    let mut tests = Vec::new();
    for proof in cell.split(", ").filter(|proof| *proof != "*simulation*") {
        let (file, test) =
            proof.split_once(" → ").unwrap_or_else(|| panic!("{place}: {proof:?} is no test"));
        let (file, test) = (without_backticks(file, place), without_backticks(test, place));
        let source = read(file);
        let definition = format!("fn {test}(");
        let (before, body) = source
            .split_once(&definition)
            .unwrap_or_else(|| panic!("{place}: {file} has no {test}"));
        // Its attributes and its own comment stand right above it, behind an empty line.
        let above = before.rsplit("\n\n").next().expect("a split has a first part");
        assert!(above.contains("#[test]"), "{place}: {test} in {file} is no test");
        tests.push(body.split("#[test]").next().expect("a split has a first part").to_owned());
    }
    assert!(!tests.is_empty(), "{place} names no test");
    tests
}

#[test]
fn every_pitfall_names_tests_that_exist() {
    let pitfalls = read("docs/pitfalls.md");
    let (mut number, mut tests) = (0, 0);
    for part in pitfalls.split("\n## ").skip(1) {
        for row in rows(part) {
            let [cell, pitfall, answer, shown_by] = row[..] else {
                panic!("a row has four cells: {row:?}")
            };
            number += 1;
            assert_eq!(cell, number.to_string(), "the rows are numbered");
            assert!(
                pitfall.ends_with('.') && answer.ends_with('.'),
                "row {number} is made of sentences"
            );
            if shown_by != "–" {
                tests += tests_named(shown_by, &format!("docs/pitfalls.md, row {number}")).len();
            }
        }
    }
    assert!(
        number > 80 && tests > 120,
        "the form of the table has not changed: {number} rows, {tests} tests"
    );
}

#[test]
fn every_http_rule_has_tests_that_name_its_section() {
    let page = read("docs/http.md");
    let (mut rules, mut tests) = (0, 0);
    for part in page.split("\n## ").skip(1).filter(|part| part.contains("\n| What is asked |")) {
        for row in rows(part) {
            let [rule, source, answer, shown_by] = row[..] else {
                panic!("a row has four cells: {row:?}")
            };
            assert!(
                rule.ends_with('.') && answer.ends_with(['.', ')']),
                "{rule:?} is made of sentences"
            );
            let shown = tests_named(shown_by, rule);
            for section in source.split(", ").filter(|source| *source != "–") {
                let words: Vec<&str> = section.split(' ').collect();
                let ["RFC", document, sections @ ..] = &words[..] else {
                    panic!("{rule:?}: {section:?} is no source")
                };
                let section = sections.first().copied().unwrap_or_default();
                let is_named = shown.iter().any(|test| names_section(test, document, section));
                assert!(is_named, "{rule:?}: no test names RFC {document} {section}");
            }
            rules += 1;
            tests += shown.len();
        }
    }
    assert!(
        rules > 60 && tests > 90,
        "the form of the tables has not changed: {rules} rules, {tests} tests"
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
    let names = script
        .lines()
        .filter(|line| line.starts_with("EMPTY_LINE, ") || line.starts_with("EXPECTATION, "));
    let accepted: BTreeSet<&str> =
        names.flat_map(|line| line.split('"').skip(1).step_by(2)).collect();
    assert_eq!(listed, accepted);
}

#[test]
fn every_mutation_can_be_applied() {
    let page = read("docs/mutations.md");
    let mutations = blocks(&page, "mutation");
    assert!(mutations.len() >= 12, "the form of the page has not changed");
    for mutation in mutations {
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
    }
}
