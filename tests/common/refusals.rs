//! Where the kernel reports that a UDP port is closed (ICMP, port unreachable).
//!
//! A firewall may drop these reports, and the kernel may have lost the socket that one of its
//! processors sends them from. A test that needs them goes to a processor where they arrive.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Keeps the thread, and the programs that it starts, on a processor where refused datagrams are
/// reported. Returns false, and says so, if there is none.
#[must_use]
pub(crate) fn stay_where_refusals_arrive() -> bool {
    let stays = find_processor();
    if !stays {
        eprintln!("skipped: the kernel does not report that a UDP port is closed");
    }
    stays
}

#[cfg(target_os = "linux")]
fn find_processor() -> bool {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let allowed = sched_getaffinity(None).unwrap();
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one).unwrap();
        if is_refusal_reported() {
            return true;
        }
    }
    sched_setaffinity(None, &allowed).unwrap();
    false
}

#[cfg(not(target_os = "linux"))]
fn find_processor() -> bool {
    is_refusal_reported()
}

fn is_refusal_reported() -> bool {
    // The sockets of other tests are at 127.0.0.1, so none of them gets the closed port; not every
    // system has a second loopback address.
    let last = if cfg!(target_os = "linux") { 2 } else { 1 };
    let bind = || UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
    let closed = bind().local_addr().unwrap();
    let socket = bind();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect(closed).unwrap();
    socket.send(b"?").unwrap();
    socket.recv(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
