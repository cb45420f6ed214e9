//! Approvals against an API server that takes a write only of what was read last: who gets one, and how often.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mcp_policy::approval::{ApprovalAnswer, ApprovalRequest, Needed};
use mcp_policy_operator::approvals::desk::Desk;
use mcp_policy_operator::approvals::known::Known;
use mcp_policy_operator::review::BoundPod;
use mcp_policy_operator::world::World;
use serde_json::{Value, json};
use support::{Asked, api, failure};
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The approvals as the API server has them, by name.
type Stored = Arc<Mutex<BTreeMap<String, Value>>>;

/// Answers as an API server does for objects of which each write has to name the version that was read.
fn serve(stored: &Stored, asked: &Asked) -> (StatusCode, Value) {
    let mut stored = stored.lock().unwrap();
    let path = asked.uri.split('?').next().unwrap();
    let rest = path.strip_prefix("/apis/mcp-policy.dev/v1alpha1/namespaces/imaging/mcpapprovals").unwrap_or_else(|| panic!("{path}"));
    let name = rest.trim_start_matches('/').trim_end_matches("/status").to_owned();
    if asked.method != Method::GET && (asked.body["apiVersion"] != "mcp-policy.dev/v1alpha1" || asked.body["kind"] != "McpApproval") {
        return failure(StatusCode::BAD_REQUEST, "BadRequest");
    }
    let newer = |object: &mut Value, version: u64| object["metadata"]["resourceVersion"] = version.to_string().into();
    match (&asked.method, rest.ends_with("/status")) {
        (&Method::GET, _) => match stored.get(&name) {
            Some(object) => (StatusCode::OK, object.clone()),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        },
        (&Method::POST, _) => {
            let mut object = asked.body.clone();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if stored.contains_key(&name) {
                return failure(StatusCode::CONFLICT, "AlreadyExists");
            }
            object["metadata"]["namespace"] = "imaging".into();
            object["metadata"]["uid"] = format!("uid-of-{name}").into();
            newer(&mut object, 1);
            stored.insert(name, object.clone());
            (StatusCode::CREATED, object)
        }
        (&Method::PUT, true) => {
            let Some(object) = stored.get_mut(&name) else { return failure(StatusCode::NOT_FOUND, "NotFound") };
            let version = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            if asked.body["metadata"]["resourceVersion"] != version.as_str() {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            object["status"] = asked.body["status"].clone();
            newer(object, version.parse::<u64>().unwrap() + 1);
            (StatusCode::OK, object.clone())
        }
        other => panic!("{other:?}"),
    }
}

/// A cluster with the policies `pay` and `audit` at generation 3 over two pods of one Deployment and one other pod.
struct Case {
    stored: Stored,
    world: Arc<World>,
}

impl Case {
    fn new() -> Self {
        let world = World::new([]);
        for name in ["pay", "audit"] {
            let spec = json!({"selector": {}, "tools": {"pay": {"action": "approve"}}});
            world.policies_mut().apply(&support::policy("imaging", name, 3, spec));
        }
        let mut other = support::pod("imaging", "other", true);
        other.labels.clear();
        for pod in [support::pod("imaging", "web-1", true), support::pod("imaging", "web-2", true), other] {
            world.pods_mut().insert((pod.namespace.clone(), pod.name.clone()), pod);
        }
        Self { stored: Stored::default(), world: Arc::new(world) }
    }

    /// A replica of the operator that has just begun.
    fn replica(&self) -> Desk {
        let stored = Arc::clone(&self.stored);
        let (client, _) = api(move |asked| serve(&stored, asked));
        Desk::new(client, Arc::clone(&self.world), Arc::<Known>::default(), CancellationToken::new())
    }

    /// What a person writes into each approval that is there.
    fn decide(&self, decision: &Value) {
        for approval in self.stored.lock().unwrap().values_mut() {
            approval["spec"]["decisions"] = json!([decision]);
            let version: u64 = approval["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            approval["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        }
    }

    fn approve(&self) {
        self.decide(&json!({"verdict": "Approved", "by": "ann"}));
    }

    fn count(&self) -> usize {
        self.stored.lock().unwrap().len()
    }
}

fn pod(name: &str) -> BoundPod {
    BoundPod { namespace: "imaging".to_owned(), name: name.to_owned(), uid: format!("uid-of-{name}") }
}

fn needed(name: &str) -> Needed {
    Needed {
        namespace: Some("imaging".to_owned()),
        name: name.to_owned(),
        generation: 3,
        rule: "/tools/pay/action".to_owned(),
        reason: Some("Money".to_owned()),
        timeout_seconds: 900,
        argument_keys: vec!["amount".to_owned()],
        arguments: None,
    }
}

fn request() -> ApprovalRequest {
    ApprovalRequest {
        caller: "serviceaccount:agents/a".to_owned(),
        tool: "pay".to_owned(),
        arguments_sha256: "a".repeat(64),
        needed: vec![needed("pay")],
        wait_seconds: 0,
    }
}

fn word(answer: &ApprovalAnswer) -> &'static str {
    match answer {
        ApprovalAnswer::Granted => "granted",
        ApprovalAnswer::Waiting { .. } => "waiting",
        ApprovalAnswer::Denied { .. } => "denied",
        ApprovalAnswer::NotAsked { .. } => "not asked",
    }
}

async fn ask(desk: &Desk, pod_name: &str, request: &ApprovalRequest) -> &'static str {
    word(&desk.answer(&pod(pod_name), request).await.unwrap())
}

#[tokio::test]
async fn an_approved_call_passes_once_and_the_next_asks_again() {
    let case = Case::new();
    let desk = case.replica();
    assert_eq!([ask(&desk, "web-1", &request()).await, ask(&desk, "web-2", &request()).await], ["waiting"; 2]);
    assert_eq!(case.count(), 1, "duplicates share one");
    case.approve();
    // On another replica, for a call that comes to another pod.
    assert_eq!(ask(&case.replica(), "web-2", &request()).await, "granted");
    assert_eq!(ask(&desk, "web-1", &request()).await, "waiting", "a replayed call asks anew");
    assert_eq!(case.count(), 2);
}

/// "nothing is ever allowed by a lost, replayed, edited or expired approval": what was approved is good for nothing else.
#[tokio::test]
async fn an_approval_lets_no_other_call_pass() {
    let mine = request();
    let others = [
        ("another caller", "web-1", ApprovalRequest { caller: "serviceaccount:agents/b".to_owned(), ..mine.clone() }),
        ("another tool", "web-1", ApprovalRequest { tool: "pay_all".to_owned(), ..mine.clone() }),
        ("edited arguments", "web-1", ApprovalRequest { arguments_sha256: "b".repeat(64), ..mine.clone() }),
        (
            "another rule",
            "web-1",
            ApprovalRequest { needed: vec![Needed { rule: "/allTools/action".to_owned(), ..needed("pay") }], ..mine.clone() },
        ),
        ("another policy", "web-1", ApprovalRequest { needed: vec![needed("audit")], ..mine.clone() }),
        ("an earlier generation", "web-1", ApprovalRequest { needed: vec![Needed { generation: 2, ..needed("pay") }], ..mine.clone() }),
        ("nothing that asks", "web-1", ApprovalRequest { needed: vec![], ..mine.clone() }),
        (
            "a policy of another namespace",
            "web-1",
            ApprovalRequest { needed: vec![Needed { namespace: None, ..needed("pay") }], ..mine.clone() },
        ),
        ("a pod that does not exist", "web-9", mine.clone()),
    ];
    for (what, from, other) in others {
        let case = Case::new();
        let desk = case.replica();
        assert_eq!(ask(&desk, "web-1", &mine).await, "waiting");
        case.approve();
        let answer = ask(&desk, from, &other).await;
        assert_ne!(answer, "granted", "{what}");
        assert_eq!(ask(&desk, "web-1", &mine).await, "granted", "and it is still good for its own call, after {what}");
    }
}

#[tokio::test]
async fn a_new_generation_of_the_policy_needs_a_new_approval() {
    let case = Case::new();
    let desk = case.replica();
    assert_eq!(ask(&desk, "web-1", &request()).await, "waiting");
    case.approve();
    let spec = json!({"selector": {}, "tools": {"pay": {"action": "approve"}}});
    case.world.policies_mut().apply(&support::policy("imaging", "pay", 4, spec));
    assert_eq!(ask(&desk, "web-1", &request()).await, "not asked", "the sidecar is behind");
    let newer = ApprovalRequest { needed: vec![Needed { generation: 4, ..needed("pay") }], ..request() };
    assert_eq!(ask(&desk, "web-1", &newer).await, "waiting");
}

#[tokio::test]
async fn what_has_expired_was_denied_or_is_only_claimed_lets_nothing_pass() {
    let case = Case::new();
    let desk = case.replica();
    assert_eq!(ask(&desk, "web-1", &request()).await, "waiting");
    // Somebody with no right to decide who could write the status all the same: it counts for nothing.
    for approval in case.stored.lock().unwrap().values_mut() {
        approval["status"] = json!({"state": "Approved"});
    }
    assert_eq!(ask(&desk, "web-1", &request()).await, "waiting");
    case.decide(&json!({"verdict": "Denied", "by": "ann", "reason": "Not today."}));
    let ApprovalAnswer::Denied { reason, .. } = desk.answer(&pod("web-1"), &request()).await.unwrap() else { panic!("not denied") };
    assert_eq!(reason.as_deref(), Some("Not today."));
    case.approve();
    let past = Timestamp::now().saturating_sub(SignedDuration::from_secs(1)).unwrap();
    for approval in case.stored.lock().unwrap().values_mut() {
        approval["spec"]["expiresAt"] = past.to_string().into();
    }
    assert_eq!(ask(&desk, "web-1", &request()).await, "waiting", "people are asked anew");
    assert_eq!(case.count(), 2);
}

#[tokio::test]
async fn of_many_sidecars_at_once_exactly_one_passes() {
    for _ in 0..20 {
        let case = Case::new();
        assert_eq!(ask(&case.replica(), "web-1", &request()).await, "waiting");
        case.approve();
        let asks = (0..8).map(|i| {
            let desk = case.replica();
            tokio::spawn(async move { ask(&desk, if i % 2 == 0 { "web-1" } else { "web-2" }, &request()).await })
        });
        let mut granted = 0;
        for asked in asks.collect::<Vec<_>>() {
            granted += usize::from(asked.await.unwrap() == "granted");
        }
        assert_eq!(granted, 1);
    }
}

#[tokio::test]
async fn all_policies_that_ask_must_be_answered_and_none_is_used_up_before() {
    let case = Case::new();
    let desk = case.replica();
    let both = ApprovalRequest { needed: vec![needed("audit"), needed("pay")], ..request() };
    assert_eq!(ask(&desk, "web-1", &both).await, "waiting");
    assert_eq!(case.count(), 2);
    let first = case.stored.lock().unwrap().values().position(|approval| approval["spec"]["policy"]["name"] == "audit").unwrap();
    let decided = json!([{"verdict": "Approved", "by": "ann"}]);
    case.stored.lock().unwrap().values_mut().nth(first).unwrap()["spec"]["decisions"] = decided;
    assert_eq!(ask(&desk, "web-1", &both).await, "waiting");
    case.approve();
    assert_eq!(ask(&desk, "web-1", &both).await, "granted");
    assert!(case.stored.lock().unwrap().values().all(|approval| approval["status"]["usedBy"] == "web-1"));
}

#[tokio::test]
async fn where_a_policy_wants_two_people_one_is_not_enough() {
    let case = Case::new();
    let spec = json!({"selector": {}, "tools": {"pay": {"action": "approve"}}, "approvals": {"approvers": 2}});
    case.world.policies_mut().apply(&support::policy("imaging", "pay", 4, spec));
    let desk = case.replica();
    let request = ApprovalRequest { needed: vec![Needed { generation: 4, ..needed("pay") }], ..request() };
    assert_eq!(ask(&desk, "web-1", &request).await, "waiting");
    case.approve();
    assert_eq!(ask(&desk, "web-1", &request).await, "waiting");
    for approval in case.stored.lock().unwrap().values_mut() {
        approval["spec"]["decisions"] = json!([{"verdict": "Approved", "by": "ann"}, {"verdict": "Approved", "by": "bob"}]);
    }
    assert_eq!(ask(&desk, "web-1", &request).await, "granted");
}

/// What this replica hears of the approvals that there are.
fn hear(case: &Case, desk: &Desk) {
    for approval in case.stored.lock().unwrap().values() {
        desk.known.insert(serde_json::from_value(approval.clone()).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_put_off_until_a_person_has_spoken_or_the_time_is_over() {
    let case = Case::new();
    let desk = Arc::new(case.replica());
    let patient = || ApprovalRequest { wait_seconds: 5, ..request() };
    let began = Instant::now();
    let ApprovalAnswer::Waiting { approval } = desk.answer(&pod("web-1"), &patient()).await.unwrap() else { panic!("nobody is asked") };
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!((894..=895).contains(&approval.seconds_left), "{approval:?}");

    let asked = tokio::spawn({
        let desk = Arc::clone(&desk);
        async move { ask(&desk, "web-1", &ApprovalRequest { wait_seconds: 5, ..request() }).await }
    });
    let began = Instant::now();
    sleep(Duration::from_secs(2)).await;
    case.approve();
    hear(&case, &desk);
    assert_eq!((asked.await.unwrap(), began.elapsed().as_secs()), ("granted", 2));
}

#[tokio::test(start_paused = true)]
async fn of_many_that_wait_for_the_same_yes_one_passes() {
    let case = Case::new();
    let desk = Arc::new(case.replica());
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move { ask(&desk, "web-1", &ApprovalRequest { wait_seconds: 5, ..request() }).await })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(case.count(), 1);
    case.approve();
    hear(&case, &desk);
    let mut words = Vec::new();
    for asked in asked {
        words.push(asked.await.unwrap());
    }
    assert_eq!(words.iter().filter(|word| **word == "granted").count(), 1, "{words:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_when_the_replica_ends_and_when_the_policy_is_not_in_force_any_more() {
    let case = Case::new();
    let mut desk = case.replica();
    let patient = ApprovalRequest { wait_seconds: 5, ..request() };
    desk.stop.cancel();
    let began = Instant::now();
    assert_eq!((ask(&desk, "web-1", &patient).await, began.elapsed().as_secs()), ("waiting", 0));
    desk.stop = CancellationToken::new();
    let desk = Arc::new(desk);
    let asked = tokio::spawn({
        let desk = Arc::clone(&desk);
        async move { ask(&desk, "web-1", &patient).await }
    });
    sleep(Duration::from_secs(1)).await;
    let spec = json!({"selector": {}, "tools": {"pay": {"action": "approve"}}});
    case.world.policies_mut().apply(&support::policy("imaging", "pay", 4, spec));
    case.approve();
    hear(&case, &desk);
    assert_eq!(asked.await.unwrap(), "not asked", "a yes to the revision before");
}

#[tokio::test]
async fn who_waits_is_told_the_page_of_the_very_approval() {
    let case = Case::new();
    let url = |answer: ApprovalAnswer| match answer {
        ApprovalAnswer::Waiting { approval } => approval.url.map(|url| (url, approval.name)),
        other => panic!("{other:?}"),
    };
    let nowhere = case.replica();
    assert_eq!(url(nowhere.answer(&pod("web-1"), &request()).await.unwrap()), None);
    let somewhere = Desk { page: Some("https://approvals/{namespace}/{name}".parse().unwrap()), ..case.replica() };
    let (url, name) = url(somewhere.answer(&pod("web-1"), &request()).await.unwrap()).unwrap();
    assert_eq!(url, format!("https://approvals/imaging/{name}"));
    assert!(case.stored.lock().unwrap().contains_key(&name));
}

#[tokio::test]
async fn an_api_server_that_fails_lets_nothing_pass() {
    let (client, _) = api(|_| failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
    let desk = Desk::new(client, Case::new().world, Arc::default(), CancellationToken::new());
    assert!(desk.answer(&pod("web-1"), &request()).await.is_err());
}

#[tokio::test]
async fn one_caller_can_have_twenty_calls_wait() {
    let case = Case::new();
    let desk = case.replica();
    for i in 0..25 {
        let call = ApprovalRequest { arguments_sha256: format!("{i:064}"), ..request() };
        let expected = if i < 20 { "waiting" } else { "not asked" };
        assert_eq!(ask(&desk, "web-1", &call).await, expected, "call {i}");
    }
    assert_eq!(case.count(), 20);
}
