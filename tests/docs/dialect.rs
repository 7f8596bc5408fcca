//! Keeps words out of the repository that no reader of epoll(7), tokio or an RFC would search for.
//!
//! Each of the words once stood for something that the field has a name for: a "newcomer" was an
//! accepted connection. Names count, too: `_` and a capital letter end a word, so that a function
//! is read like a sentence. In a document, what stands in backticks is a name of the code, and is
//! checked where it is defined.

use super::files::{files_below, read};

/// Words and phrases, and what to write instead.
const WORDS: &[(&str, &str)] = &[
    ("newcomer", "accepted connection"),
    ("newcomers", "accepted connections"),
    ("at the door", "in the backlog"),
    ("the house", "the server"),
    ("full house", "connections_max is reached"),
    ("household", "a plain name"),
    ("give way", "be evicted"),
    ("gives way", "is evicted"),
    ("gave way", "was evicted"),
    ("bell", "stop signal, read end"),
    ("rope", "write end"),
    ("errand", "task"),
    ("errands", "tasks"),
    ("tiding", "notification"),
    ("tidings", "notifications"),
    ("untold", "pending"),
    ("wish", "command, request"),
    ("wishes", "commands, requests"),
    ("oblige", "apply"),
    ("obliges", "applies"),
    ("obliged", "applied"),
    ("conversation", "connection"),
    ("conversations", "connections"),
    ("rehearsal", "test connection"),
    ("alarm", "timer"),
    ("alarms", "timers"),
    ("train", "GSO batch"),
    ("trains", "GSO batches"),
    ("plight", "what it waits for"),
    ("deserted", "quiescent"),
    ("goodbye", "last message"),
    ("lest", "so that … not"),
    ("whoever", "the peer, the client, the caller"),
    ("somebody", "a peer, a client, a caller"),
    ("anybody", "any peer, any client"),
    ("everybody", "all clients"),
    ("nobody", "no client, no peer"),
];

/// A file, a word (or `*` for all), and why it may stand there.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("tests/docs/dialect.rs", "*", "the list of the words")];

/// Returns the text files of the repository, without what is generated or belongs to another
/// project.
fn files() -> Vec<String> {
    const GENERATED: [&str; 5] = [
        "tests/fuzz/corpus/",
        "tests/fuzz/target/",
        "tests/fuzz/artifacts/",
        "tests/fuzz/coverage/",
        "docs/benchmarks/latest",
    ];
    const EXTENSIONS: [&str; 3] = [".rs", ".md", ".py"];
    const TOP_LEVEL: [&str; 4] = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut files = TOP_LEVEL.map(str::to_owned).to_vec();
    for directory in ["src", "tests", "benches", "docs"] {
        let below = files_below(directory).into_iter();
        files.extend(below.filter(|path| EXTENSIONS.iter().any(|end| path.ends_with(end))));
    }
    files.extend(files_below("scripts").into_iter().filter(|path| !path.ends_with(".pyc")));
    files.retain(|path| !GENERATED.iter().any(|start| path.starts_with(start)));
    files
}

fn is_excepted(path: &str, word: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, of, _)| *file == path && (*of == "*" || *of == word))
}

#[test]
fn texts_and_names_use_the_fields_words() {
    let mut found = Vec::new();
    for path in files() {
        let text = prose(&path);
        let words = words(&text);
        for (at, (line, _)) in words.iter().enumerate() {
            for (phrase, better) in WORDS {
                let mut rest = words[at..].iter().map(|(_, word)| word.as_str());
                if phrase.split(' ').all(|part| rest.next() == Some(part))
                    && !is_excepted(&path, phrase)
                {
                    found.push(format!("{path}:{line}: {phrase} ({better})"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} words to replace:\n{}", found.len(), found.join("\n"));
}

#[test]
fn sentences_that_begin_with_who_are_questions() {
    let mut found = Vec::new();
    for path in files().iter().filter(|path| !is_excepted(path, "who")) {
        for (line, sentence) in statements_about_who(&prose(path), path.ends_with(".rs")) {
            found.push(format!("{path}:{line}: {sentence}"));
        }
    }
    assert!(found.is_empty(), "{} sentences to rewrite:\n{}", found.len(), found.join("\n"));
}

/// Returns a file's text. Of a document, what it quotes from the code is left out, but its lines
/// are kept.
fn prose(path: &str) -> String {
    let text = read(path);
    if !path.ends_with(".md") {
        return text;
    }
    let mut kept = String::with_capacity(text.len());
    for (number, part) in text.split("```").enumerate() {
        let is_block = number % 2 == 1;
        let is_quoted = |at: usize| {
            if is_block { part.starts_with("mutation\n") } else { at % 2 == 1 }
        };
        for (at, piece) in part.split('`').enumerate() {
            if is_quoted(at) {
                kept.extend(piece.chars().filter(|&c| c == '\n'));
            } else {
                kept.push_str(piece);
            }
            kept.push(' ');
        }
    }
    kept
}

/// Returns the words of `text` in lower case, each with the number of its line.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut was_lower = false;
        for c in line.chars().chain([' ']) {
            let ends = !c.is_alphanumeric() || (c.is_uppercase() && was_lower);
            if ends && !word.is_empty() {
                words.push((number + 1, std::mem::take(&mut word)));
            }
            if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            }
            was_lower = c.is_lowercase();
        }
    }
    words
}

/// Returns each sentence that begins with "Who" or "Whoever" and does not end as a question, with
/// the number of its first line. `is_rust`: only comments go on from one line to the next.
fn statements_about_who(text: &str, is_rust: bool) -> Vec<(usize, String)> {
    let mut flat = String::new();
    let mut line_starts = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        let content = line.trim_start_matches(['/', '!', '#', '*', '-', '>', '|', ' ']);
        let goes_on = !content.is_empty() && (!is_rust || line.starts_with("//"));
        let end = if goes_on { ' ' } else { '\n' };
        flat.push(end);
        line_starts.push(flat.len());
        flat.push_str(content);
        flat.push(end);
    }
    let mut found = Vec::new();
    for (at, who) in flat.match_indices("Who") {
        let rest = &flat[at + who.len()..];
        let is_word = rest.strip_prefix("ever").unwrap_or(rest).starts_with(' ');
        if !is_word || flat[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let is_end = |at: &usize| {
            let behind = flat[*at + 1..].chars().next();
            // A period within a number ends nothing.
            flat[*at..].starts_with(['.', '?', '!', '|', '\n'])
                && !behind.is_some_and(char::is_alphanumeric)
        };
        let end = flat[at..].char_indices().map(|(more, _)| at + more).find(is_end);
        let sentence = &flat[at..end.map_or(flat.len(), |end| end + 1)];
        if !sentence.ends_with('?') {
            let line = line_starts.partition_point(|&start| start <= at);
            let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
            found.push((line, sentence));
        }
    }
    found
}

#[test]
fn words_end_at_underscores_capitals_and_punctuation() {
    let text = "let bell_rope = Alarm::NobodyReads; // the house's\nproperty";
    let found: Vec<String> = words(text).into_iter().map(|(_, word)| word).collect();
    assert_eq!(
        found,
        ["let", "bell", "rope", "alarm", "nobody", "reads", "the", "house", "s", "property"]
    );
}

#[test]
fn who_sentence_is_found_across_lines_and_question_is_not() {
    let source =
        "/// It waits. Who comes\n/// first is served. Who\n/// decides?\nlet who = \"Who\";\n";
    let found = statements_about_who(source, true);
    assert_eq!(found, [(1, "Who comes first is served.".to_owned())]);
}
