//! `mcp-policy test` as its users run it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{folder, run, told};

const POLICY: &str = r#"apiVersion: mcp-policy.dev/v1alpha1
kind: McpPolicy
metadata: {name: calls, namespace: imaging}
spec:
  selector: {}
  hide: ["secret_*"]
  tools:
    start:
      reason: Ten a minute.
      limits:
        - {counter: starts, window: minute, max: 2}
    old: {action: deny, reason: Use start.}
  methods:
    "resources/*": deny
    "tools/*": allow
"#;

const CASES: &str = "defaults: {tool: start}
cases:
  - name: two pass
    repeat: 2
    listed: true
    expect: allowed
  - name: the third does not
    expect: {code: limit_exceeded, policy: imaging/calls, rule: /tools/start/limits/starts, counter: starts, retryAfterSeconds: 60, reason: Ten a minute.}
  - name: another caller has two of its own
    caller: 10.0.0.2
    expect: {code: allowed, rule: /tools/start, reason: null}
  - name: a call that did not run is given back
    caller: 10.0.0.2
    refund: true
    expect: allowed
  - name: so the next passes
    caller: 10.0.0.2
    expect: allowed
  - name: and the one after that does not
    caller: 10.0.0.2
    expect: limit_exceeded
  - name: half a minute later it still does not
    at: 59s
    expect: {code: limit_exceeded, retryAfterSeconds: 1}
  - name: a minute later it does
    at: 1m
    expect: allowed
  - name: empty counters
    fresh: true
    at: 0s
    repeat: 2
    expect: allowed
  - name: hidden
    call: {tool: secret_door}
    listed: false
    expect: hidden
  - name: denied
    call: {tool: old, arguments: {a: 1}}
    expect: {code: tool_denied, reason: Use start.}
  - name: unknown
    call: {tool: other}
    expect: default_deny
  - name: reading
    method: resources/read
    expect: {code: method_denied, rule: /methods/resources~1*}
  - name: listing
    method: tools/list
    expect: allowed
";

#[test]
fn a_case_can_be_decided_as_if_people_had_approved() {
    let policy = "tools:\n  pay: {action: approve, limits: [{counter: c, window: minute, max: 1}]}\n";
    let cases = "cases:
  - {name: it waits, call: {tool: pay}, expect: {code: approval_required, rule: /tools/pay/action}, listed: true}
  - {name: and takes nothing, call: {tool: pay}, approved: true, expect: allowed}
  - {name: nobody is asked about what could not pass, call: {tool: pay}, approved: true, expect: limit_exceeded}
";
    let folder = folder(&[("pay.yaml", policy), ("pay.test.yaml", cases)]);
    let (code, output, errors) = told(&run(folder.path(), &["test", "."]));
    assert_eq!(code, Some(0), "{output}{errors}");
}

#[test]
fn cases_that_hold_pass_and_time_and_counters_run_on() {
    let folder = folder(&[("policy.yaml", POLICY), ("policy.test.yaml", CASES)]);
    let (code, out, errors) = told(&run(folder.path(), &["test", ".", "--coverage", "--min-coverage", "100"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("policy.test.yaml: 14 cases\n  two pass ... ok\n  the third does not ... ok\n"), "{out}");
    assert!(out.ends_with("coverage of imaging/calls (policy.yaml): 7 of 7\ntest result: ok. 14 passed; 0 failed\n"), "{out}");
}

#[test]
fn a_case_that_fails_shows_what_differs_and_what_led_there() {
    let cases = "cases:
  - name: right
    call: {tool: start}
    expect: allowed
  - name: wrong
    call: {tool: old}
    listed: true
    expect: {code: allowed, reason: null}
";
    let folder = folder(&[("policy.yaml", POLICY), ("policy.test.yaml", cases)]);
    let (code, out, errors) = told(&run(folder.path(), &["test", "policy.test.yaml"]));
    assert_eq!((code, errors.as_str()), (Some(1), ""));
    assert_eq!(
        out,
        "policy.test.yaml: 2 cases
  right ... ok
  wrong ... FAILED
      at policy.test.yaml:5
      code: expected allowed, got tool_denied
      reason: expected none, got Use start.
      listed: expected true, got false
      the steps that led there:
        imaging/calls
          passes    /tools/old         the entry that matches old  (policy.yaml:12)
          refuses   /tools/old/action  the action is deny, whatever the arguments  (policy.yaml:12)
test result: FAILED. 1 passed; 1 failed
"
    );
    let (code, out, _) = told(&run(folder.path(), &["test", ".", "--output", "github"]));
    assert_eq!(code, Some(1));
    assert_eq!(
        out,
        "::error file=policy.test.yaml,line=5,col=5,title=wrong::code: expected allowed, got tool_denied%0Areason: expected none, got Use start.%0Alisted: expected true, got false\n\
         test result: FAILED. 1 passed; 1 failed\n"
    );
    let (code, out, _) = told(&run(folder.path(), &["test", ".", "--output", "json"]));
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(1));
    assert_eq!((&out["passed"], &out["failed"]), (&json!(1), &json!(1)));
    assert_eq!(
        out["files"][0]["cases"][1],
        json!({
            "name": "wrong", "line": 5, "passed": false,
            "differences": [
                {"field": "code", "expected": "allowed", "got": "tool_denied"},
                {"field": "reason", "expected": null, "got": "Use start."},
                {"field": "listed", "expected": true, "got": false},
            ],
            "steps": [
                {"policy": "imaging/calls", "pointer": "/tools/old", "verdict": "passes", "account": "the entry that matches old", "file": "policy.yaml", "line": 12},
                {"policy": "imaging/calls", "pointer": "/tools/old/action", "verdict": "refuses", "account": "the action is deny, whatever the arguments", "file": "policy.yaml", "line": 12},
            ],
        })
    );
}

#[test]
fn a_repeated_call_that_is_refused_too_early_fails() {
    let cases = "cases:\n  - name: five\n    call: {tool: start}\n    repeat: 5\n    expect: limit_exceeded\n";
    let folder = folder(&[("policy.yaml", POLICY), ("policy.test.yaml", cases)]);
    let (code, out, _) = told(&run(folder.path(), &["test", "."]));
    assert_eq!(code, Some(1));
    assert!(out.contains("      call 3 of 5: expected allowed, got limit_exceeded\n"), "{out}");
}

#[test]
fn what_no_case_exercises_is_told() {
    let cases = "cases:\n  - {name: start, call: {tool: start}, expect: allowed}\n";
    let folder = folder(&[("policy.yaml", POLICY), ("policy.test.yaml", cases)]);
    let (code, out, errors) = told(&run(folder.path(), &["test", ".", "--min-coverage", "50"]));
    assert_eq!((code, errors.as_str()), (Some(1), "error: the cases exercise 14 % of the policies; at least 50 % is wanted\n"));
    let expected = "coverage of imaging/calls (policy.yaml): 1 of 7
  policy.yaml:4: /default: no case makes it refuse
  policy.yaml:6: /hide/0: no case makes it refuse
  policy.yaml:14: /methods/resources~1*: no case makes it refuse
  policy.yaml:15: /methods/tools~1*: no case reaches it
  policy.yaml:12: /tools/old/action: no case makes it refuse
  policy.yaml:11: /tools/start/limits/starts: no case makes it refuse
test result: ok. 1 passed; 0 failed
";
    assert!(out.ends_with(expected), "{out}");
    let (code, out, _) = told(&run(folder.path(), &["test", ".", "--coverage", "--output", "github"]));
    assert_eq!(code, Some(0), "less coverage than nobody asked for is no failure");
    assert!(out.starts_with("::warning file=policy.yaml,line=4,col=1,title=imaging/calls::/default: no case makes it refuse\n"), "{out}");
}

#[test]
fn policies_are_those_that_the_file_names_else_those_beside_it() {
    let cluster = "apiVersion: mcp-policy.dev/v1alpha1\nkind: ClusterMcpPolicy\nmetadata: {name: guard}\nspec:\n  selector: {}\n  namespaceSelector: {}\n  mode: audit\n  hide: [start]\n  default: allow\n";
    let both = "policies: [../policy.yaml, bare.json, guard.yaml]\ncases:\n  - name: the bare document does not know it\n    call: {tool: start}\n    listed: false\n    expect: {code: default_deny, policy: bare.json, audited: {guard: hidden}}\n";
    let folder = folder(&[
        ("policy.yaml", POLICY),
        ("policy.test.yaml", "cases:\n  - {name: start, call: {tool: start}, expect: {code: allowed, policy: imaging/calls}}\n"),
        ("more/bare.json", r#"{"tools": {"stop": {}}}"#),
        ("more/guard.yaml", cluster),
        ("more/both.yaml", both),
        ("more/values.yaml", "apiVersion: v1\nkind: ConfigMap\n"),
    ]);
    let (code, out, errors) = told(&run(folder.path(), &["test", ".", "--coverage"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with("2 passed; 0 failed\n"), "{out}");
    assert_eq!(out.matches("coverage of imaging/calls (policy.yaml): ").count(), 1, "one file has one name: {out}");
}

#[test]
fn a_wrong_test_file_is_told_with_its_places() {
    let cases = [
        ("cases: []\n", "1:1: cases: holds no case"),
        ("cases:\n  - {nam: x, expect: allowed}\n", "2:6: cases[0].nam: unknown field; did you mean `name`?"),
        ("cases:\n  - {name: x, expect: allowed}\n", "2:5: cases[0]: asks nothing; write `call` or `method`"),
        ("cases:\n  - {name: x, call: {tool: a}}\n", "2:5: cases[0]: expects nothing; write `expect`, or `listed`"),
        ("cases:\n  - {name: x, call: {tool: a}, expect: deny-if}\n", "2:32: cases[0].expect: `deny-if` is not one of"),
        (
            "cases:\n  - {name: x, call: {tool: a}, expect: {cod: allowed}}\n",
            "2:41: cases[0].expect.cod: unknown field; did you mean `code`?",
        ),
        ("cases:\n  - {name: x, call: {}, expect: allowed}\n", "2:15: cases[0].call.tool: is required, here or in `defaults`"),
        ("cases:\n  - {name: x, call: {tool: a, arguments: [1]}, expect: allowed}\n", "2:31: cases[0].call.arguments: must be an object"),
        (
            "cases:\n  - {name: x, call: {tool: a}, caller: me, expect: allowed}\n",
            "2:32: cases[0].caller: `me` is neither an IP address nor a name like serviceaccount:namespace/name, key:name or jwt:issuer#subject, nor an object with `kind`",
        ),
        (
            "cases:\n  - {name: x, call: {tool: a}, at: soon, expect: allowed}\n",
            "2:32: cases[0].at: `soon` is not a time since the start: write one number and one of s, m, h and d, like 90s or 2h",
        ),
        ("cases:\n  - {name: x, call: {tool: a}, repeat: 0, expect: allowed}\n", "2:32: cases[0].repeat: must be from 1 to 100000"),
        (
            "cases:\n  - {name: x, method: tools/call, expect: allowed}\n",
            "2:15: cases[0].method: is written as `call`, with the tool and its arguments",
        ),
        (
            "cases:\n  - {name: x, method: ping, call: {tool: a}, expect: allowed}\n",
            "2:5: cases[0]: asks two things; write `call` or `method`",
        ),
        ("cases:\n  - {name: x, method: ping, repeat: 2, expect: allowed}\n", "2:29: cases[0].repeat: means nothing beside `method`"),
        (
            "cases:\n  - {name: x, call: {tool: a}, at: 1h, expect: allowed}\n  - {name: x, call: {tool: a}, at: 1s, expect: allowed}\n",
            "3:6: cases[1].name: a case named `x` is already in this file\nerror: t.test.yaml:3:32: cases[1].at: time does not run back: the case before is 3600 s after the start",
        ),
        ("policies: [no.yaml]\ncases:\n  - {name: x, call: {tool: a}, expect: allowed}\n", "1:12: policies: failed to read"),
        (
            "cases:\n  - {name: x, call: {tool: a}, expect: allowed}\n",
            ": no policy lies beside this file; name those that it tests under `policies`",
        ),
    ];
    for (text, expected) in cases {
        let folder = folder(&[("t.test.yaml", text)]);
        let (code, out, errors) = told(&run(folder.path(), &["test", "t.test.yaml"]));
        assert_eq!(code, Some(1), "{text}");
        let separator = if expected.starts_with(':') { "" } else { ":" };
        assert!(errors.starts_with(&format!("error: t.test.yaml{separator}{expected}")), "{text}\n{errors}");
        assert!(out.starts_with("test result: FAILED. 0 passed; 0 failed; "), "{out}");
    }
}

#[test]
fn what_is_wrong_with_a_policy_is_told_with_the_policys_places() {
    let folder = folder(&[
        ("policy.yaml", "tools:\n  t: {rateLimit: {max: 1, window: week}}\n"),
        ("policy.test.yaml", "cases:\n  - {name: x, call: {tool: t}, expect: allowed}\n"),
    ]);
    let (code, _, errors) = told(&run(folder.path(), &["test", "."]));
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: policy.yaml:2:27: tools.t.rateLimit.window: `week` is not a window"), "{errors}");
}

#[test]
fn a_command_that_finds_nothing_to_test_is_not_carried_out() {
    let folder = folder(&[("policy.yaml", POLICY)]);
    let (code, _, errors) = told(&run(folder.path(), &["test", "."]));
    assert_eq!(code, Some(2));
    assert_eq!(errors, "error: no test file is there; a test file is named like policy.test.yaml, and holds `cases`\n");
    let (code, _, errors) = told(&run(folder.path(), &["test", "policy.yaml"]));
    assert_eq!((code, errors.as_str()), (Some(2), "error: policy.yaml holds no cases; name the test file beside it\n"));
}
