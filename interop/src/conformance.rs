//! The official conformance suite, and how its checks ended.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::prepared::{folder, node};

/// How the checks of each scenario ended: scenario, check, status. A check that was made more than once has more than one status, in
/// the order of the alphabet, each once: how often a check is made hangs on how many messages came.
pub type Results = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// What the suite found of the server at a URL, for a requirement set.
pub fn of_server(url: &str, requirements: &str) -> Results {
    run(&["server", "--url", url, "--requirements", requirements], &[])
}

/// What one scenario found of the server at a URL.
pub fn of_server_in(url: &str, scenario: &str, version: &str) -> Results {
    run(&["server", "--url", url, "--scenario", scenario, "--spec-version", version], &[])
}

/// What a requirement set found of a client: a command to which the URL of the suite's own server is appended.
///
/// The suite would begin all scenarios at once; here as many as there are processors, so that none waits for the others until it is late.
pub fn of_client(command: &str, requirements: &str, environment: &[(&str, &str)]) -> Results {
    let scenarios = required_of_clients(requirements);
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Results::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let arguments = ["client", "--command", command, "--scenario", scenario, "--spec-version", requirements];
                    let results = run(&arguments, environment);
                    found.lock().unwrap().extend(results);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// The lines `  - scenario` after `client:`.
fn required_of_clients(requirements: &str) -> Vec<String> {
    let path = folder().join(format!("node_modules/@modelcontextprotocol/conformance/requirements/{requirements}.yaml"));
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| *line != "client:").skip(1);
    lines.map_while(|line| line.strip_prefix("  - ")).map(str::to_owned).collect()
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Results {
    let found = tempfile::tempdir().unwrap();
    let suite = folder().join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let mut command = node();
    command.arg(suite).args(arguments).arg("-o").arg(found.path()).envs(environment.iter().copied());
    // It fails where any check does; what counts here is which.
    let output = command.output().unwrap();
    let mut results = Results::new();
    collect(found.path(), found.path(), &mut results);
    assert!(!results.is_empty(), "{}", said(&command, &output));
    results
}

fn collect(top: &Path, folder: &Path, results: &mut Results) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(top, &path, results);
        } else if path.ends_with("checks.json") {
            results.insert(scenario(folder.strip_prefix(top).unwrap()), checks(&path));
        }
    }
}

/// `server-ping-2026-11-23T13-09-41-603Z` is about `ping`.
fn scenario(folder: &Path) -> String {
    let name = folder.to_str().unwrap();
    let name = name.strip_prefix("server-").unwrap_or(name);
    name[..name.len() - "-2026-11-23T13-09-41-603Z".len()].to_owned()
}

fn checks(file: &Path) -> BTreeMap<String, Vec<String>> {
    let made: Vec<Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mut checks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for check in made {
        checks.entry(check["id"].as_str().unwrap().to_owned()).or_default().push(check["status"].as_str().unwrap().to_owned());
    }
    for statuses in checks.values_mut() {
        statuses.sort();
        statuses.dedup();
    }
    checks
}

fn said(command: &Command, output: &Output) -> String {
    format!("{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
