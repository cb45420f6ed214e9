//! One counter, hammered.

use std::time::{Duration, Instant};

use crate::budget::{Sidecar, limited};
use crate::server::Redis;
use mcp_policy::Code;

/// Eight sidecars, 32 callers: no window ever sees more than `max`, and hardly less than it could.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_sidecars_and_32_callers_share_one_budget_exactly() {
    let (max, window, rounds) = (500, 2, 3);
    let redis = Redis::start(&[]);
    let sidecars: Vec<_> = (0..8).map(|_| Sidecar::new(&redis.url(), &limited(max, window, "deny"))).collect();
    for sidecar in &sidecars {
        sidecar.until(Code::Allowed).await;
    }
    // What made them ready has left the window by then.
    tokio::time::sleep(Duration::from_secs(window)).await;
    let began = Instant::now();
    let end = Duration::from_secs(window * rounds);
    let callers: Vec<_> = (0..32)
        .map(|n| {
            let sidecar = sidecars[n % 8].clone();
            tokio::spawn(async move {
                let mut passed = Vec::new();
                while began.elapsed() < end {
                    let asked = began.elapsed();
                    if sidecar.call("").await.is_ok() {
                        passed.push((asked, began.elapsed()));
                    }
                }
                passed
            })
        })
        .collect();
    let mut passed = Vec::new();
    for caller in callers {
        passed.extend(caller.await.unwrap());
    }
    // Each call counted at some moment between its question and its answer: an interval from the earliest answer on that is shorter than
    // a window by what that leaves open must not hold more than `max`.
    passed.sort_by_key(|(asked, _)| *asked);
    let window = Duration::from_secs(window);
    for (first, _) in &passed {
        let within = passed.iter().filter(|(asked, answered)| asked >= first && *answered < *first + window).count();
        assert!(within <= usize::try_from(max).unwrap(), "{within} in the window that begins at {first:?}");
    }
    let possible = usize::try_from(max * rounds).unwrap();
    assert!(passed.len() * 100 >= possible * 99, "{} of {possible}", passed.len());
}

#[tokio::test]
async fn a_call_that_did_not_run_is_given_back_to_all() {
    let redis = Redis::start(&[]);
    let [one, other] = [(); 2].map(|()| Sidecar::new(&redis.url(), &limited(3, 600, "deny")));
    assert_eq!(one.until(Code::Allowed).await, 1);
    let budget = redis.cli(&["--raw", "keys", "mcp-policy:{ns}:*"]);
    one.call_that_does_not_run().await;
    let began = Instant::now();
    while redis.cli(&["hget", &budget, "sum"]) != "1" {
        assert!(began.elapsed() < Duration::from_secs(5), "not given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.until_connected().await;
    assert_eq!(other.passed(5).await, 2);
}

#[tokio::test]
async fn keys_end_by_themselves_and_tell_nobody_who_called() {
    let redis = Redis::start(&[]);
    let sidecar = Sidecar::new(&redis.url(), &limited(5, 1, "deny"));
    sidecar.until(Code::Allowed).await;
    let keys = redis.cli(&["--raw", "keys", "*"]);
    assert_eq!(keys.lines().count(), 2, "{keys}");
    assert!(!keys.contains("10.0.0.1") && keys.lines().all(|key| key.starts_with("mcp-policy:{ns}") && key.len() <= 48), "{keys}");
    let began = Instant::now();
    while redis.cli(&["dbsize"]) != "1" {
        assert!(began.elapsed() < Duration::from_secs(10), "the budget is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
