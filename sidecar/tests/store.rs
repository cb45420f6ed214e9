//! A shared counter store that nobody can reach, on the wire. A real one, and all that can happen to it, is in `interop/tests/store`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod support;

use mcp_policy::snapshot::{SnapshotPolicy, SnapshotStore, StoreCredentials};
use mcp_policy::{Mode, Snapshot};
use mcp_policy_sidecar::state::{ApplyError, Enforced};
use mcp_policy_sidecar::store::StoreAddress;
use serde_json::json;
use support::{Server, Sidecar};

fn limit(counter: &str, max: u32, on_store_error: &str) -> serde_json::Value {
    json!({"limits": [{"counter": counter, "window": "minute", "max": max, "onStoreError": on_store_error}], "reason": "Ask the owner"})
}

#[tokio::test]
async fn without_the_store_deny_refuses_in_band_and_local_counts_here() {
    let server = Server::with_tools(&[]).await;
    let policy = json!({"tools": {"deny": limit("a", 10, "deny"), "local": limit("b", 2, "local"), "free": {}}});
    let credentials = StoreCredentials { password: Some("geheim".to_owned()), ..StoreCredentials::default() };
    // Nobody listens on port 1.
    let store = StoreAddress::parse("redis://127.0.0.1:1", credentials).unwrap();
    let sidecar = Sidecar::configured(&server.url(), &policy, |config| config.store = Some(store));

    let refused = sidecar.call("deny").await;
    let denial = refused.denial();
    assert_eq!((denial["code"].as_str(), denial["rule"].as_str()), (Some("store_unavailable"), Some("/tools/deny/limits/a")));
    assert_eq!(denial["retryAfterSeconds"], 2);
    let text = refused.text();
    for part in ["its limit cannot be counted at this moment", "Nothing was executed", "Try again in 2 seconds", "Ask the owner"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(server.requests(), 0);
    assert_eq!(sidecar.audit.at_least(1).await[0]["code"], "store_unavailable");

    for _ in 0..2 {
        assert!(!sidecar.call("local").await.text().contains("denial"));
    }
    assert_eq!(sidecar.call("local").await.denial()["code"], "limit_exceeded");
    let _ = sidecar.call("free").await;
    assert_eq!(server.requests(), 3, "what counts nothing needs no store");

    let metrics = sidecar.metrics().await;
    for line in ["mcp_policy_store_connected 0", "mcp_policy_store_fallbacks_total 4", "mcp_policy_store_errors_total{kind=\"away\"} 4"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("mcp_policy_limit_used_ratio"), "what others took is not known");
    assert!(!metrics.contains("mcp_policy_limit_refusals_total{policy=\"policy.json\",counter=\"a\"}"), "it was not full");
    assert!(!metrics.contains("geheim"));
}

#[test]
fn a_snapshot_that_names_no_store_that_can_be_is_not_in_force() {
    let policy = SnapshotPolicy {
        namespace: Some("ns".to_owned()),
        name: "p".to_owned(),
        generation: 1,
        mode: Mode::Enforce,
        server: mcp_policy::Server::default(),
        from: None,
        on_audit_error: mcp_policy::resource::OnAuditError::Deny,
        document: None,
    };
    let store = |url: &str| SnapshotStore { url: url.to_owned(), revision: String::new(), credentials: StoreCredentials::default() };
    let snapshot = |url| Snapshot::new(vec![policy.clone()]).counting_in(store(url));
    assert!(matches!(Enforced::from_snapshot(&snapshot("http://valkey")), Err(ApplyError::Store(_))));
    assert!(Enforced::from_snapshot(&snapshot("rediss+cluster://valkey")).unwrap().store.is_some());
}
