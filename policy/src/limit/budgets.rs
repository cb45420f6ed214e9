//! Where budgets are kept apart: found in constant time, bounded, and forgotten a few at a time once nothing depends on them.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::calls::Calls;
use super::identity::{CounterId, Owner};
use super::{EXACT_CALLS, Nanos};

/// Budgets by counter and owner.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    table: HashTable<Budget>,
    /// Nobody knows which owners it puts side by side, or they could make every search long.
    hasher: RandomState,
    bounds: Bounds,
    /// What all calls take on the heap, in words of 8 bytes.
    words: usize,
    /// The place that is looked at next for something to forget.
    hand: usize,
}

/// What one owner has used of a counter.
#[derive(Debug)]
pub(super) struct Budget {
    pub counter: Arc<CounterId>,
    owner: Owner,
    pub calls: Calls,
}

/// How much there may be. With these, a process of 64 MiB gives at most some 25 to budgets, whoever calls and however often.
#[derive(Debug)]
pub(super) struct Bounds {
    /// This many fill a table of 2 MiB.
    pub budgets: usize,
    /// Words for calls. Beyond them, each budget that is spent from keeps at most [`JOINED_CALLS`] entries.
    pub words: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { budgets: 28_000, words: 1 << 20 }
    }
}

/// The most entries of a budget while memory is short. A call may then be held by a sixth of the window longer than needed.
const JOINED_CALLS: usize = 16;

/// How many places are looked at for something to forget at each occasion. More than one, so that budgets are forgotten faster
/// than they come.
const LOOKED_AT: usize = 16;

impl Budgets {
    /// How many more there may be.
    pub fn free(&self) -> usize {
        self.bounds.budgets.saturating_sub(self.table.len())
    }

    /// Where a budget is, until the next one is added or forgotten.
    pub fn find(&self, counter: &CounterId, owner: Owner) -> Option<usize> {
        self.table.find_bucket_index(hash(&self.hasher, counter, owner), |budget| budget.owner == owner && *budget.counter == *counter)
    }

    /// The calls of a budget that was found.
    pub fn at(&mut self, place: usize) -> Option<&mut Calls> {
        self.table.get_bucket_mut(place).map(|budget| &mut budget.calls)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Budget> {
        self.table.iter_mut()
    }

    /// Adds a budget that is not there yet. Gives its place.
    pub fn insert(&mut self, counter: Arc<CounterId>, owner: Owner, calls: Calls) -> usize {
        self.words += calls.words();
        let hasher = &self.hasher;
        let hash_of = |budget: &Budget| hash(hasher, &budget.counter, budget.owner);
        let budget = Budget { counter, owner, calls };
        self.table.insert_unique(hash_of(&budget), budget, hash_of).bucket_index()
    }

    /// Adds a call to the budget at a place.
    pub fn push(&mut self, place: usize, amount: u128, now: Nanos) {
        let most = if self.are_short_of_memory() { JOINED_CALLS } else { EXACT_CALLS };
        let Some(Budget { counter, calls, .. }) = self.table.get_bucket_mut(place) else { return };
        let before = calls.words();
        calls.push(amount, counter.window(), now, most);
        self.words = self.words + calls.words() - before;
    }

    /// Forgets budgets that no decision can depend on any more, and takes back memory that others do not need. Looks at a few
    /// places, or at all.
    pub fn sweep(&mut self, all: bool, now: Nanos, mut forgotten: impl FnMut(&CounterId)) {
        let places = self.table.num_buckets();
        for _ in 0..if all { places } else { LOOKED_AT } {
            self.hand = if self.hand + 1 < places { self.hand + 1 } else { 0 };
            let Ok(mut entry) = self.table.get_bucket_entry(self.hand) else { continue };
            let Budget { counter, calls, .. } = entry.get_mut();
            let before = calls.words();
            let after = if calls.used(counter.window(), now) > 0 {
                calls.shrink();
                calls.words()
            } else {
                forgotten(counter);
                entry.remove();
                0
            };
            self.words -= before - after;
        }
    }

    /// Whether calls take more memory than they should.
    pub fn are_short_of_memory(&self) -> bool {
        self.words > self.bounds.words
    }
}

#[cfg(test)]
impl Budgets {
    pub fn bounded(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// How many there are, and what they take in bytes.
    pub fn size(&self) -> (usize, usize) {
        assert_eq!(self.words, self.table.iter().map(|budget| budget.calls.words()).sum::<usize>());
        (self.table.len(), self.table.allocation_size() + 8 * self.words)
    }
}

fn hash(hasher: &RandomState, counter: &CounterId, owner: Owner) -> u64 {
    hasher.hash_one((counter, owner))
}
