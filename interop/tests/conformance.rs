//! What the official conformance suite finds through the sidecar, against what it finds without it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::LazyLock;
use std::thread;

use mcp_policy_interop::conformance::{Results, of_client, of_server, of_server_in};
use mcp_policy_interop::fixture::{self, Fixture};
use mcp_policy_interop::golden;
use mcp_policy_interop::prepared::{folder, node};
use mcp_policy_interop::sidecar::{Sidecar, program};
use serde_json::{Value, json};

const ALLOW_ALL: &str = "default: allow";
const DENY_ALL: &str = "default: deny";

const SETS: [&str; 2] = ["2025-11-25", "2026-07-28"];

/// Here the server tells clients to look for its metadata at a path of its own, and the sidecar opens only those that are well known.
const OWN_PATH: &str = "auth/metadata-var3";

/// What a requirement set found of the same server, reached in four ways.
struct Found {
    set: &'static str,
    direct: Results,
    allowed: Results,
    /// The server on stdio, offered over HTTP by a sidecar that allows all.
    offered: Results,
    denied: Results,
    /// What the sidecar that denies all said, and what ran all the same.
    denials: Vec<Value>,
    ran: Value,
}

static OF_SERVERS: LazyLock<[Found; 2]> = LazyLock::new(|| {
    let find = |set| {
        let of = |url: &str| {
            let mut results = of_server(url, set);
            // An extension that the fixture's SDK does not have, so nothing of it can pass.
            results.retain(|scenario, _| !scenario.starts_with("tasks-"));
            results
        };
        let fixture = Fixture::start();
        let allow_all = Sidecar::start(ALLOW_ALL, fixture.url());
        let (direct, allowed) = (of(fixture.url()), of(&allow_all.url()));
        let offered = of(&Sidecar::offer(ALLOW_ALL, &fixture::on_stdio()).url());
        let fixture = Fixture::start();
        let deny_all = Sidecar::start(DENY_ALL, fixture.url());
        let denied = of(&deny_all.url());
        Found { set, direct, allowed, offered, denied, denials: deny_all.end(), ran: fixture.account()["ran"].clone() }
    };
    thread::scope(|scope| SETS.map(|set| scope.spawn(move || find(set))).map(|found| found.join().unwrap()))
});

/// Set, results without and with the sidecar.
static OF_CLIENTS: LazyLock<[(&str, Results, Results); 2]> = LazyLock::new(|| {
    let policy = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(policy.path(), ALLOW_ALL).unwrap();
    let way = [("SIDECAR", program().to_str().unwrap()), ("POLICY", policy.path().to_str().unwrap())];
    let client = format!("{} {}", node().get_program().to_str().unwrap(), folder().join("conformance/client.js").display());
    SETS.map(|set| (set, of_client(&client, set, &[]), of_client(&client, set, &way)))
});

/// Checks that ended in another way: scenario, check, how before, how now. A check that was not made ended as nothing.
fn differences(before: &Results, now: &Results) -> Vec<[String; 4]> {
    let mut differences = Vec::new();
    let (nothing, empty) = (Vec::new(), <_>::default());
    let scenarios: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    for scenario in scenarios {
        let (before, now) = (before.get(scenario).unwrap_or(&empty), now.get(scenario).unwrap_or(&empty));
        let checks: BTreeSet<_> = before.keys().chain(now.keys()).collect();
        for check in checks {
            let (before, now) = (before.get(check).unwrap_or(&nothing), now.get(check).unwrap_or(&nothing));
            if before != now {
                let word = |statuses: &Vec<String>| if statuses.is_empty() { "–".to_owned() } else { statuses.join(", ") };
                differences.push([scenario.clone(), check.clone(), word(before), word(now)]);
            }
        }
    }
    differences
}

fn failed(results: &Results) -> Vec<(&String, &String)> {
    let checks = results.iter().flat_map(|(scenario, checks)| checks.iter().map(move |(check, statuses)| (scenario, check, statuses)));
    checks
        .filter(|(_, _, statuses)| statuses.iter().any(|status| status == "FAILURE"))
        .map(|(scenario, check, _)| (scenario, check))
        .collect()
}

#[test]
fn with_a_policy_that_allows_all_every_check_of_a_server_ends_as_it_does_without_the_sidecar() {
    for found in &*OF_SERVERS {
        assert!(found.direct.len() >= 30, "{}: {:?}", found.set, found.direct.keys());
        assert_eq!(failed(&found.direct), [], "{}", found.set);
        assert_eq!(differences(&found.direct, &found.allowed), [[""; 4]; 0], "{}", found.set);
    }
}

#[test]
fn a_server_on_stdio_that_is_offered_over_http_fails_no_check() {
    for found in &*OF_SERVERS {
        assert!(found.direct.keys().eq(found.offered.keys()), "{}: {:?}", found.set, found.offered.keys());
        assert_eq!(failed(&found.offered), [], "{}", found.set);
    }
}

#[test]
fn with_a_policy_that_denies_all_no_tool_runs_and_every_refusal_is_a_valid_message() {
    for found in &*OF_SERVERS {
        assert_eq!(found.ran, json!({}), "{}", found.set);
        let calls: Vec<&Value> =
            found.denials.iter().filter(|line| line["method"] == "tools/call" && line.get("malformed").is_none()).collect();
        assert!(calls.len() >= 10, "{}: {calls:#?}", found.set);
        for call in calls {
            assert_eq!(call["code"], "default_deny", "{call}");
        }
        let invalid = failed(&found.denied).into_iter().filter(|(_, check)| *check == "wire-schema-valid");
        assert_eq!(invalid.collect::<Vec<_>>(), [], "{}", found.set);
    }
}

#[test]
fn host_and_mirrored_headers_are_checked_also_where_the_server_does_not() {
    let trusting = Fixture::trusting();
    let sidecar = Sidecar::start(ALLOW_ALL, trusting.url());
    for (scenario, version) in [
        ("dns-rebinding-protection", "2025-11-25"),
        ("dns-rebinding-protection", "2026-07-28"),
        ("http-header-validation", "2026-07-28"),
        ("http-custom-header-server-validation", "2026-07-28"),
    ] {
        assert_ne!(failed(&of_server_in(trusting.url(), scenario, version)), [], "the server itself checks: {scenario}");
        let through = of_server_in(&sidecar.url(), scenario, version);
        assert_eq!(failed(&through), [], "{scenario} {version}: {through:#?}");
    }
}

#[test]
fn what_a_client_sends_and_gets_is_the_same_through_the_sidecar() {
    for (set, direct, through) in &*OF_CLIENTS {
        assert!(direct.len() >= 18, "{set}: {:?}", direct.keys());
        assert_eq!(failed(direct), [], "{set}");
        let differ = differences(direct, through).into_iter().filter(|[scenario, ..]| scenario != OWN_PATH);
        assert_eq!(differ.collect::<Vec<_>>(), [[""; 4]; 0], "{set}");
    }
}

#[test]
fn the_tables_are_those_of_the_documentation() {
    let mut text = String::new();
    for found in &*OF_SERVERS {
        let changed = differences(&found.direct, &found.denied);
        writeln!(
            text,
            "\n## Servers, {}\n\n| scenario | checks | direct | allow-all | offered | deny-all |\n|---|---|---|---|---|---|",
            found.set
        )
        .unwrap();
        for (scenario, checks) in &found.direct {
            let differ = |now: &Results| differences(&found.direct, now).iter().filter(|[of, ..]| of == scenario).count();
            let word = |count| if count == 0 { "the same".to_owned() } else { format!("{count} differ") };
            let [allowed, offered, denied] = [&found.allowed, &found.offered, &found.denied].map(|now| word(differ(now)));
            writeln!(text, "| `{scenario}` | {} | pass | {allowed} | {offered} | {denied} |", checks.len()).unwrap();
        }
        writeln!(text, "\nWhat differs with deny-all:\n\n| scenario | check | direct | deny-all |\n|---|---|---|---|").unwrap();
        for [scenario, check, before, now] in changed {
            writeln!(text, "| `{scenario}` | `{check}` | {before} | {now} |").unwrap();
        }
    }
    for (set, direct, through) in &*OF_CLIENTS {
        writeln!(text, "\n## Clients, {set}\n\n| scenario | checks | direct | allow-all |\n|---|---|---|---|").unwrap();
        for (scenario, checks) in direct {
            let differ = differences(direct, through).iter().filter(|[of, ..]| of == scenario).count();
            let word = if differ == 0 { "the same".to_owned() } else { format!("{differ} differ") };
            writeln!(text, "| `{scenario}` | {} | pass | {word} |", checks.len()).unwrap();
        }
    }
    golden::check("docs/conformance/suite.md", &text);
}
