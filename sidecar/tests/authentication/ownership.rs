//! Sessions and tasks belong to who opened them. Another caller is answered as if there were none, whatever it proves.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Reply, Server, call, mcp, ran};
use crate::{Guarded, ISSUER, Issuer, all_allowed, get, in_session, policy, proving, required, with_token};

const MODERN: &str = "2026-07-28";

/// A server that opens sessions `s1`, `s2`, …, makes a task `t` of a call of `slow`, and knows every session and task that it is asked
/// about.
async fn with_sessions() -> Server {
    let opened = AtomicUsize::new(0);
    Server::start(move |got| {
        let message = got.json();
        let result = |result: Value| Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
        match (got.method.as_str(), message["method"].as_str()) {
            (_, Some("initialize")) => {
                let Reply::Whole(mut response) = result(json!({})) else { unreachable!() };
                let id = format!("s{}", opened.fetch_add(1, Ordering::SeqCst) + 1);
                response.headers_mut().insert("mcp-session-id", HeaderValue::try_from(id).unwrap());
                Reply::Whole(response)
            }
            (_, Some("tools/call")) if message["params"]["name"] == "slow" => result(json!({"task": {"taskId": "t"}})),
            (_, Some("tools/call")) => ran(&message),
            ("GET", _) => Reply::events(&[]),
            ("DELETE", _) => Reply::Whole(Response::new(Bytes::new())),
            _ => result(json!({"content": [{"type": "text", "text": "outcome"}]})),
        }
    })
    .await
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}})
}

fn task(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": "t"}})
}

fn delete() -> Request<Full<Bytes>> {
    Request::delete("/mcp").header("host", "localhost").body(Full::default()).unwrap()
}

async fn open(guarded: &Guarded, token: &str) -> String {
    let opened = guarded.post(&initialize(), token, None).await;
    opened.headers["mcp-session-id"].to_str().unwrap().to_owned()
}

/// Rule 21: "the principal owns the session, else `404 -32600`". mcp.md 5.3: "Sessions are not authentication: bind user and session".
#[tokio::test]
async fn rule_21_a_session_is_its_openers_alone() {
    let (server, issuer) = (with_sessions().await, Issuer::new(ISSUER));
    let policies = vec![
        policy("everybody", None, &json!({"default": "allow"})),
        policy("anybody", Some(json!([{"kind": "anonymous", "address": "127.0.0.1"}])), &json!({"default": "allow"})),
    ];
    let guarded = Guarded::start(&server, &proving(policies, required(&json!({"jwt": [issuer.told()]})))).await;
    let (alice, mallory) = (issuer.token("alice"), issuer.token("mallory"));
    let session = open(&guarded, &alice).await;
    assert!(guarded.post(&call(1, "read"), &alice, Some(&session)).await.ran());
    let another_token = issuer.token_until("alice", mcp_policy_sidecar::authenticate::now() + 900);
    assert!(guarded.post(&call(1, "read"), &another_token, Some(&session)).await.ran(), "the caller is the same");

    let before = server.requests();
    for token in [Some(&*mallory), None] {
        for request in [mcp(call(1, "read").to_string()), mcp(initialize().to_string()), get("/mcp"), delete()] {
            let answer = guarded.sidecar.send(in_session(with_token(request, token), Some(&session))).await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32600)));
        }
    }
    let strange = in_session(with_token(mcp(call(1, "read").to_string()), Some(&alice)), Some("s 1"));
    for request in [strange, in_session(with_token(get("/mcp"), Some(&alice)), Some("never-opened"))] {
        assert_eq!(guarded.sidecar.send(request).await.status, StatusCode::NOT_FOUND);
    }
    let mut resumed = with_token(get("/mcp"), Some(&alice));
    resumed.headers_mut().insert("last-event-id", HeaderValue::from_static("7"));
    assert_eq!(guarded.sidecar.send(resumed).await.status, StatusCode::NOT_FOUND, "a stream of nobody's session could be anybody's");
    assert_eq!(server.requests(), before, "the server heard of none of these");
    assert!(guarded.sidecar.metrics().await.contains(r#"malformed_total{from="client",reason="unknown_session"} 11"#));

    let ended = guarded.sidecar.send(in_session(with_token(delete(), Some(&alice)), Some(&session))).await;
    assert_eq!(ended.status, StatusCode::OK);
    assert_eq!(guarded.post(&call(1, "read"), &alice, Some(&session)).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_task_is_unknown_to_all_but_who_made_it() {
    let (server, issuer) = (with_sessions().await, Issuer::new(ISSUER));
    let guarded = Guarded::start(&server, &proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})))).await;
    let (alice, mallory) = (issuer.token("alice"), issuer.token("mallory"));
    guarded.post(&call(1, "slow"), &alice, None).await;
    let before = server.requests();
    for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"] {
        let answer = guarded.post(&task(method), &mallory, None).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::OK, &json!(-32602)), "{method}");
    }
    assert_eq!(server.requests(), before);
    assert!(guarded.post(&task("tasks/result"), &alice, None).await.text().contains("outcome"));
}

/// The revision without sessions ignores the header, and so do its servers; one that speaks both may not.
#[tokio::test]
async fn a_foreign_session_is_unknown_in_the_modern_era_too() {
    let (server, issuer) = (with_sessions().await, Issuer::new(ISSUER));
    let guarded = Guarded::start(&server, &proving(all_allowed(), required(&json!({"jwt": [issuer.told()]})))).await;
    let session = open(&guarded, &issuer.token("alice")).await;
    let before = server.requests();
    let mut request = in_session(with_token(mcp(call(1, "read").to_string()), Some(&issuer.token("mallory"))), Some(&session));
    request.headers_mut().insert("mcp-protocol-version", HeaderValue::from_static(MODERN));
    assert_eq!(guarded.sidecar.send(request).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.requests(), before);
}
