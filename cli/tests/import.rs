//! `mcp-policy import` as its users run it: a corpus of policies with the output that is expected of each, and what cannot be imported.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mcp_policy::{compile, read};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// Runs the command in the folder of the corpus: its exit code, standard output and standard error.
fn import(arguments: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-policy"))
        .arg("import")
        .args(arguments)
        .current_dir(corpus())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

const FORMATS: [&str; 3] = ["gateway", "block", "proxy"];

/// The files in these folders of the corpus.
fn files(folders: &[&str]) -> Vec<String> {
    let mut files = Vec::new();
    for folder in folders {
        for file in std::fs::read_dir(corpus().join(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            if !file.contains(".expected.") {
                files.push(format!("{folder}/{file}"));
            }
        }
    }
    files.sort();
    files
}

fn expect(golden: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, found).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    assert_eq!(found, expected, "{}: run with UPDATE_GOLDEN=1 and read the difference", golden.display());
}

#[test]
fn the_corpus_becomes_what_is_expected() {
    let files = files(&FORMATS);
    assert!(files.len() >= 40, "the corpus has only {} policies", files.len());
    for file in files {
        let (code, manifest, errors) = import(&[&file], "");
        assert_eq!(code, Some(0), "{file}: {errors}");
        expect(&corpus().join(&file).with_extension("expected.yaml"), &manifest);
    }
}

/// "`deny_if` with empty conditions and an `on_deny` that says "Requires human approval" becomes `action: approve`". "Block form: `action: deny` with `reason`; `rate_limit: {max: 10, window: 60}`, counted per
/// session." "Proxy YAML: […] `default` (absent means allow there). In that format the conditions of `evaluate` are assertions
/// (`require`), those of `require_approval` are triggers (`approveIf`)."
#[test]
fn each_format_means_here_what_it_means_there() {
    let cases = [
        (
            r#"{"default": "deny", "tools": {"t": {"deny_if": [{"conditions": [], "on_deny": "Requires human approval"}]}}}"#,
            r#"{"action": "approve", "reason": "Requires human approval"}"#,
            "deny",
        ),
        (
            r#"{"default": "deny", "tools": {"t": {
              "require": [{"path": "args.a", "op": "eq", "value": "x"}],
              "deny_if": [{"conditions": [{"path": "args.b", "op": "exists", "value": true}], "on_deny": "no b"}],
              "limits": [{"counter": "c", "window": "minute", "max": 10, "scope": "grant"}]}}}"#,
            r#"{"require": [{"path": "args.a", "op": "eq", "value": "x"}],
              "denyIf": [{"conditions": [{"path": "args.b", "op": "exists", "value": true}], "reason": "no b"}],
              "limits": [{"counter": "c", "window": "minute", "max": 10, "scope": "grant"}]}"#,
            "deny",
        ),
        ("default: deny\ntools:\n  t: {action: deny, reason: because}\n", r#"{"action": "deny", "reason": "because"}"#, "deny"),
        ("default: deny\ntools:\n  t: {rate_limit: {max: 10, window: 60}}\n", r#"{"rateLimit": {"max": 10, "window": 60}}"#, "deny"),
        (
            "version: \"1\"\ntools:\n  t:\n    rules:\n      - name: a\n        action: evaluate\n        conditions: [{path: args.a, op: eq, value: x}]\n",
            r#"{"require": [{"path": "args.a", "op": "eq", "value": "x"}]}"#,
            "allow",
        ),
        (
            "version: \"1\"\ndefault: deny\ntools:\n  t:\n    rules:\n      - name: a\n        action: require_approval\n        conditions: [{path: args.a, op: eq, value: x}]\n",
            r#"{"approveIf": [{"conditions": [{"path": "args.a", "op": "eq", "value": "x"}]}]}"#,
            "deny",
        ),
    ];
    for (there, rule, default) in cases {
        let (code, manifest, errors) = import(&["-"], there);
        assert_eq!(code, Some(0), "{there}: {errors}");
        let imported = &read::file("p.yaml", &manifest).unwrap()[0].document;
        let rule: serde_json::Value = serde_json::from_str(rule).unwrap();
        let here = read::document(&serde_json::json!({"default": default, "tools": {"t": rule}})).unwrap();
        assert_eq!(imported, &here, "{there}\n{manifest}");
    }
}

/// "Where meaning differs (fixed windows there, sliding here; `eq` on printed text there, strict here; `default` absent), the importer
/// says so for each place."
#[test]
fn each_place_where_meaning_differs_is_told() {
    let proxy = "version: \"1\"\ntools:\n  t:\n    rules:\n      - {name: a, rate_limit: 10/minute}\n      - {name: b, conditions: [{path: args.n, op: eq, value: 10}]}\n";
    let (code, manifest, errors) = import(&["-"], proxy);
    assert_eq!(code, Some(0), "{errors}");
    for (comment, line) in [
        ("# slides here, fixed there", "- {counter: t._rate_minute, window: minute, max: 10, scope: server}"),
        ("# not written there, which means allow; here it would mean deny", "default: allow"),
        ("# strict here", "- {path: args.n, op: eq, value: 10}"),
    ] {
        let lines: Vec<_> = manifest.lines().map(str::trim).collect();
        let at = lines.iter().position(|found| *found == line).unwrap_or_else(|| panic!("{line} in\n{manifest}"));
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
        assert!(above.into_iter().any(|line| line.contains(comment)), "{comment} above {line} in\n{manifest}");
    }
}

#[test]
fn what_is_imported_is_read_accepted_and_printed_as_it_was_read() {
    for file in files(&FORMATS) {
        let (_, manifest, _) = import(&[&file], "");
        let manifests = read::file(&file, &manifest).unwrap();
        let [read] = manifests.as_slice() else { panic!("{file}: {} policies", manifests.len()) };
        let policy = compile(read.id.clone(), &read.document).unwrap();
        assert_eq!(policy.warnings(), [""; 0], "{file}");
        assert_eq!(read::document(&serde_json::to_value(&read.document).unwrap()).unwrap(), read.document, "{file}");
    }
}

#[test]
fn only_the_selector_is_missing() {
    let (_, manifest, told) = import(&["gateway/01-imaging-export.json"], "");
    let manifests = read::file("p.yaml", &manifest).unwrap();
    let missing: Vec<_> = manifests[0].missing().into_iter().map(|error| error.field.path).collect();
    assert_eq!(missing, ["spec.selector"]);
    assert_eq!(told, "fill in `spec.selector`, then run `mcp-policy check`; comments in the policy say what differs\n");
    let filled = manifest.replace("  # selector: {", "  selector: {");
    assert_eq!(read::file("p.yaml", &filled).unwrap()[0].missing(), []);
}

#[test]
fn several_files_become_several_documents() {
    let (code, manifests, _) = import(&["gateway/01-imaging-export.json", "block/01-deny-and-limit.yaml"], "");
    let names: Vec<_> = read::file("p.yaml", &manifests).unwrap().into_iter().map(|manifest| manifest.id.to_string()).collect();
    assert_eq!((code, names.as_slice()), (Some(0), ["01-imaging-export".to_owned(), "01-deny-and-limit".to_owned()].as_slice()));
}

#[test]
fn of_several_files_all_are_imported_or_none() {
    let (code, manifests, errors) = import(&["gateway/01-imaging-export.json", "-"], "tools: {}");
    assert_eq!((code, manifests.as_str()), (Some(1), ""));
    assert!(
        errors.starts_with("error: <stdin>:1:1: is in none of the formats") && errors.ends_with("1 error; nothing was imported\n"),
        "{errors}"
    );
}

#[test]
fn two_files_cannot_become_one_policy() {
    let file = "gateway/01-imaging-export.json";
    let (code, manifests, errors) = import(&[file, file], "");
    assert_eq!((code, manifests.as_str()), (Some(1), ""));
    assert_eq!(
        errors,
        format!(
            "error: {file}: would be named `01-imaging-export`, as the policy of {file} is; rename one of the files\n1 error; nothing was imported\n"
        )
    );
}

#[test]
fn a_missing_file_is_named() {
    let (code, manifest, errors) = import(&["no-such-file.yaml"], "");
    assert_eq!((code, manifest.as_str()), (Some(2), ""));
    assert!(errors.starts_with("error: failed to read no-such-file.yaml"), "{errors}");
}

#[test]
fn what_cannot_be_imported_is_refused_by_name_and_place() {
    let files = files(&["wrong"]);
    assert!(files.len() >= 20, "only {} wrong files", files.len());
    for file in files {
        let (code, manifest, errors) = import(&[&file], "");
        assert_eq!((code, manifest.as_str()), (Some(1), ""), "{file}");
        expect(&corpus().join(&file).with_extension("expected.txt"), &errors);
    }
}
