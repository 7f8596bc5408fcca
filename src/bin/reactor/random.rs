//! Whether there are random bytes: the hash tables of std panic without, and so do those of others.
//!
//! A sandbox may refuse getrandom(2), and a bare root directory has no `/dev/urandom`. Then the
//! program says so and ends, instead of with a panic. The server needs none.
//!
//! Invariant: what is read is thrown away.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

/// Checks that a hash table can be made.
///
/// # Errors
///
/// One line for standard error: both sources of random bytes fail, and how.
pub(crate) fn check() -> Result<(), String> {
    let call = getrandom(&mut [0; 16], GetRandomFlags::NONBLOCK);
    check_sources(call.map(drop).map_err(io::Error::from), Path::new("/dev/urandom"))
}

fn check_sources(call: io::Result<()>, file: &Path) -> Result<(), String> {
    let Err(call) = call else { return Ok(()) };
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut [0; 16]));
    read.map_err(|error| format!("no random bytes: getrandom: {call}; {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // pitfall: 114
    #[test]
    fn missing_random_bytes_are_an_error_line_only_if_both_sources_fail() {
        assert_eq!(check(), Ok(()));
        let refused = || Err(io::Error::from_raw_os_error(38)); // ENOSYS
        assert_eq!(check_sources(refused(), Path::new("/dev/zero")), Ok(()));
        let line = check_sources(refused(), Path::new("/nowhere/urandom")).unwrap_err();
        assert!(line.starts_with("no random bytes: getrandom: ") && line.contains("/nowhere/"));
        assert!(check_sources(refused(), Path::new("/dev/null")).is_err(), "it has no bytes");
    }
}
