//! A connection over wires that do as they are told.
//!
//! Most tests are scripts: the calls that one drive makes and the kernel's answers to them, as strace would show them. The
//! connection must make these calls, in this order, and no others; so "it does not read" is a script without a `recv`.
//! Where amounts or chance matter, the wire is a `Kernel` instead, which behaves as a TCP socket does.

mod transports;
mod harness;
mod protocols;

mod readiness;
mod sending;
mod errors;
mod backpressure;
mod closing;
mod pauses;
mod timers;
mod timeouts;
mod idle;
mod random;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::Outcome::{Blocked, Ended, Unfinished};
use super::*;
use crate::clock::Time;
use crate::echo::Echo;
use crate::limits::{
    HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LINGER_BYTES_MAX, LOW_WATERMARK_BYTES, Limits,
    OUTPUT_BYTES_MAX, READ_BYTES_MAX, SOURCE_BYTES_PER_TURN_MAX,
};
use crate::protocol::context::Context;
use crate::protocol::effects::*;
use crate::protocol::ident::*;
use crate::protocol::protocol::{Advance, Next, Protocol};

use self::harness::*;
use self::protocols::*;
use self::transports::*;
