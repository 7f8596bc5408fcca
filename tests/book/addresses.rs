//! Writes the addresses of a recording, and the calls that send or receive many datagrams at once.
//!
//! Ports differ from run to run, so they have names, in the order in which they appear.

/// The ports of a recording, that of the program first. The book calls them PORT, PORT1, PORT2.
#[derive(Default)]
pub(super) struct Ports(Vec<String>);

impl Ports {
    /// Writes an address: `{sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}`
    /// becomes `127.0.0.1:PORT`. For other text, returns `None`: a stream's calls have NULL there.
    pub(super) fn address(&mut self, text: &str) -> Option<String> {
        let (port, ip) = (between(text, "htons(", ")"), between(text, "inet_addr(\"", "\""));
        if ip.is_empty() {
            return None;
        }
        let known = self.0.iter().position(|known| known == port);
        let number = known.unwrap_or_else(|| {
            self.0.push(port.to_owned());
            self.0.len() - 1
        });
        let number = if number == 0 { String::new() } else { number.to_string() };
        Some(format!("{ip}:PORT{number}"))
    }

    /// Writes an argument that is an address, or nothing.
    pub(super) fn argument(&mut self, text: &str) -> String {
        self.address(text).map(|address| format!(", {address}")).unwrap_or_default()
    }

    /// Writes the messages of recvmmsg(2) or sendmmsg(2). All but the first are dots.
    pub(super) fn messages(&mut self, text: &str) -> String {
        let mut messages = text.split("{msg_hdr=").skip(1);
        let first = messages.next().map(|first| self.message(first)).unwrap_or_default();
        format!("[{first}{}]", if messages.next().is_some() { ", ..." } else { "" })
    }

    /// Writes a message: its first piece, its length, its address, and whether the kernel is to cut
    /// it into datagrams.
    fn message(&mut self, text: &str) -> String {
        let data = between(text, "iov_base=", ", iov_len=");
        let is_gathered = between(text, "msg_iov=[", "]").matches("iov_base=").count() > 1;
        let more = if is_gathered && !data.ends_with("...") { "..." } else { "" };
        let length = between(text, "}, msg_len=", "}");
        let address = self.argument(between(text, "msg_name=", "msg_namelen="));
        let is_cut = between(text, "msg_control=[", "]").contains("SOL_UDP");
        format!("{{{data}{more}, {length}{address}{}}}", if is_cut { ", UDP_SEGMENT" } else { "" })
    }
}

/// Returns what stands between two parts of `text`, or nothing.
pub(super) fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let from = text.split_once(start).map_or("", |(_, from)| from);
    from.split_once(end).map_or("", |(inside, _)| inside)
}

#[test]
fn ports_are_counted_and_that_of_the_program_is_the_first() {
    let mut ports = Ports::default();
    let mut write = |port: u16, ip: &str| {
        ports.address(&format!("{{sin_port=htons({port}), sin_addr=inet_addr(\"{ip}\")}}"))
    };
    let written =
        [(9, "127.0.0.1"), (8, "127.0.0.2"), (9, "127.0.0.3")].map(|(p, ip)| write(p, ip));
    let expected = ["127.0.0.1:PORT", "127.0.0.2:PORT1", "127.0.0.3:PORT"];
    assert_eq!(written.map(Option::unwrap), expected);
    assert_eq!(ports.address("NULL"), None);
}

#[test]
fn messages_are_written_as_the_first_of_them() {
    let mut ports = Ports::default();
    let name = "msg_name={p=htons(8), a=inet_addr(\"127.0.0.2\")}, msg_namelen=28 => 16";
    let received = format!(
        "[{{msg_hdr={{{name}, msg_iov=[{{iov_base=\"ab\", iov_len=9}}]}}, msg_len=2}}, \
         {{msg_hdr={{{name}}}, msg_len=0}}]"
    );
    assert_eq!(ports.messages(&received), "[{\"ab\", 2, 127.0.0.2:PORT}, ...]");
    let sent = format!(
        "[{{msg_hdr={{{name}, msg_iov=[{{iov_base=\"e\", iov_len=1}}, {{iov_base=\"ab\", \
         iov_len=2}}], msg_control=[{{cmsg_len=18, cmsg_level=SOL_UDP}}]}}, msg_len=6}}]"
    );
    assert_eq!(ports.messages(&sent), "[{\"e\"..., 6, 127.0.0.2:PORT, UDP_SEGMENT}]");
}
