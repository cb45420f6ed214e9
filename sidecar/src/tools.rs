//! The tools that a client gets to see: the answer to `tools/list` without those that no call could reach, and otherwise as the server
//! wrote it, byte for byte. The list is advice; the call is where policy holds. mcp.md 5.1 and section 3, rule 20.
//!
//! Guarantees: an answer that cannot be read in one way only is an error, never passed on; what is kept keeps its order, its unknown
//! fields and the texts of its numbers.
//!
//! A name that appears twice in one list is poisoned: which definition belongs to the tool that would run is anybody's guess, so all
//! of them go. Each page is judged by itself; the same name on two pages is not seen.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::headers::Era;
use mcp_policy::json::{Fault, Kind, Scanner};
use mcp_policy::lookalike::is_lookalike;

use crate::message::{Id, ServerMessage, Unreadable, parse_server_with};

/// Names that are remembered. The names become metric labels, which are never forgotten.
const MAX_LISTED: usize = 1024;
/// The longest name that is remembered, in bytes: twice what the protocol asks servers to keep to.
const MAX_LISTED_NAME: usize = 256;

/// A `cacheScope` that lets no cache share the list.
const PRIVATE: &str = r#""private""#;

const RESULT_KEYS: &[&str] = &["tools", "nextCursor", "cacheScope", "ttlMs", "resultType", "_meta"];
const TOOL_KEYS: &[&str] = &["name"];

/// What a message of the server is to a client that asked for a list of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// The list.
    List(List),
    /// An error instead of the list. It passes.
    Failed,
    /// A notification, or a request of the server. It passes.
    NotAResponse,
    /// The answer to something else. On the stream of a POST it does not belong there (rule 18) and is dropped.
    OtherResponse,
}

/// A list of tools that a client may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The message to forward instead; none where it passes as it came.
    pub changed: Option<Vec<u8>>,
    /// Every name that the server listed, also of the tools that went.
    pub names: Vec<String>,
    /// How many tools went.
    pub removed: usize,
}

/// Filters one message of the server: a JSON body, or the data of one event. `lists` tells of each name whether the client may see it.
///
/// `expected` is the id of the `tools/list` that is answered. Where it is not known (a stream that was opened with GET may bring the
/// answer to any earlier request), every result that has `tools` is taken for a list.
pub fn filter(message: &[u8], expected: Option<&Id>, era: Era, mut lists: impl FnMut(&str) -> bool) -> Result<Filtered, Unreadable> {
    let mut found = Found::default();
    let parsed = parse_server_with(message, |scanner| found.read(scanner))?;
    Ok(match parsed {
        ServerMessage::Request { .. } | ServerMessage::Notification { .. } => Filtered::NotAResponse,
        ServerMessage::Error { id: Some(id) } if expected.is_some_and(|expected| *expected != id) => Filtered::OtherResponse,
        ServerMessage::Error { .. } => Filtered::Failed,
        ServerMessage::Result { id } if expected.is_some_and(|expected| *expected != id) => Filtered::OtherResponse,
        ServerMessage::Result { .. } if found.unreadable => return Err(Unreadable::new()),
        ServerMessage::Result { .. } => match found.tools {
            Some(tools) => {
                let shown = tools.shown(&mut lists);
                let removed = shown.iter().filter(|shown| !**shown).count();
                let mut edits = Vec::new();
                if removed > 0 {
                    edits.push(tools.edit(message, &shown));
                }
                edits.extend(private_cache(found.cache_scope, found.start, era));
                let changed = (!edits.is_empty()).then(|| apply(message, edits));
                List { changed, names: tools.entries.into_iter().filter_map(|entry| entry.name).collect(), removed }.into()
            }
            None if expected.is_none() => Filtered::OtherResponse,
            None => return Err(Unreadable::new()),
        },
    })
}

impl From<List> for Filtered {
    fn from(list: List) -> Self {
        Self::List(list)
    }
}

/// What matters in a result, and where it stands.
#[derive(Default)]
struct Found {
    /// Where the members of the result begin.
    start: usize,
    tools: Option<Tools>,
    cache_scope: Option<CacheScope>,
    /// Whether some client could find other tools in it than those that were found here.
    unreadable: bool,
}

struct CacheScope {
    place: Range<usize>,
    is_private: bool,
}

/// The array of tools.
struct Tools {
    /// Between its brackets.
    inside: Range<usize>,
    entries: Vec<Entry>,
}

struct Entry {
    place: Range<usize>,
    /// None for what is no tool: it has no name by which it could be called.
    name: Option<String>,
}

impl Found {
    fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if scanner.kind()? != Kind::Object {
            return scanner.value().map(drop);
        }
        self.start = scanner.position() + 1;
        scanner.object(|scanner, key| {
            match (key, scanner.kind()?) {
                ("tools", Kind::Array) => self.read_tools(scanner)?,
                ("tools", _) => {
                    self.unreadable = true;
                    scanner.value()?;
                }
                ("cacheScope", _) => {
                    let place = scanner.value()?;
                    let is_private = scanner.source(place.clone()) == PRIVATE;
                    self.cache_scope = Some(CacheScope { place, is_private });
                }
                (other, _) => {
                    self.unreadable |= is_lookalike(other, RESULT_KEYS);
                    scanner.value()?;
                }
            }
            Ok(())
        })
    }

    fn read_tools(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let start = scanner.position() + 1;
        let mut entries = Vec::new();
        scanner.array(|scanner| {
            let kind = scanner.kind()?;
            let start = scanner.position();
            let mut name = None;
            if kind == Kind::Object {
                scanner.object(|scanner, key| {
                    if key == "name" && scanner.kind()? == Kind::String {
                        name = Some(scanner.string()?.into_owned());
                        return Ok(());
                    }
                    self.unreadable |= is_lookalike(key, TOOL_KEYS);
                    scanner.value().map(drop)
                })?;
            } else {
                scanner.value()?;
            }
            entries.push(Entry { place: start..scanner.position(), name });
            Ok(())
        })?;
        self.tools = Some(Tools { inside: start..scanner.position() - 1, entries });
        Ok(())
    }
}

impl Tools {
    /// For each entry, whether the client may see it.
    fn shown(&self, lists: &mut dyn FnMut(&str) -> bool) -> Vec<bool> {
        let mut times: HashMap<&str, usize> = HashMap::new();
        for name in self.entries.iter().filter_map(|entry| entry.name.as_deref()) {
            *times.entry(name).or_default() += 1;
        }
        self.entries.iter().map(|entry| entry.name.as_deref().is_some_and(|name| times.get(name) == Some(&1) && lists(name))).collect()
    }

    fn edit(&self, message: &[u8], shown: &[bool]) -> Edit {
        let kept = self.entries.iter().zip(shown).filter(|(_, shown)| **shown).map(|(entry, _)| &message[entry.place.clone()]);
        Edit { place: self.inside.clone(), text: kept.collect::<Vec<_>>().join(&b","[..]) }
    }
}

/// What caches between here and other callers must be told: the list is one caller's. Only the modern era has the field; a legacy
/// server that sends it all the same is corrected, too.
fn private_cache(cache_scope: Option<CacheScope>, result_start: usize, era: Era) -> Option<Edit> {
    match cache_scope {
        Some(CacheScope { is_private: true, .. }) => None,
        Some(CacheScope { place, .. }) => Some(Edit { place, text: PRIVATE.into() }),
        // The result has at least its tools, so a comma is right.
        None if era == Era::Modern => Some(Edit { place: result_start..result_start, text: format!(r#""cacheScope":{PRIVATE},"#).into() }),
        None => None,
    }
}

/// A part of a message, and what stands there instead.
struct Edit {
    place: Range<usize>,
    text: Vec<u8>,
}

fn apply(message: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
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

/// The names that the server has listed: they may be called though they are unusual (rule 5), and may be labels of metrics. Bounded; what
/// comes after the bound is reached is not remembered.
#[derive(Debug, Default)]
pub struct ListedTools {
    names: HashSet<Box<str>>,
}

impl ListedTools {
    /// Remembers the names of one list.
    pub fn learn(&mut self, names: &[String]) {
        for name in names {
            if self.names.len() < MAX_LISTED && name.len() <= MAX_LISTED_NAME && !self.names.contains(name.as_str()) {
                self.names.insert(name.as_str().into());
            }
        }
    }

    /// Whether the server has listed this very name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

#[cfg(test)]
mod tests;
