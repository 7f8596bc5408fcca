//! What every chapter has, and how a reader finds it: parts, words, links, the lists of chapters.

use super::blocks::check_page;
use super::in_rust::RUST_PROGRAMS;
use super::page::{Page, book, read, root};

/// The sections of a chapter, in order. Chapter 1 has no program before it, not every chapter has
/// a patch, and one changes the language.
const PARTS: [&str; 9] = [
    "The program",
    "What has changed",
    "Predict",
    "The trace",
    "Break it",
    "Exercise",
    "The same in Rust",
    "Where this is in reactor",
    "Answers",
];
const OPTIONAL: [&str; 3] = ["What has changed", "Break it", "The same in Rust"];
const COLUMNS_MAX: usize = 100;

#[test]
fn chapters_have_their_parts_in_order_and_three_questions() {
    let mut faults = Vec::new();
    for page in Page::chapters() {
        let mut headings = page.headings().into_iter().peekable();
        for part in PARTS {
            let has_part = headings.next_if_eq(&part).is_some();
            if !has_part
                && (!OPTIONAL.contains(&part) || part == "What has changed" && page.number() > 1)
            {
                faults.push(format!("{}: the section {part:?} comes next", page.path));
            }
        }
        faults.extend(headings.next().map(|more| format!("{}: {more:?} is no part", page.path)));
        for (section, mark) in [("Predict", ""), ("Answers", "**")] {
            let items = [1, 2, 3].map(|n| format!("\n{n}. {mark}"));
            let text = page.section(section);
            let has_three = items.iter().all(|item| text.contains(item)) && !text.contains("\n4. ");
            if !has_three {
                faults.push(format!("{}: {section} has three items {items:?}", page.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn chapters_have_a_thousand_to_two_thousand_words() {
    let mut faults = Vec::new();
    for page in Page::chapters() {
        let prose: String = page.text.split("```").step_by(2).collect();
        let words = prose.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
        let count = words.count();
        if !(1000..=2000).contains(&count) {
            faults.push(format!("{}: {count} words", page.path));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn pages_of_the_book_stay_within_100_columns() {
    let mut found = Vec::new();
    for entry in ["", "programs", "broken", "solutions"] {
        for entry in std::fs::read_dir(book().join(entry)).unwrap() {
            let path = entry.unwrap().path();
            if !path.extension().is_some_and(|end| end == "md" || end == "py" || end == "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                // A row of a table is one line.
                let line = line.strip_prefix(['+', '-']).unwrap_or(line); // of a diff
                if line.chars().count() > COLUMNS_MAX && !line.starts_with('|') {
                    found.push(format!("{}:{}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "too wide:\n{}", found.join("\n"));
}

/// The pages are a site of their own, too, where a link to another folder leads nowhere.
#[test]
fn links_of_the_book_stay_inside_the_book() {
    for page in Page::chapters().into_iter().chain([Page::read("README.md")]) {
        let links = page.text.split("](").skip(1).map(|from| from.split(')').next().unwrap());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let file = link.split('#').next().unwrap();
            assert!(!file.contains(".."), "{}: {link} leads out of the book", page.path);
        }
    }
}

#[test]
fn contents_show_what_each_row_of_the_checker_means() {
    check_page("README.md", &[]);
}

#[test]
fn contents_and_summary_list_every_chapter() {
    let contents = read("docs/book/README.md");
    let mut summary = "# Summary\n\n[The book](README.md)\n\n".to_owned();
    for (before, page) in Page::chapters().iter().enumerate() {
        assert_eq!(page.number(), before + 1, "{}: the chapters are counted", page.path);
        let name = page.path.rsplit('/').next().unwrap();
        let title = page.title();
        assert!(title.starts_with(&format!("{}. ", page.number())), "{}: {title}", page.path);
        let short = title.split_once(". ").unwrap().1;
        let row = format!("| [{title}]({name}) |");
        assert!(contents.contains(&row), "docs/book/README.md has no row {row}");
        summary += &format!("- [{short}]({name})\n");
        let module = format!("tests/book/chapter_{:02}.rs", page.number());
        assert!(root().join(&module).exists(), "{}: {module} checks it", page.path);
    }
    assert_eq!(read("docs/book/SUMMARY.md"), summary, "docs/book/SUMMARY.md");
}

/// docs/book/check.py and the readers run them by these names.
#[test]
fn programs_in_rust_are_examples_named_after_their_chapter() {
    let manifest = read("Cargo.toml");
    for (path, _) in RUST_PROGRAMS {
        let (folder, file) = path.split_once('/').unwrap();
        let kind = match folder {
            "programs" => "",
            "broken" => "-broken",
            _ => "-solution",
        };
        let name = format!("book-{}{kind}", &file[..2]);
        let example = format!("[[example]]\nname = \"{name}\"\npath = \"docs/book/{path}\"\n");
        assert!(manifest.contains(&example), "Cargo.toml has no {example}");
    }
}

#[test]
fn readme_and_lecture_lead_to_the_book() {
    let readme = read("README.md");
    let screen: Vec<&str> = readme.lines().take(24).collect();
    assert!(screen.iter().any(|line| line.contains("(docs/book/README.md)")), "README.md");
    let lecture = read("docs/lecture/README.md");
    let end = lecture.rsplit("\n## ").next().unwrap();
    assert!(end.contains("(../book/01-one-at-a-time.md)"), "docs/lecture/README.md ends there");
}

/// What beginners ask in public, as the contents have it; the chapter; the words that answer it.
const PUBLIC_QUESTIONS: [(&str, usize, &str); 7] = [
    (
        "my mio server hang after the first message",
        7,
        "**That is why a server on `mio` hangs after the first message.**",
    ),
    ("does `accept` return only one", 7, "**That is why `accept` seems to return only one.**"),
    (
        "my loop spin at 100 %",
        6,
        "names the socket and the interest that you should not have asked for",
    ),
    ("connection reset", 10, "connection reset by peer"),
    ("my UDP server stop after one client's error", 12, "stop after one client's error"),
    ("too many open files", 14, "**A level-triggered loop spins at 100 %.**"),
    ("or hang, in a crowd", 14, "**An edge-triggered loop goes silent.**"),
];

#[test]
fn contents_lead_what_beginners_ask_to_the_answer() {
    let contents = read("docs/book/README.md");
    for (question, number, answer) in PUBLIC_QUESTIONS {
        let row = contents.lines().find(|line| line.starts_with(&format!("| [{number}. ")));
        let row = row.unwrap_or_else(|| panic!("there is no chapter {number}"));
        assert!(row.contains(question), "docs/book/README.md, chapter {number}: {question}");
        assert!(words_of(number).contains(answer), "chapter {number}: {answer}");
    }
}

/// What the loop is judged by; the chapter, and the words that answer it.
const QUESTIONS_OF_THE_LOOP: [(&str, usize, &str); 4] = [
    (
        "Why is there a run queue?",
        7,
        "A run queue is not for speed. It is the memory of what the kernel will not say again.",
    ),
    (
        "What does a short read prove?",
        7,
        "a *short read*, then the buffer of the kernel is empty now",
    ),
    ("When is a slot freed?", 8, "Only `reap` frees, at the end of the turn"),
    ("Why is EPOLLOUT not always on?", 6, "The room for output is the *normal* state of a socket."),
];

#[test]
fn questions_of_the_loop_are_answered_and_placed_in_the_source() {
    let places = words_of(8);
    for (question, number, answer) in QUESTIONS_OF_THE_LOOP {
        assert!(words_of(number).contains(answer), "chapter {number}: {answer}");
        let (_, row) = places.split_once(question).expect(question);
        assert!(row.starts_with(" | ") && row.split(" | ").nth(2).unwrap().starts_with("`src/"));
    }
}

/// Returns a chapter's text without line breaks.
fn words_of(number: usize) -> String {
    let page = Page::chapters().into_iter().find(|page| page.number() == number);
    let page = page.unwrap_or_else(|| panic!("there is no chapter {number}"));
    page.text.split_whitespace().collect::<Vec<_>>().join(" ")
}
