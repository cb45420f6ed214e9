//! What the leader writes, as the API server sees it.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use kube::runtime::events::{Recorder, Reporter};
use mcp_policy::snapshot::{Report, ReportResult};
use mcp_policy::{PolicyId, Snapshot};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use mcp_policy_operator::distribute::Hub;
use mcp_policy_operator::events::Events;
use mcp_policy_operator::leader::Leader;
use mcp_policy_operator::metrics::Metrics;
use mcp_policy_operator::pod::Pod;
use mcp_policy_operator::select::Snapshots;
use mcp_policy_operator::tally::Tally;
use mcp_policy_operator::world::{Part, World};

struct Case {
    world: Arc<World>,
    hub: Arc<Hub>,
    tally: Arc<Tally>,
    changed: watch::Sender<()>,
    log: support::Log,
    metrics: Metrics,
}

/// A leader that runs, over an API server that takes what it writes.
fn lead(pods: Vec<Pod>, answer: fn(&support::Asked) -> (StatusCode, Value)) -> Case {
    let (client, log) = support::api(answer);
    let case = Case {
        world: Arc::default(),
        hub: Arc::default(),
        tally: Arc::default(),
        changed: watch::Sender::new(()),
        log,
        metrics: Metrics::default(),
    };
    case.world.policies_mut().apply(&support::policy("imaging", "web", 1, limited()));
    case.world.pods_mut().extend(pods.into_iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod)));
    for part in Part::ALL {
        case.world.mark_read(part);
    }
    case.publish();
    let leader = Leader {
        client: client.clone(),
        world: Arc::clone(&case.world),
        hub: Arc::clone(&case.hub),
        tally: Arc::clone(&case.tally),
        changed: case.changed.subscribe(),
        events: Events {
            recorder: Recorder::new(client, Reporter { controller: "mcp-policy-operator".to_owned(), instance: None }),
            metrics: case.metrics.clone(),
        },
        metrics: case.metrics.clone(),
    };
    tokio::spawn(leader.run());
    case
}

fn taken(asked: &support::Asked) -> (StatusCode, Value) {
    (StatusCode::OK, asked.body.clone())
}

fn limited() -> Value {
    json!({ "selector": { "matchLabels": { "app": "web" } }, "tools": { "t": { "limits": [{ "counter": "c", "window": "minute", "max": 10 }] } } })
}

impl Case {
    fn publish(&self) {
        let (policies, pods) = (self.world.policies(), self.world.pods());
        let mut snapshots = Snapshots::new(&policies);
        let injected = pods.values().filter(|pod| pod.is_injected);
        let of_pods: Vec<(&Pod, Arc<Snapshot>)> = injected.map(|pod| (pod, snapshots.of(&pod.namespace, &pod.labels))).collect();
        self.hub.publish(of_pods.iter().map(|(pod, snapshot)| (*pod, snapshot.as_ref())), None);
    }

    /// The sidecar of a pod says that it enforces what it should.
    fn enforces(&self, pod: &str) {
        let uid = format!("uid-of-{pod}");
        let report = Report { sha256: self.hub.digests()[&uid].to_string(), result: ReportResult::Ack, error: None };
        self.tally.reported(&uid, report, 0);
    }

    /// What was written to this place so far, oldest first.
    fn written(&self, place: &str) -> Vec<Value> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|asked| asked.uri.contains(place)).map(|asked| asked.body.clone()).collect()
    }
}

const STATUS: &str = "/apis/mcp-policy.dev/v1alpha1/namespaces/imaging/mcppolicies/web/status?";
/// In paused time: the leader has done all that it had to do.
const LONG: Duration = Duration::from_mins(1);

fn condition<'a>(written: &'a Value, type_: &str) -> &'a Value {
    written["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == type_).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_status_is_applied_once_and_again_only_when_it_differs() {
    let case = lead(vec![support::pod("imaging", "a", true), support::pod("imaging", "b", true)], taken);
    sleep(LONG).await;
    let written = case.written(STATUS);
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["metadata"]["uid"], "uid-of-web");
    assert_eq!((&written[0]["status"]["selected"], &written[0]["status"]["enforcing"]), (&json!(2), &json!(0)));
    assert_eq!(condition(&written[0], "Programmed")["reason"], "Reconciling");
    assert_eq!(condition(&written[0], "LimitsPerPod")["status"], "True");
    assert_eq!(written[0]["status"]["lastAccepted"], json!({ "generation": 1, "spec": limited() }));
    {
        let log = case.log.lock().unwrap();
        assert_eq!(log[0].method, Method::PATCH);
        assert!(log[0].uri.contains("fieldManager=mcp-policy-operator") && log[0].uri.contains("force=true"), "{}", log[0].uri);
    }

    case.enforces("a");
    case.enforces("b");
    sleep(LONG).await;
    let written = case.written(STATUS);
    assert_eq!(written.len(), 2, "{written:?}");
    assert_eq!(condition(&written[1], "Programmed")["status"], "True");
    assert_eq!(condition(&written[1], "Accepted")["lastTransitionTime"], condition(&written[0], "Accepted")["lastTransitionTime"]);
    assert!(case.metrics.openmetrics().unwrap().contains("pods{state=\"enforcing\"} 2"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_sidecar_gets_one_event_with_the_command_that_mends_it() {
    let case = lead(vec![support::pod("imaging", "a", false), support::pod("elsewhere", "b", false)], taken);
    sleep(LONG).await;
    case.changed.send_replace(());
    sleep(LONG).await;
    let events = case.written("/events?");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["type"], &events[0]["regarding"]["name"]), (&json!("Warning"), &json!("a")));
    let note = events[0]["note"].as_str().unwrap();
    assert!(note.contains("McpPolicy web") && note.ends_with("kubectl rollout restart deployment/web -n imaging"), "{note}");
    assert_eq!(condition(&case.written(STATUS)[0], "Programmed")["reason"], "PartiallyProgrammed");
}

#[tokio::test(start_paused = true)]
async fn what_makes_uncovered_pods_is_restarted_once_where_the_policy_says_so() {
    let pods = ["a", "b"].map(|name| support::pod("imaging", name, false));
    let case = lead(pods.into(), taken);
    sleep(LONG).await;
    assert_eq!(case.written("/deployments/"), [] as [Value; 0], "nobody asked for it");
    let mut spec = limited();
    spec["rollout"] = json!("restart");
    case.world.policies_mut().apply(&support::policy("imaging", "web", 2, spec.clone()));
    for _ in 0..3 {
        case.changed.send_replace(());
        sleep(LONG).await;
    }
    let patched = case.written("/apis/apps/v1/namespaces/imaging/deployments/web?");
    let annotated = json!({ "spec": { "template": { "metadata": { "annotations": { "mcp-policy.dev/restarted-for": "uid-of-web" } } } } });
    assert_eq!(patched, [annotated], "one restart for both pods");

    // A revision that was never accepted restarts nothing; the one before stays in force.
    spec["tols"] = json!({});
    case.world.policies_mut().apply(&support::policy("imaging", "other", 1, spec));
    case.changed.send_replace(());
    sleep(LONG).await;
    assert_eq!(case.written("/deployments/").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_the_operator_may_not_make_is_told_once() {
    let case = lead(vec![support::pod("imaging", "a", false)], |asked| {
        if asked.uri.contains("/deployments/") { support::failure(StatusCode::FORBIDDEN, "Forbidden") } else { taken(asked) }
    });
    let mut spec = limited();
    spec["rollout"] = json!("restart");
    case.world.policies_mut().apply(&support::policy("imaging", "web", 2, spec));
    for _ in 0..3 {
        case.changed.send_replace(());
        sleep(LONG).await;
    }
    let told: Vec<_> = case.written("/events?").into_iter().filter(|event| event["reason"] == "RestartForbidden").collect();
    assert_eq!((told.len(), &told[0]["regarding"]["kind"]), (1, &json!("Deployment")), "{told:?}");
    assert!(told[0]["note"].as_str().unwrap().contains("restartOwners=true"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_not_accepted_gets_an_event_for_each_such_revision() {
    let case = lead(vec![], taken);
    sleep(LONG).await;
    for generation in [2, 3] {
        let bad = json!({ "selector": {}, "tols": { "generation": generation } });
        case.world.policies_mut().apply(&support::policy("imaging", "web", generation, bad));
        case.changed.send_replace(());
        sleep(LONG).await;
        case.changed.send_replace(());
        sleep(LONG).await;
    }
    let events = case.written("/events");
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!((&events[0]["reason"], &events[0]["regarding"]["kind"]), (&json!("Invalid"), &json!("McpPolicy")));
    assert!(events[0]["note"].as_str().unwrap().contains("spec.tols"), "{events:?}");
    let last = case.written(STATUS).pop().unwrap();
    assert_eq!(condition(&last, "Accepted")["reason"], "Invalid");
    assert_eq!(last["status"]["lastAccepted"]["generation"], 1, "the last accepted revision is kept");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_policy_gets_status_and_events_as_any_other() {
    let case = lead(vec![support::pod("imaging", "a", true), support::pod("elsewhere", "b", false)], taken);
    {
        let mut policies = case.world.policies_mut();
        for namespace in ["imaging", "elsewhere"] {
            policies.namespaces.apply(namespace.to_owned(), std::collections::BTreeMap::default());
        }
        let mut spec = limited();
        spec["namespaceSelector"] = json!({});
        spec["mode"] = json!("audit");
        policies.apply(&support::cluster_policy("guard", 1, spec));
    }
    case.publish();
    case.enforces("a");
    case.changed.send_replace(());
    sleep(LONG).await;
    let written = case.written("/apis/mcp-policy.dev/v1alpha1/clustermcppolicies/guard/status?").pop().unwrap();
    assert_eq!((&written["kind"], &written["metadata"]["uid"]), (&json!("ClusterMcpPolicy"), &json!("uid-of-guard")));
    let status = &written["status"];
    assert_eq!(
        [&status["mode"], &status["selected"], &status["injected"], &status["enforcing"]],
        [&json!("audit"), &json!(2), &json!(1), &json!(1)]
    );
    assert_eq!(condition(&written, "LimitsPerPod")["status"], "True");
    let note = |events: &[Value]| events.iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let uncovered = note(&case.written("/namespaces/elsewhere/events?"));
    assert!(uncovered.len() == 1 && uncovered[0].starts_with("ClusterMcpPolicy guard selects this pod"), "{uncovered:?}");

    case.world.policies_mut().apply(&support::cluster_policy("guard", 2, json!({ "selector": {} })));
    case.changed.send_replace(());
    sleep(LONG).await;
    let invalid = case.written("/namespaces/default/events");
    assert_eq!((invalid.len(), &invalid[0]["regarding"]["kind"]), (1, &json!("ClusterMcpPolicy")), "{invalid:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_counted_and_tried_again() {
    let case = lead(vec![], |_| support::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
    sleep(LONG).await;
    let attempts = case.written(STATUS).len();
    assert!((2..=70).contains(&attempts), "{attempts}");
    assert!(case.metrics.openmetrics().unwrap().contains(&format!("reconcile_errors_total{{reason=\"patch_status\"}} {attempts}")));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_does_not_take_the_silence_of_sidecars_for_a_change() {
    let case = lead(vec![support::pod("imaging", "a", true)], taken);
    // What the leader before wrote: this pod enforces the policy.
    sleep(Duration::from_millis(100)).await;
    let mut status = case.world.statuses()[&PolicyId::new(Some("imaging"), "web")].clone();
    status.enforcing = Some(1);
    case.world.statuses_mut().insert(PolicyId::new(Some("imaging"), "web"), status);
    let before = case.written(STATUS).len();
    case.changed.send_replace(());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(case.written(STATUS).len(), before, "sidecars may still be on their way");
    sleep(LONG).await;
    assert_eq!(case.written(STATUS).len(), before + 1, "now their silence is news");
}
