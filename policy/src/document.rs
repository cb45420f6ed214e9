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

    /// Budgets of calls. A call must fit in every one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,

    /// Short for one limit with the counter `<tool>_rate` and the scope `session`.
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

/// A budget of calls over a sliding window: no interval of the window's length ever sees more than `max` calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// Name of the counter. Rules of one policy that name the same counter share it, and must agree on window, max and scope.
    #[schemars(length(min = 1, max = 256))]
    pub counter: String,

    /// Length of the sliding window: `minute`, `hour`, `day`, a duration like `90s`, `15m` or `12h`, or a whole number of
    /// seconds; from 1 second to 31 days.
    pub window: Window,

    /// How many calls the window admits. 0 admits none.
    #[schemars(range(max = 1_000_000_000))]
    pub max: u64,

    /// Who shares the budget: `grant` (the default): one caller; `session`: one MCP session; `server`: everyone who calls this
    /// server.
    #[serde(default)]
    pub scope: Scope,
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
