//! A connection over scripted transports, call by call.
//!
//! Most tests are scripts: the system calls that one drive makes and the results of the kernel, as
//! strace(1) shows them. The connection must make these calls, in this order, and no others. So "it
//! does not read" is a script without a `recv`. Where amounts or chance matter, the transport is a
//! `ModelSocket` instead, which behaves as a TCP socket does.

mod transports; // a script of system calls, a model of a TCP socket
mod protocols; // a protocol that does what its input says
mod harness; // a connection under its driver, checked after each drive

mod readiness;
mod sending;
mod errors;
mod backpressure;
mod pauses;
mod closing;
mod timers;
mod timeouts;
mod idle;
mod random;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::Outcome::{Blocked, Ended, Unfinished};
use super::*;
use crate::echo::Echo;
use crate::limits::{
    HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LINGER_BLOCK_BYTES, LINGER_BLOCKS_MAX,
    LOW_WATERMARK_BYTES, Limits, OUTPUT_BYTES_MAX, READ_BYTES_MAX, STEP_COST_BYTES,
    STREAM_BYTES_PER_TURN_MAX,
};
use crate::protocol::context::Context;
use crate::protocol::ident::*;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::testing::driver::Driver;
use crate::time::Time;

use self::harness::*;
use self::protocols::*;
use self::transports::*;
