//! The sources that a recording does not see begin, and what they are.

use std::collections::{BTreeMap, BTreeSet};

use super::call::Call;
use super::state::{CONNECTION, LISTENER, SOURCE};

/// Returns the descriptors that are there before the first call, and their tokens, if the recording
/// shows them.
///
/// Where a wait returns as many tokens without a descriptor as there are sources without a token
/// that make calls behind it, they belong to each other. A loop drives in the order of the tokens.
pub(super) fn old_sources(calls: &[Call<'_>]) -> BTreeMap<i64, Option<i64>> {
    let (mut old, mut known, mut claimed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for turn in calls.chunk_by(|_, next| !next.is_wait()) {
        let mut tokens: Vec<i64> = Vec::new();
        let mut unnamed: Vec<i64> = Vec::new();
        for call in turn {
            if call.is_wait() {
                known.extend(call.number(0)); // the epoll set
                tokens = call.pairs().into_iter().map(|(token, _)| token).collect();
                tokens.retain(|token| !claimed.contains(token));
                tokens.sort_unstable();
                continue;
            }
            if call.is_add() {
                known.extend([call.number(0), call.number(2)].into_iter().flatten());
                claimed.extend(call.pairs().into_iter().map(|(token, _)| token));
            }
            if call.makes_descriptor() {
                known.extend(call.result.parse::<i64>());
            }
            let Some(descriptor) = call.descriptor() else { continue };
            if known.insert(descriptor) {
                old.insert(descriptor, None);
            }
            if old.get(&descriptor) == Some(&None) && !unnamed.contains(&descriptor) {
                unnamed.push(descriptor);
            }
        }
        if tokens.len() == unnamed.len() {
            claimed.extend(&tokens);
            old.extend(unnamed.into_iter().zip(tokens.into_iter().map(Some)));
        }
    }
    old
}

/// Returns what a descriptor is that was not accepted. Only a connection has an end.
pub(super) fn kind(calls: &[Call<'_>], descriptor: i64) -> &'static str {
    let is_of = |call: &&Call<'_>| call.descriptor() == Some(descriptor);
    let mut own = calls.iter().filter(is_of);
    let mut ends = own.clone().filter(|call| call.is_receive() && call.result == "0");
    if own.clone().any(|call| call.name.starts_with("accept")) {
        LISTENER
    } else if ends.next().is_some() || own.any(|call| call.name == "shutdown") {
        CONNECTION
    } else {
        SOURCE
    }
}
