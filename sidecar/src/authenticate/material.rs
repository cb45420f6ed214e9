//! What the operator passes on, read: the forms in which it stands in a snapshot, and in which it is used.

use mcp_policy::authentication::Algorithm as Named;

/// Why what a snapshot says cannot prove anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// The keys of an issuer are not in the form of RFC 7517.
    #[error("jwks of issuer {issuer}: not a JSON Web Key Set")]
    KeySet {
        /// The issuer.
        issuer: String,
    },
    /// A salt or a digest is not in hex, or of another length.
    #[error("key of {name}: salt and sha256 are 16 and 32 bytes in hex")]
    Key {
        /// The caller that the key was made for.
        name: String,
    },
    /// The server's own credential cannot stand in a header. It is not told.
    #[error("credential: what the Secret has is no value of a header")]
    Credential,
    /// The server's URL is none.
    #[error("resource: {resource} is no http or https URL")]
    Resource {
        /// What was said.
        resource: String,
    },
}

/// An algorithm that a policy names.
pub(super) fn algorithm(named: Named) -> jsonwebtoken::Algorithm {
    match named {
        Named::RS256 => jsonwebtoken::Algorithm::RS256,
        Named::RS384 => jsonwebtoken::Algorithm::RS384,
        Named::RS512 => jsonwebtoken::Algorithm::RS512,
        Named::PS256 => jsonwebtoken::Algorithm::PS256,
        Named::PS384 => jsonwebtoken::Algorithm::PS384,
        Named::PS512 => jsonwebtoken::Algorithm::PS512,
        Named::ES256 => jsonwebtoken::Algorithm::ES256,
        Named::ES384 => jsonwebtoken::Algorithm::ES384,
        Named::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// So many bytes in hex.
pub(super) fn from_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    if text.len() != 2 * LENGTH || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}
