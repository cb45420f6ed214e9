//! Document -> policy: every check that can be made before a call comes. What compiles can be enforced.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::document::{Action, DefaultAction, Document, Limit, Rule, Scope, Window};
use crate::limit::CounterId;
use crate::pattern;
use crate::policy_id::PolicyId;

const MAX_HIDE: usize = 256;
const MAX_TOOLS: usize = 512;
const MAX_LIMITS: usize = 16;
const MAX_LIMIT: u64 = 1_000_000_000;
const MAX_PATTERN_CHARACTERS: usize = 128;
const MAX_COUNTER_CHARACTERS: usize = 256;
const MAX_REASON_CHARACTERS: usize = 512;

/// A compiled policy. Cannot be invalid: only [`compile()`] and [`Policy::refusing`] make one.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) id: PolicyId,
    pub(crate) rules: Option<Rules>,
    warnings: Vec<String>,
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
    pub limits: Vec<CompiledLimit>,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledLimit {
    pub pointer: String,
    pub counter: Arc<CounterId>,
    pub max: u64,
}

impl Policy {
    /// Stands for a policy of which no revision was ever accepted: it refuses every call.
    #[must_use]
    pub fn refusing(id: PolicyId) -> Self {
        Self { id, rules: None, warnings: Vec::new() }
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

/// Everything that is wrong with a document, in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CompileErrors(pub Vec<CompileError>);

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// One field that cannot be enforced as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct CompileError {
    /// The field: `tools.start_job.limits[0].window`.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// Compiles a document.
pub fn compile(id: PolicyId, document: &Document) -> Result<Policy, CompileErrors> {
    let mut compiler = Compiler { id, errors: Vec::new(), warnings: Vec::new(), counters: BTreeMap::new() };
    let Document { version: _, default, hide, all_tools, tools } = document;

    compiler.bound("hide", "patterns", hide.len(), MAX_HIDE);
    for (i, pattern) in hide.iter().enumerate() {
        compiler.pattern(&format!("hide[{i}]"), pattern);
    }
    let all_tools = all_tools.as_ref().map(|rule| compiler.rule("allTools", "/allTools", "allTools", rule));

    compiler.bound("tools", "entries", tools.len(), MAX_TOOLS);
    let mut exact = HashMap::new();
    let mut globs = Vec::new();
    for (key, rule) in tools {
        let path = format!("tools.{key}");
        compiler.pattern(&path, key);
        let rule = compiler.rule(&path, &format!("/tools/{}", escape(key)), key, rule);
        if pattern::is_glob(key) {
            globs.push(Glob { pattern: key.clone(), literal_characters: pattern::literal_characters(key), rule });
        } else {
            exact.insert(key.clone(), rule);
        }
    }
    // Keys come in order and the sort is stable, so equals stay in the order of their keys.
    globs.sort_by_key(|glob| std::cmp::Reverse(glob.literal_characters));

    if !compiler.errors.is_empty() {
        return Err(CompileErrors(compiler.errors));
    }
    let rules = Rules { default: *default, hide: hide.clone(), all_tools, exact, globs };
    Ok(Policy { id: compiler.id, rules: Some(rules), warnings: compiler.warnings })
}

/// A token of a JSON pointer (RFC 6901).
fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

struct Compiler {
    id: PolicyId,
    errors: Vec<CompileError>,
    warnings: Vec<String>,
    /// Counters by name, as the first rule that named each one declared it.
    counters: BTreeMap<String, Declared>,
}

struct Declared {
    path: String,
    counter: Arc<CounterId>,
    max: u64,
}

impl Compiler {
    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push(CompileError { path: path.into(), message: message.into() });
    }

    fn bound(&mut self, path: &str, what: &str, count: usize, max: usize) {
        if count > max {
            self.error(path, format!("has {count} {what}; at most {max} are allowed"));
        }
    }

    fn pattern(&mut self, path: &str, pattern: &str) {
        let characters = pattern.chars().count();
        if characters == 0 {
            self.error(path, "a pattern must not be empty; `*` matches every tool");
        } else if characters > MAX_PATTERN_CHARACTERS {
            self.error(path, format!("a pattern has at most {MAX_PATTERN_CHARACTERS} characters; this one has {characters}"));
        }
    }

    fn rule(&mut self, path: &str, pointer: &str, key: &str, rule: &Rule) -> CompiledRule {
        let Rule { action, reason, limits, rate_limit } = rule;
        if let Some(reason) = reason {
            let characters = reason.chars().count();
            if characters > MAX_REASON_CHARACTERS {
                self.error(format!("{path}.reason"), format!("has at most {MAX_REASON_CHARACTERS} characters; this one has {characters}"));
            }
        }
        self.bound(&format!("{path}.limits"), "limits", limits.len(), MAX_LIMITS);
        let mut compiled = Vec::with_capacity(limits.len() + usize::from(rate_limit.is_some()));
        for (i, limit) in limits.iter().enumerate() {
            let pointer = format!("{pointer}/limits/{}", escape(&limit.counter));
            compiled.extend(self.limit(&format!("{path}.limits[{i}]"), pointer, limit));
        }
        if let Some(rate_limit) = rate_limit {
            let limit =
                Limit { counter: format!("{key}_rate"), window: rate_limit.window.clone(), max: rate_limit.max, scope: Scope::Session };
            compiled.extend(self.limit(&format!("{path}.rateLimit"), format!("{pointer}/rateLimit"), &limit));
        }
        if *action != Action::Allow {
            let action = if *action == Action::Deny { "deny" } else { "hide" };
            for (field, written) in [("limits", !limits.is_empty()), ("rateLimit", rate_limit.is_some())] {
                if written {
                    self.warnings.push(format!("{path}.{field}: never acts beside action: {action}"));
                }
            }
            if action == "hide" && reason.is_some() {
                self.warnings.push(format!("{path}.reason: never told, since a hidden tool is answered as an unknown one"));
            }
        }
        CompiledRule { pointer: pointer.to_owned(), action: *action, reason: reason.clone(), limits: compiled }
    }

    fn limit(&mut self, path: &str, pointer: String, limit: &Limit) -> Option<CompiledLimit> {
        let Limit { counter: name, window, max, scope } = limit;
        let characters = name.chars().count();
        if characters == 0 || characters > MAX_COUNTER_CHARACTERS {
            self.error(format!("{path}.counter"), format!("a counter's name has 1 to {MAX_COUNTER_CHARACTERS} characters"));
        }
        if *max > MAX_LIMIT {
            self.error(format!("{path}.max"), format!("is at most {MAX_LIMIT}"));
        }
        let Some(window_seconds) = window.seconds() else {
            self.error(format!("{path}.window"), describe_window(window));
            return None;
        };
        if let Some(declared) = self.counters.get(name) {
            let same = declared.max == *max && declared.counter.window_seconds == window_seconds && declared.counter.scope == *scope;
            if !same {
                let message = format!(
                    "counter `{name}` is shared with {}, which says window {}s, max {}, scope {}; rules that share a counter must agree",
                    declared.path,
                    declared.counter.window_seconds,
                    declared.max,
                    declared.counter.scope.as_str()
                );
                self.error(path, message);
                return None;
            }
            return Some(CompiledLimit { pointer, counter: Arc::clone(&declared.counter), max: *max });
        }
        let counter = Arc::new(CounterId { policy: self.id.clone(), name: name.as_str().into(), window_seconds, scope: *scope });
        self.counters.insert(name.clone(), Declared { path: path.to_owned(), counter: Arc::clone(&counter), max: *max });
        Some(CompiledLimit { pointer, counter, max: *max })
    }
}

fn describe_window(window: &Window) -> String {
    format!(
        "`{window}` is not a window: write minute, hour, day, a duration like 90s, 15m, 12h or 7d, or whole seconds; from 1 second to 31 days"
    )
}
