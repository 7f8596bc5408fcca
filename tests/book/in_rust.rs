//! The programs of the book that are in Rust, compiled with this test.
//!
//! Each is an example of the package, too (Cargo.toml), so that readers can run it.

use std::io;

#[path = "../../docs/book/programs/06_mio.rs"]
mod mio_06;
#[path = "../../docs/book/programs/07_ready.rs"]
mod ready;
#[path = "../../docs/book/broken/07_ready.rs"]
mod ready_broken;
#[path = "../../docs/book/solutions/07_bound.rs"]
mod ready_solution;
#[path = "../../docs/book/programs/08_stages.rs"]
mod stages;
#[path = "../../docs/book/broken/08_stages.rs"]
mod stages_broken;
#[path = "../../docs/book/solutions/08_evict.rs"]
mod stages_solution;
#[path = "../../docs/book/programs/09_watermarks.rs"]
mod watermarks;
#[path = "../../docs/book/broken/09_watermarks.rs"]
mod watermarks_broken;
#[path = "../../docs/book/solutions/09_timeout.rs"]
mod watermarks_solution;
#[path = "../../docs/book/programs/10_endings.rs"]
mod endings;
#[path = "../../docs/book/broken/10_endings.rs"]
mod endings_broken;
#[path = "../../docs/book/solutions/10_quit.rs"]
mod endings_solution;
#[path = "../../docs/book/programs/11_time.rs"]
mod time;
#[path = "../../docs/book/broken/11_time.rs"]
mod time_broken;
#[path = "../../docs/book/solutions/11_reason.rs"]
mod time_solution;
#[path = "../../docs/book/programs/12_datagrams.rs"]
mod datagrams;
#[path = "../../docs/book/broken/12_datagrams.rs"]
mod datagrams_broken;
#[path = "../../docs/book/solutions/12_rate.rs"]
mod datagrams_solution;
#[path = "../../docs/book/programs/13_http.rs"]
mod http;
#[path = "../../docs/book/broken/13_http.rs"]
mod http_broken;
#[path = "../../docs/book/solutions/13_keep_alive.rs"]
mod http_solution;
#[path = "../../docs/book/programs/14_crowds.rs"]
mod crowds;
#[path = "../../docs/book/broken/14_crowds.rs"]
mod crowds_broken;
#[path = "../../docs/book/solutions/14_full.rs"]
mod crowds_solution;

type Main = fn() -> io::Result<()>;

/// Their paths from the folder of the book, and the `main` of each.
pub(super) const RUST_PROGRAMS: &[(&str, Main)] = &[
    ("programs/06_mio.rs", mio_06::main),
    ("programs/07_ready.rs", ready::main),
    ("broken/07_ready.rs", ready_broken::main),
    ("solutions/07_bound.rs", ready_solution::main),
    ("programs/08_stages.rs", stages::main),
    ("broken/08_stages.rs", stages_broken::main),
    ("solutions/08_evict.rs", stages_solution::main),
    ("programs/09_watermarks.rs", watermarks::main),
    ("broken/09_watermarks.rs", watermarks_broken::main),
    ("solutions/09_timeout.rs", watermarks_solution::main),
    ("programs/10_endings.rs", endings::main),
    ("broken/10_endings.rs", endings_broken::main),
    ("solutions/10_quit.rs", endings_solution::main),
    ("programs/11_time.rs", time::main),
    ("broken/11_time.rs", time_broken::main),
    ("solutions/11_reason.rs", time_solution::main),
    ("programs/12_datagrams.rs", datagrams::main),
    ("broken/12_datagrams.rs", datagrams_broken::main),
    ("solutions/12_rate.rs", datagrams_solution::main),
    ("programs/13_http.rs", http::main),
    ("broken/13_http.rs", http_broken::main),
    ("solutions/13_keep_alive.rs", http_solution::main),
    ("programs/14_crowds.rs", crowds::main),
    ("broken/14_crowds.rs", crowds_broken::main),
    ("solutions/14_full.rs", crowds_solution::main),
];
