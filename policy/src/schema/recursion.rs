//! What a schema with `$ref` may cost, whatever the arguments.
//!
//! A `$ref` that leads back to where it stands without looking at a part of the value would never end. One that leads back by way
//! of a part ends with the value, whose depth is bounded. Schemas that refer twice to one that refers twice to the next grow
//! beyond all bounds.

use super::walk::{Error, Part};

/// Schemas that are asked one after the other about the same value, each because of the one before.
const MAX_CHAIN: usize = 32;
/// Schemas, counted again wherever a `$ref` leads to them.
const MAX_PARTS: u64 = 100_000;

/// Checks the parts of a schema and tells whether one leads back to itself.
pub(super) fn check(parts: &[Part]) -> Result<bool, Error> {
    let mut chains = vec![Chain::Unknown; parts.len()];
    for part in 0..parts.len() {
        chain(parts, part, &mut chains, 1)?;
    }
    expand(parts)
}

#[derive(Clone, Copy)]
enum Chain {
    Unknown,
    Open,
    /// How many parts the longest chain from here has.
    Length(usize),
}

/// The longest chain of parts that are asked about the same value. Recursion ends at [`MAX_CHAIN`].
fn chain(parts: &[Part], part: usize, chains: &mut [Chain], depth: usize) -> Result<usize, Error> {
    let error = |message: &str| Err((parts[part].place.clone(), message.to_owned()));
    match chains[part] {
        Chain::Length(length) => return Ok(length),
        Chain::Open => return error("a `$ref` leads back here without looking at any part of the value, so it says nothing"),
        Chain::Unknown => {}
    }
    if depth > MAX_CHAIN {
        return error("more than 32 schemas would be asked one after the other about the same value; refer to fewer");
    }
    chains[part] = Chain::Open;
    let mut longest = 0;
    for next in &parts[part].same_value {
        longest = longest.max(chain(parts, *next, chains, depth + 1)?);
    }
    if longest >= MAX_CHAIN {
        return error("more than 32 schemas would be asked one after the other about the same value; refer to fewer");
    }
    chains[part] = Chain::Length(longest + 1);
    Ok(longest + 1)
}

/// Counts the parts with every `$ref` followed once. Not by recursion: a long row of references must not exhaust the stack.
fn expand(parts: &[Part]) -> Result<bool, Error> {
    enum State {
        Unknown,
        Open,
        Counted(u64),
    }
    let edges_of =
        |part: &Part| part.same_value.iter().chain(part.members.values().flatten()).chain(&part.parts_of_value).copied().collect();
    let edges: Vec<Vec<usize>> = parts.iter().map(edges_of).collect();
    let mut states: Vec<State> = parts.iter().map(|_| State::Unknown).collect();
    let mut is_recursive = false;
    // Each open part, what it has counted so far, and which edge is next. All that counts can be reached from the whole, the first.
    let mut open = vec![(0, 1_u64, 0)];
    while let Some((part, count, edge)) = open.last_mut() {
        states[*part] = State::Open;
        if let Some(next) = edges[*part].get(*edge).copied() {
            match states[next] {
                State::Unknown => {
                    open.push((next, 1, 0));
                    continue;
                }
                // It leads back: the validator remembers what it was told about this schema and this value.
                State::Open => is_recursive = true,
                State::Counted(more) => *count = count.saturating_add(more),
            }
            *edge += 1;
        } else {
            if *count > MAX_PARTS {
                return Err((
                    parts[*part].place.clone(),
                    format!("has more than {MAX_PARTS} schemas when every `$ref` is followed; refer to fewer"),
                ));
            }
            states[*part] = State::Counted(*count);
            open.pop();
        }
    }
    Ok(is_recursive)
}
