//! A responder for random schedules: it answers at once, late, or by a promise, as chance has it.
//! A request below `/ongoing` gets a body that goes on.
//!
//! Whichever it is, its client receives the same bytes.

use std::time::Duration;

use super::protocols::text_of;
use crate::http::content_type::ContentType;
use crate::http::context::HttpContext;
use crate::http::ongoing::Feed;
use crate::http::promise::Promise;
use crate::http::request::Request;
use crate::http::responder::Responder;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::protocol::ident::ConnectionId;
use crate::protocol::notification::Notification;

/// Answers a request for `/7/300` with 300 bytes of text 7.
pub(super) struct TextResponder {
    may_promise: bool,
    rng: fastrand::Rng,
    /// What is answered when the timer expires.
    asked: Option<Asked>,
    promise: Option<Promise>,
    /// A body that goes on, and the rest of its text.
    feed: Option<(Feed, Vec<u8>)>,
}

/// A tag and a length; `None` for any other request.
type Asked = Option<(u16, usize)>;

impl TextResponder {
    pub(super) fn new(may_promise: bool, rng: fastrand::Rng) -> TextResponder {
        TextResponder { may_promise, rng, asked: None, promise: None, feed: None }
    }
}

fn answer_to(asked: Asked) -> Response<'static> {
    match asked {
        Some((tag, length)) => Response::ok(ContentType::OCTET_STREAM, text_of(tag, 0, length)),
        None => Response::error(Status::NOT_FOUND),
    }
}

impl Responder for TextResponder {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        let path = std::str::from_utf8(request.path()).unwrap_or_default();
        let (path, is_ongoing) =
            path.strip_prefix("/ongoing").map_or((path, false), |rest| (rest, true));
        let mut parts = path.split('/').skip(1);
        let (tag, length) = (
            parts.next().and_then(|part| part.parse().ok()),
            parts.next().and_then(|part| part.parse().ok()),
        );
        let (asked, deadline) = (tag.zip(length), Duration::from_secs(60));
        let delay = Duration::from_millis(self.rng.u64(..20));
        if let Some((tag, length)) = asked
            && is_ongoing
        {
            return Response::ongoing(Status::OK, ContentType::OCTET_STREAM, move |feed, cx| {
                let mut text = text_of(tag, 0, length);
                let rest = text.split_off(length / 2);
                feed.send(&mut cx.connections(), &text);
                cx.set_timer(delay);
                self.feed = Some((feed, rest));
            });
        }
        match self.rng.u8(..8) {
            0 => {
                self.asked = Some(asked);
                cx.set_timer(delay);
                Response::later(deadline)
            }
            1 if self.may_promise => {
                let (promise, response) = cx.promise(deadline);
                (self.asked, self.promise) = (Some(asked), Some(promise));
                cx.set_timer(delay);
                response
            }
            2 if self.may_promise => {
                let (promise, response) = cx.promise(deadline);
                promise.fulfill(move || answer_to(asked));
                response
            }
            _ => answer_to(asked),
        }
    }

    fn timer_expired(&mut self, cx: &mut HttpContext<'_, '_>) -> Option<Response<'_>> {
        if self.finish_body(cx) {
            return None;
        }
        let asked = self.asked.take().expect("the timer is set with a request");
        match self.promise.take() {
            Some(promise) => {
                promise.fulfill(move || answer_to(asked));
                None
            }
            None => Some(answer_to(asked)),
        }
    }

    fn notified(
        &mut self,
        _: ConnectionId,
        notification: Notification,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        use Notification::{AboveHighWatermark, BelowLowWatermark, Stopping};
        if notification == Stopping {
            self.finish_body(cx);
        } else {
            // Of its own output, since it feeds the body of its own connection.
            assert!(matches!(notification, AboveHighWatermark | BelowLowWatermark));
        }
        None
    }
}

impl TextResponder {
    /// Sends the rest of a body that goes on, if there is one, and ends it.
    fn finish_body(&mut self, cx: &mut HttpContext<'_, '_>) -> bool {
        let Some((feed, rest)) = self.feed.take() else { return false };
        feed.send(&mut cx.connections(), &rest);
        feed.end(&mut cx.connections());
        true
    }
}
