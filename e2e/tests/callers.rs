//! Callers that prove who they are, on a real cluster: real service accounts, a real identity provider, keys of the command line, and
//! clients of official SDKs. Every refusal is one that the server never heard of.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use mcp_policy_e2e::{
    cli::mcp_policy,
    client::Client,
    cluster::{busybox, example},
    issuer::Issuer,
    pod::Pod,
    sandbox::Sandbox,
    wait::{until, until_true},
    wire::{self, Response, Stream},
};
use serde_json::json;

const SELECTOR: &str = "selector: {matchLabels: {app: healthimaging-mcp}}";

/// A call without an SDK, with this token or none.
fn call(url: &str, tool: &str, bearer: Option<&str>) -> Response {
    let authorization = bearer.map(|bearer| format!("authorization: Bearer {bearer}"));
    let headers: Vec<&str> = authorization.iter().map(String::as_str).collect();
    wire::post(url, &headers, wire::call(1, tool, &json!({})).as_bytes())
}

/// A new session, with this token.
fn open(url: &str, bearer: &str) -> Response {
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "0"}}});
    wire::post(url, &[&format!("authorization: Bearer {bearer}")], initialize.to_string().as_bytes())
}

/// Whether the caller was asked to prove who it is, and how.
fn is_asked(response: &Response) -> bool {
    response.status == 401 && response.headers.get("www-authenticate").is_some_and(|how| how.starts_with("Bearer"))
}

fn executed(pod: &Pod) -> usize {
    pod.executions().values().sum()
}

#[test]
fn two_agents_of_different_service_accounts_have_their_own_tools() {
    let sandbox = Sandbox::new("accounts");
    let namespace = sandbox.namespace().to_owned();
    // The example as it stands, but for the namespace and the image that this cluster has.
    let here = |path: &str| example(path).replace("namespace: imaging", &format!("namespace: {namespace}")).replace("busybox:1", busybox());
    sandbox.apply(&here("callers/policy.yaml"));
    let pod = sandbox.imaging();
    sandbox.apply(&here("callers/agents.yaml"));
    for policy in ["planner", "exporter"] {
        sandbox.until_programmed(policy);
        sandbox.until_condition(policy, "CallersProvable", "True");
    }
    sandbox.kubectl(&["wait", "--for=condition=Ready", "pod/planner", "--timeout=60s"]);
    let planner = sandbox.kubectl(&["exec", "planner", "--", "cat", "/var/run/imaging/token"]);
    let exporter = sandbox.kubectl(&["create", "token", "exporter", "--audience", "imaging"]);
    let export = json!({"datastore_id": "d-radiology", "bucket": "research"});

    for client in [Client::Python1, Client::Python2, Client::TypeScript1] {
        let (mut agent, _way) = pod.agent_with(client, planner.trim());
        assert_eq!(agent.list(), ["list_datastores"], "{client:?}");
        assert!(agent.call("list_datastores", &json!({})).passed());
        let before = executed(&pod);
        let refused = agent.call("start_dicom_export_job", &export);
        assert_eq!((refused.code(), &refused.denial()["policy"]), ("default_deny", &json!(format!("{namespace}/planner"))), "{refused:?}");
        assert_eq!(executed(&pod), before);
        let (mut agent, _way) = pod.agent_with(client, exporter.trim());
        assert_eq!(agent.list(), ["start_dicom_export_job"], "{client:?}");
        assert!(agent.call("start_dicom_export_job", &export).passed());
    }

    let before = executed(&pod);
    let way = pod.forward(8080);
    let for_another = sandbox.kubectl(&["create", "token", "planner", "--audience", "billing"]);
    let for_the_api = sandbox.kubectl(&["create", "token", "planner"]);
    for bearer in [None, Some(for_another.trim()), Some(for_the_api.trim()), Some("e30.e30."), Some("nonsense")] {
        let response = call(&way.url(), "list_datastores", bearer);
        assert!(is_asked(&response), "{bearer:?}: {response:?}");
    }
    let nobody = sandbox.kubectl(&["create", "token", "default", "--audience", "imaging"]);
    let denial = &call(&way.url(), "list_datastores", Some(nobody.trim())).message()["result"]["_meta"]["mcp-policy.dev/denial"];
    assert_eq!(denial["code"], "no_policy", "it is proved, and no policy speaks about it");
    assert_eq!(executed(&pod), before);
    let audit = pod.logs("mcp-policy-sidecar");
    assert!(audit.contains(&format!("serviceaccount:{namespace}/planner")), "audit lines name the caller");
    for token in [&planner, &exporter, &for_another, &for_the_api] {
        assert!(!audit.contains(token.trim().rsplit('.').next().unwrap()), "a token is in the log");
    }
}

#[test]
fn a_key_that_is_revoked_proves_nothing_a_second_later_and_its_stream_ends() {
    let sandbox = Sandbox::new("keys");
    let keys = |arguments: &[&str]| {
        mcp_policy(None, &[&["key"], arguments, &["-n", sandbox.namespace()]].concat()).unwrap_or_else(|why| panic!("{why}"))
    };
    sandbox.policy(
        "ci",
        &format!("{SELECTOR}, server: {{authentication: {{keys: {{secretName: mcp-policy-keys}}}}}}, from: [{{kind: key, name: ci}}], tools: {{list_datastores: {{}}}}"),
    );
    let pod = sandbox.imaging();
    sandbox.until_programmed("ci");
    assert!(sandbox.until_condition("ci", "CallersProvable", "False").contains("mcp-policy-keys is not there"));
    let (key, next) = (keys(&["create", "ci"]), keys(&["create", "ci", "--expires", "1h"]));
    let other = keys(&["create", "other"]);
    let [key, next, other] = [key.trim(), next.trim(), other.trim()];
    let way = pod.forward(8080);
    until_true("the key is known", || open(&way.url(), key).status == 200);
    until_true("the next key is known", || open(&way.url(), next).status == 200);
    let denial = &call(&way.url(), "list_datastores", Some(other)).message()["result"]["_meta"]["mcp-policy.dev/denial"];
    assert_eq!(denial["code"], "no_policy");

    let (mut agent, _way) = pod.agent_with(Client::TypeScript1, key);
    assert!(agent.call("list_datastores", &json!({})).passed());
    let authorization = format!("authorization: Bearer {key}");
    let opened = open(&way.url(), key);
    let session = format!("mcp-session-id: {}", opened.headers["mcp-session-id"]);
    let version = "mcp-protocol-version: 2025-11-25";
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    wire::post(&way.url(), &[&authorization, &session, version], initialized.as_bytes());
    let stream = Stream::open(&way.url(), &[&authorization, &session, version]);
    assert!(!stream.ends_within(Duration::from_millis(300)), "the stream stays open while the key is valid");

    let entry =
        keys(&["list"]).lines().filter(|line| line.starts_with("ci ") && line.ends_with("never")).map(str::to_owned).next().unwrap();
    let entry = format!("ci.{}", entry.split_whitespace().nth(1).unwrap());
    assert_eq!(keys(&["revoke", &entry]), format!("revoked {entry}\n"));
    let revoked = Instant::now();
    assert!(stream.ends_within(Duration::from_secs(5)), "the stream did not end");
    let ended = revoked.elapsed();
    let response = call(&way.url(), "list_datastores", Some(key));
    assert!(is_asked(&response), "{response:?}");
    eprintln!("a revoked key: its stream ended after {ended:?}");
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    let before = executed(&pod);
    assert!(is_asked(&call(&way.url(), "list_datastores", Some(key))));
    assert_eq!(executed(&pod), before);
    assert_eq!(open(&way.url(), next).status, 200, "the other key of the caller stays");
}

#[test]
fn tokens_of_an_identity_provider_prove_callers_until_its_keys_are_rotated() {
    let sandbox = Sandbox::new("oidc");
    let mut issuer = Issuer::start();
    let audience = "https://imaging.example.com/mcp";
    let said = json!({"jwt": [{"issuer": issuer.url, "audiences": [audience], "algorithms": ["ES256"], "caBundle": issuer.certificate}]});
    let from = json!([{"kind": "jwt", "issuer": issuer.url, "subject": "agent", "claims": {"client_id": "agent"}}]);
    sandbox.policy("idp", &format!("{SELECTOR}, server: {{authentication: {said}}}, from: {from}, tools: {{list_datastores: {{}}}}"));
    let pod = sandbox.imaging();
    sandbox.until_programmed("idp");
    sandbox.until_condition("idp", "CallersProvable", "True");

    let token = issuer.token(audience);
    for client in [Client::Python2, Client::TypeScript2] {
        let (mut agent, _way) = pod.agent_with(client, &token);
        assert_eq!(agent.list(), ["list_datastores"], "{client:?}");
        assert!(agent.call("list_datastores", &json!({})).passed());
    }
    let way = pod.forward(8080);
    let before = executed(&pod);
    let for_another = issuer.token("https://billing.example.com/mcp");
    for bearer in [None, Some(for_another.as_str())] {
        assert!(is_asked(&call(&way.url(), "list_datastores", bearer)), "{bearer:?}");
    }
    assert_eq!(executed(&pod), before);

    issuer.rotate();
    until_true("the old key is withdrawn", || is_asked(&call(&way.url(), "list_datastores", Some(&token))));
    let renewed = issuer.token(audience);
    until("the new key is known", || {
        let response = open(&way.url(), &renewed);
        if response.status == 200 { Ok(()) } else { Err(response.body) }
    });

    drop(issuer);
    assert!(sandbox.until_condition("idp", "CallersProvable", "False").contains("those that were read before stay"));
    assert_eq!(open(&way.url(), &renewed).status, 200, "an issuer that is away takes nobody's proof");
}
