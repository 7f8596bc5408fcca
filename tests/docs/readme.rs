//! The README's commands, addresses and example, and the options on the pages for operators.

use std::collections::BTreeSet;

use super::files::{files_below, read};
use super::markdown::blocks;

/// The source of the command line.
fn cli() -> String {
    let files = files_below("src/bin/reactor");
    let files = files.iter().filter(|path| path.starts_with("src/bin/reactor/cli"));
    files.map(|path| read(path)).collect()
}

#[test]
fn readme_begins_with_the_two_commands() {
    let readme = read("README.md");
    assert_eq!(blocks(&readme, "sh").first(), Some(&"cargo run --release\ncargo test\n"));
    assert!(
        readme.contains(&format!("Rust {} or newer", env!("CARGO_PKG_RUST_VERSION"))),
        "the version is that of Cargo.toml"
    );
}

#[test]
fn pages_for_operators_name_every_option_and_no_other() {
    const OF_CARGO: [&str; 2] = ["path", "release"];
    const OF_CLAP: [&str; 1] = ["help"];
    const PAGES: [&str; 4] = ["README.md", "docs/options.md", "docs/blast.md", "docs/operating.md"];
    let pages = PAGES.map(read).concat();
    let named: BTreeSet<&str> = pages
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .filter_map(|word| {
            word.strip_prefix("--").filter(|name| !name.is_empty() && !name.starts_with('-'))
        })
        .filter(|name| !OF_CARGO.contains(name) && !OF_CLAP.contains(name))
        .collect();
    let cli = cli();
    let fields = cli.split("#[arg(long").skip(1).map(|from| {
        let field = from.split(")]\n").nth(1).expect("an option is a field").trim_start();
        field
            .strip_prefix("pub(crate) ")
            .unwrap_or(field)
            .split(':')
            .next()
            .expect("a split has a first part")
    });
    let options: BTreeSet<String> = fields.map(|field| field.replace('_', "-")).collect();
    assert_eq!(named, options.iter().map(String::as_str).collect());
}

// pitfall: 55
#[test]
fn readme_shows_the_default_addresses() {
    let readme = read("README.md");
    let shown = blocks(&readme, "text")[1];
    let cli = cli();
    let main = read("src/bin/reactor/main.rs");
    for line in shown.lines() {
        let (service, address) = line.rsplit_once(' ').expect("a service and its address");
        assert!(main.contains(&format!("announce(\"{service}\"")), "{service} is announced");
        let port = address.strip_prefix("127.0.0.1:").expect("on the loopback interface");
        assert!(cli.contains(&format!("([127, 0, 0, 1], {port})")), "{port} is a default");
    }
    assert_eq!(shown.lines().count(), 3);
}

#[test]
fn readme_example_equals_the_library_doctest() {
    let readme = read("README.md");
    let shown = blocks(&readme, "rust");
    let source = read("src/lib.rs");
    let run = source.split("//! ```\n").nth(1).expect("lib.rs has an example");
    let run: String = run
        .lines()
        .map(|line| line.strip_prefix("//!").expect("the example is a comment"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(shown, [run]);
}
