//! Options from the environment: the command line wins, and a wrong value names its variable.

use super::run;
use crate::common::{Ending, Program, check_echo, connect, reactor};

/// Runs the program with `variables` until it ends by itself.
fn run_with(variables: &[(&str, &str)], arguments: &[&str]) -> Ending {
    Program::spawn(reactor().envs(variables.iter().copied()).args(arguments)).wait()
}

#[track_caller]
fn check_usage_error(ending: &Ending, words: &[&str]) {
    assert_eq!(ending.status.code(), Some(2), "{:?}", ending.stderr);
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    for word in words {
        assert!(line.contains(word), "{word} is not in: {line}");
    }
}

#[test]
fn variables_set_addresses_values_and_switches() {
    let mut program = Program::spawn(reactor().envs([
        ("REACTOR_TCP", "127.0.0.1:0, 127.0.0.1:0"),
        ("REACTOR_DRAIN_TIMEOUT", "50ms"),
        ("REACTOR_LOG", "debug"),
        ("REACTOR_ACCESS_LOG", "1"),
    ]));
    program.read_address_lines(2);
    for address in program.addresses("tcp echo") {
        check_echo(&mut connect(address), b"hello");
    }
    program.wait_for_log("DEBUG");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn command_line_replaces_the_variable_of_the_same_option() {
    let mut command = reactor();
    command.env("REACTOR_TCP", "192.0.2.1:1").env("REACTOR_PREFIX", "wrong: ");
    command.args(["--tcp", "127.0.0.1:0", "--prefix=right: "]);
    let mut program = Program::spawn(&mut command);
    program.read_address_lines(1);
    let mut stream = connect(program.tcp());
    std::io::Write::write_all(&mut stream, b"hello").unwrap();
    let mut reply = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut reply).unwrap();
    assert_eq!(&reply, b"right: hello");
    // A wrong value does not matter either, if it is replaced.
    let ending = run_with(
        &[("REACTOR_IDLE_TIMEOUT", "60")],
        &["--idle-timeout", "60s", "--tcp", "192.0.2.1:0"],
    );
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
}

#[test]
fn wrong_value_in_the_environment_names_its_variable() {
    for (variable, value, words) in [
        ("REACTOR_IDLE_TIMEOUT", "60", "60s or 60ms"),
        ("REACTOR_UDP_BUFFER", "much", "K, M or G"),
        ("REACTOR_MAX_CONNECTIONS", "0", "a count is from 1 to"),
        ("REACTOR_LOG", "loud", "off, error, warn, info, debug, trace"),
        ("REACTOR_ACCESS_LOG", "maybe", "1 or true"),
        ("REACTOR_TCP", "localhost", "the port is missing"),
        ("REACTOR_UDP", "unix:/tmp/echo", "UDP has none"),
    ] {
        for arguments in [&[][..], &["serve"]] {
            let ending = run_with(&[(variable, value)], arguments);
            check_usage_error(&ending, &[variable, words, &format!("'{value}'")]);
        }
    }
    // The command line is to blame for its own values, even if there is a variable.
    let ending = run_with(&[("REACTOR_LOG", "info")], &["--log", "loud"]);
    check_usage_error(&ending, &["'--log <LEVEL>'"]);
}

#[cfg(unix)]
#[test]
fn variable_that_is_not_utf8_is_named() {
    use std::os::unix::ffi::OsStrExt;

    let text = std::ffi::OsStr::from_bytes(b"\xff");
    let ending = Program::spawn(reactor().env("REACTOR_PREFIX", text)).wait();
    check_usage_error(&ending, &["REACTOR_PREFIX is not valid UTF-8"]);
    check_usage_error(&Program::spawn(reactor().arg(text)).wait(), &[]);
    let mut command = reactor();
    let ending =
        Program::spawn(command.args(["--tcp", "192.0.2.1:0"]).env("RUST_LOG", text)).wait();
    assert_eq!(ending.status.code(), Some(1));
    assert!(
        ending.stderr[0].contains("RUST_LOG ignored: it is not valid UTF-8"),
        "{:?}",
        ending.stderr
    );
}

#[test]
fn control_characters_in_a_value_are_shown_escaped() {
    for (value, shown) in
        [("6\n\n0s", "'6\\n\\n0s'"), ("\x1b[31m", "'\\u{1b}[31m'"), ("a'b", "'a\\'b'")]
    {
        let ending = run_with(&[("REACTOR_IDLE_TIMEOUT", value)], &[]);
        check_usage_error(&ending, &["REACTOR_IDLE_TIMEOUT", shown, "the unit ms, s, m or h"]);
        let ending = run_with(&[("REACTOR_LOG", value)], &[]);
        check_usage_error(&ending, &["REACTOR_LOG", shown, "off, error, warn"]);
    }
    // An error's reason may quote the value, and the name of an option is written by the user, too.
    check_usage_error(&run(&["--tcp", "[\n\n]:80"]), &["'[\\n\\n]:80'", "\\n\\n is no IPv6"]);
    check_usage_error(&run(&["--a\n\x1b[31mb"]), &["'--a\\n\\u{1b}[31mb'"]);
}

#[test]
fn invalid_rust_log_is_logged_and_ignored() {
    for (value, words) in
        [("garbage===", "invalid logging spec 'garbage==='"), ("a/b/c", "too many '/'s")]
    {
        let ending = run_with(&[("RUST_LOG", value)], &["--tcp", "192.0.2.1:0"]);
        assert_eq!(ending.status.code(), Some(1));
        let [warning, _] = &ending.stderr[..] else { panic!("{:?}", ending.stderr) };
        assert!(warning.contains("WARN") && warning.contains("RUST_LOG ignored: "), "{warning}");
        assert!(warning.contains(words), "{warning}");
    }
}

#[test]
fn empty_variable_counts_as_not_set() {
    let ending = run_with(
        &[("REACTOR_IDLE_TIMEOUT", ""), ("REACTOR_UDP", ""), ("REACTOR_LOG", "")],
        &["--tcp", "192.0.2.1:0"],
    );
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
}

#[test]
fn variables_do_not_reach_the_clients() {
    let ending = run_with(
        &[("REACTOR_IDLE_TIMEOUT", "60"), ("REACTOR_TCP", "127.0.0.1:0")],
        &["send", "--help"],
    );
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let ending = run_with(&[("REACTOR_IDLE_TIMEOUT", "60")], &["blast", "tcp://nowhere.invalid:1"]);
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
}

#[test]
fn misspelt_variable_is_logged_with_a_similar_one() {
    let variables = [("REACTOR_IDEL_TIMEOUT", "60s")];
    let ending = run_with(&variables, &["--tcp", "192.0.2.1:0"]);
    let line = "no option reads REACTOR_IDEL_TIMEOUT; similar: REACTOR_IDLE_TIMEOUT";
    assert!(ending.stderr.iter().any(|logged| logged.contains(line)), "{:?}", ending.stderr);
    assert!(!run(&["--tcp", "192.0.2.1:0"]).stderr[0].contains("environment"));
}
