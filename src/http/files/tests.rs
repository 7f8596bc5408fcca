//! What a path means, without asking the system; and how a file is read, without a peer. The rest is in `tests/files.rs`.

use std::io::{ErrorKind, Write};
use std::path::Component;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{FILE_TRIES_MAX, FILE_WAIT_GAP_MS};

/// The file that a path names.
fn named(path: &[u8]) -> Option<PathBuf> {
    Target::of(path).map(|target| target.file())
}

#[test]
fn a_path_names_a_file_below_the_root_or_none() {
    for (path, file) in [
        (&b"/"[..], Some("index.html")),
        (b"/a", Some("a")),
        (b"/a/", Some("a/index.html")),
        (b"/a/b.c/d", Some("a/b.c/d")),
        (b"/%61%20b", Some("a b")),
        (b"/a+b&c=d;e", Some("a+b&c=d;e")), // no form: a plus is a plus
        (b"/%252e%252e", Some("%2e%2e")),   // decoded once
        (b"/.well-known/a", Some(".well-known/a")),
        (b"/a..b/c.", Some("a..b/c.")),
        (b"/a/b:c", Some("a/b:c")),
        // Up, or hidden.
        (b"/..", None),
        (b"/../a", None),
        (b"/a/../b", None),
        (b"/a/..", None),
        (b"/./a", None),
        (b"/%2e%2e/a", None),
        (b"/.%2E/a", None),
        (b"/.git/config", None),
        (b"/a/.htpasswd", None),
        (b"/.well-known.old/a", None),
        // What separates on this system, or on another, and is no separator.
        (b"/a%2fb", None),
        (b"/..%2f..%2fetc", None),
        (b"/%2fetc%2fpasswd", None),
        (b"/a\\..\\b", None),
        (b"/a%5cb", None),
        (b"/a%00.html", None),
        // An empty name.
        (b"//", None),
        (b"//a", None),
        (b"/a//b", None),
        (b"/a//", None),
        // No path at all.
        (b"*", None),
        (b"a", None),
        (b"", None),
    ] {
        assert_eq!(named(path), file.map(PathBuf::from), "{}", path.escape_ascii());
    }
    let bytes = named(b"/caf%e9").expect("a name may have any other bytes");
    assert_eq!(bytes.as_os_str().as_bytes(), b"caf\xe9");
}

#[test]
fn a_percent_sign_without_two_hexadecimal_digits_is_bad() {
    for (path, is_well) in [
        (&b"/a"[..], true),
        (b"/%41", true),
        (b"/%25", true),
        (b"/%aF%fA", true),
        (b"/%", false),
        (b"/%4", false),
        (b"/%4/1", false),
        (b"/%%41", false),
        (b"/%41%zz", false),
        (b"/%u0041", false),
    ] {
        assert_eq!(is_well_encoded(path), is_well, "{}", path.escape_ascii());
    }
}

proptest! {
    #[test]
    fn whatever_a_path_says_each_part_of_it_is_a_plain_name(path in "/(([.a%/\\\\\0:~]|%2e|%2f|%5c|%00|\\.\\.){0,8}/?){0,4}") {
        if let Some(file) = named(path.as_bytes()) {
            prop_assert!(file.components().all(|part| matches!(part, Component::Normal(_))), "{path:?} names {file:?}");
            prop_assert!(file.is_relative(), "{path:?} names {file:?}");
        }
    }
}

#[test]
fn a_moment_is_said_in_whole_seconds_and_only_if_it_can_be() {
    let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
    assert_eq!(whole_seconds(at(1999)), at(1000));
    assert_eq!(whole_seconds(before), at(0));
    assert_eq!(clamp_last_modified(at(5000), at(9000)), at(5000));
    assert_eq!(
        clamp_last_modified(at(9000), at(5000)),
        at(4000),
        "nothing was changed in times to come, nor in this second"
    );
    assert_eq!(clamp_last_modified(at(4200), at(4700)), at(3700), "which is not over");
    assert_eq!(clamp_last_modified(before, at(5000)), at(0), "HTTP has no date before 1970");
    assert_eq!(clamp_last_modified(at(5000), before), at(0), "whatever the clock says");
}

#[test]
fn of_many_failures_in_a_row_one_is_logged_and_the_others_are_counted() {
    let files = Files::below(std::env::temp_dir()).expect("there is such a directory");
    for _ in 0..5 {
        files.root.warn_rate_limited(&io::Error::from_raw_os_error(libc::EMFILE));
    }
    assert_eq!(files.root.failures.get(), 4, "the first was logged");
    files.root.silent_until.set(Some(sys::now()));
    files.root.warn_rate_limited(&io::Error::from_raw_os_error(libc::EMFILE));
    assert_eq!(files.root.failures.get(), 0, "and so was the sixth, with the count");
}

/// A file of `bytes` in `directory` without a name, and all of it written to where it is kept.
fn file_in(directory: &Path, bytes: &[u8]) -> File {
    let path = directory.join(format!("reactor-files-{}-{}", std::process::id(), bytes.len()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("it can be made");
    std::fs::remove_file(path).expect("it can be unlinked");
    file.write_all(bytes).and_then(|()| file.sync_all()).expect("there is room");
    file
}

/// Reads to the end, and returns how often it was told to come again.
fn read_all(reader: &mut Reader) -> (Vec<u8>, u32) {
    let (mut bytes, mut told) = (Vec::new(), 0);
    let mut piece = vec![0; 10_000];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return (bytes, told),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                told += 1;
                assert!(
                    reader.tries <= FILE_TRIES_MAX,
                    "then it waits, as soon as the disk has rested"
                );
            }
        }
    }
}

#[test]
fn a_file_is_read_to_its_end_whether_it_is_in_memory_or_not() {
    // The build's directory is on a disk, mostly; what is in /dev/shm is always in memory, but no kernel can tell so there.
    // To drop it from memory is an advice, which may not be taken: then there is less to show.
    let bytes: Vec<u8> =
        (0..1_000_003u32).map(|index| index.to_le_bytes()[(index % 3) as usize]).collect();
    let directories =
        [Path::new(env!("CARGO_MANIFEST_DIR")), Path::new("/dev/shm"), &std::env::temp_dir()];
    for directory in directories.into_iter().filter(|directory| directory.is_dir()) {
        let file = file_in(directory, &bytes);
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .expect("an advice may be given");
        for _ in 0..2 {
            let mut reader =
                Reader::new(file.try_clone().expect("there is room for another"), Rc::default());
            let (read, _) = read_all(&mut reader);
            assert!(
                read == bytes,
                "{} of {} bytes of a file in {}",
                read.len(),
                bytes.len(),
                directory.display()
            );
        }
    }
}

#[test]
fn what_has_not_come_after_so_many_tries_is_waited_for() {
    // The file has been dropped from memory, if the advice was taken, and all tries but the last have been in vain.
    let bytes = vec![7; 400_000];
    let file = file_in(Path::new(env!("CARGO_MANIFEST_DIR")), &bytes);
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        .expect("an advice may be given");
    let mut reader = Reader::new(file, Rc::default());
    reader.tries = FILE_TRIES_MAX;
    let mut piece = vec![0; 1000];
    assert_eq!(reader.read(&mut piece).expect("it does not ask for another try"), 1000);
    assert_eq!((reader.tries, piece), (0, vec![7; 1000]));
}

#[test]
fn of_all_who_would_wait_for_a_disk_one_does_and_then_the_others_have_their_time() {
    // A read that takes a second, by a clock of our own.
    let start = sys::now();
    let passed_ms = Cell::new(0);
    let clock = || start + Duration::from_millis(passed_ms.get());
    let slow = || {
        passed_ms.set(passed_ms.get() + 1000);
        Ok(1)
    };
    let disk = Disk::default();
    assert_eq!(disk.blocking_read(clock, slow).expect("nobody has waited"), 1);
    for ms in [1000, 1000 + FILE_WAIT_GAP_MS - 1] {
        passed_ms.set(ms);
        let error = disk.blocking_read(clock, slow).expect_err("another has just waited");
        assert_eq!((error.kind(), passed_ms.get()), (ErrorKind::WouldBlock, ms));
    }
    passed_ms.set(1000 + FILE_WAIT_GAP_MS);
    assert_eq!(disk.blocking_read(clock, slow).expect("the disk has rested"), 1);
}

#[test]
fn a_directory_that_is_read_is_an_error() {
    // As whatever else a file system may refuse: it is said, and not waited for.
    let mut reader = Reader::new(
        File::open(std::env::temp_dir()).expect("there is such a directory"),
        Rc::default(),
    );
    let error = reader.read(&mut [0; 10]).expect_err("it has no bytes");
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
}
