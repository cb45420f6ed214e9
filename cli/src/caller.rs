//! A caller as people write one: an IP address, the name that audit lines tell, or an object as expressions see it.

use std::net::IpAddr;
use std::sync::Arc;

use mcp_policy::Caller;
use mcp_policy::caller_match::CallerKind;
use mcp_policy::read::{self, FieldError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A caller as expressions see it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    kind: CallerKind,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    claims: Map<String, Value>,
    #[serde(default)]
    address: Option<IpAddr>,
}

/// Reads a caller of the command line: a text, or the JSON of an object.
pub fn of_argument(text: &str) -> Result<Caller, String> {
    let value = if text.starts_with('{') { serde_json::from_str(text).map_err(|error| error.to_string())? } else { text.into() };
    of_value(&value, "").map_err(|errors| errors.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; "))
}

/// Reads a caller of a file, where `path` is the place.
pub fn of_value(value: &Value, path: &str) -> Result<Caller, Vec<FieldError>> {
    if let Value::String(text) = value {
        return of_text(text).ok_or_else(|| {
            let message = format!(
                "`{text}` is neither an IP address nor a name like serviceaccount:namespace/name, key:name or jwt:issuer#subject, nor an object with `kind`"
            );
            vec![FieldError { path: path.to_owned(), message }]
        });
    }
    let written: Written = read::typed(value, path).map_err(|errors| errors.0)?;
    of_object(written).map_err(|message| vec![FieldError { path: path.to_owned(), message }])
}

fn of_text(text: &str) -> Option<Caller> {
    if let Ok(address) = text.parse() {
        return Some(Caller::anonymous(address));
    }
    let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
    match kind {
        "serviceaccount" => {
            let (namespace, name) = name.split_once('/')?;
            Some(Caller::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        "jwt" => {
            let (issuer, subject) = name.split_once('#')?;
            Some(jwt(issuer.to_owned(), subject.to_owned(), Map::new()))
        }
        "key" => Some(Caller::Key { name: name.to_owned() }),
        "anonymous" => name.parse().ok().map(Caller::anonymous),
        _ => None,
    }
}

fn of_object(written: Written) -> Result<Caller, String> {
    let Written { kind, namespace, name, issuer, subject, claims, address } = written;
    let needs = |fields: &str| format!("a caller of kind {} has {fields}, and nothing else", kind.as_str());
    match (kind, namespace, name, issuer, subject, address) {
        (CallerKind::ServiceAccount, Some(namespace), Some(name), None, None, None) if claims.is_empty() => {
            Ok(Caller::ServiceAccount { namespace, name })
        }
        (CallerKind::Jwt, None, None, Some(issuer), Some(subject), None) => Ok(jwt(issuer, subject, claims)),
        (CallerKind::Key, None, Some(name), None, None, None) if claims.is_empty() => Ok(Caller::Key { name }),
        (CallerKind::Anonymous, None, None, None, None, Some(address)) if claims.is_empty() => Ok(Caller::anonymous(address)),
        (CallerKind::ServiceAccount, ..) => Err(needs("`namespace` and `name`")),
        (CallerKind::Jwt, ..) => Err(needs("`issuer`, `subject` and perhaps `claims`")),
        (CallerKind::Key, ..) => Err(needs("`name`")),
        (CallerKind::Anonymous, ..) => Err(needs("`address`")),
    }
}

/// The token's issuer and subject are claims as well.
fn jwt(issuer: String, subject: String, mut claims: Map<String, Value>) -> Caller {
    claims.entry("iss").or_insert_with(|| issuer.clone().into());
    claims.entry("sub").or_insert_with(|| subject.clone().into());
    Caller::Jwt { issuer, subject, claims: Arc::new(claims) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_caller_is_read_in_each_of_its_forms() {
        let service_account = "serviceaccount:agents/planner";
        let cases = [
            (json!("10.0.0.1"), "anonymous:10.0.0.1"),
            (json!("::ffff:10.0.0.1"), "anonymous:10.0.0.1"),
            (json!("anonymous:fd00::1"), "anonymous:fd00::1"),
            (json!({"kind": "anonymous", "address": "10.0.0.1"}), "anonymous:10.0.0.1"),
            (json!(service_account), service_account),
            (json!({"kind": "serviceAccount", "namespace": "agents", "name": "planner"}), service_account),
            (json!("jwt:https://id.example.com#a#b"), "jwt:https://id.example.com#a#b"),
            (
                json!({"kind": "jwt", "issuer": "https://id.example.com", "subject": "a", "claims": {"x": 1}}),
                "jwt:https://id.example.com#a",
            ),
            (json!("key:ci"), "key:ci"),
            (json!({"kind": "key", "name": "ci"}), "key:ci"),
        ];
        for (written, name) in cases {
            let read = of_value(&written, "caller").map(|caller| caller.to_string());
            assert_eq!(read, Ok(name.to_owned()), "{written}");
            let argument = written.as_str().map_or_else(|| written.to_string(), str::to_owned);
            assert_eq!(of_argument(&argument).unwrap(), of_value(&written, "").unwrap());
        }
    }

    #[test]
    fn what_is_no_caller_is_refused() {
        for written in [
            json!("nobody"),
            json!("serviceaccount:agents"),
            json!("jwt:issuer"),
            json!("key:"),
            json!(7),
            json!({}),
            json!({"kind": "key"}),
            json!({"kind": "key", "name": "ci", "claims": {"a": 1}}),
            json!({"kind": "anonymous"}),
            json!({"kind": "serviceAccount", "name": "planner"}),
            json!({"kind": "jwt", "issuer": "https://id.example.com"}),
            json!({"kind": "key", "name": "ci", "tool": "x"}),
        ] {
            let errors = of_value(&written, "cases[0].caller").unwrap_err();
            assert!(errors.iter().all(|error| error.path.starts_with("cases[0].caller")), "{written}: {errors:?}");
        }
    }
}
