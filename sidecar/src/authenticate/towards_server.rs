//! What the server gets to see of `Authorization`.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use mcp_policy::authentication::Forward;
use mcp_policy::snapshot::SnapshotAuthentication;

use super::material::MaterialError;

/// What becomes of the header on its way to the server.
#[derive(Clone, Debug, Default)]
pub(super) enum TowardsServer {
    /// The server does not see it.
    #[default]
    Strip,
    /// The server gets it as it came.
    Keep,
    /// The server gets this, whoever calls. The value is marked as sensitive, so no `Debug` shows it.
    Replace(HeaderValue),
}

impl TowardsServer {
    /// What the policies say; but while none of them enforces, nothing that passes may change.
    pub(super) fn from_snapshot(said: &SnapshotAuthentication) -> Result<Self, MaterialError> {
        let credential = said.credential.as_ref().map(|credential| HeaderValue::from_str(credential.value.trim()));
        let credential = credential.transpose().map_err(|_| MaterialError::Credential)?;
        Ok(match (credential, said.authorization) {
            _ if !said.required => Self::Keep,
            (Some(mut value), _) => {
                value.set_sensitive(true);
                Self::Replace(value)
            }
            (None, Forward::Keep) => Self::Keep,
            (None, Forward::Strip) => Self::Strip,
        })
    }

    /// Puts the header into the form in which the server gets it. The server's own credential is for those requests alone that were
    /// judged.
    pub(super) fn apply(&self, headers: &mut HeaderMap, is_judged: bool) {
        match self {
            Self::Keep => {}
            Self::Replace(value) if is_judged => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            Self::Replace(_) | Self::Strip => {
                headers.remove(AUTHORIZATION);
            }
        }
    }
}
