//! What gets the load: the server of an echo, or a resource of an HTTP server.
//!
//! ```text
//!     udp://HOST:PORT   tcp://HOST:PORT        an echo server
//!     http://HOST:PORT/PATH?QUERY              a resource; the port is 80 if there is none
//!     http://unix:PATH:/PATH?QUERY             the same over a Unix socket, as nginx writes it
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::{NetAddress, StreamAddress, Url, parse_unix};

/// The argument of `reactor blast`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Echo(Url),
    Http(HttpUrl),
}

/// A URL of the scheme `http` (RFC 9110 section 4.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpUrl {
    pub(crate) server: StreamAddress,
    /// The value of the Host field.
    pub(crate) host: String,
    /// Path and query (RFC 9112 section 3.2.1).
    pub(crate) path: String,
}

/// A server's address, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Net(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme.to_ascii_lowercase().as_str() {
            "http" if text[4..].starts_with("://") => parse_http(&text[7..]).map(Target::Http),
            "https" => Err("https:// needs TLS, which this client does not have: load the server \
                            behind it over http://"
                .to_string()),
            "unix" => Err("a Unix socket is http://unix:PATH:/TARGET".to_string()),
            "tcp" | "udp" => text.parse().map(Target::Echo),
            _ => {
                Err("a server is tcp://HOST:PORT, udp://HOST:PORT or http://HOST:PORT/PATH"
                    .to_string())
            }
        }
    }
}

/// Reads what follows `http://`.
fn parse_http(text: &str) -> Result<HttpUrl, String> {
    // A fragment is never sent (RFC 9110 section 7.1).
    let text = text.split('#').next().unwrap_or_default();
    if let Some(rest) = text.strip_prefix("unix:") {
        let (socket, path) = rest.split_once(':').unwrap_or((rest, ""));
        let server = StreamAddress::Unix(parse_unix(socket)?);
        return Ok(HttpUrl { server, host: "localhost".to_string(), path: parse_path(path)? });
    }
    let (authority, path) = text.split_at(text.find(['/', '?']).unwrap_or(text.len()));
    if authority.contains('@') {
        return Err("a URL with a user is not sent: use --header 'Authorization: ...'".to_string());
    }
    if authority.is_empty() {
        return Err("the host is missing, as in http://localhost:8080/".to_string());
    }
    if !authority.is_ascii() {
        return Err("a Host field is ASCII: write the name as xn--...".to_string());
    }
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    let is_port_alone =
        after_host.bytes().all(|byte| byte.is_ascii_digit()) && !after_host.is_empty();
    let default_port = if after_host.contains(':') || is_port_alone { "" } else { ":80" };
    // The rules for one server's address are those of tcp://.
    let Url { address, .. } = format!("tcp://{authority}{default_port}").parse()?;
    let path = parse_path(path)?;
    Ok(HttpUrl { host: host_of(&address), server: StreamAddress::Net(address), path })
}

/// Returns the value of the Host field: without the default port, and without the zone, which means
/// something on this machine only (RFC 6874 section 1).
fn host_of(address: &NetAddress) -> String {
    let text = address.to_string();
    let text = text.strip_suffix(":80").unwrap_or(&text);
    match (text.split_once('%'), text.split_once(']')) {
        (Some((host, _)), Some((_, port))) => format!("{host}]{port}"),
        (None, _) | (_, None) => text.to_string(),
    }
}

fn parse_path(text: &str) -> Result<String, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a path is visible ASCII: write another byte as %XX, a space as %20".into());
    }
    match text.as_bytes().first() {
        Some(b'/') => Ok(text.to_string()),
        Some(b'?') | None => Ok(format!("/{text}")),
        Some(_) => Err("a Unix socket is http://unix:PATH:/TARGET".to_string()),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Echo(url) => url.fmt(f),
            Target::Http(HttpUrl { server: StreamAddress::Net(address), path, .. }) => {
                write!(f, "http://{address}{path}")
            }
            Target::Http(HttpUrl { server: server @ StreamAddress::Unix(_), path, .. }) => {
                write!(f, "http://{server}:{path}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_url_names_a_server_a_host_and_a_path() {
        for (text, server, host, path) in [
            ("http://127.0.0.1:8080/a?b=c", "127.0.0.1:8080", "127.0.0.1:8080", "/a?b=c"),
            ("HTTP://localhost", "localhost:80", "localhost", "/"),
            ("http://localhost:80?q", "localhost:80", "localhost", "/?q"),
            ("http://a.example/#top", "a.example:80", "a.example", "/"),
            ("http://[::1]:8080/", "[::1]:8080", "[::1]:8080", "/"),
            ("http://[::1]/", "[::1]:80", "[::1]", "/"),
            ("http://[fe80::1%eth0]/", "[fe80::1%eth0]:80", "[fe80::1]", "/"),
            ("http://[fe80::1%eth0]:81/", "[fe80::1%eth0]:81", "[fe80::1]:81", "/"),
            ("http://8080/a", "127.0.0.1:8080", "127.0.0.1:8080", "/a"),
            ("http://:8080/a:/b", "127.0.0.1:8080", "127.0.0.1:8080", "/a:/b"),
        ] {
            let Ok(Target::Http(url)) = text.parse() else { panic!("{text:?} is read") };
            assert_eq!(
                (url.server.to_string().as_str(), url.host.as_str(), url.path.as_str()),
                (server, host, path),
                "{text:?}"
            );
            assert_eq!(Target::Http(url).to_string(), format!("http://{server}{path}"));
        }
    }

    #[test]
    #[cfg(unix)]
    fn http_url_over_a_unix_socket_has_its_path_between_colons() {
        for (text, socket, path) in [
            ("http://unix:/tmp/a b:/c?d", "/tmp/a b", "/c?d"),
            ("http://unix:/tmp/a", "/tmp/a", "/"),
            ("http://unix:app.sock:?q", "app.sock", "/?q"),
        ] {
            let Ok(Target::Http(url)) = text.parse() else { panic!("{text:?} is read") };
            assert_eq!(url.server, StreamAddress::Unix(PathBuf::from(socket)), "{text:?}");
            assert_eq!((url.host.as_str(), url.path.as_str()), ("localhost", path), "{text:?}");
        }
    }

    #[test]
    fn invalid_target_is_rejected_with_the_reason() {
        for (text, words) in [
            ("", "a server is tcp://HOST:PORT"),
            ("127.0.0.1:8080/a", "a server is tcp://HOST:PORT"),
            ("ftp://localhost", "a server is tcp://HOST:PORT"),
            ("http:/localhost/", "a server is tcp://HOST:PORT"),
            ("https://localhost/", "https:// needs TLS"),
            ("unix:/tmp/a", "a Unix socket is http://unix:PATH:/TARGET"),
            ("http://", "the host is missing"),
            ("http:///a", "the host is missing"),
            ("http://localhost:0/", "no server has port 0"),
            ("http://localhost:http/", "a port is a number"),
            ("http://localhost:/", "a port is a number"),
            ("http://*:8080/", "* is for listening"),
            ("http://::1/", "an IPv6 address is in brackets"),
            ("http://me:secret@localhost/", "--header 'Authorization"),
            ("http://bücher.example/", "xn--"),
            ("http://localhost/a b", "%20"),
            ("http://localhost/ä", "%XX"),
            ("http://unix:", "unix: needs the path of a file"),
            ("http://unix:/tmp/a:b", "http://unix:PATH:/TARGET"),
        ] {
            let error = text.parse::<Target>().err().unwrap_or_else(|| panic!("{text:?} is read"));
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
