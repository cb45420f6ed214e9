//! `mcp-policy check` as its users run it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::json;
use support::{command, folder, run, told};

const POLICY: &str = "apiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: p, namespace: ns}\nspec:\n  selector: {}\n";

fn check(argument: &str, stdin: &str) -> Output {
    let mut child =
        command(Path::new("."), &["check", argument]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_valid_policy_is_said_to_be() {
    assert_eq!(told(&check("-", POLICY)), (Some(0), "<stdin>: ns/p is valid\n".to_owned(), String::new()));
}

#[test]
fn a_wrong_field_is_named_and_the_exit_code_is_1() {
    let (code, _, errors) = told(&check("-", &format!("{POLICY}  tools: {{t: {{limts: []}}}}\n")));
    assert_eq!(code, Some(1));
    assert_eq!(errors, "error: <stdin>:6:15: spec.tools.t.limts: unknown field; did you mean `limits`?\n1 error\n");
}

#[test]
fn what_does_not_compile_is_told_as_the_operator_tells_it() {
    let (code, _, errors) = told(&check("-", &format!("{POLICY}  hide: ['']\n  tools: {{t: {{rateLimit: {{max: 1, window: week}}}}}}\n")));
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("spec.hide[0]: ") && errors.contains("spec.tools.t.rateLimit.window: ") && errors.ends_with("2 errors\n"),
        "{errors}"
    );
}

#[test]
fn a_manifest_without_a_selector_is_wrong() {
    let (code, _, errors) = told(&check("-", &POLICY.replace("  selector: {}", "  default: deny")));
    assert_eq!(code, Some(1));
    assert!(errors.contains("spec.selector: is required"), "{errors}");
}

#[test]
fn a_warning_is_no_error() {
    let (code, _, errors) = told(&check("-", &format!("{POLICY}  tools: {{t: {{action: deny, rateLimit: {{max: 1, window: 1}}}}}}\n")));
    assert_eq!(code, Some(0));
    assert_eq!(errors, "warning: <stdin>:6:29: spec.tools.t.rateLimit: never acts beside action: deny\n1 warning\n");
}

#[test]
fn warnings_fail_where_that_is_wanted() {
    let folder = folder(&[("p.yaml", &format!("{POLICY}  hide: [t]\n  tools: {{t: {{}}}}\n"))]);
    assert_eq!(run(folder.path(), &["check", "p.yaml"]).status.code(), Some(0));
    assert_eq!(run(folder.path(), &["check", "--strict", "p.yaml"]).status.code(), Some(1));
}

#[test]
fn github_gets_annotations() {
    let folder =
        folder(&[("a/p.yaml", &format!("{POLICY}  tools: {{'t:1': {{limts: []}}}}\n")), ("b.yaml", "hide: [t]\ntools: {t: {}}\n")]);
    let (code, out, errors) = told(&run(folder.path(), &["check", ".", "--output", "github"]));
    assert_eq!((code, errors.as_str()), (Some(1), "1 error, 1 warning\n"));
    assert_eq!(
        out,
        "::error file=a/p.yaml,line=6,col=19,title=spec.tools.t%3A1.limts::unknown field; did you mean `limits`?\n\
         ::warning file=b.yaml,line=2,col=9,title=tools.t::never acts: hide[0] hides every tool that it matches\n"
    );
}

#[test]
fn machines_get_one_object() {
    let cluster = POLICY
        .replace("kind: M", "kind: ClusterM")
        .replace(", namespace: ns", "")
        .replace("selector: {}", "selector: {}\n  namespaceSelector: {}\n  mode: audit");
    let folder = folder(&[
        ("a.yaml", &cluster),
        ("b.yaml", "tools: {t: {limts: []}}\n"),
        ("b.test.yaml", "cases:\n  - {name: x, call: {tool: t}, expect: allowed}\n"),
    ]);
    let (code, out, errors) = told(&run(folder.path(), &["check", "a.yaml", "b.yaml", "b.test.yaml", "--output", "json"]));
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&out).unwrap(),
        json!({
            "policies": [{"file": "a.yaml", "policy": "p", "kind": "ClusterMcpPolicy", "mode": "audit"}],
            "testFiles": [{"file": "b.test.yaml", "cases": 1}],
            "findings": [{
                "severity": "error", "file": "b.yaml", "line": 1, "column": 13,
                "field": "tools.t.limts", "message": "unknown field; did you mean `limits`?",
            }],
        })
    );
}

#[test]
fn of_a_test_file_the_form_is_checked() {
    let (code, _, errors) = told(&check("-", "cases:\n  - {name: x, call: {tool: t}, expct: allowed}\n"));
    assert_eq!(code, Some(1));
    assert_eq!(errors, "error: <stdin>:2:32: cases[0].expct: unknown field; did you mean `expect`?\n1 error\n");
}

#[test]
fn nothing_is_coloured_where_nobody_looks() {
    let (_, out, errors) = told(&check("-", "tols: {}\n"));
    assert!(!out.contains('\u{1b}') && !errors.contains('\u{1b}'));
}

#[test]
fn a_folder_is_checked_whole() {
    let folder = folder(&[
        ("inner/a.yaml", POLICY),
        ("b.json", "{\"tools\": {\"t\": {}}}"),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\n"),
        ("README.md", "no policy"),
    ]);
    let (code, fine, errors) = told(&check(folder.path().to_str().unwrap(), ""));
    assert_eq!((code, fine.lines().count(), errors.as_str()), (Some(0), 2, ""), "{fine}");
}

#[test]
fn a_file_without_a_policy_is_wrong() {
    let (code, _, errors) = told(&check("-", "apiVersion: v1\nkind: Pod\n"));
    assert_eq!((code, errors.as_str()), (Some(1), "error: <stdin>: the file holds no policy\n1 error\n"));
}

#[test]
fn a_missing_file_is_named() {
    let (code, _, errors) = told(&check("no-such-file.yaml", ""));
    assert_eq!(code, Some(2));
    assert!(errors.starts_with("error: failed to read no-such-file.yaml"), "{errors}");
}
