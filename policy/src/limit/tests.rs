//! One counter, a few calls. `laws` compares with a slow model, `windows` has many calls, `crowds` many callers.

mod crowds;
mod laws;
mod windows;

use super::budgets::Bounds;
use super::*;
use crate::caller::Caller;
use crate::document::Scope;
use crate::policy_id::PolicyId;

/// A new value each time, as each compilation of a policy makes one.
fn counter_named(name: &str, window_seconds: u64) -> Arc<CounterId> {
    Arc::new(CounterId::new(PolicyId::new(Some("ns"), "p"), name.into(), window_seconds, Scope::Grant, None))
}

fn minute() -> Arc<CounterId> {
    counter_named("c", 60)
}

/// The caller at the nth IPv6 address.
#[allow(clippy::unnecessary_wraps, reason = "as claims have it")]
fn caller(n: u32) -> Option<Owner> {
    Some(Owner::caller(&Caller::anonymous(std::net::Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(n)).into())))
}

/// Checks and takes an amount.
fn spend(
    counters: &mut Counters,
    counter: &Arc<CounterId>,
    owner: Option<Owner>,
    amount: u128,
    max: u128,
    now: Duration,
) -> Result<Reservation, Full> {
    let claim = Claim { counter, owner, max, amount };
    counters.check(&claim, now)?;
    Ok(counters.take(vec![claim], now))
}

/// Checks and takes one call.
fn call(counters: &mut Counters, counter: &Arc<CounterId>, owner: Option<Owner>, max: u128, now: Duration) -> Result<Reservation, Full> {
    spend(counters, counter, owner, ONE_CALL, max * ONE_CALL, now)
}

fn used(counters: &mut Counters, counter: &Arc<CounterId>, owner: Option<Owner>, now: Duration) -> u128 {
    counters.used(&Claim { counter, owner, max: 0, amount: 0 }, now)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn full(retry_after_seconds: Option<u64>) -> Full {
    Full { retry_after_seconds }
}

#[test]
fn a_full_window_says_when_the_oldest_call_leaves_it() {
    let (mut counters, minute) = (Counters::default(), minute());
    let _ = call(&mut counters, &minute, None, 2, seconds(0)).unwrap();
    let _ = call(&mut counters, &minute, None, 2, seconds(30)).unwrap();
    let refused = call(&mut counters, &minute, None, 2, Duration::from_millis(30_500)).unwrap_err();
    assert_eq!(refused, full(Some(30)), "29.5 seconds, rounded up");
    assert!(call(&mut counters, &minute, None, 2, Duration::from_millis(59_999)).is_err());
    assert!(call(&mut counters, &minute, None, 2, seconds(60)).is_ok());
}

#[test]
fn what_can_never_fit_promises_no_retry() {
    for (amount, max) in [(ONE_CALL, 0), (1, 0), (3, 2), (u128::MAX, 5), (u128::MAX, u128::MAX - 1)] {
        let mut counters = Counters::default();
        assert_eq!(spend(&mut counters, &minute(), None, amount, max, seconds(0)).unwrap_err(), full(None), "{amount} of {max}");
        let _ = spend(&mut counters, &minute(), caller(1), 1, 1, seconds(0)).unwrap();
        assert_eq!(spend(&mut counters, &minute(), caller(1), amount, max, seconds(0)).unwrap_err(), full(None), "{amount} of {max}");
    }
}

#[test]
fn the_largest_amounts_do_not_overflow() {
    let mut counters = Counters::default();
    let first = spend(&mut counters, &minute(), caller(1), u128::MAX, u128::MAX, seconds(0)).unwrap();
    for amount in [1, ONE_CALL, u128::MAX] {
        assert_eq!(spend(&mut counters, &minute(), caller(1), amount, u128::MAX, seconds(1)).unwrap_err(), full(Some(59)));
    }
    counters.refund(first);
    assert!(spend(&mut counters, &minute(), caller(1), u128::MAX, u128::MAX, Duration::MAX).is_ok());
    assert!(spend(&mut counters, &minute(), caller(1), 1, u128::MAX, Duration::MAX).is_err());
}

#[test]
fn an_amount_of_zero_passes_always_and_is_stored_nowhere() {
    let mut counters = Counters::default();
    for max in [0, 1] {
        for owner in [None, caller(1)] {
            let reservation = spend(&mut counters, &minute(), owner, 0, max, seconds(0)).unwrap();
            assert!(reservation.taken.is_empty());
        }
    }
    assert!(counters.series.is_empty());
    assert_eq!(counters.budgets.size().0, 0);
    let _ = call(&mut counters, &minute(), None, 1, seconds(0)).unwrap();
    assert!(spend(&mut counters, &minute(), None, 0, 1, seconds(0)).is_ok(), "also when the counter is full");
    assert!(spend(&mut counters, &minute(), None, 0, 0, seconds(0)).is_ok(), "also when it is over what it may be now");
}

#[test]
fn a_refund_gives_back_exactly_one_call() {
    let (mut counters, minute) = (Counters::default(), minute());
    let first = call(&mut counters, &minute, None, 2, seconds(0)).unwrap();
    let _second = call(&mut counters, &minute, None, 2, seconds(0)).unwrap();
    counters.refund(first);
    assert_eq!(used(&mut counters, &minute, None, seconds(1)), ONE_CALL);
    assert!(call(&mut counters, &minute, None, 2, seconds(1)).is_ok());
    assert!(call(&mut counters, &minute, None, 2, seconds(1)).is_err());
}

#[test]
fn of_amounts_taken_at_one_moment_each_is_given_back_as_it_was() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let (mut counters, minute) = (Counters::default(), minute());
        let amounts = [3, ONE_CALL, 5];
        let mut reservations = amounts.map(|amount| Some(spend(&mut counters, &minute, None, amount, 2 * ONE_CALL, seconds(0)).unwrap()));
        let mut left = amounts.iter().sum::<u128>();
        for i in order {
            counters.refund(reservations[i].take().unwrap());
            left -= amounts[i];
            assert_eq!(used(&mut counters, &minute, None, seconds(59)), left, "{order:?}");
        }
    }
}

#[test]
fn a_refund_after_the_call_expired_gives_nothing() {
    let (mut counters, minute) = (Counters::default(), minute());
    let old = call(&mut counters, &minute, None, 1, seconds(0)).unwrap();
    let _new = call(&mut counters, &minute, None, 1, seconds(60)).unwrap();
    counters.refund(old);
    assert!(call(&mut counters, &minute, None, 1, seconds(60)).is_err());
}

#[test]
fn a_reservation_of_other_counters_gives_nothing() {
    let (mut here, mut there) = (Counters::default(), Counters::default());
    let _ = spend(&mut here, &minute(), caller(1), 5, 10, seconds(0)).unwrap();
    for (amount, at) in [(7, seconds(0)), (1, seconds(30)), (5, Duration::MAX)] {
        here.refund(spend(&mut there, &minute(), caller(1), amount, u128::MAX, at).unwrap());
        assert_eq!(used(&mut here, &minute(), caller(1), seconds(0)), 5);
    }
}

#[test]
fn a_clock_that_steps_back_frees_nothing() {
    let (mut counters, minute) = (Counters::default(), minute());
    let _ = call(&mut counters, &minute, None, 1, seconds(100)).unwrap();
    assert!(call(&mut counters, &minute, None, 1, seconds(0)).is_err());
    assert!(call(&mut counters, &minute, None, 1, seconds(159)).is_err());
    assert!(call(&mut counters, &minute, None, 1, seconds(160)).is_ok());
}

#[test]
fn after_max_was_lowered_the_wait_is_until_enough_calls_have_left() {
    let (mut counters, minute) = (Counters::default(), minute());
    for second in 0..3 {
        let _ = call(&mut counters, &minute, None, 3, seconds(second)).unwrap();
    }
    assert_eq!(call(&mut counters, &minute, None, 1, seconds(10)).unwrap_err(), full(Some(52)), "all three must leave, the last at 62");
}

#[test]
fn a_counter_is_another_if_anything_but_max_differs() {
    let id = |policy: &str, name: &str, window, scope, from: Option<&str>| {
        Arc::new(CounterId::new(PolicyId::new(Some("ns"), policy), name.into(), window, scope, from.map(Into::into)))
    };
    let one = || id("p", "c", 60, Scope::Server, None);
    let others = [
        id("q", "c", 60, Scope::Server, None),
        id("p", "d", 60, Scope::Server, None),
        id("p", "c", 61, Scope::Server, None),
        id("p", "c", 60, Scope::Grant, None),
        id("p", "c", 60, Scope::Server, Some("args.n")),
    ];
    let mut counters = Counters::default();
    let _ = call(&mut counters, &one(), None, 1, seconds(0)).unwrap();
    assert!(call(&mut counters, &one(), None, 1, seconds(0)).is_err(), "compiled again, it is the same");
    for other in others {
        assert!(call(&mut counters, &other, None, 1, seconds(0)).is_ok(), "{other:?}");
    }
}

#[test]
fn owners_are_told_apart() {
    let addresses = ["10.0.0.1", "10.0.0.2", "::1", "::a00:1", "64:ff9b::a00:1", "fd00::1", "fd00:0:0:1::1"];
    let callers = addresses.map(|address| Owner::caller(&Caller::anonymous(address.parse().unwrap())));
    let sessions = ["", "s", "S", "s ", "10.0.0.1", "5f2b1c9e-7a43-4c0e-9f61-8d1a2b3c4d5e"].map(Owner::session);
    let all: std::collections::HashSet<_> = callers.iter().chain(&sessions).collect();
    assert_eq!(all.len(), callers.len() + sessions.len());
    assert_eq!(Owner::caller(&Caller::Anonymous { address: "::ffff:10.0.0.1".parse().unwrap() }), callers[0], "IPv4 in IPv6 is IPv4");
}

#[test]
fn each_owner_has_a_budget_and_the_fullest_is_told() {
    let (mut counters, minute) = (Counters::default(), minute());
    let _ = call(&mut counters, &minute, caller(1), 2, seconds(0)).unwrap();
    let _ = call(&mut counters, &minute, caller(2), 2, seconds(10)).unwrap();
    let _ = call(&mut counters, &minute, caller(2), 2, seconds(20)).unwrap();
    assert!(call(&mut counters, &minute, caller(2), 2, seconds(20)).is_err());
    let shared = counter_named("everybody", 60);
    let _ = spend(&mut counters, &shared, None, 7, 7, seconds(20)).unwrap();
    for (now, most) in [(20, 2), (69, 2), (70, 1), (80, 0)] {
        let fullest = counters.fullest(seconds(now));
        assert_eq!(fullest[&minute], most * ONE_CALL, "at {now}");
        assert_eq!(fullest[&shared], if now < 80 { 7 } else { 0 }, "at {now}");
    }
}
