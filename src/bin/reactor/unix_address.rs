//! The socket address of `unix:PATH` and of `unix:@NAME`, for the server and for `reactor send`.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::SockAddr;

/// Returns whether `unix:PATH` is `unix:@NAME`: a name in Linux's abstract namespace (unix(7)), as
/// systemd and ss(8) write it. It has no file, and is free again when its socket is closed.
pub(crate) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"@")
}

/// Returns the socket address of `unix:PATH`.
///
/// # Errors
///
/// `InvalidInput` if the path or the name is too long.
pub(crate) fn unix_address(path: &Path) -> io::Result<SockAddr> {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    if is_abstract(path) {
        bytes[0] = 0; // the kernel's mark
    }
    // In the words of the server. This is its only error: no argument has a zero byte.
    let too_long = "the path is too long for a Unix socket (on Linux: 107 bytes)";
    SockAddr::unix(OsStr::from_bytes(&bytes))
        .map_err(|_| io::Error::new(ErrorKind::InvalidInput, too_long))
}
