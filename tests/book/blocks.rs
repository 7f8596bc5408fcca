//! The blocks of a page, made again from the programs and compared; or written, with
//! `UPDATE_DOCS=1`.
//!
//! What a page says about a call of a trace stands below it, indented, and is kept.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, ScopedJoinHandle};

use super::others;
use super::page::{Block, Page, read, root};
use super::programs::{Folder, check, command, python};
use super::trace::Scene;
use super::turn;

/// The most lines that a chapter's diff may add. Empty ones do not count.
const ADDED_LINES_MAX: usize = 60;
/// What stands below a call that the page says nothing about yet.
const TODO: &str = "    # TODO: what does this show?";
/// What an item can be, if the page does not say it.
const ITEMS: [&str; 6] = ["fn", "def", "class", "struct", "enum", "const"];
/// A program in Python that a patch has broken, in the commands of the page.
const BROKEN: &str = "broken.py";
/// One in Rust is a file, which is compiled with this test, and a reader can run it.
const BROKEN_IN_RUST: &str = "broken/";

/// Makes the blocks of a page again, and compares them.
#[track_caller]
pub(super) fn check_page(name: &str, scenes: &[Scene]) {
    let page = Page::read(name);
    let blocks = page.blocks();
    let folder = Folder::new(&format!("broken-{}", name.trim_end_matches(".md")));
    let broken = break_program(&page, &folder);
    // Most of them wait most of the time, so all are made at once.
    let made: Vec<String> = thread::scope(|scope| {
        let (page, broken) = (&page, broken.as_deref());
        let start = |block| scope.spawn(move || make(page, block, scenes, broken));
        let threads: Vec<_> = blocks.iter().map(start).collect();
        let joined = threads.into_iter().map(ScopedJoinHandle::join);
        joined.map(|made| made.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    if env::var_os("UPDATE_DOCS").is_some() {
        let mut in_order = made.iter();
        let text = page.rewrite(|_| in_order.next().unwrap().clone());
        let text = turn::with_links(&page, &text);
        let lock = turn::lock();
        fs::write(root().join(&page.path), text).unwrap();
        turn::update(&lock);
    }
    let mut faults = Vec::new();
    let written = Page::read(name);
    if written.text != turn::with_links(&written, &written.text) {
        faults.push("a recording has no link to turn.html: run UPDATE_DOCS=1".to_owned());
    }
    for (block, made) in blocks.iter().zip(&made) {
        let words = block.words.join(" ");
        if made.contains(TODO) {
            faults.push(format!("{words}: a call has no line that says what it shows"));
        }
        if *made != block.content && env::var_os("UPDATE_DOCS").is_none() {
            let stale = made.lines().find(|line| !block.content.lines().any(|old| old == *line));
            faults.push(format!(
                "{words}: is stale; a line that the programs give: {stale:?}. \
                 Run UPDATE_DOCS=1 cargo test --test book"
            ));
        }
        if is_of_broken(block) && !turns_red(made, &blocks) {
            faults.push("the patch turns no row red".to_owned());
        }
    }
    assert!(faults.is_empty(), "{}:\n{}", page.path, faults.join("\n"));
}

/// Returns the content that a block must have.
fn make(page: &Page, block: &Block, scenes: &[Scene], broken: Option<&Path>) -> String {
    let words: Vec<&str> = block.words.iter().map(String::as_str).collect();
    match words[..] {
        ["file", path] => read(path),
        ["item", path, name] => item(path, &ITEMS, name),
        ["item", path, kind, name] => item(path, &[kind], name),
        ["diff", old, new] => diff(old, new),
        ["trace", scene] => trace(block, scenes, scene),
        ["break", _] => block.content.clone(), // written by hand; it has been applied
        ["failed"] => others::failed_rows(block),
        ["check", ref arguments @ ..] => run_check(page, arguments, broken),
        _ => panic!("{}: there is no block {words:?}", page.path),
    }
}

/// Returns the definition of `name` in a file: to the next line that is not indented deeper.
fn item(path: &str, kinds: &[&str], name: &str) -> String {
    let text = read(path);
    let is_start = |line: &&str| {
        kinds.iter().any(|kind| {
            let behind = line.split_once(&format!("{kind} {name}")).map(|(_, behind)| behind);
            behind.is_some_and(|behind| {
                !behind.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        })
    };
    let mut lines = text.lines().skip_while(|line| !is_start(line));
    let start = lines.next().unwrap_or_else(|| panic!("{path} defines no {name}"));
    let indent = start.len() - start.trim_start().len();
    let mut found = format!("{}\n", &start[indent..]);
    for line in lines {
        let own = line.len() - line.trim_start().len();
        // A parenthesis there ends the parameters, and the body follows.
        let is_end = !line.is_empty() && own <= indent && !line.trim_start().starts_with(')');
        if is_end && !line.trim_start().starts_with('}') {
            break;
        }
        found += line.get(indent..).unwrap_or_default();
        found += "\n";
        if is_end {
            break;
        }
    }
    format!("{}\n", found.trim_end())
}

/// Returns what has changed between two programs.
fn diff(old: &str, new: &str) -> String {
    const SCRIPT: &str = "import difflib, sys\n\
        old, new = (open(path).read().splitlines() for path in sys.argv[1:])\n\
        print('\\n'.join(list(difflib.unified_diff(old, new, lineterm='', n=1))[2:]))";
    let mut command = Command::new(python());
    let output = command.current_dir(root()).args(["-c", SCRIPT, old, new]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let diff = String::from_utf8(output.stdout).unwrap();
    let added = diff.lines().filter(|line| line.starts_with('+') && line.len() > 1).count();
    assert!(added <= ADDED_LINES_MAX, "{new} adds {added} lines to {old}");
    diff
}

/// Returns the calls of a scene, each with what the page says about it.
fn trace(block: &Block, scenes: &[Scene], name: &str) -> String {
    let scene = scenes.iter().find(|scene| scene.name == name);
    let scene = scene.unwrap_or_else(|| panic!("there is no scene {name}"));
    let Some(calls) = (scene.record)() else { return block.content.clone() };
    let mut old: Vec<(&str, String)> = Vec::new();
    for line in block.content.lines() {
        match old.last_mut().filter(|_| line.starts_with(' ')) {
            Some((_, says)) => says.extend([line, "\n"]),
            None => old.push((line, String::new())),
        }
    }
    let mut at = 0;
    let mut made = String::new();
    for call in &calls {
        made.extend([call, "\n"]);
        let later = old[at..].iter().position(|(line, _)| line == call).map(|found| at + found);
        let says = later.map(|found| {
            at = found + 1;
            old[found].1.as_str()
        });
        made += says.filter(|says| !says.is_empty()).unwrap_or(&format!("{TODO}\n"));
    }
    made
}

/// Applies the patch of the page to its program, and writes the result into the folder. One in Rust
/// is already there, and is compared.
pub(super) fn break_program(page: &Page, folder: &Folder) -> Option<PathBuf> {
    let block = page.blocks().into_iter().find(|block| block.words[0] == "break")?;
    let (program, patch) = (&block.words[1], &block.content);
    let side = |sign: char| -> String {
        let lines = patch.lines().filter_map(|line| line.strip_prefix([sign, ' ']));
        lines.flat_map(|line| [line, "\n"]).collect()
    };
    let text = read(&format!("docs/book/{program}"));
    let old = side('-');
    assert_eq!(text.matches(&old).count(), 1, "{}: {program} has once:\n{old}", page.path);
    let patched = text.replace(&old, &side('+'));
    if program.ends_with(".py") {
        let path = folder.0.join(BROKEN);
        fs::write(&path, patched).unwrap();
        return Some(path);
    }
    let path = format!("docs/book/{}", program.replace("programs/", BROKEN_IN_RUST));
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(&path), &patched).unwrap();
    }
    let is_compiled = read(&path) == patched;
    assert!(is_compiled, "{path} is not the patched program: run UPDATE_DOCS=1, then the test");
    Some(root().join(path))
}

fn is_of_broken(block: &Block) -> bool {
    let is_broken = |word: &String| word == BROKEN || word.starts_with(BROKEN_IN_RUST);
    block.words[0] == "check" && block.words.iter().any(is_broken)
}

fn run_check(page: &Page, arguments: &[&str], broken: Option<&Path>) -> String {
    let words = |argument: &&str| match *argument {
        BROKEN => {
            let path = broken.unwrap_or_else(|| panic!("{}: there is no patch", page.path));
            vec![path.into()]
        }
        in_rust if in_rust.ends_with(".rs") => command(&format!("docs/book/{in_rust}")),
        other => vec![OsString::from(other)],
    };
    let actual: Vec<OsString> = arguments.iter().flat_map(words).collect();
    format!("$ python3 check.py {}\n{}", arguments.join(" "), check(&actual))
}

/// Returns whether a row is red that is red in no other check of the page.
fn turns_red(made: &str, blocks: &[Block]) -> bool {
    let others = blocks.iter().filter(|block| block.words[0] == "check" && !is_of_broken(block));
    let others: String = others.map(|block| block.content.as_str()).collect();
    made.lines().any(|line| line.starts_with("not ok") && !others.lines().any(|old| old == line))
}
