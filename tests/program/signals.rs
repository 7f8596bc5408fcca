//! Every signal whose default action would end or suspend the server, and those that it inherits.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{TCP, ignores};
use crate::common::{
    Program, check_echo, connect, connect_narrow, fill_buffers, reactor, reactor_in_shell,
    reactor_through,
};

/// Starts the program with one listener through `sh`, which runs `setup` first. `"$@"` there is the
/// program with its arguments.
fn start_after(setup: &str) -> Program {
    let mut command = reactor_in_shell(&format!("{setup}; exec \"$@\""));
    let mut program = Program::spawn(command.args(TCP));
    program.read_addresses(&TCP);
    program
}

/// Checks that the program goes on serving after the signal.
#[track_caller]
fn check_survives(program: &Program, signal: &str) {
    let mut stream = connect(program.tcp());
    check_echo(&mut stream, b"before");
    program.signal(signal);
    check_echo(&mut stream, b"after");
}

// pitfall: 122
#[test]
fn hang_up_and_used_up_limits_stop_gracefully() {
    for signal in ["HUP", "ALRM", "XCPU", "PWR"].into_iter().filter(|signal| !ignores(signal)) {
        let path = std::env::temp_dir().join(format!("reactor-{}-{signal}", std::process::id()));
        let mut program = Program::spawn(
            reactor().args(TCP).args(["--tcp", &format!("unix:{}", path.display())]),
        );
        program.read_address_lines(2);
        assert!(path.exists());
        program.signal(signal);
        let ending = program.wait();
        assert_eq!(ending.status.code(), Some(0), "SIG{signal}: {:?}", ending.stderr);
        assert!(!path.exists(), "SIG{signal}: the file of the Unix socket is left");
        let line = format!("stop requested by SIG{signal}");
        assert!(ending.stderr.iter().any(|logged| logged.ends_with(&line)), "{:?}", ending.stderr);
    }
}

// pitfall: 122
#[test]
fn repeated_hang_up_does_not_cut_a_drain_short() {
    // The peer reads nothing, so the program drains until the drain timeout. systemd may send
    // SIGHUP together with SIGTERM, and SIGXCPU comes once a second.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--drain-timeout", "2s"]);
    let mut stuck = connect_narrow(program.tcp());
    fill_buffers(&mut stuck, &vec![7; 8 << 20]);
    program.signal("XCPU");
    program.wait_for_log("stopping: 1 connections");
    for signal in ["HUP", "TERM", "XCPU", "HUP"] {
        program.signal(signal);
    }
    assert_eq!(program.wait().status.code(), Some(3), "by force, and not at once by a signal");
}

// pitfall: 122
#[test]
fn signals_without_a_meaning_do_not_end_the_server() {
    let program = Program::start(&TCP);
    for signal in ["USR1", "USR2", "VTALRM", "PROF", "IO", "XFSZ", "PIPE", "CHLD", "URG", "WINCH"] {
        check_survives(&program, signal);
    }
    assert_eq!(program.stop().status.code(), Some(0));
}

// pitfall: 122
#[test]
fn quit_ends_the_process_at_once_as_by_default() {
    if ignores("QUIT") {
        return; // then it stays ignored, and no shell can change that
    }
    // With a core file, where those are enabled: that is what SIGQUIT is for.
    let program = start_after("ulimit -c 0");
    program.signal("QUIT");
    assert_eq!(program.wait().status.signal(), Some(libc::SIGQUIT));
}

// pitfall: 122
#[test]
fn ignored_hang_up_stays_ignored_and_interrupt_and_term_do_not() {
    for signal in ["INT", "TERM"] {
        let program = start_after("trap '' HUP INT TERM");
        check_survives(&program, "HUP");
        program.signal(signal);
        assert_eq!(program.wait().status.code(), Some(0), "{signal}");
    }
}

// pitfall: 123
#[test]
fn blocked_signals_are_unblocked_at_start() {
    for signal in ["TERM", "HUP"].into_iter().filter(|signal| !ignores(signal)) {
        let blocked = format!("--block-signal={signal}");
        let supported = Command::new("env").args([&blocked, "true"]).status();
        if !supported.is_ok_and(|status| status.success()) {
            println!("skipped: env(1) has no --block-signal");
            return;
        }
        let program = start_after(&format!("set -- env {blocked} \"$@\""));
        program.signal(signal);
        assert_eq!(program.wait().status.code(), Some(0), "SIG{signal}");
    }
}

// pitfall: 122
#[test]
fn background_server_is_not_suspended_by_its_own_log() {
    // The terminal stops background processes that write to it (stty tostop).
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let terminal = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name.to_str().unwrap())
        .unwrap();
    // `set -m` gives the job a process group of its own, in the background. timeout(1) is there in
    // case the test fails: the terminal's end does not reach such a job.
    let line =
        "stty tostop; trap 'kill %1' TERM; set -m; timeout --foreground 30 \"$@\" & wait; wait";
    let mut command = reactor_through(&["setsid", "--ctty", "bash", "-c", line, "bash"]);
    command.args(TCP).args(["--log", "debug"]).stdin(terminal.try_clone().unwrap());
    command.stdout(Stdio::piped()).stderr(terminal);
    let mut session = Program::spawn_as_configured(&mut command);
    session.read_addresses(&TCP);
    for _ in 0..3 {
        check_echo(&mut connect(session.tcp()), b"hello"); // logs a line
    }
    session.stop();
}

// pitfall: 240
#[test]
fn stop_is_logged_with_its_signal_before_the_drain() {
    // The peer reads nothing, so the drain lasts for as long as the test. The signal has its line
    // all the same, before the lines of the stop.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--drain-timeout", "1h"]);
    let mut stuck = connect_narrow(program.tcp());
    fill_buffers(&mut stuck, &vec![7; 8 << 20]);
    program.signal("TERM");
    program.wait_for_log("stop requested by SIGTERM");
    program.wait_for_log("stopping: 1 connections open");
    let log = program.log();
    assert!(log.find("stop requested by") < log.find("stopping: "), "{log}");
    assert!(!log.contains("stopped: "), "{log}");
}
