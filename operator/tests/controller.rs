//! The controller over lists of an API server: what it knows afterwards, and what it says when it cannot know.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use mcp_policy_operator::callers::Settings;
use mcp_policy_operator::controller::Controller;
use mcp_policy_operator::distribute::Hub;
use mcp_policy_operator::metrics::Metrics;
use mcp_policy_operator::watch::Troubles;
use mcp_policy_operator::world::{Part, World};

struct Case {
    world: Arc<World>,
    hub: Arc<Hub>,
    changes: watch::Receiver<()>,
    troubles: Troubles,
    log: support::Log,
}

fn control(answer: impl Fn(&support::Asked) -> (StatusCode, Value) + Clone + Send + Sync + 'static) -> Case {
    let (client, log) = support::api(answer);
    let (changed, world_changes) = watch::channel(());
    let case = Case { world: Arc::default(), hub: Arc::default(), changes: world_changes, troubles: Troubles::default(), log };
    let controller = Controller {
        world: Arc::clone(&case.world),
        hub: Arc::clone(&case.hub),
        tally: Arc::default(),
        changed,
        metrics: Metrics::default(),
        troubles: case.troubles.clone(),
        store: None,
        callers: Settings { secret_names: vec!["mcp-policy-keys".to_owned()], refresh: Duration::from_mins(5), ..Settings::default() },
    };
    tokio::spawn(controller.run(client));
    case
}

fn cluster(asked: &support::Asked) -> (StatusCode, Value) {
    if asked.uri.contains("watch=true") {
        return support::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    let meta =
        |namespace: &str, name: &str| json!({ "namespace": namespace, "name": name, "uid": format!("uid-of-{name}"), "generation": 1 });
    let cluster_meta = |name: &str| json!({ "name": name, "uid": format!("uid-of-{name}"), "generation": 1, "labels": { "team": "one" } });
    let items = if asked.uri.contains("/clustermcppolicies?") {
        json!([
            { "metadata": cluster_meta("guard"), "spec": { "namespaceSelector": { "matchLabels": { "team": "one" } }, "selector": {} } },
            { "metadata": cluster_meta("odd"), "spec": 7 },
        ])
    } else if asked.uri.contains("/mcppolicies?") {
        json!([
            { "metadata": meta("imaging", "odd"), "spec": ["nobody", "knows"], "status": 7 },
            { "metadata": meta("imaging", "good"), "spec": { "selector": {} }, "status": { "observedGeneration": 1 } },
        ])
    } else if asked.uri.contains("/namespaces?") {
        json!([{ "metadata": cluster_meta("imaging") }, { "metadata": cluster_meta("other") }])
    } else {
        let ours = json!({ "initContainers": [{ "name": "mcp-policy-sidecar", "restartPolicy": "Always", "fieldOfTheFuture": true }] });
        json!([
            { "metadata": meta("imaging", "covered"), "spec": ours },
            { "metadata": meta("imaging", "bare") },
            { "metadata": meta("other", "covered-by-the-cluster"), "spec": ours },
            { "metadata": meta("unknown", "early"), "spec": ours },
        ])
    };
    (StatusCode::OK, json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }))
}

#[tokio::test(start_paused = true)]
async fn one_odd_object_stops_nothing() {
    let mut case = control(cluster);
    let filled = async {
        while !case.hub.is_filled() {
            case.changes.changed().await.unwrap();
        }
    };
    timeout(Duration::from_mins(1), filled).await.expect("knows the cluster within a minute");
    assert!(case.world.is_complete());
    let judged: Vec<_> = case.world.policies().iter().map(|policy| (policy.id.to_string(), policy.is_accepted())).collect();
    let expected = [("guard", true), ("odd", false), ("imaging/good", true), ("imaging/odd", false)];
    assert_eq!(judged, expected.map(|(id, accepted)| (id.to_owned(), accepted)));
    assert_eq!(case.world.policies().governed_namespaces().into_iter().collect::<Vec<_>>(), ["imaging", "other"]);
    assert_eq!(case.world.pods().len(), 4);
    let fed: std::collections::BTreeSet<_> = case.hub.digests().into_keys().collect();
    let expected = ["uid-of-covered", "uid-of-covered-by-the-cluster"].map(str::to_owned);
    assert_eq!(fed, expected.into(), "a pod of a namespace that is not known yet waits: a cluster policy may govern it");
    assert_eq!(case.world.statuses().len(), 1, "a status that cannot be read is as none");
    let lists_pods =
        |asked: &support::Asked| asked.uri.contains("pods?") && asked.uri.contains("fieldSelector=status.phase%21%3DSucceeded");
    assert!(case.log.lock().unwrap().iter().any(lists_pods), "ended pods are not asked for");
}

/// An API server that does not know a resource.
fn without(plural: &'static str) -> impl Fn(&support::Asked) -> (StatusCode, Value) + Clone + Send + Sync {
    move |asked| {
        if asked.uri.contains(&format!("/{plural}?")) { support::failure(StatusCode::NOT_FOUND, "NotFound") } else { cluster(asked) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_definition_is_said_and_nothing_is_served() {
    for (plural, part) in [("mcppolicies", Part::Policies), ("clustermcppolicies", Part::ClusterPolicies)] {
        let case = control(without(plural));
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let told = async {
            while case.troubles.of(part).get().is_none() || !case.world.has(Part::Pods) {
                ticks.tick().await;
            }
        };
        timeout(Duration::from_mins(1), told).await.expect("told within a minute");
        assert!(!case.world.has(part) && !case.hub.is_filled());
        assert!(case.troubles.of(part).get().unwrap().contains("NotFound"), "{:?}", case.troubles.of(part).get());
    }
}
