//! Our own servers pass every row that can be run.

use super::common::Program;
use super::{MORE_TIME, Outcome, names, run, run_rows};

/// Checks that every row passes, or is one that `may_skip` names.
#[track_caller]
fn check_passes(url: &str, may_skip: &[&str], further: &[&'static str]) {
    let rows = names(url).into_iter().map(|row| {
        let further = [&MORE_TIME[..], further].concat();
        (row, url.to_string(), further)
    });
    run_rows(rows.collect(), 3, |row, outcome, text| {
        let is_skipped = outcome == Outcome::Skipped && may_skip.contains(&row);
        assert!(is_skipped || outcome == Outcome::Passed, "{url}: {text}");
    });
}

#[test]
fn our_tcp_echo_passes_every_row() {
    let program = Program::start(&["--tcp", "127.0.0.1:0"]);
    check_passes(&format!("tcp://{}", program.tcp()), &[], &[]);
}

#[test]
fn our_tcp_echo_with_a_prefix_passes_every_row() {
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--prefix", "echo -> "]);
    check_passes(&format!("tcp://{}", program.tcp()), &[], &["--prefix", "echo -> "]);
}

/// Only root may open a raw socket, and bind a port below 1024. Elsewhere than on Linux, there is
/// no second loopback address.
#[test]
fn our_udp_echo_passes_every_row() {
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let url = format!("udp://{}", program.udp());
    let may_skip: &[&str] = match cfg!(target_os = "linux") {
        true => &["port-zero", "service-port"],
        false => &["port-zero", "service-port", "own-port"],
    };
    check_passes(&url, may_skip, &[]);
}

#[cfg(unix)]
#[test]
fn our_unix_echo_passes_every_row_that_needs_no_port() {
    let path = std::env::temp_dir().join(format!("reactor-try-{}", std::process::id()));
    let url = format!("unix:{}", path.display());
    let _program = Program::start(&["--tcp", &url]);
    check_passes(&url, &["urgent", "same-address"], &[]);
}

#[test]
fn our_http_server_passes_every_row() {
    let program = Program::start(&["--http", "127.0.0.1:0"]);
    check_passes(&format!("http://{}/", program.http()), &[], &[]);
}

#[test]
fn whole_trial_of_our_udp_echo_exits_0_with_a_plan_and_every_row() {
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let url = format!("udp://{}", program.udp());
    let ending = run(&[&[url.as_str()][..], &MORE_TIME].concat());
    let count = names(&url).len();
    assert_eq!(ending.stdout[0], "TAP version 14");
    assert_eq!(ending.stdout[1], format!("1..{count}"));
    let rows = ending.stdout.iter().filter(|line| line.starts_with("ok ")).count();
    assert_eq!((rows, ending.status.code()), (count, Some(0)), "{:?}", ending.stdout);
    assert_eq!(ending.stderr, [""; 0]);
}
