//! The script in the store against counters in memory, on generated calls and a clock of the test's.

use std::time::Duration;

use mcp_policy::{Call, Caller, Counters, Decision, Found, Outcome, Policies, PolicyId, Reservation, ServerName, Want, compile, read};
use mcp_policy_sidecar::store::script::{self, Keys, Receipt, Script};
use proptest::prelude::*;
use redis::{Connection, Value};
use serde_json::json;

use crate::server::Redis;

/// A store whose clock the test sets.
struct Clocked(Connection);

impl Clocked {
    fn run(&mut self, script: &Script, keys: &[String], arguments: &[String], now: Duration) -> Value {
        let clock = format!("{{'{}', '{}'}}", now.as_secs(), now.subsec_micros());
        let text = script.text.replace("redis.call('TIME')", &clock);
        assert_ne!(text, script.text);
        redis::cmd("EVAL").arg(text).arg(keys.len()).arg(keys).arg(arguments).query(&mut self.0).unwrap()
    }

    fn ask(&mut self, keys: &Keys, wants: &[Want], now: Duration) -> (Vec<Found>, Receipt) {
        let (names, arguments) = script::take(keys, "", wants);
        let answer: Vec<i64> = redis::from_redis_value(self.run(&script::TAKE, &names, &arguments, now)).unwrap();
        let answer = script::taken(keys, wants, &answer).unwrap();
        (answer.found, answer.receipt)
    }
}

fn told(outcome: &Outcome) -> String {
    match &outcome.decision {
        Decision::Allowed(_) => "allowed".to_owned(),
        Decision::Refused(refusal) => format!("{} {:?} {:?}", refusal.code, refusal.counter, refusal.retry_after_seconds),
    }
}

/// What happens: microseconds since the call before (below 0: the clock steps back), the amount, whose call it is, which earlier one is
/// given back.
fn steps() -> impl Strategy<Value = Vec<(i64, String, bool, Option<usize>)>> {
    let after =
        prop_oneof![3 => Just(0), 3 => 0..1_000_000_i64, 1 => Just(1_000_000), 1 => Just(1), 1 => -500_000..0_i64, 1 => Just(3_000_000)];
    let amount = prop_oneof![
        4 => Just("1".to_owned()),
        1 => Just("0".to_owned()),
        1 => Just("0.000000000000000001".to_owned()),
        1 => Just("0.999999999999999999".to_owned()),
        2 => (0..3_u64, 0..1_000_000_000_u64).prop_map(|(whole, rest)| format!("{whole}.{rest:09}")),
        1 => Just("9007199254740991".to_owned()),
    ];
    prop::collection::vec((after, amount, any::<bool>(), prop::option::weighted(0.2, 0..30_usize)), 1..40)
}

#[test]
fn the_script_counts_as_memory_does() {
    let redis = Redis::start(&[]);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() });
    let maxima = prop_oneof![Just("3"), Just("0"), Just("2.5"), Just("9007199254740990"), Just("0.000000000000002")];

    runner
        .run(&(steps(), maxima, any::<u32>()), |(steps, max, nth)| {
            let max: serde_json::Number = serde_json::from_str(max).unwrap();
            let calls = max.as_u64().unwrap_or(2);
            let document = json!({"tools": {"t": {"limits": [
                {"counter": "sum", "window": 1, "max": max, "incrementFrom": "args.n"},
                {"counter": "calls", "window": 3, "max": calls.max(4)},
            ]}}});
            let policies = Policies::new(vec![compile(PolicyId::new(Some("ns"), "p"), &read::document(&document).unwrap()).unwrap()]);

            let keys = Keys::of(&format!("n{nth}-{}", steps.len()));
            let mut store = Clocked(client.get_connection().unwrap());
            let mut counters = Counters::default();
            let mut taken: Vec<Option<(Reservation, Receipt)>> = Vec::new();
            // Long after the store was met.
            let mut clock = 1_790_000_000_000_000_i64;
            store.run(&script::MEET, &[keys.known().to_owned()], &[String::new()], Duration::from_secs(1));
            let mut latest = clock;
            for (after, amount, other, refund) in steps {
                clock += after;
                latest = latest.max(clock);
                // In memory time never goes back for any budget; in the store, for none that was taken from.
                let now = Duration::from_micros(u64::try_from(latest).unwrap());
                if let Some((reservation, receipt)) = refund.and_then(|nth| taken.get_mut(nth)).and_then(Option::take) {
                    counters.refund(reservation);
                    let (names, arguments) = script::refund(&keys, "", &receipt);
                    store.run(&script::REFUND, &names, &arguments, now);
                }
                let caller = Caller::anonymous(if other { "10.0.0.2" } else { "10.0.0.1" }.parse().unwrap());
                let arguments = format!(r#"{{"n": {amount}}}"#);
                let server = ServerName { namespace: "ns", name: "pod" };
                let call = Call { tool: "t", arguments: &arguments, caller: &caller, session: None, server };
                let judged = policies.judge(&call);
                let (found, receipt) = store.ask(&keys, &judged.wants(), now);
                let there = judged.conclude(&found);
                let here = policies.judge(&call).reserve(&mut counters, now);
                prop_assert_eq!(told(&there), told(&here), "{} of {} at {}", amount, max, latest);
                if let Decision::Allowed(allowed) = here.decision {
                    taken.push(Some((allowed.reservation, receipt)));
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn above_a_thousand_calls_a_window_a_call_is_held_by_one_percent_at_the_most_and_none_passes_early() {
    let redis = Redis::start(&[]);
    let mut store = Clocked(redis::Client::open(redis.url()).unwrap().get_connection().unwrap());
    let (keys, window, max) = (Keys::of("ns"), Duration::from_secs(10), 3_000);
    let want = Want {
        budget: "b".to_owned(),
        window,
        amount: 1_000_000_000_000_000_000,
        max: max * 1_000_000_000_000_000_000,
        group: 0,
        takes: true,
        on_store_error: mcp_policy::document::OnStoreError::Deny,
    };
    let start = Duration::from_secs(1_790_000_000);
    store.run(&script::MEET, &[keys.known().to_owned()], &[String::new()], Duration::from_secs(1));
    let at = |n: u32| start + Duration::from_millis(u64::from(n));
    let mut passes = |now| store.ask(&keys, std::slice::from_ref(&want), now).0 == [Found::Room];
    assert!((0..3_000).all(|n| passes(at(n))));
    assert!(!passes(at(3_000)), "it is full");
    assert!(!passes(start + window.saturating_sub(Duration::from_micros(1))), "nothing has left the window");
    let late = window / 100;
    for n in (0..3_000).step_by(10) {
        // Ten calls have left the window by then, all but what is held by a hundredth of it.
        let now = at(n) + window + late;
        assert!((0..10).all(|_| passes(now)), "at {n}");
    }
    let entries: u32 = redis.cli(&["hlen", "mcp-policy:{ns}:b"]).parse().unwrap();
    assert!(entries <= 1_004 + 1, "{entries}");
}
