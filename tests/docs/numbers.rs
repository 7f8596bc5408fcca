//! Reads the numbers of the limits files: name, value and comment, as `docs/limits.md` shows them.
//!
//! The source is read as text, not compiled, so that numbers need not be public to be documented.

use std::collections::BTreeMap;

use super::files::read;

/// A constant, or a field of `Limits`. Constants that share a comment are one entry.
pub(super) struct Number {
    /// The heading that it stands under in its file (`// ---- turns`); empty if there is none.
    pub(super) group: String,
    pub(super) names: Vec<String>,
    /// As people write them: `64 KiB`, `100 ms`, `4,096`.
    pub(super) values: Vec<String>,
    pub(super) is_public_constant: bool,
    /// Its comment, as one paragraph and without links.
    pub(super) comment: String,
}

/// Returns the constants of `file`, in order. `known` has the values of those that were read
/// before, and gets these.
pub(super) fn constants(file: &str, known: &mut BTreeMap<String, u64>) -> Vec<Number> {
    let source = read(file);
    let mut numbers: Vec<Number> = Vec::new();
    let (mut group, mut comment) = (String::new(), String::new());
    for statement in source.split_inclusive('\n').map(str::trim_end) {
        if let Some(heading) = statement.strip_prefix("// ---- ") {
            group = heading.to_owned();
        } else if let Some(line) = statement.strip_prefix("///") {
            comment.push_str(line);
        } else if let Some((visibility, rest)) = statement.split_once("const ") {
            let is_listed = visibility.starts_with("pub") && !rest.starts_with("fn ");
            let Some((name, definition)) = rest.split_once(": ").filter(|_| is_listed) else {
                continue;
            };
            let expression = definition
                .split_once(" = ")
                .and_then(|(_, value)| value.strip_suffix(';'))
                .unwrap_or_else(|| panic!("{file}: {name} is defined on one line"));
            let value = evaluate(expression, known);
            known.insert(name.to_owned(), value);
            let value = written(name, value);
            if comment.is_empty() {
                let shares = numbers.last_mut().expect("the first has a comment of its own");
                shares.names.push(name.to_owned());
                shares.values.push(value);
            } else {
                numbers.push(Number {
                    group: group.clone(),
                    names: vec![name.to_owned()],
                    values: vec![value],
                    is_public_constant: visibility == "pub ",
                    comment: plain(&std::mem::take(&mut comment)),
                });
            }
        } else {
            comment.clear();
        }
    }
    numbers
}

/// Returns the fields of `Limits`, with their defaults.
pub(super) fn fields() -> Vec<Number> {
    let source = read("src/limits.rs");
    let between = |start: &str, end: &str| {
        let from = source.split(start).nth(1).unwrap_or_else(|| panic!("there is {start:?}"));
        from.split(end).next().expect("a split has a first part").to_owned()
    };
    let defaults = between("        Limits {\n", "        }\n");
    let mut numbers = Vec::new();
    let mut comment = String::new();
    for line in between("pub struct Limits {\n", "\n}").lines().map(str::trim) {
        if let Some(line) = line.strip_prefix("///") {
            comment.push_str(line);
        } else if let Some((name, _)) =
            line.strip_prefix("pub ").and_then(|field| field.split_once(": "))
        {
            let default = defaults
                .lines()
                .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "))
                .and_then(|default| default.strip_suffix(','))
                .unwrap_or_else(|| panic!("{name} has a default on one line"));
            let inside = |start: &str, end: char| {
                default.strip_prefix(start).and_then(|default| default.strip_suffix(end))
            };
            let value = if let Some(list) = inside("vec![", ']') {
                let (others, last) = list.rsplit_once(", ").expect("several");
                format!("{others} and {last}")
            } else if let Some(seconds) = inside("Duration::from_secs(", ')') {
                written("seconds", evaluate(seconds, &BTreeMap::new()))
            } else {
                written(name, evaluate(default, &BTreeMap::new()))
            };
            numbers.push(Number {
                group: String::new(),
                names: vec![name.to_owned()],
                values: vec![value],
                is_public_constant: false,
                comment: plain(&std::mem::take(&mut comment)),
            });
        }
    }
    numbers
}

/// Returns the value of a product of numbers and constants.
fn evaluate(expression: &str, known: &BTreeMap<String, u64>) -> u64 {
    let factors = expression.split(" * ").map(|factor| {
        let digits = factor.replace('_', "");
        digits.parse().ok().or_else(|| known.get(factor).copied())
    });
    factors
        .map(|factor| factor.unwrap_or_else(|| panic!("{expression:?} is a product of numbers")))
        .product()
}

/// Returns `value` as people write it, in the unit that its name says.
fn written(name: &str, value: u64) -> String {
    let has = |unit: &str| name.to_lowercase().split('_').any(|word| word == unit);
    match value {
        _ if has("ns") && value.is_multiple_of(1_000_000_000) => {
            format!("{} s", grouped(value / 1_000_000_000))
        }
        _ if has("ms") && value >= 1000 && value.is_multiple_of(1000) => {
            format!("{} s", grouped(value / 1000))
        }
        _ if has("ms") => format!("{} ms", grouped(value)),
        _ if has("seconds") => format!("{} s", grouped(value)),
        _ if has("bytes") && value > 0 && value.is_multiple_of(1 << 20) => {
            format!("{} MiB", grouped(value >> 20))
        }
        _ if has("bytes") && value > 0 && value.is_multiple_of(1 << 10) => {
            format!("{} KiB", grouped(value >> 10))
        }
        _ if has("bytes") => format!("{} bytes", grouped(value)),
        _ => grouped(value),
    }
}

/// Returns `value` with a comma between thousands.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut written = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// Returns a comment as one paragraph, with each link replaced by its text.
fn plain(comment: &str) -> String {
    let mut text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some((before, from)) = text.split_once("[`") {
        let (name, after) = from.split_once("`]").expect("a link is closed");
        let after = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').expect("a target is closed").1,
            None => after,
        };
        text = format!("{before}`{name}`{after}");
    }
    text
}

#[test]
fn numbers_are_written_in_the_unit_of_their_name() {
    for (name, value, expected) in [
        ("A_BYTES_MAX", 1024, "1 KiB"),
        ("A_BYTES_MAX", 1232, "1,232 bytes"),
        ("A_BYTES_PER_TURN", 8 << 20, "8 MiB"),
        ("idle_timeout_ms", 60_000, "60 s"),
        ("A_MS", 1500, "1,500 ms"),
        ("A_NS_MAX", 3_600_000_000_000, "3,600 s"),
        ("BACKLOG", 4096, "4,096"),
        ("A_MAX", 1_000_000, "1,000,000"),
        ("TASKS", 999, "999"),
    ] {
        assert_eq!(written(name, value), expected, "{name}");
    }
    let known = BTreeMap::from([("A".to_owned(), 3)]);
    assert_eq!(evaluate("4 * A * 1_000", &known), 12_000);
    assert_eq!(plain(" See [`A`](crate::A)\n and [`B`]."), "See `A` and `B`.");
}
