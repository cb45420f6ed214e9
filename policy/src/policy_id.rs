//! How policies are told from one another, and in which order they speak.

use std::fmt;
use std::sync::Arc;

/// Name of a policy: `namespace/name`; a cluster policy has no namespace and comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    namespace: Option<Arc<str>>,
    name: Arc<str>,
}

impl PolicyId {
    /// The policy of this name; without a namespace, a cluster policy or a bare document (named by its file).
    #[must_use]
    pub fn new(namespace: Option<&str>, name: &str) -> Self {
        Self { namespace: namespace.map(Into::into), name: name.into() }
    }

    /// The namespace; none of a cluster policy or a bare document.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name without the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
