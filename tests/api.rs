//! What users may rely on beside the signatures: which types cross threads, and what errors are.
//!
//! Most of it is checked when this file is compiled. Types whose documentation says that they are
//! not `Send` are checked, too, so that the documentation stays true.

use std::error::Error;
use std::fmt::{Debug, Display};

use mio_reactor::{
    Advance, Batching, CloseReason, Command, ConnectionId, Echo, Handle, JobPanicked, Limits,
    ListenOptions, Next, Notification, Peer, Reactor, RecordedEffect, SendError, SendStatus,
    SlowReader, Stats, Stopped, SubmitErrorKind, TestConnection, Workers, WorkersBusyError,
};

fn crosses_threads<T: Send + Sync + Clone + Debug + 'static>() {}

/// Names a type that is `Send` ambiguously, so that a call of `stays` with it does not compile.
trait StaysOnItsThread<Which> {
    fn stays() {}
}

struct IfSend;

impl<T> StaysOnItsThread<()> for T {}
impl<T: Send> StaysOnItsThread<IfSend> for T {}

/// Checks what an error type must be to be returned through `?` from any thread, and returns what a
/// person reads.
fn check_error<E: Error + Display + Debug + Send + Sync + 'static>(error: E) -> String {
    let message = error.to_string();
    let boxed: Box<dyn Error + Send + Sync> = Box::new(error);
    assert_eq!(boxed.to_string(), message);
    assert!(!message.is_empty() && !message.ends_with('.'), "{message:?}");
    assert!(message.starts_with(|first: char| first.is_lowercase()), "{message:?}");
    message
}

#[test]
fn values_cross_threads_and_the_reactor_stays_on_its_own() {
    crosses_threads::<Handle>();
    crosses_threads::<Workers>();
    crosses_threads::<JobPanicked>();
    crosses_threads::<SlowReader>();
    crosses_threads::<SubmitErrorKind>();
    crosses_threads::<SendStatus>();
    crosses_threads::<Command>();
    crosses_threads::<ListenOptions>();
    crosses_threads::<ConnectionId>();
    crosses_threads::<Notification>();
    crosses_threads::<CloseReason>();
    crosses_threads::<Peer>();
    crosses_threads::<Advance>();
    crosses_threads::<Next>();
    crosses_threads::<Stopped>();
    crosses_threads::<Limits>();
    crosses_threads::<Stats>();
    crosses_threads::<Batching>();
    crosses_threads::<RecordedEffect>();
    Reactor::stays();
    Echo::stays();
    TestConnection::stays();
}

#[test]
fn errors_read_as_part_of_a_sentence() {
    check_error(SendError::Closed);
    check_error(SendError::Rejected);
    check_error(WorkersBusyError);
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let handle = reactor.handle().unwrap();
    let full = loop {
        if let Err(error) = handle.submit(|_| {}) {
            break error;
        }
    };
    assert_eq!(full.kind(), SubmitErrorKind::Full);
    check_error(full);
    drop(reactor);
    let stopped = handle.submit(|_| {}).unwrap_err();
    assert_eq!(stopped.kind(), SubmitErrorKind::Stopped);
    check_error(stopped);
}

#[cfg(feature = "http")]
mod http {
    use mio_reactor::{
        ContentType, ContentTypeError, Feed, HeaderError, Method, Page, Promise, Response, Status,
        StatusError,
    };

    use super::{StaysOnItsThread, check_error, crosses_threads};

    fn is_sent_to_threads<T: Send + Sync + 'static>() {}

    #[test]
    fn http_values_cross_threads_and_responses_stay() {
        crosses_threads::<ContentType<'static>>();
        crosses_threads::<Status>();
        crosses_threads::<Method>();
        crosses_threads::<Page>();
        crosses_threads::<ContentTypeError>();
        crosses_threads::<StatusError>();
        crosses_threads::<HeaderError>();
        is_sent_to_threads::<Promise>();
        is_sent_to_threads::<Feed>();
        Response::<'static>::stays();
        #[cfg(all(unix, feature = "files"))]
        mio_reactor::Files::stays();
    }

    #[test]
    fn http_errors_read_as_part_of_a_sentence() {
        check_error(HeaderError::EmptyName);
        check_error(HeaderError::InvalidName { byte: 32, at: 0 });
        check_error(HeaderError::InvalidValue { byte: 10, at: 3 });
        check_error(HeaderError::ReservedName);
        check_error(HeaderError::NoHead);
        check_error(Status::new(600).expect_err("600 is no code"));
        check_error(ContentType::new("text").expect_err("a type has a subtype"));
    }
}
