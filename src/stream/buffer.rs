//! A queue of bytes: appended at the back, consumed from the front, without memory while empty.
//!
//! ```text
//!     consumed │ pending ........ │ room
//!              start              end
//! ```
//!
//! A connection has two: the input that its protocol has not consumed yet (the read buffer), and
//! the output that the kernel has not taken yet (the write buffer). Both are empty most of the
//! time. An empty one is a null pointer, so an idle connection owns no buffer.
//!
//! Invariant: bytes are appended at the back and consumed from the front; nothing else moves them.
//! A buffer does not bound itself: the code that appends checks the bound (see `limits`).

/// A queue of bytes. An empty one takes eight bytes in its owner, and none on the heap.
#[derive(Default)]
pub(crate) struct Buffer(Option<Box<Storage>>);

struct Storage {
    bytes: Vec<u8>,
    /// How many of `bytes` have been consumed.
    start: usize,
}

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Returns the pending bytes, oldest first.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Some(storage) => &storage.bytes[storage.start..],
            None => &[],
        }
    }

    /// Appends `more` after the pending bytes.
    pub(crate) fn append(&mut self, more: &[u8]) {
        if !more.is_empty() {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: &[u8]) {
        let storage =
            self.0.get_or_insert_with(|| Box::new(Storage { bytes: Vec::new(), start: 0 }));
        let pending = storage.bytes.len() - storage.start;
        // Pending bytes move to the front only when at least as many have been consumed, and
        // capacity doubles when it grows: both keep the total work linear. A larger vector takes
        // only the pending bytes along, which bounds the memory to twice the most that was ever
        // pending.
        if storage.start >= pending {
            storage.bytes.drain(..storage.start);
            storage.start = 0;
        } else if storage.bytes.len() + more.len() > storage.bytes.capacity() {
            let mut larger = Vec::with_capacity(2 * (pending + more.len()));
            larger.extend_from_slice(&storage.bytes[storage.start..]);
            (storage.bytes, storage.start) = (larger, 0);
        }
        storage.bytes.extend_from_slice(more);
    }

    /// Returns the memory that it holds, in bytes: at most twice the most that was ever pending.
    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |storage| storage.bytes.capacity())
    }

    /// Removes the first `count` bytes. When none are left, the memory is freed.
    ///
    /// # Panics
    ///
    /// If fewer than `count` bytes are pending.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only pending bytes can be consumed");
        if let Some(storage) = &mut self.0 {
            storage.start += count;
            if storage.start == storage.bytes.len() {
                self.0 = None;
            }
        }
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

    #[test]
    fn consumed_room_is_reused() {
        let mut buffer = Buffer::default();
        buffer.append(&[0; 1000]);
        for _ in 0..10_000 {
            buffer.consume(500);
            buffer.append(&[0; 500]);
        }
        let storage = buffer.0.expect("1,000 bytes are pending");
        assert!(storage.bytes.capacity() <= 4000, "the memory does not grow with each append");
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
                prop_assert!(buffer.capacity() <= 2 * most);
                let take = take.min(model.len());
                buffer.consume(take);
                model.drain(..take);
                prop_assert_eq!(buffer.as_slice(), &model[..]);
                prop_assert_eq!(buffer.is_empty(), model.is_empty());
            }
        }
    }
}
