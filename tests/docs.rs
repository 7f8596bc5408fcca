//! What the documents say about the code is true of the code.
//!
//! A document that quotes a path, a function, an option or a number is a second copy of it, and second copies go stale. So
//! each kind of quotation has its form, which is found here and held against the source:
//!
//! ```text
//! `src/stream/readiness.rs`                 the file exists
//! `src/stream/readiness.rs` → `send`        and has a function, type or constant of that name
//! `tests/echo.rs` → `ipv6_…`    in the tables of docs/pitfalls.md and docs/http.md: and that is a test
//! RFC 9112 6.3                  in the tables of docs/http.md: and a test of the row names that section
//! `HEAD_BYTES_MAX` (16 KiB)     the limit has that value
//! --prefix                      the command line has that option
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mio_reactor::limits::{self, Limits};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents that quote code: the README, and what stands in `docs` itself.
fn documents() -> BTreeMap<String, String> {
    let mut documents = BTreeMap::from([("README.md".to_string(), read("README.md"))]);
    for path in files_below("docs")
        .into_iter()
        .filter(|path| path.ends_with(".md") && path.matches('/').count() == 1)
    {
        let text = read(&path);
        documents.insert(path, text);
    }
    assert!(documents.len() >= 4, "the README, the architecture, the design, the glossary");
    documents
}

/// All files below `directory`, as paths from the root with `/` between their parts.
fn files_below(directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("the directory can be read") {
            let entry = entry.expect("its entries can be read");
            let path = directory.join(entry.file_name());
            if entry.path().is_dir() {
                directories.push(path);
            } else {
                files.push(path.to_str().expect("our names are ASCII").replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

/// The source files that the code map lists: all but those that hold only tests.
fn source_files() -> Vec<String> {
    files_below("src")
        .into_iter()
        .filter(|path| !path.ends_with("/tests.rs") && !path.contains("/tests/"))
        .collect()
}

/// Is it compiled for the library's own tests only?
fn is_for_tests(path: &str) -> bool {
    path.starts_with("src/testing/simulated")
}

/// What stands between backticks in `text`, outside of fenced blocks, with what follows each.
fn quoted(text: &str) -> Vec<(&str, &str)> {
    let mut quoted = Vec::new();
    for outside in text.split("```").step_by(2) {
        let mut rest = outside;
        while let Some((_, from)) = rest.split_once('`') {
            let (name, behind) = from.split_once('`').expect("backticks come in pairs");
            quoted.push((name, behind));
            rest = behind;
        }
    }
    quoted
}

/// The fenced blocks of `text` that begin with "```kind".
fn blocks<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n')).collect()
}

/// The part of `text` under the heading that begins with `heading`.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let from = text
        .split(&format!("\n## {heading}"))
        .nth(1)
        .unwrap_or_else(|| panic!("there is a section {heading:?}"));
    from.split("\n## ").next().expect("a split has a first part")
}

/// The rows of the only table in `text`, without its head, as cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with('|'));
    let rows = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect());
    rows.skip(2).collect()
}

fn without_backticks<'t>(cell: &'t str, place: &str) -> &'t str {
    let inner = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inner.unwrap_or_else(|| panic!("{place}: {cell:?} is one name in backticks"))
}

#[test]
fn every_path_that_a_document_names_exists() {
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
        for target in text
            .split("](")
            .skip(1)
            .map(|from| from.split(')').next().expect("a split has a first part"))
        {
            if let Some(anchor) = target.strip_prefix('#') {
                let mut headings = text.lines().filter_map(|line| line.strip_prefix("## "));
                let is_there =
                    headings.any(|heading| heading.to_lowercase().replace(' ', "-") == anchor);
                assert!(is_there, "{document} links to its section {anchor}, which does not exist");
            } else if !target.starts_with("https://") {
                assert!(
                    folder.join(target).exists(),
                    "{document} links to {target}, which does not exist"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "the form of the quotations has not changed: {checked} found");
}

#[test]
fn everything_that_is_said_to_be_in_a_file_is_defined_there() {
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
            let source = read(file);
            let is_defined = ["fn", "const", "struct", "enum", "trait"].iter().any(|kind| {
                let definition = format!("{kind} {name}");
                let mut ends = source
                    .match_indices(&definition)
                    .map(|(at, _)| &source[at + definition.len()..]);
                ends.any(|behind| {
                    !behind.starts_with(|next: char| next.is_alphanumeric() || next == '_')
                })
            });
            assert!(
                is_defined,
                "{document} says that {name} is in {file}, where it is not defined"
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "the form of the quotations has not changed: {checked} found");
}

#[test]
fn the_code_map_lists_every_source_file_once() {
    let architecture = read("docs/architecture.md");
    let mut listed: Vec<&str> = rows(section(&architecture, "The code, file by file"))
        .iter()
        .map(|row| without_backticks(row[0], "the code map"))
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, source_files());
}

#[test]
fn the_picture_is_the_one_at_the_top_of_the_loop() {
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
fn the_stages_are_told_in_the_order_in_which_they_run() {
    let architecture = read("docs/architecture.md");
    let told: Vec<&str> = section(&architecture, "The turn")
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split("**").next())
        .collect();
    let source = read("src/reactor.rs");
    let defined: Vec<usize> = told
        .iter()
        .map(|stage| {
            source
                .find(&format!("    fn {stage}(&mut self"))
                .unwrap_or_else(|| panic!("{stage} is a method"))
        })
        .collect();
    assert_eq!(told.len(), 5);
    assert!(defined.is_sorted(), "{told:?} is the order of the methods");
}

#[test]
fn every_word_of_the_glossary_is_used_by_the_file_that_owns_it() {
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

/// The tests that a cell names, as what stands from their name to the next test: there is at least one, and each exists.
fn tests_named(cell: &str, place: &str) -> Vec<String> {
    let mut tests = Vec::new();
    for proof in cell.split(", ").filter(|proof| *proof != "*simulation*") {
        let (file, test) =
            proof.split_once(" → ").unwrap_or_else(|| panic!("{place}: {proof:?} is no test"));
        let (file, test) = (without_backticks(file, place), without_backticks(test, place));
        let source = read(file);
        let definition = format!("fn {test}(");
        let (before, body) = source
            .split_once(&definition)
            .unwrap_or_else(|| panic!("{place}: {file} has no {test}"));
        // Its attributes and its own comment stand right above it, behind an empty line.
        let above = before.rsplit("\n\n").next().expect("a split has a first part");
        assert!(above.contains("#[test]"), "{place}: {test} in {file} is no test");
        tests.push(body.split("#[test]").next().expect("a split has a first part").to_owned());
    }
    assert!(!tests.is_empty(), "{place} names no test");
    tests
}

/// Does `text` name `section` of RFC `document`, alone or among others, as in `RFC 9112 sections 6.1 and 6.3` or `9110 9.1, 15.5.6`?
fn names_section(text: &str, document: &str, section: &str) -> bool {
    let is_number = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.split('.').all(|part| part.len() <= 2)
    };
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    words.iter().enumerate().filter(|(_, word)| **word == document).any(|(at, _)| {
        let mut sections = words[at + 1..].iter().take_while(|word| {
            is_number(word) || ["", "section", "sections", "and"].contains(*word)
        });
        section.is_empty() || sections.any(|word| *word == section)
    })
}

#[test]
fn every_rule_of_http_has_its_tests_and_they_name_its_section() {
    let page = read("docs/http.md");
    let (mut rules, mut tests) = (0, 0);
    for part in page.split("\n## ").skip(1).filter(|part| part.contains("\n| What is asked |")) {
        for row in rows(part) {
            let [rule, source, answer, shown_by] = row[..] else {
                panic!("a row has four cells: {row:?}")
            };
            assert!(
                rule.ends_with('.') && answer.ends_with(['.', ')']),
                "{rule:?} is told in sentences"
            );
            let shown = tests_named(shown_by, rule);
            for section in source.split(", ").filter(|source| *source != "–") {
                let words: Vec<&str> = section.split(' ').collect();
                let ["RFC", document, sections @ ..] = &words[..] else {
                    panic!("{rule:?}: {section:?} is no source")
                };
                let section = sections.first().copied().unwrap_or_default();
                let is_named = shown.iter().any(|test| names_section(test, document, section));
                assert!(is_named, "{rule:?}: no test names RFC {document} {section}");
            }
            rules += 1;
            tests += shown.len();
        }
    }
    assert!(
        rules > 60 && tests > 90,
        "the form of the tables has not changed: {rules} rules, {tests} tests"
    );
}

#[test]
fn what_is_let_pass_beside_another_parser_is_listed() {
    let page = read("docs/http.md");
    let listed: BTreeSet<&str> = section(&page, "Where others disagree")
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split("**").next())
        .collect();
    let script = read("scripts/http-differential");
    let names = script
        .lines()
        .filter(|line| line.starts_with("EMPTY_LINE, ") || line.starts_with("EXPECTATION, "));
    let let_pass: BTreeSet<&str> =
        names.flat_map(|line| line.split('"').skip(1).step_by(2)).collect();
    assert_eq!(listed, let_pass);
}

#[test]
fn every_pitfall_has_its_tests_and_they_exist() {
    let pitfalls = read("docs/pitfalls.md");
    let (mut number, mut tests) = (0, 0);
    for part in pitfalls.split("\n## ").skip(1) {
        for row in rows(part) {
            let [cell, pitfall, answer, shown_by] = row[..] else {
                panic!("a row has four cells: {row:?}")
            };
            number += 1;
            assert_eq!(cell, number.to_string(), "the rows are numbered");
            assert!(
                pitfall.ends_with('.') && answer.ends_with('.'),
                "row {number} is told in sentences"
            );
            if shown_by != "–" {
                tests += tests_named(shown_by, &format!("docs/pitfalls.md, row {number}")).len();
            }
        }
    }
    assert!(
        number > 80 && tests > 120,
        "the form of the table has not changed: {number} rows, {tests} tests"
    );
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = read("README.md");
    assert_eq!(blocks(&readme, "sh").first(), Some(&"cargo run --release\ncargo test\n"));
    assert!(
        readme.contains(&format!("Rust {} or newer", env!("CARGO_PKG_RUST_VERSION"))),
        "the version is that of Cargo.toml"
    );
}

#[test]
fn the_readme_names_every_option_and_no_other() {
    const OF_CARGO: [&str; 3] = ["example", "open", "release"];
    const OF_CLAP: [&str; 1] = ["help"];
    let readme = read("README.md");
    let named: BTreeSet<&str> = readme
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .filter_map(|word| {
            word.strip_prefix("--").filter(|name| !name.is_empty() && !name.starts_with('-'))
        })
        .filter(|name| !OF_CARGO.contains(name) && !OF_CLAP.contains(name))
        .collect();
    let cli = read("src/bin/reactor/cli.rs");
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

#[test]
fn the_readme_shows_the_addresses_that_are_served_without_options() {
    let readme = read("README.md");
    let shown = blocks(&readme, "text")[1];
    let cli = read("src/bin/reactor/cli.rs");
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
fn the_readmes_example_is_the_one_that_the_library_runs_as_a_test() {
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

#[test]
fn every_limit_is_quoted_with_its_value() {
    let defaults = Limits::default();
    let kib = |bytes: u64| {
        if bytes < 1024 * 1024 {
            format!("{} KiB", bytes / 1024)
        } else {
            format!("{} MiB", bytes >> 20)
        }
    };
    let seconds = |ms: u64| if ms < 1000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) };
    let values = BTreeMap::from([
        ("connections_max", format!("{},000", defaults.connections_max / 1000)),
        ("first_byte_timeout_ms", seconds(defaults.first_byte_timeout_ms)),
        ("idle_timeout_ms", seconds(defaults.idle_timeout_ms)),
        ("linger_timeout_ms", seconds(defaults.linger_timeout_ms)),
        ("drain_timeout_ms", seconds(defaults.drain_timeout_ms)),
        ("ACCEPT_RECOVERY_MS", seconds(limits::ACCEPT_RECOVERY_MS)),
        ("EVICTIONS_MAX", limits::EVICTIONS_MAX.to_string()),
        ("EVICTION_IDLE_MS", seconds(limits::EVICTION_IDLE_MS)),
        ("unanswered_ports", {
            let [others @ .., last] = &defaults.unanswered_ports[..] else {
                panic!("some are not answered")
            };
            format!(
                "{} and {last}",
                others.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
            )
        }),
        ("REPLIES_BYTES_MAX", kib(limits::REPLIES_BYTES_MAX as u64)),
        ("REPLIES_HIGH_WATERMARK_BYTES", kib(limits::REPLIES_HIGH_WATERMARK_BYTES as u64)),
        ("HEAD_BYTES_MAX", kib(limits::HEAD_BYTES_MAX as u64)),
        ("BODY_BYTES_MAX", kib(limits::BODY_BYTES_MAX)),
        ("INPUT_BYTES_MAX", kib(limits::INPUT_BYTES_MAX as u64)),
        ("HIGH_WATERMARK_BYTES", kib(limits::HIGH_WATERMARK_BYTES as u64)),
        ("OUTPUT_BYTES_MAX", kib(limits::OUTPUT_BYTES_MAX as u64)),
    ]);
    let source = read("src/limits.rs");
    let mut checked = BTreeSet::new();
    for (document, text) in documents() {
        for (name, behind) in quoted(&text) {
            let is_constant = name.contains('_')
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            if is_constant && name != "RUST_LOG" {
                assert!(
                    source.contains(&format!("pub const {name}:")),
                    "{document} names {name}, which is no limit"
                );
            }
            let value = behind.strip_prefix(" (").and_then(|from| from.split(')').next());
            if let Some(value) =
                value.filter(|value| value.starts_with(|c: char| c.is_ascii_digit()))
            {
                let true_value = values
                    .get(name)
                    .unwrap_or_else(|| panic!("{document} quotes {name}: add it to this test"));
                assert_eq!(value, true_value, "{document} quotes {name}");
                checked.insert(name.to_string());
            }
        }
    }
    assert_eq!(checked.len(), values.len(), "each is quoted somewhere: {checked:?}");
}

#[test]
fn every_dependency_has_its_paragraph() {
    let design = read("docs/design.md");
    let paragraphs: BTreeSet<&str> = section(&design, "The dependencies")
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split("**").next())
        .collect();
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
fn what_the_architecture_calls_absent_is_absent() {
    const ABSENT: [&str; 12] = [
        "thread::",
        "Mutex",
        "RwLock",
        "Condvar",
        "async ",
        ".await",
        "static ",
        "thread_local!",
        "print!",
        "println!",
        "eprint!",
        "eprintln!",
    ];
    let mut waits = Vec::new();
    let may_block = ["main.rs", "cli.rs", "send.rs"].map(|file| format!("src/bin/reactor/{file}"));
    let is_of_the_product = |path: &&String| !may_block.contains(path) && !is_for_tests(path);
    for path in source_files().iter().filter(is_of_the_product) {
        let source = read(path);
        let code = source.split("#[cfg(test)]\nmod ").next().expect("a split has a first part");
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let found = ABSENT.iter().find(|word| line.replace("'static ", "").contains(**word));
            assert!(found.is_none(), "{path} has {found:?}: {line}");
            waits.extend(line.contains(".poll(").then(|| path.clone()));
        }
    }
    assert_eq!(waits, ["src/reactor.rs"], "the program sleeps in one place");
}

#[test]
fn what_is_for_tests_is_compiled_for_nothing_else() {
    let module = "    #[cfg(test)]\n    pub(crate) mod simulated;";
    assert!(read("src/lib.rs").contains(module), "the simulated kernel is for tests only");
}

#[test]
fn every_mutation_can_be_applied() {
    let page = read("docs/mutations.md");
    let mutations = blocks(&page, "mutation");
    assert!(mutations.len() >= 12, "the form of the page has not changed");
    for mutation in mutations {
        let (file, lines) =
            mutation.split_once('\n').expect("a mutation begins with a file's name");
        let side = |sign: char| {
            lines
                .lines()
                .filter_map(move |line| line.strip_prefix(sign))
                .flat_map(|line| [line, "\n"])
        };
        let old: String = side('-').collect();
        assert_eq!(read(file).matches(&old).count(), 1, "{file} has these lines once: {old}");
        assert_ne!(old, side('+').collect::<String>(), "a mutation changes something");
    }
}

#[test]
fn the_changelog_knows_this_version() {
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading));
    assert!(read("LICENSE").starts_with(&format!("{} License\n", env!("CARGO_PKG_LICENSE"))));
}
