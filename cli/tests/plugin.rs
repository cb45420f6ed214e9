//! The command under the name by which kubectl finds it, and what shells complete.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use support::{folder, run, told};

#[test]
fn called_by_kubectl_it_shows_what_people_type() {
    let folder = folder(&[]);
    let plugin = folder.path().join("kubectl-mcp_policy");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mcp-policy"), &plugin).unwrap();
    let (code, out, _) = told(&Command::new(&plugin).args(["check", "--help"]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(out.contains("Usage: kubectl mcp-policy check [OPTIONS] <FILE>..."), "{out}");
    let (_, out, _) = told(&Command::new(&plugin).arg("--version").output().unwrap());
    assert_eq!(out, format!("kubectl-mcp-policy {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn each_shell_gets_a_script_that_knows_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, out, errors) = told(&run(&std::env::temp_dir(), &["completion", shell]));
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{shell}");
        for verb in ["check", "test", "explain", "approvals", "import", "completion"] {
            assert!(out.contains(verb), "{shell} does not know {verb}");
        }
        assert!(out.contains("mcp-policy"), "{shell}");
    }
}

#[test]
fn wrong_arguments_are_told_apart_from_wrong_policies() {
    for arguments in
        [&["check"][..], &["explain", "--tool", "t"], &["test", "no-such-file"], &["check", "--output", "xml", "-"], &["nonsense"]]
    {
        assert_eq!(run(&std::env::temp_dir(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}
