//! The code map, the picture and the stages in docs/architecture.md.

use super::files::{read, source_files};
use super::markdown::{blocks, bold_at_line_start, rows, section, without_backticks};

#[test]
fn code_map_lists_every_source_file_once() {
    let architecture = read("docs/architecture.md");
    let mut listed: Vec<&str> = rows(section(&architecture, "The code, file by file"))
        .iter()
        .map(|row| without_backticks(row[0], "the code map"))
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, source_files());
}

/// The generated part of a row ends where a sentence of the file's own comment ends. A colon counts
/// as an end, and becomes a period.
#[test]
fn code_map_rows_equal_the_first_sentences_of_their_files() {
    let architecture = read("docs/architecture.md");
    let mut stale = Vec::new();
    for row in rows(section(&architecture, "The code, file by file")) {
        let [file, idea] = row[..] else { panic!("a row has two cells: {row:?}") };
        let source = read(without_backticks(file, "the code map"));
        let lines = source.lines().map_while(|line| line.strip_prefix("//!").map(str::trim));
        let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let sentence = idea.strip_suffix('.').unwrap_or(idea);
        let behind = paragraph.strip_prefix(sentence);
        let ends = |behind: &str| ["", ".", ":"].contains(&behind.split(' ').next().unwrap_or(""));
        if !behind.is_some_and(ends) {
            stale.push(format!("{file}: the map says {idea:?}, the file {paragraph:?}"));
        }
    }
    assert!(stale.is_empty(), "rows differ from their files:\n{}", stale.join("\n"));
}

#[test]
fn pictures_match_the_one_in_the_loops_source() {
    let source = read("src/reactor.rs");
    for document in ["README.md", "docs/architecture.md"] {
        let text = read(document);
        let picture = *blocks(&text, "text").first().expect("the first block is the picture");
        for line in picture.lines() {
            assert!(
                source.contains(&format!("//! {line}\n")),
                "{document} draws {line:?}, and src/reactor.rs does not"
            );
        }
    }
}

#[test]
fn stages_are_described_in_the_order_they_run() {
    let architecture = read("docs/architecture.md");
    let described = bold_at_line_start(section(&architecture, "The turn"), "");
    let source = read("src/reactor.rs");
    let defined: Vec<usize> = described
        .iter()
        .map(|stage| {
            source
                .find(&format!("    fn {stage}(&mut self"))
                .unwrap_or_else(|| panic!("{stage} is a method"))
        })
        .collect();
    assert_eq!(described.len(), 5);
    assert!(defined.is_sorted(), "{described:?} is the order of the methods");
}
