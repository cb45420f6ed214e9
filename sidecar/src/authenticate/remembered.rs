//! Proofs that were verified, by the digest of what proved them.
//!
//! Guarantee: only what was proved is remembered, so who sends rubbish takes no room; and however many tokens there are, and however
//! long, what is remembered is bounded.

use std::collections::HashMap;

use super::{Proved, Seconds};

/// How many bytes of tokens and keys are remembered. Of none of them a byte is kept, but the claims of a token take some times its
/// length.
const MAX_BYTES: usize = 1024 * 1024;

/// What an entry takes besides.
const ENTRY_BYTES: usize = 256;

/// SHA-256 of a token or a key.
pub(super) type Digest = [u8; 32];

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    proofs: HashMap<Digest, (Proved, usize)>,
    bytes: usize,
}

impl Remembered {
    /// What was proved by this, if it still is.
    pub(super) fn get(&self, digest: &Digest, now: Seconds) -> Option<Proved> {
        let (proved, _) = self.proofs.get(digest)?;
        holds(proved, now).then(|| proved.clone())
    }

    /// Remembers what was proved by so many bytes. If there is no room, what has ended goes, else everything: each is then verified
    /// once more.
    pub(super) fn insert(&mut self, digest: Digest, length: usize, proved: Proved, now: Seconds) {
        let bytes = length + ENTRY_BYTES;
        if self.bytes + bytes > MAX_BYTES {
            self.proofs.retain(|_, (proved, _)| holds(proved, now));
            self.bytes = self.proofs.values().map(|(_, bytes)| bytes).sum();
        }
        if self.bytes + bytes > MAX_BYTES {
            *self = Self::default();
        }
        let before = self.proofs.insert(digest, (proved, bytes));
        self.bytes = self.bytes + bytes - before.map_or(0, |(_, bytes)| bytes);
    }
}

fn holds(proved: &Proved, now: Seconds) -> bool {
    proved.until.is_none_or(|until| now <= until)
}

#[cfg(test)]
mod tests {
    use mcp_policy::Caller;

    use super::*;

    fn proved(until: Option<Seconds>) -> Proved {
        Proved { caller: Caller::Key { name: "ci".to_owned() }, until }
    }

    fn digest(n: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_has_ended_goes_first() {
        let mut remembered = Remembered::default();
        let last = digest(usize::MAX);
        remembered.insert(last, 8, proved(Some(9)), 1);
        for n in 0..10_000 {
            remembered.insert(digest(n), 4096, proved(Some(5)), if n < 100 { 1 } else { 6 });
            assert!(remembered.bytes <= MAX_BYTES);
            assert_eq!(remembered.bytes, remembered.proofs.values().map(|(_, bytes)| bytes).sum::<usize>());
        }
        assert!(remembered.get(&last, 9).is_some(), "it had not ended");
        assert!(remembered.get(&last, 10).is_none());
        for n in 0..10_000 {
            remembered.insert(digest(n), 4096, proved(None), 6);
            assert!(remembered.bytes <= MAX_BYTES);
        }
    }

    #[test]
    fn the_same_again_takes_no_more_room() {
        let mut remembered = Remembered::default();
        for _ in 0..3 {
            remembered.insert(digest(1), 100, proved(None), 1);
        }
        assert_eq!(remembered.bytes, 100 + ENTRY_BYTES);
    }
}
