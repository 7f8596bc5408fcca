//! A page: a response whose content never changes, composed once.

use std::borrow::Cow;

use super::content_type::ContentType;
use super::field::HeaderError;
use super::response::{Response, ResponseBody, add_field, head};
use super::status::Status;

/// A 200 whose content never changes. It is composed once; only the date and the Connection field
/// are written for each request. `Send` and `Sync`: all threads may share one.
#[derive(Clone, Debug)]
pub struct Page {
    head: Vec<u8>,
    body: Cow<'static, [u8]>,
}

impl Page {
    /// Composes a page with a body of type `content_type`.
    pub fn new(content_type: ContentType<'_>, body: impl Into<Cow<'static, [u8]>>) -> Page {
        let body = body.into();
        Page { head: head(Status::OK, content_type, body.len() as u64), body }
    }

    /// Adds a header field, such as `Cache-Control`, as [`Response::with_header`] does.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] for the same fields.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Page, HeaderError> {
        add_field(&mut self.head, name, value.as_bytes())?;
        Ok(self)
    }

    /// Returns the page as a response.
    #[inline]
    pub fn response(&self) -> Response<'_> {
        Response {
            head: Cow::Borrowed(&self.head),
            body: ResponseBody::Bytes(Cow::Borrowed(&self.body)),
        }
    }
}
