//! Files without sockets: which names a path has, how dates are clamped, and how a file is read.
//!
//! Files over real sockets are tested in `tests/files.rs`.

use std::io::{ErrorKind, Write};
use std::path::Component;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::http::files::limits::{FILE_DATE_MIN_S, FILE_TRIES_MAX, FILE_WAIT_GAP_MS};

/// The file that `path` names.
fn named(path: &[u8]) -> Option<PathBuf> {
    ServedPath::new(path).map(|path| path.file())
}

// pitfall: 132
// rule: percent-decoding, dot-segments
#[test]
fn path_names_a_file_below_the_root_or_none() {
    for (path, file) in [
        (&b"/"[..], Some("index.html")),
        (b"/a", Some("a")),
        (b"/a/", Some("a/index.html")),
        (b"/a/b.c/d", Some("a/b.c/d")),
        (b"/%61%20b", Some("a b")),
        (b"/a+b&c=d;e", Some("a+b&c=d;e")), // not form data: a plus is a plus
        (b"/%252e%252e", Some("%2e%2e")),   // decoded once
        (b"/.well-known/a", Some(".well-known/a")),
        (b"/a..b/c.", Some("a..b/c.")),
        (b"/a/b:c", Some("a/b:c")),
        // RFC 3986 sections 5.2.4 and 6.2.2.2: dot segments, encoded or not, never beyond the root.
        (b"/..", Some("index.html")),
        (b"/../a", Some("a")),
        (b"/../../../a", Some("a")),
        (b"/a/../b", Some("b")),
        (b"/a/b/../../c", Some("c")),
        (b"/a/..", Some("index.html")),
        (b"/a/b/..", Some("a/index.html")),
        (b"/a/.", Some("a/index.html")),
        (b"/.", Some("index.html")),
        (b"/./a", Some("a")),
        (b"/a/./b", Some("a/b")),
        (b"/%2e%2e/a", Some("a")),
        (b"/a/.%2E/b", Some("b")),
        (b"/a/%2e/b", Some("a/b")),
        (b"/.git/../a", Some("a")),
        // Empty segments are left out, and before the dot segments.
        (b"//", Some("index.html")),
        (b"//a", Some("a")),
        (b"/a//b", Some("a/b")),
        (b"/a//", Some("a/index.html")),
        (b"/a//../b", Some("b")),
        (b"///../a", Some("a")),
        // Hidden.
        (b"/.git/config", None),
        (b"/a/.htpasswd", None),
        (b"/./.htpasswd", None),
        (b"//.htpasswd", None),
        (b"/.well-known.old/a", None),
        (b"/...", None),
        (b"/..;/a", None),
        // Separators on this system or on another, but none in a URL path. One in a segment that a
        // `..` takes away is one, too.
        (b"/a%2fb", None),
        (b"/..%2f..%2fetc", None),
        (b"/%2fetc%2fpasswd", None),
        (b"/a\\..\\b", None),
        (b"/\\a", None),
        (b"/a%5cb", None),
        (b"/a%00.html", None),
        (b"/a%2fb/../c", None),
        (b"/a\\b/../c", None),
        (b"/a%00/../c", None),
        // No path.
        (b"*", None),
        (b"a", None),
        (b"", None),
    ] {
        assert_eq!(named(path), file.map(PathBuf::from), "{}", path.escape_ascii());
    }
    for path in [&b"/caf%e9"[..], b"/caf\xe9"] {
        let bytes = named(path).expect("any other byte may be in a name");
        assert_eq!(bytes.as_os_str().as_bytes(), b"caf\xe9");
    }
}

#[test]
fn percent_sign_without_two_hex_digits_is_invalid() {
    for (path, is_valid) in [
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
        assert_eq!(is_well_encoded(path), is_valid, "{}", path.escape_ascii());
    }
}

proptest! {
    // pitfall: 92
    #[test]
    fn random_paths_name_only_relative_plain_components(
        path in "/(([.a%/\\\\\0:~]|%2e|%2f|%5c|%00|\\.\\.){0,8}/?){0,4}",
    ) {
        if let Some(file) = named(path.as_bytes()) {
            let is_plain = file.components().all(|part| matches!(part, Component::Normal(_)));
            prop_assert!(is_plain, "{path:?} names {file:?}");
            prop_assert!(file.is_relative(), "{path:?} names {file:?}");
        }
    }
}

// pitfall: 130
#[test]
fn date_of_a_file_is_sent_if_it_says_something() {
    let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(FILE_DATE_MIN_S * 1000 + ms);
    let of = |modified, now| last_modified(at(modified), at(now));
    assert_eq!(whole_seconds(at(1999)), at(1000));
    assert_eq!(of(5999, 9000), Some(at(5000)), "whole seconds");
    assert_eq!(of(5000, 7000), Some(at(5000)));
    assert_eq!(of(5001, 7000), None, "it may change again with this date");
    assert_eq!(of(9000, 7500), None, "nor a date in the future");
    let before_1990 = at(0) - Duration::from_millis(1);
    for modified in [
        SystemTime::UNIX_EPOCH - Duration::from_secs(86_400),
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        before_1990,
    ] {
        assert_eq!(last_modified(modified, at(9000)), None, "{modified:?}: of a build tool");
    }
    assert_eq!(of(0, 9000), Some(at(0)));
    assert_eq!(last_modified(at(5000), SystemTime::UNIX_EPOCH), None, "a clock before 1990");
}

#[test]
fn repeated_open_failures_are_logged_once_and_counted() {
    let files = Files::below(std::env::temp_dir()).expect("a temporary directory exists");
    for _ in 0..5 {
        files.root.warn_rate_limited(&io::Error::from_raw_os_error(libc::EMFILE));
    }
    assert_eq!(files.root.failures.get(), 4, "the first was logged");
    files.root.next_warning_at.set(Some(sys::now()));
    files.root.warn_rate_limited(&io::Error::from_raw_os_error(libc::EMFILE));
    assert_eq!(files.root.failures.get(), 0, "the sixth was logged, with the count");
}

/// An unlinked file of `bytes` in `directory`, synced to its disk.
fn file_in(directory: &Path, bytes: &[u8]) -> File {
    let path = directory.join(format!("reactor-files-{}-{}", std::process::id(), bytes.len()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("a file can be created");
    std::fs::remove_file(path).expect("a file can be unlinked");
    file.write_all(bytes).and_then(|()| file.sync_all()).expect("the disk has space");
    file
}

/// Reads to the end. Returns the bytes, and how many reads returned `WouldBlock`.
fn read_all(reader: &mut Reader) -> (Vec<u8>, u32) {
    let (mut bytes, mut retries) = (Vec::new(), 0);
    let mut piece = vec![0; 10_000];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return (bytes, retries),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                retries += 1;
                assert!(
                    reader.tries <= FILE_TRIES_MAX,
                    "after so many tries, the next read blocks unless another just has"
                );
            }
        }
    }
}

// pitfall: 69
#[test]
fn file_is_read_whole_whether_cached_or_not() {
    // The build directory is usually on a disk. A file in /dev/shm is always in memory, but no
    // kernel can tell so there. Dropping the cache is only advice: if the kernel does not follow
    // it, the test shows less.
    let bytes: Vec<u8> =
        (0..1_000_003u32).map(|index| index.to_le_bytes()[(index % 3) as usize]).collect();
    let directories =
        [Path::new(env!("CARGO_MANIFEST_DIR")), Path::new("/dev/shm"), &std::env::temp_dir()];
    for directory in directories.into_iter().filter(|directory| directory.is_dir()) {
        let file = file_in(directory, &bytes);
        #[cfg(target_os = "linux")]
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .expect("advice is accepted");
        for _ in 0..2 {
            let mut reader =
                Reader::new(file.try_clone().expect("a descriptor is free"), Rc::default());
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
fn read_blocks_after_the_last_try() {
    // The file has been dropped from memory, if the kernel followed the advice, and every try but
    // the last has failed.
    let bytes = vec![7; 400_000];
    let file = file_in(Path::new(env!("CARGO_MANIFEST_DIR")), &bytes);
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice is accepted");
    let mut reader = Reader::new(file, Rc::default());
    reader.tries = FILE_TRIES_MAX;
    let mut piece = vec![0; 1000];
    assert_eq!(reader.read(&mut piece).expect("no WouldBlock"), 1000);
    assert_eq!((reader.tries, piece), (0, vec![7; 1000]));
}

#[test]
fn one_read_blocks_and_the_next_only_after_the_gap() {
    // A read that takes a second, by a simulated clock.
    let start = sys::now();
    let passed_ms = Cell::new(0);
    let clock = || start + Duration::from_millis(passed_ms.get());
    let slow = || {
        passed_ms.set(passed_ms.get() + 1000);
        Ok(1)
    };
    let disk = Disk::default();
    assert_eq!(disk.blocking_read(clock, slow).expect("no read has blocked before"), 1);
    for ms in [1000, 1000 + FILE_WAIT_GAP_MS - 1] {
        passed_ms.set(ms);
        let error = disk.blocking_read(clock, slow).expect_err("another read has just blocked");
        assert_eq!((error.kind(), passed_ms.get()), (ErrorKind::WouldBlock, ms));
    }
    passed_ms.set(1000 + FILE_WAIT_GAP_MS);
    assert_eq!(disk.blocking_read(clock, slow).expect("the gap is over"), 1);
}

#[test]
fn reading_a_directory_returns_its_error() {
    // As for any other error of a file system: it is returned at once, and is no reason to retry.
    let mut reader = Reader::new(
        File::open(std::env::temp_dir()).expect("a temporary directory exists"),
        Rc::default(),
    );
    let error = reader.read(&mut [0; 10]).expect_err("a directory has no bytes");
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
}
