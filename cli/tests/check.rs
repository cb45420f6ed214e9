//! `mcp-policy check` as its users run it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const POLICY: &str = "apiVersion: mcp-policy.dev/v1alpha1\nkind: McpPolicy\nmetadata: {name: p, namespace: n}\nspec:\n  selector: {}\n";

fn check(argument: &str, stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-policy"))
        .args(["check", argument])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn a_valid_policy_is_said_to_be() {
    assert_eq!(told(&check("-", POLICY)), (Some(0), "<stdin>: n/p is valid\n".to_owned(), String::new()));
}

#[test]
fn a_wrong_field_is_named_and_the_exit_code_is_1() {
    let (code, _, errors) = told(&check("-", &format!("{POLICY}  tools: {{t: {{limts: []}}}}\n")));
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: <stdin>: spec.tools.t.limts: unknown field"), "{errors}");
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
    assert!(errors.starts_with("warning: <stdin>: spec.tools.t.rateLimit: never acts"), "{errors}");
}

#[test]
fn a_folder_is_checked_whole() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    std::fs::write(folder.path().join("inner/a.yaml"), POLICY).unwrap();
    std::fs::write(folder.path().join("b.json"), "{\"tools\": {\"t\": {}}}").unwrap();
    std::fs::write(folder.path().join("pod.yaml"), "apiVersion: v1\nkind: Pod\n").unwrap();
    std::fs::write(folder.path().join("README.md"), "no policy").unwrap();
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
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: failed to read no-such-file.yaml"), "{errors}");
}
