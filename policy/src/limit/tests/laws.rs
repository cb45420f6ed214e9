//! The laws, on generated calls. The model keeps every call for ever and adds up by hand.

use proptest::prelude::*;

use super::*;

/// Two windows, so that counters do not fill and empty together.
const WINDOWS: [u64; 2] = [1, 3];

/// One thing that happens.
#[derive(Clone, Debug)]
struct Step {
    /// Nanoseconds since the step before; below 0: the clock steps back.
    after: i64,
    counter: usize,
    owner: u32,
    amount: u128,
    max: u128,
    /// Which earlier call is given back, if that is still to happen.
    refund: Option<usize>,
}

fn steps(owners: u32, max: impl Strategy<Value = u128> + Clone + 'static) -> impl Strategy<Value = Vec<Step>> {
    let second = 1_000_000_000_i64;
    let after = prop_oneof![
        2 => Just(0),
        2 => 0..second,
        1 => Just(second / 2),
        1 => Just(second),
        1 => Just(1),
        1 => -second..0,
        1 => Just(3 * second),
    ];
    let amount = prop_oneof![
        6 => Just(ONE_CALL),
        1 => Just(0),
        1 => Just(1),
        2 => Just(ONE_CALL / 10),
        1 => Just(2 * ONE_CALL),
        1 => 0..3 * ONE_CALL,
        1 => Just(u128::MAX),
    ];
    // A counter whose amounts are all 1 keeps less of each call.
    let amount =
        (any::<bool>(), prop::collection::vec((amount, after, 0..WINDOWS.len(), 0..owners, max, prop::option::of(0..60_usize)), 1..60));
    amount.prop_map(|(plain, steps)| {
        steps
            .into_iter()
            .map(|(amount, after, counter, owner, max, refund)| Step {
                after,
                counter,
                owner,
                amount: if plain { ONE_CALL } else { amount },
                max,
                refund,
            })
            .collect()
    })
}

/// A call that passed.
#[derive(Debug)]
struct Passed {
    counter: usize,
    owner: u32,
    at: u64,
    amount: u128,
    /// Until it is given back.
    counts: bool,
}

#[derive(Default)]
struct Model(Vec<Passed>);

impl Model {
    fn window(counter: usize) -> u64 {
        WINDOWS[counter] * 1_000_000_000
    }

    fn used(&self, counter: usize, owner: u32, now: u64) -> u128 {
        let same = self.0.iter().filter(|call| call.counts && (call.counter, call.owner) == (counter, owner));
        same.filter(|call| now - call.at < Self::window(counter)).map(|call| call.amount).sum()
    }

    /// What its owner was granted in the half-open interval of a window's length that begins with a call.
    fn used_from(&self, first: &Passed) -> u128 {
        let same = self.0.iter().filter(|call| call.counts && (call.counter, call.owner) == (first.counter, first.owner));
        same.filter(|call| call.at >= first.at && call.at - first.at < Self::window(first.counter)).map(|call| call.amount).sum()
    }

    fn fits(&self, step: &Step, now: u64) -> bool {
        step.amount == 0 || self.used(step.counter, step.owner, now).checked_add(step.amount).is_some_and(|sum| sum <= step.max)
    }

    /// The first moment at which it fits, if ever: one at which a call leaves the window.
    fn free_at(&self, step: &Step, now: u64) -> Option<u64> {
        let leaves = self.0.iter().map(|call| call.at + Self::window(step.counter)).filter(|leaves| *leaves > now);
        leaves.filter(|leaves| self.fits(step, *leaves)).min()
    }
}

fn counter(n: usize) -> Arc<CounterId> {
    counter_named(&format!("c{n}"), WINDOWS[n])
}

fn at(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// Long enough for every step back to stay after the start.
const START: i64 = 100_000_000_000;

fn cases() -> ProptestConfig {
    // `PROPTEST_CASES` is what proptest itself reads for the default.
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1_000), ..default }
}

proptest! {
    #![proptest_config(cases())]

    /// Budgets, waits and refunds are those of the model, whatever happens to `max` in between: that is the law of windows, exact
    /// waits and exact refunds.
    #[test]
    fn the_limiter_agrees_with_the_slow_model(steps in steps(2, prop_oneof![Just(0), Just(ONE_CALL), Just(3 * ONE_CALL), 0..5 * ONE_CALL])) {
        let (mut counters, mut model) = (Counters::default(), Model::default());
        let mut reservations: Vec<Option<Reservation>> = Vec::new();
        let (mut clock, mut latest) = (START, 0);
        for step in &steps {
            clock += step.after;
            let told = u64::try_from(clock).unwrap();
            latest = latest.max(told);
            if let Some(i) = step.refund
                && let Some(reservation) = reservations.get_mut(i).and_then(Option::take)
            {
                counters.refund(reservation);
                model.0[i].counts = false;
            }
            let counter = counter(step.counter);
            match spend(&mut counters, &counter, caller(step.owner), step.amount, step.max, at(told)) {
                Ok(reservation) => {
                    prop_assert!(model.fits(step, latest), "{step:?} passed");
                    reservations.push(Some(reservation));
                    model.0.push(Passed { counter: step.counter, owner: step.owner, at: latest, amount: step.amount, counts: true });
                }
                Err(Full { retry_after_seconds }) => {
                    prop_assert!(!model.fits(step, latest), "{step:?} was refused");
                    let wait = model.free_at(step, latest).map(|free| (free - latest).div_ceil(1_000_000_000));
                    prop_assert_eq!(retry_after_seconds, wait, "{:?}", step);
                }
            }
            let fullest = counters.fullest(at(told));
            for n in 0..WINDOWS.len() {
                let model: Vec<_> = (0..2).map(|owner| model.used(n, owner, latest)).collect();
                for owner in [0, 1] {
                    prop_assert_eq!(used(&mut counters, &self::counter(n), caller(owner), at(told)), model[owner as usize]);
                }
                prop_assert_eq!(fullest.get(&self::counter(n)).copied().unwrap_or(0), *model.iter().max().unwrap());
            }
        }
        // The promise is kept to the millisecond.
        if let Some(last) = steps.last()
            && let Some(free) = model.free_at(last, latest).filter(|_| !model.fits(last, latest))
        {
            let counter = counter(last.counter);
            let claim = Claim { counter: &counter, owner: caller(last.owner), max: last.max, amount: last.amount };
            if free - latest > 1_000_000 {
                prop_assert!(counters.check(&claim, at(free - 1_000_000)).is_err());
            }
            prop_assert!(counters.check(&claim, at(free)).is_ok());
        }
    }

    /// Few budgets for more callers: some share one. What a caller is granted stays within the law, and each has all of `max` again
    /// once nobody has called for a window.
    #[test]
    fn a_crowd_is_granted_no_more(steps in steps(5, Just(3 * ONE_CALL)), budgets in 0..12_usize, words in prop_oneof![Just(0), Just(40), Just(1 << 20)]) {
        let mut counters = Counters { budgets: Budgets::bounded(Bounds { budgets, words }), ..Counters::default() };
        let mut passed: Vec<Passed> = Vec::new();
        let mut reservations: Vec<Option<Reservation>> = Vec::new();
        let (mut clock, mut latest) = (START, 0);
        for step in &steps {
            clock += step.after;
            let told = u64::try_from(clock).unwrap();
            latest = latest.max(told);
            if let Some(i) = step.refund
                && let Some(reservation) = reservations.get_mut(i).and_then(Option::take)
            {
                let before = used(&mut counters, &counter(passed[i].counter), caller(passed[i].owner), at(told));
                counters.refund(reservation);
                let after = used(&mut counters, &counter(passed[i].counter), caller(passed[i].owner), at(told));
                let counted = latest - passed[i].at < Model::window(passed[i].counter);
                prop_assert_eq!(before - after, if counted { passed[i].amount } else { 0 }, "a refund gives back what was taken");
                passed[i].counts = false;
            }
            if let Ok(reservation) = spend(&mut counters, &counter(step.counter), caller(step.owner), step.amount, step.max, at(told)) {
                reservations.push(Some(reservation));
                passed.push(Passed { counter: step.counter, owner: step.owner, at: latest, amount: step.amount, counts: true });
            }
            prop_assert!(counters.budgets.size().0 <= budgets);
        }
        let model = Model(passed);
        for call in &model.0 {
            let used = model.used_from(call);
            prop_assert!(used <= 3 * ONE_CALL, "{used} in the window that begins with {call:?}");
        }
        // Calls of a window ago do not matter any more. A counter has at most half of all budgets.
        let apart = u32::try_from(budgets / 2).unwrap().clamp(1, 5);
        for owner in 0..apart {
            for _ in 0..3 {
                prop_assert!(call(&mut counters, &counter(1), caller(owner), 3, at(latest + Model::window(1))).is_ok(), "{}", owner);
            }
        }
    }
}
