//! The README's first commands, followed in order: what they print is what the README says.

#![cfg(unix)]
// The helpers here unwrap as the tests do, and a command that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::env;
use std::path::Path;
use std::process::Command;

use common::{Program, reactor};

const README: &str = include_str!("../README.md");
const ARGUMENTS: [&str; 6] =
    ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--http", "127.0.0.1:0"];

/// Returns the commands of the README's blocks for a shell, in order.
fn commands() -> impl Iterator<Item = &'static str> {
    let blocks = README.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix("sh\n")).flat_map(str::lines)
}

/// Runs a command of the README in a shell that finds the program, and returns what it prints.
fn output_of(command: &str) -> String {
    let reactor = reactor();
    let folder = Path::new(reactor.get_program()).parent().unwrap();
    let path = format!("{}:{}", folder.display(), env::var("PATH").unwrap());
    let ending = Program::spawn(Command::new("sh").args(["-c", command]).env("PATH", path)).wait();
    assert_eq!(ending.status.code(), Some(0), "{command}: {:?}", ending.stderr);
    ending.stdout.join("\n")
}

#[test]
fn readme_commands_followed_in_order_print_what_it_says() {
    let is_cargo = |line: &&str| line.starts_with("cargo ");
    let (cargos, others): (Vec<_>, Vec<_>) = commands().partition(is_cargo);
    // What the first one starts is started here at free ports. The other two are built already.
    assert_eq!(cargos, ["cargo run --release", "cargo test", "cargo install --path ."]);
    let server = Program::start(&ARGUMENTS);
    let replacements = [
        ("tcp://127.0.0.1:2000", format!("tcp://{}", server.tcp())),
        ("udp://127.0.0.1:2000", format!("udp://{}", server.udp())),
        ("http://127.0.0.1:8080", format!("http://{}", server.http())),
    ];
    assert_eq!(others.len(), 4, "the form of the block has not changed: {others:?}");
    for line in others {
        let (command, printed) = line.split_once("# prints: ").expect("it says what it prints");
        if command.starts_with("curl ") && Command::new("curl").arg("-V").output().is_err() {
            println!("skipped: curl is not installed: {command}");
            continue;
        }
        let mut command = command.to_owned();
        for (default, bound) in &replacements {
            command = command.replace(default, bound);
        }
        assert_eq!(output_of(&command), printed, "{command}");
    }
    server.signal("INT");
    assert_eq!(server.wait().status.code(), Some(0), "Ctrl-C stops it gracefully");
}
