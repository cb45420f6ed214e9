//! A policy as it is enforced: what [`compile()`](crate::compile()) makes of a document, laid out for look-up by the name of a tool.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::condition::Condition;
use crate::document::{Action, DefaultAction, MethodAction, OnStoreError, Shown};
use crate::limit::CounterId;
use crate::path::Path;
use crate::pattern;
use crate::policy_id::PolicyId;
use crate::resource::Mode;
use crate::schema::ArgumentsSchema;
use crate::whom::Whom;

/// A compiled policy. Cannot be invalid: only [`compile()`](crate::compile()) and [`Policy::refusing`] make one.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) rules: Option<Rules>,
    pub(crate) whom: Whom,
    pub(crate) mode: Mode,
    pub(crate) warnings: Vec<String>,
}

/// What an accepted policy says, laid out for look-up by tool name.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub default: DefaultAction,
    pub hide: Vec<String>,
    pub all_tools: Option<CompiledRule>,
    pub exact: HashMap<String, CompiledRule>,
    /// Closest first: by literal characters, then by key.
    pub globs: Vec<Glob>,
    pub methods: BTreeMap<String, MethodAction>,
    /// What people see of the arguments of a call that waits for them.
    pub shown: Shown,
    /// For how long calls that wait for people are held open; 0: not at all.
    pub wait_seconds: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Glob {
    pub pattern: String,
    pub literal_characters: usize,
    pub rule: CompiledRule,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    /// RFC 6901 pointer to the rule.
    pub pointer: String,
    pub action: Action,
    pub reason: Option<String>,
    pub max_bytes: Option<u64>,
    pub schema: Option<ArgumentsSchema>,
    pub require: Vec<Condition>,
    pub deny_if: Vec<CompiledEntry>,
    pub approve_if: Vec<CompiledEntry>,
    pub limits: Vec<CompiledLimit>,
}

/// An entry of `denyIf` or `approveIf`.
#[derive(Clone, Debug)]
pub(crate) struct CompiledEntry {
    pub conditions: Vec<Condition>,
    pub reason: Option<String>,
    /// For how long a person is asked, if one is.
    pub timeout_seconds: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledLimit {
    pub pointer: String,
    pub counter: Arc<CounterId>,
    /// In units of 10^-18.
    pub max: u128,
    /// Where the amount of a call stands; none where each call counts 1.
    pub amount: Option<Path>,
    pub on_store_error: OnStoreError,
}

impl Policy {
    /// Stands for a policy of which no revision was ever accepted: it refuses every call.
    #[must_use]
    pub fn refusing(id: PolicyId) -> Self {
        Self { id, rules: None, whom: Whom::default(), mode: Mode::Enforce, warnings: Vec::new() }
    }

    /// The policy in this mode; [`compile()`](crate::compile()) makes one that enforces.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Whether the policy refuses, or only says what it would do.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Name of the policy.
    #[must_use]
    pub fn id(&self) -> &PolicyId {
        &self.id
    }

    /// What its author may not have meant: fields that can never act. Each names the field.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether any rule has a limit.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.limits().next().is_some()
    }

    /// Every limit, a shared counter as often as it is named.
    pub(crate) fn limits(&self) -> impl Iterator<Item = &CompiledLimit> {
        self.rules.iter().flat_map(Rules::limits)
    }
}

impl Rules {
    fn limits(&self) -> impl Iterator<Item = &CompiledLimit> {
        let globs = self.globs.iter().map(|glob| &glob.rule);
        self.exact.values().chain(globs).chain(&self.all_tools).flat_map(|rule| &rule.limits)
    }
}

/// The entry of `methods` that holds for a method: the exact key, else the glob with the most literal characters; of equals the
/// one that denies.
pub(crate) fn methods_verdict<'a>(methods: &'a BTreeMap<String, MethodAction>, method: &str) -> Option<(&'a str, MethodAction)> {
    if let Some((key, action)) = methods.get_key_value(method) {
        return Some((key, *action));
    }
    let matching = methods.iter().filter(|(key, _)| pattern::matches(key, method));
    // `max_by_key` gives the last of equals, and is asked from the last key to the first.
    matching
        .rev()
        .max_by_key(|(key, action)| (pattern::literal_characters(key), **action == MethodAction::Deny))
        .map(|(key, action)| (key.as_str(), *action))
}
