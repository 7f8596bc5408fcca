//! Bytes waiting their turn.
//!
//! ```text
//!     consumed │ waiting ........ │ room
//!              start              end
//! ```
//!
//! A connection keeps two of these: the tail of its input that no protocol has consumed yet, and the rest of its output
//! that the kernel has not taken yet. Most of the time both are empty, and an empty one is a null pointer: an idle
//! connection owns no buffer.
//!
//! Invariant: bytes are appended at the back and consumed from the front, nothing else moves them. How large a buffer
//! may grow is decided by who appends (see `limits`).

/// A queue of bytes that costs eight bytes and no memory elsewhere while it is empty.
#[derive(Default)]
pub(crate) struct Buffer(Option<Box<Bytes>>);

struct Bytes {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// The bytes that wait, oldest first.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Some(waiting) => &waiting.bytes[waiting.start..],
            None => &[],
        }
    }

    /// Puts `more` behind what waits.
    #[inline]
    pub(crate) fn append(&mut self, more: &[u8]) {
        if !more.is_empty() {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: &[u8]) {
        let waiting = self.0.get_or_insert_with(|| Box::new(Bytes { bytes: Vec::new(), start: 0 }));
        let kept = waiting.bytes.len() - waiting.start;
        // Moving what waits to the front only when at least as much has been consumed keeps the whole linear; and so does
        // growing to twice what is needed. What has been consumed is not taken along: this bounds the memory.
        if waiting.start >= kept {
            waiting.bytes.drain(..waiting.start);
            waiting.start = 0;
        } else if waiting.bytes.len() + more.len() > waiting.bytes.capacity() {
            let mut larger = Vec::with_capacity(2 * (kept + more.len()));
            larger.extend_from_slice(&waiting.bytes[waiting.start..]);
            (waiting.bytes, waiting.start) = (larger, 0);
        }
        waiting.bytes.extend_from_slice(more);
    }

    /// How many bytes of memory it has. At most twice as many as have ever waited at one time.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes.capacity())
    }

    /// Forgets the first `count` bytes, and the memory with the last of them.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only bytes that wait can be consumed");
        if let Some(waiting) = &mut self.0 {
            waiting.start += count;
            if waiting.start == waiting.bytes.len() {
                self.0 = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_buffer_is_a_null_pointer() {
        assert_eq!(size_of::<Buffer>(), size_of::<usize>());
        let mut buffer = Buffer::default();
        buffer.append(b"");
        assert!(buffer.is_empty());
        buffer.append(b"abc");
        buffer.consume(3);
        assert!(buffer.is_empty() && buffer.0.is_none());
    }

    #[test]
    fn consumed_room_is_used_again() {
        let mut buffer = Buffer::default();
        buffer.append(&[0; 1000]);
        for _ in 0..10_000 {
            buffer.consume(500);
            buffer.append(&[0; 500]);
        }
        assert!(buffer.0.expect("1,000 bytes wait").bytes.capacity() <= 4000, "it does not creep");
    }

    proptest! {
        /// Whatever is appended comes out once, in order, however it is consumed, and takes at most twice its room.
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0..80usize), 0..60)) {
            let mut buffer = Buffer::default();
            let mut model: Vec<u8> = Vec::new();
            let mut most = 8; // no vector of bytes has less
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
