//! Panics of what an application has handed in: protocols, factories, tasks, readers.
//!
//! A panic is caught, and so is a second one that follows from it. `catch_unwind` alone is not
//! enough: the payload of a panic may panic when it is dropped, and a value that is dropped while
//! its frame unwinds ends the process if it panics.
//!
//! Invariant: no panic leaves a function of this file, unless the caller could go on unwinding.

use std::any::Any;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use log::error;

use crate::stats::Stats;

/// A panic that was caught. Its payload is dropped.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls `call`, and catches a panic in it.
///
/// The caller sees to it that nothing of its own is half changed while `call` runs.
pub(crate) fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        drop_payload(payload);
        Panicked
    })
}

/// Drops the payload of a panic. If that panics, too, the second payload is leaked.
#[cold]
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}

/// Drops something of the application, and catches, counts and logs a panic in that.
pub(crate) fn catch_drop<T>(stats: &mut Stats, value: T) {
    if catch(|| drop(value)).is_err() {
        stats.panics += 1;
        log_panic_in_drop();
    }
}

#[cold]
pub(crate) fn log_panic_in_drop() {
    error!("panic in drop of a protocol, a factory, a task or a message");
}

/// A value of the application in a frame or a type that may unwind. If it panics when it is dropped
/// by that, the panic is caught: it would end the process. Otherwise its panic is an ordinary one.
pub(crate) struct CaughtDrop<T>(Option<T>);

impl<T> CaughtDrop<T> {
    pub(crate) fn new(value: T) -> CaughtDrop<T> {
        CaughtDrop(Some(value))
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect("only this and `drop` take the value")
    }
}

impl<T> Deref for CaughtDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only `into_inner` and `drop` take the value")
    }
}

impl<T> DerefMut for CaughtDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only `into_inner` and `drop` take the value")
    }
}

impl<T> Drop for CaughtDrop<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        if !thread::panicking() {
            drop(value);
        } else if catch(|| drop(value)).is_err() {
            error!("panic in drop after another panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    // pitfall: 142
    #[test]
    fn payload_that_panics_in_drop_is_caught() {
        assert!(catch(|| std::panic::panic_any(Bomb)).is_err());
    }

    // pitfall: 142
    #[test]
    fn second_panic_while_unwinding_is_caught() {
        assert!(catch(|| CaughtDrop::new(Bomb)).map(drop_twice).is_ok());
    }

    /// Panics, and drops `bomb` while it unwinds.
    fn drop_twice(bomb: CaughtDrop<Bomb>) {
        let result = catch(move || {
            let _bomb = bomb;
            panic!("on purpose");
        });
        assert!(result.is_err());
    }
}
