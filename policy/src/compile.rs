//! Document -> policy: every check that can be made before a call comes. What compiles can be enforced.

pub(crate) mod error;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::error::{CompileError, CompileErrors};
use crate::caller_match::CallerMatch;
use crate::compiled::{CompiledEntry, CompiledLimit, CompiledRule, Glob, Policy, Rules};
use crate::condition::Condition;
use crate::document::{self, Action, Document, Limit, OnStoreError, Rule, Scope, Window};
use crate::limit::CounterId;
use crate::number::Decimal;
use crate::path::Path;
use crate::pattern;
use crate::pointer::escape;
use crate::policy_id::PolicyId;
use crate::regexp::Regexps;
use crate::resource::Mode;
use crate::schema::ArgumentsSchema;
use crate::whom::Whom;

const MAX_HIDE: usize = 256;
const MAX_TOOLS: usize = 512;
const MAX_METHODS: usize = 128;
const MAX_LIMITS: usize = 16;
const MAX_CONDITIONS: usize = 32;
const MAX_ARGUMENT_BYTES: u64 = 4 * 1024 * 1024;
const MAX_DIGITS: usize = 15;
const MAX_TIMEOUT_SECONDS: u64 = 24 * 3600;
/// Clients give up a request after about this time.
const MAX_WAIT_SECONDS: u64 = 60;
/// For how long a person is asked where nothing is said.
pub(crate) const DEFAULT_TIMEOUT_SECONDS: u64 = 15 * 60;
const MAX_PATTERN_CHARACTERS: usize = 128;
const MAX_COUNTER_CHARACTERS: usize = 256;
const MAX_REASON_CHARACTERS: usize = 512;

/// Compiles a document.
pub fn compile(id: PolicyId, document: &Document) -> Result<Policy, CompileErrors> {
    let mut compiler = Compiler { id, errors: Vec::new(), warnings: Vec::new(), counters: BTreeMap::new(), regexps: Regexps::default() };
    let Document { version: _, default, hide, all_tools, tools, methods, approvals } = document;

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

    compiler.bound("methods", "entries", methods.len(), MAX_METHODS);
    for key in methods.keys() {
        let path = format!("methods.{key}");
        compiler.pattern(&path, key);
        if key == "tools/call" {
            compiler.error(path, "calls are governed by `tools`, `hide` and `default`");
        }
    }
    let approvals = approvals.clone().unwrap_or_default();
    if approvals.approvers.is_some_and(|approvers| !(1..=2).contains(&approvers)) {
        compiler.error("approvals.approvers", "must be 1 or 2");
    }
    let wait = approvals.wait.as_ref().map_or(Some(0), |wait| wait.seconds().filter(|seconds| *seconds <= MAX_WAIT_SECONDS));
    if wait.is_none() {
        compiler.error(
            "approvals.wait",
            "is not a time to hold a call open: write a duration like 20s, or whole seconds; from 1 second to 1 minute",
        );
    }
    compiler.never_act(document);

    if !compiler.errors.is_empty() {
        return Err(CompileErrors(compiler.errors));
    }
    let rules = Rules {
        default: *default,
        hide: hide.clone(),
        all_tools,
        exact,
        globs,
        methods: methods.clone(),
        shown: approvals.arguments,
        wait_seconds: wait.unwrap_or(0),
    };
    Ok(Policy { id: compiler.id, rules: Some(rules), whom: Whom::default(), mode: Mode::Enforce, warnings: compiler.warnings })
}

/// Compiles a document with what its resource says of it. Gathers every error, each with the path of its field below `spec`.
pub fn compile_resource(id: PolicyId, from: Option<&[CallerMatch]>, mode: Mode, document: &Document) -> Result<Policy, CompileErrors> {
    match (Whom::compile(from), compile(id, document)) {
        (Ok(whom), Ok(policy)) => Ok(Policy { whom, mode, ..policy }),
        (whom, policy) => Err(CompileErrors([whom.err(), policy.err()].into_iter().flatten().flat_map(|errors| errors.0).collect())),
    }
}

struct Compiler {
    id: PolicyId,
    errors: Vec<CompileError>,
    warnings: Vec<String>,
    /// Counters by name, as the first rule that named each one declared it.
    counters: BTreeMap<String, Declared>,
    regexps: Regexps,
}

struct Declared {
    path: String,
    counter: Arc<CounterId>,
    max: u128,
    /// As the rule wrote it.
    written_max: String,
    on_store_error: OnStoreError,
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
        let Rule { action, reason, arguments, require, deny_if, approve_if, limits, rate_limit } = rule;
        self.reason(&format!("{path}.reason"), reason.as_deref());
        let arguments = arguments.as_ref();
        let max_bytes = arguments.and_then(|arguments| arguments.max_bytes);
        if max_bytes.is_some_and(|max| max > MAX_ARGUMENT_BYTES) {
            self.error(format!("{path}.arguments.maxBytes"), format!("is at most {MAX_ARGUMENT_BYTES}: no message is longer"));
        }
        let schema = arguments.and_then(|arguments| arguments.schema.as_ref()).and_then(|schema| {
            ArgumentsSchema::compile(schema, &mut self.regexps)
                .map_err(|(place, message)| {
                    let dot = if place.is_empty() { "" } else { "." };
                    self.error(format!("{path}.arguments.schema{dot}{place}"), message);
                })
                .ok()
        });
        self.bound(&format!("{path}.require"), "conditions", require.len(), MAX_CONDITIONS);
        let required = self.conditions(&format!("{path}.require"), require);
        let refusing = deny_if.iter().map(|entry| (&entry.conditions, entry.reason.as_deref(), None));
        let refusing = self.entries(&format!("{path}.denyIf"), refusing);
        for (i, _) in deny_if.iter().enumerate().filter(|(_, entry)| entry.conditions.is_empty()) {
            self.warnings.push(format!(
                "{path}.denyIf[{i}].conditions: an empty list always holds, so every call is refused; `action: deny` says so"
            ));
        }
        let asking = approve_if.iter().map(|entry| (&entry.conditions, entry.reason.as_deref(), entry.timeout.as_ref()));
        let asking = self.entries(&format!("{path}.approveIf"), asking);
        self.bound(&format!("{path}.limits"), "limits", limits.len(), MAX_LIMITS);
        let mut compiled = Vec::with_capacity(limits.len() + usize::from(rate_limit.is_some()));
        for (i, limit) in limits.iter().enumerate() {
            let pointer = format!("{pointer}/limits/{}", escape(&limit.counter));
            compiled.extend(self.limit(&format!("{path}.limits[{i}]"), pointer, limit));
        }
        if let Some(rate_limit) = rate_limit {
            let limit = Limit {
                counter: format!("{key}_rate"),
                window: rate_limit.window.clone(),
                max: rate_limit.max.into(),
                scope: Scope::Session,
                increment_from: None,
                on_store_error: OnStoreError::default(),
            };
            compiled.extend(self.limit(&format!("{path}.rateLimit"), format!("{pointer}/rateLimit"), &limit));
        }
        if action.refuses() {
            let action = if *action == Action::Deny { "deny" } else { "hide" };
            let written = [
                ("arguments", arguments.is_some()),
                ("require", !require.is_empty()),
                ("denyIf", !deny_if.is_empty()),
                ("approveIf", !approve_if.is_empty()),
                ("limits", !limits.is_empty()),
                ("rateLimit", rate_limit.is_some()),
            ];
            for (field, _) in written.iter().filter(|(_, written)| *written) {
                self.warnings.push(format!("{path}.{field}: never acts beside action: {action}"));
            }
            if action == "hide" && reason.is_some() {
                self.warnings.push(format!("{path}.reason: never told, since a hidden tool is answered as an unknown one"));
            }
        }
        CompiledRule {
            pointer: pointer.to_owned(),
            action: *action,
            reason: reason.clone(),
            max_bytes,
            schema,
            require: required,
            deny_if: refusing,
            approve_if: asking,
            limits: compiled,
        }
    }

    fn reason(&mut self, path: &str, reason: Option<&str>) {
        let characters = reason.map_or(0, |reason| reason.chars().count());
        if characters > MAX_REASON_CHARACTERS {
            self.error(path, format!("has at most {MAX_REASON_CHARACTERS} characters; this one has {characters}"));
        }
    }

    /// Entries of `denyIf` or `approveIf`, each with its conditions, reason and timeout.
    fn entries<'a>(
        &mut self,
        path: &str,
        entries: impl ExactSizeIterator<Item = (&'a Vec<document::Condition>, Option<&'a str>, Option<&'a Window>)>,
    ) -> Vec<CompiledEntry> {
        self.bound(path, "entries", entries.len(), MAX_CONDITIONS);
        let mut compiled = Vec::with_capacity(entries.len());
        for (i, (conditions, reason, timeout)) in entries.enumerate() {
            let path = format!("{path}[{i}]");
            self.reason(&format!("{path}.reason"), reason);
            self.bound(&format!("{path}.conditions"), "conditions", conditions.len(), MAX_CONDITIONS);
            let conditions = self.conditions(&format!("{path}.conditions"), conditions);
            let timeout_seconds = timeout
                .map_or(Some(DEFAULT_TIMEOUT_SECONDS), |timeout| timeout.seconds().filter(|seconds| *seconds <= MAX_TIMEOUT_SECONDS));
            if timeout_seconds.is_none() {
                let wrong = "is not a time to wait for a person: write a duration like 90s, 15m or 12h, or whole seconds; from 1 second to 24 hours";
                self.error(format!("{path}.timeout"), wrong);
            }
            let timeout_seconds = timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
            compiled.push(CompiledEntry { conditions, reason: reason.map(str::to_owned), timeout_seconds });
        }
        compiled
    }

    fn conditions(&mut self, path: &str, conditions: &[document::Condition]) -> Vec<Condition> {
        let mut compiled = Vec::with_capacity(conditions.len());
        for (i, condition) in conditions.iter().enumerate() {
            match Condition::compile(condition, &mut self.regexps) {
                Ok(condition) => compiled.push(condition),
                Err(errors) => {
                    for (field, message) in errors {
                        let dot = if field.is_empty() { "" } else { "." };
                        self.error(format!("{path}[{i}]{dot}{field}"), message);
                    }
                }
            }
        }
        compiled
    }

    fn limit(&mut self, path: &str, pointer: String, limit: &Limit) -> Option<CompiledLimit> {
        let Limit { counter: name, window, max: written_max, scope, increment_from, on_store_error } = limit;
        let characters = name.chars().count();
        if characters == 0 || characters > MAX_COUNTER_CHARACTERS {
            self.error(format!("{path}.counter"), format!("a counter's name has 1 to {MAX_COUNTER_CHARACTERS} characters"));
        }
        let amount = increment_from.as_ref().and_then(|text| match Path::parse(text) {
            Ok(amount) if amount.has_wildcard() => {
                self.error(format!("{path}.incrementFrom"), "must lead to one value, so `[*]` cannot stand in it");
                None
            }
            Ok(amount) => Some(amount),
            Err(message) => {
                self.error(format!("{path}.incrementFrom"), message);
                None
            }
        });
        let max = self.max(&format!("{path}.max"), written_max, increment_from.is_some());
        let Some(window_seconds) = window.seconds() else {
            self.error(format!("{path}.window"), describe_window(window));
            return None;
        };
        let counter =
            CounterId::new(self.id.clone(), name.as_str().into(), window_seconds, *scope, increment_from.as_deref().map(Into::into));
        let max = max?;
        if let Some(declared) = self.counters.get(name) {
            if declared.max != max || *declared.counter != counter || declared.on_store_error != *on_store_error {
                let from = declared.counter.increment_from.as_ref().map_or_else(String::new, |from| format!(", incrementFrom {from}"));
                let message = format!(
                    "counter `{name}` is shared with {}, which says window {}s, max {}, scope {}{from}; rules that share a counter must agree",
                    declared.path,
                    declared.counter.window_seconds,
                    declared.written_max,
                    declared.counter.scope.as_str()
                );
                self.error(path, message);
                return None;
            }
            return Some(CompiledLimit { pointer, counter: Arc::clone(&declared.counter), max, amount, on_store_error: *on_store_error });
        }
        let counter = Arc::new(counter);
        let declared = Declared {
            path: path.to_owned(),
            counter: Arc::clone(&counter),
            max,
            written_max: written_max.to_string(),
            on_store_error: *on_store_error,
        };
        self.counters.insert(name.clone(), declared);
        Some(CompiledLimit { pointer, counter, max, amount, on_store_error: *on_store_error })
    }

    /// A limit's `max` in units.
    fn max(&mut self, path: &str, written: &serde_json::Number, may_have_fraction: bool) -> Option<u128> {
        // It prints as a JSON number.
        let max = Decimal::parse(&written.to_string()).unwrap_or_else(Decimal::zero);
        let wrong = if max.is_negative() {
            "must not be negative"
        } else if max.is_beyond_exact() {
            "is at most 2^53"
        } else if !may_have_fraction && !max.is_whole() {
            "counts calls, so it is a whole number; only beside `incrementFrom` can it have a fraction"
        } else if max.significant_digits() > MAX_DIGITS {
            "has at most 15 significant digits"
        } else {
            return max.to_units();
        };
        self.error(path, wrong);
        None
    }

    /// Warns of entries that `hide` always wins over.
    fn never_act(&mut self, document: &Document) {
        for key in document.tools.keys() {
            if let Some(i) = document.hide.iter().position(|hidden| pattern::covers(hidden, key)) {
                self.warnings.push(format!("tools.{key}: never acts: hide[{i}] hides every tool that it matches"));
            }
        }
    }
}

fn describe_window(window: &Window) -> String {
    format!(
        "`{window}` is not a window: write minute, hour, day, a duration like 90s, 15m, 12h or 7d, or whole seconds; from 1 second to 31 days"
    )
}
