//! What is not served: paths that lead out, links, pipes, and files without permission.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::thread;

use super::common::{TIMEOUT, connect};
use super::{SECRET, TempDir, get, read_response, request};

// pitfall: 92
// rule: served-paths
#[test]
fn no_path_leads_out_of_the_root() {
    // RFC 1945 section 12.5, RFC 9110 section 17.3. The secret is beside the root. A server that
    // only strips dots would look for the same name within the root. Paths that exist outside and
    // paths that do not get the same response.
    let temp = TempDir::new("traversal");
    temp.file("sub/a.txt", b"hello");
    temp.file(".hidden", SECRET);
    temp.file("sub/.git/config", SECRET);
    temp.file("sub/back\\slash", SECRET);
    let program = temp.serve(&[]);
    let up = "../".repeat(20);
    let outside = temp.0.to_str().unwrap();
    for (target, status) in [
        ("/../secret", "404"),
        ("/..", "404"),
        ("/../", "404"),
        ("/.", "404"),
        ("/sub/..", "404"),
        ("/sub/../../secret", "404"),
        ("/sub/../sub/a.txt", "200"),
        ("/./sub/a.txt", "200"),
        ("/../sub/a.txt", "200"),
        ("/%2e%2e/%2e/sub/%2E/a.txt", "200"),
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
        ("//../..//secret", "404"),
        ("/sub/../.hidden", "404"),
        ("/sub/./.git/config", "404"),
        ("/sub/..;/secret", "404"),
        ("/x%2f../../secret", "404"),
        ("/sub//a.txt", "200"),
        ("/sub/./a.txt", "200"),
        (&format!("/{up}{outside}/secret"), "404"),
        (&format!("/{up}etc/passwd"), "404"),
        (&format!("/{outside}/secret"), "404"),
        (&format!("/{}", "a/".repeat(3000)), "404"),
        (&format!("/{}", "a".repeat(6000)), "404"),
        ("/sub/a.txt", "200"),
    ] {
        let response = get(program.http(), target);
        assert_eq!(response.status(), status, "{target}");
        assert!(status != "200" || response.body == b"hello", "{target}");
        assert!(!response.body.windows(SECRET.len()).any(|window| window == SECRET), "{target}");
        assert!(!response.body.windows(5).any(|window| window == b"root:"), "{target}");
    }
}

// pitfall: 93
// rule: served-paths
#[test]
fn link_is_followed_only_below_the_root() {
    let temp = TempDir::new("links");
    temp.file("sub/a.txt", b"hello");
    let link = |target: &str, name: &str| symlink(target, temp.root().join(name)).unwrap();
    link("sub/a.txt", "file");
    link("sub", "directory");
    link("sub/../sub/../directory/a.txt", "winding");
    link("../secret", "out");
    link("..", "above");
    link("../root/sub/a.txt", "out-and-in");
    link("/etc/passwd", "absolute");
    link(temp.root().join("sub/a.txt").to_str().unwrap(), "absolute-inside");
    link("/proc/self/cwd", "magic");
    link("loop", "loop");
    link("nothing", "dangling");
    // As Kubernetes mounts a ConfigMap: the names that links lead to are not looked at.
    temp.file("..2026_11_28/index.html", b"hello");
    link("..2026_11_28", "..data");
    link("..data/index.html", "index.html");
    let program = temp.serve(&[]);
    for (target, status) in [
        ("/file", "200"),
        ("/directory/a.txt", "200"),
        ("/winding", "200"),
        ("/index.html", "200"),
        ("/", "200"),
        ("/..data/index.html", "404"),
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
        let response = get(program.http(), target);
        assert_eq!(response.status(), status, "{target}");
        assert!(status != "200" || response.body == b"hello", "{target}");
    }
}

// pitfall: 93
// rule: served-paths
#[test]
fn link_moved_during_a_lookup_does_not_lead_out() {
    // A directory on the path alternates between a link to the inside and one to the outside, as
    // fast as another thread can replace it.
    let temp = TempDir::new("race");
    temp.file("inside/secret", b"There is nothing secret in here.");
    symlink("inside", temp.root().join("link")).unwrap();
    let program = temp.serve(&[]);
    let (next, link) = (temp.root().join("next"), temp.root().join("link"));
    let replacing = thread::spawn(move || {
        for _ in 0..5000 {
            for target in ["..", "inside"] {
                symlink(target, &next).unwrap();
                fs::rename(&next, &link).unwrap();
            }
        }
    });
    let mut stream = connect(program.http());
    while !replacing.is_finished() {
        stream.write_all(b"GET /link/secret HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = read_response(&mut stream, true);
        match response.status() {
            "200" => assert_eq!(response.body, b"There is nothing secret in here."),
            status => assert_eq!(status, "403"),
        }
    }
    replacing.join().unwrap();
}

// pitfall: 94
#[test]
fn special_file_is_404_and_blocks_nothing() {
    // Without O_NONBLOCK, opening a pipe blocks until another process opens it for writing.
    let temp = TempDir::new("specials");
    let run = |command: &str, arguments: &[&str]| {
        let status = Command::new(command)
            .args(arguments)
            .current_dir(temp.root())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    assert!(run("mkfifo", &["pipe"]), "mkfifo is on every Unix system");
    let _listener = std::os::unix::net::UnixListener::bind(temp.root().join("socket")).unwrap();
    if !run("mknod", &["zero", "c", "1", "5"]) {
        eprintln!("skipped the device: mknod needs a privilege");
    }
    let program = temp.serve(&[]);
    for target in ["/pipe", "/socket", "/zero", "/pipe/", "/zero/"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(
                request(program.http(), &format!("{method} {target}"), "").status(),
                "404",
                "{method} {target}"
            );
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn pipe_writer_never_finds_the_server_as_its_reader() {
    // If the server opened the pipe to examine it, the writer would proceed. It would lose its
    // bytes, or end by SIGPIPE.
    let temp = TempDir::new("writer");
    let pipe = temp.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let program = temp.serve(&[]);
    let writing = thread::spawn({
        let pipe = pipe.clone();
        move || File::options().write(true).open(pipe).unwrap().write_all(b"hello")
    });
    for _ in 0..100 {
        assert_eq!(get(program.http(), "/pipe").status(), "404");
    }
    // Opened for reading and writing, a pipe opens at once, with or without the writer.
    let (sender, result) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut received = [0; 5];
        let mut reader = File::options().read(true).write(true).open(pipe).unwrap();
        sender.send(reader.read_exact(&mut received).map(|()| received)).unwrap();
    });
    assert_eq!(
        &result.recv_timeout(TIMEOUT).expect("the writer has waited for this reader").unwrap(),
        b"hello"
    );
    writing.join().unwrap().unwrap();
}

#[test]
fn unreadable_file_is_403() {
    let temp = TempDir::new("forbidden");
    let paths = [temp.file("file", SECRET), temp.file("directory/file", SECRET)];
    let without_rights = fs::Permissions::from_mode(0o000);
    fs::set_permissions(&paths[0], without_rights.clone()).unwrap();
    let directory = temp.root().join("directory");
    fs::set_permissions(&directory, without_rights).unwrap();
    // A privileged user can read it, and so can the program then.
    let is_privileged = File::open(&paths[0]).is_ok();
    let program = temp.serve(&[]);
    let statuses = ["/file", "/directory/file", "/directory/"]
        .map(|target| get(program.http(), target).status().to_owned());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    if is_privileged {
        eprintln!("skipped: this user may read everything");
    } else {
        assert_eq!(statuses, ["403", "403", "403"]);
    }
}

#[test]
fn unlistable_directory_still_serves_its_index() {
    let temp = TempDir::new("passage");
    temp.file("directory/index.html", b"hello");
    let directory = temp.root().join("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o111)).unwrap();
    let program = temp.serve(&[]);
    let statuses =
        ["/directory", "/directory/"].map(|target| get(program.http(), target).status().to_owned());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(statuses, ["301", "200"]);
}
