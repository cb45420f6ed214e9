//! The language's laws, on generated policies and calls. Alphabets are small, so that patterns match, conditions hold and counters
//! fill. `PROPTEST_CASES` sets how many runs each law sees; `make test-long` asks for a million calls.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod reference;

use std::collections::HashMap;
use std::time::Duration;

use mcp_policy::document::{
    Action, ApproveIf, Arguments, Condition, DefaultAction, DenyIf, Document, Limit, MethodAction, OnStoreError, Op, RateLimit, Rule,
    Scope, Version, Window,
};
use mcp_policy::{Approvals, Call, Caller, Code, Counters, Decision, Mode, Outcome, Policies, Policy, PolicyId, Refusal, ServerName};
use mcp_policy::{compile, read};
use proptest::prelude::*;
use reference::{Reference, Step};
use serde_json::{Number, Value, json};

fn pattern() -> impl Strategy<Value = String> {
    "[ab*?]{1,3}"
}

/// Tenths, some of them beyond what servers read alike.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (-2_i64..12).prop_map(Value::from),
        3 => (-2_i64..12).prop_map(|whole| serde_json::from_str(&format!("{whole}.5")).unwrap()),
        1 => prop::sample::select(vec![json!(9_007_199_254_740_992_i64), json!(9_007_199_254_740_993_i64), json!(-9_007_199_254_740_993_i64)]),
    ]
}

/// A number that a policy may hold.
fn wanted_number() -> impl Strategy<Value = Value> {
    prop_oneof![(0_i64..8).prop_map(Value::from), (0_i64..8).prop_map(|whole| serde_json::from_str(&format!("{whole}.5")).unwrap())]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::Bool), number(), "[ab]{0,2}".prop_map(Value::String)]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[abA]", inner, 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn arguments() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[abn]|[ABN]\\x00?", value(), 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn condition() -> impl Strategy<Value = Condition> {
    let wanted =
        || prop_oneof![wanted_number(), "[ab]{0,2}".prop_map(Value::String), Just(Value::Null), any::<bool>().prop_map(Value::Bool)];
    let compared = prop_oneof![
        (prop::sample::select(vec![Op::Eq, Op::Neq, Op::Contains]), wanted()),
        (prop::sample::select(vec![Op::In, Op::NotIn]), prop::collection::vec(wanted(), 1..3).prop_map(Value::Array)),
        (prop::sample::select(vec![Op::Lt, Op::Lte, Op::Gt, Op::Gte]), wanted_number()),
        (Just(Op::Regex), "\\^[ab]{1,2}".prop_map(Value::String)),
        (Just(Op::Exists), any::<bool>().prop_map(Value::Bool)),
    ];
    ("args(\\.[abn]|\\[0\\]|\\[\\*\\]){1,3}", compared).prop_map(|(path, (op, value))| Condition {
        path: Some(path),
        op: Some(op),
        value: Some(value),
        cel: None,
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![6 => Just(Action::Allow), 1 => Just(Action::Approve), 1 => Just(Action::Deny), 1 => Just(Action::Hide)];
    // A counter's name says all of the limit, so that rules which share one always agree.
    let scope = prop_oneof![Just(Scope::Grant), Just(Scope::Session), Just(Scope::Server)];
    let limit = (1u64..4, 0u64..4, scope, prop::bool::weighted(0.3)).prop_map(|(seconds, max, scope, amounts)| Limit {
        counter: format!("{seconds}-{max}-{}-{amounts}", scope.as_str()),
        window: Window::Seconds(seconds),
        max: Number::from(max),
        scope,
        increment_from: amounts.then(|| "args.n".to_owned()),
        on_store_error: OnStoreError::Deny,
    });
    let rate_limit = prop::option::of((1u64..4, 0u64..4).prop_map(|(seconds, max)| RateLimit { max, window: Window::Seconds(seconds) }));
    let deny_if = prop::collection::vec(condition(), 1..3).prop_map(|conditions| DenyIf { conditions, reason: None });
    let bytes =
        prop::option::weighted(0.2, 0u64..60).prop_map(|max_bytes| max_bytes.map(|max| Arguments { schema: None, max_bytes: Some(max) }));
    let approve_if = prop::collection::vec(condition(), 1..3);
    let approve_if = approve_if.prop_map(|conditions| ApproveIf { conditions, reason: None, timeout: None });
    let entries = (prop::collection::vec(deny_if, 0..2), prop::collection::vec(approve_if, 0..2));
    let on_arguments = (bytes, prop::collection::vec(condition(), 0..2), entries);
    (action, prop::option::of("[a-z]{0,5}"), prop::option::weighted(0.4, on_arguments), prop::collection::vec(limit, 0..3), rate_limit)
        .prop_map(|(action, reason, on_arguments, limits, rate_limit)| {
            let (arguments, require, (deny_if, approve_if)) = on_arguments.unwrap_or_default();
            Rule { action, reason, arguments, require, deny_if, approve_if, limits, rate_limit }
        })
}

fn document() -> impl Strategy<Value = Document> {
    let method = prop_oneof![Just(MethodAction::Allow), Just(MethodAction::Deny)];
    (
        prop_oneof![Just(DefaultAction::Deny), Just(DefaultAction::Allow)],
        prop::collection::vec(pattern(), 0..2),
        prop::option::weighted(0.3, rule()),
        prop::collection::btree_map(pattern(), rule(), 0..5),
        prop::collection::btree_map(pattern(), method, 0..3),
    )
        .prop_map(|(default, hide, all_tools, tools, methods)| Document {
            version: Version::V1,
            default,
            hide,
            all_tools,
            tools,
            methods,
            approvals: None,
        })
}

fn step() -> impl Strategy<Value = Step> {
    (0u64..3, "[ab]{1,2}", arguments(), 0u8..2, prop::option::of(0u8..2), prop::bool::weighted(0.2))
        .prop_map(|(after, tool, arguments, caller, session, refunded)| Step { after, tool, arguments, caller, session, refunded })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..40)
}

fn compiled(documents: &[Document]) -> Vec<Policy> {
    documents.iter().enumerate().map(|(i, document)| compile(PolicyId::new(Some("ns"), &format!("p{i}")), document).unwrap()).collect()
}

const SERVER: ServerName<'static> = ServerName { namespace: "ns", name: "server-0" };

fn caller(n: u8) -> Caller {
    Caller::anonymous([10, 0, 0, n].into())
}

/// Decides one call of a run at this time.
fn decide(policies: &Policies, counters: &mut Counters, step: &Step, now: Duration) -> Outcome {
    let session = step.session.map(|session| session.to_string());
    let arguments = step.arguments.to_string();
    let call = Call { tool: &step.tool, arguments: &arguments, caller: &caller(step.caller), session: session.as_deref(), server: SERVER };
    policies.decide(counters, &call, now)
}

/// What a call was told: its code, the policy and the rule, and the seconds to wait.
type Told = (Code, Option<String>, Option<String>, Option<u64>);

fn run(policies: &Policies, steps: &[Step]) -> Vec<Told> {
    let mut counters = Counters::default();
    let mut now = 0;
    let mut told = Vec::new();
    for step in steps {
        now += step.after;
        told.push(match decide(policies, &mut counters, step, Duration::from_secs(now)).decision {
            Decision::Allowed(allowed) => {
                if step.refunded {
                    counters.refund(allowed.reservation);
                }
                (Code::Allowed, allowed.policy.map(|policy| policy.to_string()), allowed.rule, None)
            }
            Decision::Refused(refusal) => {
                (refusal.code, refusal.policy.map(|policy| policy.to_string()), refusal.rule, refusal.retry_after_seconds)
            }
        });
    }
    told
}

fn cases() -> ProptestConfig {
    // proptest reads `PROPTEST_CASES` itself.
    let default = ProptestConfig::default();
    ProptestConfig { cases: if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 500 }, ..default }
}

proptest! {
    #![proptest_config(cases())]

    /// With it, no interval of a window sees more than `max`, and a refund gives back exactly what was taken.
    #[test]
    fn the_engine_agrees_with_the_obvious_reading(documents in prop::collection::vec(document(), 1..3), steps in steps()) {
        let told = run(&Policies::new(compiled(&documents)), &steps);
        let mut reference = Reference { documents: &documents, calls: HashMap::new() };
        let mut now = 0;
        for (step, told) in steps.iter().zip(told) {
            now += step.after;
            let places = reference.admits(step, now);
            prop_assert_eq!(told.0 == Code::Allowed, places.is_some(), "{:?} at {}: {:?}", step, now, told);
            if step.refunded {
                for place in places.into_iter().flatten() {
                    reference.calls.get_mut(&place).unwrap().pop();
                }
            }
        }
    }

    #[test]
    fn adding_a_policy_never_allows_more(documents in prop::collection::vec(document(), 0..3), added in document(), step in step()) {
        let code = |documents: &[Document]| run(&Policies::new(compiled(documents)), std::slice::from_ref(&step))[0].0;
        let before = code(&documents);
        let after = code(&[documents, vec![added]].concat());
        prop_assert!(after != Code::Allowed || before == Code::Allowed || before == Code::NoPolicy);
    }

    #[test]
    fn adding_what_refuses_never_allows_more(document in document(), condition in condition(), hidden in pattern(), step in step()) {
        let allows = |document: &Document| run(&Policies::new(compiled(std::slice::from_ref(document))), std::slice::from_ref(&step))[0].0 == Code::Allowed;
        let changed = |change: &dyn Fn(&mut Document)| {
            let mut document = document.clone();
            change(&mut document);
            allows(&document)
        };
        let all = |change: &dyn Fn(&mut Rule)| changed(&|document| change(document.all_tools.get_or_insert_default()));
        let before = allows(&document);
        prop_assert!(before || !changed(&|document| document.hide.push(hidden.clone())));
        prop_assert!(before || !changed(&|document| document.default = DefaultAction::Deny));
        prop_assert!(before || !all(&|rule| rule.require.push(condition.clone())));
        let entry = || DenyIf { conditions: vec![condition.clone()], reason: None };
        prop_assert!(before || !all(&|rule| rule.deny_if.push(entry())));
        let asks = || ApproveIf { conditions: vec![condition.clone()], ..ApproveIf::default() };
        prop_assert!(before || !all(&|rule| rule.approve_if.push(asks())));
        let nothing = || Some(RateLimit { max: 0, window: Window::Seconds(1) });
        prop_assert!(before || !all(&|rule| rule.rate_limit = nothing()));
        let deny = || Some(Rule { action: Action::Deny, ..Rule::default() });
        prop_assert!(!changed(&|document| document.all_tools = deny()));
    }

    /// What waits for a person passes with what it waits for, as if the policies asked nobody; and without a piece of it never.
    #[test]
    fn an_approved_call_is_decided_as_if_nobody_were_asked(documents in prop::collection::vec(document(), 1..3), steps in steps()) {
        let policies = Policies::new(compiled(&documents));
        let free = documents.into_iter().map(|mut document| {
            for rule in document.tools.values_mut().chain(&mut document.all_tools) {
                rule.approve_if.clear();
                rule.action = if rule.action == Action::Approve { Action::Allow } else { rule.action };
            }
            document
        });
        let free = Policies::new(compiled(&free.collect::<Vec<_>>()));
        let (mut counters, mut free_counters) = (Counters::default(), Counters::default());
        let mut now = 0;
        for step in &steps {
            now += step.after;
            let at = Duration::from_secs(now);
            let arguments = step.arguments.to_string();
            let session = step.session.map(|session| session.to_string());
            let call = Call { tool: &step.tool, arguments: &arguments, caller: &caller(step.caller), session: session.as_deref(), server: SERVER };
            let allowed = match policies.decide(&mut counters, &call, at).decision {
                Decision::Refused(Refusal { code, waits_for, .. }) => {
                    prop_assert_eq!(code == Code::ApprovalRequired, waits_for.is_some());
                    let Some(approvals) = waits_for else { continue };
                    let without = Approvals { needed: approvals.needed[1..].to_vec(), ..*approvals.clone() };
                    let other = Approvals { arguments_sha256: "0".repeat(64), ..*approvals.clone() };
                    for wrong in [&without, &other] {
                        let decision = policies.judge(&call).approved(wrong).reserve(&mut counters, at).decision;
                        prop_assert!(matches!(decision, Decision::Refused(_)));
                    }
                    policies.judge(&call).approved(&approvals).reserve(&mut counters, at).decision
                }
                allowed @ Decision::Allowed(_) => allowed,
            };
            prop_assert!(matches!(allowed, Decision::Allowed(_)));
            let expected = free.decide(&mut free_counters, &call, at).decision;
            let told = |decision: &Decision| match decision {
                Decision::Allowed(allowed) => (allowed.policy.clone(), allowed.rule.clone()),
                Decision::Refused(refusal) => (refusal.policy.clone(), Some(refusal.code.to_string())),
            };
            prop_assert_eq!(told(&allowed), told(&expected));
        }
    }

    #[test]
    fn the_order_of_policies_never_matters(documents in prop::collection::vec(document(), 2..4), steps in steps()) {
        let forwards = compiled(&documents);
        let backwards = forwards.iter().rev().cloned().collect();
        prop_assert_eq!(run(&Policies::new(forwards), &steps), run(&Policies::new(backwards), &steps));
    }

    #[test]
    fn the_order_of_conditions_never_matters_to_the_answer(document in document(), steps in steps()) {
        let mut turned = document.clone();
        for rule in turned.tools.values_mut().chain(&mut turned.all_tools) {
            rule.require.reverse();
            rule.deny_if.reverse();
            rule.approve_if.reverse();
            rule.approve_if.iter_mut().for_each(|entry| entry.conditions.reverse());
            rule.deny_if.iter_mut().for_each(|entry| entry.conditions.reverse());
        }
        let codes = |document| run(&Policies::new(compiled(&[document])), &steps).into_iter().map(|told| told.0).collect::<Vec<_>>();
        prop_assert_eq!(codes(document), codes(turned));
    }

    #[test]
    fn a_policy_in_audit_mode_never_changes_an_answer(documents in prop::collection::vec(document(), 1..3), audited in document(), steps in steps()) {
        let enforced = compiled(&documents);
        let audit = compile(PolicyId::new(Some("ns"), "audit"), &audited).unwrap().in_mode(Mode::Audit);
        let with = [enforced.clone(), vec![audit]].concat();
        prop_assert_eq!(run(&Policies::new(with), &steps), run(&Policies::new(enforced), &steps));
    }

    /// A policy in audit mode says of each call what it would have said alone, as long as nobody else refuses any.
    #[test]
    fn a_policy_in_audit_mode_says_what_it_would_have_done(document in document(), steps in steps()) {
        let alone = run(&Policies::new(compiled(std::slice::from_ref(&document))), &steps);
        let audit = Policies::new(compiled(std::slice::from_ref(&document)).into_iter().map(|policy| policy.in_mode(Mode::Audit)).collect());
        let mut counters = Counters::default();
        let mut now = 0;
        for (step, alone) in steps.iter().zip(alone) {
            now += step.after;
            let outcome = decide(&audit, &mut counters, step, Duration::from_secs(now));
            let Decision::Allowed(allowed) = outcome.decision else { panic!("a policy in audit mode refused") };
            if step.refunded {
                counters.refund(allowed.reservation);
            }
            prop_assert_eq!(outcome.audited[0].code, alone.0);
            prop_assert!(alone.0 == Code::Allowed || outcome.audited[0].rule == alone.2);
        }
    }

    #[test]
    fn what_is_listed_is_what_no_rule_on_the_tool_refuses(document in document(), step in step()) {
        let policies = Policies::new(compiled(&[document]));
        let code = run(&policies, std::slice::from_ref(&step))[0].0;
        prop_assert_eq!(policies.lists(&caller(0), &step.tool), !matches!(code, Code::Hidden | Code::ToolDenied | Code::DefaultDeny));
    }

    #[test]
    fn a_refused_call_passes_after_the_seconds_that_it_was_told(document in document(), steps in steps()) {
        let policies = Policies::new(compiled(std::slice::from_ref(&document)));
        let mut counters = Counters::default();
        let mut now = 0;
        // Arguments that can be read in two ways never come here: the sidecar refuses such a call before any rule, so no limit tells it
        // when to come again.
        for step in steps.iter().filter(|step| mcp_policy::value::Value::parse(&step.arguments.to_string()).is_ok()) {
            now += step.after;
            if let Decision::Refused(refusal) = decide(&policies, &mut counters, step, Duration::from_secs(now)).decision
                && let Some(wait) = refusal.retry_after_seconds
            {
                prop_assert!(wait > 0);
                let early = decide(&policies, &mut counters, step, Duration::from_millis((now + wait) * 1000 - 1)).decision;
                prop_assert!(matches!(early, Decision::Refused(_)), "passed before the time it was told");
                now += wait;
                let retry = decide(&policies, &mut counters, step, Duration::from_secs(now)).decision;
                // Approval comes after limits: the call may wait for a person, or its `approveIf` be undecided.
                let waits = matches!(&retry, Decision::Refused(refusal) if matches!(refusal.code, Code::ApprovalRequired | Code::PolicyError));
                prop_assert!(waits || matches!(retry, Decision::Allowed(_)), "refused after the time it was told");
            }
        }
    }

    /// Whatever the clock does, and whatever is given back: what passed within a window by the latest time seen never exceeds `max`.
    #[test]
    fn no_window_sees_more_than_max_when_the_clock_steps_back(max in 0u64..4, seconds in 1u64..5, times in prop::collection::vec((0u64..20, any::<bool>()), 0..60)) {
        let document = json!({"tools": {"a": {"limits": [{"counter": "c", "window": seconds, "max": max}]}}});
        let policies = Policies::new(compiled(&[serde_json::from_value(document).unwrap()]));
        let (mut counters, mut latest, mut passed) = (Counters::default(), 0, Vec::new());
        let step = Step { after: 0, tool: "a".to_owned(), arguments: json!({}), caller: 0, session: None, refunded: false };
        for (time, refunded) in times {
            latest = latest.max(time);
            if let Decision::Allowed(allowed) = decide(&policies, &mut counters, &step, Duration::from_secs(time)).decision {
                if refunded {
                    counters.refund(allowed.reservation);
                } else {
                    passed.push(latest);
                }
            }
            let within = passed.iter().filter(|at| latest - **at < seconds).count() as u64;
            prop_assert!(within <= max, "{within} of {max}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_and_decides_the_same(document in document(), steps in steps()) {
        let again = read::document(&serde_json::to_value(&document).unwrap()).unwrap();
        prop_assert_eq!(&again, &document);
        prop_assert_eq!(run(&Policies::new(compiled(&[again])), &steps), run(&Policies::new(compiled(&[document])), &steps));
    }

    /// An explanation decides as the decision does, tells the rule that decided, and takes nothing from the counters.
    #[test]
    fn an_explanation_agrees_with_the_decision(documents in prop::collection::vec(document(), 1..3), steps in steps()) {
        let policies = Policies::new(compiled(&documents));
        let mut counters = Counters::default();
        let mut now = 0;
        for step in &steps {
            now += step.after;
            let at = Duration::from_secs(now);
            let arguments = step.arguments.to_string();
            let session = step.session.map(|session| session.to_string());
            let call = Call { tool: &step.tool, arguments: &arguments, caller: &caller(step.caller), session: session.as_deref(), server: SERVER };
            let (explained, trace) = policies.explain(&mut counters, &call, at);
            match (explained.decision, policies.decide(&mut counters, &call, at).decision) {
                (Decision::Refused(explained), Decision::Refused(decided)) => {
                    prop_assert_eq!(&explained, &decided);
                    let rule = decided.rule.unwrap_or_default();
                    let told = |step: &mcp_policy::Step| step.verdict != mcp_policy::Verdict::Passes && rule.starts_with(&step.pointer);
                    prop_assert!(trace.iter().any(told), "{} not in {:?}", rule, trace);
                }
                (Decision::Allowed(_), Decision::Allowed(_)) => {}
                (explained, decided) => prop_assert!(false, "{:?} but {:?}", explained, decided),
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(tools|limits|require|cel|path|window|: |\\{|\\}|\\[|\\]|\n|  |- |\\*|&a|\"|1|null|deny|args\\.a){0,30}") {
        if let Ok(manifests) = read::file("p.yaml", &text) {
            for manifest in manifests {
                let _ = compile(manifest.id, &manifest.document);
            }
        }
    }
}
