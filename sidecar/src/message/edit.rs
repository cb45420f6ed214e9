//! Changes to a message that leave every other byte as it was.

use std::ops::Range;

/// A part of a message, and what stands there instead.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) place: Range<usize>,
    pub(crate) text: Vec<u8>,
}

/// The message with these changes, which do not overlap.
pub(crate) fn apply(message: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|edit| edit.place.start);
    let mut changed = Vec::with_capacity(message.len());
    let mut from = 0;
    for edit in edits {
        changed.extend_from_slice(&message[from..edit.place.start]);
        changed.extend_from_slice(&edit.text);
        from = edit.place.end;
    }
    changed.extend_from_slice(&message[from..]);
    changed
}
