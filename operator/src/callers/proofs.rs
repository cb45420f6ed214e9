//! Pure: with what the callers of a pod prove who they are, from what its policies say and from what is known.
//!
//! Heeded are the policies that enforce; where none does, those in audit mode, and then nobody is refused for lack of a proof: an audit
//! policy beside one that enforces changes no answer.

use std::sync::Arc;

use mcp_policy::Mode;
use mcp_policy::authentication::{Agreed, Authentication, JwtIssuer};
use mcp_policy::snapshot::{SnapshotAuthentication, SnapshotIssuer};
use serde_json::Value;

use super::{Known, Material, Source};
use crate::accept::Judged;

/// What the callers of one pod are asked for.
#[derive(Debug)]
pub struct Proofs<'a> {
    material: &'a Material,
    agreed: Agreed<'a>,
    is_asked: bool,
    is_required: bool,
}

impl<'a> Proofs<'a> {
    /// Of the policies that govern a pod.
    pub fn of(governing: impl IntoIterator<Item = &'a Arc<Judged>>, material: &'a Material) -> Self {
        let governing: Vec<_> = governing.into_iter().collect();
        let is_required = governing.iter().any(|policy| policy.mode().is_enforce());
        let heeded = if is_required { Mode::Enforce } else { Mode::Audit };
        let for_all = material.for_all.as_deref().filter(|_| !governing.is_empty()).map(|said| (None, said));
        let of_policies = governing.iter().filter(|policy| policy.mode() == heeded);
        let said: Vec<(Option<&str>, &Authentication)> =
            for_all.into_iter().chain(of_policies.filter_map(|policy| Some((policy.id.namespace(), policy.authentication()?)))).collect();
        Self { material, agreed: Agreed::of(&said), is_asked: !said.is_empty(), is_required }
    }

    /// What the sidecar gets; none if nobody is asked for a proof.
    #[must_use]
    pub fn authentication(&self) -> Option<SnapshotAuthentication> {
        let Agreed { service_accounts, jwt, keys, authorization, credential, resource, conflicts: _ } = &self.agreed;
        let known = |source: &Source| self.material.known(source).and_then(|known| known.keys.as_ref());
        let jwks = |source: &Source| known(source).map_or(Value::Null, |keys| keys.jwks.clone());
        let authentication = || SnapshotAuthentication {
            required: self.is_required,
            service_accounts: service_accounts.map(|accounts| SnapshotIssuer {
                issuer: known(&Source::Cluster).map(|keys| keys.issuer.clone()).unwrap_or_default(),
                audiences: accounts.audiences.clone(),
                review: accounts.review,
                algorithms: Vec::new(),
                jwks: jwks(&Source::Cluster),
            }),
            jwt: jwt.iter().map(|issuer| trusted(issuer, jwks(&Source::from(*issuer)))).collect(),
            keys: keys.map(|secret| self.material.secret(secret).map(|content| content.keys.clone()).unwrap_or_default()),
            authorization: *authorization,
            credential: credential.and_then(|secret| self.material.secret(secret).ok()?.credential.clone()),
            resource: resource.map(str::to_owned),
        };
        self.is_asked.then(authentication)
    }

    /// The issuers whose keys were never asked for yet.
    pub fn awaited(&self) -> impl Iterator<Item = String> {
        self.sources().filter(|source| self.material.known(source).is_none()).map(|source| format!("the keys of {source} are not read yet"))
    }

    /// Why callers that should be able to prove who they are cannot, each in a clause.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let conflicts = self.agreed.conflicts.iter();
        let mut troubles: Vec<_> =
            conflicts.map(|field| format!("the policies of a pod differ in server.authentication.{field}, so it holds for none")).collect();
        for source in self.sources() {
            if let Some(Known { keys, trouble: Some(trouble) }) = self.material.known(&source) {
                let rest = if keys.is_some() { "; those that were read before stay" } else { "" };
                troubles.push(format!("failed to read the keys of {source}: {trouble}{rest}"));
            }
        }
        if let Some(secret) = self.agreed.keys {
            match self.material.secret(secret) {
                Ok(content) => troubles.extend(content.not_keys.iter().map(|wrong| format!("Secret {}: {wrong}", secret.name))),
                Err(trouble) => troubles.push(trouble),
            }
        }
        if let Some(secret) = self.agreed.credential {
            match self.material.secret(secret).map(|content| &content.credential) {
                Ok(Some(_)) => {}
                Ok(None) => troubles.push(format!("Secret {} has no entry `authorization` that can be the value of a header", secret.name)),
                Err(trouble) => troubles.push(trouble),
            }
        }
        troubles
    }

    /// What a policy's `from` names in vain.
    pub fn unproved(&self, policy: &'a Judged) -> impl Iterator<Item = String> {
        policy.from().and_then(|from| self.agreed.warnings(from).next()).into_iter()
    }

    fn sources(&self) -> impl Iterator<Item = Source> {
        let cluster = self.agreed.service_accounts.map(|_| Source::Cluster);
        cluster.into_iter().chain(self.agreed.jwt.iter().map(|issuer| Source::from(*issuer)))
    }
}

fn trusted(issuer: &JwtIssuer, jwks: Value) -> SnapshotIssuer {
    let JwtIssuer { issuer, audiences, algorithms, .. } = issuer;
    SnapshotIssuer { issuer: issuer.clone(), audiences: audiences.clone(), algorithms: algorithms.clone(), review: false, jwks }
}

#[cfg(test)]
mod tests {
    use mcp_policy::authentication::Forward;
    use serde_json::json;

    use super::super::{IssuerKeys, Settings, secret::Content};
    use super::*;
    use crate::crd::StoredPolicy;

    fn policy(namespace: &str, name: &str, mode: &str, said: &Value) -> Arc<Judged> {
        let server = if said.is_null() { json!({}) } else { json!({ "authentication": said }) };
        let mut policy =
            StoredPolicy { spec: json!({ "selector": {}, "mode": mode, "server": server, "tools": {} }), ..StoredPolicy::default() };
        policy.metadata.namespace = Some(namespace.to_owned());
        policy.metadata.name = Some(name.to_owned());
        let judged = Judged::new(&policy, None);
        assert!(judged.is_accepted(), "{:?}", judged.verdict);
        Arc::new(judged)
    }

    fn accounts(audience: &str) -> Value {
        json!({ "serviceAccounts": { "audiences": [audience] } })
    }

    fn issuer() -> Value {
        json!({ "jwt": [{ "issuer": "https://idp", "audiences": ["mcp"], "algorithms": ["ES256"] }] })
    }

    fn keys(name: &str) -> Value {
        json!({ "keys": { "secretName": name } })
    }

    fn material() -> Material {
        let settings =
            Settings { secret_names: vec!["mcp-policy-keys".to_owned(), "mcp-policy-credential".to_owned()], ..Settings::default() };
        Material::new(&settings, "mcp-policy-system")
    }

    fn read(issuer: &str) -> IssuerKeys {
        IssuerKeys { issuer: issuer.to_owned(), jwks: json!({ "keys": [] }) }
    }

    fn idp() -> Source {
        Source::Issuer { issuer: "https://idp".to_owned(), jwks_uri: None, ca_bundle: None }
    }

    #[test]
    fn nobody_is_asked_where_no_policy_says_so() {
        let (material, policies) = (material(), [policy("a", "p", "enforce", &Value::Null)]);
        let proofs = Proofs::of(&policies, &material);
        assert_eq!((proofs.authentication(), proofs.troubles()), (None, vec![]));
    }

    #[test]
    fn keys_reach_the_sidecar_when_they_are_read_and_stay_when_reading_fails() {
        let mut material = material();
        let policies = [policy("a", "p", "enforce", &accounts("imaging")), policy("a", "q", "enforce", &issuer())];
        let jwks = |material: &Material| {
            let authentication = Proofs::of(&policies, material).authentication().unwrap();
            (authentication.service_accounts.unwrap().jwks, authentication.jwt[0].jwks.clone())
        };
        assert_eq!(jwks(&material), (Value::Null, Value::Null));
        assert_eq!(Proofs::of(&policies, &material).awaited().count(), 2);
        assert!(material.learn(Source::Cluster, Ok(read("https://kubernetes"))));
        assert!(material.learn(idp(), Ok(read("https://idp"))));
        assert!(!material.learn(idp(), Ok(read("https://idp"))), "the same again is no change");
        let all = (json!({ "keys": [] }), json!({ "keys": [] }));
        assert_eq!((jwks(&material), Proofs::of(&policies, &material).troubles()), (all.clone(), vec![]));
        assert!(!material.learn(idp(), Err("it does not answer".to_owned())));
        assert_eq!(jwks(&material), all);
        assert_eq!(
            Proofs::of(&policies, &material).troubles(),
            ["failed to read the keys of https://idp: it does not answer; those that were read before stay"]
        );
        let authentication = Proofs::of(&policies, &material).authentication().unwrap();
        assert!(authentication.required);
        assert_eq!(authentication.service_accounts.unwrap().issuer, "https://kubernetes");
        assert_eq!(authentication.jwt[0].algorithms.len(), 1);
    }

    #[test]
    fn an_audit_policy_asks_for_the_record_and_changes_nothing_beside_one_that_enforces() {
        let material = material();
        let audit = policy("a", "audit", "audit", &accounts("imaging"));
        let alone = Proofs::of([&audit], &material).authentication().unwrap();
        assert!(!alone.required && alone.service_accounts.is_some());
        let silent = policy("a", "enforce", "enforce", &Value::Null);
        assert_eq!(Proofs::of([&audit, &silent], &material).authentication(), None);
        let other = policy("a", "other", "enforce", &accounts("billing"));
        let proofs = Proofs::of([&audit, &other], &material);
        assert_eq!(proofs.authentication().unwrap().service_accounts.unwrap().audiences, ["billing"]);
        assert_eq!(proofs.troubles(), [""; 0]);
    }

    #[test]
    fn what_was_installed_for_all_is_one_voice_among_the_others() {
        let mut material = material();
        material.for_all = Some(Arc::new(serde_json::from_value(accounts("cluster")).unwrap()));
        let silent = policy("a", "p", "enforce", &Value::Null);
        let asked = Proofs::of([&silent], &material).authentication().unwrap();
        assert_eq!((asked.required, asked.service_accounts.unwrap().audiences), (true, vec!["cluster".to_owned()]));
        let other = policy("a", "q", "enforce", &accounts("another"));
        let proofs = Proofs::of([&silent, &other], &material);
        assert_eq!(proofs.authentication().unwrap().service_accounts, None);
        assert_eq!(proofs.troubles(), ["the policies of a pod differ in server.authentication.serviceAccounts, so it holds for none"]);
        let audit = policy("a", "p", "audit", &Value::Null);
        assert!(!Proofs::of([&audit], &material).authentication().unwrap().required, "audit refuses nobody");
        assert_eq!(Proofs::of([], &material).authentication(), None, "no policy, no question");
    }

    #[test]
    fn a_secret_is_that_of_the_policys_namespace_and_of_a_name_that_may_be_read() {
        let mut material = material();
        let content = Content { keys: Vec::new(), not_keys: vec!["entry x is not named <name>.<id>".to_owned()], credential: None };
        material.put_secret("b", "mcp-policy-keys", content);
        let proofs = |policy: &Arc<Judged>, material: &Material| {
            let proofs = Proofs::of([policy], material);
            (proofs.authentication().unwrap().keys, proofs.troubles())
        };
        let none = Some(Vec::new());
        let ours = policy("a", "p", "enforce", &keys("mcp-policy-keys"));
        assert_eq!(proofs(&ours, &material), (none.clone(), vec!["Secret a/mcp-policy-keys is not there".to_owned()]));
        let other = policy("a", "p", "enforce", &keys("root"));
        let told = "the operator may not read Secret a/root: it reads those named mcp-policy-keys, mcp-policy-credential";
        assert_eq!(proofs(&other, &material), (none.clone(), vec![told.to_owned()]));
        let theirs = policy("b", "p", "enforce", &keys("mcp-policy-keys"));
        assert_eq!(proofs(&theirs, &material), (none, vec!["Secret mcp-policy-keys: entry x is not named <name>.<id>".to_owned()]));
    }

    #[test]
    fn a_credential_that_is_not_there_leaves_the_server_without() {
        let material = material();
        let said = json!({ "keys": { "secretName": "mcp-policy-keys" }, "credential": { "secretName": "mcp-policy-credential" } });
        let policies = [policy("a", "p", "enforce", &said)];
        let proofs = Proofs::of(&policies, &material);
        let authentication = proofs.authentication().unwrap();
        assert_eq!((authentication.credential, authentication.authorization), (None, Forward::Strip));
        assert_eq!(proofs.troubles(), ["Secret a/mcp-policy-keys is not there", "Secret a/mcp-policy-credential is not there"]);
    }
}
