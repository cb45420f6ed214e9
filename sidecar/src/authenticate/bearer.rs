//! The one bearer token of a request.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Rejected;

/// No token is longer; of a request's head it is the most.
const MAX_BYTES: usize = 16 * 1024;

/// A bearer token, whatever it is worth.
#[derive(Clone)]
pub struct Bearer(Arc<str>);

/// Nothing of it.
impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").finish_non_exhaustive()
    }
}

impl Bearer {
    /// The token of the one `Authorization` header. The scheme is read without regard to case (RFC 9110), and one blank or more follow
    /// it.
    pub fn of(headers: &HeaderMap) -> Result<Self, Rejected> {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = sent.next() else { return Err(Rejected::Missing) };
        if sent.next().is_some() {
            return Err(Rejected::Malformed);
        }
        let value = value.to_str().map_err(|_| Rejected::Malformed)?;
        let (scheme, token) = value.trim_matches([' ', '\t']).split_once(' ').ok_or(Rejected::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Rejected::Missing);
        }
        let token = token.trim_start_matches(' ');
        let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || token.len() > MAX_BYTES || !token.bytes().all(is_of_token) {
            return Err(Rejected::Malformed);
        }
        Ok(Self(token.into()))
    }

    /// The token.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}
