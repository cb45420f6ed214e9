//! What a decision costs, alone: `cargo bench -p mcp-policy`. The figures of docs/performance.md come from here.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking, and criterion's macros have no docs")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use mcp_policy::{Call, Caller, Counters, Document, Policies, PolicyId, ServerName, compile};
use serde_json::{Value, json};

const ARGUMENTS: &str = r#"{"bucket": "eu-west-1/reports", "amount": 12.5, "rows": [1, 2, 3], "note": "monthly"}"#;

fn document(value: Value) -> Document {
    serde_json::from_value(value).unwrap()
}

fn policies(value: Value) -> Policies {
    Policies::new(vec![compile(PolicyId::new(Some("ns"), "p"), &document(value)).unwrap()])
}

/// `count` exact rules, all but the called one beside the point, and eight limits on the called one.
fn rules(count: usize, called: &Value) -> Value {
    let mut tools: serde_json::Map<String, Value> = (1..count).map(|i| (format!("tool_{i}"), json!({"action": "deny"}))).collect();
    tools.insert("called".to_owned(), called.clone());
    json!({"tools": tools})
}

fn eight_limits() -> Value {
    let limits: Vec<Value> =
        (0..8).map(|i| json!({"counter": format!("c{i}"), "window": "minute", "max": 1_000_000_000, "scope": "grant"})).collect();
    json!({"limits": limits})
}

/// A decision whose counters are given back, so that each one finds the same.
fn decide(criterion: &mut Criterion, group: &str, parameter: &str, policies: &Policies, tool: &str) {
    let caller = Caller::anonymous([10, 0, 0, 1].into());
    let server = ServerName { namespace: "ns", name: "server-0" };
    let call = Call { tool, arguments: ARGUMENTS, caller: &caller, session: None, server };
    let mut counters = Counters::default();
    criterion.benchmark_group(group).bench_function(BenchmarkId::from_parameter(parameter), |bencher| {
        bencher.iter(|| {
            let outcome = policies.decide(&mut counters, black_box(&call), Duration::from_secs(1));
            if let mcp_policy::Decision::Allowed(allowed) = outcome.decision {
                counters.refund(allowed.reservation);
            }
        });
    });
}

fn decisions(criterion: &mut Criterion) {
    for count in [1, 50, 500] {
        decide(
            criterion,
            "eight limits and refund, by exact rules",
            &count.to_string(),
            &policies(rules(count, &eight_limits())),
            "called",
        );
    }
    let globs: serde_json::Map<String, Value> = (0..500).map(|i| (format!("tool_{i}_*"), json!({}))).collect();
    decide(criterion, "no rule matches, by globs", "500", &policies(json!({"tools": globs})), "called");
    let conditions = [
        ("one condition", json!({"require": [{"path": "args.amount", "op": "lte", "value": 100}]})),
        ("one regular expression", json!({"require": [{"path": "args.bucket", "op": "regex", "value": "^eu-west-1/"}]})),
        (
            "one schema",
            json!({"arguments": {"schema": {"type": "object", "properties": {"amount": {"type": "number", "maximum": 100}}, "required": ["amount"]}}}),
        ),
        ("one CEL condition", json!({"require": [{"cel": "args.amount <= 100.0 && args.bucket.startsWith('eu-')"}]})),
    ];
    for (name, rule) in conditions {
        decide(criterion, "rules on arguments", name, &policies(rules(500, &rule)), "called");
    }
}

fn compilation(criterion: &mut Criterion) {
    // No two alike: what is compiled once for all of them would flatter the figure.
    let conditions = |i: usize| {
        json!({
            "require": [{"path": "args.bucket", "op": "regex", "value": format!("^eu-[a-z]+-{i}/")}],
            "denyIf": [{"conditions": [{"cel": format!("args.amount > {i}")}]}],
            "limits": [{"counter": format!("c{i}"), "window": "day", "max": 500}]
        })
    };
    let schemas = |i: usize| {
        let bucket = json!({"type": "string", "pattern": format!("^eu-[a-z]+-{i}/")});
        json!({"arguments": {"schema": {"type": "object", "required": ["bucket"], "properties": {"bucket": bucket, "amount": {"maximum": i}}}}})
    };
    compile_500(criterion, "a regular expression, a CEL condition and a limit", conditions);
    compile_500(criterion, "a schema with a pattern", schemas);
}

fn compile_500(criterion: &mut Criterion, each: &str, rule: impl Fn(usize) -> Value) {
    let tools: serde_json::Map<String, Value> = (0..500).map(|i| (format!("tool_{i}"), rule(i))).collect();
    let written = document(json!({"tools": tools}));
    criterion.bench_function(&format!("compile 500 rules, each with {each}"), |bencher| {
        bencher.iter(|| compile(PolicyId::new(Some("ns"), "p"), black_box(&written)).unwrap());
    });
}

criterion_group!(benches, decisions, compilation);
criterion_main!(benches);
