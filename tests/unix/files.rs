//! The files of Unix sockets: when one is created, taken over, left alone and removed.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Barrier, mpsc};
use std::thread;

use mio_reactor::{Echo, Limits, Reactor};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Directory, at, connect, inode, serve_echo};
use crate::common::{Ending, Program, TIMEOUT, check_echo, reactor};

// pitfall: 90
#[test]
fn start_line_names_the_path_and_stop_removes_the_file() {
    // A relative path works, and is still valid when the file is removed.
    let directory = Directory::new("line");
    for (name, address) in [("one", at(&directory.path("one"))), ("two", "unix:two".to_string())] {
        let arguments = ["--tcp", &address, "--log", "debug"];
        let mut command = reactor();
        let mut program = Program::spawn(command.args(arguments).current_dir(&directory.0));
        program.read_addresses(&arguments);
        let path = directory.path(name);
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        assert_eq!(names_beside(&path), [name]);
        check_echo(&mut connect(&path), b"hello");
        let line = program.wait_for_log("closed: ");
        assert!(line.contains(" unix: closed: finished"), "{line}");
        let ending = program.stop();
        assert_eq!(
            (ending.status.code(), ending.stdout),
            (Some(0), vec![format!("tcp echo {address}")])
        );
        assert_eq!(inode(&path), None);
    }
}

// pitfall: 89
#[test]
fn file_of_a_killed_server_is_taken_over() {
    let directory = Directory::new("stale");
    let path = directory.path("socket");
    let killed = serve_echo(&path);
    killed.signal("KILL");
    killed.wait();
    assert!(inode(&path).is_some(), "a killed program does not remove its file");
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let program = serve_echo(&path);
    check_echo(&mut connect(&path), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(inode(&path), None);
}

/// Returns the names in the directory of `path`.
fn names_beside(path: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(path.parent().unwrap()).into_iter().flatten();
    let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Starts the program at `path`, where it must not listen. Checks that its error line contains
/// `why`, that what is at the path is unchanged, and that no other file is left behind.
#[track_caller]
fn check_refused(path: &Path, why: &str) {
    let (inode_before, names_before) = (inode(path), names_beside(path));
    for (flag, service) in [("--tcp", "tcp echo"), ("--http", "http")] {
        let Ending { status, stdout, stderr } =
            Program::spawn(reactor().args([flag, &at(path)])).wait();
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{stderr:?}");
        let [line] = &stderr[..] else { panic!("one line: {stderr:?}") };
        assert!(
            line.starts_with(&format!("reactor: {service} {}: ", at(path))) && line.contains(why),
            "{line}"
        );
    }
    assert_eq!(inode(path), inode_before, "the file is the same");
    assert_eq!(names_beside(path), names_before);
}

// pitfall: 38, 89
#[test]
fn path_of_a_live_server_is_not_taken_over() {
    // One socket accepts connections, the other receives datagrams.
    let directory = Directory::new("live");
    let path = directory.path("program");
    let program = serve_echo(&path);
    check_refused(&path, "in use: a process listens there");
    check_echo(&mut connect(&path), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));

    let path = directory.path("datagrams");
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    check_refused(&path, "in use: a socket of unknown state is there");
}

// pitfall: 89
#[test]
#[cfg(target_os = "linux")]
fn server_with_a_full_backlog_counts_as_live() {
    // The backlog is full, so the connect that checks whether a server listens cannot finish.
    let directory = Directory::new("full");
    let path = directory.path("socket");
    let address = SockAddr::unix(&path).unwrap();
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&address).unwrap();
    full.listen(0).unwrap();
    let try_connect = || {
        let peer = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer.connect(&address).map(|()| peer)
    };
    let _waiting: Vec<Socket> = std::iter::from_fn(|| try_connect().ok()).take(1000).collect();
    assert_eq!(try_connect().unwrap_err().kind(), ErrorKind::WouldBlock);
    check_refused(&path, "in use: a process listens there");
}

// pitfall: 89
#[test]
fn files_and_links_at_the_path_are_left_alone() {
    // That includes a symbolic link, whether it leads to a socket with or without a listener, a
    // file, or nothing.
    let directory = Directory::new("other");
    let (file, subdirectory) = (directory.path("file"), directory.path("directory"));
    fs::write(&file, "mine").unwrap();
    fs::create_dir(&subdirectory).unwrap();
    check_refused(&file, "in use: a file that is not a socket is there");
    check_refused(&subdirectory, "in use: a file that is not a socket is there");
    let (live, stale) = (directory.path("live"), directory.path("stale"));
    let _live = UnixListener::bind(&live).unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    for (number, target) in
        [&live, &stale, &file, &directory.path("nothing")].into_iter().enumerate()
    {
        let (link, target_before) = (directory.path(&format!("link {number}")), inode(target));
        symlink(target, &link).unwrap();
        check_refused(&link, "in use: a symbolic link is there");
        assert_eq!((fs::read_link(&link).unwrap(), inode(target)), (target.clone(), target_before));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

// pitfall: 38, 90
#[test]
fn stop_leaves_a_file_that_replaced_its_own() {
    // Another process has replaced the program's file by a socket, and then by a regular file.
    let directory = Directory::new("replaced");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    let replacement = UnixListener::bind(&path).unwrap();
    let before = inode(&path);
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(inode(&path), before);
    UnixStream::connect(&path).unwrap();
    drop(replacement);

    fs::remove_file(&path).unwrap();
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

    fs::remove_file(&path).unwrap();
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(program.stop().status.code(), Some(0), "a missing file is no error");
}

// pitfall: 89
#[test]
fn socket_file_never_appears_before_the_server_listens() {
    // A thread connects in a loop, from before the file exists until a connect does not fail with
    // ENOENT. That connect must not be refused. (If there were such a moment, some of these rounds
    // would hit it.)
    let directory = Directory::new("probed");
    let (path_sender, paths) = mpsc::channel::<PathBuf>();
    let (result_sender, results) = mpsc::channel();
    thread::spawn(move || {
        let probe = |path: &PathBuf| loop {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => return other.map(drop).map_err(|error| error.kind()),
            }
        };
        paths.iter().try_for_each(|path| result_sender.send(probe(&path)))
    });
    for number in 0..1000 {
        let path = directory.path(&number.to_string());
        path_sender.send(path.clone()).unwrap();
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.listen_unix(&path, Echo::new).unwrap();
        assert_eq!(results.recv_timeout(TIMEOUT).unwrap(), Ok(()), "round {number}");
    }
}

// pitfall: 89
#[test]
fn of_servers_started_at_once_one_gets_the_path_and_others_fail() {
    // The one that has the path can be reached, also after the others have been dropped.
    let directory = Directory::new("race");
    let path = directory.path("socket");
    let barrier = Barrier::new(3);
    for number in 0..1000 {
        let start = || {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            barrier.wait();
            let result = reactor.listen_unix(&path, Echo::new).map_err(|error| error.kind());
            let _reactor = result.is_ok().then_some(reactor); // a loser is dropped at once
            barrier.wait();
            let is_reachable = UnixStream::connect(&path).is_ok();
            barrier.wait();
            (result, is_reachable)
        };
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let count = |result| outcomes.iter().filter(|outcome| **outcome == (result, true)).count();
        assert_eq!(
            (count(Ok(())), count(Err(ErrorKind::AddrInUse))),
            (1, 2),
            "round {number}: {outcomes:?}"
        );
        assert_eq!(names_beside(&path), [""; 0]);
    }
}

#[test]
fn invalid_socket_path_is_rejected_with_the_reason() {
    // A path of the greatest length allowed is served.
    let directory = Directory::new("paths");
    let longest = directory.path(&"x".repeat(106 - directory.0.as_os_str().len()));
    let program = serve_echo(&longest);
    check_echo(&mut connect(&longest), b"hello");
    assert_eq!((program.stop().status.code(), names_beside(&longest)), (Some(0), vec![]));
    check_refused(&directory.path(&"x".repeat(108)), "too long");
    check_refused(&directory.path("nowhere/socket"), "No such file or directory");
    for arguments in
        [["--tcp", "unix:"], ["--http", "unix:"], ["--udp", "unix:/tmp/socket"], ["--tcp", "unix"]]
    {
        let Ending { status, stderr, .. } = Program::spawn(reactor().args(arguments)).wait();
        assert_eq!((status.code(), stderr.len()), (Some(2), 1), "{arguments:?}: {stderr:?}");
    }
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    for path in ["", "\0name", "a\0b"] {
        assert_eq!(
            reactor.listen_unix(path, Echo::new).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{path:?}"
        );
    }
}

#[test]
fn dropped_reactor_removes_its_socket_file() {
    let directory = Directory::new("dropped");
    let path = directory.path("socket");
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    reactor.listen_unix(&path, Echo::new).unwrap();
    let error = reactor.listen_unix(&path, Echo::new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "within one reactor, too: {error}");
    assert!(inode(&path).is_some());
    drop(reactor);
    assert_eq!(inode(&path), None);
}
