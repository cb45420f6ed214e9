//! Who calls: what authentication proved, else anonymous.

use std::fmt;
use std::net::IpAddr;

/// A caller, as limits tell one from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Caller {
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
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous { address } => write!(f, "anonymous:{address}"),
        }
    }
}
