//! Rules 8 to 15: the head of a request, and what of it goes on.

use std::time::Duration;

use ::http::{Method, Request};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, Sidecar, call, in_time, mcp};
use crate::{Pair, get, modern, modern_call, request, with_headers};

fn to(path: &str) -> Request<Full<Bytes>> {
    let mut request = mcp(call(1, "read").to_string());
    *request.uri_mut() = path.parse().unwrap();
    request
}

#[tokio::test]
async fn rule_8_only_the_very_path_is_the_endpoint_and_its_query_goes_no_further() {
    let pair = Pair::allowing_all().await;
    for path in ["/", "/mcp/", "//mcp", "/%6dcp", "/./mcp", "/x/../mcp", "/MCP", "/admin", "/sse", "/message?sessionId=1"] {
        pair.refused(path, to(path), 404, -32600, "path").await;
    }
    pair.passes("query", to("/mcp?x=1")).await;
    assert_eq!(pair.server.got()[0].target, "/mcp");
}

#[tokio::test]
async fn rule_9_the_endpoint_has_three_methods_and_no_header_changes_one() {
    let pair = Pair::allowing_all().await;
    for method in ["HEAD", "PUT", "PATCH", "TRACE", "OPTIONS", "post"] {
        let mut request = mcp(call(1, "read").to_string());
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = pair.sidecar.send(request);
        pair.refused_as(method, "http_method", answer, |answer| assert_eq!(answer.status, 405, "{method}")).await;
    }
    let overridden = with_headers(
        mcp(call(1, "read").to_string()),
        &[("x-http-method-override", "DELETE"), ("upgrade", "websocket"), ("connection", "upgrade")],
    );
    pair.passes("override", overridden).await;
    let got = pair.server.got().pop().unwrap();
    assert_eq!(got.method, Method::POST);
    for gone in ["x-http-method-override", "upgrade", "connection"] {
        assert!(!got.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn rule_9_the_stateless_revision_has_only_post() {
    let pair = Pair::allowing_all().await;
    for method in [Method::GET, Method::DELETE] {
        let mut request = with_headers(get(), &[("mcp-protocol-version", "2026-07-28")]);
        *request.method_mut() = method.clone();
        pair.refused(method.as_str(), request, 405, -32600, "http_method").await;
    }
}

#[tokio::test]
async fn rule_10_a_body_is_declared_as_plain_json() {
    let pair = Pair::allowing_all().await;
    let typed = |value: &str| with_headers(mcp(call(1, "read").to_string()), &[("content-type", value)]);
    for value in ["text/plain", "application/jsonp", "application/vnd.x+json", "application/json, text/plain", "multipart/form-data", ""] {
        pair.refused(value, typed(value), 415, -32600, "content_type").await;
    }
    let mut none = mcp(call(1, "read").to_string());
    none.headers_mut().remove("content-type");
    pair.refused("none", none, 415, -32600, "content_type").await;
    for encoding in ["gzip", "br", "identity, gzip"] {
        let encoded = with_headers(mcp(call(1, "read").to_string()), &[("content-encoding", encoding)]);
        pair.refused(encoding, encoded, 415, -32600, "content_encoding").await;
    }
    for value in ["Application/JSON", "application/json;x=y", "application/json; charset=UTF-8"] {
        pair.passes(value, typed(value)).await;
    }
    for accept in ["*/*", "application/json", ""] {
        pair.passes(accept, with_headers(mcp(call(1, "read").to_string()), &[("accept", accept)])).await;
        assert_eq!(pair.server.got().pop().unwrap().headers["accept"], accept, "what a client accepts is between it and the server");
    }
}

#[tokio::test]
async fn rule_11_what_decides_is_there_once() {
    let pair = Pair::allowing_all().await;
    let twice = |mut request: Request<Full<Bytes>>, name: &'static str, value: &str| {
        request.headers_mut().append(name, value.parse().unwrap());
        request.headers_mut().append(name, value.parse().unwrap());
        request
    };
    for name in [
        "content-type",
        "authorization",
        "origin",
        "mcp-session-id",
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "mcp-param-x",
        "mcp-other",
    ] {
        let value = match name {
            "content-type" => "application/json",
            "origin" => "http://localhost",
            _ => "2025-11-25",
        };
        pair.refused(name, twice(mcp(call(1, "read").to_string()), name, value), 400, -32600, "repeated_header").await;
    }
    for (name, value) in [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "read"), ("mcp-param-x", "1")]
    {
        pair.refused(name, twice(modern_call(1, "read"), name, value), 400, -32020, "repeated_header").await;
    }
    pair.refused("last-event-id", twice(get(), "last-event-id", "7"), 400, -32600, "repeated_header").await;
    let mut bytes = mcp(call(1, "read").to_string());
    bytes.headers_mut().insert("mcp-session-id", ::http::HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap());
    pair.refused("bytes", bytes, 400, -32600, "header_bytes").await;
}

/// Sends bytes, and returns the beginning of what comes back.
async fn raw(pair: &Pair, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(pair.sidecar.proxy).await.unwrap();
    let request = format!("{head}\r\nhost: localhost\r\ncontent-type: application/json\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    in_time("an answer", stream.read_exact(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn rule_12_a_body_whose_end_could_be_read_in_two_ways_is_refused() {
    let pair = Pair::allowing_all().await;
    let body = call(1, "read").to_string();
    let (length, chunked) = (body.len(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    for (head, body) in [
        ("POST /mcp HTTP/1.1\r\ntransfer-encoding: gzip, chunked".to_owned(), &chunked),
        ("POST /mcp HTTP/1.1\r\ntransfer-encoding: xchunked".to_owned(), &chunked),
        (format!("POST /mcp HTTP/1.1\r\ncontent-length: {length}\r\ncontent-length: {}", length + 1), &body),
        (format!("POST /mcp HTTP/1.1\r\ncontent-length: +{length}"), &body),
        (format!("POST /mcp HTTP/1.1\r\ncontent-length : {length}"), &body),
        (format!("POST /mcp HTTP/1.1\r\nx: a\r\n b\r\ncontent-length: {length}"), &body),
        ("POST /mcp HTTP/1.0\r\ntransfer-encoding: chunked".to_owned(), &chunked),
    ] {
        let answer = raw(&pair, &head, body).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{head}: {answer}");
        assert_eq!(pair.server.requests(), 0, "{head}");
    }
    assert!(raw(&pair, "POST /mcp HTTP/1.1\r\ntransfer-encoding: chunked", &chunked).await.starts_with("HTTP/1.1 200"));
    let got = pair.server.got().pop().unwrap();
    assert_eq!(got.headers["content-length"], length.to_string(), "framed anew");
    assert!(!got.headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn rule_13_claims_about_who_is_asking_do_not_go_on() {
    let pair = Pair::allowing_all().await;
    let claims = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-client-cert", "x"),
        ("forwarded", "for=1"),
        ("x-real-ip", "10.0.0.1"),
        ("mcp-policy-caller", "admin"),
        ("x-original-url", "/admin"),
        ("x_forwarded_for", "10.0.0.1"),
    ];
    let request = with_headers(mcp(call(1, "read").to_string()), &claims);
    pair.passes("claims", with_headers(request, &[("authorization", "Bearer x"), ("x-vendor", "1")])).await;
    let headers = pair.server.got().pop().unwrap().headers;
    for (name, _) in claims {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!((&headers["authorization"], &headers["x-vendor"]), (&"Bearer x".parse().unwrap(), &"1".parse().unwrap()));
}

#[tokio::test]
async fn rule_14_the_headers_of_a_modern_request_repeat_its_body() {
    let pair = Pair::allowing_all().await;
    for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
        let mut request = modern_call(1, "read");
        request.headers_mut().remove(name);
        let answer = pair.refused(name, request, 400, -32020, "header_mismatch").await;
        assert_eq!(answer.json()["id"], 1);
        pair.refused(name, with_headers(modern_call(1, "read"), &[(name, "other")]), 400, -32020, "header_mismatch").await;
    }
    let params = json!({"name": "größe"});
    let mut request = modern(1, "prompts/get", &params);
    request.headers_mut().insert("mcp-name", "=?base64?Z3LDtsOfZQ==?=".parse().unwrap());
    pair.passes("base64", request).await;
    let task = with_headers(modern(1, "tasks/get", &json!({"taskId": "a"})), &[("mcp-name", "b")]);
    pair.refused("task", task, 400, -32020, "header_mismatch").await;
}

#[tokio::test]
async fn rule_14_headers_of_a_legacy_request_may_be_missing_but_not_lie() {
    let pair = Pair::allowing_all().await;
    for (name, value) in [("mcp-method", "tools/list"), ("mcp-name", "safe")] {
        let request = with_headers(mcp(call(1, "read").to_string()), &[(name, value)]);
        pair.refused(name, request, 400, -32600, "header_mismatch").await;
    }
    pair.passes("none", mcp(call(1, "read").to_string())).await;
    pair.passes("true", with_headers(mcp(call(1, "read").to_string()), &[("mcp-method", "tools/call"), ("mcp-name", "read")])).await;
}

#[tokio::test]
async fn rule_14_headers_that_repeat_arguments_agree_with_them_once_the_tools_schema_is_known() {
    let server = Server::start(|got| {
        let message = got.json();
        if message["method"] == "tools/list" {
            let schema = json!({"type": "object", "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"}, "count": {"type": "integer", "x-mcp-header": "Count"}}});
            let tools = json!([{"name": "hidden", "inputSchema": schema}, {"name": "plain"}, {"name": "read", "inputSchema": schema}]);
            return crate::support::Reply::json(
                &json!({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": tools, "resultType": "complete"}}),
            );
        }
        crate::support::ran(&message)
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow", "hide": ["hidden"]}));
    let pair = Pair { server, sidecar };
    let calling = |tool: &str, arguments, headers: &[(&'static str, &str)]| {
        with_headers(modern(1, "tools/call", &json!({"name": tool, "arguments": arguments})), headers)
    };
    pair.passes("unknown schema", calling("read", json!({"region": "eu"}), &[("mcp-param-region", "us")])).await;
    pair.passes("list", modern(1, "tools/list", &json!({}))).await;

    for (arguments, headers) in [
        (json!({"region": "eu"}), &[("mcp-param-region", "us")][..]),
        (json!({"region": "eu"}), &[]),
        (json!({}), &[("mcp-param-region", "eu")]),
        (json!({"count": 2}), &[("mcp-param-count", "3")]),
    ] {
        let answer = pair.refused("differs", calling("read", arguments, headers), 400, -32020, "header_mismatch").await;
        assert_eq!(answer.json()["id"], 1);
    }
    pair.passes("same", calling("read", json!({"region": "eu", "count": 2}), &[("mcp-param-region", "eu"), ("mcp-param-count", "2.0")]))
        .await;
    pair.passes("encoded", calling("read", json!({"region": "ü"}), &[("mcp-param-region", "=?base64?w7w=?=")])).await;
    pair.passes("unknown header", calling("read", json!({}), &[("mcp-param-other", "x")])).await;
    assert_eq!(pair.server.got().pop().unwrap().headers["mcp-param-other"], "x");
    pair.passes("another tool", calling("plain", json!({"region": "eu"}), &[("mcp-param-region", "us")])).await;
    let legacy = with_headers(mcp(call(1, "read").to_string()), &[("mcp-param-region", "us")]);
    pair.passes("a revision without such headers", legacy).await;
}

#[tokio::test]
async fn rule_15_a_body_that_does_not_arrive_is_given_up() {
    let server = Server::with_tools(&[]).await;
    let sidecar =
        Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| config.limits.body_timeout = Duration::from_millis(50));
    let pair = Pair { server, sidecar };
    let mut stream = TcpStream::connect(pair.sidecar.proxy).await.unwrap();
    stream
        .write_all(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(pair.server.requests(), 0);
    assert_eq!(pair.sidecar.audit.at_least(1).await[0]["malformed"], "body_timeout");
}

#[tokio::test]
async fn rule_15_a_head_that_does_not_arrive_is_given_up() {
    let server = Server::with_tools(&[]).await;
    let sidecar =
        Sidecar::configured(&server.url(), &json!({"default": "allow"}), |config| config.limits.head_timeout = Duration::from_millis(50));
    let mut stream = TcpStream::connect(sidecar.proxy).await.unwrap();
    stream.write_all(b"POST /mcp HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_use_a_server_on_this_machine() {
    let server = Server::with_tools(&[]).await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    let pair = Pair { server, sidecar };
    for (name, value) in [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")] {
        for message in [call(1, "read"), request(1, "tools/list")] {
            let answer = pair.sidecar.send(with_headers(mcp(message.to_string()), &[(name, value)]));
            pair.refused_as(name, "origin", answer, |answer| assert_eq!(answer.status, 403)).await;
        }
        let answer = pair.sidecar.send(with_headers(get(), &[(name, value)]));
        pair.refused_as(name, "origin", answer, |answer| assert_eq!(answer.status, 403)).await;
    }
}

/// Clients of HTTP send all of a body before they read.
#[tokio::test]
async fn rule_15_who_sends_too_much_can_read_that_it_was_too_much() {
    let pair = Pair::allowing_all().await;
    let long = format!("{}{}", call(1, "read"), " ".repeat(7 << 20));
    let head = format!("POST /mcp HTTP/1.1\r\ncontent-length: {}", long.len());
    assert_eq!(raw(&pair, &head, &long).await, "HTTP/1.1 413");
    assert_eq!(raw(&pair, &format!("{head}\r\nexpect: 100-continue"), "").await, "HTTP/1.1 413", "nothing had to be sent");
    assert_eq!(pair.server.requests(), 0);
}
