//! A queue of bytes: appended at the back, consumed from the front, without memory while empty.
//!
//! ```text
//!     consumed │ pending ........ │ room
//!              start              end
//! ```
//!
//! A connection has two: the input that its protocol has not consumed yet (the read buffer), and
//! the output that the kernel has not taken yet (the write buffer). Both are empty most of the
//! time. Then they are a single null pointer, so an idle connection owns no buffer.
//!
//! Invariant: bytes are appended at the back and consumed from the front; nothing else moves them.
//! A buffer does not bound itself: the code that appends checks the bound (see `limits`).

/// A queue of bytes. An empty one takes eight bytes in its owner, and none on the heap.
#[derive(Default)]
pub(crate) struct Buffer(Option<Box<Queue>>);

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Returns the pending bytes, oldest first.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |queue| queue.as_slice())
    }

    /// Appends `more` after the pending bytes.
    pub(crate) fn append(&mut self, more: &[u8]) {
        if !more.is_empty() {
            self.0.get_or_insert_default().append(more);
        }
    }

    /// Removes the first `count` bytes. When none are left, the memory is freed.
    ///
    /// # Panics
    ///
    /// If fewer than `count` bytes are pending.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only pending bytes can be consumed");
        if let Some(queue) = &mut self.0 {
            queue.consume(count);
            if queue.is_empty() {
                self.0 = None;
            }
        }
    }
}

/// The input and the output that wait in one connection. If neither does, it is a null pointer.
#[derive(Default)]
pub(crate) struct Buffers(Option<Box<Pair>>);

#[derive(Default)]
struct Pair {
    input: Queue,
    output: Queue,
    /// How many bytes of `output` come from other connections, at most.
    relayed_output: usize,
}

impl Buffers {
    /// Returns whether nothing waits in either direction.
    pub(crate) fn are_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the bytes that were read and that the protocol has not consumed.
    pub(crate) fn input(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |pair| pair.input.as_slice())
    }

    /// Returns the bytes that were sent and that the kernel has not taken.
    pub(crate) fn output(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |pair| pair.output.as_slice())
    }

    /// Returns how much of the output its own protocol has sent, in bytes. (Where output of both
    /// kinds waits, its own counts as sent first.)
    pub(crate) fn own_output(&self) -> usize {
        self.0.as_ref().map_or(0, |pair| pair.output.as_slice().len() - pair.relayed_output)
    }

    #[cold]
    pub(crate) fn append_input(&mut self, more: &[u8]) {
        if !more.is_empty() {
            self.0.get_or_insert_default().input.append(more);
        }
    }

    #[cold]
    pub(crate) fn append_output(&mut self, more: &[u8]) {
        if !more.is_empty() {
            self.0.get_or_insert_default().output.append(more);
        }
    }

    /// Appends output that comes from another connection.
    pub(crate) fn append_relayed(&mut self, more: &[u8]) {
        self.append_output(more);
        if let Some(pair) = &mut self.0 {
            pair.relayed_output += more.len();
        }
    }

    /// Takes the input out, to be offered to the protocol while the connection is changed. It is
    /// followed by [`put_back_input`](Buffers::put_back_input).
    pub(crate) fn take_input(&mut self) -> Queue {
        self.0.as_mut().map(|pair| std::mem::take(&mut pair.input)).unwrap_or_default()
    }

    /// Puts back what is left of the input.
    pub(crate) fn put_back_input(&mut self, input: Queue) {
        if let Some(pair) = &mut self.0 {
            pair.input = input;
        } else if !input.is_empty() {
            self.0 = Some(Box::new(Pair { input, ..Pair::default() }));
        }
        self.free_if_empty();
    }

    /// Removes the first `count` bytes of the output.
    pub(crate) fn consume_output(&mut self, count: usize) {
        if let Some(pair) = &mut self.0 {
            pair.output.consume(count);
            pair.relayed_output = pair.relayed_output.min(pair.output.as_slice().len());
            self.free_if_empty();
        }
    }

    /// Drops the output.
    pub(crate) fn clear_output(&mut self) {
        if let Some(pair) = &mut self.0 {
            (pair.output, pair.relayed_output) = Default::default();
            self.free_if_empty();
        }
    }

    fn free_if_empty(&mut self) {
        if self.0.as_ref().is_some_and(|pair| pair.input.is_empty() && pair.output.is_empty()) {
            self.0 = None;
        }
    }

    /// Returns the memory that both hold, in bytes: at most twice the most that was ever pending.
    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |pair| pair.input.capacity() + pair.output.capacity())
    }
}

/// A queue of bytes with its vector.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// How many of `bytes` have been consumed.
    start: usize,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Returns the pending bytes, oldest first.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn append(&mut self, more: &[u8]) {
        let pending = self.bytes.len() - self.start;
        // Pending bytes move to the front only when at least as many have been consumed, and
        // capacity doubles when it grows: both keep the total work linear. A larger vector takes
        // only the pending bytes along, which bounds the memory to twice the most that was ever
        // pending.
        if self.start >= pending {
            self.bytes.drain(..self.start);
            self.start = 0;
        } else if self.bytes.len() + more.len() > self.bytes.capacity() {
            let mut larger = Vec::with_capacity(2 * (pending + more.len()));
            larger.extend_from_slice(&self.bytes[self.start..]);
            (self.bytes, self.start) = (larger, 0);
        }
        self.bytes.extend_from_slice(more);
    }

    /// Removes the first `count` bytes. When none are left, the memory is freed.
    ///
    /// # Panics
    ///
    /// If fewer than `count` bytes are pending.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.as_slice().len(), "only pending bytes can be consumed");
        self.start += count;
        if self.is_empty() {
            *self = Queue::default();
        }
    }

    /// Returns the memory that it holds, in bytes: at most twice the most that was ever pending.
    fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // pitfall: 67
    #[test]
    fn empty_buffer_is_a_null_pointer() {
        assert_eq!(size_of::<Buffer>(), size_of::<usize>());
        let mut buffer = Buffer::default();
        buffer.append(b"");
        assert!(buffer.is_empty());
        buffer.append(b"abc");
        buffer.consume(3);
        assert!(buffer.is_empty() && buffer.0.is_none());
    }

    // pitfall: 67
    #[test]
    fn empty_buffers_of_a_connection_are_one_null_pointer() {
        assert_eq!(size_of::<Buffers>(), size_of::<usize>());
        let mut buffers = Buffers::default();
        buffers.append_input(b"");
        assert!(buffers.are_empty());
        buffers.append_input(b"abc");
        buffers.append_output(b"de");
        buffers.append_relayed(b"fgh");
        assert_eq!(
            (buffers.input(), buffers.output(), buffers.own_output()),
            (&b"abc"[..], &b"defgh"[..], 2)
        );
        let mut input = buffers.take_input();
        input.consume(3);
        buffers.put_back_input(input);
        buffers.consume_output(4);
        assert_eq!((buffers.output(), buffers.own_output()), (&b"h"[..], 0));
        buffers.consume_output(1);
        assert!(buffers.are_empty(), "the memory is freed");
        assert_eq!(buffers.capacity(), 0);
    }

    #[test]
    fn consumed_room_is_reused() {
        let mut queue = Queue::default();
        queue.append(&[0; 1000]);
        for _ in 0..10_000 {
            queue.consume(500);
            queue.append(&[0; 500]);
        }
        assert!(queue.capacity() <= 4000, "the memory does not grow with each append");
    }

    proptest! {
        /// What is appended comes out once and in order, however it is consumed. The memory is at
        /// most twice the most that was ever pending.
        #[test]
        fn bytes_come_out_once_and_in_order(
            steps in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..50), 0..80usize),
                0..60,
            ),
        ) {
            let mut buffer = Buffer::default();
            let mut model: Vec<u8> = Vec::new();
            let mut most = 8; // no non-empty `Vec<u8>` has a smaller capacity
            for (more, take) in steps {
                buffer.append(&more);
                model.extend(&more);
                most = most.max(model.len());
                prop_assert!(buffer.0.as_ref().map_or(0, |queue| queue.capacity()) <= 2 * most);
                let take = take.min(model.len());
                buffer.consume(take);
                model.drain(..take);
                prop_assert_eq!(buffer.as_slice(), &model[..]);
                prop_assert_eq!(buffer.is_empty(), model.is_empty());
            }
        }
    }
}
