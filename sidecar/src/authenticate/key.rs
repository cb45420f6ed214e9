//! Keys of `mcp-policy key create`: `mcpk_<name>.<256 random bits>`. Only their salted digests are known here.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use mcp_policy::Caller;
use mcp_policy::key::KEY_PREFIX;
use mcp_policy::snapshot::SnapshotKey;
use sha2::{Digest, Sha256};

use super::material::{self, MaterialError};
use super::{Proved, Rejected, Seconds};

/// The keys that are valid, by the caller that they were made for.
#[derive(Debug, Default)]
pub struct Keys(HashMap<String, Vec<HashedKey>>);

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct HashedKey {
    /// The caller that it was made for.
    pub name: String,
    /// Random bytes of this key alone.
    pub salt: [u8; 16],
    /// SHA-256 of the salt and the key as it is sent.
    pub sha256: [u8; 32],
    /// The last moment at which it is valid; none if it has no end.
    pub until: Option<Seconds>,
}

impl HashedKey {
    /// What the operator says of a key.
    pub(super) fn from_snapshot(said: &SnapshotKey) -> Result<Self, MaterialError> {
        let malformed = || MaterialError::Key { name: said.name.clone() };
        Ok(Self {
            name: said.name.clone(),
            salt: material::from_hex(&said.salt).ok_or_else(malformed)?,
            sha256: material::from_hex(&said.sha256).ok_or_else(malformed)?,
            until: said.until,
        })
    }
}

impl FromIterator<HashedKey> for Keys {
    fn from_iter<I: IntoIterator<Item = HashedKey>>(keys: I) -> Self {
        let mut by_name: HashMap<String, Vec<HashedKey>> = HashMap::new();
        for key in keys {
            by_name.entry(key.name.clone()).or_default().push(key);
        }
        Self(by_name)
    }
}

impl Keys {
    /// Whose key this is. A caller has several while one is replaced by the next.
    pub(super) fn prove(&self, sent: &str, now: Seconds) -> Result<Proved, Rejected> {
        let named = sent.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('.')).map(|(name, _)| name);
        let keys = named.and_then(|name| self.0.get(name)).ok_or(Rejected::Key)?;
        let mut found = None;
        for key in keys {
            let digest: [u8; 32] = Sha256::new().chain_update(key.salt).chain_update(sent).finalize().into();
            // All are compared, so that the time tells nothing of which one it is.
            if verify_slices_are_equal(&digest, &key.sha256).is_ok() {
                found = Some(key);
            }
        }
        let key = found.ok_or(Rejected::Key)?;
        if key.until.is_some_and(|until| now > until) {
            return Err(Rejected::Expired);
        }
        Ok(Proved { caller: Caller::Key { name: key.name.clone() }, until: key.until })
    }
}
