//! A key-value store for redis-cli and redis-benchmark: GET, SET, DEL and PING, pipelined.
//!
//! ```text
//! cargo run --release --example kv 127.0.0.1:6379
//! redis-cli set greeting "Hello world"
//! ```
//!
//! It shows a protocol with messages. Each message is parsed from the front of the input, answered
//! and consumed; the reactor sends the replies to pipelined messages together. What the connections
//! share is a plain `Rc<RefCell<..>>`, because there is one thread.
//!
//! The format is RESP: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n` is an array of two strings, each with its
//! length in bytes before it. A line that does not begin with `*` is an inline command, for people
//! who type: its arguments are separated by spaces.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use mio_reactor::limits::INPUT_BYTES_MAX;
use mio_reactor::{Advance, Context, Limits, Next, Protocol, Reactor};

/// The most arguments of a command, with its name. More are a protocol error, and the connection
/// closes.
const ARGUMENTS_MAX: usize = 16;
/// The longest argument, in bytes. A longer one is a protocol error, as is a whole command of more
/// than `INPUT_BYTES_MAX`.
const ARGUMENT_BYTES_MAX: usize = 32 * 1024;
/// The longest line with its end, in bytes: a length, or an inline command. A longer one is a
/// protocol error. It is short because a line is searched for its end from the beginning each time
/// more of it arrives.
const LINE_BYTES_MAX: usize = 1024;
/// The most bytes that all keys and values take, with `ENTRY_BYTES` for each pair. SET fails beyond
/// it. Fragmentation comes on top: half as much again where values of other sizes replace old ones.
/// A growing table is moved at once, and all connections wait meanwhile: a second or two at three
/// million keys.
const STORE_BYTES_MAX: usize = 1 << 30;
/// What an entry takes beside its own bytes: two allocations, and four buckets of the table, which
/// is as many as the table may have for each key.
const ENTRY_BYTES: usize = 288;

struct Store {
    values: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

pub(crate) struct Client {
    store: Rc<RefCell<Store>>,
}

impl Protocol for Client {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let mut arguments = [&b""[..]; ARGUMENTS_MAX];
        match parse(input, &mut arguments) {
            Ok(None) if input.len() < INPUT_BYTES_MAX => Advance::need_more(),
            Ok(Some((count, length))) => {
                let next = execute(&arguments[..count], &mut self.store.borrow_mut(), cx);
                Advance::consumed(length).then(next)
            }
            // Where the next command begins is unknown, so the connection closes.
            failed @ (Ok(None) | Err(_)) => {
                let why = failed.err().unwrap_or("too big a command");
                cx.send(format!("-ERR Protocol error: {why}\r\n").as_bytes());
                Advance::consumed(input.len()).then(Next::Close)
            }
        }
    }
}

fn execute(command: &[&[u8]], store: &mut Store, cx: &mut Context<'_>) -> Next {
    let [name, arguments @ ..] = command else { return Next::Continue }; // an empty line
    match (name.to_ascii_uppercase().as_slice(), arguments) {
        (b"GET", [key]) => send_bulk(store.values.get(*key).map(Vec::as_slice), cx),
        (b"SET", [key, value]) => match store.set(key, value) {
            true => cx.send(b"+OK\r\n"),
            false => cx.send(b"-OOM the store is full\r\n"),
        },
        (b"DEL", [_, ..]) => {
            let deleted = arguments.iter().filter(|key| store.delete(key)).count();
            cx.send(format!(":{deleted}\r\n").as_bytes());
        }
        (b"PING", []) => cx.send(b"+PONG\r\n"),
        (b"PING", [message]) => send_bulk(Some(message), cx),
        // redis-cli and redis-benchmark send these first. An empty array is enough for them.
        (b"COMMAND" | b"CONFIG", _) => cx.send(b"*0\r\n"),
        (b"QUIT", []) => {
            cx.send(b"+OK\r\n");
            return Next::Close;
        }
        (b"GET" | b"SET" | b"DEL" | b"PING" | b"QUIT", _) => {
            cx.send(b"-ERR wrong number of arguments\r\n");
        }
        _ => cx.send(b"-ERR unknown command\r\n"),
    }
    Next::Continue
}

/// Sends a bulk string: its length and its bytes. `None` is the null string (length -1).
fn send_bulk(value: Option<&[u8]>, cx: &mut Context<'_>) {
    let Some(value) = value else { return cx.send(b"$-1\r\n") };
    let mut head = io::Cursor::new([0; 24]);
    write!(head, "${}\r\n", value.len()).expect("a length has at most 20 digits");
    let end = usize::try_from(head.position()).expect("it is at most 24");
    cx.send(&head.get_ref()[..end]);
    cx.send(value);
    cx.send(b"\r\n");
}

impl Store {
    fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        let freed = self.values.get(key).map_or(0, |old| cost(key, old));
        let bytes = self.bytes - freed + cost(key, value);
        if bytes > self.bytes_max {
            return false;
        }
        self.bytes = bytes;
        match self.values.get_mut(key) {
            Some(old) => *old = value.to_vec(),
            None => drop(self.values.insert(key.to_vec(), value.to_vec())),
        }
        true
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(value) = self.values.remove(key) else { return false };
        self.bytes -= cost(key, &value);
        // A table that was large would keep buckets that `cost` does not count.
        if self.values.len() < self.values.capacity() / 4 {
            self.values.shrink_to(2 * self.values.len());
        }
        true
    }
}

/// Returns how many bytes an entry counts as.
fn cost(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

/// A parsed value, `None` if the input has not all of it yet, or a message about what is wrong.
type Parsed<T> = Result<Option<T>, &'static str>;

/// Parses the command at the front of `input` into `arguments`. Returns how many there are, and the
/// length of the command in bytes.
fn parse<'i>(input: &'i [u8], arguments: &mut [&'i [u8]; ARGUMENTS_MAX]) -> Parsed<(usize, usize)> {
    let Some((line, mut rest)) = split_line(input)? else { return Ok(None) };
    let [b'*', count @ ..] = line else {
        let mut count = 0;
        for argument in line.split(|&byte| byte == b' ').filter(|part| !part.is_empty()) {
            *arguments.get_mut(count).ok_or("too many arguments")? = argument;
            count += 1;
        }
        return Ok(Some((count, input.len() - rest.len())));
    };
    let count = number(count, ARGUMENTS_MAX).ok_or("invalid multibulk length")?;
    for argument in &mut arguments[..count] {
        let Some((line, behind)) = split_line(rest)? else { return Ok(None) };
        let length = line.strip_prefix(b"$").ok_or("expected '$'")?;
        let length = number(length, ARGUMENT_BYTES_MAX).ok_or("invalid bulk length")?;
        match behind.get(length..length + 2) {
            None => return Ok(None),
            Some(b"\r\n") => (*argument, rest) = (&behind[..length], &behind[length + 2..]),
            Some(_) => return Err("a string is longer than its length"),
        }
    }
    Ok(Some((count, input.len() - rest.len())))
}

/// Splits `input` after its first line. Returns the line without its end, and the rest.
fn split_line(input: &[u8]) -> Parsed<(&[u8], &[u8])> {
    match input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') {
        None if input.len() >= LINE_BYTES_MAX => Err("too big inline request"),
        None => Ok(None),
        Some(end) => {
            Ok(Some((input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), &input[end + 1..])))
        }
    }
}

/// Parses a decimal number that is at most `most`.
fn number(digits: &[u8], most: usize) -> Option<usize> {
    let is_plain = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok().filter(|&number| number <= most)
}

/// Makes an empty store, which grows to at most `bytes_max` bytes. Returns what makes the protocol
/// of each connection.
pub(crate) fn store(bytes_max: usize) -> impl FnMut(SocketAddr) -> Client {
    let store = Rc::new(RefCell::new(Store { values: HashMap::new(), bytes: 0, bytes_max }));
    move |_peer| Client { store: Rc::clone(&store) }
}

/// Serves an empty store on `address`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    bytes_max: usize,
) -> io::Result<SocketAddr> {
    reactor.listen(address, store(bytes_max))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6379".to_string());
    let address =
        address.parse().map_err(|_| io::Error::other(format!("{address}: not an IP:PORT")))?;
    let mut reactor = Reactor::new(Limits::default())?;
    writeln!(io::stdout(), "kv {}", listen(&mut reactor, address, STORE_BYTES_MAX)?)?;
    reactor.run()?;
    Ok(())
}
