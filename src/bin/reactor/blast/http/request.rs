//! The request that is sent again and again: composed once, from the URL and the arguments.

use crate::blast::limits::REQUEST_BYTES_MAX;
use crate::blast::target::HttpUrl;

/// The bytes of the request, in both of its forms.
pub(in crate::blast) struct Request {
    /// The connection persists after it, as HTTP/1.1 has it.
    pub(in crate::blast) persistent: Vec<u8>,
    /// The last one on a connection: it asks the server to close (RFC 9112 section 9.6).
    pub(in crate::blast) last: Vec<u8>,
}

/// Fields that a user cannot set. They say where the message ends, or what becomes of the
/// connection.
const RESERVED: [&str; 5] =
    ["Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Expect"];

impl Request {
    /// Composes a GET request for `url` with these further fields, as `Name: value`. A Host among
    /// them replaces that of the URL.
    ///
    /// # Errors
    ///
    /// One line: a field is not valid or reserved, or the request is too long.
    pub(in crate::blast) fn compose(url: &HttpUrl, fields: &[String]) -> Result<Request, String> {
        let mut head = format!("GET {} HTTP/1.1\r\n", url.path);
        let mut has_host = false;
        let mut lines = String::new();
        for field in fields {
            let (name, value) = parse_field(field)?;
            if let Some(name) = RESERVED.iter().find(|other| other.eq_ignore_ascii_case(name)) {
                return Err(format!(
                    "--header cannot set {name} (--requests-per-connection closes connections)"
                ));
            }
            if name.eq_ignore_ascii_case("host") && std::mem::replace(&mut has_host, true) {
                return Err("--header can set Host once".to_string());
            }
            lines += &format!("{name}: {value}\r\n");
        }
        if !has_host {
            head += &format!("Host: {}\r\n", url.host);
        }
        head += &lines;
        let last = format!("{head}Connection: close\r\n\r\n").into_bytes();
        if last.len() > REQUEST_BYTES_MAX {
            return Err(format!("a request has at most {REQUEST_BYTES_MAX} bytes"));
        }
        Ok(Request { persistent: (head + "\r\n").into_bytes(), last })
    }
}

/// Splits `Name: value`, and checks both (RFC 9110 sections 5.1 and 5.5).
fn parse_field(field: &str) -> Result<(&str, &str), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_value = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    match field.split_once(':') {
        Some((name, value))
            if !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_value) =>
        {
            Ok((name, value.trim_matches([' ', '\t'])))
        }
        Some(_) | None => Err(format!("--header is 'Name: value', and not {field:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blast::target::Target;

    fn compose(url: &str, fields: &[&str]) -> Result<String, String> {
        let Ok(Target::Http(url)) = url.parse() else { panic!("{url} is read") };
        let fields: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
        let request = Request::compose(&url, &fields)?;
        let [persistent, last] =
            [request.persistent, request.last].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(last.replace("Connection: close\r\n", ""), persistent);
        Ok(persistent)
    }

    #[test]
    fn request_has_the_path_the_host_and_the_given_fields() {
        assert_eq!(
            compose("http://localhost:8080/a?b#c", &["Accept: */*", "X-Empty:"]).unwrap(),
            "GET /a?b HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\nX-Empty: \r\n\r\n"
        );
        assert_eq!(
            compose("http://localhost", &["host:a.example"]).unwrap(),
            "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n"
        );
    }

    #[test]
    fn field_that_is_invalid_reserved_or_too_long_is_rejected() {
        let long = format!("A: {}", "b".repeat(REQUEST_BYTES_MAX));
        for (fields, words) in [
            (&["no colon"][..], "'Name: value'"),
            (&[": value"], "'Name: value'"),
            (&["Two words: a"], "'Name: value'"),
            (&["A: b\r\nC: d"], "'Name: value'"),
            (&["connection: close"], "cannot set Connection"),
            (&["Content-Length: 5"], "cannot set Content-Length"),
            (&["Host: a", "Host: b"], "Host once"),
            (&[&long], "at most"),
        ] {
            let error = compose("http://localhost/", fields).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{fields:?}: {error}");
        }
    }
}
