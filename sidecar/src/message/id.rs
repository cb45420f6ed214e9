//! The id of a message.

use std::fmt;
use std::hash::{Hash, Hasher};

use mcp_policy::json::unescape;

/// The id of a message: a string or an integer. Equal ids are the same JSON value: `"a"` is `"\u0061"`, and `1` is not `"1"`.
#[derive(Clone)]
pub struct Id {
    json: Box<str>,
    /// The string that it stands for, where it is one that is written with escapes.
    unescaped: Option<Box<str>>,
}

impl Id {
    /// The id in the text of a JSON string or number. `-0` is none: to some servers it is `0`, and they would answer with that.
    pub(crate) fn from_json(json: &str) -> Option<Self> {
        let unescaped = match json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) {
            Some(text) => text.contains('\\').then(|| unescape(text).into()),
            None if json == "-0" || json.contains(['.', 'e', 'E']) => return None,
            None => None,
        };
        Some(Self { json: json.into(), unescaped })
    }

    /// The id as it was sent: JSON text, to be put into an answer verbatim.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// Whether it is a string, and its value.
    fn value(&self) -> (bool, &str) {
        match &self.unescaped {
            Some(text) => (true, text),
            None => self.json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).map_or((false, &self.json), |text| (true, text)),
        }
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Self { json: number.to_string().into(), unescaped: None }
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.json)
    }
}
