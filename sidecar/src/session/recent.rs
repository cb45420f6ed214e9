//! What is remembered of things that have no certain end: a map of bounded size that forgets what came first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map that holds at most so many entries; beyond that, the one that was put in first is forgotten.
#[derive(Debug)]
pub struct Recent<K, V> {
    /// With the number of its coming, so that a key that went and came again is not forgotten for its first life.
    entries: HashMap<K, (u64, V)>,
    by_age: VecDeque<(u64, K)>,
    comings: u64,
    max: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// An empty map for `max` entries.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), by_age: VecDeque::new(), comings: 0, max }
    }

    /// Puts an entry in, in place of the one of this key.
    pub fn insert(&mut self, key: K, value: V) {
        self.comings += 1;
        self.entries.insert(key.clone(), (self.comings, value));
        self.by_age.push_back((self.comings, key));
        while self.by_age.len() > self.max {
            if let Some((number, key)) = self.by_age.pop_front()
                && self.entries.get(&key).is_some_and(|(last, _)| *last == number)
            {
                self.entries.remove(&key);
            }
        }
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes an entry out.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.remove(key);
    }

    /// The entry of this key.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get_mut(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut recent = Recent::new(3);
        for n in 0..10 {
            recent.insert(n, ());
            recent.remove(&(n - 5));
        }
        assert!((0..7).all(|n| recent.get_mut(&n).is_none()));
        assert!((7..10).all(|n| recent.get_mut(&n).is_some()));
        assert_eq!((recent.entries.len(), recent.by_age.len()), (3, 3));
    }

    #[test]
    fn what_comes_again_lives_as_long_as_its_last_coming() {
        let mut recent = Recent::new(3);
        recent.insert("again", 1);
        recent.remove("again");
        recent.insert("a", 1);
        recent.insert("again", 2);
        recent.insert("b", 1);
        assert_eq!(recent.get_mut("again"), Some(&mut 2));
        recent.insert("c", 1);
        assert_eq!(recent.get_mut("a"), None);
        assert_eq!(recent.get_mut("again"), Some(&mut 2));
    }
}
