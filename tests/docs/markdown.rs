//! Takes a page apart: quotations, blocks, sections and tables.

/// Returns what stands between backticks in `text`, outside of fenced blocks, each with what
/// follows it.
pub(super) fn quoted(text: &str) -> Vec<(&str, &str)> {
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

/// Returns the fenced blocks of `text` that begin with "```kind".
pub(super) fn blocks<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let fenced = text.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n')).collect()
}

/// Returns the part of `text` under the heading that begins with `heading`.
pub(super) fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let from = text
        .split(&format!("\n## {heading}"))
        .nth(1)
        .unwrap_or_else(|| panic!("there is a section {heading:?}"));
    from.split("\n## ").next().expect("a split has a first part")
}

/// Returns the rows of the only table in `text`, without its head, as cells.
pub(super) fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with('|'));
    let rows = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect());
    rows.skip(2).collect()
}

pub(super) fn without_backticks<'t>(cell: &'t str, place: &str) -> &'t str {
    let inner = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
    inner.unwrap_or_else(|| panic!("{place}: {cell:?} is one name in backticks"))
}

/// Returns the words in bold with which lines of `text` begin, after `mark`.
pub(super) fn bold_at_line_start<'t>(text: &'t str, mark: &str) -> Vec<&'t str> {
    let prefix = format!("{mark}**");
    text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split("**").next()).collect()
}
