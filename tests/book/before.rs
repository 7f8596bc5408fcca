//! The sources that a recording does not see begin, and what they are.

use std::collections::{BTreeMap, BTreeSet};

use super::call::Call;
use super::state::{CONNECTION, DATAGRAM_SOCKET, LISTENER, SOURCE};

/// Returns the descriptors that are there before the first call, and their tokens, if the recording
/// shows them.
///
/// Where a wait returns as many tokens without a descriptor as there are sources without a token
/// that make calls behind it, they belong to each other, if each of the other calls there has its
/// event, too, or is the next try of a listener that had no room. A loop drives in the order of the
/// tokens.
pub(super) fn old_sources(calls: &[Call<'_>]) -> BTreeMap<i64, Option<i64>> {
    let (mut old, mut known) = (BTreeMap::new(), BTreeSet::new());
    // By descriptor. A descriptor and a token may come again.
    let mut tokens: BTreeMap<i64, i64> = BTreeMap::new();
    let mut without_room = BTreeSet::new();
    for turn in calls.chunk_by(|_, next| !next.is_wait()) {
        let reported: Vec<i64> = turn[0].pairs().into_iter().map(|(token, _)| token).collect();
        let mut unclaimed = reported.clone();
        unclaimed.retain(|token| !tokens.values().any(|claimed| claimed == token));
        unclaimed.sort_unstable();
        let (mut unnamed, mut has_others) = (Vec::new(), !turn[0].is_wait());
        let tries_again = without_room.clone();
        for call in turn {
            let Some(descriptor) = call.descriptor() else {
                known.extend(call.result.parse::<i64>());
                continue;
            };
            if call.is_wait() {
                known.insert(descriptor); // the epoll instance
                continue;
            }
            if call.is_add() {
                known.extend([descriptor].into_iter().chain(call.number(0)));
                tokens.extend(call.pairs().first().map(|(token, _)| (descriptor, *token)));
                continue;
            }
            if call.makes_descriptor() {
                known.extend(call.result.parse::<i64>());
            }
            if known.insert(descriptor) {
                old.insert(descriptor, None);
            }
            if old.get(&descriptor) == Some(&None) && !unnamed.contains(&descriptor) {
                unnamed.push(descriptor);
            }
            if call.finds_no_room() {
                without_room.insert(descriptor);
            }
            let is_retry = call.is_accept() && tries_again.contains(&descriptor);
            let is_unreported =
                tokens.get(&descriptor).is_some_and(|token| !reported.contains(token));
            has_others |= is_unreported && !is_retry;
        }
        if unclaimed.len() == unnamed.len() && !has_others {
            let pairs = unnamed.into_iter().zip(unclaimed);
            for (descriptor, token) in pairs {
                tokens.insert(descriptor, token);
                old.insert(descriptor, Some(token));
            }
        }
    }
    old
}

/// As many bytes as the longest datagram may have. A connection is not read with so large a buffer.
const DATAGRAM_BYTES_MAX: i64 = 65_535;

/// Returns what a descriptor is that was not accepted. Only a stream has an end: a datagram, which
/// has an address, may be empty. Only a connection is closed because a deadline is due.
pub(super) fn kind(calls: &[Call<'_>], descriptor: i64) -> &'static str {
    let is_of = |call: &&Call<'_>| call.descriptor() == Some(descriptor);
    let mut own = calls.iter().filter(is_of);
    let mut ends = own.clone().filter(|call| call.is_receive() && call.result == "0");
    let is_for_datagrams = |call: &Call<'_>| {
        call.has_address() || call.is_receive() && call.number(1) == Some(DATAGRAM_BYTES_MAX)
    };
    let mut due = calls.chunk_by(|_, next| !next.is_wait()).filter(|turn| {
        turn[0].is_wait_until_due() && turn[1..].iter().all(|call| call.name == "close")
    });
    if own.clone().any(Call::is_accept) {
        LISTENER
    } else if own.clone().any(is_for_datagrams) {
        DATAGRAM_SOCKET
    } else if ends.next().is_some()
        || own.any(|call| call.name == "shutdown")
        || due.any(|turn| turn[1..].iter().any(|call| is_of(&call)))
    {
        CONNECTION
    } else {
        SOURCE
    }
}
