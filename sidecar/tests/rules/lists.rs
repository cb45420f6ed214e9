//! Rule 20 and what holds for lists of tools: filtered on every carrier and page, otherwise as the server wrote them; and the client is
//! told when a policy changes its list.

use std::sync::Mutex;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Server, Sidecar, call, eventually, in_time, list, mcp, names, next_bytes};
use crate::{get, initialize, modern, notification, request, with_headers};

/// "`tools/list` shows what a call could pass: neither hidden nor denied."
#[tokio::test]
async fn rule_20_lists_lose_what_is_hidden_or_denied_on_every_page_and_in_both_forms() {
    let server = Server::start(|got| {
        let message = got.json();
        let page = match message["params"]["cursor"].as_str() {
            None => list(&message["id"], &["read", "purge", "secret"], Some("next")),
            Some("next") => list(&message["id"], &["secret_2", "purge"], Some("")),
            Some(_) => list(&message["id"], &["secret_3", "write"], None),
        };
        if got.headers["accept"] == "text/event-stream" {
            Reply::events(&[notification("notifications/progress"), page])
        } else {
            Reply::json(&page)
        }
    })
    .await;
    let policy = json!({"default": "allow", "hide": ["secret*"], "tools": {"purge": {"action": "deny"}}});
    let sidecar = Sidecar::guarding(&server.url(), &policy);
    for (id, cursor, shown, next) in [
        (1, json!({}), &["read"][..], json!("next")),
        (2, json!({"cursor": "next"}), &[], json!("")),
        (3, json!({"cursor": ""}), &["write"], Value::Null),
    ] {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": cursor}).to_string();
        let answer = sidecar.send(mcp(message.clone())).await;
        assert_eq!((answer.tools(), &answer.json()["result"]["nextCursor"]), (shown.iter().map(ToString::to_string).collect(), &next));
        let events = sidecar.send(with_headers(mcp(message), &[("accept", "text/event-stream")])).await.events();
        assert_eq!((events[0]["method"].as_str(), names(&events[1])), (Some("notifications/progress"), answer.tools()));
    }
    for hidden in ["purge", "secret", "secret_2"] {
        assert!(!sidecar.call(hidden).await.ran(), "the list is advice, the call is control");
    }
    assert_eq!(server.requests(), 6);
}

#[tokio::test]
async fn rule_20_what_stays_of_a_list_stays_as_it_was() {
    let (before, after) = (
        r#"{"jsonrpc":"2.0","id":1,"result":{"vendor":1.00,"tools":[{"z":1e2,"name":"b"},{"name":"secret"},{"name":"a","x":"\u00e9"},{"name":"twice","v":1},{"name":"twice","v":2}],"nextCursor":"\u0041=","ttlMs":3600000,"cacheScope":"public","resultType":"complete"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"vendor":1.00,"tools":[{"z":1e2,"name":"b"},{"name":"a","x":"\u00e9"}],"nextCursor":"\u0041=","ttlMs":30000,"cacheScope":"private","resultType":"complete"}}"#,
    );
    let server =
        Server::start(move |_| Reply::Whole(Response::builder().header("content-type", "application/json").body(before.into()).unwrap()))
            .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
    assert_eq!(sidecar.send(modern(1, "tools/list", &json!({}))).await.text(), after);
    assert_eq!(sidecar.post(&request(1, "tools/list")).await.text(), after, "also of a legacy server that sends such fields");
}

/// A known mistake that this must not make: "list filtering that fails open or drops fields".
#[tokio::test]
async fn rule_20_a_list_that_cannot_be_read_does_not_pass() {
    let whole = |headers: &[(&'static str, &'static str)], body: &'static str| {
        let mut response = Response::builder();
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Reply::Whole(response.body(Bytes::from_static(body.as_bytes())).unwrap())
    };
    let server = Server::start(move |got| {
        let (json, events) = (("content-type", "application/json"), ("content-type", "text/event-stream"));
        match got.json()["params"]["cursor"].as_str() {
            Some("encoded") => {
                whole(&[json, ("content-encoding", "gzip")], r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"secret"}]}}"#)
            }
            Some("text") => whole(&[("content-type", "text/plain")], r#"["secret"]"#),
            Some("twice") => whole(&[json], r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]},"result":{"tools":[{"name":"secret"}]}}"#),
            Some("tools twice") => whole(&[json], r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"tools":[{"name":"secret"}]}}"#),
            Some("other id") => whole(&[json], r#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"secret"}]}}"#),
            Some("event") => whole(&[events], "data: {\"secret\n\n"),
            Some("other event") => {
                whole(&[events], "data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"tools\":[{\"name\":\"secret\"}]}}\n\n")
            }
            _ => Reply::Whole(Response::builder().status(302).header("location", "/secret").body(Bytes::new()).unwrap()),
        }
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
    for cursor in ["encoded", "text", "twice", "tools twice", "other id", "event", "other event", "redirect"] {
        let answer = sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"cursor": cursor}})).await;
        assert!(!answer.text().contains("secret") && !answer.text().contains("result"), "{cursor}: {}", answer.text());
        assert!(!answer.headers.contains_key("location"));
    }
}

#[tokio::test]
async fn a_name_that_the_server_listed_may_be_unusual_and_becomes_a_label() {
    let server = Server::with_tools(&["größe/µm"]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    assert_eq!(sidecar.call("größe/µm").await.denial()["code"], "malformed");
    assert_eq!(server.requests(), 0);
    sidecar.post(&request(1, "tools/list")).await;
    assert!(sidecar.call("größe/µm").await.ran());
    assert!(sidecar.call("unlisted").await.ran());
    let metrics = sidecar.metrics().await;
    assert!(metrics.contains("tool=\"größe/µm\""), "{metrics}");
    assert!(metrics.contains("tool=\"other\""), "{metrics}");
    assert!(!metrics.contains("unlisted"), "{metrics}");
}

/// A server whose sessions are told of lists, or not, with one stream for the test to feed.
async fn with_stream(declares: bool) -> (Server, tokio::sync::mpsc::Sender<Bytes>) {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = Server::start(move |got| {
        let message = got.json();
        match message["method"].as_str() {
            Some("tools/list") => Reply::json(&list(&message["id"], &["read", "write"], None)),
            Some("initialize") => {
                let capabilities = json!({"tools": {"listChanged": declares}});
                let result =
                    json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": "s", "version": "1"}});
                let Reply::Whole(mut response) = Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result})) else {
                    unreachable!()
                };
                response.headers_mut().insert("mcp-session-id", "session".parse().unwrap());
                Reply::Whole(response)
            }
            _ => reply.lock().unwrap().take().unwrap(),
        }
    })
    .await;
    (server, sender)
}

async fn put_in_force(sidecar: &Sidecar, policy: &Value) {
    std::fs::write(&sidecar.policy, policy.to_string()).unwrap();
    let sha256 = mcp_policy::snapshot::hex_sha256(policy.to_string().as_bytes());
    eventually("the change is in force", async || sidecar.get_admin("/snapshot").await.json()["sha256"] == sha256).await;
}

fn in_session(request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    with_headers(request, &[("mcp-session-id", "session")])
}

#[tokio::test]
async fn a_session_is_told_that_a_policy_changed_its_list_if_its_server_declared_so() {
    for declares in [true, false] {
        let (server, sender) = with_stream(declares).await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
        sidecar.post(&initialize()).await;
        sidecar.send(in_session(mcp(request(1, "tools/list").to_string()))).await;
        let mut client = Client::connect(sidecar.proxy).await;
        let mut stream = client.open(in_session(get())).await;
        // Not every change of a policy changes the list.
        put_in_force(&sidecar, &json!({"default": "allow", "tools": {"read": {"limits": [{"counter": "c", "window": "day", "max": 5}]}}}))
            .await;
        put_in_force(&sidecar, &json!({"default": "allow", "hide": ["write"]})).await;
        if declares {
            let told = in_time("the client is told", next_bytes(&mut stream)).await.unwrap();
            assert_eq!(told, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n");
        }
        let own = format!("data: {}\n\n", notification("notifications/message"));
        sender.send(own.clone().into()).await.unwrap();
        assert_eq!(next_bytes(&mut stream).await.unwrap(), own, "and of nothing else");
    }
}

#[tokio::test]
async fn a_subscription_is_told_that_a_policy_changed_its_list_under_its_own_id_once_it_is_acknowledged() {
    let (server, sender) = with_stream(true).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    sidecar.post(&request(1, "tools/list")).await;
    let mut client = Client::connect(sidecar.proxy).await;
    let listen = modern(7, "subscriptions/listen", &json!({"notifications": {"toolsListChanged": true}}));
    let mut stream = client.open(listen).await;
    let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
        "_meta": {"io.modelcontextprotocol/subscriptionId": 7}, "notifications": {"toolsListChanged": true}}});
    sender.send(format!("data: {acknowledged}\n\n").into()).await.unwrap();
    next_bytes(&mut stream).await.unwrap();
    put_in_force(&sidecar, &json!({"default": "allow", "hide": ["write"]})).await;
    let told = in_time("the client is told", next_bytes(&mut stream)).await.unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    let told: Value = serde_json::from_str(told.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
    assert_eq!(
        told,
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 7}}})
    );
    let ended = json!({"jsonrpc": "2.0", "id": 7, "result": {"resultType": "complete"}});
    sender.send(format!("data: {ended}\n\n").into()).await.unwrap();
    assert_eq!(next_bytes(&mut stream).await.unwrap(), format!("data: {ended}\n\n"));
}

#[tokio::test]
async fn a_subscription_to_something_else_is_told_nothing() {
    let (server, sender) = with_stream(true).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    sidecar.post(&request(1, "tools/list")).await;
    let mut client = Client::connect(sidecar.proxy).await;
    let mut stream = client.open(modern(7, "subscriptions/listen", &json!({"notifications": {"promptsListChanged": true}}))).await;
    put_in_force(&sidecar, &json!({"default": "allow", "hide": ["write"]})).await;
    let own = format!("data: {}\n\n", notification("notifications/prompts/list_changed"));
    sender.send(own.clone().into()).await.unwrap();
    assert_eq!(next_bytes(&mut stream).await.unwrap(), own);
    assert!(!sidecar.post(&call(1, "write")).await.ran());
}
