//! Streams.

use super::*;

/// Fails if `story` does not come to its end.
#[track_caller]
fn check_ends(story: impl FnOnce() + Send + 'static) {
    let (tell_end, end) = mpsc::channel();
    thread::spawn(move || {
        story();
        tell_end.send(()).unwrap();
    });
    end.recv_timeout(2 * PATIENCE).expect("it comes to its end");
}

/// Answers `x` with a page of zeros, and pauses once on `p`, without a word, until its alarm rings. `eats`: then, or only
/// when it has rung, is the `p` consumed.
struct Naps {
    eats: bool,
    rung: Rc<Cell<usize>>,
}

impl Naps {
    const PAGE: usize = 4096;
}

impl Protocol for Naps {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        match input[0] {
            b'x' => cx.send(&[0; Naps::PAGE]),
            _ if self.rung.get() > 0 => {}
            _ => {
                cx.set_timer(Duration::from_millis(50));
                return Advance::consumed(usize::from(self.eats)).then(Next::Pause);
            }
        }
        Advance::consumed(1)
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        if self.eats { Next::Pause } else { Next::Continue }
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.rung.set(self.rung.get() + 1);
        Next::Continue
    }
}

#[test]
fn a_pause_behind_a_little_output_waits() {
    // With less than the low mark waiting, a pause counted as drained at once, and the drive went round for ever.
    for eats in [true, false] {
        check_ends(move || {
            let rung = Rc::new(Cell::new(0));
            let told = Rc::clone(&rung);
            let (mut reactor, address) =
                serve(Limits::default(), move |_| Naps { eats, rung: Rc::clone(&told) });
            let mut peer = connect_narrow(address);
            let (mut asked, mut said) = (0, 0);
            while reactor.stats().bytes_out == said {
                peer.write_all(b"x").unwrap();
                asked += 1;
                said += Naps::PAGE as u64;
                turn_until(&mut reactor, "it is heard", |stats| stats.bytes_in == asked);
            }
            peer.write_all(b"p").unwrap();
            turn_until(&mut reactor, "the alarm", |_| rung.get() == 1);
            let reader = thread::spawn(move || {
                let mut pages = vec![0; usize::try_from(said).unwrap()];
                peer.read_exact(&mut pages).unwrap();
            });
            turn_until(&mut reactor, "the rest", |stats| stats.bytes_out == said);
            reader.join().unwrap();
        });
    }
}

/// Says a lot as soon as it is met, and tells how it ends.
struct Says(Rc<RefCell<Vec<CloseReason>>>);

impl Says {
    const BYTES: usize = 4_000_000;
}

impl Protocol for Says {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(&[0; Says::BYTES]);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn closed(&mut self, why: CloseReason) {
        self.0.borrow_mut().push(why);
    }
}

#[test]
fn a_connection_that_was_slow_is_idle_in_time_afterwards() {
    // The deadline filed while output waited (a minute) was kept when a nearer one (a tenth of a second) came to hold.
    let limits = Limits { idle_timeout_ms: 100, write_timeout_ms: 60_000, ..Limits::default() };
    let endings = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&endings);
    let (mut reactor, address) = serve(limits, move |_| Says(Rc::clone(&told)));
    let mut peer = connect_narrow(address);
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    assert!(reactor.stats().bytes_out < Says::BYTES as u64, "the kernel does not hold all of it");
    let reader = thread::spawn(move || {
        peer.read_exact(&mut vec![0; Says::BYTES]).unwrap();
        peer
    });
    turn_until(&mut reactor, "all is sent", |stats| stats.bytes_out == Says::BYTES as u64);
    turn_until(&mut reactor, "it is idle", |stats| stats.connections == 0);
    assert_eq!(*endings.borrow(), [CloseReason::IdleTimeout]);
    check_end(reader.join().unwrap(), b"");
}

#[test]
fn a_stuck_connection_that_would_be_idle_by_now_does_not_make_the_loop_spin() {
    // While output waits, the longer time counts. But the loop was to look when the shorter one was over, and from then on
    // looked again and again, without a pause, until the longer one was over too.
    let limits = Limits { idle_timeout_ms: 50, write_timeout_ms: 60_000, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| Says(Rc::default()));
    let _peer = connect_narrow(address); // it reads nothing
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    be_late(Duration::from_millis(60));
    let begin = Instant::now();
    for _ in 0..10 {
        reactor.turn(Some(A_MOMENT)).unwrap();
    }
    assert_eq!(reactor.stats().connections, 1);
    assert!(begin.elapsed() >= 5 * A_MOMENT, "ten turns in {:?}", begin.elapsed());
}

#[test]
#[cfg(target_os = "linux")]
fn a_late_loop_does_not_end_who_has_spoken_in_time() {
    // With more than 1,024 events waiting, a late loop ended clients as idle whose request it had not yet heard of.
    const COUNT: usize = 1_200;
    if !may_open(3 * COUNT) {
        return;
    }
    let limits = Limits { idle_timeout_ms: 1_500, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let mut peers = Vec::new();
    for _ in 0..COUNT {
        peers.push(connect(address));
        if peers.len() % 50 == 0 {
            turn_until(&mut reactor, "they are accepted", |stats| {
                stats.accepted == peers.len() as u64
            });
        }
    }
    assert_eq!(reactor.stats().connections, COUNT);
    // The first to come are the last to speak, so that they are those whom the kernel tells of last.
    for peer in peers.iter_mut().rev() {
        peer.write_all(b"x").unwrap();
    }
    be_late(Duration::from_millis(1_600));
    turn_until(&mut reactor, "all are answered", |stats| {
        stats.bytes_out + stats.closed >= COUNT as u64
    });
    assert_eq!(reactor.stats().closed, 0);
    for peer in &mut peers {
        peer.read_exact(&mut [0; 1]).unwrap();
    }
}
