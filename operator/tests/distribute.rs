//! Distribution over HTTP: what a sidecar and another replica get, and who gets nothing.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use mcp_policy::snapshot::{Report, ReportResult, WatchMessage};
use mcp_policy::{PolicyId, Snapshot};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use mcp_policy_operator::approvals::desk::Desk;
use mcp_policy_operator::distribute::{Distributor, Hub, router};
use mcp_policy_operator::metrics::Metrics;
use mcp_policy_operator::pod::Pod;
use mcp_policy_operator::review::Reviewer;
use mcp_policy_operator::select::{Policies, Snapshots};
use mcp_policy_operator::tally::TallyMessage;

struct Case {
    distributor: Arc<Distributor>,
    log: support::Log,
    policies: Policies,
    pods: Vec<Pod>,
}

/// Tokens are `pod:<name>` for a pod of namespace `imaging`, `operator` for the operator; anything else is refused. For other audiences:
/// `for:<audience>`.
fn review(asked: &support::Asked) -> (StatusCode, Value) {
    if asked.body["spec"]["audiences"] != json!(["mcp-policy-operator"]) {
        let token = asked.body["spec"]["token"].as_str().unwrap();
        let status = match token.strip_prefix("for:") {
            Some(audience) => json!({ "authenticated": true, "audiences": [audience], "user": {} }),
            None => json!({ "authenticated": false }),
        };
        return (StatusCode::CREATED, json!({ "metadata": {}, "spec": {}, "status": status }));
    }
    let token = asked.body["spec"]["token"].as_str().unwrap();
    let (user, pod) = match token.split_once(':') {
        Some(("pod", name)) => ("system:serviceaccount:imaging:default", name),
        _ if token == "operator" => ("system:serviceaccount:mcp-policy-system:mcp-policy-operator", "operator-1"),
        _ => return (StatusCode::CREATED, json!({ "metadata": {}, "spec": {}, "status": { "authenticated": false } })),
    };
    let extra =
        json!({ "authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [format!("uid-of-{pod}")] });
    let status = json!({ "authenticated": true, "audiences": ["mcp-policy-operator"], "user": { "username": user, "extra": extra } });
    (StatusCode::CREATED, json!({ "metadata": {}, "spec": {}, "status": status }))
}

fn case() -> Case {
    let (client, log) = support::api(review);
    let distributor = Distributor {
        hub: Arc::<Hub>::default(),
        tally: Arc::default(),
        desk: Desk::new(client.clone(), Arc::default(), Arc::default(), CancellationToken::new()),
        reviewer: Reviewer::new(client),
        namespace: "mcp-policy-system".to_owned(),
        metrics: Metrics::default(),
        stop: CancellationToken::new(),
    };
    Case { distributor: Arc::new(distributor), log, policies: Policies::default(), pods: Vec::new() }
}

impl Case {
    /// A cluster with one policy, and two governed pods of which each has a sidecar.
    fn governed() -> Self {
        let mut case = case();
        case.policies.apply(&support::policy("imaging", "web", 1, json!({ "selector": {} })));
        case.pods = vec![support::pod("imaging", "a", true), support::pod("imaging", "b", true)];
        case.publish();
        case
    }

    fn publish(&self) {
        let mut snapshots = Snapshots::new(&self.policies);
        let of_pods: Vec<_> = self.pods.iter().map(|pod| (pod, snapshots.of(&pod.namespace, &pod.labels))).collect();
        self.distributor.hub.publish(of_pods.iter().map(|(pod, snapshot)| (*pod, snapshot.as_ref())), Some(Instant::now()));
    }

    async fn ask(&self, request: Request<Body>) -> Response<Body> {
        router(Arc::clone(&self.distributor)).oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Response<Body> {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    async fn watch(&self, pod: &str) -> BodyDataStream {
        let response = self.get("/v1/watch", Some(&format!("pod:{pod}"))).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    }

    /// What the sidecar of a pod is told of a caller's token.
    async fn review(&self, pod: &str, token: &str) -> (StatusCode, Value) {
        let request = Request::post("/v1/token-reviews").header("authorization", format!("Bearer {pod}"));
        let asked = json!({ "token": token, "audiences": ["imaging", "mcp"] });
        let answer = self.ask(request.body(Body::from(asked.to_string())).unwrap()).await;
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1024).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn report(&self, pod: &str, report: &Report) -> StatusCode {
        let request = Request::post("/v1/report").header("authorization", format!("Bearer pod:{pod}"));
        self.ask(request.body(Body::from(serde_json::to_vec(report).unwrap())).unwrap()).await.status()
    }
}

/// The next line, or none at the end of the stream.
async fn line<T: serde::de::DeserializeOwned>(stream: &mut BodyDataStream) -> Option<T> {
    let line = timeout(Duration::from_mins(1), stream.next()).await.expect("a line or the end within a minute")?.unwrap();
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one message a line");
    Some(serde_json::from_slice(&line).unwrap())
}

async fn snapshot(stream: &mut BodyDataStream) -> Snapshot {
    match line(stream).await {
        Some(WatchMessage::Snapshot(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

fn ack(sha256: &str) -> Report {
    Report { sha256: sha256.to_owned(), result: ReportResult::Ack, error: None }
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_the_whole_and_then_tells_changes_and_heartbeats() {
    let mut case = Case::governed();
    let mut stream = case.watch("a").await;
    let first = snapshot(&mut stream).await;
    assert!(first.is_intact());
    assert_eq!(first.policies.len(), 1);

    case.publish();
    let before = Instant::now();
    let heartbeat = line::<WatchMessage>(&mut stream).await.unwrap();
    assert_eq!(heartbeat, WatchMessage::Heartbeat { sha256: first.sha256.clone() }, "nothing changed, so nothing is sent");
    assert_eq!(before.elapsed().as_secs(), 10);

    case.policies.apply(&support::policy("imaging", "web", 2, json!({ "selector": {}, "default": "allow" })));
    case.publish();
    let second = snapshot(&mut stream).await;
    assert_eq!(second.policies[0].generation, 2);
    assert_ne!(second.sha256, first.sha256);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_gets_the_newest_and_not_what_lay_between() {
    let mut case = Case::governed();
    let mut stream = case.watch("a").await;
    for generation in 2..=5 {
        let default = if generation % 2 == 0 { "allow" } else { "deny" };
        case.policies.apply(&support::policy("imaging", "web", generation, json!({ "selector": {}, "default": default })));
        case.publish();
    }
    assert_eq!(snapshot(&mut stream).await.policies[0].generation, 5);
    assert!(matches!(line(&mut stream).await, Some(WatchMessage::Heartbeat { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_policy_selects_any_more_learns_it() {
    let mut case = Case::governed();
    let mut stream = case.watch("a").await;
    snapshot(&mut stream).await;
    case.policies.delete(&PolicyId::new(Some("imaging"), "web"));
    case.publish();
    assert_eq!(snapshot(&mut stream).await.policies, []);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_pod_is_gone_when_the_replica_stops_and_after_an_hour() {
    let mut case = Case::governed();
    let mut gone = case.watch("a").await;
    snapshot(&mut gone).await;
    case.pods.remove(0);
    case.publish();
    assert_eq!(line::<WatchMessage>(&mut gone).await, None);

    let mut old = case.watch("b").await;
    let start = Instant::now();
    while line::<WatchMessage>(&mut old).await.is_some() {}
    assert_eq!(start.elapsed().as_secs(), 3600);

    let mut stopped = case.watch("b").await;
    snapshot(&mut stopped).await;
    case.distributor.stop.cancel();
    assert_eq!(line::<WatchMessage>(&mut stopped).await, None);
}

#[tokio::test]
async fn who_cannot_prove_to_be_a_governed_pod_gets_nothing() {
    let mut case = Case::governed();
    case.pods.push(support::pod("elsewhere", "c", true));
    case.publish();
    for (token, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("forged"), StatusCode::UNAUTHORIZED),
        (Some("pod:deleted"), StatusCode::FORBIDDEN),
        // The token is of namespace `imaging`, the pod with this uid is in another.
        (Some("pod:c"), StatusCode::FORBIDDEN),
        (Some("operator"), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(case.get("/v1/watch", token).await.status(), status, "{token:?}");
    }
    assert_eq!(case.report("deleted", &ack("x")).await, StatusCode::FORBIDDEN);
    assert_eq!(case.get("/v1/tally", Some("pod:a")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(case.get("/v1/tally", None).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_replica_that_does_not_know_the_cluster_sends_nobody_away_for_good() {
    let case = case();
    assert_eq!(case.get("/v1/watch", Some("pod:a")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_no_proof_against_the_token() {
    let mut case = Case::governed();
    let (client, _) = support::api(|_| support::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
    Arc::get_mut(&mut case.distributor).unwrap().reviewer = Reviewer::new(client);
    assert_eq!(case.get("/v1/watch", Some("pod:a")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn of_a_callers_token_a_sidecar_is_told_what_the_api_server_says_at_that_moment() {
    let mut case = Case::governed();
    let told = |holds: bool| (StatusCode::OK, json!({ "holds": holds }));
    for (token, holds) in [("for:mcp", true), ("for:billing", false), ("deleted", false), ("for:mcp", true)] {
        assert_eq!(case.review("pod:a", token).await, told(holds), "{token}");
    }
    let reviews = case.log.lock().unwrap().len();
    assert_eq!(reviews, 1 + 4, "that of the sidecar, and each of a caller");
    assert_eq!(case.review("pod:deleted", "for:mcp").await.0, StatusCode::FORBIDDEN);
    assert_eq!(case.review("for:mcp", "for:mcp").await.0, StatusCode::UNAUTHORIZED);
    let (client, _) = support::api(|asked| match asked.body["spec"]["audiences"][0].as_str() {
        Some("mcp-policy-operator") => review(asked),
        _ => support::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    });
    Arc::get_mut(&mut case.distributor).unwrap().reviewer = Reviewer::new(client);
    assert_eq!(case.review("pod:a", "for:mcp").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_reviewed_once_in_a_while() {
    let case = Case::governed();
    let reviews = || case.log.lock().unwrap().len();
    for _ in 0..2 {
        drop(case.watch("a").await);
    }
    assert_eq!(reviews(), 1);
    drop(case.watch("b").await);
    assert_eq!(reviews(), 2);
    tokio::time::advance(Duration::from_mins(1)).await;
    drop(case.watch("a").await);
    assert_eq!(reviews(), 3);
}

#[tokio::test(start_paused = true)]
async fn reports_are_counted_and_other_replicas_follow_them() {
    let mut case = Case::governed();
    let mut stream = case.watch("a").await;
    let first = snapshot(&mut stream).await.sha256;
    assert_eq!(case.report("a", &ack(&first)).await, StatusCode::NO_CONTENT);

    let response = case.get("/v1/tally", Some("operator")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut tally = response.into_body().into_data_stream();
    let Some(TallyMessage::Tally { pods }) = line(&mut tally).await else { panic!("the whole comes first") };
    assert_eq!(pods["uid-of-a"].enforces.as_deref(), Some(first.as_str()));

    case.policies.apply(&support::policy("imaging", "web", 2, json!({ "selector": {}, "default": "allow" })));
    case.publish();
    let second = snapshot(&mut stream).await.sha256;
    tokio::time::advance(Duration::from_millis(30)).await;
    let nack = Report { sha256: second.clone(), result: ReportResult::Nack, error: Some("too new".to_owned()) };
    assert_eq!(case.report("a", &nack).await, StatusCode::NO_CONTENT);
    let Some(TallyMessage::Change { said, .. }) = line(&mut tally).await else { panic!("a change follows") };
    assert_eq!((said.enforces, said.refused), (Some(first), Some((second.clone(), "too new".to_owned()))));

    assert_eq!(case.report("a", &ack(&second)).await, StatusCode::NO_CONTENT);
    assert_eq!(case.report("a", &ack(&second)).await, StatusCode::NO_CONTENT);
    let metrics = case.distributor.metrics.openmetrics().unwrap();
    assert!(metrics.contains("reports_total{result=\"ack\"} 3"), "{metrics}");
    assert!(metrics.contains("reports_total{result=\"nack\"} 1"), "{metrics}");
    assert!(metrics.contains("propagation_seconds_count 1"), "the first answer in force to a change counts, once: {metrics}");
    assert!(metrics.contains("propagation_seconds_bucket{le=\"0.05\"} 1"), "{metrics}");
    assert!(metrics.contains("mcp_policy_operator_streams 1"), "{metrics}");
}

#[tokio::test]
async fn one_pod_cannot_hold_all_streams() {
    let case = Case::governed();
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(case.watch("a").await);
    }
    assert_eq!(case.get("/v1/watch", Some("pod:a")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(case.watch("b").await);
    streams.pop();
    drop(case.watch("a").await);
}

#[tokio::test]
async fn a_report_that_is_none_is_refused_after_its_sender() {
    let case = Case::governed();
    for (token, status) in [("pod:a", StatusCode::BAD_REQUEST), ("forged", StatusCode::UNAUTHORIZED)] {
        let request = Request::post("/v1/report").header("authorization", format!("Bearer {token}"));
        let response = case.ask(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(response.status(), status);
    }
    let request = Request::post("/v1/report").header("authorization", "Bearer pod:a");
    let response = case.ask(request.body(Body::from(vec![b' '; 100 * 1024])).unwrap()).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
