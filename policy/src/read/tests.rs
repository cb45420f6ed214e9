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
fn a_wrong_field_of_a_resource_is_named_with_its_path() {
    let cases = [
        (json!({"tools": {}}), "spec.selector: is required; `{}` selects every pod of the namespace".to_owned()),
        (json!({"selector": {"matchLabel": {}}}), "spec.selector.matchLabel: unknown field; labels go under `matchLabels`".to_owned()),
        (json!({"selector": {"app": "x"}}), "spec.selector.app: unknown field; labels go under `matchLabels`".to_owned()),
        (json!({"selector": {}, "server": {"port": 1}}), "spec.server.port: unknown field; did you mean `ports`?".to_owned()),
        (
            json!({"selector": {}, "server": {"ports": [70000]}}),
            "spec.server.ports[0]: must be a whole number from 1 to 65535, but is 70000".to_owned(),
        ),
        (json!({"selector": {}, "tool": {}}), "spec.tool: unknown field; did you mean `tools`?".to_owned()),
        (json!({"selector": {}, "version": 1}), "spec.version: must be the string \"1\", in quotes".to_owned()),
        (json!({"selector": {}, "version": "2"}), "spec.version: must be `1`, but is `2`".to_owned()),
        (
            json!({"selector": {}, "default": "Deny"}),
            "spec.default: `Deny` is not one of `deny`, `allow`; did you mean `deny`?".to_owned(),
        ),
        (
            json!({"selector": {}, "all_tools": {}}),
            "spec.all_tools: unknown field; it is a gateway's spelling, here it is `allTools`; `mcp-policy import` converts whole files"
                .to_owned(),
        ),
        (json!({"selector": {}, "mode": "shadow"}), "spec.mode: `shadow` is not one of `enforce`, `audit`".to_owned()),
        (json!({"selector": {}, "rollout": "auto"}), "spec.rollout: `auto` is not one of `manual`, `restart`".to_owned()),
        (json!({"selector": {}, "mode": true}), "spec.mode: must be one of `enforce`, `audit`, but is a boolean".to_owned()),
        (json!({"selector": {}, "from": "me"}), "spec.from: must be a list, but is a string; write `[\"me\"]`".to_owned()),
        (
            json!({"selector": {}, "namespaceSelector": {}}),
            "spec.namespaceSelector: belongs to a ClusterMcpPolicy; an McpPolicy governs pods of its own namespace".to_owned(),
        ),
        (
            json!({"selector": {}, "limits": []}),
            "spec.limits: unknown field here; it belongs into `allTools` or an entry of `tools`".to_owned(),
        ),
        (json!({"selector": {}, "hide": "x"}), "spec.hide: must be a list, but is a string; write `[\"x\"]`".to_owned()),
        (json!({"selector": {}, "hide": ["x", 1]}), "spec.hide[1]: must be a string, but is a number; put it in quotes".to_owned()),
        (json!({"selector": {}, "tools": [{"name": "t"}]}), "spec.tools: must be an object, but is a list".to_owned()),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            "spec.selector.matchExpressions[0]: In and NotIn need at least one of values; Exists and DoesNotExist take none".to_owned(),
        ),
        (
            json!({"selector": {}, "server": {"ports": [1, 14140], "passthroughPorts": [1]}}),
            "spec.server.ports[1]: 14140, 14141 and 14142 belong to the sidecar; spec.server.passthroughPorts[0]: a port is one of ports or one of passthroughPorts, not both; 1 is".to_owned(),
        ),
        (
            json!({"selector": {}, "server": {"path": "mcp"}}),
            "spec.server.path: `mcp` is not a path: it begins with `/` and has neither `?` nor `#`".to_owned(),
        ),
        (
            json!({"selector": {}, "server": {"ssePath": "sse"}}),
            "spec.server.ssePath: `sse` is not a path: it begins with `/` and has neither `?` nor `#`".to_owned(),
        ),
        (
            json!({"selector": {}, "server": {"path": "/a", "ssePath": "/a"}}),
            "spec.server.ssePath: `/a` is the path of the endpoint".to_owned(),
        ),
        (json!("text"), "spec: must be an object, but is a string".to_owned()),
        // All of them, not only the first.
        (
            json!({"selector": {}, "hid": [], "tools": {"t": {"limts": []}, "u": null}}),
            "spec.hid: unknown field; did you mean `hide`?; spec.tools.t.limts: unknown field; did you mean `limits`?; spec.tools.u: must not be null; write `{}` to allow the tool without checks".to_owned(),
        ),
    ];
    for (value, expected) in cases {
        let refusal = refusal(&value);
        assert_eq!(refusal, expected, "{value}");
    }
}

#[test]
fn a_wrong_field_of_a_rule_is_named_with_its_path() {
    let rule = |rule: Value| json!({"selector": {}, "tools": {"t": rule}});
    let limit = |field: &str, value: Value| {
        let mut limit = json!({"counter": "c", "window": "minute", "max": 1});
        limit[field] = value;
        rule(json!({"limits": [limit]}))
    };
    let known = "unknown field; known here: action, approveIf, arguments, denyIf, limits, rateLimit, reason, require";
    let cases = [
        (rule(json!({"limts": []})), "spec.tools.t.limts: unknown field; did you mean `limits`?".to_owned()),
        (rule(json!({"frobnicate": []})), format!("spec.tools.t.frobnicate: {known}")),
        (
            rule(json!({"window": 1})),
            "spec.tools.t.window: unknown field here; it belongs into an entry of `limits` or `rateLimit`".to_owned(),
        ),
        (
            rule(json!({"default": "deny"})),
            "spec.tools.t.default: unknown field here; it belongs further out, into `spec`".to_owned(),
        ),
        (rule(json!([])), "spec.tools.t: must be an object, but is a list".to_owned()),
        (rule(json!("deny")), "spec.tools.t: must be an object, but is a string; write `{action: deny}`".to_owned()),
        (rule(json!(null)), "spec.tools.t: must not be null; write `{}` to allow the tool without checks".to_owned()),
        (rule(json!({"require": null})), "spec.tools.t.require: must be a list, but is missing or null".to_owned()),
        (
            rule(json!({"action": "evaluate"})),
            "spec.tools.t.action: `evaluate` is not one of `allow`, `approve`, `deny`, `hide`; it is a gateway's word: `mcp-policy import` converts whole files".to_owned(),
        ),
        (
            rule(json!({"require": {"path": "args.a"}})),
            "spec.tools.t.require: must be a list, but is an object; begin each entry with `- `".to_owned(),
        ),
        (
            rule(json!({"require": [{"conditions": []}]})),
            "spec.tools.t.require[0].conditions: unknown field; known here: cel, op, path, value".to_owned(),
        ),
        (
            rule(json!({"require": [{"path": "args.a", "op": "=="}]})),
            "spec.tools.t.require[0].op: `==` is not one of `eq`, `neq`, `in`, `not_in`, `lt`, `lte`, `gt`, `gte`, `regex`, `contains`, `exists`; did you mean `eq`?".to_owned(),
        ),
        (rule(json!({"denyIf": [{"reason": "x"}]})), "spec.tools.t.denyIf[0].conditions: is required; `action: deny` refuses every call".to_owned()),
        (limit("widow", json!(1)), "spec.tools.t.limits[0].widow: unknown field; did you mean `window`?".to_owned()),
        (limit("max", json!("10")), "spec.tools.t.limits[0].max: must be a number, but is a string; take the quotes away".to_owned()),
        (limit("window", json!(true)), "spec.tools.t.limits[0].window: must be a string or a whole number, but is a boolean".to_owned()),
        (limit("window", json!(-1)), "spec.tools.t.limits[0].window: must be a string or a whole number, but is a number".to_owned()),
        (limit("scope", json!("user")), "spec.tools.t.limits[0].scope: `user` is not one of `grant`, `session`, `server`".to_owned()),
        (rule(json!({"limits": [{"counter": "c", "window": 1}]})), "spec.tools.t.limits[0].max: is required".to_owned()),
        (
            rule(json!({"rateLimit": {"max": -1, "window": 1}})),
            "spec.tools.t.rateLimit.max: must be a whole number from 0 up, but is -1".to_owned(),
        ),
    ];
    for (value, expected) in cases {
        let refusal = refusal(&value);
        assert_eq!(refusal, expected, "{value}");
    }
}

#[test]
fn a_cluster_policy_selects_namespaces() {
    let value = json!({"namespaceSelector": {"matchLabels": {"team": "a"}}, "selector": {}, "default": "allow", "mode": "audit"});
    let spec = cluster_spec(&value).unwrap();
    assert_eq!(spec.namespace_selector.match_labels["team"], "a");
    assert_eq!((spec.policy.mode, spec.policy.document.default), (Mode::Audit, DefaultAction::Allow));
    for (field, hint) in [("namespaceSelector", "every namespace but those of the system"), ("selector", "every pod of the namespace")] {
        let mut value = value.clone();
        value.as_object_mut().unwrap().remove(field);
        let refusal = cluster_spec(&value).unwrap_err().to_string();
        assert_eq!(refusal, format!("spec.{field}: is required; `{{}}` selects {hint}"));
    }
    assert_eq!(serde_json::to_value(&spec).unwrap()["namespaceSelector"], value["namespaceSelector"]);
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
        "{SMALLEST}\n---\napiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {{name: p, namespace: ns}}\nspec:\n  selector: {{}}\n  tools:\n    a: {{rateLimit: {{max: 1, window: 5}}}}\n"
    );
    let manifests = file("policy.yaml", &text).unwrap();
    assert_eq!(manifests.iter().map(|manifest| manifest.id.to_string()).collect::<Vec<_>>(), ["policy.yaml", "ns/p"]);
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
    let cluster = manifest.replace("kind: M", "kind: ClusterM");
    let cases = [
        ("tools: {a: {}, a: {}}".to_owned(), "p.yaml:1:16: the key `a` is given twice; which one counts would be anyone's guess"),
        ("tools:\n  a: {}\n  a: {}\n".to_owned(), "p.yaml:3:3: the key `a` is given twice; which one counts would be anyone's guess"),
        ("tools:\n\ta: {}\n".to_owned(), "p.yaml:2:2: a tab cannot indent YAML; write spaces"),
        ("tools: {a: *x}\n".to_owned(), "p.yaml:1:12: an alias (`*name`) stands for an anchor (`&name`) that is not there"),
        (String::new(), "p.yaml: the file holds no policy"),
        ("tools: {a: {limts: []}}".to_owned(), "p.yaml:1:13: tools.a.limts: unknown field; did you mean `limits`?"),
        ("tools:\n  a:\n".to_owned(), "p.yaml:2:3: tools.a: must not be null; write `{}` to allow the tool without checks"),
        (format!("{manifest}---\n{manifest}"), "p.yaml:8:12: metadata.name: a policy named p is already in this file"),
        (
            "tools: {}\n---\ntools: {}\n".to_owned(),
            "p.yaml:3:1: a bare document is named by its file, so a file holds one; write McpPolicy manifests",
        ),
        (
            "apiVersion: v1\nkind: McpPolicy\nmetadata: {name: p}\nspec: {}".to_owned(),
            "p.yaml:1:1: apiVersion: is not `mcp-policy.dev/v1alpha1`",
        ),
        ("apiVersion: mcp-policy.dev/v1alpha1\nkind: Policy".to_owned(), "p.yaml:2:1: kind: is not `McpPolicy` or `ClusterMcpPolicy`"),
        (
            "spec: {tools: {}}".to_owned(),
            "p.yaml:1:1: apiVersion: is not `mcp-policy.dev/v1alpha1`\np.yaml:1:1: kind: is not `McpPolicy` or `ClusterMcpPolicy`",
        ),
        (manifest.replace("name: p", "names: p"), "p.yaml:3:1: metadata.name: is required"),
        (manifest.replace("name: p", "name: 1"), "p.yaml:3:12: metadata.name: must be a string, but is a number; put it in quotes"),
        (format!("{manifest}sepc: {{}}"), "p.yaml:5:1: sepc: unknown field; did you mean `spec`?"),
        (
            cluster.replace("name: p", "name: p, namespace: ns"),
            "p.yaml:3:21: metadata.namespace: a ClusterMcpPolicy belongs to no namespace; `spec.namespaceSelector` selects those that it governs",
        ),
        ("- a".to_owned(), "p.yaml:1:1: must be a policy document, but is a list"),
        ("default: maybe".to_owned(), "p.yaml:1:1: default: `maybe` is not one of `deny`, `allow`"),
        ("\nversion: 1".to_owned(), "p.yaml:2:1: version: must be the string \"1\", in quotes"),
        // All of them, not only the first.
        (
            "hid: []\ntools:\n  a: {limts: []}\n---\nb: 1\n".to_owned(),
            "p.yaml:1:1: hid: unknown field; did you mean `hide`?\np.yaml:3:7: tools.a.limts: unknown field; did you mean `limits`?\n\
             p.yaml:5:1: b: unknown field; known here: allTools, approvals, default, hide, methods, tools, version",
        ),
    ];
    for (text, expected) in cases {
        let errors = file("p.yaml", &text).unwrap_err();
        let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(said, expected, "{text}");
    }
}

/// What kubectl would read otherwise must not pass a check: the file is not the policy that would be applied.
#[test]
fn what_readers_of_yaml_take_for_different_values_is_refused() {
    let number = |text: &str| {
        format!("readers of YAML take `{text}` for different numbers, or for a string; write a number as in JSON, a string in quotes")
    };
    let word = |text: &str, value: bool| format!("kubectl reads `{text}` as {value}, YAML 1.2 as a string; write {value} or \"{text}\"");
    let merge = "merge keys are not YAML 1.2, and readers differ in which field wins; write the fields out";
    let tag = "readers of YAML differ in what a tag (`!…`) does; write the value without it, a string in quotes";
    let limit = |max: &str| format!("tools:\n  t:\n    limits:\n      - {{counter: c, window: minute, max: {max}}}\n");
    let equals = |value: &str| format!("tools: {{t: {{require: [{{path: args.x, op: in, value: [a, {value}]}}]}}}}\n");
    let cases = [
        (limit("010"), format!("p.yaml:4:38: tools.t.limits[0].max: {}", number("010"))),
        (limit("0x1F"), format!("p.yaml:4:38: tools.t.limits[0].max: {}", number("0x1F"))),
        (limit("0o17"), format!("p.yaml:4:38: tools.t.limits[0].max: {}", number("0o17"))),
        (limit("1_000"), format!("p.yaml:4:38: tools.t.limits[0].max: {}", number("1_000"))),
        (equals("no"), format!("p.yaml:1:57: tools.t.require[0].value[1]: {}", word("no", false))),
        (equals("Y"), format!("p.yaml:1:57: tools.t.require[0].value[1]: {}", word("Y", true))),
        (equals("!!str a"), format!("p.yaml:1:63: tools.t.require[0].value[1]: {tag}")),
        ("tools: {on: {}}".to_owned(), format!("p.yaml:1:9: tools.on: {}", word("on", true))),
        ("tools: !x {a: {}}".to_owned(), format!("p.yaml:1:1: tools: {tag}")),
        ("!x {tools: {}}".to_owned(), format!("p.yaml:1:4: {tag}")),
        ("allTools: &all {action: deny}\ntools:\n  t: {action: allow, <<: *all}\n".to_owned(), format!("p.yaml:3:22: tools.t.<<: {merge}")),
        // Beside what else is wrong, in the order of the file.
        (
            "hid: []\ntools: {t: {reason: off}}\nb: 1\n".to_owned(),
            format!(
                "p.yaml:1:1: hid: unknown field; did you mean `hide`?\np.yaml:2:13: tools.t.reason: {}\n\
                 p.yaml:3:1: b: unknown field; known here: allTools, approvals, default, hide, methods, tools, version",
                word("off", false)
            ),
        ),
        (
            "tools: {}\n---\napiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: no}\nspec: {}\n".to_owned(),
            format!("p.yaml:5:12: metadata.name: {}", word("no", false)),
        ),
    ];
    for (text, expected) in cases {
        let errors = file("p.yaml", &text).unwrap_err();
        let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(said, expected, "{text}");
    }
    for text in [
        limit("10"),
        limit("1.0"),
        limit("1e1"),
        equals("'no'"),
        equals("\"010\""),
        equals("true"),
        "tools: {'on': {}, \"<<\": {}}".to_owned(),
    ] {
        file("p.yaml", &text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    }
    let foreign = "apiVersion: v1\nkind: ConfigMap\ndata: {mode: 0644, <<: {a: b}, on: !x yes}\n---\ntools: {}\n";
    assert_eq!(file("p.yaml", foreign).unwrap().len(), 1, "manifests of other kinds are not ours to judge");
}

#[test]
fn a_file_that_is_no_yaml_says_where() {
    for text in ["tools: [", "tools: }", "a: b: c", "'", "\"\\q\""] {
        let errors = file("p.yaml", text).unwrap_err();
        assert!(errors[0].place.is_some_and(|place| place.line == 1) && !errors[0].field.message.contains(" line "), "{}", errors[0]);
    }
}

#[test]
fn errors_of_the_compiler_and_warnings_have_places() {
    let text = "hide: ['x*', '']\ntools:\n  xa: {}\n  a.b:\n    rateLimit: {max: 1, window: week}\n";
    let errors = file("p.yaml", text).unwrap()[0].compile().unwrap_err();
    let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(said[0], "p.yaml:1:14: hide[1]: a pattern must not be empty; `*` matches every tool");
    assert!(said[1].starts_with("p.yaml:5:25: tools.a.b.rateLimit.window: `week` is not a window"), "{said:?}");

    let text = "apiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: p}\nspec:\n  hide: ['x*']\n  tools:\n    xa: {}\n";
    let manifest = &file("p.yaml", text).unwrap()[0];
    let warnings = manifest.warnings(&manifest.compile().unwrap());
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["p.yaml:7:5: spec.tools.xa: never acts: hide[0] hides every tool that it matches"]
    );
    let missing = manifest.missing().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(missing, ["p.yaml:4:1: spec.selector: is required; `{}` selects every pod of the namespace"]);
}

#[test]
fn what_a_decision_points_to_has_a_place() {
    let text = "hide: [a, b]\ntools:\n  'x/y.z':\n    action: deny\n    denyIf:\n      - conditions: []\n    limits:\n      - {counter: c, max: 1, window: 1}\n      - {counter: a/b, max: 1, window: 1}\n";
    for (prefix, lines) in [("", 0), ("apiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: p}\nspec:\n", 4)] {
        let indented = if lines == 0 { text.to_owned() } else { format!("  {}", text.trim_end().replace('\n', "\n  ")) };
        let manifest = &file("p.yaml", &format!("{prefix}{indented}")).unwrap()[0];
        let cases = [
            ("/hide/1", 1),
            ("/tools/x~1y.z", 3),
            ("/tools/x~1y.z/action", 4),
            ("/tools/x~1y.z/denyIf/0", 6),
            ("/tools/x~1y.z/denyIf/0/conditions/1", 6),
            ("/tools/x~1y.z/limits/c", 8),
            ("/tools/x~1y.z/limits/a~1b", 9),
        ];
        for (pointer, line) in cases {
            assert_eq!(manifest.place(pointer).map(|place| place.line), Some(line + lines), "{pointer}");
        }
        let top = if lines == 0 { 1 } else { 4 };
        assert_eq!(manifest.place("/default").map(|place| place.line), Some(top), "what is not written is told with the document");
    }
}

#[test]
fn anchors_work_and_their_expansion_is_bounded() {
    let shared = "allTools: {limits: &l [{counter: c, window: minute, max: 1}]}\ntools: {a: {limits: *l}}\n";
    assert_eq!(file("p", shared).unwrap()[0].document.tools["a"].limits[0].max, 1.into());
    let line = |i: u32| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i.saturating_sub(1)); 10].join(", "));
    let bomb = line(0).replace("*a0", "x") + &(1..12).map(line).collect::<String>();
    assert!(file("p", &bomb).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([a-z]{1,3}|tools|limits|: |:\n|\n|  |- |\\[|\\]|\\{|\\}|, |\"|'|#|&a |\\*a|---\n|!|\\||>|null|1|\u{e9}|\t){0,30}") {
        if let Err(errors) = file("p.yaml", &text) {
            proptest::prop_assert!(errors.iter().all(|error| error.place.is_none_or(|place| place.line >= 1 && place.column >= 1)));
        }
    }
}
