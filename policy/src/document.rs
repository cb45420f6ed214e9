//! The grammar of a policy document, as data and nothing more: what it means is [`crate::compile()`]'s and
//! [`crate::Policies::decide`]'s.
//!
//! Doc comments of fields are the texts of `kubectl explain`. Unknown fields are refused everywhere.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

mod window;

pub use window::{Window, duration_seconds};

/// A policy document: the part of an `McpPolicy` from `version` down, and all of a bare policy file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Version of the policy grammar. A string; "1" is the only one.
    #[serde(default)]
    pub version: Version,

    /// What holds for a tool that no entry of `tools` matches: `deny` (the default) or `allow`.
    #[serde(default)]
    pub default: DefaultAction,

    /// Tools that do not exist for the caller: not listed, and refused as if unknown, whatever an entry of `tools` says.
    /// Each is an exact name or a glob with `*` (any characters) and `?` (one).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 128)))]
    pub hide: Vec<String>,

    /// A rule for every call, in addition to the tool's own rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_tools: Option<Rule>,

    /// Rules by tool. A key is an exact name, or a glob with `*` and `?`; case matters. The exact key wins, otherwise the glob
    /// with the most literal characters. `{}` allows the tool without checks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 512))]
    pub tools: BTreeMap<String, Rule>,

    /// What holds for every MCP method but `tools/call`: `resources/read`, `prompts/get`, `sampling/createMessage` and so on. A
    /// key is an exact name, or a glob with `*` and `?`; the exact key wins, otherwise the glob with the most literal characters.
    /// Methods of the supported MCP revisions that no key matches are allowed, all others denied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 128))]
    pub methods: BTreeMap<String, MethodAction>,

    /// How people are asked about calls that wait for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<ApprovalSettings>,
}

/// How people are asked about calls that wait for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalSettings {
    /// What the people who are asked see of the arguments: their `keys` (the default), their `values` too, or only the `digest`.
    #[serde(default)]
    pub arguments: Shown,

    /// How many people must approve each call: 1 (the default) or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub approvers: Option<u8>,

    /// For how long a call is held open while people are asked, so that it passes at once when they say yes; written as the window of a
    /// limit; from 1 second to 1 minute. Default: it is answered at once, and the agent calls again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Window>,
}

/// What people see of the arguments of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// A digest only.
    Digest,
    /// Their names.
    #[default]
    Keys,
    /// Names and values.
    Values,
}

/// Version of the grammar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Version {
    /// The first version.
    #[default]
    #[serde(rename = "1")]
    V1,
}

/// What holds for tools without an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// Refused.
    #[default]
    Deny,
    /// Allowed.
    Allow,
}

/// What holds for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MethodAction {
    /// Passes.
    Allow,
    /// Answered with an error that says that a policy refused it.
    Deny,
}

/// What holds for calls of the tools that an entry matches. Empty: allowed, no checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// `allow` (the default): may be called, within the rest of this rule. `approve`: as `allow`, and each call waits for a person.
    /// `deny`: never, and the agent is told why. `hide`: never, as if the tool did not exist.
    #[serde(default, skip_serializing_if = "Action::is_allow")]
    pub action: Action,

    /// Told to the agent when this rule refuses a call, and to the person who is asked. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,

    /// What the arguments must be as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Arguments>,

    /// Conditions that must all hold, else the call is refused. A condition that cannot be decided refuses the call too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub require: Vec<Condition>,

    /// The call is refused when all conditions of one entry hold. A condition that cannot be decided refuses the call too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub deny_if: Vec<DenyIf>,

    /// The call waits for a person when all conditions of one entry hold. A condition that cannot be decided refuses the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub approve_if: Vec<ApproveIf>,

    /// Budgets of calls. A call must fit in every one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,

    /// Short for one limit with the counter `<key>_rate` (`allTools_rate` there) and the scope `session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// What a rule does with a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Allowed, within the rest of the rule.
    #[default]
    Allow,
    /// Allowed once a person has approved the very call, within the rest of the rule.
    Approve,
    /// Refused, and the agent is told why.
    Deny,
    /// Refused as if the tool did not exist, and not listed.
    Hide,
}

impl Action {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    fn is_allow(&self) -> bool {
        *self == Self::Allow
    }

    /// Whether every call is refused, whatever the rest of the rule says.
    #[must_use]
    pub fn refuses(self) -> bool {
        matches!(self, Self::Deny | Self::Hide)
    }
}

/// What the arguments of a call must be as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Arguments {
    /// A JSON Schema (2020-12) that the arguments must satisfy. No `$ref` to another document; at most 32 levels deep; `format`
    /// is asserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub schema: Option<serde_json::Value>,

    /// The most bytes that `arguments` may have, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4_194_304))]
    pub max_bytes: Option<u64>,
}

/// A condition on a call: either `path`, `op` and `value`, or `cel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// What is looked at: `args`, then any of `.name`, `["any key"]`, `[0]`, `[*]`. Of `[*]`, `require` needs all elements,
    /// `denyIf` and `approveIf` any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,

    /// How it is compared with `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<Op>,

    /// What it is compared with: any JSON value for `eq`, `neq` and `contains`; a list for `in` and `not_in`; a number for `lt`,
    /// `lte`, `gt` and `gte`; a regular expression for `regex`; `true` (the default) or `false` for `exists`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<serde_json::Value>,

    /// An expression in CEL over `args`, `tool`, `caller` and `server` that gives a boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub cel: Option<String>,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Equal as JSON; values of different types are unequal.
    Eq,
    /// Not equal as JSON.
    Neq,
    /// Equal to a member of the list.
    In,
    /// Equal to no member of the list.
    NotIn,
    /// A number below.
    Lt,
    /// A number below, or equal.
    Lte,
    /// A number above.
    Gt,
    /// A number above, or equal.
    Gte,
    /// A string in which the regular expression matches.
    Regex,
    /// A string with this substring, or an array with this member.
    Contains,
    /// There, or not.
    Exists,
}

/// Conditions that refuse a call when all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DenyIf {
    /// The conditions. An empty list always holds.
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,

    /// Told to the agent when this entry refuses a call, instead of the rule's reason. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
}

/// Conditions under which a call waits for a person: when all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveIf {
    /// The conditions. An empty list always holds.
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,

    /// Told to the agent and to the person who is asked, instead of the rule's reason. At most 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,

    /// For how long a person is asked, and the approval can be used, written as the window of a limit; from 1 second to 24 hours.
    /// Default: 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Window>,
}

/// A budget of calls over a sliding window: no interval of the window's length ever sees more than `max` calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// Name of the counter. Rules of one policy that name the same counter share it, and must agree on the rest.
    #[schemars(length(min = 1, max = 256))]
    pub counter: String,

    /// Length of the sliding window: `minute`, `hour`, `day`, a duration like `90s`, `15m` or `12h`, or a whole number of
    /// seconds; from 1 second to 31 days.
    pub window: Window,

    /// How many calls the window admits, a whole number; 0 admits none. With `incrementFrom`: the sum of the amounts that the
    /// window admits, which may have a fraction.
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub max: serde_json::Number,

    /// Who shares the budget: `grant` (the default): one caller; `session`: one MCP session; `server`: everyone who calls this
    /// server.
    #[serde(default)]
    pub scope: Scope,

    /// Path of the argument that is added to the counter instead of 1: money, tokens, rows. A call without it, or with a negative
    /// one, is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub increment_from: Option<String>,

    /// What happens while a shared counter store cannot tell what is used: `deny` (the default): calls are refused; `local`: this
    /// sidecar counts by itself, so each of them may let up to `max` pass. Without a shared store it says nothing.
    #[serde(default, skip_serializing_if = "OnStoreError::is_deny")]
    pub on_store_error: OnStoreError,
}

/// A budget of calls for each MCP session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// How many calls the window admits. 0 admits none.
    #[schemars(range(max = 1_000_000_000))]
    pub max: u64,

    /// Length of the sliding window: `minute`, `hour`, `day`, a duration like `90s`, `15m` or `12h`, or a whole number of
    /// seconds; from 1 second to 31 days.
    pub window: Window,
}

/// Who shares the budget of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One caller: what authentication proved, else the address that the connection comes from.
    #[default]
    Grant,
    /// One MCP session; where there is none, as [`Scope::Grant`].
    Session,
    /// All calls to the server.
    Server,
}

/// What happens while a shared counter store cannot tell what is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStoreError {
    /// Calls are refused: never more than `max`.
    #[default]
    Deny,
    /// Each sidecar counts by itself.
    Local,
}

impl OnStoreError {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    fn is_deny(&self) -> bool {
        *self == Self::Deny
    }
}

impl Scope {
    /// The scope as documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Session => "session",
            Self::Server => "server",
        }
    }
}

/// A value that is there is kept, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// Any JSON value, in the form that Kubernetes' structural schemas have for it.
fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// Any JSON object, in the form that Kubernetes' structural schemas have for it.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
