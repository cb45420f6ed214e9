//! What no way of proving callers can be, in the words of the API server, which refuses the same.

use serde_json::Value;

use super::{FieldError, error};
use crate::authentication::{Authentication, Forward, JwtIssuer};
use crate::key::is_name;
use crate::url::is_url;

/// As many issuers as one policy trusts.
const MAX_ISSUERS: usize = 8;
/// As many audiences as one issuer takes.
const MAX_AUDIENCES: usize = 8;
/// As many bytes as a name of Kubernetes has.
const MAX_NAME: usize = 253;

/// Fields that cannot mean anything, from `path` down.
pub(super) fn impossible(authentication: &Authentication, path: &str) -> Vec<FieldError> {
    let Authentication { service_accounts, jwt, keys, authorization, credential, resource } = authentication;
    let mut errors = Vec::new();
    let mut wrong = |field: &str, message: &str| errors.push(error(format!("{path}{field}"), message));
    if service_accounts.is_none() && jwt.is_empty() && keys.is_none() {
        wrong("", "needs at least one of serviceAccounts, jwt and keys; without a way to prove itself every caller is refused");
    }
    if *authorization == Forward::Keep && credential.is_some() {
        wrong("", "the server gets one Authorization header: the caller's with `authorization: keep`, or its own by `credential`");
    }
    if let Some(accounts) = service_accounts {
        audiences(".serviceAccounts", &accounts.audiences, &mut wrong);
    }
    if jwt.len() > MAX_ISSUERS {
        wrong(".jwt", &format!("has {} entries; at most {MAX_ISSUERS} are allowed", jwt.len()));
    }
    for (i, JwtIssuer { issuer, audiences: of_tokens, algorithms: _, jwks_uri, ca_bundle }) in jwt.iter().enumerate() {
        let field = format!(".jwt[{i}]");
        if jwt[..i].iter().any(|before| before.issuer == *issuer) {
            wrong(".jwt", "an issuer has one entry");
        }
        if !is_url(issuer, &["https"], &['?', '#']) {
            wrong(&format!("{field}.issuer"), "is an https URL with neither query nor fragment");
        }
        if jwks_uri.as_ref().is_some_and(|uri| !is_url(uri, &["https"], &['#'])) {
            wrong(&format!("{field}.jwksUri"), "is an https URL without a fragment");
        }
        if ca_bundle.as_ref().is_some_and(|bundle| !bundle.contains("-----BEGIN CERTIFICATE-----")) {
            wrong(&format!("{field}.caBundle"), "holds no certificate in PEM form");
        }
        audiences(&field, of_tokens, &mut wrong);
    }
    let secrets = [("keys", keys.as_ref().map(|keys| &keys.secret_name)), ("credential", credential.as_ref().map(|one| &one.secret_name))];
    for (field, _) in secrets.into_iter().filter(|(_, name)| name.is_some_and(|name| !is_name(name, MAX_NAME, b"-."))) {
        wrong(&format!(".{field}.secretName"), "is not the name of a Secret");
    }
    if resource.as_ref().is_some_and(|resource| !is_url(resource, &["https", "http"], &['#'])) {
        wrong(".resource", "is an http or https URL without a fragment");
    }
    errors
}

/// Null where it would take a protection away: what an empty template writes.
pub(super) fn null(spec: &Value) -> Option<FieldError> {
    let is_null = spec.pointer("/server/authentication").is_some_and(Value::is_null);
    is_null.then(|| error("spec.server.authentication", "must not be null; leave the field out where nothing is meant"))
}

fn audiences(field: &str, audiences: &[String], wrong: &mut impl FnMut(&str, &str)) {
    if audiences.is_empty() || audiences.len() > MAX_AUDIENCES {
        wrong(&format!("{field}.audiences"), &format!("has from 1 to {MAX_AUDIENCES} entries: what a token must be for"));
    }
    for (i, _) in audiences.iter().enumerate().filter(|(_, audience)| audience.trim().is_empty()) {
        wrong(&format!("{field}.audiences[{i}]"), "is blank");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::spec;
    use super::*;

    /// What is said of a policy whose server's callers prove themselves so; empty if nothing.
    fn told(authentication: &Value) -> String {
        let spec = spec(&json!({"selector": {}, "server": {"authentication": authentication}}));
        spec.err().map(|errors| errors.to_string().replace("spec.server.authentication", "")).unwrap_or_default()
    }

    fn issuer(more: &Value) -> Value {
        let mut issuer = json!({"issuer": "https://idp.example.com", "audiences": ["mcp"]});
        issuer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"jwt": [issuer]})
    }

    #[test]
    fn what_can_be_meant_is_accepted() {
        for authentication in [
            json!({"serviceAccounts": {"audiences": ["imaging"]}}),
            json!({"keys": {"secretName": "mcp-policy-keys"}, "credential": {"secretName": "a.b-1"}}),
            json!({"keys": {"secretName": "k"}, "authorization": "keep", "resource": "https://mcp.example.com/mcp?tenant=1"}),
            json!({"keys": {"secretName": "k"}, "resource": "http://imaging.imaging.svc:8080/mcp"}),
            issuer(&json!({"issuer": "https://[2001:db8::1]:8443/realms/a/"})),
            issuer(&json!({"jwksUri": "https://idp.example.com/keys?p=sign-in", "algorithms": ["ES256"]})),
            issuer(&json!({"caBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"})),
        ] {
            assert_eq!(told(&authentication), "", "{authentication}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let none = ": needs at least one of serviceAccounts, jwt and keys; without a way to prove itself every caller is refused";
        let keys = |more: Value| {
            let mut keys = json!({"keys": {"secretName": "k"}});
            keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            keys
        };
        let twice = json!({"jwt": [issuer(&json!({}))["jwt"][0], issuer(&json!({"audiences": ["other"]}))["jwt"][0]]});
        let https = ".jwt[0].issuer: is an https URL with neither query nor fragment";
        for (authentication, expected) in [
            (json!(null), ": must not be null; leave the field out where nothing is meant"),
            (json!({}), none),
            (json!({"jwt": [], "authorization": "keep"}), none),
            (
                keys(json!({"authorization": "keep", "credential": {"secretName": "c"}})),
                ": the server gets one Authorization header: the caller's with `authorization: keep`, or its own by `credential`",
            ),
            (
                json!({"serviceAccounts": {"audiences": []}}),
                ".serviceAccounts.audiences: has from 1 to 8 entries: what a token must be for",
            ),
            (json!({"serviceAccounts": {"audiences": ["a", " \t"]}}), ".serviceAccounts.audiences[1]: is blank"),
            (issuer(&json!({"audiences": [""]})), ".jwt[0].audiences[0]: is blank"),
            (issuer(&json!({"issuer": "http://127.0.0.1:9000"})), https),
            (issuer(&json!({"issuer": "https://"})), https),
            (issuer(&json!({"issuer": "https://user@idp"})), https),
            (issuer(&json!({"issuer": "https://idp/a b"})), https),
            (issuer(&json!({"issuer": "https://idp?tenant=1"})), https),
            (issuer(&json!({"issuer": "https://idp#a"})), https),
            (issuer(&json!({"jwksUri": "http://idp/keys"})), ".jwt[0].jwksUri: is an https URL without a fragment"),
            (issuer(&json!({"jwksUri": "file:///etc/keys"})), ".jwt[0].jwksUri: is an https URL without a fragment"),
            (issuer(&json!({"caBundle": "MIIB"})), ".jwt[0].caBundle: holds no certificate in PEM form"),
            (twice, ".jwt: an issuer has one entry"),
            (json!({"keys": {"secretName": "Keys"}}), ".keys.secretName: is not the name of a Secret"),
            (json!({"keys": {"secretName": "../a"}}), ".keys.secretName: is not the name of a Secret"),
            (keys(json!({"credential": {"secretName": ""}})), ".credential.secretName: is not the name of a Secret"),
            (keys(json!({"resource": "imaging"})), ".resource: is an http or https URL without a fragment"),
            (keys(json!({"resource": "https://mcp/mcp#a"})), ".resource: is an http or https URL without a fragment"),
        ] {
            assert_eq!(told(&authentication), expected, "{authentication}");
        }
        let many: Vec<_> = (0..9).map(|i| json!({"issuer": format!("https://idp{i}"), "audiences": ["a"]})).collect();
        assert_eq!(told(&json!({"jwt": many})), ".jwt: has 9 entries; at most 8 are allowed");
        assert!(told(&issuer(&json!({"algorithms": ["HS256"]}))).starts_with(".jwt[0].algorithms[0]: `HS256` is not one of"));
    }
}
