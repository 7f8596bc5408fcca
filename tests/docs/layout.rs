//! Two files fit beside each other on a screen, and each can be read in one sitting. So can the
//! pages that are read first.

use super::files::{files_below, read};

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 450;

/// The pages that are read first, and the most lines that each may have.
const PAGES: [(&str, usize); 2] = [("README.md", 110), ("docs/architecture.md", 120)];

/// Files that may be wider or longer, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("docs/book/programs/14_crowds.rs", WHOLE),
    ("docs/book/broken/14_crowds.rs", WHOLE),
    ("docs/book/solutions/13_keep_alive.rs", WHOLE),
    ("docs/book/solutions/14_full.rs", WHOLE),
];
const WHOLE: &str =
    "each program of the book is whole, and is read as a difference to the last one";

#[test]
fn code_stays_within_100_columns_and_450_lines() {
    let rust = ["src", "tests", "benches", "docs/examples", "docs/book"].map(files_below).concat();
    let rust = rust.into_iter().filter(|path| path.ends_with(".rs"));
    let scripts = files_below("scripts").into_iter().filter(|path| !path.contains("__pycache__"));
    let mut found = Vec::new();
    for path in rust.chain(scripts) {
        if EXCEPTIONS.iter().any(|(file, _)| *file == path) {
            continue;
        }
        let text = read(&path);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{path}: {lines} lines"));
        }
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                found.push(format!("{path}:{}: {columns} columns", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{} too wide or too long:\n{}", found.len(), found.join("\n"));
}

#[test]
fn pages_that_are_read_first_stay_short() {
    for (page, lines_max) in PAGES {
        let lines = read(page).lines().count();
        assert!(lines <= lines_max, "{page}: {lines} lines; move some to another page");
    }
}
