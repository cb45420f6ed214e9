//! What can happen to a store. `deny`: never more than `max`; `local`: at most `max` more for each sidecar, and calls go on.

use std::time::{Duration, Instant};

use mcp_policy::Code;
use mcp_policy_sidecar::store::PATIENCE;

use crate::budget::{Sidecar, credentials, limited};
use crate::server::Redis;

const MAX: u64 = 5;
/// No test takes as long: whatever passes, passes in one window.
const WINDOW: u64 = 600;

fn pair(redis: &Redis, on_store_error: &str) -> [Sidecar; 2] {
    [(); 2].map(|()| Sidecar::new(&redis.url(), &limited(MAX, WINDOW, on_store_error)))
}

/// A new store makes its first callers wait some seconds; then two have passed, one of each.
async fn used_two(sidecars: &[Sidecar; 2]) {
    for sidecar in sidecars {
        assert_eq!(sidecar.until(Code::Allowed).await, 1);
    }
}

#[tokio::test]
async fn killed_and_back_with_its_data_or_without_deny_never_allows_more_than_max() {
    for keeps_data in [true, false] {
        let mut redis = Redis::start(if keeps_data { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] });
        let sidecars = pair(&redis, "deny");
        used_two(&sidecars).await;
        redis.kill();
        let mut passed = 2;
        passed += sidecars[0].until(Code::StoreUnavailable).await;
        passed += sidecars[1].passed(20).await;
        redis.up();
        // Whoever comes first: one that remembers, or a new one that cannot know.
        let new = Sidecar::new(&redis.url(), &limited(MAX, WINDOW, "deny"));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(7) {
            for sidecar in sidecars.iter().chain([&new]) {
                passed += sidecar.passed(1).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(passed <= usize::try_from(MAX).unwrap(), "{passed} passed, keeps data: {keeps_data}");
        let (code, wait) = sidecars[0].call("").await.unwrap_err();
        assert_eq!(code, Code::StoreUnavailable);
        assert!((WINDOW - 60..=WINDOW).contains(&wait.unwrap()), "it says how long it cannot know: {wait:?}");
    }
}

#[tokio::test]
async fn counts_are_whole_again_a_window_after_they_were_lost() {
    let mut redis = Redis::start(&[]);
    let sidecar = Sidecar::new(&redis.url(), &limited(1, 2, "deny"));
    sidecar.until(Code::Allowed).await;
    let began = Instant::now();
    redis.kill();
    redis.up();
    sidecar.until(Code::Allowed).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "the call before was forgotten, and still counted");
}

#[tokio::test]
async fn frozen_deny_refuses_at_once_and_local_counts_by_itself() {
    let redis = Redis::start(&[]);
    let (deny, local) = (pair(&redis, "deny"), pair(&redis, "local"));
    used_two(&deny).await;
    assert_eq!(local[0].until(Code::Allowed).await, 1);
    redis.freeze(true);
    deny[0].until(Code::StoreUnavailable).await;
    // It is known to be away after a few calls; from then on nobody waits.
    for _ in 0..10 {
        let _ = deny[0].call("").await;
    }
    let began = Instant::now();
    assert_eq!(deny[0].passed(50).await, 0);
    assert!(began.elapsed() < PATIENCE, "calls queue for a store that is away");
    for sidecar in &local {
        assert_eq!(sidecar.passed(20).await, usize::try_from(MAX).unwrap(), "each counts its own");
        assert_eq!(sidecar.call("").await.unwrap_err().0, Code::LimitExceeded);
    }
    redis.freeze(false);
    // The calls that got no answer may have counted. All that pass in the end are at most `max`.
    let mut passed = 2;
    deny[0].until_connected().await;
    passed += deny[0].passed(20).await;
    assert!(passed <= usize::try_from(MAX).unwrap(), "{passed}");
    assert_eq!(deny[0].call("").await.unwrap_err().0, Code::LimitExceeded, "and the store is asked again");
}

#[tokio::test]
async fn slow_it_is_waited_for_and_no_longer_than_a_quarter_of_a_second() {
    let redis = Redis::start(&[]);
    let sidecars = pair(&redis, "deny");
    used_two(&sidecars).await;
    redis.cli(&["client", "pause", "100", "write"]);
    assert!(sidecars[0].call("").await.is_ok(), "a tenth of a second is not too long");
    redis.cli(&["client", "pause", "3000", "all"]);
    let began = Instant::now();
    assert_eq!(sidecars[0].call("").await.unwrap_err().0, Code::StoreUnavailable);
    assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_has_the_wrong_password_counts_nothing_and_the_right_one_is_never_told() {
    let redis = Redis::start(&["--requirepass", "geheim"]);
    let wrong = Sidecar::with(&redis.url(), credentials(Some("falsch")), &limited(MAX, WINDOW, "deny"));
    let none = Sidecar::new(&redis.url(), &limited(MAX, WINDOW, "deny"));
    let right = Sidecar::with(&redis.url(), credentials(Some("geheim")), &limited(MAX, WINDOW, "deny"));
    right.until(Code::Allowed).await;
    for sidecar in [wrong, none] {
        assert_eq!(sidecar.passed(20).await, 0);
    }
    assert!(!format!("{:?}", right.state).contains("geheim"));
}

#[tokio::test]
async fn full_or_about_to_forget_it_is_as_good_as_away() {
    for policy in ["noeviction", "allkeys-lru"] {
        let redis = Redis::start(&[]);
        let sidecars = pair(&redis, "deny");
        used_two(&sidecars).await;
        redis.cli(&["config", "set", "maxmemory", "1", "maxmemory-policy", policy]);
        if policy == "allkeys-lru" {
            sidecars[0].until(Code::StoreUnavailable).await;
        }
        assert_eq!(sidecars[0].until(Code::StoreUnavailable).await, 0, "{policy}");
        assert_eq!(sidecars[1].passed(10).await, 0, "{policy}");
    }
}
