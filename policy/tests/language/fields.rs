//! The tables of fields: what each is without being written, and how much it takes.

use mcp_policy::Mode;
use serde_json::json;

use super::*;

/// The column "default" of the fields: `mode` is `enforce`, `version` is `"1"`, `default` is `deny`, `hide` is none; a rule's `action`
/// is "`allow` (default)"; a limit's `scope` is "`grant` (default)".
#[test]
fn what_is_not_written_is_its_default() {
    let limit = |more: Value| {
        let mut limit = json!({"counter": "c", "window": 1, "max": 1});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"tools": {"t": {"limits": [limit]}}})
    };
    for (unwritten, written) in [
        (json!({}), json!({"version": "1", "default": "deny", "hide": [], "tools": {}, "methods": {}})),
        (json!({"tools": {"t": {}}}), json!({"tools": {"t": {"action": "allow"}}})),
        (limit(json!({})), limit(json!({"scope": "grant"}))),
    ] {
        assert_eq!(read::document(&unwritten).unwrap(), read::document(&written).unwrap(), "{unwritten}");
    }
    let spec = read::spec(&json!({"selector": {}})).unwrap();
    assert_eq!((spec.mode, spec.server.ports.len(), spec.server.passthrough_ports.len()), (Mode::Enforce, 0, 0));
    assert_eq!(read::spec(&json!({"selector": {}, "mode": "enforce"})).unwrap(), spec);
}

/// "`selector`: required; `{}` = every pod of the namespace".
#[test]
fn a_resource_selects_its_pods() {
    assert_eq!(read::spec(&json!({})).unwrap_err().to_string(), "spec.selector: is required; `{}` selects every pod of the namespace");
    assert!(read::spec(&json!({"selector": {}})).unwrap().selector.match_labels.is_empty());
}

/// "`default`: tools that no entry of `tools` matches", "`tools`: per-tool rules; `{}` = allowed, no checks", "`allTools`: holds for every
/// call, in addition to the tool's own rule".
#[test]
fn a_call_obeys_the_default_or_its_entry_and_all_tools() {
    let needs = |name: &str| json!({"require": [{"path": format!("args.{name}"), "op": "exists"}]});
    for (document, arguments, expected) in [
        (json!({}), "", "default_deny /default"),
        (json!({"default": "deny"}), "", "default_deny /default"),
        (json!({"default": "allow"}), "", "allowed /default"),
        (json!({"default": "deny", "tools": {"t": {}}}), r#"{"any": ["thing"]}"#, "allowed /tools/t"),
        (json!({"default": "allow", "tools": {"t": {"action": "deny"}}}), "", "tool_denied /tools/t/action"),
        (json!({"default": "allow", "allTools": needs("a")}), "{}", "require_failed /allTools/require/0"),
        (json!({"default": "allow", "allTools": needs("a")}), r#"{"a": 1}"#, "allowed /default"),
        (json!({"tools": {"t": needs("t")}, "allTools": needs("a")}), r#"{"a": 1}"#, "require_failed /tools/t/require/0"),
        (json!({"tools": {"t": needs("t")}, "allTools": needs("a")}), r#"{"t": 1}"#, "require_failed /allTools/require/0"),
        (json!({"tools": {"t": needs("t")}, "allTools": needs("a")}), r#"{"t": 1, "a": 1}"#, "allowed /tools/t"),
        (json!({"allTools": {}}), "", "default_deny /default"),
    ] {
        assert_eq!(told(decide(&one(&document), "t", arguments)), expected, "{arguments} under {document}");
    }
}

/// "`action`: `deny`: never, and the agent is told why; `hide`: never, as if the tool did not exist". "`reason`: told to the agent when
/// this rule refuses".
#[test]
fn a_denied_tool_is_told_why_and_a_hidden_one_is_not() {
    let policy = |action: &str| policy("p", &json!({"tools": {"t": {"action": action, "reason": "ask first"}}}));
    let denied = refusal(decide(&Policies::new(vec![policy("deny")]), "t", ""));
    assert_eq!((denied.code.as_str(), denied.reason.as_deref()), ("tool_denied", Some("ask first")));
    assert_eq!(policy("deny").warnings(), [""; 0]);
    assert_eq!(told(decide(&Policies::new(vec![policy("hide")]), "t", "")), "hidden /tools/t/action");
    assert_eq!(policy("hide").warnings(), ["tools.t.reason: never told, since a hidden tool is answered as an unknown one"]);
}

/// "`server.ports`: [port], ≤ 16", "`server.passthroughPorts`: [port], ≤ 16"
#[test]
fn a_server_has_at_most_sixteen_ports_of_each_kind() {
    for field in ["ports", "passthroughPorts"] {
        let spec = |count: u16| read::spec(&json!({"selector": {}, "server": {field: (1..=count).collect::<Vec<_>>()}}));
        spec(16).unwrap();
        assert_eq!(spec(17).unwrap_err().to_string(), format!("spec.server.{field}: has 17 ports; at most 16 are allowed"));
    }
}

/// "`rateLimit`: `{max, window}`: short for one limit, counter `<tool>_rate`, scope `session`".
#[test]
fn a_rate_limit_is_short_for_a_limit_of_sessions() {
    let short = json!({"tools": {"t": {"rateLimit": {"max": 1, "window": "minute"}}}});
    let long = json!({"tools": {"t": {"limits": [{"counter": "t_rate", "window": "minute", "max": 1, "scope": "session"}]}}});
    for document in [short, long] {
        let policies = one(&document);
        let mut counters = Counters::default();
        let mut call = |session| {
            let caller = caller(1);
            let server = ServerName { namespace: "ns", name: "server-0" };
            let call = Call { tool: "t", arguments: "", caller: &caller, session: Some(session), server };
            match policies.decide(&mut counters, &call, Duration::ZERO).decision {
                Decision::Allowed(_) => "allowed".to_owned(),
                Decision::Refused(refusal) => refusal.counter.unwrap().to_string(),
            }
        };
        assert_eq!([call("a"), call("a"), call("b")], ["allowed", "t_rate", "allowed"], "{document}");
    }
}

/// "`methods`: map pattern → `allow` | `deny`; known methods `allow`, unknown `deny`; everything that is not a tool call:
/// `resources/read`, `prompts/get`, `sampling/createMessage`, …". "Known methods are those of all supported revisions […]; all may be
/// denied; `tools/call` is refused as a key."
#[test]
fn every_known_method_is_allowed_and_may_be_denied() {
    use mcp_policy::method::{FROM_CLIENT, FROM_SERVER, is_known};
    for method in ["resources/read", "prompts/get", "sampling/createMessage", "initialize", "ping", "tools/list"] {
        assert!(is_known(method), "{method}");
    }
    let known = FROM_CLIENT.iter().chain(FROM_SERVER).filter(|method| **method != "tools/call");
    for method in known {
        assert!(one(&json!({})).decide_method(&caller(1), method).refusal.is_none(), "{method}");
        let refusal = one(&json!({"methods": {*method: "deny"}})).decide_method(&caller(1), method).refusal.unwrap();
        assert_eq!(
            (refusal.code.as_str(), refusal.rule),
            ("method_denied", Some(format!("/methods/{}", method.replace('/', "~1")))),
            "{method}"
        );
    }
    for method in ["resources/delete", "Resources/read", "resources/read ", "", "x"] {
        let refusal = one(&json!({})).decide_method(&caller(1), method).refusal.unwrap();
        assert_eq!((refusal.code.as_str(), refusal.rule), ("method_denied", None), "{method}: null without a rule");
        if !method.is_empty() {
            assert!(one(&json!({"methods": {method: "allow"}})).decide_method(&caller(1), method).refusal.is_none(), "{method}");
        }
    }
    assert_eq!(
        errors(&json!({"methods": {"tools/call": "deny"}})),
        "methods.tools/call: calls are governed by `tools`, `hide` and `default`"
    );
    assert_eq!(errors(&json!({"methods": {"tools/*": "deny"}})), "nothing");
}
