//! Pure: the documents in which issuers say what their keys are.

use serde_json::{Map, Value, json};

/// An issuer has two or three keys, and a few more while it rotates them. Each is in the snapshot of each pod.
const MAX_KEYS: usize = 32;
/// Longer than a number of RSA with 8,192 bits.
const MAX_TEXT: usize = 2048;
/// What verifying takes (RFC 7517, RFC 7518, RFC 8037). Left out are chains of certificates, which are long, and private parts, which
/// are nobody's business.
const FIELDS: [&str; 10] = ["kty", "use", "key_ops", "alg", "kid", "crv", "x", "y", "n", "e"];
/// Asymmetric ones: of a symmetric key, whoever verifies with it could sign.
const KEY_TYPES: [&str; 3] = ["RSA", "EC", "OKP"];

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A discovery document of somebody else.
    #[error("the discovery document is of issuer {0:?}")]
    OtherIssuer(String),
    /// A discovery document that does not say where the keys are.
    #[error("the discovery document names no jwks_uri")]
    NoKeys,
    /// A key set that is none.
    #[error("the answer is not a JSON Web Key Set")]
    NoKeySet,
    /// More keys than anybody has.
    #[error("the key set has {0} keys; at most {MAX_KEYS} are read")]
    TooMany(usize),
}

/// Where a discovery document of this issuer says that its keys are (`OpenID` Connect Discovery 1.0, 4.3).
pub fn jwks_uri<'a>(issuer: &str, discovery: &'a Value) -> Result<&'a str, DocumentError> {
    let text = |field: &str| discovery.get(field).and_then(Value::as_str);
    let named = text("issuer").unwrap_or_default();
    if named != issuer {
        return Err(DocumentError::OtherIssuer(named.chars().take(256).collect()));
    }
    text("jwks_uri").ok_or(DocumentError::NoKeys)
}

/// The public keys of a key set, in an order of their own: some issuers shuffle them, and sidecars are told of changes only.
pub fn public_keys(set: &Value) -> Result<Value, DocumentError> {
    let keys = set.get("keys").and_then(Value::as_array).ok_or(DocumentError::NoKeySet)?;
    if keys.len() > MAX_KEYS {
        return Err(DocumentError::TooMany(keys.len()));
    }
    let mut keys: Vec<Value> = keys.iter().filter_map(Value::as_object).filter(|key| verifies(key)).map(essence).collect();
    keys.sort_by_cached_key(Value::to_string);
    Ok(json!({ "keys": keys }))
}

fn verifies(key: &Map<String, Value>) -> bool {
    let text = |field: &str| key.get(field).and_then(Value::as_str);
    text("kty").is_some_and(|kind| KEY_TYPES.contains(&kind)) && text("use").is_none_or(|purpose| purpose == "sig")
}

fn essence(key: &Map<String, Value>) -> Value {
    let is_short = |value: &Value| value.as_str().is_none_or(|text| text.len() <= MAX_TEXT);
    let fields = FIELDS.iter().filter_map(|field| Some(((*field).to_owned(), key.get(*field).filter(|value| is_short(value))?.clone())));
    fields.collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_speaks_for_its_own_issuer_only() {
        let document = json!({"issuer": "https://idp", "jwks_uri": "https://keys"});
        assert_eq!(jwks_uri("https://idp", &document), Ok("https://keys"));
        for other in ["https://idp/", "https://IDP", ""] {
            assert_eq!(jwks_uri(other, &document), Err(DocumentError::OtherIssuer("https://idp".to_owned())));
        }
        assert_eq!(jwks_uri("https://idp", &json!({"issuer": "https://idp"})), Err(DocumentError::NoKeys));
        assert_eq!(jwks_uri("https://idp", &json!([])), Err(DocumentError::OtherIssuer(String::new())));
    }

    #[test]
    fn only_what_verifies_is_kept_and_in_one_order() {
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "b", "x": "x", "y": "y", "d": "private", "x5c": ["long"]});
        let rsa = json!({"kty": "RSA", "use": "sig", "kid": "a", "n": "n", "e": "AQAB", "alg": "RS256", "p": "private"});
        let others =
            [json!({"kty": "oct", "k": "shared"}), json!({"kty": "RSA", "use": "enc", "n": "n", "e": "e"}), json!("key"), json!({})];
        let set = |keys: Vec<&Value>| public_keys(&json!({"keys": keys})).unwrap();
        let one = set([&ec, &rsa].into_iter().chain(&others).collect());
        assert_eq!(one, set(vec![&rsa, &ec]));
        let text = one.to_string();
        assert!(!["private", "long", "shared", "enc"].iter().any(|word| text.contains(word)), "{text}");
        assert_eq!(one["keys"].as_array().unwrap().len(), 2);
        assert_eq!(set(vec![]), json!({"keys": []}), "an issuer that has withdrawn all its keys has none");
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for odd in [json!({}), json!([]), json!({"keys": {}}), json!(null)] {
            assert_eq!(public_keys(&odd), Err(DocumentError::NoKeySet), "{odd}");
        }
        assert_eq!(public_keys(&json!({"keys": vec![json!({}); 33]})), Err(DocumentError::TooMany(33)));
        let long = json!({"keys": [{"kty": "RSA", "n": "n".repeat(2049)}]});
        assert_eq!(public_keys(&long).unwrap(), json!({"keys": [{"kty": "RSA"}]}));
    }
}
