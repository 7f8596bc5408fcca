//! Random requests and random bytes: the same result, however they are split.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// A valid request, with its body.
fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let methods = select(vec!["GET", "HEAD", "POST", "PUT", "OPTIONS", "PATCH"]);
    let targets =
        select(vec!["/", "/plaintext", "/nowhere", "/?a=b", "http://a/plaintext", "/%20"]);
    let versions = select(vec!["HTTP/1.0", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.7"]);
    let options = select(vec![
        "",
        "Connection: keep-alive\r\n",
        "Connection: foo, Keep-Alive\r\n",
        "Connection: close\r\n",
    ]);
    let before = select(vec!["", "", "", "\r\n"]);
    let body = prop::collection::vec(any::<u8>(), 0..40);
    (before, methods, targets, versions, options, body).prop_map(
        |(before, method, target, version, option, body)| {
            let line = format!("{before}{method} {target} {version}\r\n");
            let fields = format!("Host: a\r\n{option}Content-Length: {}\r\n\r\n", body.len());
            [line.as_bytes(), fields.as_bytes(), &body].concat()
        },
    )
}

/// Bytes that often resemble a request.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let words = "GET |HEAD |POST |foo |/|/plaintext|*|http://a|?| |\t|:|,|2|3|\r\n|\r\n|\
        \r\n\r\n|\n|\r|\0|HTTP/|HTTP/1.|HTTP/2.0|Host:|Host: a\r\n|Connection: close\r\n|\
        Content-Length: |Transfer-Encoding: chunked\r\n|Expect: 100-continue\r\n|\
        GET / HTTP/1.1\r\nHost: a\r\n|GET / HTTP/1.2\r\nHost: a\r\n|\
        GET / HTTP/2.0\r\n|GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let word = select(words.split('|').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
    let word = prop_oneof![20 => word, 1 => prop::collection::vec(any::<u8>(), 1..4)];
    prop::collection::vec(word, 0..14).prop_map(|words| words.concat())
}

/// The transcript of `input` in pieces, cut at `cuts`.
fn cut_at(input: &[u8], cuts: &[Index]) -> Transcript {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([input.len()]);
    run(starts.zip(ends).map(|(start, end)| &input[start..end]).filter(|piece| !piece.is_empty()))
}

proptest! {
    // A failing input is shrunk and printed, so a file of seeds would add nothing.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1000)
    })]

    // pitfall: 78
    // rule: bytes-behind-body
    #[test]
    fn pipelined_requests_are_answered_as_each_alone(
        requests in prop::collection::vec(valid_request(), 1..=6),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        // Up to the first response that closes, which is the last.
        let mut expected = Transcript { output: String::new(), end: PeerCloses };
        for request in &requests {
            if expected.end == PeerCloses {
                let alone = run([&request[..]]);
                expected = Transcript { output: expected.output + &alone.output, end: alone.end };
            }
        }
        let input = requests.concat();
        prop_assert_eq!(&run([&input[..]]), &expected);
        prop_assert_eq!(&run(input.chunks(1)), &expected);
        prop_assert_eq!(&cut_at(&input, &cuts), &expected);
    }

    // pitfall: 71
    #[test]
    fn random_bytes_have_one_result_however_split(
        input in any_input(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        // Whole, byte by byte and cut: no panic, and the same output. (In pieces it may be sent
        // later, at the peer's FIN.)
        let whole = run([&input[..]]).output;
        prop_assert_eq!(&run(input.chunks(1)).output, &whole);
        prop_assert_eq!(&cut_at(&input, &cuts).output, &whole);
    }
}
