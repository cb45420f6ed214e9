//! A policy on its way from another format: the parts of a document in the order of the original, each with what is to be said about
//! it and the field that it comes from.

use mcp_policy::document::{Action, ApproveIf, Condition, DefaultAction, DenyIf, Document, Limit, RateLimit, Rule, Version};
use mcp_policy::read::FieldError;
use mcp_policy::{PolicyId, compile};

use super::difference::{self, Difference};
use super::source::Refusals;

/// A part of the draft.
#[derive(Clone, Debug)]
pub struct Noted<T> {
    /// The part.
    pub value: T,
    /// Comments that stand before it, one line or more each.
    pub notes: Vec<String>,
    /// What is different about it.
    pub differences: Vec<&'static Difference>,
    /// The field of the original that it comes from.
    pub origin: String,
}

/// The draft.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What the original says about itself.
    pub description: Option<String>,
    /// What is different about the whole.
    pub differences: Vec<&'static Difference>,
    /// What its reader must be told at once, beside the comments.
    pub warnings: Vec<FieldError>,
    pub default: Noted<DefaultAction>,
    pub hide: Vec<Noted<String>>,
    pub all_tools: Option<Noted<DraftRule>>,
    pub tools: Vec<(String, Noted<DraftRule>)>,
}

/// A rule of the draft.
#[derive(Clone, Debug, Default)]
pub struct DraftRule {
    pub action: Action,
    pub reason: Option<String>,
    /// Comments that stand before the reason.
    pub reason_notes: Vec<String>,
    pub require: Vec<Noted<Condition>>,
    pub deny_if: Vec<Noted<DraftEntry>>,
    pub approve_if: Vec<Noted<DraftEntry>>,
    pub limits: Vec<Noted<Limit>>,
    pub rate_limit: Option<Noted<RateLimit>>,
}

/// An entry of `denyIf` or `approveIf`.
#[derive(Clone, Debug)]
pub struct DraftEntry {
    pub conditions: Vec<Noted<Condition>>,
    pub reason: Option<String>,
}

impl<T> Noted<T> {
    pub fn new(value: T, origin: &str) -> Self {
        Self { value, notes: Vec::new(), differences: Vec::new(), origin: origin.to_owned() }
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says that this is different here.
    #[must_use]
    pub fn differing(mut self, difference: &'static Difference) -> Self {
        self.differences.push(difference);
        self
    }
}

impl DraftRule {
    /// Its entries of `denyIf` and `approveIf`.
    pub fn entries(&self) -> impl Iterator<Item = &Noted<DraftEntry>> {
        self.deny_if.iter().chain(&self.approve_if)
    }

    fn rule(&self) -> Rule {
        Rule {
            action: self.action,
            reason: self.reason.clone(),
            arguments: None,
            require: self.require.iter().map(|condition| condition.value.clone()).collect(),
            deny_if: self.deny_if.iter().map(|entry| entry.value.refusing()).collect(),
            approve_if: self.approve_if.iter().map(|entry| entry.value.asking()).collect(),
            limits: self.limits.iter().map(|limit| limit.value.clone()).collect(),
            rate_limit: self.rate_limit.as_ref().map(|limit| limit.value.clone()),
        }
    }
}

impl DraftEntry {
    fn conditions(&self) -> Vec<Condition> {
        self.conditions.iter().map(|condition| condition.value.clone()).collect()
    }

    fn refusing(&self) -> DenyIf {
        DenyIf { conditions: self.conditions(), reason: self.reason.clone() }
    }

    fn asking(&self) -> ApproveIf {
        ApproveIf { conditions: self.conditions(), reason: self.reason.clone(), timeout: None }
    }
}

impl Draft {
    /// The document that the draft makes.
    pub fn document(&self) -> Document {
        Document {
            version: Version::V1,
            default: self.default.value,
            hide: self.hide.iter().map(|pattern| pattern.value.clone()).collect(),
            all_tools: self.all_tools.as_ref().map(|rule| rule.value.rule()),
            tools: self.tools.iter().map(|(tool, rule)| (tool.clone(), rule.value.rule())).collect(),
            ..Document::default()
        }
    }

    /// Notes everything that mcp-policy would not accept, at the fields of the original.
    pub fn check(&self, name: &str, refusals: &mut Refusals) {
        let Err(errors) = compile(PolicyId::new(None, name), &self.document()) else { return };
        let origins = self.origins();
        refusals.0.extend(errors.0.into_iter().map(|error| {
            let rest = |path: &str| error.path.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            let origin = origins.iter().filter_map(|origin| Some((origin, rest(&origin.path)?))).min_by_key(|(_, rest)| rest.len());
            let path = match origin {
                Some((Origin { field, is_condition: true, .. }, rest)) => format!("{field}{rest}"),
                Some((Origin { field, .. }, _)) => (*field).to_owned(),
                None => error.path.clone(),
            };
            FieldError { path, message: error.message }
        }));
    }

    /// What is different about the whole or a part of it, in the order in which it is told.
    pub fn all_differences(&self) -> Vec<&'static Difference> {
        let mut found = self.differences.clone();
        found.extend(self.hide.iter().flat_map(|pattern| &pattern.differences));
        for rule in self.rules() {
            found.extend(&rule.differences);
            found.extend(rule.value.entries().flat_map(|entry| &entry.differences));
            found.extend(rule.value.limits.iter().flat_map(|limit| &limit.differences));
            found.extend(rule.value.rate_limit.iter().flat_map(|limit| &limit.differences));
        }
        found.extend(self.conditions().flat_map(|condition| &condition.differences));
        difference::ALL.into_iter().filter(|difference| found.contains(difference)).collect()
    }

    /// All rules.
    pub fn rules(&self) -> impl Iterator<Item = &Noted<DraftRule>> {
        self.all_tools.iter().chain(self.tools.iter().map(|(_, rule)| rule))
    }

    /// All conditions.
    pub fn conditions(&self) -> impl Iterator<Item = &Noted<Condition>> {
        self.rules().flat_map(|rule| rule.value.require.iter().chain(rule.value.entries().flat_map(|entry| &entry.value.conditions)))
    }

    /// Where the parts of the document come from.
    fn origins(&self) -> Vec<Origin<'_>> {
        fn origin<T>(path: String, part: &Noted<T>, is_condition: bool) -> Origin<'_> {
            Origin { path, field: &part.origin, is_condition }
        }
        let mut origins: Vec<_> = self.hide.iter().enumerate().map(|(i, pattern)| origin(format!("hide[{i}]"), pattern, false)).collect();
        let all_tools = self.all_tools.iter().map(|rule| ("allTools".to_owned(), rule));
        for (path, rule) in all_tools.chain(self.tools.iter().map(|(tool, rule)| (format!("tools.{tool}"), rule))) {
            let DraftRule { require, deny_if, approve_if, limits, rate_limit, .. } = &rule.value;
            origins.extend(require.iter().enumerate().map(|(i, condition)| origin(format!("{path}.require[{i}]"), condition, true)));
            for (field, entries) in [("denyIf", deny_if), ("approveIf", approve_if)] {
                for (i, entry) in entries.iter().enumerate() {
                    let path = format!("{path}.{field}[{i}]");
                    let conditions = entry.value.conditions.iter().enumerate();
                    origins.extend(conditions.map(|(j, condition)| origin(format!("{path}.conditions[{j}]"), condition, true)));
                    origins.push(origin(path, entry, false));
                }
            }
            origins.extend(limits.iter().enumerate().map(|(i, limit)| origin(format!("{path}.limits[{i}]"), limit, false)));
            origins.extend(rate_limit.iter().map(|limit| origin(format!("{path}.rateLimit"), limit, false)));
            origins.push(origin(path, rule, false));
        }
        origins
    }
}

/// Where a part of the document comes from.
struct Origin<'a> {
    /// The path of the part.
    path: String,
    /// The field of the original.
    field: &'a str,
    /// Whether its fields have the names that they have there.
    is_condition: bool,
}
