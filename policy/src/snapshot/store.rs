//! The shared counter store, as the operator tells the sidecars of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the shared counter store is, and how to get in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStore {
    /// `redis://host:port/database`, `redis+sentinel://host:port,host:port/name`, `redis+cluster://host:port,host:port`; `rediss` for TLS.
    pub url: String,
    /// Changes with the credentials. It stands for them in the digest of a snapshot, which everybody may see.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Never logged or shown.
    #[serde(default)]
    pub credentials: StoreCredentials,
}

/// What a store asks of who comes. All of it may be missing.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreCredentials {
    /// The ACL user; without it, the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The ACL user of the sentinels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel_username: Option<String>,
    /// The password of the sentinels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel_password: Option<String>,
    /// Certificates of the authorities that TLS trusts, in PEM form; without them, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Without any of it.
impl fmt::Debug for StoreCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCredentials").finish_non_exhaustive()
    }
}
