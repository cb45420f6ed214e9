//! Rules 1 to 7: one message, read in one way.

use serde_json::json;

use crate::support::{call, mcp};
use crate::{Pair, modern, modern_call, with_headers};

fn called(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

fn argument(value: &str) -> String {
    called(&format!(r#"{{"name":"read","arguments":{{"a":{value}}}}}"#))
}

/// What "is forwarded" is what was judged, byte by byte.
#[tokio::test]
async fn rule_1_the_bytes_that_were_judged_are_the_bytes_that_arrive() {
    let pair = Pair::allowing_all().await;
    for body in [
        "{ \"params\" :{\"arguments\":{\"n\":1.50e2,\"big\":9007199254740993,\"t\":\"\\u0061\\/\"},\"name\":\"re\\u0061d\"},\n\"method\":\"tools\\/call\",\"id\":\"\\u0031\",\"jsonrpc\":\"2.0\"} ",
        "\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n",
    ] {
        pair.passes(body, mcp(body)).await;
        let got = pair.server.got().pop().unwrap();
        assert_eq!(got.body, body.as_bytes());
        assert_eq!(got.headers["content-length"], body.len().to_string());
    }
}

/// "`malformed`: refused before any rule". Known mistakes that this must not make: "Calls whose params do not parse forwarded
/// unchecked", "duplicate or case-variant keys judged differently from how the server reads them".
#[tokio::test]
async fn rule_2_what_reads_two_ways_is_refused() {
    let pair = Pair::allowing_all().await;
    let good = call(1, "read").to_string();
    let nested = argument(&format!("{}1{}", "[".repeat(70), "]".repeat(70)));
    for (body, code, reason) in [
        (
            good.replace("secret", "\u{fffd}").into_bytes().iter().map(|byte| if *byte == 0xef { 0xff } else { *byte }).collect(),
            -32700,
            "not_utf8",
        ),
        ([b"\xef\xbb\xbf", good.as_bytes()].concat(), -32700, "byte_order_mark"),
        (good.encode_utf16().flat_map(u16::to_le_bytes).collect(), -32700, "syntax"),
        (format!("{good}{good}").into_bytes(), -32700, "trailing_bytes"),
        (argument("NaN").into(), -32700, "syntax"),
        (argument("Infinity").into(), -32700, "syntax"),
        (Vec::new(), -32700, "syntax"),
        (called(r#"{"name":"read","name":"purge"}"#).into(), -32600, "duplicate_key"),
        (called(r#"{"name":"read","n\u0061me":"purge"}"#).into(), -32600, "duplicate_key"),
        (argument(r#"[{"b":{"c":1,"c":2}}]"#).into(), -32600, "duplicate_key"),
        (
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"read"}}"#.to_vec(),
            -32600,
            "duplicate_key",
        ),
        (called(r#"{"name":"read","Name":"purge"}"#).into(), -32600, "lookalike_key"),
        (called(r#"{"name":"read","name\u0000":"purge"}"#).into(), -32600, "lookalike_key"),
        (called(r#"{"name":"read","_meta":{"ProgressToken":1}}"#).into(), -32600, "lookalike_key"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","param\u017f":{}}"#.into(), -32600, "lookalike_key"),
        (argument(r#""\ud800""#).into(), -32600, "lone_surrogate"),
        (nested.into(), -32600, "too_deep"),
        (argument("1e400").into(), -32600, "number"),
        (argument(&"1".repeat(200)).into(), -32600, "number"),
    ] as [(Vec<u8>, i64, &str); 19]
    {
        let what = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        pair.refused(&what, mcp(body), 400, code, reason).await;
    }
}

#[tokio::test]
async fn rule_2_a_charset_beside_utf8_and_a_body_over_the_limit_are_refused() {
    let pair = Pair::allowing_all().await;
    let utf16 = with_headers(mcp(call(1, "read").to_string()), &[("content-type", "application/json; charset=utf-16")]);
    pair.refused("charset", utf16, 400, -32700, "content_type").await;
    let long = argument(&format!("\"{}\"", "x".repeat(4 * 1024 * 1024)));
    pair.refused("long", mcp(long), 413, -32600, "body_too_large").await;
}

#[tokio::test]
async fn rule_3_an_integer_that_servers_read_differently_passes_unless_a_rule_reads_it() {
    let policy = json!({"tools": {"free": {}, "ruled": {"require": [{"path": "args.a", "op": "lt", "value": 1}]}}});
    let pair = Pair::with(&policy).await;
    let with = |tool: &str, number: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"a":{number}}}}}}}"#)
    };
    pair.passes("free", mcp(with("free", "9007199254740993"))).await;
    assert_eq!(pair.server.got()[0].body, with("free", "9007199254740993"));
    pair.passes("exact", mcp(with("ruled", "-9007199254740991"))).await;
    let denied = pair.sidecar.post_bytes(with("ruled", "-9007199254740993")).await.denial();
    assert_eq!(denied["code"], "policy_error");
    assert_eq!(pair.server.requests(), 2);
}

#[tokio::test]
async fn rule_4_the_envelope_alone_classifies() {
    let pair = Pair::allowing_all().await;
    for (body, reason) in [
        ("{}", "envelope"),
        ("null", "envelope"),
        ("\"tools/call\"", "envelope"),
        (r#"{"id":1,"method":"ping"}"#, "envelope"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, "envelope"),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{}}"#, "envelope"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, "params"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#, "params"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":7}}"#, "params"),
        (r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"read"}}"#, "id"),
        (r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#, "id"),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, "id"),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"read"}}"#, "id"),
        (r#"{"jsonrpc":"2.0","result":{}}"#, "id"),
    ] {
        pair.refused(body, mcp(body), 400, -32600, reason).await;
    }
    let echoed = pair.refused("echo", mcp(r#"{"jsonrpc":"2.0","id":"\u0037","method":7}"#), 400, -32600, "envelope").await;
    assert!(echoed.text().contains(r#""id":"\u0037""#), "the id comes back as it was sent: {}", echoed.text());
}

#[tokio::test]
async fn rule_5_a_call_names_one_tool_in_one_way() {
    let pair = Pair::allowing_all().await;
    for params in [
        "{}",
        r#"{"name":""}"#,
        r#"{"name":null}"#,
        r#"{"name":["read"]}"#,
        r#"{"name":"read","arguments":[]}"#,
        r#"{"name":"read","arguments":"x"}"#,
    ] {
        pair.refused(params, mcp(called(params)), 200, -32602, "params").await;
    }
    let long = "x".repeat(129);
    for name in ["read ", " read", "re\u{0}ad", "größe", "a/b", "a b", "ｒead", long.as_str()] {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}});
        let answer = pair.sidecar.post(&message);
        pair.refused_as(name, "tool_name", answer, |answer| assert_eq!(answer.denial()["code"], "malformed", "{name}")).await;
    }
    for params in [r#"{"name":"read"}"#, r#"{"name":"read","arguments":null}"#, r#"{"name":"Read.2_x-y","arguments":{}}"#] {
        pair.passes(params, mcp(called(params))).await;
        assert_eq!(pair.server.got().pop().unwrap().body, called(params));
    }
}

#[tokio::test]
async fn rule_5_names_match_bytewise() {
    let pair = Pair::with(&json!({"tools": {"read": {}}})).await;
    for name in ["READ", "Read", "read2", "rea"] {
        assert_eq!(pair.sidecar.call(name).await.denial()["code"], "default_deny", "{name}");
    }
    assert_eq!(pair.server.requests(), 0);
    pair.passes("escaped", mcp(called(r#"{"name":"\u0072ead"}"#))).await;
    let lines = pair.sidecar.audit.at_least(5).await;
    assert_eq!(lines[4]["tool"], "read", "the tool that is logged is the tool that ran");
}

/// A known mistake that this must not make: "batches skipping policy".
#[tokio::test]
async fn rule_6_batches_are_refused_in_every_revision() {
    let pair = Pair::allowing_all().await;
    let batch = json!([call(1, "read"), call(2, "purge")]).to_string();
    pair.refused("no header", mcp(batch.clone()), 400, -32600, "batch").await;
    for version in ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"] {
        let request = with_headers(mcp(batch.clone()), &[("mcp-protocol-version", version)]);
        pair.refused(version, request, 400, -32600, "batch").await;
    }
    for batch in ["[]", "[[]]", "[1]"] {
        pair.refused(batch, mcp(batch), 400, -32600, "batch").await;
    }
}

#[tokio::test]
async fn rule_7_methods_match_exactly_and_unknown_ones_are_answered_as_the_era_does() {
    let pair = Pair::allowing_all().await;
    for method in ["Tools/Call", "tools/call ", "TOOLS/LIST", "tools/", "vendor/thing", "sampling/createMessage"] {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "read"}});
        let legacy = pair.sidecar.post(&message);
        pair.refused_as(method, "unknown_method", legacy, |answer| {
            assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (200, &json!(-32601)));
        })
        .await;
    }
    pair.refused("modern", modern(1, "vendor/thing", &json!({})), 404, -32601, "unknown_method").await;
    pair.passes("escaped", mcp(r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"read"}}"#)).await;
}

#[tokio::test]
async fn rule_7_header_names_ignore_case_and_values_do_not() {
    let pair = Pair::allowing_all().await;
    let shouted = with_headers(modern_call(1, "read"), &[("mcp-method", "Tools/Call")]);
    pair.refused("value", shouted, 400, -32020, "header_mismatch").await;
    pair.passes("white space", with_headers(modern_call(1, "read"), &[("mcp-method", "tools/call \t")])).await;
    assert!(pair.sidecar.audit.at_least(2).await.iter().all(|line| line["method"] == "tools/call"));
}
