//! Rules 17 and 18: what an event stream of the server may bring, and how it is read.

use std::sync::Mutex;

use ::http::{Response, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Server, Sidecar, call, list, mcp, names, next_bytes, ran};
use crate::{counted, get, initialize, modern_call, notification, request, result, with_headers};

/// A server that answers everything with these bytes.
async fn answering(content_type: &'static str, body: String) -> (Server, Sidecar) {
    let server =
        Server::start(move |_| Reply::Whole(Response::builder().header("content-type", content_type).body(body.clone().into()).unwrap()))
            .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
    (server, sidecar)
}

fn events(events: &[Value]) -> String {
    events.iter().fold(String::new(), |text, event| text + &format!("event: message\ndata: {event}\n\n"))
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

#[tokio::test]
async fn rule_17_a_stream_is_read_as_the_standard_says() {
    let (data, others) = (result(&json!(1)).to_string(), list(&json!(1), &["read"], None).to_string());
    let (half, rest) = data.split_at(data.find(',').unwrap() + 1);
    for stream in [
        format!("data: {data}\n\n"),
        format!("data:{data}\r\n\r\n"),
        format!("data: {data}\r\r"),
        format!("\u{feff}data: {data}\n\n"),
        format!(": comment\nid: 7\nretry: 5\nfoo: bar\nevent: message\ndata: {half}\ndata: {rest}\n\n"),
        format!("id: 0\ndata:\n\ndata: {data}\n\ndata: {others}"),
    ] {
        let (_server, sidecar) = answering(EVENTS, stream.clone()).await;
        let answer = sidecar.call("read").await;
        let normal = answer.text().replace("\r\n", "\n").replace(['\r', '\u{feff}'], "\n");
        let read: String = normal.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), result(&json!(1)), "{stream}");
    }
}

#[tokio::test]
async fn rule_17_what_is_put_into_a_stream_cannot_begin_an_event() {
    let tools = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\"name\":\"read\",\"x\":\"\\n\\ndata: 1\"},\ndata: {\"name\":\"secret\"}]}}\n\n";
    let (_server, sidecar) = answering(EVENTS, tools.to_owned()).await;
    let listed = sidecar.post(&request(1, "tools/list")).await;
    assert_eq!(listed.text().matches("\n\n").count(), 1, "{}", listed.text());
    assert!(!listed.text().contains("secret"));
}

#[tokio::test]
async fn rule_17_every_event_passes_as_it_comes() {
    let (sender, reply) = Reply::stream();
    let reply = Mutex::new(Some(reply));
    let server = Server::start(move |_| reply.lock().unwrap().take().unwrap()).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(mcp(call(1, "read").to_string())).await;
    assert_eq!(response.headers()["content-type"], EVENTS);
    let progress = format!("event: message\ndata: {}\n\n", notification("notifications/progress"));
    for event in [": hello\n", "id: 1\nretry: 5\ndata:\n\n", progress.as_str()] {
        // The next is only sent when this one has arrived.
        sender.send(event.to_owned().into()).await.unwrap();
        assert_eq!(next_bytes(&mut response).await.unwrap(), event);
    }
    drop(sender);
    assert_eq!(next_bytes(&mut response).await, None);
}

#[tokio::test]
async fn rule_18_on_the_stream_of_a_request_only_its_own_answer_passes_and_nothing_after_it() {
    let (progress, asks) = (notification("notifications/progress"), json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage"}));
    for (what, strays, reason) in [
        ("another id", vec![result(&json!(2))], "wrong_id"),
        ("another type", vec![result(&json!("1"))], "wrong_id"),
        ("an error with another id", vec![json!({"jsonrpc": "2.0", "id": 9, "error": {"code": 1, "message": "x"}})], "wrong_id"),
        ("no message", vec![json!({"a": 1}), json!("ping"), json!(7)], "no_message"),
    ] {
        let mut stream = vec![progress.clone(), asks.clone()];
        stream.extend(strays.clone());
        stream.push(result(&json!(1)));
        let (_server, sidecar) = answering(EVENTS, events(&stream)).await;
        let passed = sidecar.call("read").await.events();
        assert_eq!(passed, [progress.clone(), asks.clone(), result(&json!(1))], "{what}");
        assert_eq!(counted(&sidecar, "server", reason).await, strays.len() as u64, "{what}");
    }
    let after = [result(&json!(1)), result(&json!(1)), progress, asks, result(&json!(2))];
    let (_server, sidecar) = answering(EVENTS, events(&after)).await;
    assert_eq!(sidecar.call("read").await.events(), [result(&json!(1))]);
    assert_eq!(counted(&sidecar, "server", "after_answer").await, 4);
}

#[tokio::test]
async fn rule_18_what_is_no_message_is_dropped_and_still_keeps_the_connection_alive() {
    let (_server, sidecar) = answering(EVENTS, format!("event: ping\ndata: 2026-11-23\n\n{}", events(&[result(&json!(1))]))).await;
    assert_eq!(sidecar.call("read").await.text(), format!(":\n\n{}", events(&[result(&json!(1))])));
}

#[tokio::test]
async fn rule_18_an_event_that_may_have_been_the_answer_is_told_to_be_lost() {
    for odd in [
        r#"{"jsonrpc":"2.0","id":2,"id":1,"result":{"content":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"Id":2,"result":{"content":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"result":{"content":[]}}]"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]"#,
    ] {
        for (content_type, body) in [(EVENTS, format!("data: {odd}\n\n")), (JSON, odd.to_owned())] {
            let (_server, sidecar) = answering(content_type, body).await;
            let answer = sidecar.call("read").await;
            let told = if content_type == JSON { answer.json() } else { answer.events().remove(0) };
            assert_eq!(told["result"]["_meta"]["mcp-policy.dev/denial"]["code"], "upstream_unreachable", "{odd}");
            assert!(!told.to_string().contains("Nothing was executed"), "{odd}");
            assert_eq!(sidecar.audit.at_least(1).await[0]["code"], "upstream_unreachable");
        }
    }
}

#[tokio::test]
async fn rule_18_a_json_body_is_the_answer_to_its_request_or_none() {
    let error = json!({"jsonrpc": "2.0", "error": {"code": -32600, "message": "x"}});
    for (what, body, passes) in [
        ("the answer", result(&json!(1)), true),
        ("an error whose id could not be read", error.clone(), true),
        ("another id", result(&json!(2)), false),
        ("another type", result(&json!("1")), false),
        ("a notification", notification("notifications/message"), false),
        ("a request", json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}), false),
        ("no message", json!({"ok": true}), false),
    ] {
        let (server, sidecar) = answering(JSON, body.to_string()).await;
        let called = sidecar.call("read").await;
        assert_eq!(called.json() == body, passes, "{what}: {}", called.text());
        if !passes {
            assert_eq!(called.denial()["code"], "upstream_unreachable", "{what}");
        }
        let asked = sidecar.post(&request(1, "prompts/list")).await;
        assert_eq!(asked.json() == body, passes, "{what}: {}", asked.text());
        if !passes {
            assert_eq!((asked.status, &asked.json()["error"]["code"]), (StatusCode::OK, &json!(-32603)), "{what}");
        }
        assert_eq!(server.requests(), 2);
    }
}

/// Answers of more than is held at once: with the id first, as most servers write it, and last, as others do.
fn long(id: u64, first: bool, key: &str) -> String {
    let value = if key == "error" {
        json!({"code": -1, "message": "x".repeat(300_000)})
    } else {
        json!({"content": [{"type": "text", "text": "x".repeat(300_000)}]})
    };
    if first {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"{key}":{value}}}"#)
    } else {
        format!(r#"{{"{key}":{value},"jsonrpc":"2.0","id":{id}}}"#)
    }
}

#[tokio::test]
async fn rule_18_a_long_answer_passes_in_pieces_and_only_if_it_is_the_expected_one() {
    for first in [true, false] {
        let (_server, sidecar) = answering(JSON, long(1, first, "result")).await;
        assert_eq!(sidecar.call("read").await.text(), long(1, first, "result"));
    }
    let (_server, sidecar) = answering(JSON, long(2, true, "result")).await;
    assert_eq!(sidecar.call("read").await.denial()["code"], "upstream_unreachable", "known before anything was sent");

    let (_server, sidecar) = answering(JSON, long(2, false, "result")).await;
    let mut client = Client::connect(sidecar.proxy).await;
    let mut response = client.open(mcp(call(1, "read").to_string())).await;
    let mut body = Vec::new();
    while let Some(Ok(frame)) = http_body_util::BodyExt::frame(&mut response).await {
        body.extend_from_slice(&frame.into_data().unwrap());
    }
    assert!(serde_json::from_slice::<Value>(&body).is_err(), "it is cut off, so that no client can read it");
    assert_eq!(sidecar.audit.at_least(1).await[0]["code"], "upstream_unreachable");
}

#[tokio::test]
async fn a_long_error_gives_the_call_back_as_a_short_one_does() {
    let policy = json!({"tools": {"read": {"rateLimit": {"max": 1, "window": "hour"}}}});
    for (key, given_back) in [("error", true), ("result", false)] {
        for (first, as_event) in [(true, false), (false, false), (true, true), (false, true)] {
            let body = if as_event { format!("data: {}\n\n", long(1, first, key)) } else { long(1, first, key) };
            let content_type = if as_event { EVENTS } else { JSON };
            let server = Server::start(move |_| {
                Reply::Whole(Response::builder().header("content-type", content_type).body(body.clone().into()).unwrap())
            })
            .await;
            let sidecar = Sidecar::guarding(&server.url(), &policy);
            sidecar.call("read").await;
            assert_eq!(
                !sidecar.call("read").await.text().contains("limit_exceeded"),
                given_back,
                "{key}, id first: {first}, event: {as_event}"
            );
        }
    }
}

#[tokio::test]
async fn rule_18_servers_of_the_stateless_revision_send_no_requests() {
    let asks = json!({"jsonrpc": "2.0", "id": "s", "method": "sampling/createMessage", "params": {}});
    let (server, sidecar) = answering(EVENTS, events(&[asks, notification("notifications/progress"), result(&json!(1))])).await;
    let passed = sidecar.send(modern_call(1, "read")).await.events();
    assert_eq!(passed, [notification("notifications/progress"), result(&json!(1))]);
    assert_eq!((counted(&sidecar, "server", "server_request").await, server.requests()), (1, 1));
}

#[tokio::test]
async fn rule_18_what_is_told_gets_no_answer() {
    for (content_type, body) in
        [(EVENTS, events(&[result(&json!(1)), notification("notifications/message")])), (JSON, result(&json!(1)).to_string())]
    {
        let (_server, sidecar) = answering(content_type, body).await;
        let answer = sidecar.post(&notification("notifications/initialized")).await;
        assert!(!answer.text().contains("ran"), "{}", answer.text());
        assert_eq!(answer.text().contains("notifications/message"), content_type == EVENTS);
        assert_eq!(counted(&sidecar, "server", "wrong_id").await, 1);
    }
}

/// A server whose streams of calls end before the answer, which comes when the client returns.
async fn polling() -> Server {
    Server::start(|got| {
        let message = got.json();
        match (got.method.as_str(), message["method"].as_str()) {
            ("GET", _) => {
                let answers = [list(&json!(3), &["read", "secret"], None), result(&json!(2)), result(&json!("2")), result(&json!(9))];
                Reply::events(&answers)
            }
            (_, Some("initialize")) => {
                let Reply::Whole(mut response) =
                    Reply::json(&json!({"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": "2025-11-25"}}))
                else {
                    unreachable!()
                };
                response.headers_mut().insert("mcp-session-id", "session".parse().unwrap());
                Reply::Whole(response)
            }
            _ if message["id"] == 5 => Reply::events(&[result(&json!(5))]),
            _ => Reply::Whole(
                Response::builder().header("content-type", EVENTS).body(Bytes::from_static(b"id: 1\nretry: 10\ndata:\n\n")).unwrap(),
            ),
        }
    })
    .await
}

#[tokio::test]
async fn rule_18_a_resumed_stream_brings_the_answers_that_are_still_to_come_and_rules_19_to_21_hold_on_it() {
    let server = polling().await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["secret"]}));
    let in_session = |request| with_headers(request, &[("mcp-session-id", "session"), ("mcp-protocol-version", "2025-11-25")]);
    let resumed = || with_headers(in_session(get()), &[("last-event-id", "1")]);
    sidecar.post(&initialize()).await;
    assert_eq!(sidecar.send(resumed()).await.events().len(), 0, "nothing was asked");
    for message in [call(2, "read"), request(3, "tools/list")] {
        let primed = sidecar.send(in_session(mcp(message.to_string()))).await;
        assert_eq!(primed.text(), "id: 1\nretry: 10\ndata:\n\n");
    }
    assert_eq!(sidecar.send(in_session(get())).await.events().len(), 0, "a stream that resumes nothing has no answers");
    let passed = sidecar.send(resumed()).await.events();
    assert_eq!(passed.len(), 2, "{passed:?}");
    assert_eq!(names(&passed[0]), ["read"], "rule 20");
    assert_eq!(passed[1], result(&json!(2)), "the id and its type");
    assert_eq!(server.got().pop().unwrap().headers["last-event-id"], "1", "rule 21: event ids are the server's");
    let elsewhere = with_headers(with_headers(get(), &[("mcp-session-id", "other")]), &[("last-event-id", "1")]);
    assert_eq!(sidecar.send(elsewhere).await.events().len(), 0, "what was asked in another session");
}

#[tokio::test]
async fn rule_18_an_answer_that_has_passed_does_not_come_again_on_a_resumed_stream() {
    let server =
        Server::start(
            |got| if got.method == "GET" { Reply::events(&[result(&json!(5))]) } else { Reply::events(&[result(&got.json()["id"])]) },
        )
        .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    assert_eq!(sidecar.post(&call(5, "read")).await.events().len(), 1);
    assert_eq!(sidecar.send(with_headers(get(), &[("last-event-id", "1")])).await.events().len(), 0);
}

#[tokio::test]
async fn rule_16_answers_that_are_encoded_do_not_pass() {
    for content_type in [JSON, EVENTS] {
        let server = Server::start(move |got| {
            assert_eq!(got.headers["accept-encoding"], "identity");
            let response = Response::builder().header("content-type", content_type).header("content-encoding", "gzip");
            Reply::Whole(response.body(Bytes::from_static(b"\x1f\x8bsecret")).unwrap())
        })
        .await;
        let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
        let asking = |message: Value| with_headers(mcp(message.to_string()), &[("accept-encoding", "gzip, br")]);
        let called = sidecar.send(asking(call(1, "read"))).await;
        assert_eq!(called.denial()["code"], "upstream_unreachable");
        assert!(!called.headers.contains_key("content-encoding"));
        for method in ["tools/list", "prompts/list", "initialize"] {
            let answer = sidecar.send(asking(request(1, method))).await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::OK, &json!(-32603)), "{method}");
        }
        assert_eq!(server.requests(), 4);
    }
}

#[tokio::test]
async fn an_error_page_passes_with_its_status() {
    let server = Server::start(|got| match got.json()["id"].as_u64() {
        Some(1) => Reply::status(StatusCode::NOT_FOUND, &json!({"error": "no session"})),
        _ => ran(&got.json()),
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let answer = sidecar.call("read").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::NOT_FOUND, json!({"error": "no session"})));
}
