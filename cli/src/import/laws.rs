//! The law of the import: what the other product refuses, the imported policy refuses too, unless a comment in it says otherwise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use mcp_policy::{Call, Caller, Counters, Decision, Policies, ServerName, read};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::format::Format;
use super::{Imported, import};

mod there;

use there::{EXPRESSIONS, Step, There};

/// Stands at the top where some place of the policy says that it is weaker.
const WEAKER: &str = "\n# - WEAKER:";
const TOOLS: [&str; 3] = ["a", "b", "c"];

/// A value of a policy or of an argument. Values that print alike are many.
fn scalar() -> impl Strategy<Value = Value> {
    let alike = vec![
        vec![json!(null), json!("<nil>"), json!("null")],
        vec![json!(true), json!("true")],
        vec![json!(3), json!("3")],
        vec![json!(10), json!(10.0), json!("10")],
        vec![json!(0.5), json!("0.5")],
        vec![json!(1_000_000), json!("1000000"), json!("1e+06")],
        vec![json!(0.00001), json!("1e-05")],
        vec![json!("main"), json!(-1), json!(0), json!(false)],
    ];
    prop::sample::select(alike).prop_flat_map(prop::sample::select)
}

/// Values of which not all that print alike can be named.
fn composite() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!([3, 10]),
        json!([3, 10]),
        json!(["3", "10"]),
        json!("[3 10]"),
        json!({"b": 3}),
        json!({"b": "3"}),
        json!("map[b:3]"),
    ])
}

fn argument() -> impl Strategy<Value = Value> {
    let odd = prop::sample::select(vec![
        json!("\u{663}"),
        json!("\u{e9}t\u{e9}"),
        json!("feat/3"),
        json!("a main road"),
        json!("mainé"),
        json!("a\u{a0}b"),
        json!("\u{b}"),
        json!([]),
        json!(["main", null]),
        json!({"b": "main"}),
        json!({"b": null}),
        json!({"b": {"c": 1}}),
    ]);
    prop_oneof![3 => scalar(), 2 => composite(), 1 => odd]
}

fn arguments() -> impl Strategy<Value = Value> {
    let likely = || prop::option::weighted(0.9, argument());
    let unlikely = || prop::option::weighted(0.3, argument());
    (likely(), likely(), unlikely(), unlikely()).prop_map(|(a, b, odd, amount)| {
        let members = [("a", a), ("b", b), ("x y", odd), ("amount", amount)];
        members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    })
}

/// Which values that print alike can be listed.
#[derive(Clone, Copy, PartialEq)]
enum Alike {
    All,
    AllButElements,
    Some,
}

/// A condition on values of which so many that print alike can be listed.
fn condition(alike: Alike) -> BoxedStrategy<Value> {
    let regex = prop::sample::select(&EXPRESSIONS[..]);
    let plain = prop::sample::select(vec![json!("main"), json!("a")]);
    let contained = if alike == Alike::All { plain.boxed() } else { scalar().boxed() };
    let compared = if alike == Alike::Some { prop_oneof![scalar(), composite()].boxed() } else { scalar().boxed() };
    let (one, many) = (compared.clone(), compared);
    let test = prop_oneof![
        4 => (prop::sample::select(vec!["eq", "neq"]), one),
        4 => (prop::sample::select(vec!["in", "not_in"]), prop::collection::vec(many, 1..3).prop_map(Value::from)),
        1 => (prop::sample::select(vec!["lt", "lte", "gt", "gte"]), prop::sample::select(vec![json!(0), json!(3), json!(0.5), json!(10)])),
        2 => (Just("regex"), regex.prop_map(Value::from)),
        if alike == Alike::AllButElements { 20 } else { 3 } => (Just("contains"), contained),
        1 => (Just("exists"), any::<bool>().prop_map(Value::from)),
    ];
    let path = prop::sample::select(vec!["args.a", "args.a", "args.b", "args.b", "args.a.b", "args.a.b.c", "args.x y"]);
    (path, test).prop_map(|(path, (op, value))| json!({"path": path, "op": op, "value": value})).boxed()
}

fn window() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["minute", "hour"])
}

fn default(is_written: bool) -> impl Strategy<Value = Option<&'static str>> {
    let some = prop::sample::select(vec!["allow", "deny"]);
    if is_written { some.prop_map(Some).boxed() } else { prop::option::of(some).boxed() }
}

/// A file, from its parts; a part that is null is left out.
fn file(parts: Value) -> Value {
    let Value::Object(parts) = parts else { panic!("no object") };
    parts.into_iter().filter(|(_, part)| !part.is_null()).collect()
}

fn hide() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["c", "d", "d", "d", "*"]), 0..2)
}

fn gateway(alike: Alike) -> impl Strategy<Value = Value> {
    // A counter's name says all of the limit, so that those that share one agree.
    let limit = || {
        (window(), 0_u64..4, prop::sample::select(vec!["grant", "session", "server"])).prop_map(
            |(window, max, scope)| json!({"counter": format!("{window} {max} {scope}"), "window": window, "max": max, "scope": scope}),
        )
    };
    let denied = prop::collection::vec(condition(alike), 0..3).prop_map(|conditions| json!({"conditions": conditions, "on_deny": "no"}));
    let entry = (prop::collection::vec(condition(alike), 0..2), prop::collection::vec(denied, 0..2), prop::collection::vec(limit(), 0..2))
        .prop_map(|(require, deny_if, limits)| json!({"require": require, "deny_if": deny_if, "limits": limits}));
    let tools = prop::collection::btree_map(prop::sample::select(&TOOLS[..]), entry, 1..4);
    (default(true), hide(), prop::collection::vec(limit(), 0..2), tools).prop_map(|(default, hide, limits, tools)| {
        file(json!({"version": "1", "default": default, "hide": hide, "all_tools": {"limits": limits}, "tools": tools}))
    })
}

fn block() -> impl Strategy<Value = Value> {
    let limit = prop::option::of((0_u64..4, 1_u64..90).prop_map(|(max, window)| json!({"max": max, "window": window})));
    let action = prop::sample::select(vec!["allow", "allow", "allow", "deny", "approve", "hide"]);
    let entry = (action, limit).prop_map(|(action, limit)| file(json!({"action": action, "rate_limit": limit})));
    (default(false), hide(), prop::collection::btree_map(prop::sample::select(&TOOLS[..]), entry, 1..4))
        .prop_map(|(default, hide, tools)| file(json!({"default": default, "hide": hide, "tools": tools})))
}

fn proxy(alike: Alike) -> impl Strategy<Value = Value> {
    let asserted =
        move || prop::collection::vec(condition(alike), 1..3).prop_map(|conditions| json!({"name": "asserts", "conditions": conditions}));
    let asks = prop::collection::vec(condition(alike), 1..3)
        .prop_map(|conditions| json!({"action": "require_approval", "conditions": conditions}));
    let rate = (1_u64..4, window()).prop_map(|(count, window)| json!({"rate_limit": format!("{count}/{window}"), "on_deny": "slowly"}));
    let bound = prop::sample::select(vec![json!(1), json!(2), json!(4), json!(4.5), json!(7)]);
    let step =
        prop::sample::select(vec![json!({}), json!({"increment": 0}), json!({"increment": 2}), json!({"increment_from": "args.amount"})]);
    let counted = (window(), prop::sample::select(vec!["lt", "lte"]), bound, step, prop::option::of(condition(alike))).prop_map(
        |(window, op, value, mut state, other)| {
            state["counter"] = "count".into();
            state["window"] = window.into();
            let own = json!({"path": "state.<scope>.count", "op": op, "value": value});
            json!({"state": state, "conditions": other.into_iter().chain([own]).collect::<Vec<_>>()})
        },
    );
    let entry = (
        prop::collection::vec(
            prop_oneof![3 => asserted(), 2 => asks, 1 => Just(json!({"action": "deny"})), 1 => Just(json!({"action": "require_approval"}))],
            0..3,
        ),
        prop::option::of(rate),
        prop::option::of(counted),
    )
        .prop_map(|(rules, rate, counted)| json!({"rules": rules.into_iter().chain(rate).chain(counted).collect::<Vec<_>>()}));
    let key = prop::sample::select(vec!["a", "b", "c", "*"]);
    (default(false), hide(), prop::collection::btree_map(key, entry, 1..4)).prop_map(|(default, hide, mut tools)| {
        for (tool, entry) in &mut tools {
            let scope = if *tool == "*" { "_global" } else { tool };
            *entry = serde_json::from_str(&entry.to_string().replace("<scope>", scope)).unwrap();
        }
        file(json!({"version": "1", "default": default, "hide": hide, "tools": tools}))
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let after = prop::sample::select(vec![0_u64, 1, 29, 30, 59, 60, 1800, 3600]);
    let step = (after, prop::sample::select(&TOOLS[..]), arguments(), 0_u8..2, 0_u8..2, prop::bool::weighted(0.2));
    let step = step.prop_map(|(after, tool, arguments, caller, session, failed)| Step {
        after,
        tool: tool.to_owned(),
        arguments,
        caller,
        session,
        failed,
    });
    prop::collection::vec(step, 1..30)
}

/// Runs the calls through both. The other product sees those that the imported policy lets pass: it would stand behind it.
/// Gives how many passed, and the first that it would have refused.
fn run(format: Format, original: &Value, steps: &[Step]) -> (usize, Option<Step>, String) {
    let Imported { manifest, .. } =
        import("policy.json", "policy", &original.to_string()).unwrap_or_else(|errors| panic!("{original}\n{errors:?}"));
    let manifests = read::file("policy.yaml", &manifest).unwrap_or_else(|errors| panic!("{manifest}\n{errors:?}"));
    assert_eq!(manifests.len(), 1, "{manifest}");
    let document = &manifests[0].document;
    assert_eq!(&read::document(&serde_json::to_value(document).unwrap()).unwrap(), document, "{manifest}");
    let policies = Policies::new(vec![manifests[0].compile().unwrap_or_else(|errors| panic!("{manifest}\n{errors:?}"))]);

    let (mut counters, mut there) = (Counters::default(), There::new(format, original));
    let mut now = 1_000_000_003;
    let mut passed = 0;
    for step in steps {
        now += step.after;
        let arguments = step.arguments.to_string();
        let session = step.session.to_string();
        let call = Call {
            tool: &step.tool,
            arguments: &arguments,
            caller: &Caller::anonymous([10, 0, 0, step.caller].into()),
            session: Some(&session),
            server: ServerName { namespace: "n", name: "s" },
        };
        let Decision::Allowed(allowed) = policies.decide(&mut counters, &call, Duration::from_secs(now)).decision else { continue };
        let Some(taken) = there.admits(step, now) else { return (passed, Some(step.clone()), manifest) };
        passed += 1;
        if step.failed {
            counters.refund(allowed.reservation);
            there.give_back(&taken);
        }
    }
    (passed, None, manifest)
}

fn cases() -> Config {
    let default = Config::default();
    Config { cases: default.cases.max(2_000), ..default }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_gateway_json_refuses_is_refused(original in gateway(Alike::All), steps in steps()) {
        let (_, refused, manifest) = run(Format::Gateway, &original, &steps);
        prop_assert!(refused.is_none(), "{refused:?} passed\n{original}\n{manifest}");
        prop_assert!(!manifest.contains(WEAKER), "{}", manifest);
    }

    #[test]
    fn what_the_block_form_refuses_is_refused(original in block(), steps in steps()) {
        let (_, refused, manifest) = run(Format::Block, &original, &steps);
        prop_assert!(refused.is_none(), "{refused:?} passed\n{original}\n{manifest}");
    }

    #[test]
    fn what_proxy_yaml_refuses_is_refused(original in proxy(Alike::All), steps in steps()) {
        let (_, refused, manifest) = run(Format::Proxy, &original, &steps);
        prop_assert!(refused.is_none(), "{refused:?} passed\n{original}\n{manifest}");
        prop_assert!(!manifest.contains(WEAKER), "{}", manifest);
    }

    #[test]
    fn what_is_refused_there_alone_is_named_by_a_comment(original in prop_oneof![gateway(Alike::AllButElements), gateway(Alike::Some), proxy(Alike::Some)], steps in steps()) {
        let format = if original.get("all_tools").is_some() { Format::Gateway } else { Format::Proxy };
        let (_, refused, manifest) = run(format, &original, &steps);
        prop_assert!(refused.is_none() || manifest.contains(WEAKER), "{refused:?} passed\n{original}\n{manifest}");
    }
}

/// Else the laws would hold for an import that denies everything.
#[test]
fn calls_pass_in_each_of_the_laws() {
    let formats =
        [(Format::Gateway, gateway(Alike::All).boxed()), (Format::Block, block().boxed()), (Format::Proxy, proxy(Alike::All).boxed())];
    for (format, strategy) in formats {
        let mut runner = TestRunner::deterministic();
        let (mut passed, mut asked) = (0, 0);
        for _ in 0..200 {
            let original = strategy.new_tree(&mut runner).unwrap().current();
            let steps = steps().new_tree(&mut runner).unwrap().current();
            asked += steps.len();
            passed += run(format, &original, &steps).0;
        }
        assert!(passed * 8 > asked, "{format}: only {passed} of {asked} calls passed");
    }
}
