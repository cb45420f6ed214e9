//! What a policy file is, and what is refused in one.

use mcp_policy::read::Kind;
use serde_json::json;

use super::*;

/// The reference's first example, as a gateway publishes it.
const GRANT: &str = r#"{ "version": "1", "default": "deny",
  "tools": { "start_dicom_export_job": {
    "limits": [ { "counter": "start_dicom_export_job_rate", "window": "minute", "max": 10, "scope": "grant" } ] } } }"#;

/// The same "As a custom resource".
const RESOURCE: &str = "apiVersion: mcp-policy.dev/v1alpha1
kind: McpPolicy
metadata: {name: imaging, namespace: imaging}
spec:
  selector: {matchLabels: {app: healthimaging-mcp}}   # the pods that run the MCP server
  version: \"1\"
  default: deny
  tools:
    start_dicom_export_job:
      limits: [{counter: start_dicom_export_job_rate, window: minute, max: 10, scope: grant}]
";

/// What is wrong with a file, line by line.
fn wrong(text: &str) -> String {
    let errors = read::file("p.yaml", text).unwrap_err();
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// "ten calls a minute for each caller to one tool, and nothing else."
#[test]
fn the_smallest_policy_means_what_is_said_of_it() {
    for text in [GRANT, RESOURCE] {
        let policies = Policies::new(vec![read::file("p", text).unwrap()[0].compile().unwrap()]);
        let mut counters = Counters::default();
        let mut at = |n: u8, session: &'static str, second: u64| {
            let caller = caller(n);
            let server = ServerName { namespace: "ns", name: "server-0" };
            let call = Call { tool: "start_dicom_export_job", arguments: "", caller: &caller, session: Some(session), server };
            told(policies.decide(&mut counters, &call, Duration::from_secs(second)).decision)
        };
        for second in 0..10 {
            assert!(at(1, "a", second).starts_with("allowed"));
        }
        let over = "limit_exceeded /tools/start_dicom_export_job/limits/start_dicom_export_job_rate";
        assert_eq!(at(1, "a", 59), over);
        assert_eq!(at(1, "another session", 59), over);
        assert!(at(2, "a", 59).starts_with("allowed"), "for each caller");
        assert!(at(1, "a", 60).starts_with("allowed"), "ten a minute");
        for other in ["start_dicom_export_jobs", "get_dicom_export_job", ""] {
            assert_eq!(told(decide(&policies, other, "")), "default_deny /default", "{other}");
        }
    }
}

/// "The grammar is a superset of the one that MCP gateways already publish for single tools […], so that a published policy with these
/// fields can be pasted under `spec:` and works".
#[test]
fn a_published_grant_works_under_spec() {
    let bare = read::document(&serde_json::from_str(GRANT).unwrap()).unwrap();
    let mut pasted: Value = serde_json::from_str(GRANT).unwrap();
    pasted["selector"] = json!({});
    assert_eq!(read::spec(&pasted).unwrap().document, bare);
    assert_eq!(read::file("p", RESOURCE).unwrap()[0].document, bare);
}

/// "their `snake_case` fields (`deny_if`, `all_tools`, `on_deny`) are refused with a hint to `mcp-policy import`."
#[test]
fn a_gateways_spelling_is_refused_with_a_hint_to_import() {
    for (document, field) in [
        (json!({"all_tools": {}}), "all_tools"),
        (json!({"tools": {"t": {"deny_if": []}}}), "tools.t.deny_if"),
        (json!({"tools": {"t": {"on_deny": "x"}}}), "tools.t.on_deny"),
        (
            json!({"allTools": {"limits": [{"counter": "c", "window": 1, "max": 1, "increment_from": "args.n"}]}}),
            "allTools.limits[0].increment_from",
        ),
        (json!({"allTools": {"rate_limit": {"max": 1, "window": 1}}}), "allTools.rate_limit"),
    ] {
        let said = errors(&document);
        assert!(said.starts_with(&format!("{field}: unknown field; ")) && said.contains("`mcp-policy import`"), "{said}");
    }
}

/// "The part from `version` down is the *policy document*; a file that holds only that is valid wherever a policy file is read." "a bare
/// document is named by its file".
#[test]
fn a_file_may_hold_only_the_document() {
    let bare = RESOURCE.split_once("kind: ").unwrap().1.split_once("\n  version").unwrap().1.replace("\n  ", "\n");
    for text in [GRANT.to_owned(), format!("version{bare}")] {
        let manifests = read::file("grants/imaging.yaml", &text).unwrap();
        assert_eq!((manifests[0].kind, manifests[0].id.to_string().as_str()), (Kind::Bare, "grants/imaging.yaml"));
        assert_eq!(manifests[0].document, read::file("p", RESOURCE).unwrap()[0].document);
    }
}

/// "The custom resource adds `selector`, `server`, `from` and `mode`. A `ClusterMcpPolicy` has `namespaceSelector` as well". "`mode`,
/// `from`, `server` and `selector` belong to the resource and are refused in a bare document."
#[test]
fn the_resource_adds_fields_that_a_bare_document_must_not_have() {
    let fields = [("selector", json!({})), ("server", json!({"ports": [80]})), ("mode", json!("audit"))];
    for (field, value) in &fields {
        let mut spec = json!({"selector": {}});
        spec[*field] = value.clone();
        read::spec(&spec).unwrap();
        let mut cluster = spec.clone();
        cluster["namespaceSelector"] = json!({});
        read::cluster_spec(&cluster).unwrap();
        assert!(read::spec(&cluster).is_err(), "an McpPolicy has no namespaceSelector");
    }
    for field in fields.iter().map(|(field, _)| *field).chain(["from", "namespaceSelector"]) {
        let said = errors(&json!({field: {}}));
        assert_eq!(said, format!("{field}: belongs to the McpPolicy resource, not to a bare policy document"));
    }
}

/// "In standalone use `selector` may be missing and is ignored."
#[test]
fn without_a_cluster_a_selector_means_nothing() {
    let without = RESOURCE.lines().filter(|line| !line.contains("selector")).collect::<Vec<_>>().join("\n");
    let (with, without) = (read::file("p", RESOURCE).unwrap(), read::file("p", &without).unwrap());
    let missing = without[0].missing();
    assert_eq!(missing.iter().map(|error| error.field.path.as_str()).collect::<Vec<_>>(), ["spec.selector"], "told to who has a cluster");
    for manifest in [&with[0], &without[0]] {
        let policies = Policies::new(vec![manifest.compile().unwrap()]);
        assert!(told(decide(&policies, "start_dicom_export_job", "")).starts_with("allowed"));
    }
}

/// "Each document of a file is a policy; two of one name are refused."
#[test]
fn each_document_of_a_file_is_a_policy() {
    let other = RESOURCE.replace("name: imaging,", "name: other,");
    let elsewhere = RESOURCE.replace("namespace: imaging", "namespace: elsewhere");
    let ids: Vec<_> = read::file("p", &format!("{RESOURCE}---\n{other}---\n{elsewhere}---\ntools: {{}}\n"))
        .unwrap()
        .into_iter()
        .map(|manifest| manifest.id.to_string())
        .collect();
    assert_eq!(ids, ["imaging/imaging", "imaging/other", "elsewhere/imaging", "p"]);
    assert_eq!(
        wrong(&format!("{RESOURCE}---\n{other}---\n{RESOURCE}")),
        "p.yaml:25:12: metadata.name: a policy named imaging/imaging is already in this file"
    );
    assert_eq!(
        wrong("tools: {}\n---\ntools: {}\n"),
        "p.yaml:3:1: a bare document is named by its file, so a file holds one; write McpPolicy manifests"
    );
}

/// "YAML is 1.2, core schema; a duplicate key is refused; anchors work, and their expansion is bounded."
#[test]
fn a_file_is_yaml_of_which_nothing_can_be_read_in_two_ways() {
    assert_eq!(wrong("hide: [a]\nhide: [b]\n"), "p.yaml:2:1: the key `hide` is given twice; which one counts would be anyone's guess");
    assert!(wrong(r#"{"tools": {"t": {}, "\u0074": {"action": "deny"}}}"#).contains("the key `t` is given twice"));
    assert!(wrong("default: no\n").contains("kubectl reads `no` as false, YAML 1.2 as a string"));
    let shared = read::file("p", "tools:\n  a: &rule {action: deny}\n  b: *rule\n").unwrap();
    assert_eq!(shared[0].document.tools["a"], shared[0].document.tools["b"]);
    let line = |i: u32| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
    let bomb = "a0: &a0 [x]\n".to_owned() + &(1..12).map(line).collect::<String>();
    assert!(wrong(&bomb).contains("the document is too large, too deep, or its anchors expand to too much"), "{}", wrong(&bomb));
}

/// "`tools: {t: null}` is refused with a hint to write `{}`; `version: 1` is refused: it is a string".
#[test]
fn what_could_be_meant_otherwise_is_refused() {
    assert_eq!(errors(&json!({"tools": {"t": null}})), "tools.t: must not be null; write `{}` to allow the tool without checks");
    assert_eq!(wrong("tools: {t: }\n"), "p.yaml:1:9: tools.t: must not be null; write `{}` to allow the tool without checks");
    assert_eq!(errors(&json!({"version": 1})), "version: must be the string \"1\", in quotes");
    assert_eq!(errors(&json!({"version": "2"})), "version: must be `1`, but is `2`");
    assert_eq!(errors(&json!({"version": "1"})), "nothing");
}

/// "fields that can never act (`limits` beside `action: deny`) are a warning."
#[test]
fn what_can_never_act_is_warned_of() {
    let fields = [
        ("arguments", json!({"maxBytes": 1})),
        ("require", json!([{"cel": "true"}])),
        ("denyIf", json!([{"conditions": [{"cel": "true"}]}])),
        ("limits", full("c")),
        ("rateLimit", json!({"max": 1, "window": 1})),
    ];
    for (field, value) in &fields {
        let warnings = |action: &str| policy("p", &json!({"tools": {"t": {"action": action, *field: value}}})).warnings().to_vec();
        assert_eq!(warnings("allow"), [""; 0]);
        for action in ["deny", "hide"] {
            assert_eq!(warnings(action), [format!("tools.t.{field}: never acts beside action: {action}")]);
        }
    }
    let warnings = policy("p", &json!({"hide": ["t*"], "tools": {"t1": {}}})).warnings().to_vec();
    assert_eq!(warnings, ["tools.t1: never acts: hide[0] hides every tool that it matches"]);
}

/// "unknown fields in a policy ignored, so that a typing error turns protection off" is a known mistake that this must not make.
#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    let limit = json!({"counter": "c", "window": 1, "max": 1});
    let whole = json!({
        "allTools": {"rateLimit": {"max": 1, "window": 1}},
        "tools": {"t": {
            "arguments": {"maxBytes": 1},
            "require": [{"cel": "true"}],
            "denyIf": [{"conditions": [{"cel": "true"}]}],
            "limits": [limit],
        }},
    });
    assert_eq!(errors(&whole), "nothing");
    for place in [
        "",
        "/allTools",
        "/allTools/rateLimit",
        "/tools/t",
        "/tools/t/arguments",
        "/tools/t/require/0",
        "/tools/t/denyIf/0",
        "/tools/t/denyIf/0/conditions/0",
        "/tools/t/limits/0",
    ] {
        let mut document = whole.clone();
        document.pointer_mut(place).unwrap()["frobnicate"] = json!(1);
        let said = errors(&document);
        assert!(said.contains("frobnicate: unknown field"), "{place}: {said}");
    }
}
