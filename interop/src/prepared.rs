//! What others wrote, at the versions of this folder's lists.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::sidecar::root;

/// This folder.
pub fn folder() -> PathBuf {
    root().join("interop")
}

/// A Node that is new enough for every package, which are installed with it.
pub fn node() -> Command {
    static NODE: OnceLock<String> = OnceLock::new();
    Command::new(NODE.get_or_init(|| prepare(&["node"])))
}

/// The Python that has the packages of `requirements-LIST.txt`, in `clients/python` or `servers/python`.
pub fn python(list: &str) -> String {
    prepare(&["python", list])
}

/// A Redis server; `redis-cli` is with it.
pub fn redis_server() -> String {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| prepare(&["redis"])).clone()
}

/// An OpenTelemetry collector with the components of `collector/main.go`.
pub fn collector() -> String {
    prepare(&["collector"])
}

fn prepare(what: &[&str]) -> String {
    let output = Command::new(folder().join("prepare")).args(what).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "prepare {what:?} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
