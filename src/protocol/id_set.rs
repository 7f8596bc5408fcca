//! A set of connection ids that may have a million members, in few and large pieces of memory.
//!
//! A `BTreeSet` has a node for about ten ids. When thousands of connections that monitor each other
//! end together, hundreds of thousands of nodes are freed, and the allocator joins them all within
//! one later call, for which the loop stands still. Here a piece has up to `PIECE_IDS_MAX` ids. So
//! to free a set is to free few pieces, and no step copies more than one.
//!
//! With millions of ids, nearly all the time goes into reading memory that is in no cache. So where
//! an id belongs is found without a look at the pieces themselves.
//!
//! Invariant: no piece is empty, and all ids are in ascending order.

use std::collections::VecDeque;

use super::ident::ConnectionId;
use crate::overload_limits::PIECE_IDS_MAX;

#[derive(Default)]
pub(super) struct IdSet {
    pieces: VecDeque<Piece>,
    len: usize,
    /// No id is greater.
    greatest: Option<ConnectionId>,
}

struct Piece {
    /// None of its ids is less, and all before it are.
    least: ConnectionId,
    ids: Vec<ConnectionId>,
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
        self.pieces.partition_point(|piece| piece.least <= id).saturating_sub(1)
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        let piece = self.pieces.get(self.piece_of(id));
        piece.is_some_and(|piece| piece.ids.binary_search(&id).is_ok())
    }

    /// Adds `id`, and returns whether it is new.
    pub(super) fn insert(&mut self, id: ConnectionId) -> bool {
        if self.greatest.is_none_or(|greatest| greatest < id) || self.is_empty() {
            self.push_last(id);
            return true;
        }
        let index = self.piece_of(id);
        let piece = &mut self.pieces[index];
        let Err(position) = piece.ids.binary_search(&id) else { return false };
        self.len += 1;
        piece.least = piece.least.min(id);
        if piece.ids.len() < PIECE_IDS_MAX {
            piece.ids.insert(position, id);
            return true;
        }
        let mut upper = piece.ids.split_off(PIECE_IDS_MAX / 2);
        match position.checked_sub(PIECE_IDS_MAX / 2) {
            Some(position) => upper.insert(position, id),
            None => piece.ids.insert(position, id),
        }
        self.pieces.insert(index + 1, Piece { least: upper[0], ids: upper });
        true
    }

    /// Adds `id`, which is greater than all others. A full piece stays full.
    fn push_last(&mut self, id: ConnectionId) {
        self.len += 1;
        self.greatest = Some(id);
        match self.pieces.back_mut() {
            Some(piece) if piece.ids.len() < PIECE_IDS_MAX => piece.ids.push(id),
            _ => self.pieces.push_back(Piece { least: id, ids: vec![id] }),
        }
    }

    /// Removes `id`, and returns whether it was there.
    pub(super) fn remove(&mut self, id: ConnectionId) -> bool {
        let index = self.piece_of(id);
        let Some(piece) = self.pieces.get_mut(index) else { return false };
        let Ok(position) = piece.ids.binary_search(&id) else { return false };
        self.remove_at(index, position);
        true
    }

    /// Removes the least id, and returns it.
    pub(super) fn pop_first(&mut self) -> Option<ConnectionId> {
        let id = *self.pieces.front()?.ids.first()?;
        self.remove_at(0, 0);
        Some(id)
    }

    fn remove_at(&mut self, index: usize, position: usize) {
        let ids = &mut self.pieces[index].ids;
        ids.remove(position);
        if ids.is_empty() {
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
        let largest = shuffled.pieces.iter().map(|piece| piece.ids.capacity()).max();
        assert!(largest <= Some(PIECE_IDS_MAX), "{largest:?}: no step copies more");
    }
}
