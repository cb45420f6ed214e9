//! Who calls: what authentication proved, else anonymous.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

/// A caller. Its text is its stable name, which audit lines tell: `serviceaccount:ns/name`, `jwt:<issuer>#<subject>`, `key:<name>`,
/// `anonymous:<address>`. No issuer has a `#`, no namespace a `/`, so no two callers have one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The bearer of a token of a Kubernetes service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The bearer of a JSON Web Token of an issuer that the policies trust.
    Jwt {
        /// The claim `iss`, which is that of the issuer, character by character.
        issuer: String,
        /// The claim `sub`.
        subject: String,
        /// Every claim of the token. The same caller can have others in the next one.
        claims: Arc<Map<String, Value>>,
    },
    /// The bearer of a key that `mcp-policy key create` made.
    Key {
        /// The caller that the key was made for; several keys can be one caller's.
        name: String,
    },
    /// Nobody proved anything. Known by the address that the connection comes from, never by a session: a client opens as many
    /// of those as it likes.
    Anonymous {
        /// The peer's address; IPv4 in IPv6 is read as IPv4 by [`Caller::anonymous`].
        address: IpAddr,
    },
}

impl Caller {
    /// The unproven caller at this address.
    #[must_use]
    pub fn anonymous(address: IpAddr) -> Self {
        Self::Anonymous { address: address.to_canonical() }
    }

    /// Whether nobody proved anything.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous { .. })
    }

    /// The kind, as policies and expressions call it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount { .. } => "serviceAccount",
            Self::Jwt { .. } => "jwt",
            Self::Key { .. } => "key",
            Self::Anonymous { .. } => "anonymous",
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceAccount { namespace, name } => write!(f, "serviceaccount:{namespace}/{name}"),
            Self::Jwt { issuer, subject, .. } => write!(f, "jwt:{issuer}#{subject}"),
            Self::Key { name } => write!(f, "key:{name}"),
            Self::Anonymous { address } => write!(f, "anonymous:{address}"),
        }
    }
}
