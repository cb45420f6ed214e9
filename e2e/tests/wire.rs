//! Messages that are not MCP, and servers that do not answer.

use mcp_policy_e2e::{metrics, sandbox::Sandbox, wire};
use serde_json::{Value, json};

/// The tool would be allowed; each of these messages could be read in more than one way, or not at all.
#[test]
fn a_message_that_cannot_be_read_one_way_only_is_answered_with_400_counted_and_never_forwarded() {
    let sandbox = Sandbox::new("malformed");
    sandbox.policy("imaging", "selector: {matchLabels: {app: healthimaging-mcp}}, default: allow");
    let pod = sandbox.imaging();
    sandbox.until_programmed("imaging");
    let way = pod.forward(8080);
    let call = wire::call(7, "list_datastores", &json!({}));
    let cases: [(&str, Vec<u8>, Value); 8] = [
        ("a key twice", call.replace(r#""name":"#, r#""name":"get_datastore","name":"#).into(), json!(7)),
        ("a key twice, once escaped", call.replace(r#""name":"#, r#""n\u0061me":"get_datastore","name":"#).into(), json!(7)),
        ("a batch", format!("[{call}]").into(), json!(null)),
        ("a byte order mark", [b"\xef\xbb\xbf", call.as_bytes()].concat(), json!(null)),
        (
            "not UTF-8",
            call.replace("list_datastores", "\u{1}").into_bytes().into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect(),
            json!(null),
        ),
        ("bytes after the end", format!("{call}{call}").into(), json!(null)),
        ("method and result", call.replace(r#""method""#, r#""result":{},"method""#).into(), json!(7)),
        ("not JSON", b"list the data stores".to_vec(), json!(null)),
    ];
    for (what, body, id) in &cases {
        let answer = wire::post(&way.url(), &[], body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        let message = answer.message();
        assert!(message["error"]["code"].is_i64(), "{what}: {message}");
        // An id is told where it could be read for certain; what comes before it may spoil that.
        assert!(message["id"] == *id || message["id"].is_null(), "{what}: {message}");
    }
    let answer = wire::post(&way.url(), &["content-type: text/plain"], call.as_bytes());
    assert_eq!(answer.status, 415, "{}", answer.body);
    let answer = wire::post(&way.url(), &["content-encoding: gzip"], call.as_bytes());
    assert_eq!(answer.status, 415, "{}", answer.body);
    let answer = wire::post(&way.url(), &[], format!("{call}{}", " ".repeat(5 << 20)).as_bytes());
    assert_eq!(answer.status, 413, "{}", answer.body);

    assert_eq!(pod.executions(), [].into(), "a malformed message was forwarded");
    let offered = metrics::offered(&pod.namespace, &pod.name);
    let counted: f64 = offered
        .lines()
        .filter(|line| line.starts_with("mcp_policy_decisions_total{") && line.contains(r#"code="malformed""#))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(counted >= 11.0, "{counted} malformed messages counted:\n{offered}");
}

#[test]
fn a_server_that_is_down_costs_nothing_of_the_limit_and_the_agent_gets_an_answer_with_its_id() {
    let sandbox = Sandbox::new("down");
    let selector = "selector: {matchLabels: {app: down}}";
    sandbox.policy("down", &format!("{selector}, tools: {{t: {{limits: [{{counter: c, window: hour, max: 1}}]}}}}"));
    let pod = sandbox.bare("down", "app: down", "trap exit TERM; sleep 3600 & wait");
    sandbox.until_programmed("down");
    let way = pod.forward(8080);
    for id in 1..=3 {
        let answer = wire::post(&way.url(), &[], wire::call(id, "t", &json!({})).as_bytes());
        let message = answer.message();
        assert_eq!((answer.status, &message["id"], &message["result"]["isError"]), (200, &json!(id), &json!(true)), "{message}");
        // With the limit of one used up, the second would be refused with limit_exceeded.
        assert_eq!(message["result"]["_meta"]["mcp-policy.dev/denial"]["code"], "upstream_unreachable", "{message}");
    }
    let answer = wire::post(&way.url(), &[], br#"{"jsonrpc":"2.0","id":"a","method":"resources/list"}"#);
    let message = answer.message();
    assert_eq!(message["id"], "a", "{message}");
    assert!(message["error"]["code"].is_i64(), "{message}");
}
