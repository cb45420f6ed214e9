//! `mcp-policy explain` as its users run it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::{command, folder, run, told};

const POLICY: &str = r#"hide: ["secret_*"]
allTools:
  rateLimit: {max: 3, window: 90}
tools:
  start:
    arguments: {maxBytes: 9}
    limits:
      - {counter: starts, window: minute, max: 2}
  old: {action: deny, reason: Use start.}
  start_job: {}
"#;

fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = folder(&[("policy.yaml", POLICY), ("arguments.json", "{\"a\": 1}\n")]);
    told(&run(folder.path(), &[&["explain", "-f", "policy.yaml"], arguments].concat()))
}

#[test]
fn an_allowed_call_is_told_step_by_step() {
    let (code, out, errors) = explain(&["--tool", "start", "--arguments", "{\"a\":1}"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "policy policy.yaml in policy.yaml
call start {\"a\":1} by anonymous:10.0.0.1

policy.yaml
  passes    /tools/start                     the entry that matches start  (policy.yaml:5)
  passes    /tools/start/arguments/maxBytes  the arguments have 7 bytes; at most 9 pass  (policy.yaml:6)
  passes    /tools/start/limits/starts       0 of 2 used in 60 s by this grant  (policy.yaml:8)
  passes    /allTools/rateLimit              0 of 3 used in 90 s by this session  (policy.yaml:3)

decision: allowed by policy.yaml at /tools/start

what would change the answer:
  - more calls: this one passes 2 times, and the next at the same moment is refused by /tools/start/limits/starts of policy.yaml; it passes again after 60 s
"
    );
}

#[test]
fn of_a_refused_call_everything_that_refuses_is_told() {
    let cases: [(&[&str], &str, &[&str]); 6] = [
        (
            &["--tool", "start", "--times", "3"],
            "decision: limit_exceeded by policy.yaml at /tools/start/limits/starts\n  the counter that is full: starts\n  seconds until a retry can pass: 60\n",
            &[
                "time, or a larger limit at /tools/start/limits/starts of policy.yaml: 2 of 2 used in 60 s by this grant; has room again in 60 s",
            ],
        ),
        (
            &["--tool", "start", "--arguments", "{\"a\":12345}"],
            "decision: arguments_invalid by policy.yaml at /tools/start/arguments/maxBytes\n",
            &[
                "other arguments, for /tools/start/arguments/maxBytes of policy.yaml: the arguments have 11 bytes; at most 9 pass",
                "then the limits are asked, which a refused call takes nothing from",
            ],
        ),
        (
            &["--tool", "old"],
            "decision: tool_denied by policy.yaml at /tools/old/action\n  the agent is told: Use start.\n",
            &[
                "policy.yaml: `action: allow` instead of what stands at /tools/old/action",
                "then the limits are asked, which a refused call takes nothing from",
            ],
        ),
        (
            &["--tool", "secret_x"],
            "decision: hidden by policy.yaml at /hide/0\n",
            &[
                "policy.yaml: no pattern of `hide` that matches `secret_x` (/hide/0)",
                "then the limits are asked, which a refused call takes nothing from",
            ],
        ),
        (
            &["--tool", "Start_Job"],
            "decision: default_deny by policy.yaml at /default\n",
            &[
                "policy.yaml: an entry of `tools` that matches `Start_Job`, or `default: allow`; there is one for `start_job`, and case matters",
                "then the limits are asked, which a refused call takes nothing from",
            ],
        ),
        (
            &["--method", "x/y"],
            "decision: method_denied by policy.yaml\n",
            &["an entry `x/y: allow` in `methods`: what is no method of MCP passes only by name (in policy.yaml)"],
        ),
    ];
    for (arguments, decision, advice) in cases {
        let (code, out, errors) = explain(arguments);
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{arguments:?}");
        let expected = format!("{decision}\nwhat would change the answer:\n  - {}\n", advice.join("\n  - "));
        assert!(out.ends_with(&expected), "{arguments:?}\n{out}\nexpected:\n{expected}");
    }
}

#[test]
fn arguments_come_from_a_file_too_and_are_read_strictly() {
    let (code, out, _) = explain(&["--tool", "start", "--arguments", "@arguments.json", "--output", "json"]);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(
        out["question"],
        json!({"tool": "start", "arguments": {"a": 1}, "caller": "anonymous:10.0.0.1", "session": null, "times": 1})
    );
    assert_eq!(out["policies"], json!([{"policy": "policy.yaml", "mode": "enforce", "file": "policy.yaml"}]));
    assert_eq!(out["decision"]["code"], "allowed");
    assert_eq!(out["steps"].as_array().unwrap().len(), 4);
    for (arguments, expected) in [
        ("{\"a\":1,\"a\":2}", "error: the arguments have a key twice in one object; the sidecar refuses such a call as malformed"),
        ("[1]", "error: the arguments must be an object, but are an array; the sidecar refuses such a call as malformed"),
    ] {
        let (code, _, errors) = explain(&["--tool", "start", "--arguments", arguments]);
        assert_eq!(code, Some(2));
        assert!(errors.starts_with(expected), "{errors}");
    }
}

#[test]
fn a_wrong_policy_is_told_as_check_tells_it() {
    let folder = folder(&[("policy.yaml", "tools: {t: {limts: []}}\n")]);
    let (code, out, errors) = told(&run(folder.path(), &["explain", "-f", "policy.yaml", "--tool", "t"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(errors, "error: policy.yaml:1:13: tools.t.limts: unknown field; did you mean `limits`?\n");
}

#[test]
fn two_policies_of_one_name_are_refused() {
    let policy = "apiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: p}\nspec: {}\n";
    let folder = folder(&[("a.yaml", policy), ("b.yaml", policy)]);
    let (code, _, errors) = told(&run(folder.path(), &["explain", "-f", "a.yaml", "b.yaml", "--tool", "t"]));
    assert_eq!((code, errors.as_str()), (Some(1), "error: b.yaml:3:12: metadata.name: a policy named p is already in a.yaml\n"));
}

/// A `kubectl` that knows one pod, its namespace and some policies, and writes down what it is asked.
fn cluster(cluster_policies: &Value) -> tempfile::TempDir {
    let labels = json!({"app": "mcp"});
    let pod = json!({"metadata": {"name": "web-0", "namespace": "imaging", "labels": labels}, "spec": {"initContainers": [{"name": "mcp-policy-sidecar"}]}});
    let selector = json!({"matchLabels": labels});
    let policies = json!({"items": [
        {
            "metadata": {"name": "changed", "namespace": "imaging", "generation": 2},
            "spec": {"selector": selector, "tools": {"t": {"limts": []}}},
            "status": {"observedGeneration": 2, "lastAccepted": {"generation": 1, "spec": {"selector": selector, "tools": {"t": {}}}}},
        },
        {
            "metadata": {"name": "elsewhere", "namespace": "imaging", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "db"}}},
            "status": {"observedGeneration": 1},
        },
        {
            "metadata": {"name": "new", "namespace": "imaging", "generation": 1},
            "spec": {"selector": {}, "mode": "audit", "default": "allow"},
        },
    ]});
    let namespace = json!({"metadata": {"name": "imaging", "labels": {"team": "one"}}});
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> \"$(dirname \"$0\")/asked\"\ncase \"$2\" in\n\
         pod) echo '{pod}';;\nnamespace) echo '{namespace}';;\nmcppolicies.mcp-policy.dev) echo '{policies}';;\n\
         clustermcppolicies.mcp-policy.dev) echo '{cluster_policies}';;\nesac\n"
    );
    let folder = folder(&[("kubectl", &script)]);
    std::fs::set_permissions(folder.path().join("kubectl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn explain_pod(folder: &tempfile::TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut path = std::ffi::OsString::from(folder.path());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    told(&command(folder.path(), &[&["explain", "--pod", "web-0", "--tool", "t"], arguments].concat()).env("PATH", path).output().unwrap())
}

#[test]
fn of_a_pod_the_policies_are_asked_that_the_operator_would_give_it() {
    let folder = cluster(&json!({"items": []}));
    let (code, out, errors) = explain_pod(&folder, &["-n", "imaging"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "policy imaging/changed
policy imaging/new (audit)
note: imaging/changed: generation 1 is in force, for generation 2 is not accepted: spec.tools.t.limts: unknown field; did you mean `limits`?
note: imaging/new: generation 1 is in force
note: imaging/new: the operator has not judged generation 1 yet; the pod may enforce an older one
note: what the pod's counters hold is not known here; they are taken as empty
call t {} by anonymous:10.0.0.1

imaging/changed
  passes    /tools/t  the entry that matches t
imaging/new
  passes    /default  no entry of tools matches t

decision: allowed by imaging/changed at /tools/t
  imaging/new is in audit mode, and would have said: allowed

what would change the answer:
  - other arguments, or other policies: no limit refuses the call, however often it is made
"
    );
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert_eq!(
        asked,
        "get pod --output=json --namespace=imaging -- web-0\n\
         get mcppolicies.mcp-policy.dev --output=json --namespace=imaging\n\
         get clustermcppolicies.mcp-policy.dev --output=json\n"
    );
}

#[test]
fn cluster_policies_hold_where_their_selector_selects_the_namespace() {
    let policy = |name: &str, team: &str| {
        json!({
            "metadata": {"name": name, "generation": 1},
            "spec": {"namespaceSelector": {"matchLabels": {"team": team}}, "selector": {}, "hide": ["t"], "default": "allow"},
            "status": {"observedGeneration": 1},
        })
    };
    let broken = json!({"metadata": {"name": "a-broken", "generation": 1}, "spec": {"namespaceSelector": {}, "selector": {}, "tool": {}}, "status": {"observedGeneration": 1}});
    let folder = cluster(&json!({"items": [policy("guard", "one"), policy("other", "two")]}));
    let (_, out, _) = explain_pod(&folder, &[]);
    assert!(out.contains("decision: hidden by guard at /hide/0\n") && !out.contains("other:"), "{out}");
    let folder = cluster(&json!({"items": [policy("guard", "one"), broken]}));
    let (_, out, _) = explain_pod(&folder, &[]);
    assert!(
        out.contains(
            "note: a-broken: no revision was ever accepted, so it refuses every call: spec.tool: unknown field; did you mean `tools`?\n"
        ),
        "{out}"
    );
    assert!(out.contains("decision: no_policy by a-broken\n"), "{out}");
}

#[test]
fn what_kubectl_refuses_is_told() {
    let folder = folder(&[("kubectl", "#!/bin/sh\necho 'Error from server (NotFound): pods \"web-0\" not found' >&2\nexit 1\n")]);
    std::fs::set_permissions(folder.path().join("kubectl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, out, errors) = explain_pod(&folder, &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(errors, "error: kubectl get pod --output=json -- web-0 failed: Error from server (NotFound): pods \"web-0\" not found\n");
}

#[test]
fn a_pod_that_nothing_governs_is_told_apart_from_one_that_refuses() {
    let folder = folder(&[(
        "kubectl",
        "#!/bin/sh\ncase \"$2\" in\npod) echo '{\"metadata\": {\"name\": \"web-0\", \"namespace\": \"shop\"}}';;\n*) echo '{\"items\": []}';;\nesac\n",
    )]);
    std::fs::set_permissions(folder.path().join("kubectl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (code, out, errors) = explain_pod(&folder, &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(
        errors,
        "error: pod web-0 of namespace shop is not governed: no policy selects it, and it has no sidecar, so every call reaches its server\n"
    );
}

#[test]
fn who_may_not_see_policies_of_the_cluster_is_told_that_they_may_refuse_more() {
    let folder = cluster(&json!({"items": []}));
    let kubectl = folder.path().join("kubectl");
    let forbidden = "clustermcppolicies.mcp-policy.dev) echo 'Error from server (Forbidden): you cannot list them' >&2; exit 1;;";
    let script = std::fs::read_to_string(&kubectl).unwrap();
    std::fs::write(&kubectl, script.replace("clustermcppolicies.mcp-policy.dev) ", &format!("{forbidden}\nnothing) "))).unwrap();
    let (code, out, errors) = explain_pod(&folder, &[]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let note = "note: policies of the cluster cannot be read, and may refuse more than is told here: kubectl get \
                clustermcppolicies.mcp-policy.dev --output=json failed: Error from server (Forbidden): you cannot list them\n";
    assert!(out.contains(note) && out.contains("decision: allowed by imaging/changed"), "{out}");
}

#[test]
fn that_pods_still_enforce_another_revision_is_told_in_the_operators_words() {
    let policy = |status: &str| {
        let condition = json!({"type": "Programmed", "status": status, "message": "1 of 2 selected pods enforces generation 3."});
        json!({
            "metadata": {"name": "guard", "generation": 3},
            "spec": {"namespaceSelector": {}, "selector": {}, "default": "allow"},
            "status": {"observedGeneration": 3, "conditions": [condition]},
        })
    };
    for (status, is_told) in [("False", true), ("True", false)] {
        let (_, out, _) = explain_pod(&cluster(&json!({"items": [policy(status)]})), &[]);
        assert!(out.contains("note: guard: generation 3 is in force\n"), "{out}");
        assert_eq!(out.contains("note: guard: 1 of 2 selected pods enforces generation 3.\n"), is_told, "{out}");
    }
}
