//! What is tried: an echo server over TCP, UDP or a Unix socket, or a resource of an HTTP server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::{NetAddress, Scheme, Url, parse_unix};
use crate::blast::{HttpUrl, Target};

/// The argument of `reactor try`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TryTarget {
    Tcp(NetAddress),
    Udp(NetAddress),
    Unix(PathBuf),
    Http(HttpUrl),
}

const FORMS: &str =
    "a server is tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or http://HOST:PORT/PATH";

impl FromStr for TryTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<TryTarget, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", ""));
        match scheme.to_ascii_lowercase().as_str() {
            "unix" => parse_unix(rest).map(TryTarget::Unix),
            "https" => Err("https:// needs TLS, which this client does not have: try the server \
                            behind it over http://"
                .to_string()),
            "http" => {
                let authority = rest.trim_start_matches('/').split(['/', '?', '#']).next();
                let is_with_user =
                    authority.is_some_and(|text| text.contains('@') && !text.starts_with("unix:"));
                if is_with_user {
                    return Err("a URL with a user is not sent".to_string());
                }
                match text.parse()? {
                    Target::Http(url) => Ok(TryTarget::Http(url)),
                    Target::Echo(_) => Err(FORMS.to_string()),
                }
            }
            "tcp" | "udp" if rest.starts_with("//unix:") => {
                Err("a Unix socket is unix:PATH, and no scheme is before it".to_string())
            }
            "tcp" | "udp" => {
                let Url { scheme, address } = text.parse()?;
                Ok(match scheme {
                    Scheme::Tcp => TryTarget::Tcp(address),
                    Scheme::Udp => TryTarget::Udp(address),
                })
            }
            _ => Err(FORMS.to_string()),
        }
    }
}

impl fmt::Display for TryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryTarget::Tcp(address) => write!(f, "tcp://{address}"),
            TryTarget::Udp(address) => write!(f, "udp://{address}"),
            TryTarget::Unix(path) => write!(f, "unix:{}", path.display()),
            TryTarget::Http(url) => Target::Http(url.clone()).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_one_of_four_forms_and_prints_as_it_is_read() {
        let mut forms = vec!["tcp://127.0.0.1:1", "udp://[::1]:1", "http://127.0.0.1:80/a?b"];
        if cfg!(unix) {
            forms.extend(["unix:/tmp/a", "http://unix:/tmp/a:/b"]);
        }
        for text in forms {
            let target: TryTarget = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn invalid_target_is_rejected_with_the_reason() {
        for (text, words) in [
            ("", FORMS),
            ("127.0.0.1:2000", FORMS),
            ("ftp://localhost", FORMS),
            ("http:/localhost/", "a server is"),
            ("https://localhost/", "try the server behind it"),
            ("http://me:secret@localhost/", "a URL with a user"),
            ("tcp://unix:/tmp/a", "a Unix socket is unix:PATH"),
            ("tcp://*:2000", "* is for listening"),
            ("udp://127.0.0.1", "the port is missing"),
            ("tcp://127.0.0.1:0", "no server has port 0"),
        ] {
            let error = text.parse::<TryTarget>().err().unwrap_or_else(|| panic!("{text:?}"));
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
