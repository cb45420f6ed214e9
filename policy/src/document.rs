//! The grammar of a policy document, as data and nothing more: what it means is [`crate::compile()`]'s and
//! [`crate::Policies::decide`]'s.
//!
//! Doc comments of fields are the texts of `kubectl explain`. Unknown fields are refused everywhere.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

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
    /// `allow` (the default): may be called, within the rest of this rule. `deny`: never, and the agent is told why.
    /// `hide`: never, as if the tool did not exist.
    #[serde(default, skip_serializing_if = "Action::is_allow")]
    pub action: Action,

    /// Told to the agent when this rule refuses a call. At most 512 characters.
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
    /// `denyIf` any of them.
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

/// The length of a sliding window, as written. [`Window::seconds`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Window {
    /// A whole number of seconds.
    Seconds(u64),
    /// `minute`, `hour`, `day`, or one number and one of `s`, `m`, `h`, `d`.
    Text(String),
}

impl Window {
    /// The longest window: 31 days.
    pub const MAX_SECONDS: u64 = 31 * 24 * 3600;

    /// The window in seconds; `None` where it is not a duration or not within 1 second and 31 days.
    #[must_use]
    pub fn seconds(&self) -> Option<u64> {
        let seconds = match self {
            Self::Seconds(seconds) => *seconds,
            Self::Text(text) => match text.as_str() {
                "minute" => 60,
                "hour" => 3600,
                "day" => 24 * 3600,
                text => {
                    let unit = match text.chars().next_back()? {
                        's' => 1,
                        'm' => 60,
                        'h' => 3600,
                        'd' => 24 * 3600,
                        _ => return None,
                    };
                    let digits = &text[..text.len() - 1];
                    if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
                        return None;
                    }
                    digits.parse::<u64>().ok()?.checked_mul(unit)?
                }
            },
        };
        (1..=Self::MAX_SECONDS).contains(&seconds).then_some(seconds)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Window;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`minute`, `hour`, `day`, a duration like `90s`, or a whole number of seconds")
            }
            fn visit_u64<E>(self, seconds: u64) -> Result<Window, E> {
                Ok(Window::Seconds(seconds))
            }
            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Window, E> {
                u64::try_from(seconds).map(Window::Seconds).map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(seconds), &self))
            }
            fn visit_str<E>(self, text: &str) -> Result<Window, E> {
                Ok(Window::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Window {
    fn schema_name() -> Cow<'static, str> {
        "Window".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // An integer or a string, in the one form that Kubernetes' structural schemas have for it.
        // Bounds hold for the one, the pattern for the other; what they let through beyond 31 days is refused by the compiler.
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 1,
            "maximum": Self::MAX_SECONDS,
            "pattern": "^(minute|hour|day|[1-9][0-9]{0,6}s|[1-9][0-9]{0,4}m|[1-9][0-9]{0,2}h|[1-9][0-9]?d)$",
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_in_seconds() {
        let cases = [
            ("minute", Some(60)),
            ("hour", Some(3_600)),
            ("day", Some(86_400)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("12h", Some(43_200)),
            ("31d", Some(2_678_400)),
            ("32d", None),
            ("2678401s", None),
            ("0s", None),
            ("01s", None),
            ("s", None),
            ("90", None),
            ("+1s", None),
            ("1.5h", None),
            ("1 h", None),
            ("1H", None),
            ("Minute", None),
            ("", None),
            ("1é", None),
            ("99999999999999999999s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Window::Text(text.to_owned()).seconds(), expected, "{text}");
        }
        assert_eq!([0, 1, 2_678_400, 2_678_401].map(|seconds| Window::Seconds(seconds).seconds()), [None, Some(1), Some(2_678_400), None]);
    }
}
