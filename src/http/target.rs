//! A request's target: its four forms, and the syntax of a host.
//!
//! ```text
//!     origin       GET /a?b            (RFC 9112 section 3.2.1)
//!     absolute     GET http://host/a   (section 3.2.2)
//!     authority    CONNECT host:port   (section 3.2.3)
//!     asterisk     OPTIONS *           (section 3.2.4)
//! ```
//!
//! A target in any other form has no meaning here, and its request is rejected.

use std::net::Ipv6Addr;
use std::ops::Range;

use memchr::memmem;

use super::request::Method;

/// Splits a target into its authority, if it has one, and its path. `before_query` is `whole` up to
/// its first `?`. `None`: it has none of the four forms (RFC 9112 section 3.2).
#[inline(always)]
pub(super) fn split_target<'i>(
    method: Method,
    before_query: &'i [u8],
    whole: &'i [u8],
) -> Option<(Option<&'i [u8]>, &'i [u8])> {
    match before_query {
        _ if method == Method::Connect => is_host_and_port(whole).then_some((Some(whole), whole)),
        [b'/', ..] => Some((None, before_query)), // fast path: nearly every request
        b"*" if method == Method::Options && before_query.len() == whole.len() => {
            Some((None, before_query))
        }
        _ => {
            let authority = authority_of(whole)?;
            let path = match &before_query[authority.end..] {
                // RFC 9112 section 3.2.4: about the server, and no path of it.
                [] if method == Method::Options && before_query.len() == whole.len() => b"*",
                [] => b"/",
                path => path,
            };
            Some((Some(&whole[authority]), path))
        }
    }
}

/// Returns whether `value` is a host with an optional port (RFC 9110 section 7.2, RFC 3986 section
/// 3.2).
///
/// The host may be empty. A client sends such a Host field if its target has no authority. Beside a
/// target in the absolute form the value is ignored, as any other valid one is (RFC 9112 sections
/// 3.2 and 3.2.2).
#[inline(always)]
pub(super) fn is_host(value: &[u8]) -> bool {
    match &value[leading(&IS_NAME_BYTE, value)..] {
        [] => true,
        [b':', port @ ..] if port.iter().all(u8::is_ascii_digit) => true,
        _ => is_unusual_host(value),
    }
}

/// The same, of a host that is an IP literal or has percent-encoded bytes, or of what is no host.
#[cold]
fn is_unusual_host(value: &[u8]) -> bool {
    let host = match value.iter().rposition(|byte| !byte.is_ascii_digit()) {
        Some(colon) if value[colon] == b':' => &value[..colon],
        _ => value,
    };
    match host {
        [b'[', inner @ .., b']'] => is_ip_literal(inner),
        name => is_encoded_name(name),
    }
}

/// The bytes of a registered name, besides `%` and two hexadecimal digits: the unreserved
/// characters and the sub-delimiters (RFC 3986 section 3.2.2).
const IS_NAME_BYTE: [bool; 256] =
    table(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~!$&'()*+,;=");

/// The bytes of a target before its query: all but spaces, control characters, `?`, and `#`,
/// because a fragment is never sent.
///
/// Bytes beyond ASCII should be percent-encoded (RFC 3986 section 2.5), but old clients and scripts
/// send them as they are, and other servers take them. No reader can take one for the end of a
/// target.
pub(super) const IS_TARGET_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] =
            byte > b' ' as usize && byte != 0x7f && byte != b'?' as usize && byte != b'#' as usize;
        byte += 1;
    }
    table
};

/// The bytes of a query: those of a target before it, and `?`.
pub(super) const IS_QUERY_BYTE: [bool; 256] = {
    let mut table = IS_TARGET_BYTE;
    table[b'?' as usize] = true;
    table
};

/// Returns how many bytes at the front of `bytes` are in `table`.
#[inline(always)]
pub(super) fn leading(table: &[bool; 256], bytes: &[u8]) -> usize {
    let mut count = 0;
    // Eight at a time: the inner search has a known length, so the compiler unrolls it.
    while let Some(eight) = bytes[count..].first_chunk::<8>() {
        match eight.iter().position(|&byte| !table[usize::from(byte)]) {
            Some(at) => return count + at,
            None => count += 8,
        }
    }
    count + bytes[count..].iter().take_while(|&&byte| table[usize::from(byte)]).count()
}

const fn table(allowed: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < allowed.len() {
        table[allowed[index] as usize] = true;
        index += 1;
    }
    table
}

/// Returns whether `name` is a registered name, which may have percent-encoded bytes in it.
fn is_encoded_name(mut name: &[u8]) -> bool {
    while let [first, rest @ ..] = name {
        name = match rest {
            [a, b, rest @ ..]
                if *first == b'%' && a.is_ascii_hexdigit() && b.is_ascii_hexdigit() =>
            {
                rest
            }
            _ if IS_NAME_BYTE[usize::from(*first)] => rest,
            _ => return false,
        };
    }
    true
}

/// Returns whether `inner` can stand in brackets: an IPv6 address, or `v`, a version and an address
/// of that version.
fn is_ip_literal(inner: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = inner {
        let Some(dot) = future.iter().position(|&byte| byte == b'.') else { return false };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| IS_NAME_BYTE[usize::from(byte)] || byte == b':');
    }
    str::from_utf8(inner).is_ok_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
}

/// Returns whether `target` is a host and a port, as CONNECT requires (RFC 9112 section 3.2.3).
#[cold]
fn is_host_and_port(target: &[u8]) -> bool {
    let colon = target.iter().rposition(|byte| !byte.is_ascii_digit());
    let has_both =
        colon.is_some_and(|colon| colon > 0 && target[colon] == b':' && colon + 1 < target.len());
    has_both && is_host(target)
}

/// The range of the authority in a target of the absolute form. `None`: not that form, or no valid
/// host.
fn authority_of(target: &[u8]) -> Option<Range<usize>> {
    let scheme_end = memmem::find(target, b"://")?;
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let start = scheme_end + "://".len();
    let end = memchr::memchr2(b'/', b'?', &target[start..]).map_or(target.len(), |at| start + at);
    let is_named = !matches!(target[start..end], [] | [b':', ..]);
    (is_named && is_host(&target[start..end])).then_some(start..end)
}
