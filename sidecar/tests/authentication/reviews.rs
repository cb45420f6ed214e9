//! Tokens of service accounts that the API server is asked about, too: none that it does not vouch for passes, and none while nobody knows.

use http::StatusCode;
use mcp_policy::Snapshot;
use serde_json::json;

use crate::streams::{Open, Streaming, listen};
use crate::support::{Answered, Server, eventually};
use crate::{CLUSTER, Guarded, ISSUER, Issuer, all_allowed, proving, required, with_token};

fn reviewed(cluster: &Issuer, issuer: &Issuer) -> Snapshot {
    let mut accounts = cluster.told();
    accounts["review"] = json!(true);
    proving(all_allowed(), required(&json!({"serviceAccounts": accounts, "jwt": [issuer.told()]})))
}

/// Why the caller was asked for another proof.
fn asked_anew(answer: &Answered) -> &str {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    assert_eq!(answer.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "unauthenticated");
    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
    challenge.split("error_description=\"").nth(1).unwrap().split('"').next().unwrap()
}

#[tokio::test]
async fn a_token_passes_only_while_the_api_server_vouches_for_it_and_nobody_is_asked_twice_at_once() {
    let (server, cluster, issuer) = (Server::with_tools(&["read"]).await, Issuer::new(CLUSTER), Issuer::new(ISSUER));
    let guarded = Guarded::start(&server, &reviewed(&cluster, &issuer)).await;
    let operator = &guarded.operator.state;
    let vouches = |vouches| *operator.vouches.lock().unwrap() = vouches;
    let reviews = || operator.reviewed.lock().unwrap().clone();
    let token = cluster.service_account("agents", "planner");

    assert_eq!(asked_anew(&guarded.call("read", Some(&token)).await), "whether the token still holds could not be asked; try again");
    assert_eq!(server.requests(), 0);
    vouches(Some(true));
    eventually("it is asked about anew", async || guarded.call("read", Some(&token)).await.ran()).await;
    let before = reviews();
    assert_eq!(*before.last().unwrap(), json!({"token": token, "audiences": ["mcp"]}));
    for _ in 0..20 {
        assert!(guarded.call("read", Some(&token)).await.ran());
    }
    assert_eq!(reviews().len(), before.len(), "what was said is remembered");
    // Nobody is asked about what proves nothing here, nor about other issuers' tokens.
    let forged = Issuer::new(CLUSTER).service_account("agents", "planner");
    assert_eq!(asked_anew(&guarded.call("read", Some(&forged)).await), "the token's signature is wrong");
    assert!(guarded.call("read", Some(&issuer.token("alice"))).await.ran());
    assert_eq!(reviews().len(), before.len());

    vouches(Some(false));
    let another = cluster.service_account("agents", "gone");
    let requests = server.requests();
    assert_eq!(asked_anew(&guarded.call("read", Some(&another)).await), "the token was taken back");
    assert_eq!(server.requests(), requests);
    eventually("the other one is asked about anew", async || guarded.call("read", Some(&token)).await.status == StatusCode::UNAUTHORIZED)
        .await;
    let requests = server.requests();
    assert_eq!(asked_anew(&guarded.call("read", Some(&token)).await), "the token was taken back");
    assert_eq!(server.requests(), requests);
    let metrics = guarded.sidecar.metrics().await;
    assert!(
        metrics.contains("mcp_policy_unproved_requests_total{reason=\"unreviewed\"}") && metrics.contains("{reason=\"revoked\"} "),
        "{metrics}"
    );
    assert!(!metrics.contains(&token));
}

#[tokio::test]
async fn a_stream_ends_when_the_api_server_vouches_no_longer_and_stays_while_nobody_can_be_asked() {
    let (mut streaming, cluster, issuer) = (Streaming::start().await, Issuer::new(CLUSTER), Issuer::new(ISSUER));
    let guarded = Guarded::start(&streaming.server, &reviewed(&cluster, &issuer)).await;
    let operator = &guarded.operator.state;
    *operator.vouches.lock().unwrap() = Some(true);
    let token = cluster.service_account("agents", "planner");
    let mut open = Open::with(&guarded, &mut streaming, with_token(listen(), Some(&token))).await;
    *operator.vouches.lock().unwrap() = None;
    eventually("nobody could be asked", async || operator.reviewed.lock().unwrap().len() > 1).await;
    open.passes().await;
    *operator.vouches.lock().unwrap() = Some(false);
    open.ends().await;
}
