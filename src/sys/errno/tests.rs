//! Every row of the tables, written down a second time by what it leads to.

use super::*;

/// The errnos that the table has rows for. What each row leads to is written down a second
/// time, in the tests here and in those of the callers. A row that they forget fails there.
pub(crate) fn all_of_receive() -> impl Iterator<Item = i32> {
    RECEIVE.iter().map(|row| row.0)
}

pub(crate) fn all_of_send() -> impl Iterator<Item = i32> {
    SEND.iter().map(|row| row.0)
}

/// An errno that no system has.
pub(crate) const UNKNOWN_ERRNO: i32 = 4000;

#[test]
fn no_errno_has_two_rows() {
    fn check<M>(table: &[(i32, M)]) {
        for (number, row) in table.iter().enumerate() {
            assert!(table[..number].iter().all(|other| other.0 != row.0), "errno {}", row.0);
        }
    }
    check(ACCEPT);
    check(RECEIVE);
    check(SEND);
    check(RECEIVE_DATAGRAM);
    check(SEND_DATAGRAM);
    check(winsock::ACCEPT);
    check(winsock::RECEIVE);
    check(winsock::RECEIVE_DATAGRAM);
    check(winsock::SEND_DATAGRAM);
    #[cfg(feature = "files")]
    check(OPEN);
}

// pitfall: 33
#[test]
fn accept_errnos_pause_only_when_exhausted_and_close_only_when_broken() {
    let would_block = [libc::EAGAIN, libc::EWOULDBLOCK];
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    let broken = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK];
    for errno in
        ACCEPT.iter().map(|row| row.0).chain(would_block).chain(exhausted).chain(broken).chain([
            UNKNOWN_ERRNO,
            1,
            0,
        ])
    {
        let expected = match errno {
            errno if would_block.contains(&errno) => AcceptError::WouldBlock,
            errno if exhausted.contains(&errno) => AcceptError::Exhausted,
            errno if broken.contains(&errno) => AcceptError::Broken,
            libc::EINTR => AcceptError::Interrupted,
            _ => AcceptError::HandshakeFailed,
        };
        assert_eq!(
            classify_accept(&io::Error::from_raw_os_error(errno)),
            expected,
            "errno {errno}"
        );
    }
}

// pitfall: 47
#[test]
fn unsendable_datagram_is_dropped_unless_retry_or_split_helps() {
    // ENOBUFS above all: the socket stays writable, so waiting for a writable event would spin.
    let would_block = [libc::EAGAIN, libc::EWOULDBLOCK];
    for errno in SEND_DATAGRAM.iter().map(|row| row.0).chain(would_block).chain([
        libc::ENOBUFS,
        UNKNOWN_ERRNO,
        0,
    ]) {
        let expected = match errno {
            errno if would_block.contains(&errno) => DatagramError::WouldBlock,
            libc::EINTR => DatagramError::Interrupted,
            libc::EINVAL | libc::EIO | libc::EOPNOTSUPP => DatagramError::GsoUnsupported,
            libc::EMSGSIZE => DatagramError::GsoTooLargeForPath,
            _ => DatagramError::Unsendable,
        };
        assert_eq!(
            classify_send_datagram(&io::Error::from_raw_os_error(errno)),
            expected,
            "errno {errno}"
        );
    }
}

#[test]
#[cfg(feature = "files")]
fn open_errnos_mean_not_found_forbidden_try_later_or_failed() {
    let forbidden = [libc::EACCES, libc::EPERM, libc::EXDEV];
    let try_later = [libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    for errno in
        OPEN.iter().map(|row| row.0).chain(forbidden).chain(try_later).chain([UNKNOWN_ERRNO, 0])
    {
        let expected = match errno {
            errno if forbidden.contains(&errno) => OpenError::Forbidden,
            errno if try_later.contains(&errno) => OpenError::TryLater,
            libc::EMFILE => OpenError::NoDescriptor,
            libc::EIO | UNKNOWN_ERRNO | 0 => OpenError::Failed,
            _ => OpenError::NotFound,
        };
        assert_eq!(classify_open(&io::Error::from_raw_os_error(errno)), expected, "errno {errno}");
    }
    // This is how cap-std reports a path that leads out of the root.
    assert_eq!(
        classify_open(&io::Error::new(ErrorKind::PermissionDenied, "out")),
        OpenError::Forbidden
    );
}

#[test]
fn error_kind_decides_where_an_error_has_no_errno() {
    use ErrorKind::{
        ConnectionAborted, Interrupted, NotConnected, OutOfMemory, Unsupported, WouldBlock,
    };
    let accept = |kind: ErrorKind| classify_accept(&kind.into());
    assert_eq!(
        (accept(WouldBlock), accept(Interrupted)),
        (AcceptError::WouldBlock, AcceptError::Interrupted)
    );
    assert_eq!(
        (accept(OutOfMemory), accept(ConnectionAborted)),
        (AcceptError::Exhausted, AcceptError::HandshakeFailed)
    );
    for classify in [classify_receive, classify_send] {
        assert_eq!(
            (classify(&WouldBlock.into()), classify(&Interrupted.into())),
            (StreamError::WouldBlock, StreamError::Interrupted)
        );
        assert_eq!(
            (classify(&NotConnected.into()), classify(&OutOfMemory.into())),
            (StreamError::Disconnected, StreamError::Failed)
        );
    }
    let send = |kind: ErrorKind| classify_send_datagram(&kind.into());
    assert_eq!(
        (send(WouldBlock), send(Interrupted)),
        (DatagramError::WouldBlock, DatagramError::Interrupted)
    );
    assert_eq!(
        (send(Unsupported), send(OutOfMemory)),
        (DatagramError::GsoUnsupported, DatagramError::Unsendable)
    );
}

// pitfall: 111
#[test]
fn errors_of_single_datagrams_cost_one_receive_and_others_a_pause() {
    use ReceiveDatagramError::{Failed, Interrupted, OfOneDatagram, WouldBlock};
    let failed = [
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::ENETDOWN,
        libc::EBADF,
        libc::ENOTSOCK,
        libc::EINVAL,
        libc::EFAULT,
        UNKNOWN_ERRNO,
        0,
    ];
    for errno in RECEIVE_DATAGRAM.iter().map(|row| row.0).chain(failed) {
        let expected = match errno {
            libc::EAGAIN => WouldBlock,
            libc::EINTR => Interrupted,
            errno if failed.contains(&errno) => Failed,
            _ => OfOneDatagram,
        };
        let error = io::Error::from_raw_os_error(errno);
        assert_eq!(classify_receive_datagram(&error), expected, "errno {errno}");
    }
    let by_kind = |kind: ErrorKind| classify_receive_datagram(&kind.into());
    assert_eq!(
        [ErrorKind::WouldBlock, ErrorKind::NotFound, ErrorKind::ConnectionReset].map(by_kind),
        [WouldBlock, WouldBlock, OfOneDatagram],
        "mio returns `NotFound` where its poll(2) selector has forgotten the descriptor"
    );
}

/// The tables of Windows, searched as there.
// pitfall: 111
#[test]
fn winsock_errors_mean_what_the_errnos_of_unix_mean() {
    fn meaning<M: Copy + PartialEq + std::fmt::Debug>(
        table: &[(i32, M)],
        default: M,
        expected: &[(&[i32], M)],
    ) {
        for &(codes, expected) in expected {
            for &code in codes {
                let error = io::Error::from_raw_os_error(code);
                assert_eq!(lookup(&error, table, &[], default), expected, "error {code}");
            }
        }
        let named: usize = expected.iter().map(|(codes, _)| codes.len()).sum();
        assert_eq!(named, table.len(), "each row is expected here");
    }
    meaning(
        winsock::ACCEPT,
        AcceptError::HandshakeFailed,
        &[
            (&[10035], AcceptError::WouldBlock),
            (&[10004], AcceptError::Interrupted),
            (&[10054, 10050], AcceptError::HandshakeFailed),
            (&[10024, 10055], AcceptError::Exhausted),
            (&[10038, 10022], AcceptError::Broken),
        ],
    );
    for table in [winsock::RECEIVE, winsock::SEND] {
        meaning(
            table,
            StreamError::Failed,
            &[
                (&[10035], StreamError::WouldBlock),
                (&[10004], StreamError::Interrupted),
                (&[10054, 10053, 10057, 10058], StreamError::Disconnected),
                (&[10052, 10060, 10065, 10051, 10050, 10055], StreamError::Failed),
                (&[10038, 10022, 10014], StreamError::Failed),
            ],
        );
    }
    meaning(
        winsock::RECEIVE_DATAGRAM,
        ReceiveDatagramError::Failed,
        &[
            (&[10035], ReceiveDatagramError::WouldBlock),
            (&[10004], ReceiveDatagramError::Interrupted),
            (&[10054, 10052, 10061, 10065, 10051, 10040], ReceiveDatagramError::OfOneDatagram),
            (&[10050, 10055, 10038, 10022, 10014], ReceiveDatagramError::Failed),
        ],
    );
    meaning(
        winsock::SEND_DATAGRAM,
        DatagramError::Unsendable,
        &[
            (&[10035], DatagramError::WouldBlock),
            (&[10004], DatagramError::Interrupted),
            (&[10045], DatagramError::GsoUnsupported),
            (&[10040], DatagramError::GsoTooLargeForPath),
            (&[10054, 10052, 10055, 10051, 10065], DatagramError::Unsendable),
            (&[10050, 10038, 10022, 10014], DatagramError::Unsendable),
        ],
    );
}

#[test]
fn every_errno_of_the_tables_has_its_name() {
    fn numbers<M>(table: &[(i32, M)]) -> impl Iterator<Item = i32> {
        table.iter().map(|row| row.0)
    }
    let all = numbers(ACCEPT).chain(numbers(RECEIVE)).chain(numbers(SEND));
    for errno in all.chain(numbers(RECEIVE_DATAGRAM)).chain(numbers(SEND_DATAGRAM)) {
        assert!(name(&io::Error::from_raw_os_error(errno)).is_some(), "errno {errno}");
    }
    assert_eq!(name(&io::Error::from_raw_os_error(libc::EMFILE)), Some("EMFILE"));
    assert_eq!(name(&io::Error::from_raw_os_error(UNKNOWN_ERRNO)), None);
}
