//! Names in Linux's abstract namespace: `unix:@NAME` has no file.

use std::process::Command;

use crate::common::{Program, reactor};

/// Returns a name that no other process uses.
fn unused_name(test: &str) -> String {
    format!("unix:@reactor-{test}-{}", std::process::id())
}

fn send(address: &str) -> (Option<i32>, Vec<String>, Vec<String>) {
    let ending = Program::spawn(reactor().args(["send", address, "hello"])).wait();
    (ending.status.code(), ending.stdout, ending.stderr)
}

// pitfall: 165
#[test]
fn abstract_name_is_served_and_leaves_no_file() {
    let directory = std::env::temp_dir().join(format!("reactor-abstract-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let address = unused_name("served");
    let mut program = Program::spawn(reactor().current_dir(&directory).args(["--tcp", &address]));
    program.read_address_lines(1);
    assert_eq!(send(&address), (Some(0), vec!["hello".to_string()], vec![]));
    let names = std::fs::read_dir(&directory).unwrap().count();
    let ending = program.stop();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(names, 0);
    assert_eq!(
        (ending.status.code(), ending.stdout),
        (Some(0), vec![format!("tcp echo {address}")])
    );
    let (status, _, stderr) = send(&address);
    assert!(status == Some(1) && stderr[0].contains("nothing listens there"), "{stderr:?}");
}

// pitfall: 165
#[test]
fn abstract_name_in_use_or_too_long_is_refused_with_one_line() {
    let address = unused_name("taken");
    let mut program = Program::spawn(reactor().args(["--tcp", &address]));
    program.read_address_lines(1);
    let check = |command: &mut Command, status: i32, words: &str| {
        let ending = Program::spawn(command).wait();
        let line = ending.stderr.last().unwrap();
        assert_eq!(ending.status.code(), Some(status), "{line}");
        assert!(line.contains(words), "{line}");
    };
    check(reactor().args(["--tcp", &address]), 1, "in use");
    check(reactor().args(["--tcp", "unix:@"]), 2, "needs a name");
    let long = format!("unix:@{}", "x".repeat(108));
    check(reactor().args(["--tcp", &long]), 1, "too long");
    check(reactor().args(["send", &long, "hello"]), 1, "too long");
}
