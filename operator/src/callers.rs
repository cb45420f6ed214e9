//! How callers prove who they are: what snapshots need for it, and where it comes from.
//!
//! Pure: [`proofs`] puts together what the policies of a pod say and what is known; [`jwks`] and [`secret`] read what others wrote.
//! Around them: [`issuers`] keeps the keys of issuers current by [`fetch`]; [`secrets`] follows the Secrets.

pub mod fetch;
pub mod issuers;
pub mod jwks;
pub mod proofs;
pub mod secret;
pub mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_policy::authentication::{Authentication, JwtIssuer, SecretRef};
use serde_json::Value;

use secret::Content;

/// What was said at installation.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How the callers of every governed pod prove who they are, beside what its policies say.
    pub for_all: Option<Authentication>,
    /// The names of the Secrets that the operator may read, in every namespace.
    pub secret_names: Vec<String>,
    /// How often the keys of issuers are read.
    pub refresh: Duration,
    /// Whether issuers may have private addresses.
    pub allow_private: bool,
}

/// Whose keys are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The cluster itself, which signs the tokens of service accounts.
    Cluster,
    /// An issuer, as policies describe it.
    Issuer {
        /// Its name, a URL.
        issuer: String,
        /// Where its keys are, if policies say so.
        jwks_uri: Option<String>,
        /// Who vouches for its certificates, if policies say so.
        ca_bundle: Option<String>,
    },
}

impl From<&JwtIssuer> for Source {
    fn from(JwtIssuer { issuer, jwks_uri, ca_bundle, .. }: &JwtIssuer) -> Self {
        Self::Issuer { issuer: issuer.clone(), jwks_uri: jwks_uri.clone(), ca_bundle: ca_bundle.clone() }
    }
}

/// The keys of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKeys {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// The key set.
    pub jwks: Value,
}

/// What came of reading the keys of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The keys as they were last read; none if they never were.
    pub keys: Option<IssuerKeys>,
    /// Why the last attempt failed, if it did.
    pub trouble: Option<String>,
}

/// Everything that callers are proved with.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// How the callers of every governed pod prove who they are.
    pub for_all: Option<Arc<Authentication>>,
    namespace: String,
    secret_names: Vec<String>,
    issuers: BTreeMap<Source, Known>,
    secrets: BTreeMap<(String, String), Content>,
}

impl Material {
    /// Nothing yet, but what was said at installation. `namespace` is the operator's.
    #[must_use]
    pub fn new(settings: &Settings, namespace: &str) -> Self {
        Self {
            for_all: settings.for_all.clone().map(Arc::new),
            namespace: namespace.to_owned(),
            secret_names: settings.secret_names.clone(),
            ..Self::default()
        }
    }

    /// Takes what came of reading an issuer's keys: those that were read before stay if it failed. True if sidecars have to know.
    pub fn learn(&mut self, source: Source, read: Result<IssuerKeys, String>) -> bool {
        let known = self.issuers.entry(source).or_default();
        match read {
            Ok(keys) => {
                known.trouble = None;
                let keys = Some(keys);
                let is_new = known.keys != keys;
                known.keys = keys;
                is_new
            }
            Err(trouble) => {
                known.trouble = Some(trouble);
                false
            }
        }
    }

    /// Forgets the issuers for which `keep` does not hold.
    pub fn retain(&mut self, keep: impl Fn(&Source) -> bool) {
        self.issuers.retain(|source, _| keep(source));
    }

    /// What is known of an issuer; none if it was never asked.
    #[must_use]
    pub fn known(&self, source: &Source) -> Option<&Known> {
        self.issuers.get(source)
    }

    /// Takes a Secret. True if anything in it changed.
    pub fn put_secret(&mut self, namespace: &str, name: &str, content: Content) -> bool {
        let before = self.secrets.insert((namespace.to_owned(), name.to_owned()), content);
        before.as_ref() != self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Forgets the Secrets for which `keep` does not hold, by namespace and name.
    pub fn retain_secrets(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.secrets.retain(|(namespace, name), _| keep(namespace, name));
    }

    /// A Secret, or why there is none.
    fn secret(&self, secret: SecretRef<'_>) -> Result<&Content, String> {
        let namespace = secret.namespace.unwrap_or(&self.namespace);
        if let Some(content) = self.secrets.get(&(namespace.to_owned(), secret.name.to_owned())) {
            return Ok(content);
        }
        if self.secret_names.iter().any(|name| name == secret.name) {
            return Err(format!("Secret {namespace}/{} is not there", secret.name));
        }
        let readable = self.secret_names.join(", ");
        Err(format!("the operator may not read Secret {namespace}/{}: it reads those named {readable}", secret.name))
    }
}
