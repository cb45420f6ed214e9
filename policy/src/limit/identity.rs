//! What makes a counter the same counter, and an owner of a budget the same owner.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{NANOS_PER_SECOND, Nanos};
use crate::caller::Caller;
use crate::document::Scope;
use crate::policy_id::PolicyId;

/// What makes a counter the same one across changes of its policy. Each call looks several up, so texts are hashed only once.
#[derive(Clone, Debug)]
pub(crate) struct CounterId {
    pub policy: PolicyId,
    pub name: Arc<str>,
    pub window_seconds: u64,
    pub scope: Scope,
    /// The path of the amounts, as written; none where each call counts 1.
    pub increment_from: Option<Arc<str>>,
    hash: u64,
}

impl CounterId {
    pub fn new(policy: PolicyId, name: Arc<str>, window_seconds: u64, scope: Scope, increment_from: Option<Arc<str>>) -> Self {
        let mut id = Self { policy, name, window_seconds, scope, increment_from, hash: 0 };
        let mut hasher = DefaultHasher::new();
        id.parts().hash(&mut hasher);
        id.hash = hasher.finish();
        id
    }

    /// Names this counter and an owner's budget of it, the same in every process and build: 32 hex digits of a digest, so that names are
    /// short, and tell nobody who calls.
    pub(super) fn budget(&self, owner: Option<Owner>) -> String {
        let (policy, from) = (self.policy.to_string(), self.increment_from.as_deref().unwrap_or_default());
        let mut digest = Sha256::new();
        for part in [&policy, &*self.name, self.scope.as_str(), from] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(self.window_seconds.to_be_bytes());
        if let Some(Owner(owner)) = owner {
            digest.update(owner.to_be_bytes());
        }
        digest.finalize().iter().take(16).fold(String::with_capacity(32), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    pub(super) fn window(&self) -> Nanos {
        self.window_seconds * NANOS_PER_SECOND
    }

    fn parts(&self) -> impl Eq + Hash {
        (&self.policy, &self.name, self.window_seconds, self.scope, &self.increment_from)
    }
}

impl PartialEq for CounterId {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.parts() == other.parts()
    }
}

impl Eq for CounterId {}

impl Hash for CounterId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Whose budget of a counter it is: a caller's, or a session's. As short for a long name as for a short one, so that nobody
/// makes budgets big by the names that they choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner(u128);

impl Owner {
    pub fn caller(caller: &Caller) -> Self {
        match caller {
            Caller::Anonymous { address: IpAddr::V4(address) } => Self(address.to_ipv6_mapped().to_bits()),
            Caller::Anonymous { address: IpAddr::V6(address) } => Self(address.to_bits()),
            // No session has a name with a blank in it.
            proved => Self::named(&format!("caller {proved}")),
        }
    }

    pub fn session(id: &str) -> Self {
        Self::named(id)
    }

    /// By the digest of its name. Nobody can find a name whose digest is that of another one, or is an address.
    fn named(name: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(name).into();
        Self(digest.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }
}
