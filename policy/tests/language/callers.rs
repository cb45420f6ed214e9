//! Callers: who they are, and whom a policy speaks about.

use std::sync::Arc;
use std::time::Duration;

use mcp_policy::read::{self, FieldErrors};
use mcp_policy::{Call, Caller, Counters, Decision, Mode, Policies, Policy, PolicyId, ServerName, compile_resource};
use serde_json::{Map, Value, json};

use super::told;

fn service_account(namespace: &str, name: &str) -> Caller {
    Caller::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn jwt(issuer: &str, subject: &str, claims: &Value) -> Caller {
    let claims: Map<String, Value> = claims.as_object().unwrap().clone();
    Caller::Jwt { issuer: issuer.to_owned(), subject: subject.to_owned(), claims: Arc::new(claims) }
}

fn key(name: &str) -> Caller {
    Caller::Key { name: name.to_owned() }
}

fn anonymous(address: &str) -> Caller {
    Caller::anonymous(address.parse().unwrap())
}

fn spec(from: &Value) -> Result<mcp_policy::PolicySpec, FieldErrors> {
    read::spec(&json!({"selector": {}, "from": from}))
}

/// A policy of this name that speaks about these callers.
fn speaking_of(name: &str, from: &Value, mode: Mode, document: &Value) -> Policy {
    let from = spec(from).unwrap_or_else(|errors| panic!("{from}: {errors}")).from;
    compile_resource(PolicyId::new(Some("ns"), name), from.as_deref(), mode, &read::document(document).unwrap()).unwrap()
}

fn for_these(from: &Value) -> Policies {
    Policies::new(vec![speaking_of("p", from, Mode::Enforce, &json!({"default": "allow"}))])
}

fn decide(policies: &Policies, counters: &mut Counters, caller: &Caller) -> String {
    let call = Call { tool: "t", arguments: "", caller, session: None, server: ServerName { namespace: "ns", name: "server-0" } };
    match policies.decide(counters, &call, Duration::ZERO).decision {
        Decision::Allowed(_) => "allowed".to_owned(),
        refused @ Decision::Refused(_) => told(refused),
    }
}

fn decided(policies: &Policies, caller: &Caller) -> String {
    decide(policies, &mut Counters::default(), caller)
}

/// "`from` matches on these. A policy whose `from` does not match the caller is not in force for the call." "If none is in force, the
/// call is refused (`no_policy`)."
#[test]
fn a_policy_is_in_force_for_the_callers_that_an_entry_matches() {
    let planner = service_account("agents", "planner");
    let alice = jwt(
        "https://id.example.com",
        "alice",
        &json!({"groups": ["ops", "dev"], "verified": true, "n": 1, "realm": {"roles": ["admin"], "x": 1}}),
    );
    let cases = [
        (json!({"kind": "serviceAccount"}), &planner, true),
        (json!({"kind": "serviceAccount", "namespace": "agents", "name": "planner"}), &planner, true),
        (json!({"kind": "serviceAccount", "namespace": "agents", "name": "plan*"}), &planner, true),
        (json!({"kind": "serviceAccount", "namespace": "age*"}), &planner, true),
        (json!({"kind": "serviceAccount", "namespace": "agents", "name": "Planner"}), &planner, false),
        (json!({"kind": "serviceAccount", "namespace": "other", "name": "planner"}), &planner, false),
        (json!({"kind": "serviceAccount", "namespace": "agent", "name": "planner"}), &planner, false),
        (json!({"kind": "key"}), &planner, false),
        (json!({"kind": "anonymous"}), &planner, false),
        (json!({"kind": "jwt"}), &alice, true),
        (json!({"kind": "jwt", "issuer": "https://id.example.com"}), &alice, true),
        (json!({"kind": "jwt", "issuer": "https://id.example.com/"}), &alice, false),
        (json!({"kind": "jwt", "issuer": "https://*", "subject": "alice"}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "subject": "bob"}), &alice, false),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"groups": "ops"}}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"groups": "o*"}}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"groups": "admin"}}), &alice, false),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"groups": ["ops", "dev"]}}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"verified": true}}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"verified": "true"}}), &alice, false),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"n": 1}}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"n": 2}}), &alice, false),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"missing": null}}), &alice, false),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"realm": {"roles": "admin"}}}), &alice, true),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"realm": {"roles": "admin", "y": 1}}}), &alice, false),
        (json!({"kind": "jwt", "issuer": "*", "claims": {"groups": "ops", "verified": false}}), &alice, false),
        (json!({"kind": "serviceAccount"}), &alice, false),
        (json!({"kind": "key", "name": "ci"}), &key("ci"), true),
        (json!({"kind": "key", "name": "c?"}), &key("ci"), true),
        (json!({"kind": "key", "name": "cd"}), &key("ci"), false),
        (json!({"kind": "anonymous"}), &anonymous("10.0.0.1"), true),
        (json!({"kind": "key"}), &anonymous("10.0.0.1"), false),
    ];
    for (entry, caller, expected) in cases {
        let policies = for_these(&json!([entry]));
        let code = if expected { "allowed" } else { "no_policy -" };
        assert_eq!(decided(&policies, caller), code, "{entry} {caller}");
        assert_eq!(policies.lists(caller, "t"), expected, "{entry} {caller}");
        assert_eq!(policies.in_force(caller), expected, "{entry} {caller}");
        assert_eq!(policies.decide_method(caller, "resources/read").refusal.is_none(), expected, "{entry} {caller}");
        assert!(policies.decide_method(caller, "initialize").refusal.is_none(), "{entry} {caller}");
        assert_eq!(policies.governs_server(caller), !expected, "{entry} {caller}");
        let also = for_these(&json!([{"kind": "key", "name": "nobody"}, entry]));
        assert_eq!(decided(&also, caller), code, "one entry suffices: {entry} {caller}");
    }
}

/// "`address` is an address or a CIDR; IPv4 in IPv6 is read as IPv4".
#[test]
fn an_address_is_one_or_a_network() {
    for (address, caller, expected) in [
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("::ffff:10.0.0.1", "10.0.0.1", true),
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("10.0.0.0/8", "::ffff:10.9.9.9", true),
        ("::ffff:10.0.0.0/104", "10.9.9.9", true),
        ("::ffff:10.0.0.0/104", "11.9.9.9", false),
        ("10.0.0.0/30", "10.0.0.3", true),
        ("10.0.0.0/30", "10.0.0.4", false),
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "fd00::1", false),
        ("::/0", "fd00::1", true),
        ("::/0", "192.0.2.1", false),
        ("fd00::/8", "fdff::1", true),
        ("fd00::/8", "fe80::1", false),
        ("10.0.0.1/32", "10.0.0.1", true),
        ("fd00::1/128", "fd00::2", false),
    ] {
        let policies = for_these(&json!([{"kind": "anonymous", "address": address}]));
        let caller: std::net::IpAddr = caller.parse().unwrap();
        let caller = Caller::anonymous(caller);
        assert_eq!(decided(&policies, &caller), if expected { "allowed" } else { "no_policy -" }, "{address} {caller}");
    }
    for wrong in
        ["10.0.0", "10.0.0.1/", "10.0.0.0/33", "10.0.0.1/8", "fd00::/129", "fd00::1/8", "10.0.0.0/+8", "localhost", "10.*", " 10.0.0.1"]
    {
        let message = spec(&json!([{"kind": "anonymous", "address": wrong}])).unwrap_err().to_string();
        assert!(message.starts_with(&format!("spec.from[0].address: `{wrong}` ")), "{message}");
    }
}

/// "`from: []` matches nobody." "`from`: [caller match], ≤ 64; everyone".
#[test]
fn an_empty_from_is_nobody_and_none_is_everyone() {
    for caller in [service_account("a", "b"), key("k"), anonymous("10.0.0.1"), jwt("https://i.example.com", "s", &json!({}))] {
        assert_eq!(decided(&for_these(&json!([])), &caller), "no_policy -", "{caller}");
        assert_eq!(decided(&super::one(&json!({"default": "allow"})), &caller), "allowed", "{caller}");
    }
    let entries = |count: usize| spec(&Value::Array(vec![json!({"kind": "key"}); count]));
    assert!(entries(64).is_ok());
    assert_eq!(entries(65).unwrap_err().to_string(), "spec.from: has 65 entries; at most 64 are allowed");
    assert!(spec(&Value::Null).unwrap_err().to_string().starts_with("spec.from: "), "null is neither of the two");
}

#[test]
fn an_entry_that_takes_more_than_it_says_is_refused() {
    let required = "is required beside";
    for (entry, field, message) in [
        (json!({}), "kind", "is required"),
        (json!({"kind": "user"}), "kind", "`user` is not one of"),
        (json!({"kind": "serviceAccount", "name": "planner"}), "namespace", required),
        (json!({"kind": "jwt", "subject": "alice"}), "issuer", required),
        (json!({"kind": "jwt", "claims": {"groups": "ops"}}), "issuer", required),
        (json!({"kind": "key", "namespace": "agents"}), "namespace", "means nothing"),
        (json!({"kind": "anonymous", "name": "ci"}), "name", "means nothing"),
        (json!({"kind": "serviceAccount", "claims": {"a": 1}}), "claims", "means nothing"),
        (json!({"kind": "jwt", "address": "10.0.0.1"}), "address", "means nothing"),
        (json!({"kind": "key", "name": ""}), "name", "has from 1 to"),
        (json!({"kind": "key", "named": "ci"}), "named", "unknown field; did you mean `name`?"),
    ] {
        let errors = spec(&json!([entry])).unwrap_err().to_string();
        assert!(errors.starts_with(&format!("spec.from[0].{field}: {message}")), "{entry}: {errors}");
    }
}

/// "All policies in force must agree". One policy for each caller is what gateways call a grant.
#[test]
fn each_caller_has_its_own_policies() {
    let writer = json!([{"kind": "key", "name": "writer"}]);
    let policies = Policies::new(vec![
        speaking_of("all", &json!([{"kind": "key"}]), Mode::Enforce, &json!({"default": "allow", "hide": ["t"]})),
        speaking_of("writer", &writer, Mode::Enforce, &json!({"default": "allow"})),
    ]);
    assert_eq!(decided(&policies, &key("writer")), "hidden /hide/0", "the other policy is in force as well");
    let policies = Policies::new(vec![
        speaking_of("reader", &json!([{"kind": "key", "name": "reader"}]), Mode::Enforce, &json!({})),
        speaking_of("writer", &writer, Mode::Enforce, &json!({"default": "allow"})),
    ]);
    assert_eq!(decided(&policies, &key("reader")), "default_deny /default");
    assert_eq!(decided(&policies, &key("writer")), "allowed");
    assert!(policies.lists(&key("writer"), "t") && !policies.lists(&key("reader"), "t"));
}

/// "A policy in `audit` mode is in force and never refuses or hides".
#[test]
fn a_policy_in_audit_mode_says_nothing_of_callers_that_it_does_not_speak_about() {
    let from = json!([{"kind": "key", "name": "ci"}]);
    let policies = Policies::new(vec![speaking_of("trial", &from, Mode::Audit, &json!({}))]);
    let audited = |caller: &Caller| {
        let call = Call { tool: "t", arguments: "", caller, session: None, server: ServerName { namespace: "ns", name: "server-0" } };
        let outcome = policies.decide(&mut Counters::default(), &call, Duration::ZERO);
        (matches!(outcome.decision, Decision::Allowed(_)), outcome.audited.len())
    };
    assert_eq!(audited(&key("ci")), (true, 1));
    assert_eq!(audited(&key("cd")), (false, 0), "none is in force");
}

/// "one that never compiled refuses every call to the pods it selects", whoever makes it.
#[test]
fn a_policy_that_never_compiled_speaks_about_everyone() {
    let policies = Policies::new(vec![
        speaking_of("p", &json!([{"kind": "key"}]), Mode::Enforce, &json!({"default": "allow"})),
        Policy::refusing(PolicyId::new(Some("ns"), "q")),
    ]);
    assert_eq!(decided(&policies, &key("ci")), "no_policy -");
    assert!(!policies.in_force(&key("ci")));
}

/// "An anonymous caller gets `unauthenticated` with 401 if a policy of the pod names a kind of caller that this sidecar can prove".
#[test]
fn where_callers_prove_who_they_are_the_anonymous_need_an_entry() {
    let everyone = speaking_of(
        "p",
        &json!([{"kind": "key"}, {"kind": "anonymous", "address": "10.0.0.0/8"}]),
        Mode::Enforce,
        &json!({"default": "allow"}),
    );
    let policies = Policies::new(vec![everyone]).with_callers_that_prove();
    assert_eq!(decided(&policies, &anonymous("10.0.0.1")), "allowed");
    let without_from = super::one(&json!({"default": "allow"})).with_callers_that_prove();
    for (policies, caller) in [(&policies, anonymous("192.0.2.1")), (&without_from, anonymous("10.0.0.1"))] {
        assert_eq!(decided(policies, &caller), "unauthenticated -");
        assert!(!policies.lists(&caller, "t") && !policies.in_force(&caller) && policies.governs_server(&caller));
        for method in ["initialize", "ping", "notifications/initialized", "resources/read"] {
            let refusal = policies.decide_method(&caller, method).refusal.unwrap();
            assert_eq!(refusal.code.as_str(), "unauthenticated", "{method}: who must prove something does so first");
        }
    }
    assert_eq!(decided(&without_from, &key("ci")), "allowed");
    assert_eq!(decided(&for_these(&json!([])).with_callers_that_prove(), &key("ci")), "no_policy -", "a proof is no permission");
}

/// "`grant` (default): one caller".
#[test]
fn each_proved_caller_has_a_budget_of_its_own() {
    let limits = json!([{"counter": "c", "window": "minute", "max": 1}]);
    let policies = super::one(&json!({"tools": {"t": {"limits": limits}}}));
    let mut counters = Counters::default();
    let claims = json!({"groups": ["other"], "exp": 7});
    let callers = [
        service_account("a", "b"),
        service_account("b", "a"),
        key("a/b"),
        jwt("https://id.example.com", "a", &json!({})),
        jwt("https://id.example.com", "b", &json!({})),
        jwt("https://id2.example.com", "a", &json!({})),
        anonymous("10.0.0.1"),
    ];
    for caller in &callers {
        assert_eq!(decide(&policies, &mut counters, caller), "allowed", "{caller}");
    }
    for caller in callers.iter().chain([&jwt("https://id.example.com", "a", &claims)]) {
        assert!(decide(&policies, &mut counters, caller).starts_with("limit_exceeded"), "{caller}: another token is no other caller");
    }
}

/// "A caller is what authentication proved, else anonymous: `{kind: serviceAccount, namespace, name}`, `{kind: jwt, issuer, subject,
/// claims}`, `{kind: key, name}`, `{kind: anonymous, address}`." "CEL: […] `caller` as in Callers".
#[test]
fn expressions_see_the_caller() {
    let alice = jwt("https://id.example.com", "alice", &json!({"groups": ["ops", "dev"], "level": 3, "ratio": 0.5, "none": null}));
    let holds = |expression: &str, caller: &Caller| {
        decided(&super::one(&json!({"allTools": {"require": [{"cel": expression}]}, "default": "allow"})), caller)
    };
    for (expression, caller) in [
        ("caller == {'kind': 'serviceAccount', 'namespace': 'a', 'name': 'b'}", service_account("a", "b")),
        ("caller.namespace == 'a' && caller.name == 'b'", service_account("a", "b")),
        ("caller == {'kind': 'key', 'name': 'ci'}", key("ci")),
        ("caller == {'kind': 'anonymous', 'address': '10.0.0.1'}", anonymous("10.0.0.1")),
        ("caller.kind == 'jwt' && caller.issuer == 'https://id.example.com' && caller.subject == 'alice'", alice.clone()),
        ("'ops' in caller.claims.groups && caller.claims.level >= 3 && caller.claims.ratio == 0.5", alice.clone()),
        ("caller.claims.groups.exists(g, g.startsWith('de')) && caller.claims.none == null", alice.clone()),
        ("has(caller.claims) && has(caller.claims.groups) && !has(caller.claims.email)", alice.clone()),
        ("!has(caller.claims) && !has(caller.address) && has(caller.kind)", key("ci")),
        ("caller.kind == 'jwt' ? caller.claims.level == 3 : caller.kind == 'key'", key("ci")),
    ] {
        assert_eq!(holds(expression, &caller), "allowed", "{expression}");
    }
    for (expression, caller) in
        [("caller.claims.groups == []", key("ci")), ("caller.name == 'ci'", alice.clone()), ("caller.claims.email == ''", alice)]
    {
        assert_eq!(holds(expression, &caller), "policy_error /allTools/require/0", "{expression}: what is not there is an error");
    }
}
