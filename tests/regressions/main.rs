//! What has gone wrong once: a test for each bug, with its story in its first lines.
//!
//! A bug that made the loop hang is met in a thread of its own, so that the test fails rather than hang with it.

// The helpers here unwrap as the tests do, and a test that cannot be made here says so.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

#[path = "../common/mod.rs"]
mod common;
mod datagrams;
mod protocols;
mod stop;
mod streams;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_MOMENT, PATIENCE, any_port, assert_same, be_late, check_end, connect, connect_narrow,
    connect_udp, may_open, pattern, serve, turn_until,
};
use mio_reactor::{
    Advance, CloseReason, Context, Datagram, DatagramProtocol, Echo, Http, Limits, Next, Protocol,
    Reactor, Replies, Stopped, TestConnection,
};

use site::Site;
