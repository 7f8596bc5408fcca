//! A key-value store that redis-cli and redis-benchmark can talk to: GET, SET, DEL and PING, pipelined.
//!
//! ```text
//! cargo run --release --example kv 127.0.0.1:6379
//! redis-cli set greeting "Hello world"
//! ```
//!
//! A protocol with messages: each is parsed from the front of what has arrived, answered, and consumed. Replies to all that has
//! arrived leave together, without anything being done for it here. What connections share is a plain `Rc<RefCell<..>>`, for
//! there is one thread.
//!
//! RESP, the format: `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n` is an array of two strings, each behind its length in bytes. A line
//! without `*` in front is a command whose words are separated by spaces, for people who type.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use mio_reactor::limits::INPUT_BYTES_MAX;
use mio_reactor::{Advance, Context, Limits, Next, Protocol, Reactor};

/// The most words in a command. More: an error, and the connection closes.
const WORDS_MAX: usize = 16;
/// The longest word, in bytes. Longer: the same, and for a whole command that has more than `INPUT_BYTES_MAX`.
const WORD_BYTES_MAX: usize = 32 * 1024;
/// The longest line, with its end, in bytes: a length, or a command that somebody types. Longer: the same. Few, for a line is
/// looked through from its beginning whenever more of it comes.
const LINE_BYTES_MAX: usize = 1024;
/// The most bytes that keys and values may take together, with `ENTRY_BYTES` for each two. Beyond, SET is refused. (What the
/// allocator holds in small pieces comes on top: half as much again where values of other sizes take the places of old ones.
/// And a table that grows is moved at once, and everybody waits for it: at three million keys for a second or two.)
const STORE_BYTES_MAX: usize = 1 << 30;
/// What it takes to keep a key and its value beside their own bytes: two allocations, and four places in the table, of which it
/// may have so many for each key.
const ENTRY_BYTES: usize = 288;

struct Store {
    values: HashMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

struct Client {
    store: Rc<RefCell<Store>>,
}

impl Protocol for Client {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let mut words = [&b""[..]; WORDS_MAX];
        match parse(input, &mut words) {
            Ok(None) if input.len() < INPUT_BYTES_MAX => Advance::need_more(),
            Ok(Some((count, length))) => {
                let next = answer(&words[..count], &mut self.store.borrow_mut(), cx);
                Advance::consumed(length).then(next)
            }
            // Where the next command begins cannot be known.
            wrong @ (Ok(None) | Err(_)) => {
                let why = wrong.err().unwrap_or("too big a command");
                cx.send(format!("-ERR Protocol error: {why}\r\n").as_bytes());
                Advance::consumed(input.len()).then(Next::Close)
            }
        }
    }
}

fn answer(words: &[&[u8]], store: &mut Store, cx: &mut Context<'_>) -> Next {
    let [name, arguments @ ..] = words else { return Next::Continue }; // an empty line
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
        // What redis-cli and redis-benchmark ask first. There is nothing to tell.
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

/// A string behind its length, or the one string that is none.
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
        // A table that has been large would keep places that nobody is charged for.
        if self.values.len() < self.values.capacity() / 4 {
            self.values.shrink_to(2 * self.values.len());
        }
        true
    }
}

/// How many bytes it takes to keep the two.
fn cost(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

/// What is there, nothing yet, or what is wrong.
type Parsed<T> = Result<Option<T>, &'static str>;

/// The words of the command at the front of `input`: how many there are, and how many bytes it has. `None`: it is not there yet.
fn parse<'i>(input: &'i [u8], words: &mut [&'i [u8]; WORDS_MAX]) -> Parsed<(usize, usize)> {
    let Some((line, mut rest)) = split_line(input)? else { return Ok(None) };
    let [b'*', count @ ..] = line else {
        let mut count = 0;
        for word in line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
            *words.get_mut(count).ok_or("too many words")? = word;
            count += 1;
        }
        return Ok(Some((count, input.len() - rest.len())));
    };
    let count = number(count, WORDS_MAX).ok_or("invalid multibulk length")?;
    for word in &mut words[..count] {
        let Some((line, behind)) = split_line(rest)? else { return Ok(None) };
        let length = line.strip_prefix(b"$").ok_or("expected '$'")?;
        let length = number(length, WORD_BYTES_MAX).ok_or("invalid bulk length")?;
        match behind.get(length..length + 2) {
            None => return Ok(None),
            Some(b"\r\n") => (*word, rest) = (&behind[..length], &behind[length + 2..]),
            Some(_) => return Err("a string is longer than it says"),
        }
    }
    Ok(Some((count, input.len() - rest.len())))
}

/// The line that `input` begins with, and what is behind it.
fn split_line(input: &[u8]) -> Parsed<(&[u8], &[u8])> {
    match input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') {
        None if input.len() >= LINE_BYTES_MAX => Err("too big inline request"),
        None => Ok(None),
        Some(end) => {
            Ok(Some((input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]), &input[end + 1..])))
        }
    }
}

/// Digits that make no more than `most`.
fn number(digits: &[u8], most: usize) -> Option<usize> {
    let is_plain = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok().filter(|&number| number <= most)
}

/// Serves an empty store on `address`, which grows to `bytes_max`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    bytes_max: usize,
) -> io::Result<SocketAddr> {
    let store = Rc::new(RefCell::new(Store { values: HashMap::new(), bytes: 0, bytes_max }));
    reactor.listen(address, move |_peer| Client { store: Rc::clone(&store) })
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:6379".to_string());
    let address =
        address.parse().map_err(|_| io::Error::other(format!("{address} is no IP:PORT")))?;
    let mut reactor = Reactor::new(Limits::default())?;
    writeln!(io::stdout(), "kv {}", listen(&mut reactor, address, STORE_BYTES_MAX)?)?;
    reactor.run()?;
    Ok(())
}
