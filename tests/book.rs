//! Checks every line of the book that a program can check: docs/book, from five blocking programs
//! to this reactor.
//!
//! A page quotes in fixed forms, each a comment above a fenced block (docs/style.md has all of
//! them). The block is made again from the programs, and compared:
//!
//! ```text
//! <!-- book: file docs/lecture/web_server.py -->   a whole file
//! <!-- book: item src/reactor.rs wait -->          one function, class or type of it
//! <!-- book: diff OLD NEW -->                      what has changed from one program to the next
//! <!-- book: trace SCENE -->                       the system calls that strace records
//! <!-- book: check ARGUMENTS -->                   what docs/book/check.py prints
//! <!-- book: break PROGRAM -->                     a patch, for the `check` of what it breaks
//! ```
//!
//! With `UPDATE_DOCS=1`, the blocks are written instead. The answers to a chapter's questions are
//! computed in the chapter's own module, where its scenes are, too.
//!
//! Linux only, because of strace and /proc; and once is enough, whatever mio's poller is.
#![cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
// The helpers unwrap as tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod book {
    mod addresses; // the addresses of a recording, and calls with many datagrams
    mod before; // what a recording does not see begin
    mod blocks; // the blocks of a page, made again and compared
    mod chapter_01; // one client at a time
    mod chapter_02; // a stream is not messages
    mod chapter_03; // a thread for each client
    mod chapter_04; // asking in turn
    mod chapter_05; // select
    mod chapter_06; // epoll, level-triggered; and mio
    mod chapter_07; // edges, and the run queue
    mod chapter_08; // slots, and the five stages
    mod chapter_09; // output, and its watermarks
    mod chapter_10; // the ends of a connection
    mod chapter_11; // deadlines, and what moves them
    mod chapter_12; // datagrams
    mod chapter_13; // HTTP/1.0, and where a message ends
    mod chapter_14; // overload, and a graceful stop
    mod call; // a call of a recording, read
    mod clients; // running the programs that are clients
    mod peer; // the clients that the tests play
    mod in_rust; // the programs in Rust, compiled with this test
    mod contents; // the seven parts, the words, the links
    mod model; // what a loop holds at each step of a recording
    mod others; // what other servers fail
    mod page; // reading a page
    mod programs; // running the programs of the book
    #[path = "../common/refusals.rs"]
    mod refusals; // where the kernel says that a UDP port is closed
    mod sockets; // a port that is held, sockets for datagrams
    mod state; // the boxes of the page of the turn
    mod trace; // what strace records, normalised
    mod turn; // the page that steps through the recordings
    mod turn_steps; // small recordings, step by step
}
