//! The README's commands, addresses and example, and the options on the pages for operators.

use std::collections::BTreeSet;

use super::files::read;
use super::markdown::blocks;

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
fn readme_and_operating_name_only_options_that_exist() {
    const OF_CARGO: [&str; 4] = ["example", "open", "path", "release"];
    let readme = read("README.md") + &read("docs/operating.md");
    let pages = read("docs/options.md") + &read("docs/blast.md");
    let named: BTreeSet<&str> = readme
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .filter_map(|word| {
            word.strip_prefix("--").filter(|name| !name.is_empty() && !name.starts_with('-'))
        })
        .filter(|name| !OF_CARGO.contains(name) && *name != "help")
        .collect();
    assert!(named.len() > 3, "{named:?}");
    for name in named {
        // The pages have every option: options.rs compares them with the help.
        let row = |end: &str| pages.contains(&format!("| `--{name}{end}"));
        assert!(row(" ") || row("`"), "--{name} is no option");
    }
}

// pitfall: 55
#[test]
fn readme_shows_the_default_addresses() {
    let readme = read("README.md");
    let shown = blocks(&readme, "text")[0];
    let defaults = read("src/bin/reactor/cli/serve.rs");
    let sockets = read("src/bin/reactor/sockets.rs");
    for line in shown.lines() {
        let (service, address) = line.rsplit_once(' ').expect("a service and its address");
        assert!(sockets.contains(&format!("\"{service}\"")), "{service} is served");
        let port = address.strip_prefix("127.0.0.1:").expect("on the loopback interface");
        assert!(defaults.contains(&format!("loopback({port})")), "{port} is a default");
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
