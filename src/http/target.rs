//! A request's target: its four forms, and the hosts that may be named in it.

use std::net::Ipv6Addr;
use std::ops::Range;

use memchr::memmem;

use super::request::Method;

/// The authority and the path of a target that has `before_query` before its first `?`, if it has one. It has one of four forms
/// (RFC 9112 section 3.2).
#[inline(always)]
pub(super) fn split_target<'i>(
    method: Method,
    before_query: &'i [u8],
    whole: &'i [u8],
) -> Option<(Option<&'i [u8]>, &'i [u8])> {
    match before_query {
        _ if method == Method::Connect => is_host_and_port(whole).then_some((Some(whole), whole)),
        [b'/', ..] => Some((None, before_query)), // as nearly always
        b"*" if method == Method::Options && before_query.len() == whole.len() => {
            Some((None, before_query))
        }
        _ => {
            let authority = authority_of(whole)?;
            let path = &before_query[authority.end..];
            Some((Some(&whole[authority]), if path.is_empty() { b"/" } else { path }))
        }
    }
}

/// A host and perhaps a port (RFC 3986 section 3.2). An empty one is legal where the target has no authority.
#[inline(always)]
pub(super) fn is_host(value: &[u8]) -> bool {
    let host = match value.iter().rposition(|byte| !byte.is_ascii_digit()) {
        Some(colon) if value[colon] == b':' => &value[..colon],
        _ => value,
    };
    match host {
        [b'[', inner @ .., b']'] => is_ip_literal(inner),
        name => {
            name.iter().fold(true, |is_plain, &byte| is_plain & IS_NAME_BYTE[usize::from(byte)])
                || is_encoded_name(name)
        }
    }
}

/// Which bytes a name may consist of, beside `%` and two hexadecimal digits: unreserved ones and sub-delimiters.
const IS_NAME_BYTE: [bool; 256] =
    table(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~!$&'()*+,;=");

/// Which bytes may be in a target before the query: the visible ones but `?`, and `#`, for a fragment is never sent.
pub(super) const IS_TARGET_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = byte != b'?' && byte != b'#';
        byte += 1;
    }
    table
};

const fn table(allowed: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < allowed.len() {
        table[allowed[index] as usize] = true;
        index += 1;
    }
    table
}

#[cold]
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

/// What stands in brackets: an IPv6 address, or `v`, a version and an address of that version.
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

/// What CONNECT names (RFC 9112 section 3.2.3).
#[cold]
fn is_host_and_port(target: &[u8]) -> bool {
    let colon = target.iter().rposition(|byte| !byte.is_ascii_digit());
    let has_both =
        colon.is_some_and(|colon| colon > 0 && target[colon] == b':' && colon + 1 < target.len());
    has_both && is_host(target)
}

/// Where the authority of the absolute form lies.
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
