//! The pages on options, compared with the program's help.

use std::collections::BTreeMap;
use std::process::Command;

use mio_reactor::ACCESS_LOG;

use super::files::{documents, files_below, read};
use super::markdown::{quoted, rows, section, without_backticks};

/// What an option's block in `--help` says, and what a row of a page must repeat.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// `--idle-timeout DURATION`
    usage: String,
    /// `none` if the help has no default.
    default: String,
    /// The first paragraph.
    summary: String,
}

/// Returns the help of `arguments`, in which every option is explained.
fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    let output = command.args(arguments).arg("--help").output().expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("the help is text")
}

/// Returns the options of `help` below their headings. clap's own `--help` and `--version` are left
/// out.
fn entries(help: &str) -> BTreeMap<String, Vec<Entry>> {
    let mut found: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let mut heading = String::new();
    let mut lines = help.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            heading = name.to_owned();
        } else if line.trim_start().starts_with("--") && line.starts_with("      -") {
            let mut text = String::new();
            while let Some(more) =
                lines.next_if(|line| line.is_empty() || line.starts_with("          "))
            {
                // An empty line ends a paragraph.
                text += if more.trim().is_empty() { "\n" } else { more.trim() };
                text += " ";
            }
            found.entry(heading.clone()).or_default().push(entry(line.trim(), &text));
        }
    }
    found
}

fn entry(usage: &str, text: &str) -> Entry {
    let between = |start: &str, end: &str| Some(text.split_once(start)?.1.split_once(end)?.0);
    let default = between("[default: ", "]").or_else(|| between("The default is ", "."));
    Entry {
        usage: usage.split("[=").next().unwrap_or(usage).replace(['<', '>'], ""),
        default: default.unwrap_or("none").to_owned(),
        summary: text.split('\n').next().unwrap_or_default().trim().to_owned(),
    }
}

/// Checks that the table in `text` has these options, in this order.
#[track_caller]
fn check_table(text: &str, entries: &[Entry]) {
    let rows = rows(text);
    for (row, entry) in rows.iter().zip(entries) {
        let [usage, default, effect] = row[..] else { panic!("a row has three cells: {row:?}") };
        assert_eq!(without_backticks(usage, "a row"), entry.usage);
        assert_eq!(default.trim_matches('`'), entry.default, "the default of {usage}");
        assert!(effect.starts_with(&entry.summary), "{usage}: {effect:?}, {:?}", entry.summary);
    }
    assert_eq!(rows.len(), entries.len(), "{entries:?}");
}

#[test]
fn options_page_has_every_option_of_the_server_as_its_help() {
    let page = read("docs/options.md");
    let entries = entries(&help(&[]));
    let headings: Vec<&str> = entries.keys().map(String::as_str).collect();
    assert_eq!(headings, ["Echo", "HTTP", "Limits", "Listening", "Logging"]);
    for (heading, entries) in &entries {
        check_table(section(&page, heading), entries);
    }
}

#[test]
fn options_page_has_the_clients_option_as_its_help() {
    let page = read("docs/options.md");
    check_table(section(&page, "The client"), &entries(&help(&["send"]))["Options"]);
}

#[test]
fn blast_page_has_every_option_as_its_help() {
    let page = read("docs/blast.md");
    check_table(section(&page, "Options"), &entries(&help(&["blast"]))["Options"]);
}

#[test]
fn try_page_has_every_option_as_its_help() {
    let page = read("docs/try.md");
    check_table(section(&page, "Options"), &entries(&help(&["try"]))["Options"]);
}

/// The lines of `--list` are `NAME: PROVES (SOURCE; chapter NUMBER, TITLE; BOUND)`.
#[test]
fn try_page_has_every_row_as_the_program_lists_it() {
    let page = read("docs/try.md");
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    let output = command.args(["try", "--list"]).output().expect("the program starts");
    let list = String::from_utf8(output.stdout).expect("the list is text");
    let listed: Vec<Vec<String>> = list
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("  ")?.split_once(": ")?;
            let (proves, rest) = rest.rsplit_once(" (")?;
            let (source, rest) = rest.split_once("; chapter ")?;
            let chapter = rest.split(',').next()?;
            let name = format!("`{name}`");
            Some([name.as_str(), proves, source, chapter].map(str::to_owned).to_vec())
        })
        .collect();
    let rows = rows(section(&page, "The rows")).into_iter();
    // Three tables, and each has a head.
    let rows: Vec<Vec<&str>> = rows.filter(|row| row[0].starts_with('`')).collect();
    assert_eq!(rows, listed);
}

/// tests/trial/lecture.rs checks that these rows fail, and no others.
#[test]
fn try_page_has_the_rows_that_the_lecture_fails() {
    let page = read("docs/try.md");
    let test = read("tests/trial/lecture.rs");
    for (script, constant) in
        [("tcp_echo_server.py", "TCP"), ("udp_echo_server.py", "UDP"), ("web_server.py", "WEB")]
    {
        let definition = test.split_once(&format!("const {constant}: ")).expect("it is defined").1;
        let definition = definition.split(';').nth(1).expect("an array has a length");
        let names: Vec<String> =
            definition.split('"').skip(1).step_by(2).map(|name| format!("`{name}`")).collect();
        let row = format!("| the lecture's `{script}` | {} |", names.join(", "));
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn chapters_that_explain_rows_have_the_titles_of_the_book() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
    let output = command.args(["try", "--list"]).output().expect("the program starts");
    let list = String::from_utf8(output.stdout).expect("the list is text");
    let chapters = files_below("docs/book").into_iter().filter(|path| path.ends_with(".md"));
    let titles: Vec<String> = chapters
        .filter_map(|path| {
            Some(read(&path).lines().next()?.strip_prefix("# ")?.replacen('.', ",", 1))
        })
        .collect();
    let named: Vec<&str> = list.split("; chapter ").skip(1).collect();
    assert!(named.len() > 60);
    for chapter in named {
        assert!(titles.iter().any(|title| chapter.starts_with(&format!("{title};"))), "{chapter}");
    }
}

#[test]
fn address_forms_and_log_target_of_the_page_are_in_the_help() {
    let page = read("docs/options.md");
    let help = help(&[]);
    let rows = rows(section(&page, "Addresses"));
    let forms: Vec<&str> = rows.iter().flat_map(|row| row[0].split(", ")).collect();
    assert_eq!(forms.len(), 9);
    for form in forms {
        assert!(help.contains(without_backticks(form, "an address")), "{form} is not in the help");
    }
    assert!(page.contains(&format!("its target is `{ACCESS_LOG}`")));
}

#[test]
fn errors_on_the_options_page_are_the_programs() {
    for arguments in [["--idle-timeout", "60"], ["--idel-timeout", "60s"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reactor"));
        let output = command.args(arguments).output().expect("the program starts");
        let line = String::from_utf8(output.stderr).expect("an error is text");
        assert!(read("docs/options.md").contains(&format!("```text\n{line}```\n")), "{line}");
    }
}

#[test]
fn every_variable_in_a_document_belongs_to_an_option() {
    let help = help(&[]);
    let mut checked = 0;
    for (document, text) in documents() {
        for (name, _) in quoted(&text) {
            if name.strip_prefix("REACTOR_").is_some_and(|option| !option.is_empty()) {
                assert!(
                    help.contains(&format!("[env: {name}]")),
                    "{document} names {name}, which no option reads"
                );
                checked += 1;
            }
        }
    }
    assert!(checked >= 2, "the options page names some");
}
