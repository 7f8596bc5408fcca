//! Overloads: when one begins, and when it is over.

use super::*;
use crate::echo::Echo;
use crate::testing::simulated::{Installed, kernel::Kernel};

fn listener() -> Listener {
    let options = ListenOptions::default();
    let socket = sys::listen(([127, 0, 0, 1], 2000).into(), &options).unwrap();
    let accepted =
        AcceptedOptions { keepalive: false, had_before_listen: true, is_deferred: false };
    Listener::new(
        Socket::Tcp(socket, accepted),
        "127.0.0.1:2000".to_owned(),
        ListenerIndex::REACTOR,
        &options,
        Box::new(|_| Box::new(Echo::new())),
    )
}

// pitfall: 70
#[test]
fn overload_ends_only_after_a_while_without_a_pause() {
    // Pause, recovery, and a second pause before ACCEPT_RECOVERY_MS are over: one overload with
    // two pauses. Then the recovery counts from the first time that the backlog was empty, not
    // from later ones.
    let _kernel = Installed::new(Kernel::new(1));
    let mut stats = Stats::default();
    let at = |ms| Time::at(std::time::Duration::from_millis(ms));
    let mut listener = listener();
    assert_eq!(listener.deadline(), Time::NEVER);
    listener.pause(&"no room", at(0), &mut stats);
    assert!(listener.is_paused());
    assert_eq!(listener.deadline(), at(ACCEPT_RETRY_MS));
    listener.recover(at(100));
    assert_eq!((listener.is_paused(), listener.deadline()), (false, at(100 + ACCEPT_RECOVERY_MS)));
    listener.pause(&"no room", at(900), &mut stats);
    let retried = listener.expire(at(100 + ACCEPT_RECOVERY_MS));
    assert_eq!(retried, Outcome::Unfinished, "the retry is due: accept again");
    assert_eq!(stats.accept_pauses, 2);

    listener.recover(at(2000));
    listener.recover(at(2500));
    assert_eq!(listener.expire(at(2000 + ACCEPT_RECOVERY_MS - 1)), Outcome::Blocked);
    assert!(
        matches!(
            &listener.accept_state,
            AcceptState::Recovering(overload, _) if overload.pauses == 2
        ),
        "one millisecond early"
    );
    assert_eq!(listener.expire(at(2000 + ACCEPT_RECOVERY_MS)), Outcome::Blocked);
    assert!(matches!(listener.accept_state, AcceptState::Accepting), "the overload is over");
    assert_eq!(listener.deadline(), Time::NEVER);
}
