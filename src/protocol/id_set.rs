//! A set of connection ids that may have a million members, in few and large pieces of memory.
//!
//! A `BTreeSet` has a node for about ten ids. When thousands of connections that monitor each other
//! end together, hundreds of thousands of nodes are freed, and the allocator joins them all within
//! one later call, for which the loop stands still. Here a piece has up to `PIECE_IDS_MAX` ids. So
//! to free a set is to free few pieces, and no step copies more than one.
//!
//! Invariant: no piece is empty, and all ids are in ascending order.

use std::collections::VecDeque;

use super::ident::ConnectionId;
use crate::overload_limits::PIECE_IDS_MAX;

#[derive(Default)]
pub(super) struct IdSet {
    pieces: VecDeque<Vec<ConnectionId>>,
    len: usize,
}

impl IdSet {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the piece that has `id`, or would have it. It is 0 if there is none yet.
    fn piece_of(&self, id: ConnectionId) -> usize {
        self.pieces.partition_point(|piece| piece[0] <= id).saturating_sub(1)
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.pieces.get(self.piece_of(id)).is_some_and(|piece| piece.binary_search(&id).is_ok())
    }

    /// Adds `id`, and returns whether it is new.
    pub(super) fn insert(&mut self, id: ConnectionId) -> bool {
        // Fast path: ids mostly come in ascending order. A search would read many cache lines.
        if self.pieces.back().and_then(|piece| piece.last()).is_none_or(|&last| last < id) {
            self.push_last(id);
            return true;
        }
        let index = self.piece_of(id);
        let piece = &mut self.pieces[index];
        let Err(position) = piece.binary_search(&id) else { return false };
        self.len += 1;
        if piece.len() < PIECE_IDS_MAX {
            piece.insert(position, id);
        } else {
            let mut upper = piece.split_off(PIECE_IDS_MAX / 2);
            match position.checked_sub(PIECE_IDS_MAX / 2) {
                Some(position) => upper.insert(position, id),
                None => piece.insert(position, id),
            }
            self.pieces.insert(index + 1, upper);
        }
        true
    }

    /// Adds `id`, which is greater than all others. A full piece stays full.
    fn push_last(&mut self, id: ConnectionId) {
        self.len += 1;
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < PIECE_IDS_MAX => piece.push(id),
            _ => self.pieces.push_back(vec![id]),
        }
    }

    /// Removes `id`, and returns whether it was there.
    pub(super) fn remove(&mut self, id: ConnectionId) -> bool {
        let index = self.piece_of(id);
        let Some(piece) = self.pieces.get_mut(index) else { return false };
        let Ok(position) = piece.binary_search(&id) else { return false };
        self.remove_at(index, position);
        true
    }

    /// Removes the least id, and returns it.
    pub(super) fn pop_first(&mut self) -> Option<ConnectionId> {
        let id = *self.pieces.front()?.first()?;
        self.remove_at(0, 0);
        Some(id)
    }

    fn remove_at(&mut self, index: usize, position: usize) {
        let piece = &mut self.pieces[index];
        piece.remove(position);
        if piece.is_empty() {
            self.pieces.remove(index);
        }
        self.len -= 1;
    }

    /// Removes all ids, and frees their memory.
    pub(super) fn clear(&mut self) {
        *self = IdSet::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 1 }
    }

    #[test]
    fn set_of_ids_does_what_a_btree_set_does() {
        let (mut set, mut model) = (IdSet::default(), BTreeSet::new());
        let mut random = fastrand::Rng::with_seed(1);
        for step in 0..100_000 {
            let id = id(random.u32(..3000));
            match step / 10_000 % 5 {
                4 => assert_eq!(set.pop_first(), model.pop_first()),
                3 => assert_eq!(set.remove(id), model.remove(&id)),
                _ => assert_eq!(set.insert(id), model.insert(id)),
            }
            assert_eq!(set.contains(id), model.contains(&id));
            assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
        }
        set.clear();
        assert_eq!((set.pop_first(), set.len()), (None, 0));
    }

    // pitfall: 169
    #[test]
    fn set_of_a_million_ids_is_freed_in_few_pieces() {
        const COUNT: u32 = 1_000_000;
        let mut in_order = IdSet::default();
        (0..COUNT).for_each(|slot| assert!(in_order.insert(id(slot))));
        let pieces_min = COUNT as usize / PIECE_IDS_MAX;
        assert!(in_order.pieces.len() <= pieces_min + 1, "{} pieces", in_order.pieces.len());
        let mut shuffled = IdSet::default();
        // A step that is odd reaches every residue of a power of two.
        (0..1 << 20).for_each(|number: u32| {
            shuffled.insert(id(number.wrapping_mul(0x9e37_79b1) & 0xf_ffff));
        });
        assert_eq!(shuffled.len(), 1 << 20);
        assert!(shuffled.pieces.len() <= 4 * pieces_min, "{} pieces", shuffled.pieces.len());
        let largest = shuffled.pieces.iter().map(Vec::capacity).max();
        assert!(largest <= Some(PIECE_IDS_MAX), "{largest:?}: no step copies more");
    }
}
