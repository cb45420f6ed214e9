//! Lengths of time in a policy, as people write them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

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
                text if text.starts_with('0') => return None,
                text => duration_seconds(text)?,
            },
        };
        (1..=Self::MAX_SECONDS).contains(&seconds).then_some(seconds)
    }
}

/// The seconds of one number and one of `s`, `m`, `h`, `d`; none of another text.
#[must_use]
pub fn duration_seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
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
