//! What is not served: paths that lead out, links, pipes, and files without permission.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::thread;

use super::common::{PATIENCE, connect};
use super::{Place, SECRET, ask, get, read_answer};

#[test]
fn no_path_leads_out_of_the_root() {
    // RFC 1945 section 12.5, RFC 9110 section 17.3. The secret lies beside the root, and the same name within it would be found
    // by whoever cuts dots away. What does exist outside and what does not are answered alike.
    let place = Place::new("traversal");
    place.file("sub/a.txt", b"hello");
    place.file(".hidden", SECRET);
    place.file("sub/.git/config", SECRET);
    place.file("sub/back\\slash", SECRET);
    let program = place.serve(&[]);
    let up = "../".repeat(20);
    let outside = place.0.to_str().unwrap();
    for (target, status) in [
        ("/../secret", "404"),
        ("/..", "404"),
        ("/../", "404"),
        ("/.", "404"),
        ("/sub/..", "404"),
        ("/sub/../../secret", "404"),
        ("/sub/../sub/a.txt", "404"),
        ("/./sub/a.txt", "404"),
        ("/%2e%2e/secret", "404"),
        ("/%2E./secret", "404"),
        ("/.%2e/secret", "404"),
        ("/..%2fsecret", "404"),
        ("/..%2Fsecret", "404"),
        ("/%2e%2e%2fsecret", "404"),
        ("/sub%2f..%2f..%2fsecret", "404"),
        ("/sub%2fa.txt", "404"),
        ("/%252e%252e/secret", "404"),
        ("/%252e%252e%252fsecret", "404"),
        ("/..\\secret", "404"),
        ("/..%5csecret", "404"),
        ("/sub\\..\\..\\secret", "404"),
        ("/sub/back%5cslash", "404"),
        ("/..%00/secret", "404"),
        ("/sub/a.txt%00", "404"),
        ("/sub/a.txt%00.html", "404"),
        ("/%c0%ae%c0%ae/secret", "404"),
        ("/..%c0%afsecret", "404"),
        ("/%u002e%u002e/secret", "400"),
        ("/%", "400"),
        ("/%2", "400"),
        ("/%zz/secret", "400"),
        ("/sub/a.txt%", "400"),
        ("/.hidden", "404"),
        ("/%2ehidden", "404"),
        ("/sub/.git/config", "404"),
        ("//etc/passwd", "404"),
        ("/%2fetc/passwd", "404"),
        ("/%2Fetc%2Fpasswd", "404"),
        ("///secret", "404"),
        ("/sub//a.txt", "404"),
        ("/sub/./a.txt", "404"),
        (&format!("/{up}{outside}/secret"), "404"),
        (&format!("/{up}etc/passwd"), "404"),
        (&format!("/{outside}/secret"), "404"),
        (&format!("/{}", "a/".repeat(3000)), "404"),
        (&format!("/{}", "a".repeat(6000)), "404"),
        ("/sub/a.txt", "200"),
    ] {
        let answer = get(program.http(), target);
        assert_eq!(answer.status(), status, "{target}");
        assert!(!answer.body.windows(SECRET.len()).any(|window| window == SECRET), "{target}");
        assert!(!answer.body.windows(5).any(|window| window == b"root:"), "{target}");
    }
}

#[test]
fn a_link_is_followed_as_long_as_it_stays_below_the_root() {
    let place = Place::new("links");
    place.file("sub/a.txt", b"hello");
    let link = |target: &str, name: &str| symlink(target, place.root().join(name)).unwrap();
    link("sub/a.txt", "file");
    link("sub", "directory");
    link("sub/../sub/../directory/a.txt", "winding");
    link("../secret", "out");
    link("..", "above");
    link("../root/sub/a.txt", "out-and-in");
    link("/etc/passwd", "absolute");
    link(place.root().join("sub/a.txt").to_str().unwrap(), "absolute-inside");
    link("/proc/self/cwd", "magic");
    link("loop", "loop");
    link("nothing", "dangling");
    let program = place.serve(&[]);
    for (target, status) in [
        ("/file", "200"),
        ("/directory/a.txt", "200"),
        ("/winding", "200"),
        ("/directory", "301"),
        ("/out", "403"),
        ("/above/secret", "403"),
        ("/above/", "403"),
        ("/out-and-in", "403"),
        ("/absolute", "403"),
        ("/absolute-inside", "403"),
        ("/magic/", "403"),
        ("/loop", "404"),
        ("/dangling", "404"),
    ] {
        let answer = get(program.http(), target);
        assert_eq!(answer.status(), status, "{target}");
        assert!(status != "200" || answer.body == b"hello", "{target}");
    }
}

#[test]
fn a_link_that_is_moved_at_the_wrong_moment_does_not_lead_out_either() {
    // A directory on the path is now a link to the inside and now one to the outside, as fast as another thread can make
    // them.
    let place = Place::new("race");
    place.file("inside/secret", b"There is nothing secret in here.");
    symlink("inside", place.root().join("way")).unwrap();
    let program = place.serve(&[]);
    let (next, way) = (place.root().join("next"), place.root().join("way"));
    let exchanging = thread::spawn(move || {
        for _ in 0..5000 {
            for target in ["..", "inside"] {
                symlink(target, &next).unwrap();
                fs::rename(&next, &way).unwrap();
            }
        }
    });
    let mut stream = connect(program.http());
    while !exchanging.is_finished() {
        stream.write_all(b"GET /way/secret HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = read_answer(&mut stream, true);
        match answer.status() {
            "200" => assert_eq!(answer.body, b"There is nothing secret in here."),
            status => assert_eq!(status, "403"),
        }
    }
    exchanging.join().unwrap();
}

#[test]
fn what_is_no_regular_file_is_not_there_and_holds_up_nobody() {
    // To open a pipe waits for somebody who writes to it, if one is not careful.
    let place = Place::new("specials");
    let made = |command: &str, arguments: &[&str]| {
        let status = Command::new(command)
            .args(arguments)
            .current_dir(place.root())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    assert!(made("mkfifo", &["pipe"]), "mkfifo is a part of any system");
    let _listener = std::os::unix::net::UnixListener::bind(place.root().join("socket")).unwrap();
    if !made("mknod", &["zero", "c", "1", "5"]) {
        eprintln!("no device was tried: it takes a privilege to make one");
    }
    let program = place.serve(&[]);
    for target in ["/pipe", "/socket", "/zero", "/pipe/", "/zero/"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(
                ask(program.http(), &format!("{method} {target}"), "").status(),
                "404",
                "{method} {target}"
            );
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn whoever_writes_to_a_pipe_does_not_take_us_for_its_reader() {
    // Were the pipe opened to see what it is, the writer would go on, and lose what it writes, or its life.
    let place = Place::new("writer");
    let pipe = place.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let program = place.serve(&[]);
    let writing = thread::spawn({
        let pipe = pipe.clone();
        move || File::options().write(true).open(pipe).unwrap().write_all(b"hello")
    });
    for _ in 0..100 {
        assert_eq!(get(program.http(), "/pipe").status(), "404");
    }
    // Opened for both, it opens at once, whether the writer is still there or not.
    let (told, result) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut received = [0; 5];
        let mut reader = File::options().read(true).write(true).open(pipe).unwrap();
        told.send(reader.read_exact(&mut received).map(|()| received)).unwrap();
    });
    assert_eq!(
        &result.recv_timeout(PATIENCE).expect("the writer has waited for us").unwrap(),
        b"hello"
    );
    writing.join().unwrap().unwrap();
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let place = Place::new("forbidden");
    let paths = [place.file("file", SECRET), place.file("directory/file", SECRET)];
    let without_rights = fs::Permissions::from_mode(0o000);
    fs::set_permissions(&paths[0], without_rights.clone()).unwrap();
    let directory = place.root().join("directory");
    fs::set_permissions(&directory, without_rights).unwrap();
    // Whoever may do anything meets no such bound, and neither does the program then.
    let is_privileged = File::open(&paths[0]).is_ok();
    let program = place.serve(&[]);
    let statuses = ["/file", "/directory/file", "/directory/"]
        .map(|target| get(program.http(), target).status().to_owned());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    if is_privileged {
        eprintln!("nothing is forbidden to this user");
    } else {
        assert_eq!(statuses, ["403", "403", "403"]);
    }
}

#[test]
fn a_directory_that_may_be_passed_but_not_listed_is_one_all_the_same() {
    let place = Place::new("passage");
    place.file("directory/index.html", b"hello");
    let directory = place.root().join("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o111)).unwrap();
    let program = place.serve(&[]);
    let statuses =
        ["/directory", "/directory/"].map(|target| get(program.http(), target).status().to_owned());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(statuses, ["301", "200"]);
}
