//! Replies that reached this machine and were dropped by its kernel: our receive buffer was full.
//!
//! Linux counts them for each socket, in the last column of `/proc/net/udp` and `/proc/net/udp6`
//! (proc_net(5)). A row belongs to one of our sockets if it has its inode.
//!
//! It is read once, after the load. Elsewhere there is no such file, and nothing is reported.

use std::collections::HashSet;
use std::fs;
use std::io;

/// Returns how many datagrams the kernel has dropped at this process's UDP sockets, which must
/// still be open. `None`: this system does not say.
pub(super) fn receive_drops() -> Option<u64> {
    let inodes = socket_inodes().ok()?;
    // Without IPv6 there is only the first file.
    let tables: Vec<String> = ["/proc/self/net/udp", "/proc/self/net/udp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    if tables.is_empty() {
        return None;
    }
    Some(tables.iter().map(|table| drops_in(table, &inodes)).sum())
}

/// Returns the inode of each socket that this process has open (proc_pid_fd(5)).
fn socket_inodes() -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        // The descriptor with which the directory is read is closed by now or soon.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let inode =
            target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(inodes)
}

/// Adds up the last column of the rows that have one of these inodes. The first row has the names
/// of the columns.
fn drops_in(table: &str, inodes: &HashSet<u64>) -> u64 {
    const INODE_COLUMN: usize = 9;
    let drops_of = |row: &str| {
        let columns: Vec<&str> = row.split_ascii_whitespace().collect();
        let inode = columns.get(INODE_COLUMN)?.parse().ok()?;
        if inodes.contains(&inode) { columns.last()?.parse::<u64>().ok() } else { None }
    };
    table.lines().skip(1).filter_map(drops_of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_our_sockets_are_added_and_those_of_others_are_not() {
        let row = |inode: u64, drops: u64| {
            format!(
                "13042: 0100007F:9C40 0100007F:07D0 01 00000000:00000000 00:00000000 00000000 \
                 0        0 {inode} 2 0000000000000000 {drops}\n"
            )
        };
        let names = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt \
                     uid  timeout inode ref pointer drops\n";
        let table = [names.to_owned(), row(1001, 70), row(1002, 5), row(1003, 9)].concat();
        assert_eq!(drops_in(&table, &HashSet::from([1001, 1003])), 79);
        assert_eq!(drops_in("", &HashSet::from([1001])), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn open_socket_has_an_inode_with_a_row() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!socket_inodes().unwrap().is_empty());
        assert!(receive_drops().is_some(), "{socket:?}");
    }
}
