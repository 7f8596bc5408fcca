//! What docs/design.md calls absent is absent.

use super::files::{read, source_files};

/// The parts of the program that may start threads, block and print: its command line and
/// two clients.
const MAY_BLOCK: [&str; 4] = ["main", "cli", "send", "trial"];

#[test]
fn library_has_no_thread_lock_async_or_print() {
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
    /// Worker threads work beside the loop, where an application asks for them, and the lock is
    /// between them. The loop takes no lock and waits for none of them.
    const OF_WORKERS: [&str; 2] = ["thread::", "Mutex"];
    const EXCEPTED: [&str; 3] = ["'static ", "static NEXT_GENERATIONS", "thread::panicking"];
    let mut polls = Vec::new();
    for path in source_files().iter().filter(|path| !may_block(path) && !is_for_tests(path)) {
        let source = read(path);
        let code = source.split("#[cfg(test)]\nmod ").next().expect("a split has a first part");
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            // The one global is the counter of ids. `panicking` starts no thread.
            let line = EXCEPTED.iter().fold(line.to_owned(), |line, word| line.replace(word, ""));
            let is_of_workers = |word: &str| path == "src/workers.rs" && OF_WORKERS.contains(&word);
            let found = ABSENT.iter().find(|word| line.contains(**word) && !is_of_workers(word));
            assert!(found.is_none(), "{path} has {found:?}: {line}");
            polls.extend(line.contains(".poll(").then(|| path.clone()));
        }
    }
    assert_eq!(polls, ["src/reactor.rs"], "the program sleeps in one place");
}

fn may_block(path: &str) -> bool {
    let Some(name) = path.strip_prefix("src/bin/reactor/") else { return false };
    MAY_BLOCK.contains(&name.split(['.', '/']).next().unwrap_or(name))
}

/// Returns whether the file is compiled for the library's own tests only.
fn is_for_tests(path: &str) -> bool {
    path.starts_with("src/testing/simulated")
}

#[test]
fn simulated_kernel_is_compiled_for_tests_only() {
    let module = "    #[cfg(test)]\n    pub(crate) mod simulated;";
    assert!(read("src/lib.rs").contains(module), "the simulated kernel is for tests only");
}
