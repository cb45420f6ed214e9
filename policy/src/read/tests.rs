use serde_json::json;

use super::*;
use crate::document::{DefaultAction, Scope, Window};

const SMALLEST: &str = r#"{ "version": "1", "default": "deny",
  "tools": { "start_dicom_export_job": {
    "limits": [ { "counter": "start_dicom_export_job_rate", "window": "minute", "max": 10, "scope": "grant" } ] } } }"#;

fn refusal(value: &Value) -> String {
    spec(value).unwrap_err().to_string()
}

#[test]
fn a_gateways_published_json_is_accepted_beside_a_selector() {
    let mut value: Value = serde_json::from_str(SMALLEST).unwrap();
    let bare = document(&value).unwrap();
    value["selector"] = json!({"matchLabels": {"app": "healthimaging-mcp"}});
    let spec = spec(&value).unwrap();
    assert_eq!(spec.document, bare);
    assert_eq!(spec.document.default, DefaultAction::Deny);
    let limit = &spec.document.tools["start_dicom_export_job"].limits[0];
    assert_eq!((limit.max.as_u64(), limit.scope, limit.window.seconds()), (Some(10), Scope::Grant, Some(60)));
}

#[test]
fn what_is_printed_reads_back_the_same() {
    let value = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "server": {"ports": [8080], "path": "/"},
        "default": "allow", "hide": ["x*"], "allTools": {"rateLimit": {"max": 3, "window": 90}},
        "tools": {"a": {}, "b": {"action": "deny", "reason": "no"}, "c": {"limits": [{"counter": "c", "window": "90s", "max": 0, "scope": "server"}]}}});
    let first = spec(&value).unwrap();
    let printed = serde_json::to_value(&first).unwrap();
    assert_eq!(printed["tools"]["a"], json!({}), "what was not written is not printed");
    assert_eq!(spec(&serde_json::to_value(&first).unwrap()).unwrap(), first);
}

#[test]
fn a_wrong_field_is_named_with_its_path() {
    let rule = |rule: Value| json!({"selector": {}, "tools": {"t": rule}});
    let cases = [
        (json!({"tools": {}}), "spec.selector: is required"),
        (json!({"selector": {"matchLabel": {}}}), "spec.selector.matchLabel: unknown field"),
        (json!({"selector": {}, "server": {"port": 1}}), "spec.server.port: unknown field"),
        (json!({"selector": {}, "server": {"ports": [70000]}}), "spec.server.ports[0]: "),
        (json!({"selector": {}, "tool": {}}), "spec.tool: unknown field"),
        (json!({"selector": {}, "version": 1}), "spec.version: must be the string \"1\""),
        (json!({"selector": {}, "version": "2"}), "spec.version: unknown variant `2`"),
        (json!({"selector": {}, "default": "Deny"}), "spec.default: unknown variant `Deny`"),
        (json!({"selector": {}, "all_tools": {}}), "spec.all_tools: unknown field; in an McpPolicy it is `allTools`"),
        (json!({"selector": {}, "mode": "shadow"}), "spec.mode: unknown variant `shadow`"),
        (json!({"selector": {}, "namespaceSelector": {}}), "spec.namespaceSelector: belongs to a ClusterMcpPolicy"),
        (rule(json!({"limts": []})), "spec.tools.t.limts: unknown field"),
        (rule(json!({"limits": [{"counter": "c", "widow": "minute"}]})), "spec.tools.t.limits[0].widow: unknown field"),
        (rule(json!({"limits": [{"counter": "c", "window": "minute", "max": -1}]})), "spec.tools.t.limits[0].max: "),
        (rule(json!({"limits": [{"counter": "c", "window": "minute", "max": 1.5}]})), "spec.tools.t.limits[0].max: "),
        (rule(json!({"limits": [{"counter": "c", "window": true, "max": 1}]})), "spec.tools.t.limits[0].window: "),
        (rule(json!({"limits": [{"counter": "c", "window": -1, "max": 1}]})), "spec.tools.t.limits[0].window: "),
        (
            rule(json!({"limits": [{"counter": "c", "window": "minute", "max": 1, "scope": "user"}]})),
            "spec.tools.t.limits[0].scope: unknown variant",
        ),
        (rule(json!({"approveIf": []})), "spec.tools.t.approveIf: is part of the policy language, but not of this release"),
        (rule(json!({"action": "approve"})), "spec.tools.t.action: `approve` is part of the policy language"),
        (rule(json!(null)), "spec.tools.t: must not be null; write `{}`"),
        (json!("text"), "spec: must be an object, but is a string"),
    ];
    for (value, expected) in cases {
        let refusal = refusal(&value);
        assert!(refusal.starts_with(expected), "{value}\n  said: {refusal}\n  expected: {expected}");
    }
}

#[test]
fn a_bare_document_must_not_have_the_resources_fields() {
    for field in RESOURCE_FIELDS {
        let refusal = document(&json!({field: {}})).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("{field}: belongs to the McpPolicy resource")), "{refusal}");
    }
}

#[test]
fn a_file_holds_documents_and_manifests() {
    let text = format!(
        "{SMALLEST}\n---\napiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {{name: p, namespace: n}}\nspec:\n  selector: {{}}\n  tools:\n    a: {{rateLimit: {{max: 1, window: 5}}}}\n"
    );
    let manifests = file("policy.yaml", &text).unwrap();
    assert_eq!(manifests.iter().map(|manifest| manifest.id.to_string()).collect::<Vec<_>>(), ["policy.yaml", "n/p"]);
    assert_eq!(manifests[1].document.tools["a"].rate_limit.as_ref().unwrap().window, Window::Seconds(5));
    assert!(manifests[1].is_resource() && !manifests[0].is_resource());
}

#[test]
fn manifests_of_other_kinds_are_passed_over() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    assert_eq!(file("p.yaml", pod).unwrap(), []);
    assert_eq!(file("p.yaml", &format!("{pod}---\ntools: {{}}\n")).unwrap().len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_says_where() {
    let manifest = "apiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: p}\nspec: {selector: {}}\n";
    let cases = [
        ("tools: {a: {}, a: {}}".to_owned(), "p.yaml:1: "),
        ("tools:\n  a: {}\n  a: {}\n".to_owned(), "p.yaml:3: "),
        ("tools: [".to_owned(), "p.yaml:"),
        (String::new(), "p.yaml: the file holds no policy"),
        ("tools: {a: {limts: []}}".to_owned(), "p.yaml: tools.a.limts: unknown field"),
        (format!("{manifest}---\n{manifest}"), "p.yaml (document 2): metadata.name: a policy named p is already in this file"),
        ("apiVersion: v1\nkind: McpPolicy".to_owned(), "p.yaml: apiVersion: is not `mcp-policy.dev/v1alpha1`"),
        ("apiVersion: mcp-policy.dev/v1alpha1\nkind: Policy".to_owned(), "p.yaml: kind: is not `McpPolicy` or `ClusterMcpPolicy`"),
        ("kind: McpPolicy".to_owned(), "p.yaml: apiVersion: is not"),
        (manifest.replace("name: p", "names: p"), "p.yaml: metadata.name: is required"),
        (format!("{manifest}sepc: {{}}"), "p.yaml: sepc: unknown field"),
        ("- a".to_owned(), "p.yaml: must be a policy document, but is a list"),
        ("default: yes".to_owned(), "p.yaml: default: unknown variant `yes`"),
        ("version: 1".to_owned(), "p.yaml: version: must be the string"),
    ];
    for (text, expected) in cases {
        let errors = file("p.yaml", &text).unwrap_err();
        let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.starts_with(expected), "{text}\n  said: {said}\n  expected: {expected}");
    }
}

#[test]
fn anchors_work_and_their_expansion_is_bounded() {
    let shared = "allTools: {limits: &l [{counter: c, window: minute, max: 1}]}\ntools: {a: {limits: *l}}\n";
    assert_eq!(file("p", shared).unwrap()[0].document.tools["a"].limits[0].max.as_u64(), Some(1));
    let line = |i: u32| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i.saturating_sub(1)); 10].join(", "));
    let bomb = line(0).replace("*a0", "x") + &(1..12).map(line).collect::<String>();
    assert!(file("p", &bomb).is_err());
}
