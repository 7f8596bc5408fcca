//! The selectors that rearm only on `WouldBlock`, as mio has them without epoll and kqueue.
//!
//! ```text
//!     armed ──what is ready──► event, no longer armed ──a call returns WouldBlock──► armed again
//!       ▲                                                                               │
//!       └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! They look at the state of each socket in every poll, and report what is armed and set. An
//! interest that was reported is withdrawn. It is armed again by a registration, and by a call that
//! returns `WouldBlock`, if it is a call that mio sees.

use std::io::{self, ErrorKind};

use super::{Descriptor, File, Kernel};
use crate::testing::simulated::Event;
use crate::testing::simulated::stream::{ERROR, HANG_UP, IN};

/// Which of mio's selectors the simulated one behaves as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// Each edge is reported once (`epoll`).
    Epoll,
    /// Those of Windows and of event ports.
    Rearming,
    /// That of poll(2). It also forgets a descriptor whose error or hang-up it has reported: only a
    /// new registration brings further events.
    Poll,
}

impl Kernel {
    /// Takes the events for one poll: the wakers that were woken, then what is armed and set.
    pub(super) fn collect_armed_events(&mut self, capacity: usize) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, bits) in std::mem::take(&mut self.spurious_events) {
            events.extend(self.report(number, bits));
        }
        for number in std::mem::take(&mut self.ready_list) {
            let Some(Descriptor { file, registration: Some(registration) }) =
                &mut self.descriptors[number]
            else {
                continue;
            };
            registration.is_in_ready_list = false;
            if matches!(file, File::Waker) {
                events.push(Event { token: registration.token, bits: IN });
            }
        }
        let count = self.descriptors.len();
        // In turn, so that each descriptor is reported in time even if few fit into a poll.
        let first = self.first_looked_at;
        for number in (0..count).map(|number| (first + number) % count) {
            if events.len() >= capacity.min(self.faults.events_per_poll_max) {
                break;
            }
            self.first_looked_at = number + 1;
            if self.descriptors[number].is_some() && !matches!(self.file(number), File::Waker) {
                let bits = self.event_bits(number);
                events.extend(self.report(number, bits));
            }
        }
        events
    }

    /// Loses the wakes that no poll has reported yet, as mio's poll(2) selector may.
    #[cfg(feature = "http")]
    pub(crate) fn lose_wakes(&mut self) {
        for number in std::mem::take(&mut self.ready_list) {
            if let Some(Descriptor { registration: Some(registration), .. }) =
                &mut self.descriptors[number]
            {
                registration.is_in_ready_list = false;
            }
        }
    }

    /// Reports `bits` of `number`, as far as they are armed, and withdraws them.
    fn report(&mut self, number: usize, bits: u32) -> Option<Event> {
        let forgets = self.selector == Selector::Poll;
        let registration = self.descriptors[number].as_mut()?.registration.as_mut()?;
        let bits = bits & registration.armed;
        if bits == 0 {
            return None;
        }
        registration.armed &= !bits;
        if forgets && bits & (ERROR | HANG_UP) != 0 {
            (registration.armed, registration.is_forgotten) = (0, true);
        }
        Some(Event { token: registration.token, bits })
    }

    /// A call that mio sees has returned `WouldBlock`: arms all interests of `number` again.
    pub(crate) fn rearm(&mut self, number: usize) -> io::Result<()> {
        let Some(Descriptor { registration: Some(registration), .. }) =
            &mut self.descriptors[number]
        else {
            return Ok(());
        };
        if registration.is_forgotten {
            return Err(ErrorKind::NotFound.into());
        }
        registration.armed = registration.bits;
        Ok(())
    }
}
