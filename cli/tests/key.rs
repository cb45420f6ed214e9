//! `mcp-policy key` as its users run it, with a `kubectl` that keeps one Secret and writes down what it is asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{command, folder, told};
use tempfile::TempDir;

/// A cluster whose Secret has these entries, each in the form in which the API server gives it; or that has none.
fn cluster(data: Option<&Value>) -> TempDir {
    let not_found = "echo 'Error from server (NotFound): secrets \"mcp-policy-keys\" not found' >&2; exit 1";
    let (get, patch) = match data {
        Some(data) => (format!("echo '{}'", json!({ "data": data })), "echo '{}'".to_owned()),
        None => (not_found.to_owned(), not_found.to_owned()),
    };
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >> \"$(dirname \"$0\")/asked\"\ncase \"$*\" in\n\
         create*) cat > \"$(dirname \"$0\")/created\"; echo '{{}}';;\npatch*) {patch};;\nget*) {get};;\nesac\n"
    );
    let folder = folder(&[("kubectl", &script)]);
    std::fs::set_permissions(folder.path().join("kubectl"), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn key(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut path = std::ffi::OsString::from(folder);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    told(&command(folder, &[&["key"], arguments].concat()).env("PATH", path).output().unwrap())
}

fn asked(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("asked")).unwrap()
}

fn patch(folder: &TempDir) -> Value {
    serde_json::from_str(asked(folder).lines().find_map(|line| line.strip_prefix("--patch=")).unwrap()).unwrap()
}

/// The one entry of a Secret's `stringData`.
fn entry(secret: &Value) -> (String, Value) {
    let (entry, value) = secret["stringData"].as_object().unwrap().iter().next().unwrap();
    (entry.clone(), serde_json::from_str(value.as_str().unwrap()).unwrap())
}

/// Three keys, one of which ended in 1970, and an entry that is none.
fn some() -> Value {
    let key = json!({"salt": "0f".repeat(16), "sha256": "ab".repeat(32)});
    let (open, over) = (key.to_string(), key.to_string().replace('}', ",\"until\":7}"));
    let data = |text: &str| STANDARD.encode(text);
    json!({ "ci.261123-204455-1f3a": data(&open), "ci.251123-204455-0000": data(&over), "bot.x": data(&open), "notes": data("hi") })
}

#[test]
fn a_key_is_shown_once_and_only_its_salted_hash_is_written() {
    let there = cluster(Some(&json!({})));
    let (code, out, errors) = key(there.path(), &["create", "ci-bot", "-n", "imaging", "--expires", "90d"]);
    assert_eq!(code, Some(0), "{errors}");
    let made = out.trim_end();
    let random = made.strip_prefix("mcpk_ci-bot.").unwrap();
    assert!(random.len() == 43 && random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{made}");
    assert!(!asked(&there).contains(random) && !errors.contains(random), "nobody else sees it");
    assert!(asked(&there).contains("--namespace=imaging\n--\nmcp-policy-keys\n"), "{}", asked(&there));

    let (name, stored) = entry(&patch(&there));
    assert!(name.starts_with("ci-bot."), "{name}");
    let salt: Vec<u8> = (0..32).step_by(2).map(|i| u8::from_str_radix(&stored["salt"].as_str().unwrap()[i..i + 2], 16).unwrap()).collect();
    let digest = Sha256::new().chain_update(salt).chain_update(made).finalize();
    assert_eq!(stored["sha256"], hex(&digest));
    let days = (stored["until"].as_i64().unwrap() - jiff::Timestamp::now().as_second() + 60) / 86400;
    assert_eq!(days, 90);

    let again = key(there.path(), &["create", "ci-bot"]).1;
    assert_ne!(again.trim_end(), made);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[test]
fn a_secret_that_is_not_there_is_made() {
    let empty = cluster(None);
    let (code, out, _) = key(empty.path(), &["create", "ci", "--secret", "callers"]);
    assert_eq!((code, out.starts_with("mcpk_ci.")), (Some(0), true));
    let created: Value = serde_json::from_str(&std::fs::read_to_string(empty.path().join("created")).unwrap()).unwrap();
    assert_eq!((created["kind"].as_str(), created["metadata"]["name"].as_str()), (Some("Secret"), Some("callers")));
    assert_eq!(entry(&created).1.get("until"), None);
}

#[test]
fn a_key_that_could_not_be_written_is_not_shown() {
    let broken = folder(&[("kubectl", "#!/bin/sh\necho 'Error from server (Forbidden): no' >&2; exit 1\n")]);
    std::fs::set_permissions(broken.path().join("kubectl"), Permissions::from_mode(0o755)).unwrap();
    let (code, out, errors) = key(broken.path(), &["create", "ci"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(errors.contains("Forbidden"), "{errors}");
}

#[test]
fn the_list_says_for_whom_and_until_when_and_shows_no_hash() {
    let there = cluster(Some(&some()));
    let (code, out, errors) = key(there.path(), &["list"]);
    assert_eq!((code, errors.as_str()), (Some(0), "warning: notes is not a key, and proves nobody\n"));
    assert_eq!(
        out,
        "NAME   ID                   MADE                   EXPIRES\n\
         bot    x                    -                      never\n\
         ci     251123-204455-0000   2025-11-23T20:44:55Z   expired\n\
         ci     261123-204455-1f3a   2026-11-23T20:44:55Z   never\n"
    );
}

#[test]
fn one_key_or_all_of_a_caller_are_revoked_and_nothing_else() {
    let there = cluster(Some(&some()));
    assert_eq!(key(there.path(), &["revoke", "ci"]).1, "revoked ci.251123-204455-0000\nrevoked ci.261123-204455-1f3a\n");
    assert_eq!(patch(&there), json!({ "data": { "ci.251123-204455-0000": null, "ci.261123-204455-1f3a": null } }));
    let there = cluster(Some(&some()));
    assert_eq!(key(there.path(), &["revoke", "ci.261123-204455-1f3a"]).1, "revoked ci.261123-204455-1f3a\n");
    assert_eq!(patch(&there), json!({ "data": { "ci.261123-204455-1f3a": null } }));
    let there = cluster(Some(&some()));
    let (code, out, errors) = key(there.path(), &["revoke", "c"]);
    assert_eq!((code, out.as_str(), errors.as_str()), (Some(2), "", "error: Secret mcp-policy-keys has no key c\n"));
    assert!(!asked(&there).contains("patch"));
}

#[test]
fn what_cannot_be_a_name_or_a_time_is_refused_before_anything_is_asked() {
    let there = cluster(Some(&json!({})));
    for arguments in [
        &["create", "CI"][..],
        &["create", "a.b"],
        &["create", ""],
        &["create", "ci", "--expires", "0d"],
        &["create", "ci", "--expires", "soon"],
    ] {
        assert_eq!(key(there.path(), arguments).0, Some(2), "{arguments:?}");
    }
    assert!(!there.path().join("asked").exists());
}
