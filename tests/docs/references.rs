//! Paths, links, items, dependencies and terms that the documents name.

use std::collections::BTreeSet;

use super::files::{documents, read, root};
use super::markdown::{bold_at_line_start, quoted, rows, without_backticks};

#[test]
fn every_path_and_link_in_a_document_exists() {
    const DIRECTORIES: [&str; 5] = ["src/", "docs/", "tests/", "scripts/", "benches/"];
    let mut checked = 0;
    for (document, text) in documents() {
        for (name, _) in quoted(&text) {
            if DIRECTORIES.iter().any(|directory| name.starts_with(directory)) {
                assert!(
                    root().join(name).exists(),
                    "{document} names {name}, which does not exist"
                );
                checked += 1;
            }
        }
        let folder = root().join(&document).parent().expect("a file has a folder").to_path_buf();
        let targets = text.split("](").skip(1).map(|from| from.split(')').next().unwrap_or(""));
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { root().join(&document) } else { folder.join(file) };
            assert!(path.exists(), "{document} links to {target}, which does not exist");
            if !anchor.is_empty() {
                let page = std::fs::read_to_string(&path).expect("a page with sections is text");
                // A page in HTML has a list of recordings (docs/book/turn.html).
                let is_recording = page.contains(&format!("{{\"id\": \"{anchor}\", "));
                assert!(
                    is_recording || anchors(&page).any(|heading| heading == anchor),
                    "{document} links to the section {target}, which does not exist"
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "the form of the quotations has not changed: {checked} found");
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> impl Iterator<Item = String> {
    let headings = page.lines().filter(|line| line.starts_with("##"));
    headings.map(|line| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn every_item_placed_in_a_file_is_defined_there() {
    let mut checked = 0;
    for (document, text) in documents() {
        // A pair may be broken between two lines.
        let text = text
            .split("```")
            .step_by(2)
            .flat_map(str::split_whitespace)
            .collect::<Vec<_>>()
            .join(" ");
        for (file, behind) in quoted(&text) {
            let Some(name) = behind.strip_prefix(" → `").and_then(|from| from.split('`').next())
            else {
                continue;
            };
            assert!(
                defines(&read(file), name),
                "{document} says that {name} is in {file}, where it is not defined"
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "the form of the quotations has not changed: {checked} found");
}

/// Returns whether `source` defines a function, constant or type of that name.
fn defines(source: &str, name: &str) -> bool {
    ["fn", "const", "struct", "enum", "trait"].iter().any(|kind| {
        let definition = format!("{kind} {name}");
        let mut ends =
            source.match_indices(&definition).map(|(at, _)| &source[at + definition.len()..]);
        ends.any(|behind| !behind.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
    })
}

#[test]
fn glossary_words_are_used_by_their_owner_files() {
    let glossary = read("docs/glossary.md");
    let mut words = BTreeSet::new();
    for row in rows(&glossary) {
        let [word, meaning, _, owner] = row[..] else { panic!("a row has four cells: {row:?}") };
        assert!(words.insert(word), "{word} has one meaning");
        assert!(meaning.ends_with('.'), "{word} is explained in a sentence");
        let owner = without_backticks(owner, word);
        assert!(
            read(owner).to_lowercase().contains(&word.to_lowercase()),
            "{owner} does not use its word {word}"
        );
    }
    assert!(words.len() >= 30, "the form of the table has not changed");
}

#[test]
fn standard_terms_occur_on_the_pages_that_readers_search() {
    const TERMS: [&str; 15] = [
        "edge-triggered",
        "level-triggered",
        "readiness",
        "EAGAIN",
        "run queue",
        "timer",
        "timeout",
        "callback",
        "watermark",
        "backpressure",
        "backlog",
        "graceful stop",
        "eviction",
        "GSO",
        "self-pipe",
    ];
    for page in ["README.md", "docs/architecture.md", "docs/glossary.md"] {
        let text = read(page).split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        for term in TERMS {
            assert!(text.contains(&term.to_lowercase()), "{page} does not use the term {term}");
        }
    }
}

#[test]
fn every_page_says_for_whom_it_is_and_how_long_it_takes() {
    for (document, text) in documents() {
        let top = text.split("\n## ").next().expect("a split has a first part");
        let says_for_whom = top.lines().any(|line| line.starts_with("For "));
        let says_how_long = top.contains("minute") || top.contains("hour");
        assert!(says_for_whom && says_how_long, "{document} says so above its first section");
    }
}

#[test]
fn every_dependency_has_a_paragraph() {
    let page = read("docs/dependencies.md");
    let paragraphs: BTreeSet<&str> = bold_at_line_start(&page, "").into_iter().collect();
    let mut dependencies = BTreeSet::new();
    let mut is_listing = false;
    let manifest = read("Cargo.toml");
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_listing = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| is_listing) {
            dependencies.insert(name);
        }
    }
    assert_eq!(paragraphs, dependencies);
}

#[test]
fn changelog_has_a_section_for_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading));
    assert!(read("LICENSE").starts_with(&format!("{} License\n", env!("CARGO_PKG_LICENSE"))));
}
