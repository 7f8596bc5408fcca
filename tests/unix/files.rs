//! The files that stand for Unix sockets.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Barrier, mpsc};
use std::thread;

use super::{Directory, at, connect, inode, serve_echo};
use crate::common::{Ending, PATIENCE, Program, check_echo, reactor};
use mio_reactor::{Echo, Limits, Reactor};
use socket2::{Domain, SockAddr, Socket, Type};

#[test]
fn its_start_line_names_the_path_and_its_file_goes_when_it_stops() {
    // A path may be relative, also to the last.
    let directory = Directory::new("line");
    for (name, place) in [("one", at(&directory.path("one"))), ("two", "unix:two".to_string())] {
        let arguments = ["--tcp", &place, "--log", "debug"];
        let mut command = reactor();
        let mut program = Program::spawn(command.args(arguments).current_dir(&directory.0));
        program.read_addresses(&arguments);
        let path = directory.path(name);
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        assert_eq!(neighbours(&path), [name]);
        check_echo(&mut connect(&path), b"hello");
        let line = program.logged("closed: ");
        assert!(line.contains(" unix: closed: finished"), "{line}");
        let ending = program.stop();
        assert_eq!(
            (ending.status.code(), ending.stdout),
            (Some(0), vec![format!("tcp echo {place}")])
        );
        assert_eq!(inode(&path), None);
    }
}

#[test]
fn the_file_of_one_who_was_killed_is_taken_over() {
    let directory = Directory::new("stale");
    let path = directory.path("socket");
    let killed = serve_echo(&path);
    killed.signal("KILL");
    killed.wait();
    assert!(inode(&path).is_some(), "it could not remove its file");
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let program = serve_echo(&path);
    check_echo(&mut connect(&path), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(inode(&path), None);
}

/// What is in the directory in which `path` is.
fn neighbours(path: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(path.parent().unwrap()).into_iter().flatten();
    let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Starts the program at `path`, where it must not serve. It says why, and leaves what is there as it is, and nothing beside it.
#[track_caller]
fn check_refused(path: &Path, why: &str) {
    let (inode_before, neighbours_before) = (inode(path), neighbours(path));
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
    assert_eq!(inode(path), inode_before, "it has not been touched");
    assert_eq!(neighbours(path), neighbours_before);
}

#[test]
fn where_somebody_listens_nothing_is_taken_over() {
    // One who accepts, and one who listens for datagrams.
    let directory = Directory::new("live");
    let path = directory.path("program");
    let program = serve_echo(&path);
    check_refused(&path, "in use, somebody listens there");
    check_echo(&mut connect(&path), b"I am still here.");
    assert_eq!(program.stop().status.code(), Some(0));

    let path = directory.path("datagrams");
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    check_refused(&path, "in use, there is a socket of which nothing is known");
}

#[test]
#[cfg(target_os = "linux")]
fn one_with_a_full_queue_listens_too() {
    // So many wait there that nobody can be let in, to ask.
    let directory = Directory::new("full");
    let path = directory.path("socket");
    let address = SockAddr::unix(&path).unwrap();
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&address).unwrap();
    full.listen(0).unwrap();
    let come = || {
        let peer = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer.connect(&address).map(|()| peer)
    };
    let _waiting: Vec<Socket> = std::iter::from_fn(|| come().ok()).take(1000).collect();
    assert_eq!(come().unwrap_err().kind(), ErrorKind::WouldBlock);
    check_refused(&path, "in use, somebody listens there");
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    // Also a symbolic link, wherever it leads: to somebody who listens, to one who does not, to a file, or to nothing.
    let directory = Directory::new("other");
    let file = directory.path("file");
    fs::write(&file, "mine").unwrap();
    check_refused(&file, "in use, there is a file which is not a socket");
    check_refused(&directory.0, "in use, there is a file which is not a socket");
    let (live, stale) = (directory.path("live"), directory.path("stale"));
    let _live = UnixListener::bind(&live).unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    for (number, target) in
        [&live, &stale, &file, &directory.path("nothing")].into_iter().enumerate()
    {
        let (link, target_before) = (directory.path(&format!("link {number}")), inode(target));
        symlink(target, &link).unwrap();
        check_refused(&link, "in use, there is a symbolic link");
        assert_eq!((fs::read_link(&link).unwrap(), inode(target)), (target.clone(), target_before));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_file_that_has_taken_the_place_of_ours_stays_when_we_stop() {
    // Somebody has removed the program's file and has put something else there: a socket, or any other file.
    let directory = Directory::new("replaced");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    let others = UnixListener::bind(&path).unwrap();
    let before = inode(&path);
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(inode(&path), before);
    UnixStream::connect(&path).unwrap();
    drop(others);

    fs::remove_file(&path).unwrap();
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

    fs::remove_file(&path).unwrap();
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(
        program.stop().status.code(),
        Some(0),
        "that there is nothing to remove does not matter"
    );
}

#[test]
fn who_finds_the_file_finds_somebody_who_listens() {
    // Somebody asks without pause, from before there is a file until there is an answer, which must not be that nobody listens.
    // (Were there such a moment, some of these rounds would meet it.)
    let directory = Directory::new("asked");
    let (round, rounds) = mpsc::channel::<PathBuf>();
    let (answer, answers) = mpsc::channel();
    thread::spawn(move || {
        let knock = |path: &PathBuf| loop {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => return other.map(drop).map_err(|error| error.kind()),
            }
        };
        rounds.iter().try_for_each(|path| answer.send(knock(&path)))
    });
    for number in 0..1000 {
        let path = directory.path(&number.to_string());
        round.send(path.clone()).unwrap();
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.listen_unix(&path, Echo::new).unwrap();
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), Ok(()), "round {number}");
    }
}

#[test]
fn of_those_who_start_at_once_one_has_the_path_and_the_others_are_told() {
    // Whoever has it can be reached, also when the others have gone.
    let directory = Directory::new("race");
    let path = directory.path("socket");
    let all = Barrier::new(3);
    for number in 0..1000 {
        let begin = || {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            all.wait();
            let result = reactor.listen_unix(&path, Echo::new).map_err(|error| error.kind());
            let _reactor = result.is_ok().then_some(reactor); // who has lost goes at once
            all.wait();
            let is_reached = UnixStream::connect(&path).is_ok();
            all.wait();
            (result, is_reached)
        };
        let endings: Vec<_> = thread::scope(|scope| {
            let three: Vec<_> = (0..3).map(|_| scope.spawn(begin)).collect();
            three.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let count = |result| endings.iter().filter(|ending| **ending == (result, true)).count();
        assert_eq!(
            (count(Ok(())), count(Err(ErrorKind::AddrInUse))),
            (1, 2),
            "round {number}: {endings:?}"
        );
        assert_eq!(neighbours(&path), [""; 0]);
    }
}

#[test]
fn a_path_that_cannot_be_a_sockets_is_refused_with_the_reason() {
    // One that is as long as it may be is not.
    let directory = Directory::new("paths");
    let longest = directory.path(&"x".repeat(106 - directory.0.as_os_str().len()));
    let program = serve_echo(&longest);
    check_echo(&mut connect(&longest), b"hello");
    assert_eq!((program.stop().status.code(), neighbours(&longest)), (Some(0), vec![]));
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
fn a_reactor_that_is_dropped_takes_its_file_along() {
    let directory = Directory::new("dropped");
    let path = directory.path("socket");
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    reactor.listen_unix(&path, Echo::new).unwrap();
    let error = reactor.listen_unix(&path, Echo::new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "also from the same reactor: {error}");
    assert!(inode(&path).is_some());
    drop(reactor);
    assert_eq!(inode(&path), None);
}
