//! Numbers that the documents quote, and the page that lists all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::fs;

use super::files::{documents, read, root};
use super::markdown::quoted;
use super::numbers::{Number, constants, fields};

/// The files of constants, each with its heading in docs/limits.md, in an order in which each uses
/// only numbers of those before it.
const FILES: [(&str, &str); 6] = [
    ("src/limits.rs", "The reactor"),
    ("src/overload_limits.rs", "Overload"),
    ("src/http/limits.rs", "HTTP"),
    ("src/http/files/limits.rs", "Files over HTTP"),
    ("src/bin/reactor/blast/limits.rs", "The load generator"),
    ("src/bin/reactor/trial/limits.rs", "The hostile peer"),
];

/// Names in capitals that are no limits: an environment variable, and socket options.
const NOT_LIMITS: [&str; 7] = [
    "IPV6_V6ONLY",
    "RUST_LOG",
    "TCP_KEEPCNT",
    "TCP_KEEPIDLE",
    "TCP_KEEPINTVL",
    "UDP_GRO",
    "UDP_SEGMENT",
];

const PAGE: &str = "docs/limits.md";

/// What stands above the first heading of the page is written by hand, the rest is made here.
#[test]
fn limits_page_lists_every_number_of_the_source() {
    let page = read(PAGE);
    let top = page.split("\n## ").next().expect("a split has a first part");
    let mut expected = format!("{}\n", top.trim_end());
    expected += "\n## What an operator may change\n\n";
    expected += "The fields of `Limits` in `src/limits.rs`, with their defaults.\n";
    expected += &table(&fields());
    let mut known = BTreeMap::new();
    for (file, heading) in FILES {
        let numbers = constants(file, &mut known);
        assert!(numbers.len() >= 5, "the form of {file} has not changed");
        write!(expected, "\n## {heading}\n\nThe constants of `{file}`.\n").expect("a string grows");
        for group in numbers.chunk_by(|one, next| one.group == next.group) {
            if let Some(name) = Some(&group[0].group).filter(|name| !name.is_empty()) {
                let (first, rest) = name.split_at(1);
                write!(expected, "\n### {}{rest}\n", first.to_uppercase()).expect("a string grows");
            }
            expected += &table(group);
        }
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(root().join(PAGE), &expected).expect("the page can be written");
    }
    let stale = expected.lines().find(|line| !page.lines().any(|of_page| of_page == *line));
    assert!(
        page == expected,
        "{PAGE} differs from the source, first in {stale:?}: UPDATE_DOCS=1 cargo test --test docs \
         makes it again"
    );
}

fn table(numbers: &[Number]) -> String {
    let mut table = "\n| Name | Value | What it bounds, why, and what happens at it |\n".to_owned();
    table += "| --- | --- | --- |\n";
    for number in numbers {
        let names: Vec<String> = number.names.iter().map(|name| format!("`{name}`")).collect();
        let public = if number.is_public_constant { " (public)" } else { "" };
        let values = number.values.join(", ");
        let (names, comment) = (names.join(", "), &number.comment);
        assert!(!comment.contains('|'), "{names}: a bar would end the cell");
        writeln!(table, "| {names}{public} | {values} | {comment} |").expect("a string grows");
    }
    table
}

#[test]
fn every_quoted_limit_has_its_value() {
    let mut known = BTreeMap::new();
    let constants = FILES.iter().flat_map(|(file, _)| constants(file, &mut known));
    let numbers: Vec<Number> = fields().into_iter().chain(constants).collect();
    let pairs = numbers.iter().flat_map(|number| number.names.iter().zip(&number.values));
    let values: BTreeMap<&str, &str> =
        pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut checked = BTreeSet::new();
    for (document, text) in documents() {
        for (name, behind) in quoted(&text) {
            let is_variable = name.starts_with("REACTOR_"); // options.rs checks these
            if is_constant(name) && !is_variable && !NOT_LIMITS.contains(&name) {
                assert!(values.contains_key(name), "{document} names {name}, which is no limit");
            }
            // The value may stand on the next line.
            let behind = behind.split_once('(').filter(|(between, _)| between.trim().is_empty());
            let value = behind.and_then(|(_, from)| from.split(')').next());
            if let Some(value) =
                value.filter(|value| value.starts_with(|c: char| c.is_ascii_digit()))
            {
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                let true_value = values.get(name).copied();
                assert_eq!(Some(value.as_str()), true_value, "{document} quotes {name}");
                checked.insert(name.to_owned());
            }
        }
    }
    assert!(checked.len() > 10, "the form of the quotations has not changed: {checked:?}");
}

fn is_constant(name: &str) -> bool {
    name.trim_matches('_').contains('_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
