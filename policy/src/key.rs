//! A caller's key as a Secret has it: under `<name>.<id>`, JSON with a salt, a hash, and the end of its time.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::snapshot::{SnapshotKey, hex};

/// How every key begins, so that people and scanners of leaked secrets know one when they see it, and so that none is taken for a token.
pub const KEY_PREFIX: &str = "mcpk_";

/// What a Secret says of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// 16 random bytes of this key alone, in lower-case hex.
    pub salt: String,
    /// SHA-256 of the salt's bytes and the key as it is sent, in lower-case hex.
    pub sha256: String,
    /// The last moment at which it is valid, in seconds since 1970; none if it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl StoredKey {
    /// What is written of a key.
    #[must_use]
    pub fn new(key: &str, salt: [u8; 16], until: Option<u64>) -> Self {
        let digest = Sha256::new().chain_update(salt).chain_update(key).finalize();
        Self { salt: hex(&salt), sha256: hex(&digest), until }
    }
}

/// Why an entry of a Secret is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its name is not `<name>.<id>`.
    #[error("is not named <name>.<id>")]
    Name,
    /// Its value is not the JSON of a key.
    #[error("is not a key as `mcp-policy key create` writes it")]
    Form(#[from] serde_json::Error),
    /// Salt or hash have another length, or are no hex.
    #[error("has a salt or a hash that is none")]
    Hex,
}

/// Whether this can be the name of a key's caller: a label of Kubernetes.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    is_name(name, 63, b"-")
}

/// Whether this is a name of Kubernetes: at most so long, of small letters and digits, with `between` them these.
pub(crate) fn is_name(name: &str, longest: usize, between: &[u8]) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= longest
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && bytes.iter().all(|byte| is_end(byte) || between.contains(byte))
}

/// Reads an entry of a Secret.
pub fn read_key(entry: &str, value: &[u8]) -> Result<SnapshotKey, KeyError> {
    let (name, _) = entry.split_once('.').filter(|(name, id)| is_key_name(name) && !id.is_empty()).ok_or(KeyError::Name)?;
    let StoredKey { salt, sha256, until } = serde_json::from_slice(value)?;
    let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex(&salt, 32) || !is_hex(&sha256, 64) {
        return Err(KeyError::Hex);
    }
    Ok(SnapshotKey { name: name.to_owned(), salt, sha256, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_after_its_caller() {
        let (salt, sha256) = ("0f".repeat(16), "ab".repeat(32));
        let stored = StoredKey { salt: salt.clone(), sha256: sha256.clone(), until: Some(7) };
        let key = read_key("ci-bot.20261123a", &serde_json::to_vec(&stored).unwrap()).unwrap();
        assert_eq!(key, SnapshotKey { name: "ci-bot".to_owned(), salt, sha256, until: Some(7) });
    }

    /// A typing error in `until` would make a key that never ends.
    #[test]
    fn what_is_not_quite_a_key_is_none() {
        let good = format!(r#""salt":"{}","sha256":"{}""#, "0f".repeat(16), "ab".repeat(32));
        let read = |entry: &str, value: &str| read_key(entry, value.as_bytes()).map_err(|error| error.to_string());
        assert!(read("ci.1", &format!("{{{good}}}")).is_ok());
        for entry in ["ci", ".1", "ci.", "Ci.1", "-ci.1"] {
            assert_eq!(read(entry, &format!("{{{good}}}")).unwrap_err(), "is not named <name>.<id>", "{entry}");
        }
        for value in [String::new(), "{}".to_owned(), format!(r#"{{{good},"unitl":7}}"#), format!(r#"{{{good},"until":-1}}"#)] {
            assert!(read("ci.1", &value).unwrap_err().starts_with("is not a key"), "{value}");
        }
        for value in [good.replace("0f0f", "0f0"), good.replace("abab", "ABab"), good.replace("0f0f", "0g0f")] {
            assert_eq!(read("ci.1", &format!("{{{value}}}")).unwrap_err(), "has a salt or a hash that is none", "{value}");
        }
    }
}
