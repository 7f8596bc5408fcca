//! One line of a recording, read: the name of a call, its arguments, its result.

use super::trace::split;

/// A call of a recording, and what its page says about it.
pub(super) struct Line {
    pub(super) call: String,
    pub(super) says: String,
}

/// One line of a recording, read.
pub(super) struct Call<'l> {
    pub(super) line: &'l Line,
    pub(super) name: &'l str,
    pub(super) arguments: Vec<&'l str>,
    pub(super) result: &'l str,
    is_repeated: bool,
}

impl<'l> Call<'l> {
    pub(super) fn parse(line: &'l Line) -> Call<'l> {
        let is_repeated = line.call.ends_with('…');
        let text = line.call.trim_end_matches(" …");
        let (call, result) = text.rsplit_once(" = ").unwrap_or((text, ""));
        let (name, arguments) = call.split_once('(').unwrap_or((call, ""));
        // The name of a thread may precede it.
        let name = name.rsplit(' ').next().unwrap_or(name);
        let arguments = split(arguments.strip_suffix(')').unwrap_or(arguments));
        Call { line, name, arguments, result, is_repeated }
    }

    pub(super) fn number(&self, at: usize) -> Option<i64> {
        self.arguments.get(at)?.parse().ok()
    }

    /// The descriptor that the call is about.
    pub(super) fn descriptor(&self) -> Option<i64> {
        match self.name {
            "epoll_ctl" => self.number(2),
            "socket" | "epoll_create1" => None,
            _ => self.number(0),
        }
    }

    /// The events of a wait, or the one that epoll_ctl asks for.
    pub(super) fn pairs(&self) -> Vec<(i64, String)> {
        let groups = self.arguments.iter().flat_map(|argument| argument.split('{').skip(1));
        let inside = groups.filter_map(|group| group.split('}').next()?.split_once(", "));
        inside.filter_map(|(flags, token)| Some((token.parse().ok()?, flags.to_owned()))).collect()
    }

    /// The limit of a wait: `-1`, `0` or `TIMEOUT`.
    pub(super) fn limit(&self) -> &'l str {
        self.arguments.last().copied().unwrap_or_default()
    }

    pub(super) fn amount(&self, count: &str) -> String {
        format!("{count} bytes{}", if self.is_repeated { " …" } else { "" })
    }

    pub(super) fn is_receive(&self) -> bool {
        ["recvfrom", "read", "recvmsg"].contains(&self.name)
    }

    pub(super) fn is_send(&self) -> bool {
        ["sendto", "write", "writev", "sendmsg"].contains(&self.name)
    }

    /// Returns whether it has failed to accept a connection for want of a descriptor or memory.
    pub(super) fn finds_no_room(&self) -> bool {
        let error = self.result.split(' ').nth(1).unwrap_or_default();
        self.is_accept() && ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"].contains(&error)
    }

    pub(super) fn is_accept(&self) -> bool {
        ["accept", "accept4"].contains(&self.name)
    }

    /// Returns whether it is a wait that ends because its time is over.
    pub(super) fn is_wait_until_due(&self) -> bool {
        self.is_wait() && self.limit() == "TIMEOUT" && self.result == "0"
    }

    /// Returns whether the call names the peer of one datagram.
    pub(super) fn has_address(&self) -> bool {
        ["recvfrom", "sendto"].contains(&self.name) && self.arguments.len() == 4
    }

    pub(super) fn is_add(&self) -> bool {
        self.name == "epoll_ctl" && self.arguments.get(1) == Some(&"EPOLL_CTL_ADD")
    }

    /// Returns whether the result is a descriptor.
    pub(super) fn makes_descriptor(&self) -> bool {
        ["socket", "epoll_create1", "accept", "accept4"].contains(&self.name)
    }

    pub(super) fn is_wait(&self) -> bool {
        self.name == "epoll_wait"
    }
}
