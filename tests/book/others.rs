//! What other servers fail of `reactor try`, with the chapters that explain it.

use std::collections::BTreeMap;
use std::process::Command;

use super::page::{Block, read};
use super::programs::REACTOR_PATH;

/// The most columns of a line.
const COLUMNS: usize = 80;

/// Returns the servers of docs/try.md, with the rows that each fails, by their chapters. They are
/// run by scripts/try-others, and the lecture's by tests/trial.
pub(super) fn failed_rows(block: &Block) -> String {
    let Some(reactor) = REACTOR_PATH else { return block.content.clone() };
    let output = Command::new(reactor).args(["try", "--list"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let kinds = kinds_of(&list);
    let page = read("docs/try.md");
    let (_, from) = page.split_once("| Server | Failed |").unwrap();
    let mut made = String::new();
    for line in from.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let [_, server, failed, _] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("a row has two cells: {line}")
        };
        made += &format!("{}\n", server.trim().replace('`', ""));
        let names: Vec<&str> = failed.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            made += "    fails nothing\n";
        }
        let kind = kinds.iter().find(|kind| names.iter().all(|name| kind.contains_key(name)));
        let kind = kind.unwrap_or_else(|| panic!("there are no such rows: {names:?}"));
        let mut chapters: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for name in names {
            chapters.entry(kind[name]).or_default().push(name);
        }
        for (chapter, names) in chapters {
            made += &wrapped(&format!("    chapter {chapter}: "), &names);
        }
    }
    made
}

/// Returns the rows of each kind of server, with the number of the chapter that explains each.
fn kinds_of(list: &str) -> Vec<BTreeMap<&str, usize>> {
    let mut kinds: Vec<BTreeMap<&str, usize>> = Vec::new();
    for line in list.lines() {
        let Some(row) = line.strip_prefix("  ") else {
            kinds.push(BTreeMap::new());
            continue;
        };
        let (name, rest) = row.split_once(": ").unwrap();
        let (_, chapter) = rest.rsplit_once("; chapter ").unwrap();
        let number = chapter.split(',').next().unwrap().parse().unwrap();
        kinds.last_mut().unwrap().insert(name, number);
    }
    kinds
}

fn wrapped(head: &str, names: &[&str]) -> String {
    let mut lines = vec![head.to_owned()];
    for (index, name) in names.iter().enumerate() {
        let text = format!("{name}{}", if index + 1 < names.len() { ", " } else { "" });
        let line = lines.last_mut().unwrap();
        match line.len() + text.trim_end().len() <= COLUMNS {
            true => line.push_str(&text),
            false => lines.push(format!("        {text}")),
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}
