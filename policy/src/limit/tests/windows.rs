//! Windows of more calls than are kept apart.

use proptest::prelude::*;

use super::super::calls::Calls;
use super::*;

const WINDOW: Nanos = 1_000_000;

/// Calls of 1, by time; calls that were given back while they were in the window are left out.
fn within(calls: &[Nanos], window: Nanos, now: Nanos) -> u128 {
    calls.iter().filter(|at| now - *at < window).count() as u128 * ONE_CALL
}

/// Calls come in bursts; now and then one is given back. What is used is never less than what was called within the window, and
/// never more than what was called within the window and a part of it, `1 / longer`.
fn check(bursts: &[(Nanos, usize, Option<usize>)], most: usize, longer: Nanos) -> Result<(), TestCaseError> {
    let (mut calls, mut model, mut now) = (Calls::default(), Vec::new(), 0);
    for (after, count, refund) in bursts {
        now += after;
        for _ in 0..*count {
            calls.push(ONE_CALL, WINDOW, now, most);
            model.push(now);
        }
        if let Some(at) = refund.and_then(|i| model.get(i).copied()).filter(|at| now - at < WINDOW) {
            calls.remove(ONE_CALL, at);
            model.remove(model.iter().position(|other| *other == at).unwrap());
        }
        let used = calls.used(WINDOW, now);
        prop_assert!(used >= within(&model, WINDOW, now), "too early at {now}");
        prop_assert!(used <= within(&model, WINDOW + WINDOW / longer, now), "held too long at {now}");
        let few = most + most / 4 + 5;
        prop_assert!(calls.words() <= 4 + 3 * few, "{} words", calls.words());
    }
    Ok(())
}

fn bursts(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(Nanos, usize, Option<usize>)>> {
    let after = prop_oneof![3 => 0..WINDOW / 50, 1 => Just(0), 1 => Just(WINDOW / 100), 1 => 0..WINDOW];
    prop::collection::vec((after, count, prop::option::of(0..4_000_usize)), 1..60)
}

proptest! {
    #[test]
    fn many_calls_are_held_at_most_a_hundredth_of_the_window_longer(bursts in bursts(0..150)) {
        check(&bursts, EXACT_CALLS, 100)?;
    }

    #[test]
    fn while_memory_is_short_calls_are_held_at_most_a_sixth_of_the_window_longer(bursts in bursts(0..5)) {
        check(&bursts, 16, 6)?;
    }
}

#[test]
fn a_thousand_calls_are_exact() {
    let mut calls = Calls::default();
    for i in 0..1_000 {
        assert_eq!(calls.room(ONE_CALL, 1_000 * ONE_CALL, WINDOW, i), Ok(()));
        calls.push(ONE_CALL, WINDOW, i, EXACT_CALLS);
    }
    for i in 0..1_000 {
        let full = calls.room(ONE_CALL, 1_000 * ONE_CALL, WINDOW, WINDOW + i - 1);
        assert_eq!(full, Err(Some(1)), "one leaves at each moment, and another comes");
        assert_eq!(calls.room(ONE_CALL, 1_000 * ONE_CALL, WINDOW, WINDOW + i), Ok(()));
        calls.push(ONE_CALL, WINDOW, WINDOW + i, EXACT_CALLS);
    }
}

#[test]
fn beyond_a_thousand_few_entries_remain_and_the_wait_is_a_little_longer() {
    for amount in [ONE_CALL, 3] {
        let (mut calls, max) = (Calls::default(), 5_000);
        for i in 0..max {
            let now = i * WINDOW / max;
            assert_eq!(calls.room(amount, u128::from(max) * amount, WINDOW, now), Ok(()), "call {i}");
            calls.push(amount, WINDOW, now, EXACT_CALLS);
        }
        // The first call was at 0, and now is just before the end of the window.
        let now = (max - 1) * WINDOW / max;
        let wait = calls.room(amount, u128::from(max) * amount, WINDOW, now).unwrap_err().unwrap();
        assert!((WINDOW..=WINDOW + WINDOW / 100).contains(&(now + wait)), "{}", now + wait);
        let wait = calls.room(max.into(), max.into(), WINDOW, now).unwrap_err().unwrap();
        assert_eq!(wait, WINDOW, "all must leave, and the last is of now");
    }
}

#[test]
fn what_was_joined_is_given_back_as_it_was_taken() {
    let (mut calls, mut left) = (Calls::default(), 0);
    let amounts = || (0..1_500_u64).map(|i| (i * 7 % 13 * 50, u128::from(i % 5 + 1), i));
    let times: Vec<_> = amounts().map(|(jitter, amount, i)| (i * 600 + jitter, amount)).collect();
    let mut ordered = times.clone();
    ordered.sort_unstable();
    for (at, amount) in &ordered {
        calls.push(*amount, WINDOW, *at, EXACT_CALLS);
        left += amount;
    }
    let now = ordered.last().unwrap().0;
    for (at, amount) in times {
        assert_eq!(calls.used(WINDOW, now), left);
        calls.remove(amount, at);
        left -= amount;
    }
    assert_eq!((calls.used(WINDOW, now), left), (0, 0));
}

#[test]
fn memory_for_many_calls_is_given_back_when_there_are_few() {
    for amount in [ONE_CALL, 3] {
        let mut calls = Calls::default();
        for i in 0..900 {
            calls.push(amount, WINDOW, i, EXACT_CALLS);
        }
        let many = calls.words();
        assert!(many >= if amount == ONE_CALL { 900 } else { 2_700 });
        calls.shrink();
        assert_eq!(calls.words(), many, "all of it is needed");
        calls.used(WINDOW, WINDOW + 890);
        calls.shrink();
        assert!(calls.words() < many / 10, "{} words", calls.words());
        calls.used(WINDOW, 3 * WINDOW);
        calls.push(ONE_CALL, WINDOW, 3 * WINDOW, EXACT_CALLS);
        assert!(calls.words() <= 4, "{} words", calls.words());
    }
}

#[test]
fn what_was_given_back_takes_no_place() {
    for amount in [ONE_CALL, 3] {
        let mut calls = Calls::default();
        calls.push(amount, WINDOW, 0, EXACT_CALLS);
        for at in 1..10_000 {
            calls.push(amount, WINDOW, at, EXACT_CALLS);
            calls.remove(amount, at);
        }
        assert!(calls.words() <= 30, "{} words", calls.words());
        assert_eq!(calls.used(WINDOW, 10_000), amount);
    }
}
