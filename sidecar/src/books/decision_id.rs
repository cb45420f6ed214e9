//! Ids of decisions: what an agent quotes, an audit line carries, and a person searches for. Short, in the order of time, and
//! unique; nothing depends on that nobody guesses them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32: no letter that is taken for another when read aloud.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes ids: nine characters of milliseconds, four of this process, three of a counter.
#[derive(Debug)]
pub struct DecisionIds {
    process: u32,
    counter: AtomicU32,
}

impl Default for DecisionIds {
    fn default() -> Self {
        Self { process: fastrand::u32(..), counter: AtomicU32::new(0) }
    }
}

impl DecisionIds {
    /// The next id.
    #[must_use]
    pub fn next(&self) -> String {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let mut id = String::with_capacity(16);
        push(&mut id, millis, 9);
        push(&mut id, self.process.into(), 4);
        push(&mut id, self.counter.fetch_add(1, Ordering::Relaxed).into(), 3);
        id
    }
}

/// The lowest `digits` digits of a number.
fn push(id: &mut String, number: u64, digits: u32) {
    for digit in (0..digits).rev() {
        id.push(char::from(ALPHABET[usize::from((number >> (5 * digit) & 31) as u8)]));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_short_and_unique() {
        let ids = DecisionIds::default();
        let made: BTreeSet<String> = (0..20_000).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 20_000);
        assert!(made.iter().all(|id| id.len() == 16));
    }
}
