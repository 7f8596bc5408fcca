//! The "Shown by" columns of docs/pitfalls.md and docs/http.md: what the marks in the tests give.
//!
//! `scripts/shown-by` does the work. It is tried here on a small tree, too: each fault is reported
//! with its file and line, and no column is written while there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::files::{read, root};

/// Runs the script of the tree at `tree`.
fn shown_by(tree: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.arg(tree.join("scripts/shown-by")).args(arguments);
    command.output().unwrap_or_else(|error| panic!("python3, which the tests need: {error}"))
}

#[track_caller]
fn check_faults(output: &Output, faults: &[&str]) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed.lines().collect::<Vec<_>>(), faults);
    assert_eq!(output.status.success(), faults.is_empty());
}

#[test]
fn shown_by_columns_are_what_the_marks_give() {
    check_faults(&shown_by(root(), &["--check"]), &[]);
}

/// A tree with two pages of the rows that are given and one file of tests. Dropping it removes it.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str, pitfalls: &str, rules: &str, tests: &[&str]) -> Tree {
        let tree = Tree(std::env::temp_dir().join(format!("{name}-{}", std::process::id())));
        let table = |rows: &str| format!("| # | What | Shown by |\n| --- | --- | --- |\n{rows}\n");
        tree.write("scripts/shown-by", &read("scripts/shown-by"));
        tree.write("docs/pitfalls.md", &table(pitfalls));
        tree.write("docs/http.md", &table(rules));
        tree.write("tests/a.rs", &tests.join("\n"));
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("it is made");
        fs::write(path, text).expect("the file is written");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).expect("the file is there")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // one that stays behind harms no other run
    }
}

#[test]
fn marks_become_files_and_tests_and_dashes_stay() {
    let tests = [
        "// pitfall: 2",
        "// rule: a-b",
        "#[test]",
        "fn one() {}",
        "",
        "// pitfall: 2, 7",
        "#[cfg(unix)]",
        "#[test]",
        "fn two() {}",
    ];
    let rows = "| 7 | x. | old |\n| 2 | y. | old |\n| 3 | No. | – |";
    let tree = Tree::new("shown-by-marks", rows, "| `a-b` | z. | old |", &tests);
    tree.write("benches/b.rs", "//! A benchmark.\n\n// pitfall: 2\nfn main() {}\n");
    let stale = ["docs/pitfalls.md:3", "docs/pitfalls.md:4", "docs/http.md:3"];
    let output = shown_by(&tree.0, &["--check"]);
    let printed = String::from_utf8_lossy(&output.stderr);
    let places = printed.lines().map(|line| line.split(": row").next().expect("a first part"));
    assert_eq!(places.collect::<Vec<_>>(), stale);

    check_faults(&shown_by(&tree.0, &[]), &[]);
    assert!(tree.read("docs/pitfalls.md").ends_with(
        "| 7 | x. | `tests/a.rs` → `two` |\n\
         | 2 | y. | `benches/b.rs`; `tests/a.rs` → `one`, `two` |\n\
         | 3 | No. | – |\n"
    ));
    assert!(tree.read("docs/http.md").ends_with("| `a-b` | z. | `tests/a.rs` → `one` |\n"));
    check_faults(&shown_by(&tree.0, &["--check"]), &[]);
}

#[test]
fn faulty_marks_and_rows_are_reported_with_file_and_line() {
    let tests = [
        "// pitfall: 1, 5",
        "#[test]",
        "fn one() {}",
        "",
        "// rule: a-b",
        "fn helper() {}",
        "",
        "// Pitfall 1",
        "#[test]",
        "fn two() {}",
    ];
    let pitfalls = "| 1 | x. | old |\n| 2 | y. | `tests/a.rs` → `gone` |\n| 1 | z. | old |";
    let tree = Tree::new("shown-by-faults", pitfalls, "| `a-b` | z. | old |", &tests);
    let faults = [
        "tests/a.rs:5: this mark stands above no test",
        "tests/a.rs:8: a mark has the form `// pitfall: 3, 17` or `// rule: key`",
        "docs/pitfalls.md:4: no mark names row 2",
        "docs/pitfalls.md:5: there are two rows 1",
        "docs/http.md:3: no mark names row a-b",
        "tests/a.rs:1: docs/pitfalls.md has no row 5",
    ];
    let before = tree.read("docs/pitfalls.md");
    check_faults(&shown_by(&tree.0, &[]), &faults);
    assert_eq!(tree.read("docs/pitfalls.md"), before, "nothing is written");
}
