//! Rules 19 and 22 to 24: what comes back, and what happens when something fails. See `streams.rs` for rules 16 to 18 and 21, and
//! `lists.rs` for rule 20.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Answered, Reply, Server, Sidecar, call, eventually, mcp, ran};
use crate::{get, initialize, notification, request, with_headers};

const ASKS: &str = "sampling/createMessage";

/// A request of the server that the policies below deny.
fn asks() -> Value {
    json!({"jsonrpc": "2.0", "id": "s", "method": ASKS, "params": {"messages": []}})
}

#[tokio::test]
async fn rule_19_what_methods_deny_comes_on_no_carrier() {
    let policy =
        json!({"default": "allow", "methods": {"sampling/*": "deny", "notifications/message": "deny", "notifications/tasks/*": "deny"}});
    let says = [asks(), notification("notifications/message"), notification("notifications/tasks/status")];
    for (carrier, message) in [
        ("a call", Some(call(1, "read"))),
        ("another request", Some(request(1, "prompts/list"))),
        ("a notification", Some(notification("notifications/initialized"))),
        ("a stream", None),
        ("a resumed stream", None),
    ] {
        let said = says.clone();
        let server = Server::start(move |got| {
            let message = got.json();
            if message.get("method").is_none() && message.get("id").is_some() {
                return Reply::Whole(Response::builder().status(StatusCode::ACCEPTED).body(Bytes::new()).unwrap());
            }
            Reply::events(&[&said[..], &[notification("notifications/progress")]].concat())
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &policy);
        let answer = match message {
            Some(message) => sidecar.post(&message).await,
            None if carrier == "a stream" => sidecar.send(get()).await,
            None => sidecar.send(with_headers(get(), &[("last-event-id", "7")])).await,
        };
        assert_eq!(answer.events(), [notification("notifications/progress")], "{carrier}");
        eventually("the server is told that its request was refused", async || server.requests() == 2).await;
        let held = || sidecar.audit.all().into_iter().filter(|line| line["fromServer"] == true).map(|line| line["method"].clone());
        eventually("lines", async || held().count() >= 3).await;
        let held: Vec<_> = held().collect();
        assert_eq!(held, [ASKS, "notifications/message", "notifications/tasks/status"], "{carrier}");
    }
}

#[tokio::test]
async fn rule_19_what_an_answer_asks_for_is_judged_in_tasks_as_in_calls() {
    let server = Server::start(|got| {
        let message = got.json();
        let inputs = json!({"s": {"method": ASKS, "params": {"messages": []}}});
        let result = match message["method"].as_str() {
            Some("tools/call") => json!({"resultType": "task", "taskId": "t", "status": "working"}),
            _ => json!({"resultType": "complete", "taskId": "t", "status": "input_required", "inputRequests": inputs}),
        };
        Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "methods": {"sampling/*": "deny"}}));
    sidecar.send(crate::modern_call(1, "read")).await;
    let got = sidecar.send(crate::modern(2, "tasks/get", &json!({"taskId": "t"}))).await;
    assert_eq!(denial(&got)["code"], "method_denied");
    assert!(!got.text().contains("messages"));
}

fn denial(answer: &Answered) -> Value {
    answer.json()["error"]["data"]["mcp-policy.dev/denial"].clone()
}

#[tokio::test]
async fn rule_22_no_redirect_is_followed_or_passed_on() {
    for status in [300, 301, 302, 303, 307, 308] {
        let server = Server::start(move |_| {
            Reply::Whole(Response::builder().status(status).header("location", "/elsewhere").body(Bytes::new()).unwrap())
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
        let called = sidecar.call("read").await;
        assert_eq!(called.denial()["code"], "upstream_unreachable", "{status}");
        let listed = sidecar.post(&request(1, "tools/list")).await;
        assert_eq!((listed.status, &listed.json()["error"]["code"]), (StatusCode::OK, &json!(-32603)), "{status}");
        let stream = sidecar.send(get()).await;
        assert_eq!(stream.status, StatusCode::BAD_GATEWAY, "{status}");
        for answer in [called, listed, stream] {
            assert!(!answer.headers.contains_key("location"));
        }
        assert_eq!(server.requests(), 3);
    }
}

#[tokio::test]
async fn rule_23_what_was_not_sent_is_said_not_to_have_run_and_nothing_else_is() {
    let address = Server::with_tools(&[]).await.address;
    let sidecar = Sidecar::guarding(&format!("http://{address}"), &json!({"default": "allow"}));
    assert!(sidecar.call("read").await.text().contains("Nothing was executed"));
    let server = Server::start_at(address, |_| Reply::Never).await;
    let slow = Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| {
        config.limits.answer_timeout = std::time::Duration::from_millis(50);
    });
    let answer = slow.call("read").await;
    assert_eq!(answer.denial()["code"], "upstream_unreachable");
    assert!(!answer.text().contains("Nothing was executed"));
}

#[tokio::test]
async fn rule_24_each_message_is_judged_by_the_policy_of_its_own_moment() {
    let server = Server::start(|got| ran(&got.json())).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"tools": {"read": {}}}));
    assert!(sidecar.call("read").await.ran());
    std::fs::write(&sidecar.policy, json!({"tools": {"write": {}}}).to_string()).unwrap();
    eventually("the change is in force", async || sidecar.call("write").await.ran()).await;
    let requests = server.requests();
    assert_eq!(sidecar.call("read").await.denial()["code"], "default_deny");
    assert_eq!(server.requests(), requests);
}

/// What a server can do is told without what `methods` deny as a whole.
#[tokio::test]
async fn a_handshake_offers_nothing_that_would_be_refused() {
    let capabilities = json!({"tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true}, "logging": {}});
    let server = Server::start(move |got| {
        let message = got.json();
        let result = match message["method"].as_str() {
            Some("initialize") => {
                let version = message["params"]["protocolVersion"].clone();
                json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": {"name": "s", "version": "1"}})
            }
            _ => json!({"resultType": "complete", "supportedVersions": ["2099-01-01", "2026-07-28"], "capabilities": capabilities}),
        };
        Reply::events(&[json!({"jsonrpc": "2.0", "id": message["id"], "result": result})])
    })
    .await;
    let methods = json!({"prompts/*": "deny", "resources/subscribe": "deny", "logging/setLevel": "deny"});
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "methods": methods}));
    let offered = json!({"tools": {"listChanged": true}, "resources": {}});
    let initialized = sidecar.post(&initialize()).await.events().remove(0);
    assert_eq!(initialized["result"]["capabilities"], offered);
    assert_eq!(initialized["result"]["serverInfo"]["name"], "s");
    let discovered = sidecar.send(crate::modern(1, "server/discover", &json!({}))).await.events().remove(0);
    assert_eq!(discovered["result"]["capabilities"], offered);
    assert_eq!(discovered["result"]["supportedVersions"], json!(["2026-07-28"]));

    let mut unspoken = initialize();
    unspoken["params"]["protocolVersion"] = "2024-10-07".into();
    let refused = sidecar.post(&unspoken).await.events().remove(0);
    assert_eq!((refused["id"].as_u64(), refused["error"]["code"].as_i64()), (Some(0), Some(-32602)), "{refused}");
}

#[tokio::test]
async fn an_answer_passes_byte_for_byte_whatever_is_in_it() {
    let odd =
        r#"{"jsonrpc" : "2.0","id":1,"result":{"content":[{"type":"text","text":"\ud800"}],"structuredContent":{"n":1e999,"a":1,"a":2}} }"#;
    let server = Server::start(move |_| {
        let response = Response::builder().header("content-type", "application/json").header("etag", "\"7\"");
        Reply::Whole(response.body(odd.into()).unwrap())
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let answer = sidecar.call("read").await;
    assert_eq!((answer.text().as_str(), &answer.headers["etag"]), (odd, &"\"7\"".parse().unwrap()));
    assert_ne!(sidecar.send(mcp(call(2, "read").to_string())).await.text(), odd, "it is the answer to one request only");
}
