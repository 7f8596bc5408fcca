//! Reads the files of the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages at the top level that quote code. (CHANGELOG.md quotes what the code was.)
const TOP_LEVEL: [&str; 3] = ["README.md", "CONTRIBUTING.md", "SECURITY.md"];

/// Returns the documents that quote code: those at the top level, the pages in `docs` itself, and
/// those of the book.
pub(super) fn documents() -> BTreeMap<String, String> {
    let pages = files_below("docs")
        .into_iter()
        .filter(|path| path.ends_with(".md") && !path.ends_with("/SUMMARY.md"))
        .filter(|path| path.matches('/').count() == 1 || path.starts_with("docs/book/"));
    let top_level = TOP_LEVEL.map(str::to_owned);
    let documents: BTreeMap<String, String> =
        pages.chain(top_level).map(|path| (path.clone(), read(&path))).collect();
    assert!(documents.len() >= 4, "the README, the architecture, the design, the glossary");
    documents
}

/// Returns all files below `directory`, as paths from the root with `/` between their parts.
pub(super) fn files_below(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("the directory can be read") {
            let entry = entry.expect("its entries can be read");
            let path = directory.join(entry.file_name());
            if entry.path().is_dir() {
                directories.push(path);
            } else {
                files.push(path.to_str().expect("the names are ASCII").replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

/// Returns the source files that the code map lists: all but those that hold only tests.
pub(super) fn source_files() -> Vec<String> {
    files_below("src")
        .into_iter()
        .filter(|path| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .collect()
}
