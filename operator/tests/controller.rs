//! The controller over lists of an API server: what it knows afterwards, and what it says when it cannot know.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use mcp_policy_operator::controller::Controller;
use mcp_policy_operator::distribute::Hub;
use mcp_policy_operator::metrics::Metrics;
use mcp_policy_operator::watch::Trouble;
use mcp_policy_operator::world::World;

struct Case {
    world: Arc<World>,
    hub: Arc<Hub>,
    changes: watch::Receiver<()>,
    trouble: Trouble,
    log: support::Log,
}

fn control(answer: fn(&support::Asked) -> (StatusCode, Value)) -> Case {
    let (client, log) = support::api(answer);
    let (changed, world_changes) = watch::channel(());
    let case = Case { world: Arc::default(), hub: Arc::default(), changes: world_changes, trouble: Trouble::default(), log };
    let controller = Controller {
        world: Arc::clone(&case.world),
        hub: Arc::clone(&case.hub),
        tally: Arc::default(),
        changed,
        metrics: Metrics::default(),
        policy_trouble: case.trouble.clone(),
        pod_trouble: Trouble::default(),
    };
    tokio::spawn(controller.run(client));
    case
}

fn cluster(asked: &support::Asked) -> (StatusCode, Value) {
    if asked.uri.contains("watch=true") {
        return support::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
    }
    let meta = |name: &str| json!({ "namespace": "imaging", "name": name, "uid": format!("uid-of-{name}"), "generation": 1 });
    let items = if asked.uri.contains("mcppolicies") {
        json!([
            { "metadata": meta("odd"), "spec": ["nobody", "knows"], "status": 7 },
            { "metadata": meta("good"), "spec": { "selector": {} }, "status": { "observedGeneration": 1 } },
        ])
    } else {
        let ours = json!({ "name": "mcp-policy-sidecar", "restartPolicy": "Always", "fieldOfTheFuture": true });
        json!([{ "metadata": meta("covered"), "spec": { "initContainers": [ours] } }, { "metadata": meta("bare") }])
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
    let judged: Vec<_> = case.world.policies().iter().map(|policy| (policy.name.clone(), policy.is_accepted())).collect();
    assert_eq!(judged, [("good".to_owned(), true), ("odd".to_owned(), false)]);
    assert_eq!(case.world.pods().len(), 2);
    assert_eq!(case.hub.digests().into_keys().collect::<Vec<_>>(), ["uid-of-covered"]);
    assert_eq!(case.world.statuses().len(), 1, "a status that cannot be read is as none");
    let lists_pods =
        |asked: &support::Asked| asked.uri.contains("pods?") && asked.uri.contains("fieldSelector=status.phase%21%3DSucceeded");
    assert!(case.log.lock().unwrap().iter().any(lists_pods), "ended pods are not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_missing_definition_is_said_and_nothing_is_served() {
    let case =
        control(
            |asked| {
                if asked.uri.contains("mcppolicies") { support::failure(StatusCode::NOT_FOUND, "NotFound") } else { cluster(asked) }
            },
        );
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let told = async {
        while case.trouble.get().is_none() || !case.world.has_pods() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_mins(1), told).await.expect("told within a minute");
    assert!(!case.world.has_policies() && !case.hub.is_filled());
    assert!(case.trouble.get().unwrap().contains("NotFound"), "{:?}", case.trouble.get());
}
