use std::net::{IpAddr, Ipv4Addr};

use super::*;

fn counter(window_seconds: u64, scope: Scope) -> CounterId {
    CounterId { policy: PolicyId::new(Some("ns"), "p"), name: "c".into(), window_seconds, scope, increment_from: None }
}

fn caller(n: u32) -> Budget {
    Budget::Caller(Caller::anonymous(IpAddr::V4(Ipv4Addr::from(n))))
}

/// Checks and takes one call.
fn call(counters: &mut Counters, counter: &CounterId, budget: Budget, max: u64, now: Duration) -> Result<Reservation, Full> {
    let claim = Claim { counter, budget, max: u128::from(max) * ONE, amount: ONE };
    counters.check(&claim, now)?;
    Ok(counters.take(vec![claim], now))
}

const ONE: u128 = 1_000_000_000_000_000_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_full_window_says_when_the_oldest_call_leaves_it() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Server));
    let _ = call(&mut counters, &minute, Budget::Server, 2, seconds(0)).unwrap();
    let _ = call(&mut counters, &minute, Budget::Server, 2, seconds(30)).unwrap();
    let full = call(&mut counters, &minute, Budget::Server, 2, Duration::from_millis(30_500)).unwrap_err();
    assert_eq!(full, Full { retry_after_seconds: Some(30) }, "29.5 seconds, rounded up");
    assert!(call(&mut counters, &minute, Budget::Server, 2, Duration::from_millis(59_999)).is_err());
    assert!(call(&mut counters, &minute, Budget::Server, 2, seconds(60)).is_ok());
}

#[test]
fn a_max_of_zero_never_passes_and_promises_no_retry() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Server));
    assert_eq!(call(&mut counters, &minute, Budget::Server, 0, seconds(0)).unwrap_err(), Full { retry_after_seconds: None });
}

#[test]
fn a_refund_gives_back_exactly_one_call() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Server));
    let first = call(&mut counters, &minute, Budget::Server, 2, seconds(0)).unwrap();
    let _second = call(&mut counters, &minute, Budget::Server, 2, seconds(0)).unwrap();
    counters.refund(first);
    assert_eq!(counters.fullest(&minute, seconds(1)), ONE);
    assert!(call(&mut counters, &minute, Budget::Server, 2, seconds(1)).is_ok());
    assert!(call(&mut counters, &minute, Budget::Server, 2, seconds(1)).is_err());
}

#[test]
fn a_refund_after_the_call_expired_gives_nothing() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Server));
    let old = call(&mut counters, &minute, Budget::Server, 1, seconds(0)).unwrap();
    let _new = call(&mut counters, &minute, Budget::Server, 1, seconds(60)).unwrap();
    counters.refund(old);
    assert!(call(&mut counters, &minute, Budget::Server, 1, seconds(60)).is_err());
}

#[test]
fn a_clock_that_steps_back_frees_nothing() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Server));
    let _ = call(&mut counters, &minute, Budget::Server, 1, seconds(100)).unwrap();
    assert!(call(&mut counters, &minute, Budget::Server, 1, seconds(0)).is_err());
    assert!(call(&mut counters, &minute, Budget::Server, 1, seconds(159)).is_err());
    assert!(call(&mut counters, &minute, Budget::Server, 1, seconds(160)).is_ok());
}

#[test]
fn a_window_of_many_calls_keeps_few_entries_and_never_lets_one_pass_early() {
    let hour = 3_600 * NANOS_PER_SECOND;
    let (mut calls, max) = (Calls::default(), 5_000_u64);
    let units = u128::from(max) * ONE;
    for i in 0..max {
        let now = i * hour / max;
        assert!(calls.room(units, ONE, hour, now).is_ok(), "call {i}");
        calls.push(ONE, hour, now);
        assert!(calls.entries.len() <= EXACT_CALLS);
    }
    // The first call was at 0. It may be held for up to 1 % of the window longer.
    let last = (max - 1) * hour / max;
    let wait = calls.room(units, ONE, hour, last).unwrap_err().unwrap();
    assert!((hour..=hour + hour / 100).contains(&(last + wait)), "{}", last + wait);
}

#[test]
fn no_interval_sees_more_than_max_when_calls_are_too_many_to_keep_apart() {
    let (window, max) = (10_000, 2_500);
    let units = 2_500 * ONE;
    let (mut calls, mut passed) = (Calls::default(), VecDeque::new());
    // Steady calls fill the first window; after it, each moment tries to pass as many as it can.
    for now in 0..40_000 {
        while passed.front().is_some_and(|first| now - first >= window) {
            passed.pop_front();
        }
        for _ in 0..if now < window { now % 2 } else { 50 } {
            if calls.room(units, ONE, window, now).is_ok() {
                calls.push(ONE, window, now);
                passed.push_back(now);
            }
        }
        assert!(passed.len() as u64 <= max, "{} calls in the window before {now}", passed.len());
    }
    assert!(passed.len() as u64 > max / 2, "the limiter lets nothing pass");
}

#[test]
fn after_max_was_lowered_the_wait_is_until_enough_calls_have_left() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Server));
    for second in 0..3 {
        let _ = call(&mut counters, &minute, Budget::Server, 3, seconds(second)).unwrap();
    }
    let full = call(&mut counters, &minute, Budget::Server, 1, seconds(10)).unwrap_err();
    assert_eq!(full, Full { retry_after_seconds: Some(52) }, "all three must leave, the last at 62");
}

#[test]
fn callers_beyond_the_bound_share_one_budget_until_it_is_empty_again() {
    let (mut counters, minute) = (Counters::default(), counter(60, Scope::Grant));
    let bound = u32::try_from(MAX_BUDGETS).unwrap();
    for n in 0..bound {
        let _ = call(&mut counters, &minute, caller(n), 1, seconds(100)).unwrap();
    }
    let (late, later) = (caller(bound), caller(bound + 1));
    let _ = call(&mut counters, &minute, late.clone(), 1, seconds(130)).unwrap();
    assert!(call(&mut counters, &minute, later.clone(), 1, seconds(130)).is_err(), "shares the late caller's budget");
    // At 170 the first callers' budgets are forgotten, but the late caller's call is still in the window.
    assert!(call(&mut counters, &minute, late.clone(), 1, seconds(170)).is_err(), "a fresh budget would grant two calls");
    let _ = call(&mut counters, &minute, caller(0), 1, seconds(170)).unwrap();
    assert_eq!(counters.budgets, 0, "the expired budgets were swept");
    assert!(call(&mut counters, &minute, late.clone(), 1, seconds(171)).is_err(), "a fresh budget would still grant two calls");
    assert!(call(&mut counters, &minute, late, 1, seconds(230)).is_ok());
    assert!(call(&mut counters, &minute, later, 1, seconds(230)).is_ok(), "they have budgets of their own again");
    assert!(counters.budgets <= MAX_BUDGETS);
}
