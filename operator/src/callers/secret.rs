//! Pure: what a Secret says of callers' keys, and of a server's credential.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mcp_policy::key::read_key;
use mcp_policy::snapshot::{SnapshotCredential, SnapshotKey};

/// The entry with the server's own credential.
const AUTHORIZATION: &str = "authorization";

/// What a Secret holds. It is read either way: who refers to it says which is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Keys of callers.
    pub keys: Vec<SnapshotKey>,
    /// What is wrong with the entries that are no keys, each in one sentence.
    pub not_keys: Vec<String>,
    /// The server's own credential.
    pub credential: Option<SnapshotCredential>,
}

impl Content {
    /// Reads a Secret.
    #[must_use]
    pub fn read(secret: &Secret) -> Self {
        let entries = secret.data.iter().flatten();
        let (mut keys, mut not_keys) = (Vec::new(), Vec::new());
        for (entry, ByteString(value)) in entries {
            match read_key(entry, value) {
                Ok(key) => keys.push(key),
                Err(error) => not_keys.push(format!("entry {entry} {error}")),
            }
        }
        let revision = secret.metadata.resource_version.clone().unwrap_or_default();
        let credential = secret.data.as_ref().and_then(|data| data.get(AUTHORIZATION)).and_then(|ByteString(value)| header(value));
        Self { keys, not_keys, credential: credential.map(|value| SnapshotCredential { revision, value }) }
    }
}

/// The value of a header; none if it cannot be one.
fn header(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches(['\r', '\n']);
    let is_header = !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    is_header.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data = data.iter().map(|(entry, value)| ((*entry).to_owned(), ByteString(value.as_bytes().to_vec()))).collect();
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.resource_version = Some("42".to_owned());
        secret
    }

    #[test]
    fn an_entry_that_is_no_key_proves_nobody_and_spoils_no_other() {
        let key = json!({"salt": "0f".repeat(16), "sha256": "ab".repeat(32)}).to_string();
        let content = Content::read(&secret(&[("ci.1", &key), ("ci.2", "{}"), ("notes", "hello")]));
        assert_eq!(content.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["ci"]);
        assert_eq!(
            content.not_keys,
            ["entry ci.2 is not a key as `mcp-policy key create` writes it", "entry notes is not named <name>.<id>"]
        );
        assert_eq!(Content::read(&Secret::default()).keys, []);
    }

    #[test]
    fn a_credential_is_one_line() {
        let value = |text: &str| Content::read(&secret(&[("authorization", text)])).credential.map(|credential| credential.value);
        assert_eq!(value("Bearer geheim\n").as_deref(), Some("Bearer geheim"));
        for odd in ["", "\n", "Bearer a\r\nX-Evil: 1", "Bearer \u{e9}", "a\0b"] {
            assert_eq!(value(odd), None, "{odd:?}");
        }
        let content = Content::read(&secret(&[("authorization", "Bearer geheim")]));
        assert_eq!(content.credential.as_ref().unwrap().revision, "42");
        assert!(!format!("{content:?}").contains("geheim"));
    }
}
