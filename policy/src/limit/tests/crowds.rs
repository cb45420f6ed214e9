//! Many callers: what they take of memory, and what a flood of them takes from others.

use super::*;

/// As many budgets as one counter may have apart.
fn half() -> u32 {
    u32::try_from(Bounds::default().budgets / 2).unwrap()
}

#[test]
fn one_callers_state_is_small() {
    let bytes =
        [(ONE_CALL, [(1, 190), (10, 256), (30, 400), (100, 1_100)]), (ONE_CALL / 2, [(1, 310), (10, 490), (30, 960), (100, 2_990)])];
    for (amount, most) in bytes {
        for (calls, most) in most {
            for callers in [100, 1_000, 5_000] {
                let (mut counters, minute) = (Counters::default(), minute());
                for millis in 0..calls {
                    for n in 0..callers {
                        let _ = spend(&mut counters, &minute, caller(n), amount, 1_000 * ONE_CALL, Duration::from_millis(millis)).unwrap();
                    }
                }
                let (count, bytes) = counters.budgets.size();
                assert_eq!(count, callers as usize);
                assert!(bytes / count <= most, "{} bytes for each of {callers} callers with {calls} calls of {amount}", bytes / count);
            }
        }
    }
}

#[test]
fn a_hundred_thousand_callers_get_no_more_than_the_law_allows_and_take_bounded_memory() {
    let (mut counters, hour, max) = (Counters::default(), counter_named("c", 3_600), 2);
    let honest = caller(1);
    let _ = call(&mut counters, &hour, honest, 5, seconds(0)).unwrap();
    let flood = 1_000..101_000;
    let mut passed = 0;
    for n in flood.clone() {
        let own = (0..4).filter(|_| call(&mut counters, &hour, caller(n), max, seconds(1)).is_ok()).count();
        assert!(own <= 2);
        passed += own;
    }
    assert_eq!(passed, 2 * (half() as usize - 1) + 2, "all budgets but the honest caller's, and the shared one");
    let (count, bytes) = counters.budgets.size();
    assert_eq!(count, half() as usize);
    assert!(bytes < 4 << 20, "{bytes} bytes");

    // Who was known before has the rest of their budget, and no more.
    let more = (0..9).filter(|_| call(&mut counters, &hour, honest, 5, seconds(2)).is_ok()).count();
    assert_eq!(more, 4);
    // A counter that the flood does not touch has room for its own callers.
    let other = counter_named("other", 3_600);
    for n in 0..1_000 {
        let own = (0..4).filter(|_| call(&mut counters, &other, caller(n), max, seconds(3)).is_ok()).count();
        assert_eq!(own, 2);
    }
    // An hour later all is as if nothing had been.
    for n in flood.step_by(50) {
        let own = (0..4).filter(|_| call(&mut counters, &hour, caller(n), max, seconds(3_604)).is_ok()).count();
        assert_eq!(own, 2);
    }
}

/// Counters of which only so many budgets are kept apart, all of them taken by others at this time.
fn crowded(budgets: usize, minute: &Arc<CounterId>, now: Duration) -> Counters {
    let bounds = Bounds { budgets: 2 * budgets, ..Bounds::default() };
    let mut counters = Counters { budgets: Budgets::bounded(bounds), ..Counters::default() };
    for n in 0..u32::try_from(budgets).unwrap() {
        let _ = call(&mut counters, minute, caller(1_000 + n), 1, now).unwrap();
    }
    counters
}

#[test]
fn those_for_whom_there_is_no_room_share_one_budget() {
    let minute = minute();
    let mut counters = crowded(3, &minute, seconds(100));
    let _ = call(&mut counters, &minute, caller(1), 2, seconds(130)).unwrap();
    let _ = call(&mut counters, &minute, caller(2), 2, seconds(140)).unwrap();
    for n in 1..4 {
        assert_eq!(call(&mut counters, &minute, caller(n), 2, seconds(150)).unwrap_err(), full(Some(40)), "caller {n}");
    }
    assert_eq!(counters.fullest(seconds(150))[&minute], 2 * ONE_CALL);
}

#[test]
fn who_gets_a_budget_of_their_own_owes_what_was_shared() {
    let minute = minute();
    let mut counters = crowded(3, &minute, seconds(100));
    let _ = call(&mut counters, &minute, caller(1), 2, seconds(130)).unwrap();
    let _ = call(&mut counters, &minute, caller(1), 2, seconds(140)).unwrap();
    // At 160 there is room: the others' calls are of a minute ago. A budget that owed nothing would grant two more.
    assert_eq!(call(&mut counters, &minute, caller(1), 2, seconds(170)).unwrap_err(), full(Some(20)));
    assert_eq!(call(&mut counters, &minute, caller(1), 2, Duration::from_millis(189_999)).unwrap_err(), full(Some(1)));
    let _ = call(&mut counters, &minute, caller(1), 2, seconds(190)).unwrap();
    assert_eq!(
        call(&mut counters, &minute, caller(1), 2, seconds(190)).unwrap_err(),
        full(Some(10)),
        "until the shared call of 140 is gone"
    );
    let _ = call(&mut counters, &minute, caller(1), 2, seconds(200)).unwrap();
    assert!(call(&mut counters, &minute, caller(1), 2, seconds(200)).is_err());
}

#[test]
fn a_refund_finds_what_was_taken_from_the_shared_budget_and_is_owed_since() {
    let minute = minute();
    let mut counters = crowded(3, &minute, seconds(100));
    let early = call(&mut counters, &minute, caller(1), 3, seconds(130)).unwrap();
    let other = call(&mut counters, &minute, caller(2), 3, seconds(140)).unwrap();
    let own = call(&mut counters, &minute, caller(1), 3, seconds(170)).unwrap();
    assert_eq!(used(&mut counters, &minute, caller(1), seconds(170)), 3 * ONE_CALL);
    counters.refund(early);
    assert_eq!(used(&mut counters, &minute, caller(1), seconds(170)), 2 * ONE_CALL);
    assert_eq!(used(&mut counters, &minute, caller(3), seconds(170)), ONE_CALL, "what newcomers owe is less as well");
    counters.refund(own);
    assert_eq!(used(&mut counters, &minute, caller(1), seconds(170)), ONE_CALL);
    counters.refund(other);
    assert_eq!(used(&mut counters, &minute, caller(3), seconds(170)), 0);
    assert_eq!(used(&mut counters, &minute, caller(1), seconds(170)), ONE_CALL, "stays owed, as the caller's own might");
}

#[test]
fn who_was_known_when_the_call_was_checked_owes_nothing_of_others() {
    let (minute, other) = (minute(), counter_named("other", 60));
    let mut counters = crowded(3, &minute, seconds(100));
    // All others go on calling; those without room have used up what they share.
    for n in 1_001..1_003 {
        let _ = call(&mut counters, &minute, caller(n), 3, seconds(150)).unwrap();
    }
    for _ in 0..2 {
        let _ = call(&mut counters, &minute, caller(1), 2, seconds(150)).unwrap();
    }
    // The budget of caller 1,000 is empty again. To call once more they need room for another counter as well.
    let claims = [&other, &minute].map(|counter| Claim { counter, owner: caller(1_000), max: 2 * ONE_CALL, amount: ONE_CALL });
    for claim in &claims {
        assert_eq!(counters.check(claim, seconds(160)), Ok(()));
    }
    let _ = counters.take(claims.into(), seconds(160));
    for counter in [&other, &minute] {
        assert_eq!(used(&mut counters, counter, caller(1_000), seconds(160)), ONE_CALL);
    }
}

#[test]
fn sharing_ends_with_the_flood_though_newcomers_never_cease() {
    let minute = minute();
    let mut counters = crowded(3, &minute, seconds(100));
    for n in 0..2 {
        let _ = call(&mut counters, &minute, caller(n), 2, seconds(150)).unwrap();
    }
    // From 160 on there is room, and at 210 nothing is owed any more.
    for n in 2..100_u32 {
        let now = seconds(180 + 30 * u64::from(n));
        let own = (0..4).filter(|_| call(&mut counters, &minute, caller(n), 2, now).is_ok()).count();
        assert_eq!(own, 2, "caller {n}");
    }
}

#[test]
fn budgets_are_forgotten_as_fast_as_others_come() {
    let (mut counters, minute) = (Counters::default(), minute());
    for n in 0..200_000 {
        // A hundred newcomers each second.
        let _ = call(&mut counters, &minute, caller(n), 1, Duration::from_millis(10 * u64::from(n))).unwrap();
        assert!(Bounds::default().budgets - counters.budgets.free() <= 12_000, "{n}");
    }
}

#[test]
fn all_budgets_are_looked_at_only_where_there_is_no_room_and_at_most_once_a_second() {
    let minute = minute();
    let mut counters = crowded(100, &minute, seconds(100));
    assert_eq!(counters.swept, 0, "there was room");
    for (millis, swept) in [(130_000, 130_000), (130_999, 130_000), (131_000, 131_000), (131_001, 131_000)] {
        let _ = call(&mut counters, &minute, caller(1), 9, Duration::from_millis(millis)).unwrap();
        assert_eq!(Duration::from_nanos(counters.swept), Duration::from_millis(swept));
    }
}

#[test]
fn newcomers_give_back_memory_that_others_do_not_need() {
    let (mut counters, minute) = (Counters::default(), minute());
    for millis in 0..900 {
        let _ = call(&mut counters, &minute, caller(0), 1_000, Duration::from_millis(millis)).unwrap();
    }
    let _ = call(&mut counters, &minute, caller(0), 1_000, seconds(30)).unwrap();
    let (_, before) = counters.budgets.size();
    for n in 1..10 {
        let _ = call(&mut counters, &minute, caller(n), 1_000, seconds(61)).unwrap();
    }
    let (_, after) = counters.budgets.size();
    assert!(after < before / 2, "{before} bytes, then {after}");
    assert_eq!(used(&mut counters, &minute, caller(0), seconds(61)), ONE_CALL);
}

#[test]
fn counters_of_policies_that_are_gone_are_forgotten() {
    let mut counters = Counters::default();
    for n in 0..5_000 {
        for owner in [None, caller(1)] {
            let gone = counter_named(&format!("{n}{}", owner.is_none()), 60);
            let _ = call(&mut counters, &gone, owner, 1, seconds(60 * n)).unwrap();
        }
        assert!(counters.series.len() <= 32, "{}", counters.series.len());
    }
    assert!(counters.budgets.size().0 <= 32);
}

#[test]
fn a_counter_that_was_away_with_its_policy_is_as_it_was() {
    let mut counters = Counters::default();
    let both = |name: &str, window| [None, caller(1)].map(|owner| (counter_named(&format!("{name} {owner:?}"), window), owner));
    for (gone, owner) in both("gone", 3_600) {
        let _ = call(&mut counters, &gone, owner, 1, seconds(0)).unwrap();
    }
    for n in 0..1_000 {
        for (other, owner) in both(&n.to_string(), 1) {
            let _ = call(&mut counters, &other, owner, 1, seconds(n)).unwrap();
        }
    }
    for (gone, owner) in both("gone", 3_600) {
        assert_eq!(call(&mut counters, &gone, owner, 1, seconds(3_599)).unwrap_err(), full(Some(1)));
    }
    for (gone, owner) in both("gone", 3_600) {
        assert!(call(&mut counters, &gone, owner, 1, seconds(3_600)).is_ok());
    }
}

#[test]
fn however_often_many_callers_call_memory_stays_bounded() {
    let bounds = Bounds { budgets: 200, words: 2_000 };
    let mut counters = Counters { budgets: Budgets::bounded(bounds), ..Counters::default() };
    for amount in [ONE_CALL, 3] {
        let counter = counter_named(&amount.to_string(), 3_600);
        for millis in 0..500 {
            for n in 0..100 {
                let _ = spend(&mut counters, &counter, caller(n), amount, 10_000 * ONE_CALL, Duration::from_millis(millis)).unwrap();
            }
            // The table, the words that are free to all, and for each budget 16 entries of 24 bytes with some room for more.
            let (count, bytes) = counters.budgets.size();
            assert!(bytes <= 256 * 65 + 16 + 8 * 2_000 + count * 21 * 24, "{bytes} bytes for {count} budgets");
        }
    }
    for amount in [ONE_CALL, 3] {
        assert_eq!(used(&mut counters, &counter_named(&amount.to_string(), 3_600), caller(0), seconds(1)), 500 * amount);
    }
}

#[test]
fn memory_of_calls_that_expired_makes_nothing_less_exact() {
    let bounds = Bounds { budgets: 200, words: 400 };
    let (mut counters, minute) = (Counters { budgets: Budgets::bounded(bounds), ..Counters::default() }, minute());
    for n in 0..300 {
        let _ = call(&mut counters, &minute, caller(n % 60), 1_000, Duration::from_millis(u64::from(n))).unwrap();
    }
    assert!(counters.budgets.are_short_of_memory());
    // One caller goes on. Others are forgotten though nobody is new, until there is room again.
    for n in 0..300 {
        let _ = call(&mut counters, &minute, caller(0), 1_000, seconds(61) + Duration::from_millis(n)).unwrap();
    }
    assert!(counters.budgets.size().0 < 60 && !counters.budgets.are_short_of_memory());
    assert_eq!(call(&mut counters, &minute, caller(0), 300, seconds(120)).unwrap_err(), full(Some(1)));
    for n in 0..300 {
        let claim = Claim { counter: &minute, owner: caller(0), max: 300 * ONE_CALL, amount: u128::from(n + 1) * ONE_CALL };
        assert_eq!(counters.check(&claim, seconds(121) + Duration::from_millis(n)), Ok(()), "{n}");
        let claim = Claim { amount: claim.amount + ONE_CALL, ..claim };
        assert!(n == 299 || counters.check(&claim, seconds(121) + Duration::from_millis(n)).is_err(), "{n}");
    }
}
