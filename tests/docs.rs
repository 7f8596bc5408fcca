//! Checks that what the documents say about the code is true of the code.
//!
//! A document that quotes a path, a function, an option or a number is a second copy of it, and
//! second copies go stale. So each kind of quotation has a fixed form. The tests find the form and
//! compare it with the source:
//!
//! ```text
//! `src/stream/readiness.rs`            the file exists
//! `src/stream/readiness.rs` → `send`   and defines a function, type or constant of that name
//! RFC 9112 6.3                         in docs/http.md: and a test of the row names that section
//! `HEAD_BYTES_MAX` (16 KiB)            the limit has that value
//! --prefix                             the help has that option, with that default
//! ```
//!
//! Two more modules read every text file of the repository: `dialect` its words, `layout` its
//! columns and lines.

mod common;

mod docs {
    mod absent; // what the design calls absent
    mod architecture; // the picture, the stages, the code map
    mod dialect; // words that must not come back
    mod files; // reading the repository, for all of these
    mod layout; // columns, and lines of a file
    mod limits; // numbers, and the page that lists them
    mod markdown; // quotations, blocks, sections and tables
    mod numbers; // the limits files, read as text
    mod options; // the pages on options, and the help
    mod proofs; // the rows of the pitfalls and HTTP rules, and the mutations
    mod readme; // commands, options, addresses, the example
    mod references; // paths, links, items, dependencies, terms
    mod shown_by; // the tests that show each row
    mod trace; // the legend of the trace log, and the recorded turn
}
