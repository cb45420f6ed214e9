//! The members that a schema names, and where: a look-alike of one of them is a member that the schema does not see and some servers
//! read. Under `not` or `if` a missing member changes the answer either way, so this is asked of the arguments first.

use std::collections::HashMap;

use serde_json::Value;

use super::walk::Part;
use crate::lookalike::folded;

/// The members that each part of a schema names.
pub(super) struct Names(Vec<Named>);

#[derive(Default)]
struct Named {
    /// By name, the parts that are asked about the member.
    members: HashMap<String, Vec<usize>>,
    /// The names as those see them who overlook the most, in order.
    folded: Vec<u64>,
    same_value: Vec<usize>,
    parts_of_value: Vec<usize>,
}

impl Names {
    /// Those of a schema's parts, of which the whole is the first.
    pub fn of(parts: Vec<Part>) -> Self {
        let named = |Part { members, same_value, parts_of_value, .. }: Part| {
            let mut folded: Vec<_> = members.keys().map(|name| folded(name)).collect();
            folded.sort_unstable();
            Named { members, folded, same_value, parts_of_value }
        };
        Self(parts.into_iter().map(named).collect())
    }

    /// A JSON pointer to the first object with a look-alike of a member that the schema names there. It takes no notice of the
    /// alternatives of a schema: what one of them names is named.
    pub fn lookalike(&self, arguments: &Value) -> Option<String> {
        if self.0.iter().all(|part| part.members.is_empty()) {
            return None;
        }
        self.search(arguments, &self.with_same_value([0]))
    }

    /// The parts, and all that are asked about the same value because of them.
    fn with_same_value(&self, parts: impl IntoIterator<Item = usize>) -> Vec<&Named> {
        let mut asked: Vec<usize> = Vec::new();
        let mut open: Vec<usize> = parts.into_iter().collect();
        while let Some(part) = open.pop() {
            if let Err(at) = asked.binary_search(&part) {
                asked.insert(at, part);
                open.extend(self.0.get(part).into_iter().flat_map(|part| &part.same_value));
            }
        }
        asked.into_iter().filter_map(|part| self.0.get(part)).collect()
    }

    /// Recursion ends with the value, whose depth is bounded.
    fn search(&self, value: &Value, parts: &[&Named]) -> Option<String> {
        if parts.is_empty() {
            return None;
        }
        let others = || parts.iter().flat_map(|part| &part.parts_of_value).copied();
        match value {
            Value::Object(members) => members.iter().find_map(|(key, member)| {
                if parts.iter().any(|part| part.has_lookalike(key)) {
                    return Some(String::new());
                }
                if !member.is_object() && !member.is_array() {
                    return None;
                }
                let named = parts.iter().filter_map(|part| part.members.get(key)).flatten().copied();
                let below = self.search(member, &self.with_same_value(others().chain(named)))?;
                Some(format!("/{}{below}", crate::pointer::escape(key)))
            }),
            Value::Array(elements) => {
                let parts = self.with_same_value(others());
                let below = |(i, element)| self.search(element, &parts).map(|below| format!("/{i}{below}"));
                elements.iter().enumerate().find_map(below)
            }
            _ => None,
        }
    }
}

impl Named {
    /// Whether the key is a look-alike of a member that the part names, and none of those.
    fn has_lookalike(&self, key: &str) -> bool {
        !self.folded.is_empty() && !self.members.contains_key(key) && self.folded.binary_search(&folded(key)).is_ok()
    }
}
