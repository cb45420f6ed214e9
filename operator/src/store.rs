//! The shared counter store, as snapshots tell the sidecars of it: the address that the operator was given, and what its Secret says.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use mcp_policy::snapshot::{SnapshotStore, StoreCredentials};

/// Where counters are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The address. It holds no secret.
    pub url: String,
    /// Name of the Secret with the credentials, in the operator's namespace.
    pub secret: Option<String>,
}

impl Settings {
    /// The store, with what the Secret says: `username`, `password`, `sentinel-username`, `sentinel-password` and `ca.crt`. Without the
    /// Secret it has no credentials: a store that asks for some lets nobody in.
    #[must_use]
    pub fn store(&self, secret: Option<&Secret>) -> SnapshotStore {
        let text = |key: &str| {
            let ByteString(value) = secret?.data.as_ref()?.get(key)?;
            Some(String::from_utf8_lossy(value).trim_end_matches(['\r', '\n']).to_owned())
        };
        SnapshotStore {
            url: self.url.clone(),
            revision: secret.and_then(|secret| secret.metadata.resource_version.clone()).unwrap_or_default(),
            credentials: StoreCredentials {
                username: text("username"),
                password: text("password"),
                sentinel_username: text("sentinel-username"),
                sentinel_password: text("sentinel-password"),
                ca: text("ca.crt"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_told_to_sidecars_and_to_nobody_else() {
        let secret: Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "valkey", "resourceVersion": "42"},
            "data": {"username": "bWNw", "password": "Z2VoZWltCg=="},
        }))
        .unwrap();
        let settings = Settings { url: "redis://valkey".to_owned(), secret: Some("valkey".to_owned()) };
        let store = settings.store(Some(&secret));
        assert_eq!((store.url.as_str(), store.revision.as_str()), ("redis://valkey", "42"));
        let StoreCredentials { username, password, ca, .. } = &store.credentials;
        assert_eq!((username.as_deref(), password.as_deref(), ca), (Some("mcp"), Some("geheim"), &None));
        assert!(!format!("{store:?}").contains("geheim"));
        assert_eq!(settings.store(None).credentials, StoreCredentials::default());
    }
}
