//! Quantities on the command line: durations, sizes, rates, counts and switches, with their units
//! and bounds.
//!
//! Invariant: what a type prints, it also reads. So a default in `--help` can be copied as it is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use parse_size::{ByteSuffix, Config};

/// Shortest duration. The loop counts in milliseconds, and with 0 no connection could be served.
const DURATION_MIN: Duration = Duration::from_millis(1);
/// Longest duration: one year, in practice no timeout at all.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Largest size, in bytes: that of the kernel's own type for a socket buffer (socket(7)).
const SIZE_MAX: u64 = i32::MAX as u64;
/// The least bound on memory, in bytes.
const MEMORY_MIN: usize = 1 << 20;
/// Longest prefix, in bytes. A reply over UDP is one datagram (65,507 bytes over IPv4), and a
/// longer one is dropped. This leaves room for nearly every message. It also bounds how much larger
/// a reply is than a request with a forged source address.
pub(crate) const PREFIX_BYTES_MAX: usize = 1024;
/// Highest rate, in messages a second: more than one core can send.
const RATE_MAX: u64 = 1_000_000_000;

/// A length of time with its unit, such as `60s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DurationArg(Duration);

impl DurationArg {
    /// Wraps a length of time.
    pub(crate) const fn new(duration: Duration) -> DurationArg {
        DurationArg(duration)
    }

    /// Returns the length of time.
    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for DurationArg {
    type Err = String;

    fn from_str(text: &str) -> Result<DurationArg, String> {
        if text.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok() {
            return Err(format!("{text} has no unit: {text}s or {text}ms?"));
        }
        let out_of_bounds = "a duration is from 1ms to 8760h, one year".to_string();
        match SpanParser::new().parse_unsigned_duration(text) {
            Ok(duration) if (DURATION_MIN..=DURATION_MAX).contains(&duration) => {
                Ok(DurationArg(duration))
            }
            Ok(_) => Err(out_of_bounds),
            // Below zero, or more than jiff can count.
            Err(_) if is_duration_with_other_numbers(text) => Err(out_of_bounds),
            Err(_) => {
                Err("a duration is a number with the unit ms, s, m or h, such as 500ms, 60s or \
                     1h30m"
                    .to_string())
            }
        }
    }
}

/// Returns whether `text` would be a duration if it were positive and its numbers were small.
fn is_duration_with_other_numbers(text: &str) -> bool {
    let mut small = String::new();
    for c in text.trim_start_matches('-').chars() {
        match c {
            '0'..='9' if small.ends_with('1') => {}
            '0'..='9' => small.push('1'),
            _ => small.push(c),
        }
    }
    SpanParser::new().parse_unsigned_duration(&small).is_ok()
}

impl fmt::Display for DurationArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&SpanPrinter::new().unsigned_duration_to_string(&self.0))
    }
}

/// A number of bytes. K, M and G are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeArg(usize);

impl SizeArg {
    /// Wraps a number of bytes.
    pub(crate) const fn new(bytes: usize) -> SizeArg {
        SizeArg(bytes)
    }

    /// Returns the number of bytes.
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl FromStr for SizeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<SizeArg, String> {
        match parse_bytes(text)? {
            bytes @ 1..=SIZE_MAX => {
                Ok(SizeArg(usize::try_from(bytes).map_err(|error| error.to_string())?))
            }
            _ => Err(format!("a size is from 1 to {SIZE_MAX} bytes")),
        }
    }
}

/// Reads a size whose bounds depend on other arguments, which are checked later.
pub(crate) fn parse_unbounded_size(text: &str) -> Result<SizeArg, String> {
    let bytes = parse_bytes(text)?;
    Ok(SizeArg(usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// Reads a bound on memory. Below a mebibyte, hardly a connection could be served.
pub(crate) fn parse_memory(text: &str) -> Result<SizeArg, String> {
    let size = parse_unbounded_size(text)?;
    if size.get() < MEMORY_MIN { Err("the least memory is 1M".to_string()) } else { Ok(size) }
}

/// Reads a number of bytes. One that is too large for its type becomes the largest.
fn parse_bytes(text: &str) -> Result<u64, String> {
    match Config::new().with_binary().parse_size(text) {
        Ok(bytes) => Ok(bytes),
        Err(parse_size::Error::PosOverflow) => Ok(u64::MAX),
        Err(_) => {
            Err("a size is a number of bytes, or of KiB, MiB or GiB with K, M or G, such as 64 or \
                 4M"
            .to_string())
        }
    }
}

impl fmt::Display for SizeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        let unit = units.iter().find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (factor, name) = unit.unwrap_or(&(1, ""));
        write!(f, "{}{name}", self.0 / factor)
    }
}

/// A number of messages a second. k, M and G are powers of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateArg(u64);

impl RateArg {
    /// Returns the number of messages a second.
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for RateArg {
    type Err = String;

    fn from_str(text: &str) -> Result<RateArg, String> {
        // The parser would round it, 0.5 to twice the rate.
        if text.contains('.') && text.ends_with(|end: char| end.is_ascii_digit()) {
            return Err("a rate is a whole number of messages a second, at least 1".to_string());
        }
        match Config::new().with_byte_suffix(ByteSuffix::Deny).parse_size(text) {
            Ok(rate @ 1..=RATE_MAX) => Ok(RateArg(rate)),
            Ok(_) | Err(parse_size::Error::PosOverflow) => {
                Err("a rate is from 1 to 1G messages a second".to_string())
            }
            Err(_) => Err("a rate is a number of messages a second, or of thousands or millions \
                           with k or M, such as 500 or 100k"
                .to_string()),
        }
    }
}

/// Returns a parser of counts from 1 to `max`.
pub(crate) fn count_to(max: u32) -> impl Fn(&str) -> Result<u32, String> + Clone {
    move |text| {
        // `u32::from_str` alone accepts a sign.
        let count = text.parse().ok().filter(|_| !text.starts_with('+'));
        count
            .filter(|count| (1..=max).contains(count))
            .ok_or_else(|| format!("a count is from 1 to {max}"))
    }
}

/// Reads the text that is put before each reply.
pub(crate) fn parse_prefix(text: &str) -> Result<String, String> {
    if text.len() > PREFIX_BYTES_MAX {
        return Err(format!("a prefix has at most {PREFIX_BYTES_MAX} bytes"));
    }
    Ok(text.to_string())
}

/// Reads a switch, whose value an environment variable has to spell out.
pub(crate) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("a switch is 1 or true, or 0 or false".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that each text is read as its value.
    #[track_caller]
    fn check_read<T: FromStr<Err = String>, V: PartialEq + fmt::Debug>(
        get: impl Fn(T) -> V,
        cases: &[(&str, V)],
    ) {
        for (text, value) in cases {
            let read = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(get(read), *value, "{text:?}");
        }
    }

    /// Checks that each text is rejected with a line that contains the words beside it.
    #[track_caller]
    fn check_rejected<T: FromStr<Err = String>>(cases: &[(&str, &str)]) {
        for (text, words) in cases {
            let error = text.parse::<T>().err().unwrap_or_else(|| panic!("{text:?} is read"));
            assert!(error.contains(words) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn duration_needs_a_number_with_a_unit() {
        let ms = Duration::from_millis;
        check_read(
            DurationArg::get,
            &[
                ("1ms", ms(1)),
                ("500ms", ms(500)),
                ("60s", ms(60_000)),
                ("0.5s", ms(500)),
                ("1.5ms", Duration::from_micros(1500)),
                ("1000us", ms(1)),
                ("1m", ms(60_000)),
                ("1h", ms(3_600_000)),
                ("1h30m", ms(5_400_000)),
                ("1m 30s", ms(90_000)),
                ("2 minutes", ms(120_000)),
                ("8760h", DURATION_MAX),
            ],
        );
    }

    #[test]
    fn duration_without_unit_or_out_of_bounds_is_rejected() {
        const UNITS: &str = "the unit ms, s, m or h";
        check_rejected::<DurationArg>(&[
            ("60", "60 has no unit: 60s or 60ms?"),
            ("0", "no unit"),
            ("0.5", "no unit"),
            ("0s", "from 1ms to 8760h"),
            ("0ms", "from 1ms to 8760h"),
            ("999us", "from 1ms to 8760h"),
            ("8761h", "from 1ms to 8760h"),
            ("99999999999999999999h", "from 1ms to 8760h"),
            ("", UNITS),
            ("s", UNITS),
            ("soon", UNITS),
            ("nan", UNITS),
            ("-1", UNITS),
            ("-1s", "from 1ms to 8760h"),
            ("-1s ago", UNITS),
            ("1s ago", UNITS),
            ("1M", UNITS),
            ("1d", UNITS),
            ("PT1S", UNITS),
            ("60s,", UNITS),
        ]);
    }

    #[test]
    fn size_is_in_bytes_or_powers_of_1024() {
        check_read(
            SizeArg::get,
            &[
                ("1", 1),
                ("64", 64),
                ("65536", 65_536),
                ("1K", 1024),
                ("4M", 4 << 20),
                ("4m", 4 << 20),
                ("4MiB", 4 << 20),
                ("1.5K", 1536),
                ("1G", 1 << 30),
                ("2147483647", 2_147_483_647),
            ],
        );
        check_rejected::<SizeArg>(&[
            ("0", "from 1 to 2147483647 bytes"),
            ("2G", "from 1 to 2147483647 bytes"),
            ("99999999999999999999", "from 1 to 2147483647 bytes"),
            ("", "K, M or G"),
            ("M", "K, M or G"),
            ("-1", "K, M or G"),
            ("much", "K, M or G"),
            ("4X", "K, M or G"),
        ]);
    }

    #[test]
    fn rate_is_in_messages_or_powers_of_1000() {
        check_read(
            RateArg::get,
            &[
                ("1", 1),
                ("500", 500),
                ("100k", 100_000),
                ("1.5k", 1500),
                ("1M", 1_000_000),
                ("1G", RATE_MAX),
                ("1000000000", RATE_MAX),
            ],
        );
        check_rejected::<RateArg>(&[
            ("0", "from 1 to 1G messages a second"),
            ("0.5", "a whole number"),
            ("1.5", "a whole number"),
            ("1000000001", "from 1 to 1G messages a second"),
            ("99999999999999999999", "from 1 to 1G messages a second"),
            ("", "such as 500 or 100k"),
            ("fast", "such as 500 or 100k"),
            ("-1", "such as 500 or 100k"),
            ("100kB", "such as 500 or 100k"),
        ]);
    }

    #[test]
    fn count_out_of_bounds_or_no_number_is_rejected_with_the_bounds() {
        let parse = count_to(64);
        assert_eq!((parse("1"), parse("64")), (Ok(1), Ok(64)));
        for text in ["0", "65", "4294967296", "", "+1", "-1", "1.5", "many", "1k"] {
            assert_eq!(parse(text), Err("a count is from 1 to 64".to_string()), "{text:?}");
        }
    }

    #[test]
    fn size_with_bounds_elsewhere_is_read_whatever_it_is() {
        for (text, bytes) in [("0", 0), ("4G", 4 << 30), ("99999999999999999999", usize::MAX)] {
            assert_eq!(parse_unbounded_size(text).map(SizeArg::get), Ok(bytes), "{text:?}");
        }
        assert!(parse_unbounded_size("much").is_err());
    }

    #[test]
    fn prefix_longer_than_its_bound_is_rejected() {
        let longest = "x".repeat(PREFIX_BYTES_MAX);
        assert_eq!(parse_prefix(&longest), Ok(longest.clone()));
        assert!(parse_prefix(&(longest + "x")).unwrap_err().contains("at most 1024 bytes"));
    }

    #[test]
    fn switch_is_1_or_true_or_0_or_false() {
        for (text, value) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            assert_eq!(parse_switch(text), Ok(value));
        }
        for text in ["", "yes", "2", "True"] {
            assert!(parse_switch(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn printed_values_read_back_as_the_same() {
        for (ms, printed) in [
            (1, "1ms"),
            (500, "500ms"),
            (2000, "2s"),
            (30_000, "30s"),
            (60_000, "1m"),
            (90_000, "1m 30s"),
            (3_600_000, "1h"),
            (31_536_000_000, "8760h"),
        ] {
            let value = DurationArg::new(Duration::from_millis(ms));
            assert_eq!(value.to_string(), printed);
            assert_eq!((printed.parse(), value.get().as_millis()), (Ok(value), u128::from(ms)));
        }
        for (bytes, printed) in [
            (1, "1"),
            (64, "64"),
            (1000, "1000"),
            (1024, "1K"),
            (1536, "1536"),
            (4 << 20, "4M"),
            (1 << 30, "1G"),
        ] {
            let value = SizeArg::new(bytes);
            assert_eq!(value.to_string(), printed);
            assert_eq!(printed.parse(), Ok(value));
        }
    }
}
