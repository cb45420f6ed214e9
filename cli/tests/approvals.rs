//! `mcp-policy approvals` as its users run it, with a `kubectl` that knows two approvals and writes down what it is asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::{command, folder, told};

fn approval(name: &str, state: &str, approvers: u8, decisions: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "imaging", "resourceVersion": "41"},
        "spec": {
            "caller": "serviceaccount:agents/a", "server": "Deployment/web", "tool": "pay",
            "arguments": {"sha256": "ab", "keys": ["amount", "to"]},
            "policy": {"namespace": "imaging", "name": "payments", "generation": 3, "rule": "/tools/pay/action"},
            "reason": "Money.", "approvers": approvers, "expiresAt": "2026-11-23T12:00:00Z", "decisions": decisions,
        },
        "status": {"state": state},
    })
}

/// What came of it, and the words that kubectl was last called with.
fn approvals(first: &Value, arguments: &[&str]) -> (Option<i32>, String, String, String) {
    let items = json!({"items": [first, approval("b-1", "Used", 1, &json!([]))]});
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$(dirname \"$0\")/asked\"\ncase \"$*\" in\n\
         'auth whoami'*) echo '{{\"status\": {{\"userInfo\": {{\"username\": \"ann\"}}}}}}';;\n\
         get*a-1) echo '{first}';;\npatch*) echo '{{}}';;\nget*) echo '{items}';;\nesac\n"
    );
    let folder = folder(&[("kubectl", &script)]);
    std::fs::set_permissions(folder.path().join("kubectl"), Permissions::from_mode(0o755)).unwrap();
    let mut path = std::ffi::OsString::from(folder.path());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let (code, out, errors) = told(&command(folder.path(), &[&["approvals"], arguments].concat()).env("PATH", path).output().unwrap());
    (code, out, errors, std::fs::read_to_string(folder.path().join("asked")).unwrap())
}

#[test]
fn the_list_has_what_waits_and_all_of_them_on_demand() {
    let waits = approval("a-1", "Pending", 1, &json!([]));
    let (code, out, errors, _) = approvals(&waits, &["list"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "NAMESPACE   NAME   STATE     TOOL   CALLER                    SERVER           EXPIRES\n\
         imaging     a-1    Pending   pay    serviceaccount:agents/a   Deployment/web   2026-11-23T12:00:00Z\n"
    );
    assert_eq!(approvals(&waits, &["list", "--all"]).1.lines().count(), 3);
}

#[test]
fn everything_of_one_is_shown() {
    let decided = approval("a-1", "Pending", 2, &json!([{"verdict": "Approved", "by": "bob", "reason": "ok"}]));
    let (code, out, _, _) = approvals(&decided, &["show", "a-1"]);
    assert_eq!(code, Some(0));
    for line in [
        "caller     serviceaccount:agents/a",
        "arguments  amount, to",
        "policy     imaging/payments (generation 3) at /tools/pay/action",
        "decision   Approved by bob: ok",
    ] {
        assert!(out.lines().any(|has| has == line), "{line} in\n{out}");
    }
}

#[test]
fn a_decision_is_added_in_ones_own_name_to_the_version_that_was_read() {
    let waits = approval("a-1", "Pending", 1, &json!([]));
    let (code, out, errors, asked) = approvals(&waits, &["approve", "a-1", "--reason", "seen", "-n", "imaging"]);
    assert_eq!((code, out.as_str(), errors.as_str()), (Some(0), "approved a-1 as ann\n", ""));
    let patch: Value = serde_json::from_str(asked.lines().find_map(|line| line.strip_prefix("--patch=")).unwrap()).unwrap();
    let decision = json!({"verdict": "Approved", "by": "ann", "reason": "seen"});
    assert_eq!(patch, json!({"metadata": {"resourceVersion": "41"}, "spec": {"decisions": [decision]}}));
    assert!(asked.contains("--namespace=imaging\n--\na-1\n"), "{asked}");

    let half = approval("a-1", "Pending", 2, &json!([{"verdict": "Approved", "by": "bob"}]));
    let (_, out, _, asked) = approvals(&half, &["deny", "a-1"]);
    assert_eq!(out, "denied a-1 as ann\n");
    assert!(asked.contains(r#"[{"by":"bob","verdict":"Approved"},{"by":"ann","verdict":"Denied"}]"#), "{asked}");
    let two = approval("a-1", "Pending", 2, &json!([]));
    assert_eq!(approvals(&two, &["approve", "a-1"]).1, "approved a-1 as ann\nanother person must approve it too\n");
}

#[test]
fn what_is_over_cannot_be_decided() {
    let used = approval("a-1", "Used", 1, &json!([]));
    let (code, out, errors, asked) = approvals(&used, &["approve", "a-1"]);
    assert_eq!((code, out.as_str(), errors.as_str()), (Some(2), "", "error: a-1 is used already\n"));
    assert!(!asked.contains("patch"), "{asked}");
}
