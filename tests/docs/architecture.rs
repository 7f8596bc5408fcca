//! The picture and the stages in docs/architecture.md, and the code map in docs/code-map.md.

use super::files::{read, source_files};
use super::markdown::{blocks, bold_at_line_start, rows, section, without_backticks};

/// The rows of the code map: file and idea.
fn code_map(page: &str) -> Vec<(&str, &str)> {
    let rows = rows(section(page, "The code, file by file"));
    let pairs = rows.iter().map(|row| match row[..] {
        [file, idea] => (without_backticks(file, "the code map"), idea),
        _ => panic!("a row has two cells: {row:?}"),
    });
    pairs.collect()
}

/// Returns the first sentence of the comment that `file` begins with.
fn first_sentence(file: &str) -> String {
    let source = read(file);
    let lines = source.lines().map_while(|line| line.strip_prefix("//!").map(str::trim));
    let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |at| at + 1);
    paragraph[..end].to_owned()
}

#[test]
fn code_map_lists_every_source_file_once() {
    let page = read("docs/code-map.md");
    let listed: Vec<&str> = code_map(&page).into_iter().map(|(file, _)| file).collect();
    let files = source_files();
    let mut faults = Vec::new();
    for file in &files {
        match listed.iter().filter(|listed| *listed == file).count() {
            0 => faults.push(format!("add the row: | `{file}` | {} |", first_sentence(file))),
            1 => {}
            _ => faults.push(format!("{file} has several rows")),
        }
    }
    let gone = listed.iter().filter(|listed| !files.iter().any(|file| file == *listed));
    faults.extend(gone.map(|file| format!("{file} does not exist: remove its row")));
    assert!(faults.is_empty(), "docs/code-map.md:\n{}", faults.join("\n"));
}

/// A row may end before the sentence does, where a colon stands. The colon becomes a period.
#[test]
fn code_map_rows_equal_the_first_sentences_of_their_files() {
    let page = read("docs/code-map.md");
    let mut stale = Vec::new();
    for (file, idea) in code_map(&page) {
        let sentence = first_sentence(file);
        let behind = sentence.strip_prefix(idea.strip_suffix('.').unwrap_or(idea));
        if !behind
            .is_some_and(|behind| behind == "." || behind.is_empty() || behind.starts_with(": "))
        {
            stale.push(format!("{file}: the map says {idea:?}, the file {sentence:?}"));
        }
    }
    assert!(
        stale.is_empty(),
        "docs/code-map.md, rows differ from their files:\n{}",
        stale.join("\n")
    );
}

#[test]
fn picture_matches_the_one_in_the_loops_source() {
    let source = read("src/reactor.rs");
    let text = read("docs/architecture.md");
    let picture = *blocks(&text, "text").first().expect("the first block is the picture");
    for line in picture.lines() {
        assert!(
            source.contains(&format!("//! {line}\n")),
            "docs/architecture.md draws {line:?}, and src/reactor.rs does not"
        );
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
