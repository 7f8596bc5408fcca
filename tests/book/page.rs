//! Reads a page of the book: its sections, its quoting blocks, its answers.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the book.
const BOOK: &str = "docs/book";
/// What begins the comment above a quoting block.
const MARK: &str = "<!-- book: ";

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn book() -> PathBuf {
    root().join(BOOK)
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A chapter, or another page of the book.
pub(super) struct Page {
    /// Its path from the root, which failures begin with.
    pub(super) path: String,
    pub(super) text: String,
}

/// A quoting block: the words of its comment, and the lines between its fences.
pub(super) struct Block {
    pub(super) words: Vec<String>,
    pub(super) content: String,
}

impl Page {
    pub(super) fn read(name: &str) -> Page {
        let path = format!("{BOOK}/{name}");
        Page { text: read(&path), path }
    }

    /// Returns all chapters, in their order.
    pub(super) fn chapters() -> Vec<Page> {
        let entries = fs::read_dir(book()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries
            .map(|name| name.into_string().unwrap())
            .filter(|name| name.ends_with(".md") && name.starts_with(|c: char| c.is_ascii_digit()))
            .collect();
        names.sort();
        names.iter().map(|name| Page::read(name)).collect()
    }

    pub(super) fn number(&self) -> usize {
        let name = self.path.rsplit('/').next().unwrap();
        name.split('-').next().unwrap().parse().unwrap()
    }

    /// Returns the headings of its sections.
    pub(super) fn headings(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("## ")).collect()
    }

    pub(super) fn title(&self) -> &str {
        let line = self.text.lines().next().unwrap();
        line.strip_prefix("# ").unwrap_or_else(|| panic!("{}: begins with a title", self.path))
    }

    pub(super) fn section(&self, heading: &str) -> &str {
        let from = self.text.split(&format!("\n## {heading}\n")).nth(1);
        let from = from.unwrap_or_else(|| panic!("{}: there is no {heading:?}", self.path));
        from.split("\n## ").next().unwrap()
    }

    /// Returns its quoting blocks.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        self.rewrite(|block| {
            blocks.push(Block { words: block.words.clone(), content: block.content.clone() });
            block.content
        });
        blocks
    }

    /// Returns its text, with what `make` returns in place of each block's content.
    pub(super) fn rewrite(&self, mut make: impl FnMut(Block) -> String) -> String {
        let mut text = String::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            text.extend([line, "\n"]);
            let Some(words) = line.strip_prefix(MARK) else { continue };
            let words = words.trim_end_matches(" -->").split(' ').map(str::to_owned).collect();
            let fence = lines.next().unwrap_or_default();
            assert!(fence.starts_with("```"), "{}: a block follows {line}", self.path);
            let content = lines.by_ref().take_while(|line| *line != "```");
            let content = content.flat_map(|line| [line, "\n"]).collect();
            text.extend([fence, "\n", &make(Block { words, content }), "```\n"]);
        }
        text
    }

    /// Returns the content of the block with these words.
    pub(super) fn block(&self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let block = self.blocks().into_iter().find(|block| block.words == words);
        block.unwrap_or_else(|| panic!("{}: there is no block {words:?}", self.path)).content
    }

    /// Returns the system calls of a trace, without what the page says about them.
    pub(super) fn calls(&self, scene: &str) -> Vec<String> {
        let block = self.block(&format!("trace {scene}"));
        block.lines().filter(|line| !line.starts_with(' ')).map(str::to_owned).collect()
    }

    /// Compares the answers of the page, which are in bold, with those that a test has computed.
    #[track_caller]
    pub(super) fn check_answers(&self, computed: &[String; 3]) {
        let items = self.section("Answers").lines().filter_map(|line| line.split_once(". **"));
        let answers: Vec<&str> = items.map(|(_, from)| from.split("**").next().unwrap()).collect();
        assert_eq!(answers, *computed, "{}: the answers", self.path);
    }
}
