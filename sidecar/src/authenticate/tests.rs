//! Each attack is rejected, and for its own reason.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use mcp_policy::Caller;
use mcp_policy::authentication::Algorithm as Named;
use mcp_policy::snapshot::{SnapshotAuthentication, SnapshotIssuer, SnapshotKey};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Authenticator, Bearer, Proved, Rejected};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://id.example.com";
const CLUSTER: &str = "https://kubernetes.default.svc";

/// A signer of RS256 whose public half is in a key set.
struct Rsa {
    pair: RsaKeyPair,
    id: &'static str,
}

impl Rsa {
    fn new(id: &'static str) -> Self {
        Self { pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), id }
    }

    fn jwk(&self) -> Value {
        let public = self.pair.public_key();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (modulus, exponent) = (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
        json!({ "kty": "RSA", "kid": self.id, "use": "sig", "alg": "RS256", "n": part(modulus), "e": part(exponent) })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": "RS256", "kid": self.id }), claims)
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": ["other", "mcp"], "sub": "alice", "exp": NOW + 60, "groups": ["ops"] })
}

fn with(field: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[field] = value;
    claims
}

fn without(field: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(field);
    claims
}

fn issuer(issuer: &str, algorithms: &[Named], keys: &[Value]) -> SnapshotIssuer {
    let audiences = vec!["mcp".to_owned()];
    SnapshotIssuer { issuer: issuer.to_owned(), audiences, algorithms: algorithms.to_vec(), review: false, jwks: json!({ "keys": keys }) }
}

fn allowing(algorithms: &[Named], keys: &[Value]) -> Authenticator {
    let said = SnapshotAuthentication { jwt: vec![issuer(ISSUER, algorithms, keys)], ..SnapshotAuthentication::default() };
    Authenticator::from_snapshot(&said).unwrap()
}

fn trusting(keys: &[Value]) -> Authenticator {
    allowing(&[], keys)
}

fn headers(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
}

fn prove(authenticator: &Authenticator, headers: &HeaderMap, now: u64) -> Result<Proved, Rejected> {
    authenticator.prove(&Bearer::of(headers)?, now)
}

fn ask(authenticator: &Authenticator, token: &str, now: u64) -> Result<String, Rejected> {
    prove(authenticator, &headers(&[&format!("Bearer {token}")]), now).map(|proved| proved.caller.to_string())
}

#[test]
fn a_valid_token_proves_its_subject_until_it_ends() {
    let key = Rsa::new("1");
    let authenticator = trusting(&[key.jwk()]);
    let token = key.token(&claims());
    let proved = prove(&authenticator, &headers(&[&format!("bEARER   {token} ")]), NOW).unwrap();
    assert_eq!(proved.until, Some(NOW + 90));
    let Caller::Jwt { issuer, subject, claims } = proved.caller else { panic!("{:?}", proved.caller) };
    assert_eq!((issuer.as_str(), subject.as_str(), &claims["groups"]), (ISSUER, "alice", &json!(["ops"])));
    assert!(ask(&authenticator, &token, NOW + 90).is_ok(), "within the skew, and remembered");
    assert_eq!(ask(&authenticator, &token, NOW + 91), Err(Rejected::Expired), "what is remembered ends too");
}

#[test]
fn each_attack_is_rejected() {
    let (key, other) = (Rsa::new("1"), Rsa::new("1"));
    let authenticator = trusting(&[key.jwk()]);
    let valid = key.token(&claims());
    let (signed, signature) = valid.rsplit_once('.').unwrap();
    let secret = |bytes: &[u8]| {
        let header = Header { kid: Some("1".to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(), &EncodingKey::from_secret(bytes)).unwrap()
    };
    let jwk = key.jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let none = |alg: &str| unsigned(&json!({ "alg": alg, "kid": "1" }), &claims());
    let attacks = [
        ("no signature, and says so", format!("{}.", none("none")), Rejected::Algorithm),
        ("the same in capitals", format!("{}.", none("None")), Rejected::Algorithm),
        ("no signature, and does not say so", format!("{signed}."), Rejected::Signature),
        ("none, with a signature", format!("{}.{signature}", none("none")), Rejected::Algorithm),
        ("the public key as a secret", secret(&modulus), Rejected::Algorithm),
        ("the public key's text as a secret", secret(jwk.to_string().as_bytes()), Rejected::Algorithm),
        ("an empty secret", secret(b""), Rejected::Algorithm),
        ("signed by another key of this name", other.token(&claims()), Rejected::Signature),
        (
            "a key that the token brings along",
            other.sign(&json!({ "alg": "RS256", "kid": "1", "jwk": other.jwk() }), &claims()),
            Rejected::Signature,
        ),
        ("an unknown key", key.sign(&json!({ "alg": "RS256", "kid": "2" }), &claims()), Rejected::UnknownKey),
        ("another algorithm than the key's", key.sign(&json!({ "alg": "RS512", "kid": "1" }), &claims()), Rejected::UnknownKey),
        ("another family", key.sign(&json!({ "alg": "ES256", "kid": "1" }), &claims()), Rejected::UnknownKey),
        ("what must be understood", key.sign(&json!({ "alg": "RS256", "kid": "1", "crit": ["exp"] }), &claims()), Rejected::Claims),
        (
            "another's claims under the signature",
            format!("{}.{signature}", unsigned(&json!({ "alg": "RS256", "kid": "1" }), &with("sub", json!("root")))),
            Rejected::Signature,
        ),
        ("for another server", key.token(&with("aud", json!("other"))), Rejected::Audience),
        ("for a server of a longer name", key.token(&with("aud", json!(["mcp2", "MCP"]))), Rejected::Audience),
        ("for nobody", key.token(&without("aud")), Rejected::Claims),
        ("of another issuer", key.token(&with("iss", json!("https://evil.example.com"))), Rejected::Issuer),
        ("of an issuer with a slash more", key.token(&with("iss", json!(format!("{ISSUER}/")))), Rejected::Issuer),
        ("of no issuer", key.token(&without("iss")), Rejected::Issuer),
        ("of a list of issuers", key.token(&with("iss", json!([ISSUER]))), Rejected::Issuer),
        ("ended", key.token(&with("exp", json!(NOW - 31))), Rejected::Expired),
        ("without an end", key.token(&without("exp")), Rejected::Claims),
        ("with an end in words", key.token(&with("exp", json!("never"))), Rejected::Claims),
        ("not valid yet", key.token(&with("nbf", json!(NOW + 31))), Rejected::NotYet),
        ("of nobody", key.token(&without("sub")), Rejected::Claims),
        ("of an empty subject", key.token(&with("sub", json!(""))), Rejected::Claims),
        ("of an endless subject", key.token(&with("sub", json!("x".repeat(256)))), Rejected::Claims),
        ("no token", "x".to_owned(), Rejected::Malformed),
        ("two parts", signed.to_owned(), Rejected::Malformed),
        ("four parts", format!("{valid}.x"), Rejected::Malformed),
        ("oversize", "x".repeat(16 * 1024 + 1), Rejected::Malformed),
        ("a character that no token has", format!("{valid}}}"), Rejected::Malformed),
    ];
    for (what, token, expected) in attacks {
        assert_eq!(ask(&authenticator, &token, NOW), Err(expected), "{what}");
        assert_eq!(ask(&authenticator, &token, NOW), Err(expected), "{what}, once more");
    }
    assert_eq!(ask(&authenticator, &valid, NOW), Ok(format!("jwt:{ISSUER}#alice")));
    for (what, headers, expected) in [
        ("nothing", headers(&[]), Rejected::Missing),
        ("another scheme", headers(&["Basic YTpi"]), Rejected::Missing),
        ("two headers", headers(&[&format!("Bearer {valid}"), &format!("Bearer {valid}")]), Rejected::Malformed),
        ("two headers, one of another scheme", headers(&["Basic YTpi", &format!("Bearer {valid}")]), Rejected::Malformed),
        ("two tokens", headers(&[&format!("Bearer {valid}, Bearer {valid}")]), Rejected::Malformed),
        ("only the scheme", headers(&["Bearer"]), Rejected::Missing),
    ] {
        assert_eq!(prove(&authenticator, &headers, NOW), Err(expected), "{what}");
    }
}

#[test]
fn a_rejection_tells_nothing_of_the_token() {
    let key = Rsa::new("1");
    let authenticator = trusting(&[key.jwk()]);
    let token = key.token(&with("sub", json!("very-secret-subject")));
    ask(&authenticator, &token, NOW).unwrap();
    for part in token.split('.').chain(["very-secret"]) {
        assert!(!format!("{:?}", authenticator.keys).contains(part) && !format!("{:?}", authenticator.issuers).contains(part));
    }
}

#[test]
fn an_issuer_may_have_keys_of_every_kind_and_several_while_they_rotate() {
    let (old, new) = (Rsa::new("old"), Rsa::new("new"));
    let rng = SystemRandom::new();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = |alg: &str, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let signed = unsigned(&json!({ "alg": alg, "kid": alg }), &claims());
        let signature = part(&sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let ecdsa = |algorithm, alg: &str, curve: &str, size: usize| {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (part(&point[1..=size]), part(&point[size + 1..]));
        let jwk = json!({ "kty": "EC", "crv": curve, "kid": alg, "x": x, "y": y });
        (jwk, signed(alg, &|bytes| pair.sign(&rng, bytes).unwrap().as_ref().to_vec()))
    };
    let (p256, by_p256) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256", 32);
    let (p384, by_p384) = ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384", 48);
    let pair = Ed25519KeyPair::generate().unwrap();
    let edwards = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": part(pair.public_key().as_ref()) });
    let by_edwards = signed("EdDSA", &|bytes| pair.sign(bytes).as_ref().to_vec());
    let unknown_kind = json!({ "kty": "oct", "kid": "secret", "k": "AAAA" });
    let all = trusting(&[old.jwk(), new.jwk(), p256, p384, edwards, unknown_kind]);
    let without_a_name = new.sign(&json!({ "alg": "RS256" }), &claims());
    for token in [old.token(&claims()), new.token(&claims()), without_a_name, by_p256, by_p384, by_edwards] {
        assert_eq!(ask(&all, &token, NOW), Ok(format!("jwt:{ISSUER}#alice")));
    }
    assert_eq!(ask(&trusting(&[new.jwk()]), &old.token(&claims()), NOW), Err(Rejected::UnknownKey));
}

#[test]
fn a_policy_may_allow_fewer_algorithms() {
    let key = Rsa::new("1");
    let token = key.token(&claims());
    assert!(ask(&allowing(&[Named::ES256, Named::RS256], &[key.jwk()]), &token, NOW).is_ok());
    assert_eq!(ask(&allowing(&[Named::ES256], &[key.jwk()]), &token, NOW), Err(Rejected::Algorithm));
}

/// A key set is the issuer's, and has more in it than anybody here knows.
#[test]
fn what_a_key_set_has_that_is_not_for_signatures_is_passed_over() {
    let key = Rsa::new("1");
    let mut for_encryption = Rsa::new("1").jwk();
    for_encryption["use"] = json!("enc");
    for_encryption["alg"] = json!("RSA-OAEP-256");
    let strange = json!({ "kty": "AKP", "alg": "ML-DSA-65", "kid": "1", "pub": "AAAA" });
    let authenticator = trusting(&[for_encryption, strange, json!(7), key.jwk()]);
    assert!(ask(&authenticator, &key.token(&claims()), NOW).is_ok());
}

#[test]
fn an_issuer_whose_keys_were_never_read_proves_nothing() {
    let said = SnapshotIssuer { jwks: Value::Null, ..issuer(ISSUER, &[], &[]) };
    let authenticator = Authenticator::from_snapshot(&SnapshotAuthentication { jwt: vec![said], ..Default::default() }).unwrap();
    assert_eq!(ask(&authenticator, &Rsa::new("1").token(&claims()), NOW), Err(Rejected::UnknownKey));
}

#[test]
fn what_cannot_prove_anybody_is_named() {
    let read = |said: &SnapshotAuthentication| Authenticator::from_snapshot(said).unwrap_err().to_string();
    let no_set = SnapshotIssuer { jwks: json!({ "keys": "none" }), ..issuer(ISSUER, &[], &[]) };
    assert!(read(&SnapshotAuthentication { jwt: vec![no_set], ..Default::default() }).contains(ISSUER));
    for (salt, sha256) in [("00".repeat(15), "00".repeat(32)), ("00".repeat(16), "0g".repeat(32)), ("00".repeat(16), "é".repeat(32))] {
        let key = SnapshotKey { name: "ci".to_owned(), salt, sha256, until: None };
        assert!(read(&SnapshotAuthentication { keys: Some(vec![key]), ..Default::default() }).contains("key of ci"));
    }
}

#[test]
fn a_service_account_is_what_the_bound_claims_and_the_subject_say() {
    let key = Rsa::new("1");
    let said = SnapshotAuthentication { service_accounts: Some(issuer(CLUSTER, &[], &[key.jwk()])), ..Default::default() };
    let authenticator = Authenticator::from_snapshot(&said).unwrap();
    let token = |subject: &str, bound: Value| {
        key.token(&json!({ "iss": CLUSTER, "aud": ["mcp"], "exp": NOW + 1, "sub": subject, "kubernetes.io": bound }))
    };
    let bound = json!({ "namespace": "agents", "serviceaccount": { "name": "planner", "uid": "1" }, "pod": { "name": "p", "uid": "2" } });
    let subject = "system:serviceaccount:agents:planner";
    assert_eq!(ask(&authenticator, &token(subject, bound.clone()), NOW), Ok("serviceaccount:agents/planner".to_owned()));
    for (subject, bound) in [
        ("system:serviceaccount:agents:root", bound.clone()),
        ("alice", bound),
        (subject, json!({ "namespace": "agents" })),
        (subject, json!(null)),
    ] {
        assert_eq!(ask(&authenticator, &token(subject, bound), NOW), Err(Rejected::Claims), "{subject}");
    }
    // All clusters call their issuer so.
    let of_another_cluster = Rsa::new("1").token(&json!({
        "iss": CLUSTER, "aud": ["mcp"], "exp": NOW + 1, "sub": subject,
        "kubernetes.io": { "namespace": "agents", "serviceaccount": { "name": "planner", "uid": "1" } },
    }));
    assert_eq!(ask(&authenticator, &of_another_cluster, NOW), Err(Rejected::Signature));
}

fn hashed(key: &str, salt: u8, until: Option<u64>) -> SnapshotKey {
    let name = key.trim_start_matches("mcpk_").split('.').next().unwrap().to_owned();
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let digest = Sha256::new().chain_update([salt; 16]).chain_update(key).finalize();
    SnapshotKey { name, salt: hex(&[salt; 16]), sha256: hex(&digest), until }
}

fn knowing(keys: Vec<SnapshotKey>) -> Authenticator {
    Authenticator::from_snapshot(&SnapshotAuthentication { keys: Some(keys), ..Default::default() }).unwrap()
}

#[test]
fn a_caller_may_have_several_keys_and_a_revoked_one_proves_nothing() {
    let (old, new, other) = ("mcpk_ci.aaaa", "mcpk_ci.bbbb", "mcpk_cd.cccc");
    let all = knowing(vec![hashed(old, 1, Some(NOW)), hashed(new, 2, None), hashed(other, 2, None)]);
    for (key, name) in [(old, "key:ci"), (new, "key:ci"), (other, "key:cd")] {
        assert_eq!(ask(&all, key, NOW), Ok(name.to_owned()), "{key}");
    }
    assert_eq!(ask(&all, old, NOW + 1), Err(Rejected::Expired));
    assert_eq!(ask(&knowing(vec![hashed(new, 2, None)]), old, NOW), Err(Rejected::Key), "revoked");
    for wrong in ["mcpk_cd.aaaa", "mcpk_ci.", "mcpk_ci", "mcpk_", "mcpk_x.aaaa", "mcpk_ci.aaaab", "mcpk_ci.AAAA"] {
        assert_eq!(ask(&all, wrong, NOW), Err(Rejected::Key), "{wrong}");
    }
}

/// What is proved once is asked anew only when it has ended; and a token that differs in one letter is another one.
#[test]
fn only_the_very_token_that_was_proved_is_remembered() {
    let key = Rsa::new("1");
    let authenticator = trusting(&[key.jwk()]);
    let token = key.token(&claims());
    ask(&authenticator, &token, NOW).unwrap();
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        // The last letter of a part has bits that stand for nothing, which are refused where they are not zero.
        assert!(ask(&authenticator, &other, NOW).is_err(), "{at}");
    }
}

proptest! {
    /// No bytes at all prove anybody, or end otherwise than by a rejection.
    #[test]
    fn what_is_made_up_proves_nobody(parts in prop::collection::vec(made_up(), 0..5), scheme in "(Bearer|bearer|Basic)?[ \\t]{0,2}") {
        let header = format!("{scheme}{}", parts.join("."));
        if let Ok(value) = HeaderValue::from_str(&header) {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            prop_assert!(prove(&EVERYBODY, &headers, NOW).is_err());
        }
    }
}

/// One that trusts an issuer and knows a key.
static EVERYBODY: LazyLock<Authenticator> = LazyLock::new(|| {
    let jwt = vec![issuer(ISSUER, &[], &[Rsa::new("1").jwk()])];
    let keys = Some(vec![hashed("mcpk_ci.aaaa", 1, None)]);
    Authenticator::from_snapshot(&SnapshotAuthentication { jwt, keys, ..Default::default() }).unwrap()
});

/// A part of a token that may be one.
fn made_up() -> impl Strategy<Value = String> {
    let text = |json: &str| URL_SAFE_NO_PAD.encode(json);
    prop_oneof![
        "[A-Za-z0-9_=+/-]{0,40}",
        Just("mcpk_ci".to_owned()),
        prop::sample::select(vec![
            "{}",
            "null",
            "[]",
            "\"RS256\"",
            r#"{"alg":"none"}"#,
            r#"{"alg":"RS256","kid":"1"}"#,
            r#"{"alg":"HS256","kid":"1"}"#
        ])
        .prop_map(text),
        prop::sample::select(vec![
            r#"{"iss":"https://id.example.com"}"#,
            r#"{"iss":"https://id.example.com","aud":"mcp","sub":"a","exp":4e9}"#
        ])
        .prop_map(text),
        "\\PC{0,20}",
    ]
}
