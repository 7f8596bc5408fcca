//! Status codes and reason phrases: one table, with each status line as it is sent.

/// The status codes of RFC 1945 section 6.1.1, and those of RFC 9110 section 15 and RFC 6585 that a
/// server needs today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Status {
    Ok,
    Created,
    Accepted,
    NoContent,
    MovedPermanently,
    Found,
    SeeOther,
    NotModified,
    TemporaryRedirect,
    PermanentRedirect,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    Gone,
    PreconditionFailed,
    ContentTooLarge,
    UriTooLong,
    UnsupportedMediaType,
    ExpectationFailed,
    UnprocessableContent,
    TooManyRequests,
    HeadersTooLarge,
    InternalServerError,
    NotImplemented,
    BadGateway,
    ServiceUnavailable,
    GatewayTimeout,
    VersionNotSupported,
}

impl Status {
    /// Returns the code and the reason phrase, such as `404 Not Found`.
    pub fn as_str(self) -> &'static str {
        let line = self.line();
        &line["HTTP/1.0 ".len()..line.len() - "\r\n".len()]
    }

    /// Returns whether a response of this status never has a body, and so no field that frames one
    /// (RFC 9112 section 6.3).
    pub(super) fn has_no_body(self) -> bool {
        matches!(self, Status::NoContent | Status::NotModified)
    }

    /// The status line with its line end.
    pub(super) fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.0 200 OK\r\n",
            Status::Created => "HTTP/1.0 201 Created\r\n",
            Status::Accepted => "HTTP/1.0 202 Accepted\r\n",
            Status::NoContent => "HTTP/1.0 204 No Content\r\n",
            Status::MovedPermanently => "HTTP/1.0 301 Moved Permanently\r\n",
            Status::Found => "HTTP/1.0 302 Found\r\n",
            Status::SeeOther => "HTTP/1.0 303 See Other\r\n",
            Status::NotModified => "HTTP/1.0 304 Not Modified\r\n",
            Status::TemporaryRedirect => "HTTP/1.0 307 Temporary Redirect\r\n",
            Status::PermanentRedirect => "HTTP/1.0 308 Permanent Redirect\r\n",
            Status::BadRequest => "HTTP/1.0 400 Bad Request\r\n",
            Status::Unauthorized => "HTTP/1.0 401 Unauthorized\r\n",
            Status::Forbidden => "HTTP/1.0 403 Forbidden\r\n",
            Status::NotFound => "HTTP/1.0 404 Not Found\r\n",
            Status::MethodNotAllowed => "HTTP/1.0 405 Method Not Allowed\r\n",
            Status::RequestTimeout => "HTTP/1.0 408 Request Timeout\r\n",
            Status::Conflict => "HTTP/1.0 409 Conflict\r\n",
            Status::Gone => "HTTP/1.0 410 Gone\r\n",
            Status::PreconditionFailed => "HTTP/1.0 412 Precondition Failed\r\n",
            Status::ContentTooLarge => "HTTP/1.0 413 Content Too Large\r\n",
            Status::UriTooLong => "HTTP/1.0 414 URI Too Long\r\n",
            Status::UnsupportedMediaType => "HTTP/1.0 415 Unsupported Media Type\r\n",
            Status::ExpectationFailed => "HTTP/1.0 417 Expectation Failed\r\n",
            Status::UnprocessableContent => "HTTP/1.0 422 Unprocessable Content\r\n",
            Status::TooManyRequests => "HTTP/1.0 429 Too Many Requests\r\n",
            Status::HeadersTooLarge => "HTTP/1.0 431 Request Header Fields Too Large\r\n",
            Status::InternalServerError => "HTTP/1.0 500 Internal Server Error\r\n",
            Status::NotImplemented => "HTTP/1.0 501 Not Implemented\r\n",
            Status::BadGateway => "HTTP/1.0 502 Bad Gateway\r\n",
            Status::ServiceUnavailable => "HTTP/1.0 503 Service Unavailable\r\n",
            Status::GatewayTimeout => "HTTP/1.0 504 Gateway Timeout\r\n",
            Status::VersionNotSupported => "HTTP/1.0 505 HTTP Version Not Supported\r\n",
        }
    }
}
