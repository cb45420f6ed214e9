//! The tools that a client gets to see: the answer to `tools/list` without those that no call could reach, and otherwise as the server
//! wrote it, byte for byte. The list is advice; the call is where policy holds. mcp.md 5.1 and section 3, rule 20.
//!
//! Guarantees: an answer that cannot be read in one way only is an error, never passed on; what is kept keeps its order, its unknown
//! fields and the texts of its numbers.
//!
//! A name that appears twice in one list is poisoned: which definition belongs to the tool that would run is anybody's guess, so all
//! of them go. Each page is judged by itself; the same name on two pages is not seen.

use std::collections::HashMap;
use std::ops::Range;

use crate::message::era::Era;
use mcp_policy::json::{Fault, Kind, Scanner};
use mcp_policy::lookalike::is_lookalike;

use crate::message::edit::{Edit, apply};
use crate::message::mirrored::{self, Mirrored};
use crate::message::{ServerMessage, Unreadable, parse_server_with};

/// Names that are remembered. The names become metric labels, which are never forgotten.
const MAX_LISTED: usize = 1024;
/// The longest name that is remembered, in bytes: twice what the protocol asks servers to keep to.
const MAX_LISTED_NAME: usize = 256;

/// A `cacheScope` that lets no cache share the list.
const PRIVATE: &str = r#""private""#;

/// How long clients may do with a list that they have. They are told of a change of policy where they listen, and otherwise see it
/// after this time; what they call meanwhile is judged by the new policy in any case.
const MAX_CACHED_MS: u64 = 30_000;

const RESULT_KEYS: &[&str] = &["tools", "nextCursor", "cacheScope", "ttlMs", "resultType", "_meta"];
const TOOL_KEYS: &[&str] = &["name"];

/// A list of tools that a client may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The message to forward instead; none where it passes as it came.
    pub changed: Option<Vec<u8>>,
    /// Every tool that the server listed, also those that went.
    pub tools: Vec<Listed>,
    /// How many tools went.
    pub removed: usize,
}

/// Filters the result of a `tools/list`: a JSON body, or the data of one event. `lists` tells of each name whether the client may see it.
pub fn filter(message: &[u8], era: Era, mut lists: impl FnMut(&str) -> bool) -> Result<List, Unreadable> {
    let mut found = Found::default();
    let parsed = parse_server_with(message, |scanner| found.read(scanner))?;
    let (ServerMessage::Result { .. }, Some(tools), false) = (parsed, found.tools, found.unreadable) else { return Err(Unreadable::new()) };
    let shown = tools.shown(&mut lists);
    let removed = shown.iter().filter(|shown| !**shown).count();
    let mut edits = Vec::new();
    if removed > 0 {
        edits.push(tools.edit(message, &shown));
    }
    edits.extend(private_cache(found.cache_scope, found.start, era));
    edits.extend(found.long_cache.map(|place| Edit { place, text: MAX_CACHED_MS.to_string().into() }));
    let changed = (!edits.is_empty()).then(|| apply(message, edits));
    let tools = tools.entries.into_iter().filter_map(|entry| Some(Listed { name: entry.name?, mirrored: entry.mirrored })).collect();
    Ok(List { changed, tools, removed })
}

/// A tool that the server listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its arguments that clients repeat in headers.
    pub mirrored: Vec<Mirrored>,
}

/// What matters in a result, and where it stands.
#[derive(Default)]
struct Found {
    /// Where the members of the result begin.
    start: usize,
    tools: Option<Tools>,
    cache_scope: Option<CacheScope>,
    /// Where it says how long the list may be cached, if that is too long.
    long_cache: Option<Range<usize>>,
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
    mirrored: Vec<Mirrored>,
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
                ("ttlMs", _) => {
                    let place = scanner.value()?;
                    let is_short = scanner.source(place.clone()).parse::<u64>().is_ok_and(|ttl| ttl <= MAX_CACHED_MS);
                    self.long_cache = (!is_short).then_some(place);
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
            let mut mirrored = Vec::new();
            if kind == Kind::Object {
                scanner.object(|scanner, key| {
                    if key == "name" && scanner.kind()? == Kind::String {
                        name = Some(scanner.string()?.into_owned());
                        return Ok(());
                    }
                    if key == "inputSchema" {
                        return mirrored::read_schema(scanner, &mut mirrored);
                    }
                    self.unreadable |= is_lookalike(key, TOOL_KEYS);
                    scanner.value().map(drop)
                })?;
            } else {
                scanner.value()?;
            }
            entries.push(Entry { place: start..scanner.position(), name, mirrored });
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

/// The tools that the server has listed: their names may be called though they are unusual (rule 5), and may be labels of metrics.
/// Bounded; what comes after the bound is reached is not remembered.
#[derive(Debug, Default)]
pub struct ListedTools {
    tools: HashMap<Box<str>, Box<[Mirrored]>>,
}

impl ListedTools {
    /// Remembers the tools of one list. What a tool's last definition says holds.
    pub fn learn(&mut self, listed: Vec<Listed>) {
        for Listed { name, mirrored } in listed {
            if let Some(known) = self.tools.get_mut(name.as_str()) {
                *known = mirrored.into();
            } else if !self.is_full() && name.len() <= MAX_LISTED_NAME {
                self.tools.insert(name.into(), mirrored.into());
            }
        }
    }

    /// Whether the server has listed this very name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tools.contains_key(name)
    }

    /// The arguments of the tool that clients repeat in headers.
    #[must_use]
    pub fn mirrored(&self, name: &str) -> &[Mirrored] {
        self.tools.get(name).map_or(&[], |mirrored| mirrored)
    }

    /// Whether one of the tools is such that `holds`; or could be, for not all of them are remembered.
    pub fn any(&self, mut holds: impl FnMut(&str) -> bool) -> bool {
        self.is_full() || self.tools.keys().any(|name| holds(name))
    }

    fn is_full(&self) -> bool {
        self.tools.len() >= MAX_LISTED
    }
}

#[cfg(test)]
mod tests;
