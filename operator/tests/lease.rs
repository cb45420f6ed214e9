//! The election, over an API server that compares and swaps.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers outside of test functions")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use mcp_policy_operator::lease::take_part;

/// One lease, and whether the API server is there at all.
#[derive(Clone, Default)]
struct Store {
    lease: Arc<Mutex<Option<Value>>>,
    is_down: Arc<Mutex<bool>>,
}

impl Store {
    fn client(&self) -> Client {
        let store = self.clone();
        support::api(move |asked| store.answer(asked)).0
    }

    fn answer(&self, asked: &support::Asked) -> (StatusCode, Value) {
        if *self.is_down.lock().unwrap() {
            return support::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        let mut stored = self.lease.lock().unwrap();
        let version = stored.as_ref().map(|lease| lease["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap());
        match (&asked.method, version) {
            (&Method::GET, Some(_)) => return (StatusCode::OK, stored.clone().unwrap()),
            (&Method::GET, None) => return support::failure(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::POST, Some(_)) => return support::failure(StatusCode::CONFLICT, "AlreadyExists"),
            (&Method::PUT, Some(version)) if asked.body["metadata"]["resourceVersion"].as_str() != Some(version.to_string().as_str()) => {
                return support::failure(StatusCode::CONFLICT, "Conflict");
            }
            _ => {}
        }
        let mut lease = asked.body.clone();
        lease["metadata"]["resourceVersion"] = json!((version.unwrap_or(0) + 1).to_string());
        *stored = Some(lease.clone());
        (StatusCode::OK, lease)
    }
}

struct Replica {
    leads: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn replica(store: &Store, name: &'static str) -> Replica {
    let api = Api::<Lease>::namespaced(store.client(), "mcp-policy-system");
    let (sender, leads) = watch::channel(false);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    Replica { leads, stop, task: tokio::spawn(async move { take_part(api, name, sender, stopped).await }) }
}

async fn until_leads(replica: &mut Replica) -> Duration {
    let start = Instant::now();
    timeout(Duration::from_mins(1), replica.leads.wait_for(|leads| *leads)).await.expect("leads within a minute").unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_keeps_leading() {
    let store = Store::default();
    let mut first = replica(&store, "first");
    until_leads(&mut first).await;
    let second = replica(&store, "second");
    for _ in 0..120 {
        sleep(Duration::from_secs(1)).await;
        assert!(*first.leads.borrow() && !*second.leads.borrow());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let store = Store::default();
    let mut first = replica(&store, "first");
    until_leads(&mut first).await;
    let mut second = replica(&store, "second");
    sleep(Duration::from_secs(5)).await;
    first.stop.cancel();
    first.task.await.unwrap();
    assert!(!*first.leads.borrow());
    assert!(until_leads(&mut second).await <= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_dead_holder_is_taken_when_it_has_run_out() {
    let store = Store::default();
    let mut first = replica(&store, "first");
    until_leads(&mut first).await;
    first.task.abort();
    let mut second = replica(&store, "second");
    let waited = until_leads(&mut second).await;
    assert!((Duration::from_secs(15)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_another_can_take_over() {
    let store = Store::default();
    let mut first = replica(&store, "first");
    until_leads(&mut first).await;
    sleep(Duration::from_secs(7)).await;
    *store.is_down.lock().unwrap() = true;
    let start = Instant::now();
    timeout(Duration::from_mins(1), first.leads.wait_for(|leads| !*leads)).await.expect("stops within a minute").unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    *store.is_down.lock().unwrap() = false;
    until_leads(&mut first).await;
}
