//! Numbers that the documents quote.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mio_reactor::limits::{self, Limits};

use super::files::{documents, read, root};
use super::markdown::quoted;

/// The files that define limits. Where HTTP's are not apart, the first has all.
const FILES: [&str; 2] = ["src/limits.rs", "src/http/limits.rs"];

/// Names in capitals that are no limits: an environment variable, and two socket options.
const NOT_LIMITS: [&str; 3] = ["RUST_LOG", "UDP_GRO", "UDP_SEGMENT"];

#[test]
fn every_quoted_limit_has_its_value() {
    let values = values();
    let files = FILES.into_iter().filter(|path| root().join(path).exists());
    let source: String = files.map(read).collect();
    let mut checked = BTreeSet::new();
    for (document, text) in documents() {
        for (name, behind) in quoted(&text) {
            if is_constant(name) && !NOT_LIMITS.contains(&name) {
                assert!(
                    source.contains(&format!("const {name}:")),
                    "{document} names {name}, which is no limit"
                );
            }
            // The value may stand on the next line.
            let behind = behind.split_once('(').filter(|(between, _)| between.trim().is_empty());
            let value = behind.and_then(|(_, from)| from.split(')').next());
            if let Some(value) =
                value.filter(|value| value.starts_with(|c: char| c.is_ascii_digit()))
            {
                let true_value = values
                    .get(name)
                    .unwrap_or_else(|| panic!("{document} quotes {name}: add it to this test"));
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                assert_eq!(&value, true_value, "{document} quotes {name}");
                checked.insert(name.to_string());
            }
        }
    }
    assert_eq!(checked.len(), values.len(), "each is quoted somewhere: {checked:?}");
}

fn is_constant(name: &str) -> bool {
    name.contains('_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Returns the limits as the documents write them.
fn values() -> BTreeMap<&'static str, String> {
    let defaults = Limits::default();
    BTreeMap::from([
        ("connections_max", format!("{},000", defaults.connections_max / 1000)),
        ("first_byte_timeout", seconds(defaults.first_byte_timeout)),
        ("idle_timeout", seconds(defaults.idle_timeout)),
        ("linger_timeout", seconds(defaults.linger_timeout)),
        ("drain_timeout", seconds(defaults.drain_timeout)),
        ("ACCEPT_RECOVERY_MS", time(limits::ACCEPT_RECOVERY_MS)),
        ("EVICTIONS_MAX", limits::EVICTIONS_MAX.to_string()),
        ("EVICTION_IDLE_MS", time(limits::EVICTION_IDLE_MS)),
        ("unanswered_ports", {
            let [others @ .., last] = &defaults.unanswered_ports[..] else {
                panic!("some ports are not answered")
            };
            let others: Vec<String> = others.iter().map(u16::to_string).collect();
            format!("{} and {last}", others.join(", "))
        }),
        ("REPLIES_BYTES_MAX", size(limits::REPLIES_BYTES_MAX as u64)),
        ("REPLIES_HIGH_WATERMARK_BYTES", size(limits::REPLIES_HIGH_WATERMARK_BYTES as u64)),
        ("HEAD_BYTES_MAX", size(limits::HEAD_BYTES_MAX as u64)),
        ("BODY_BYTES_MAX", size(limits::BODY_BYTES_MAX)),
        ("INPUT_BYTES_MAX", size(limits::INPUT_BYTES_MAX as u64)),
        ("HIGH_WATERMARK_BYTES", size(limits::HIGH_WATERMARK_BYTES as u64)),
        ("OUTPUT_BYTES_MAX", size(limits::OUTPUT_BYTES_MAX as u64)),
    ])
}

fn size(bytes: u64) -> String {
    if bytes < 1024 * 1024 {
        format!("{} KiB", bytes / 1024)
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

fn time(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
