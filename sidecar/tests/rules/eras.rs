//! The tables that tell the two protocols apart, row by row, and what each answers.

use ::http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{call, mcp};
use crate::{Pair, get, initialize, modern, modern_call, notification, request, with_headers};

const VERSION: &str = "mcp-protocol-version";

/// A legacy call whose `_meta` names this revision.
fn naming(version: &Value) -> Value {
    let mut message = call(1, "read");
    message["params"]["_meta"] =
        json!({"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}});
    message
}

#[tokio::test]
async fn era_row_1_a_revision_in_body_and_header_is_modern() {
    let pair = Pair::allowing_all().await;
    pair.passes("modern", modern_call(1, "read")).await;
    let denied = Pair::with(&json!({})).await.sidecar.send(modern_call(1, "read")).await;
    assert_eq!(denied.json()["result"]["resultType"], "complete");
}

#[tokio::test]
async fn era_row_2_a_modern_body_under_another_header_is_refused() {
    let pair = Pair::allowing_all().await;
    pair.refused("none", mcp(naming(&json!("2026-07-28")).to_string()), 400, -32020, "header_mismatch").await;
    for version in ["2025-11-25", "2025-03-26", "2024-11-05", "1999-01-01", "2026-07-28, 2026-07-28"] {
        let request = with_headers(modern_call(1, "read"), &[(VERSION, version)]);
        pair.refused(version, request, 400, -32020, "header_mismatch").await;
    }
    let mut twice = modern_call(1, "read");
    twice.headers_mut().append(VERSION, "2026-07-28".parse().unwrap());
    pair.refused("twice", twice, 400, -32020, "repeated_header").await;
}

#[tokio::test]
async fn era_row_3_a_modern_header_over_a_body_that_says_nothing_is_refused() {
    let pair = Pair::allowing_all().await;
    for message in [call(1, "read"), request(1, "tools/list"), initialize()] {
        let answer = pair
            .refused("silent", with_headers(mcp(message.to_string()), &[(VERSION, "2026-07-28")]), 400, -32602, "missing_version")
            .await;
        assert_eq!(answer.json()["id"], message["id"]);
    }
    let wrong = with_headers(mcp(naming(&json!(20_260_728)).to_string()), &[(VERSION, "2026-07-28")]);
    pair.refused("not text", wrong, 400, -32602, "missing_version").await;
}

#[tokio::test]
async fn era_row_4_a_later_revision_is_told_which_are_spoken() {
    let pair = Pair::allowing_all().await;
    let later = with_headers(mcp(naming(&json!("2027-03-01")).to_string()), &[(VERSION, "2027-03-01")]);
    let answer = pair.refused("later", later, 400, -32022, "unsupported_version").await.json();
    assert_eq!(answer["error"]["data"]["requested"], "2027-03-01");
    assert!(answer["error"]["data"]["supported"].as_array().unwrap().contains(&json!("2026-07-28")));
}

#[tokio::test]
async fn era_row_5_everything_else_is_legacy_if_its_header_is_a_revision() {
    let pair = Pair::allowing_all().await;
    pair.passes("no header is 2025-03-26", mcp(call(1, "read").to_string())).await;
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        pair.passes(version, with_headers(mcp(call(1, "read").to_string()), &[(VERSION, version)])).await;
    }
    for version in ["1999-01-01", "2025-11-25x", "latest", "2027-03-01"] {
        let request = with_headers(mcp(call(1, "read").to_string()), &[(VERSION, version)]);
        pair.refused(version, request, 400, -32600, "unsupported_version").await;
    }
    let denied = Pair::with(&json!({})).await.sidecar.call("read").await;
    assert_eq!(denied.json()["result"].get("resultType"), None, "no field of the other era");
}

#[tokio::test]
async fn notifications_take_their_era_from_the_header_and_modern_clients_answer_nothing() {
    let pair = Pair::allowing_all().await;
    let cancelled = || mcp(notification("notifications/cancelled").to_string());
    for headers in [&[(VERSION, "2026-07-28")][..], &[(VERSION, "2025-06-18")], &[]] {
        assert_eq!(pair.passes("notification", with_headers(cancelled(), headers)).await.status, StatusCode::ACCEPTED);
    }
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string();
    pair.passes("a legacy answer", mcp(answer.clone())).await;
    pair.refused("a modern answer", with_headers(mcp(answer), &[(VERSION, "2026-07-28")]), 400, -32600, "envelope").await;
}

#[tokio::test]
async fn the_two_endpoints_of_the_first_transport_are_closed() {
    let pair = Pair::allowing_all().await;
    for (method, path) in
        [(Method::GET, "/sse"), (Method::GET, "/"), (Method::POST, "/message?sessionId=1"), (Method::POST, "/messages/?session_id=1")]
    {
        let mut request = if method == Method::GET { get() } else { mcp(call(1, "read").to_string()) };
        *request.uri_mut() = path.parse().unwrap();
        pair.refused(path, request, 404, -32600, "path").await;
    }
}

/// The older transport's first event tells the client where to post. It is no message, so it does not pass.
#[tokio::test]
async fn the_event_that_opens_the_first_transport_does_not_pass() {
    let server = crate::support::Server::start(|_| {
        let event = "event: endpoint\ndata: /message?sessionId=1\n\n";
        crate::support::Reply::Whole(::http::Response::builder().header("content-type", "text/event-stream").body(event.into()).unwrap())
    })
    .await;
    let sidecar = crate::support::Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let answer = sidecar.send(get()).await;
    assert!(!answer.text().contains("sessionId"), "{}", answer.text());
    assert_eq!(crate::counted(&sidecar, "server", "no_message").await, 1);
}

#[tokio::test]
async fn an_unknown_method_is_404_in_the_modern_era_only() {
    let pair = Pair::allowing_all().await;
    pair.refused("modern", modern(1, "no/such", &json!({})), 404, -32601, "unknown_method").await;
    pair.refused("legacy", mcp(request(1, "no/such").to_string()), 200, -32601, "unknown_method").await;
}

/// 1.5: "required `_meta` field missing: 400, `-32602`".
#[tokio::test]
async fn a_modern_request_says_what_its_client_can_do() {
    let pair = Pair::allowing_all().await;
    for capabilities in [None, Some(json!([])), Some(Value::Null)] {
        let mut request = modern_call(7, "read");
        let mut meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        if let Some(capabilities) = &capabilities {
            meta["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
        }
        let message =
            json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read", "arguments": {}, "_meta": meta}});
        *request.body_mut() = Full::new(message.to_string().into());
        pair.refused("capabilities", request, 400, -32602, "missing_capabilities").await;
    }
}
