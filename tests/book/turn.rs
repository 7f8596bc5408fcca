//! The page docs/book/turn.html, which steps through the recordings of the chapters.
//!
//! Its data and the hashes in its Content-Security-Policy are generated here, and so are the links
//! that lead to it from the chapters. With `UPDATE_DOCS=1` they are written, otherwise compared.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call::Line;
use super::model::{STAGES, Shape, Step, steps};
use super::page::{Block, Page, read, root};
use super::programs::python;
use super::state::{CONNECTION, Queue, Registered, Slot, SlotState, State};

const PAGE: &str = "docs/book/turn.html";
const DATA_START: &str = "<script type=\"application/json\" id=\"recordings\">\n";
const DATA_END: &str = "</script>\n";
/// Chapters from this one on have a loop whose recordings can be drawn.
const FIRST_CHAPTER: usize = 6;
const LINK: &str = "[Step through this recording](turn.html#";

/// A recording of a chapter.
struct Recording {
    id: String,
    /// That of its chapter, which begins with the number.
    title: String,
    program: String,
    is_broken: bool,
    shape: Shape,
    steps: Vec<Step>,
}

/// One test at a time writes: a page of the book, and with it the page of the turn.
pub(super) fn lock() -> MutexGuard<'static, ()> {
    static WRITING: Mutex<()> = Mutex::new(());
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the page anew.
pub(super) fn update(_lock: &MutexGuard<'static, ()>) {
    let made = make();
    if made != read(PAGE) {
        fs::write(root().join(PAGE), made).unwrap();
    }
}

/// Returns the text of a chapter with a link below each recording that the page draws.
pub(super) fn with_links(page: &Page, text: &str) -> String {
    let (mut made, mut block) = (String::new(), None);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        made.extend([line, "\n"]);
        let scene =
            line.strip_prefix("<!-- book: trace ").map(|from| from.trim_end_matches(" -->"));
        block = scene.or(block);
        if let Some(scene) = block.filter(|_| line == "```") {
            block = None;
            let rest: Vec<&str> = lines.clone().take(2).collect();
            if rest.len() == 2 && rest[0].is_empty() && rest[1].starts_with(LINK) {
                lines.nth(1);
            }
            if is_drawn(page, scene) {
                write!(made, "\n{LINK}{})\n", id_of(page, scene)).unwrap();
            }
        }
    }
    made
}

fn id_of(page: &Page, scene: &str) -> String {
    format!("{}-{scene}", page.number())
}

/// Returns whether a recording is that of a loop of the book: not of a client, nor of reactor,
/// which has more than the page shows.
fn is_drawn(page: &Page, scene: &str) -> bool {
    if page.number() < FIRST_CHAPTER {
        return false;
    }
    let module = module_of(page);
    let others = [format!("record_client(\"{scene}\","), format!("(\"{scene}\", REACTOR,")];
    !others.iter().any(|other| module.contains(other))
}

fn module_of(page: &Page) -> String {
    read(&format!("tests/book/chapter_{:02}.rs", page.number()))
}

/// Returns all that the page draws, in the order of the chapters.
fn recordings() -> Vec<Recording> {
    let mut recordings = Vec::new();
    for page in Page::chapters() {
        let traces = page.blocks().into_iter().filter(|block| block.words[0] == "trace");
        let blocks = traces.filter(|block| is_drawn(&page, &block.words[1]));
        recordings.extend(blocks.map(|block| recording(&page, &block)));
    }
    recordings
}

/// Returns the program that a scene records, and whether it is broken. The chapter's module says
/// so: `record("slots", PROGRAM`. If it names no file, it is that of the page's patch or diff.
fn program_of(page: &Page, scene: &str) -> (String, bool) {
    let module = module_of(page);
    let (_, from) = module.split_once(&format!("(\"{scene}\",")).unwrap_or_default();
    let argument = from.split(',').next().unwrap().trim();
    let constant = module.split_once(&format!("const {argument}: &str = "));
    let value = constant.map_or(argument, |(_, from)| from.split(';').next().unwrap());
    let path = value.trim_matches('"').split(' ').next().unwrap();
    match path.strip_prefix("docs/book/") {
        Some(path) => (path.to_owned(), path.starts_with("broken/")),
        None => {
            let is_broken = argument.contains("broken");
            let kind = if is_broken { "break" } else { "diff" };
            let block = page.blocks().into_iter().find(|block| block.words[0] == kind);
            let block = block.unwrap_or_else(|| panic!("{}: what does {scene} run?", page.path));
            let path = block.words.last().unwrap();
            (path.strip_prefix("docs/book/").unwrap_or(path).to_owned(), is_broken)
        }
    }
}

fn recording(page: &Page, block: &Block) -> Recording {
    let (program, is_broken) = program_of(page, &block.words[1]);
    let mut lines: Vec<Line> = Vec::new();
    for line in block.content.lines() {
        match lines.last_mut().filter(|_| line.starts_with(' ')) {
            Some(last) => {
                let more = line.trim().trim_start_matches("# ");
                let space = if last.says.is_empty() { "" } else { " " };
                last.says.extend([space, more]);
            }
            None => lines.push(Line { call: line.to_owned(), says: String::new() }),
        }
    }
    let shape = Shape::of(&read(&format!("docs/book/{program}")));
    let steps = steps(&shape, &lines);
    let (id, title) = (id_of(page, &block.words[1]), page.title().to_owned());
    Recording { id, title, program, is_broken, shape, steps }
}

/// Returns the page as it must be.
fn make() -> String {
    let old = read(PAGE);
    let (head, from) = old.split_once(DATA_START).expect("the page has a place for the data");
    let (_, tail) = from.split_once(DATA_END).expect("the data have an end");
    let page = format!("{head}{DATA_START}{}{DATA_END}{tail}", json(&recordings()));
    let style = inside(&page, "<style>", "</style>");
    let script = inside(tail, "<script>", "</script>");
    let mut made = String::new();
    for line in page.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start().split(' ').next() {
            Some("script-src") => writeln!(made, "{indent}script-src 'sha256-{}';", sha256(script)),
            Some("style-src") => writeln!(made, "{indent}style-src 'sha256-{}';", sha256(style)),
            _ => writeln!(made, "{line}"),
        }
        .unwrap();
    }
    made
}

fn inside<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let (_, from) = text.split_once(start).unwrap_or_else(|| panic!("{PAGE}: {start}"));
    from.split_once(end).unwrap_or_else(|| panic!("{PAGE}: {end}")).0
}

/// Returns a hash as a Content-Security-Policy has it.
fn sha256(text: &str) -> String {
    const SCRIPT: &str = "import base64, hashlib, sys\n\
        hash = hashlib.sha256(sys.stdin.buffer.read()).digest()\n\
        print(base64.b64encode(hash).decode(), end='')";
    let mut command = Command::new(python());
    let command = command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Writes the recordings, a step in each line. A step has only the boxes that it changes.
fn json(recordings: &[Recording]) -> String {
    let all = recordings.iter().map(|recording| {
        let mut before = Vec::new();
        let steps = recording.steps.iter().map(|step| {
            let boxes = boxes(&recording.shape, &step.state);
            let changed: Vec<_> = boxes.iter().filter(|one| !before.contains(*one)).collect();
            let fields = [("stage", optional(step.stage)), ("turn", step.turn.to_string())];
            let texts = [("call", quoted(&step.call)), ("says", quoted(&step.says))];
            let fields = fields.iter().chain(&texts).chain(changed).cloned();
            let object = object(fields.collect());
            before = boxes;
            object
        });
        let steps = format!("[\n{}\n]", steps.collect::<Vec<_>>().join(",\n"));
        object(vec![
            ("id", quoted(&recording.id)),
            ("title", quoted(&recording.title)),
            ("program", quoted(&recording.program)),
            ("broken", recording.is_broken.to_string()),
            ("table", quoted(recording.shape.table)),
            ("stages", list(&recording.shape.stages, |stage| quoted(stage))),
            ("hasDeadlines", recording.shape.has_deadlines.to_string()),
            ("steps", steps),
        ])
    });
    let all = all.collect::<Vec<_>>().join(",\n");
    format!("{{\"words\": {},\n\"recordings\": [\n{all}\n]}}\n", words())
}

/// The words of the page besides turn and its stages, and those with which the glossary explains
/// them.
const WORDS: [&str; 15] = [
    "callback",
    "budget",
    "edge-triggered",
    "run queue",
    "slot",
    "source",
    "task",
    "stop signal",
    "token",
    "readiness",
    "input",
    "protocol",
    "output",
    "linger",
    "filed deadline",
];

/// Returns what the glossary says about the words of the page.
fn words() -> String {
    let glossary = glossary();
    let meaning = |word: &&'static str| {
        let row = glossary.iter().find(|(one, _)| one == word);
        (*word, quoted(&row.unwrap_or_else(|| panic!("docs/glossary.md has no {word}")).1))
    };
    object(["turn"].iter().chain(&STAGES).chain(&WORDS).map(meaning).collect())
}

/// Returns the words of the glossary, each with its meaning.
fn glossary() -> Vec<(String, String)> {
    let page = read("docs/glossary.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let meaning = |row: &str| row.split(" | ").next().unwrap().replace('`', "");
    rows.map(|(word, row)| (word.to_owned(), meaning(row))).collect()
}

/// Returns the boxes of a state. What the program does not have is null.
fn boxes(shape: &Shape, state: &State) -> Vec<(&'static str, String)> {
    let is_staged = !shape.stages.is_empty();
    let queue = if is_staged { queue(&state.queue) } else { "null".to_owned() };
    vec![
        ("interests", list(&state.registered, registered)),
        ("events", list(&state.events, |(token, flags)| format!("[{token}, {}]", quoted(flags)))),
        ("queue", queue),
        ("slots", list(&state.slots, |one| slot(one, is_staged))),
        ("deadlines", optional(state.deadlines)),
    ]
}

fn registered(one: &Registered) -> String {
    let (interest, token) = (optional(one.interest.as_deref()), number(one.token));
    format!("[{}, {interest}, {token}]", one.descriptor)
}

fn queue(queue: &Queue) -> String {
    let numbers = |tokens: &[i64]| list(tokens, i64::to_string);
    let driven = number(queue.driven);
    let (waiting, next) = (numbers(&queue.waiting), numbers(&queue.next));
    format!("[{driven}, {waiting}, {next}, {}]", queue.has_unseen)
}

/// Writes a slot: its readiness only if the program remembers it.
fn slot(slot: &Slot, is_staged: bool) -> String {
    let state = match slot.state {
        SlotState::Open if slot.is_lingering => "lingering",
        SlotState::Open => "open",
        SlotState::Ended => "ended",
        SlotState::Free => "free",
    };
    let known = |one: &Option<bool>| one.map_or("null".to_owned(), |one| one.to_string());
    let is_remembered = is_staged && slot.source == CONNECTION;
    let ready = if is_remembered { list(&slot.ready, known) } else { "null".to_owned() };
    let texts = [slot.source, state].map(quoted);
    let [token, descriptor] = [slot.token, slot.descriptor].map(number);
    let [input, output] = [slot.input(), slot.output()].map(|text| quoted(&text));
    format!("[{token}, {descriptor}, {}, {ready}, {input}, {output}]", texts.join(", "))
}

fn object(fields: Vec<(&str, String)>) -> String {
    let fields = fields.into_iter().map(|(name, value)| format!("{}: {value}", quoted(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

fn list<T>(items: &[T], write: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(write).collect::<Vec<_>>().join(", "))
}

fn number(value: Option<i64>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

fn optional(text: Option<&str>) -> String {
    text.map_or("null".to_owned(), quoted)
}

/// Writes a string of JSON in which no tag of HTML can begin.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '<' => quoted += "\\u003c",
            c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)).unwrap(),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[test]
fn page_of_the_turn_has_every_recording_of_the_chapters() {
    let lock = lock();
    if env::var_os("UPDATE_DOCS").is_some() {
        update(&lock);
    }
    let (page, made) = (read(PAGE), make());
    let mut lines = made.lines().zip(page.lines()).filter(|(made, old)| made != old);
    let stale = lines.next();
    assert!(page == made, "{PAGE} is stale, run UPDATE_DOCS=1 cargo test --test book: {stale:?}");
}

#[test]
fn steps_of_a_recording_are_its_calls_in_order_and_its_stages() {
    let _no_page_is_written = lock();
    for recording in recordings() {
        let page = Page::chapters().into_iter().find(|page| page.title() == recording.title);
        let (_, scene) = recording.id.split_once('-').unwrap();
        let calls = recording.steps.iter().map(|step| step.call.clone());
        let calls: Vec<String> = calls.filter(|call| !call.is_empty()).collect();
        assert_eq!(calls, page.unwrap().calls(scene), "{}", recording.id);
        for steps in recording.steps.windows(2) {
            let place = |step: &Step| STAGES.iter().position(|one| step.stage == Some(one));
            let [before, after] = steps else { unreachable!() };
            // What is between two turns has no stage.
            let has_stages = before.stage.is_some() && after.stage.is_some();
            let is_new_turn = before.turn < after.turn;
            let is_in_order = is_new_turn || !has_stages || place(before) <= place(after);
            assert!(is_in_order, "{}: {} and {}", recording.id, before.call, after.call);
        }
    }
}

/// The model takes a slot for unfinished by its readiness, and the program by its own booleans.
#[test]
fn slots_are_in_the_run_queue_where_a_wait_does_not_sleep() {
    let _no_page_is_written = lock();
    let mut checked = 0;
    for id in ["7-burst", "9-together", "14-room"] {
        let recording = recordings().into_iter().find(|recording| recording.id == id).unwrap();
        for step in recording.steps.iter().filter(|step| step.call.starts_with("epoll_wait")) {
            let has_queued = !step.state.queue.waiting.is_empty();
            assert_eq!(has_queued, step.call.contains("], 0)"), "{id}: {}", step.call);
            checked += 1;
        }
    }
    assert!(checked >= 10, "{checked}");
}

/// A reader finds each title of a box on the page's list, and each word with which it is explained.
#[test]
fn words_on_the_boxes_and_in_definitions_are_among_the_words_of_the_page() {
    // Those of epoll(7).
    const FIELD: [&str; 2] = ["interest list", "events"];
    // A filed deadline is a promise, but not that of an answer to an HTTP client.
    const ORDINARY: &str = "promise";
    let listed = |word: &str| word == "turn" || STAGES.iter().chain(&WORDS).any(|one| *one == word);
    for title in read(PAGE).split("<h3>").skip(1).filter_map(|from| from.split('<').next()) {
        let is_known = FIELD.contains(&title) || listed(title.trim_end_matches('s'));
        assert!(is_known || title.is_empty(), "{PAGE}: what is {title}?");
    }
    let glossary = glossary();
    for (word, meaning) in glossary.iter().filter(|(word, _)| listed(word)) {
        let parts: Vec<&str> = meaning.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
        let text = format!(" {} ", parts.join(" "));
        for (other, _) in glossary.iter().filter(|(other, _)| !listed(other) && other != ORDINARY) {
            let forms = [format!(" {other} "), format!(" {other}s ")];
            assert!(!forms.iter().any(|form| text.contains(form)), "{word}: what is {other}?");
        }
    }
}

/// The figure draws, in time, the turn of chapter 8 in which two slots have an event.
#[test]
fn figure_of_a_turn_has_the_calls_that_were_recorded() {
    let _no_page_is_written = lock();
    let recording = recordings().into_iter().find(|recording| recording.id == "8-slots").unwrap();
    let turn = recording.steps.iter().find(|step| step.state.events.len() == 2).unwrap().turn;
    let figure = read("docs/turn.svg");
    for stage in STAGES {
        let (_, group) = figure.split_once(&format!("<g id=\"{stage}\">")).unwrap();
        let texts = group.split("</g>").next().unwrap().split("class=\"call\"").skip(1);
        let drawn = texts.map(|text| inside(text, ">", "<").to_owned());
        let steps = recording.steps.iter().filter(|step| step.turn == turn);
        let calls = steps.filter(|step| step.stage == Some(stage) && !step.call.is_empty());
        let short = calls.map(|step| {
            let (name, result) = (step.call.split('(').next(), step.call.rsplit(" = ").next());
            format!("{} = {}", name.unwrap(), result.unwrap())
        });
        assert_eq!(drawn.collect::<Vec<_>>(), short.collect::<Vec<_>>(), "{stage}");
    }
}

#[test]
fn pictures_of_the_page_are_small_and_shown() {
    let _no_page_is_written = lock();
    const BYTES_MAX: usize = 150_000;
    let pages = [
        ("README.md", &["docs/turn.svg", "docs/book/turn-light.png", "docs/book/turn.html"][..]),
        ("docs/book/README.md", &["turn-light.png", "turn-dark.png", "turn.html"][..]),
    ];
    for (page, files) in pages {
        let text = read(page);
        for file in files {
            let is_shown = [format!("]({file})"), format!("=\"{file}\"")];
            assert!(is_shown.iter().any(|form| text.contains(form)), "{page} shows no {file}");
            let path = root().join(page).with_file_name(file);
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{file}: {error}")).len();
            let is_picture = !file.ends_with(".html");
            assert!(!is_picture || bytes <= BYTES_MAX, "{file}: {bytes} bytes");
        }
    }
}
