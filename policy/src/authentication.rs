//! How callers prove who they are: what a policy says of it, and what the policies of one pod say together. Plain data; the proofs are
//! verified by the sidecar, with keys that the operator passes on ([`crate::snapshot::SnapshotAuthentication`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::caller_match::{CallerKind, CallerMatch};
use crate::pattern;

/// How callers prove who they are, by `Authorization: Bearer`. Where a policy that enforces says this, a caller that proves nothing is
/// answered with 401, unless an entry of `from` is of kind `anonymous`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// Tokens of the cluster's service accounts, as a projected volume or `kubectl create token` gives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccounts>,

    /// Issuers of JSON Web Tokens that are trusted, such as a provider of `OpenID` Connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub jwt: Vec<JwtIssuer>,

    /// Keys that `mcp-policy key create` made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,

    /// What becomes of the caller's `Authorization` header towards the server: `strip` (the default) or `keep`.
    #[serde(default, skip_serializing_if = "Forward::is_strip")]
    pub authorization: Forward,

    /// The server's own credential, which it is sent instead of the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,

    /// The URL by which callers know the server, as its tokens and metadata name it (RFC 9728). Default: `http://`, the host that the
    /// caller asked for, and the path of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub resource: Option<String>,
}

impl Authentication {
    /// What the author of a `from` beside it may not have meant: entries for callers that nothing here proves. Each names the entry.
    pub fn warnings(&self, from: Option<&[CallerMatch]>) -> impl Iterator<Item = String> + use<> {
        let unproved = Agreed::of(&[(None, self)]).unproved(from.unwrap_or_default());
        unproved.into_iter().map(|(i, who)| format!("from[{i}]: nothing in server.authentication proves a caller {who}"))
    }
}

/// Tokens of the cluster's service accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccounts {
    /// What a token must be for: one of these. A token that is for the API server proves nothing here.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 512)))]
    pub audiences: Vec<String>,

    /// Whether the API server is also asked, through the operator, if a token still holds. Then one whose account or pod was deleted proves
    /// nothing some 20 seconds later; and while it cannot be asked, nobody is proved this way. Default: a token holds until it expires.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub review: bool,
}

/// An issuer of JSON Web Tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtIssuer {
    /// The claim `iss` of its tokens, character by character; a URL at which its discovery document is found.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,

    /// What a token must be for: one of these.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 512)))]
    pub audiences: Vec<String>,

    /// The algorithms that its tokens may be signed with. Default: every asymmetric one that is known; a symmetric one never is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub algorithms: Vec<Algorithm>,

    /// Where the issuer's keys are. Default: where its discovery document says, at `/.well-known/openid-configuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub jwks_uri: Option<String>,

    /// Certificates of the authority that signed those of the issuer, in PEM form. Default: those that the public web trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub ca_bundle: Option<String>,
}

/// A signature algorithm of JSON Web Tokens (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA PKCS #1 with SHA-256.
    RS256,
    /// RSA PKCS #1 with SHA-384.
    RS384,
    /// RSA PKCS #1 with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// Keys that `mcp-policy key create` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keys {
    /// The Secret that has them, salted and hashed: in the policy's namespace, or for a cluster policy in the operator's.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A credential in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// The Secret: in the policy's namespace, or for a cluster policy in the operator's. Its key `authorization` is the whole value of
    /// the header.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// What becomes of the caller's `Authorization` header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// The server does not see it.
    #[default]
    Strip,
    /// The server gets it as it came.
    Keep,
}

impl Forward {
    /// Whether the server does not see the header.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    #[must_use]
    pub fn is_strip(&self) -> bool {
        *self == Self::Strip
    }
}

/// What the policies of one pod say together.
///
/// Guarantee: a policy never widens what another one trusts. What several of them say they must say alike; where they differ, that way
/// of proving is closed to everybody, the header is not forwarded, and the conflict is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed<'a> {
    /// Tokens of service accounts.
    pub service_accounts: Option<&'a ServiceAccounts>,
    /// Trusted issuers, by their name.
    pub jwt: Vec<&'a JwtIssuer>,
    /// The Secret with the keys.
    pub keys: Option<SecretRef<'a>>,
    /// What becomes of the header.
    pub authorization: Forward,
    /// The Secret with the server's own credential.
    pub credential: Option<SecretRef<'a>>,
    /// The URL of the server.
    pub resource: Option<&'a str>,
    /// The fields on which the policies differ, as a policy names them.
    pub conflicts: Vec<String>,
}

/// A Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef<'a> {
    /// Its namespace; none for the operator's.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Agreed<'a> {
    /// Puts together what policies say, each beside its namespace (none for a cluster policy, and for what was installed for all).
    #[must_use]
    pub fn of(said: &[(Option<&'a str>, &'a Authentication)]) -> Self {
        let mut conflicts = Vec::new();
        let service_accounts = only(said.iter().filter_map(|(_, one)| one.service_accounts.as_ref()), "serviceAccounts", &mut conflicts);
        let mut issuers: Vec<&str> = said.iter().flat_map(|(_, one)| &one.jwt).map(|issuer| issuer.issuer.as_str()).collect();
        issuers.sort_unstable();
        issuers.dedup();
        let jwt = issuers.into_iter().filter_map(|name| {
            let same = said.iter().flat_map(|(_, one)| &one.jwt).filter(|issuer| issuer.issuer == name);
            only(same, &format!("jwt of {name}"), &mut conflicts)
        });
        let jwt = jwt.collect();
        let secret = |namespace, name: &'a str| SecretRef { namespace, name };
        let keys = said.iter().filter_map(|(namespace, one)| Some(secret(*namespace, &one.keys.as_ref()?.secret_name)));
        let keys = only(keys, "keys", &mut conflicts);
        let authorization = only(said.iter().map(|(_, one)| one.authorization), "authorization", &mut conflicts).unwrap_or_default();
        let credential = said.iter().filter_map(|(namespace, one)| Some(secret(*namespace, &one.credential.as_ref()?.secret_name)));
        let credential = only(credential, "credential", &mut conflicts);
        let resource = only(said.iter().filter_map(|(_, one)| one.resource.as_deref()), "resource", &mut conflicts);
        Self { service_accounts, jwt, keys, authorization, credential, resource, conflicts }
    }

    /// What a `from` names in vain: callers that no policy of the pod proves. Each names the entry.
    pub fn warnings(&self, from: &[CallerMatch]) -> impl Iterator<Item = String> + use<> {
        self.unproved(from).into_iter().map(|(i, who)| format!("from[{i}]: no policy of the pod proves a caller {who}"))
    }

    /// The entries for callers that nobody proves, and who that is.
    fn unproved(&self, from: &[CallerMatch]) -> Vec<(usize, String)> {
        let who = |entry: &CallerMatch| match &entry.issuer {
            Some(issuer) => format!("of issuer {issuer}"),
            None => format!("of kind {}", entry.kind.as_str()),
        };
        from.iter().enumerate().filter(|(_, entry)| !self.prove(entry)).map(|(i, entry)| (i, who(entry))).collect()
    }

    fn prove(&self, entry: &CallerMatch) -> bool {
        match entry.kind {
            CallerKind::Anonymous => true,
            CallerKind::ServiceAccount => self.service_accounts.is_some(),
            CallerKind::Key => self.keys.is_some(),
            CallerKind::Jwt => self.jwt.iter().any(|one| entry.issuer.as_ref().is_none_or(|wanted| pattern::matches(wanted, &one.issuer))),
        }
    }
}

/// What all of them are; none if there is none, or if they differ.
fn only<T: PartialEq>(mut all: impl Iterator<Item = T>, field: &str, conflicts: &mut Vec<String>) -> Option<T> {
    let first = all.next()?;
    if all.all(|other| other == first) {
        return Some(first);
    }
    conflicts.push(field.to_owned());
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Authentication {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn policies_that_say_the_same_agree_and_each_may_add_a_way_of_its_own() {
        let accounts = read(json!({"serviceAccounts": {"audiences": ["imaging"]}}));
        let both = read(json!({
            "serviceAccounts": {"audiences": ["imaging"]},
            "jwt": [{"issuer": "https://b", "audiences": ["x"]}, {"issuer": "https://a", "audiences": ["x"]}],
        }));
        let agreed = Agreed::of(&[(Some("one"), &accounts), (None, &both)]);
        assert_eq!(agreed.service_accounts.map(|accounts| accounts.audiences.as_slice()), Some(&["imaging".to_owned()][..]));
        assert_eq!(agreed.jwt.iter().map(|issuer| issuer.issuer.as_str()).collect::<Vec<_>>(), ["https://a", "https://b"]);
        assert_eq!(agreed.conflicts, [""; 0]);
    }

    #[test]
    fn who_names_callers_that_nothing_proves_is_warned() {
        let said = read(json!({"serviceAccounts": {"audiences": ["a"]}, "jwt": [{"issuer": "https://idp/a", "audiences": ["a"]}]}));
        let from: Vec<CallerMatch> = serde_json::from_value(json!([
            {"kind": "anonymous"}, {"kind": "serviceAccount"}, {"kind": "key", "name": "ci"}, {"kind": "jwt"},
            {"kind": "jwt", "issuer": "https://idp/*"}, {"kind": "jwt", "issuer": "https://other"},
        ]))
        .unwrap();
        let warnings: Vec<_> = said.warnings(Some(&from)).collect();
        assert_eq!(
            warnings,
            [
                "from[2]: nothing in server.authentication proves a caller of kind key",
                "from[5]: nothing in server.authentication proves a caller of issuer https://other",
            ]
        );
        assert_eq!(said.warnings(None).count(), 0);
    }

    /// A namespace's policy that describes a cluster policy's issuer anew could else vouch for callers that the cluster policy names.
    #[test]
    fn where_policies_differ_nobody_is_proved_that_way_and_the_conflict_is_told() {
        let issuer = |jwks: &str| read(json!({"jwt": [{"issuer": "https://a", "audiences": ["x"], "jwksUri": jwks}]}));
        let (real, forged) = (issuer("https://a/keys"), issuer("https://mallory/keys"));
        let agreed = Agreed::of(&[(None, &real), (Some("tenant"), &forged)]);
        assert_eq!((agreed.jwt, agreed.conflicts), (vec![], vec!["jwt of https://a".to_owned()]));

        let keys = read(json!({"keys": {"secretName": "keys"}, "authorization": "keep"}));
        let stripped = read(json!({"keys": {"secretName": "keys"}}));
        let agreed = Agreed::of(&[(None, &keys), (Some("tenant"), &stripped)]);
        assert_eq!((agreed.keys, agreed.authorization), (None, Forward::Strip), "one name, two namespaces: two Secrets");
        assert_eq!(agreed.conflicts, ["keys", "authorization"]);

        let [plain, reviewed] = [false, true].map(|review| read(json!({"serviceAccounts": {"audiences": ["a"], "review": review}})));
        let agreed = Agreed::of(&[(None, &reviewed), (Some("tenant"), &plain)]);
        assert_eq!((agreed.service_accounts, agreed.conflicts), (None, vec!["serviceAccounts".to_owned()]));
    }
}
