//! How a refusal looks, in every context and both eras, and that the session goes on.

use ::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answered, Client, Reply, Server, Sidecar, call, mcp};
use crate::{modern, modern_call, notification, request};

#[tokio::test]
async fn a_denied_call_is_a_result_that_the_model_sees_and_the_next_call_passes() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"purge": {"action": "deny", "reason": "ask radiology"}, "read": {}}}));
    let mut client = Client::connect(sidecar.proxy).await;
    for (denied, allowed, modern) in [
        (mcp(call(1, "purge").to_string()), mcp(call(2, "read").to_string()), false),
        (modern_call(1, "purge"), modern_call(2, "read"), true),
    ] {
        let answer = client.send(denied).await;
        assert_eq!(
            (answer.denial()["code"].as_str(), answer.headers["content-type"].to_str().unwrap()),
            (Some("tool_denied"), "application/json")
        );
        assert!(answer.text().contains("ask radiology") && answer.text().contains("Nothing was executed"));
        assert_eq!(answer.json()["result"]["resultType"] == "complete", modern);
        assert!(client.send(allowed).await.ran());
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_hidden_tool_is_answered_as_one_that_does_not_exist() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret*"]}));
    for request in [mcp(call(1, "secret_tool").to_string()), modern_call(1, "secret_tool")] {
        let answer = sidecar.send(request).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::OK, &json!(-32602)));
        assert!(!answer.text().contains("policy"), "{}", answer.text());
    }
    assert_eq!(server.requests(), 0);
    assert!(sidecar.audit.at_least(2).await.iter().all(|line| line["code"] == "hidden" && line["tool"] == "secret_tool"));
}

#[tokio::test]
async fn a_hidden_tool_is_answered_in_the_servers_own_words_for_one_that_does_not_exist() {
    for (name, answer) in [
        ("typescript", json!({"error": {"code": -32602, "message": "Tool NAME not found"}})),
        ("rust", json!({"error": {"code": -32602, "message": "tool not found"}})),
        ("python", json!({"result": {"content": [{"type": "text", "text": "Unknown tool: NAME"}], "isError": true}})),
    ] {
        let server = Server::start(move |got| {
            let message = got.json();
            let text = answer.to_string().replace("NAME", message["params"]["name"].as_str().unwrap_or_default());
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            answer["jsonrpc"] = "2.0".into();
            answer["id"] = message["id"].clone();
            Reply::json(&answer)
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret_*"]}));
        let missing = sidecar.call("missing_tool").await;
        let hidden = sidecar.call("secret_tool").await;
        assert_eq!(hidden.json().to_string(), missing.json().to_string().replace("missing_tool", "secret_tool"), "{name}");
        assert_eq!((hidden.status, server.requests()), (missing.status, 1), "{name}");
        let quoted =
            sidecar.send(mcp(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "secret_\"x"}}).to_string()));
        assert!(quoted.await.json().is_object(), "no name breaks the answer");
    }
}

#[tokio::test]
async fn a_full_limit_says_when_to_come_back_and_is_no_429() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {"rateLimit": {"max": 1, "window": "minute"}}}}));
    assert!(sidecar.call("read").await.ran());
    let denial = sidecar.call("read").await.denial();
    assert_eq!(denial["code"], "limit_exceeded");
    assert!((1..=60).contains(&denial["retryAfterSeconds"].as_u64().unwrap()));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn another_denied_method_is_an_error_with_status_200_and_a_denied_notification_is_dropped() {
    let server = Server::with_tools(&[]).await;
    let policy = json!({"default": "allow", "methods": {"prompts/*": "deny", "notifications/*": "deny", "tasks/*": "deny"}});
    let sidecar = Sidecar::guarding(&server.url(), &policy);
    for denied in [
        mcp(request(1, "prompts/get").to_string()),
        modern(1, "prompts/get", &json!({"name": "x"})),
        mcp(request(1, "tasks/list").to_string()),
    ] {
        let answer = sidecar.send(denied).await;
        let error: Value = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["data"]["mcp-policy.dev/denial"]["code"]), (StatusCode::OK, &json!("method_denied")));
        assert!(!(-32768..=-32000).contains(&error["code"].as_i64().unwrap()), "a code of our own: {error}");
    }
    let dropped = sidecar.post(&notification("notifications/progress")).await;
    assert_eq!((dropped.status, dropped.body.len()), (StatusCode::ACCEPTED, 0));
    assert_eq!(server.requests(), 0);
    assert_eq!(sidecar.audit.at_least(4).await.len(), 4);
}

/// 2.2: "`hide`: wording … as the real one".
#[tokio::test]
async fn a_hidden_tool_is_answered_as_the_server_answers_for_one_that_it_does_not_have() {
    for content_type in ["application/json", "text/event-stream"] {
        let server = Server::start(move |got| {
            let message = got.json();
            let name = message["params"]["name"].as_str().unwrap();
            let error =
                json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": format!("Tool {name} not found")}});
            let body = if content_type == "application/json" { error.to_string() } else { format!("event: message\ndata: {error}\n\n") };
            let head =
                Response::builder().header("content-type", content_type).header("server", "uvicorn").header("cache-control", "no-store");
            Reply::Whole(head.body(body.into()).unwrap())
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
        let unknown = sidecar.call("absent").await;
        let hidden = sidecar.call("secret").await;
        let seen = |answer: &Answered| -> Vec<_> {
            let own = ["date", "content-length", "transfer-encoding"];
            let headers = answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
        };
        assert_eq!((hidden.status, seen(&hidden)), (unknown.status, seen(&unknown)));
        let data = |answer: &Answered| -> Value {
            let text = answer.text();
            serde_json::from_str(text.strip_prefix("event: message\ndata: ").unwrap_or(&text)).unwrap()
        };
        assert_eq!(data(&hidden).to_string(), data(&unknown).to_string().replace("absent", "secret"), "{content_type}");
        assert_eq!(server.requests(), 1, "the server was not asked about the hidden one");
    }
}
