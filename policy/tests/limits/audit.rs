//! "Counters of an `audit` policy count the calls that were forwarded and that the policy itself would have allowed."

use mcp_policy::Mode;
use serde_json::json;

use super::*;

fn limit(max: u32) -> serde_json::Value {
    json!([{"counter": "c", "window": "minute", "max": max, "scope": "server"}])
}

/// What the audit policy `audit` would have said, and what was used of its counter.
fn audited(server: &mut Server, tool: &str) -> (Code, Option<String>, f64) {
    let outcome = server.outcome(tool, "");
    let [audited] = &outcome.audited[..] else { panic!("{outcome:?}") };
    assert_eq!(audited.policy, PolicyId::new(Some("ns"), "audit"));
    assert_eq!(audited.counter.is_some(), audited.code == Code::LimitExceeded);
    let used = server.used().into_iter().find(|(name, _)| name == "ns/audit c").unwrap().1;
    (audited.code, audited.rule.clone(), used)
}

#[test]
fn calls_that_pass_are_counted_up_to_max() {
    let audit = policy("audit", &json!({"default": "allow", "allTools": {"limits": limit(2)}})).in_mode(Mode::Audit);
    let alone = Policies::new(vec![audit.clone()]);
    let beside = Policies::new(vec![policy("enforce", &json!({"default": "allow"})), audit]);
    for policies in [alone, beside] {
        let mut server = Server::new(policies);
        assert_eq!(audited(&mut server, "t"), (Code::Allowed, None, 1.0));
        assert_eq!(audited(&mut server, "t"), (Code::Allowed, None, 2.0));
        for _ in 0..3 {
            let over = Some("/allTools/limits/c".to_owned());
            assert_eq!(audited(&mut server, "t"), (Code::LimitExceeded, over, 2.0), "it is forwarded, and does not count");
            assert_eq!(server.call("t", ""), "allowed");
        }
        assert_eq!(audited(server.at(60_000), "t"), (Code::Allowed, None, 1.0));
    }
}

#[test]
fn calls_that_were_not_forwarded_do_not_count() {
    let audit = policy("audit", &json!({"default": "allow", "allTools": {"limits": limit(2)}})).in_mode(Mode::Audit);
    let denies = policy("enforce", &json!({"default": "allow", "tools": {"no": {"action": "deny"}, "once": {"limits": limit(1)}}}));
    let mut server = Server::new(Policies::new(vec![audit, denies]));
    assert_eq!(audited(&mut server, "no"), (Code::Allowed, None, 0.0));
    assert_eq!(audited(&mut server, "once"), (Code::Allowed, None, 1.0));
    assert_eq!(audited(&mut server, "once"), (Code::Allowed, None, 1.0), "over the limit of the policy that enforces");
    assert_eq!(server.call("once", ""), "limit_exceeded c 60 /tools/once/limits/c");
}

#[test]
fn calls_that_the_policy_would_have_refused_do_not_count() {
    let document = json!({"tools": {"t": {"limits": limit(2)}, "no": {"action": "deny", "limits": limit(2)}}, "hide": ["hidden"]});
    let mut server = Server::new(Policies::new(vec![policy("audit", &document).in_mode(Mode::Audit)]));
    assert_eq!(audited(&mut server, "no"), (Code::ToolDenied, Some("/tools/no/action".to_owned()), 0.0));
    assert_eq!(audited(&mut server, "hidden"), (Code::Hidden, Some("/hide/0".to_owned()), 0.0));
    assert_eq!(audited(&mut server, "other"), (Code::DefaultDeny, Some("/default".to_owned()), 0.0));
    assert_eq!(audited(&mut server, "t"), (Code::Allowed, None, 1.0));
}

#[test]
fn an_audit_policy_counts_in_all_its_counters_or_in_none() {
    let two = json!([
        {"counter": "c", "window": "minute", "max": 5, "scope": "server"},
        {"counter": "full", "window": "minute", "max": 0, "scope": "server"},
    ]);
    let mut server = Server::new(Policies::new(vec![policy("audit", &limits(&two)).in_mode(Mode::Audit)]));
    assert_eq!(audited(&mut server, "t"), (Code::LimitExceeded, Some("/tools/t/limits/full".to_owned()), 0.0));
}

#[test]
fn a_refund_gives_back_what_audit_policies_counted() {
    let audit = policy("audit", &limits(&limit(2))).in_mode(Mode::Audit);
    let enforce = policy("enforce", &limits(&limit(2)));
    let mut server = Server::new(Policies::new(vec![audit, enforce]));
    let reservation = server.reservation("t");
    assert_eq!(server.used(), [("ns/audit c".to_owned(), 1.0), ("ns/enforce c".to_owned(), 1.0)]);
    server.counters.refund(reservation);
    assert_eq!(server.used(), [("ns/audit c".to_owned(), 0.0), ("ns/enforce c".to_owned(), 0.0)]);
}

/// So that one can see what a policy would do before it does it: its counters go on when it begins to enforce.
#[test]
fn a_policy_that_begins_to_enforce_goes_on_with_its_counters() {
    let document = limits(&limit(2));
    let mut server = Server::new(Policies::new(vec![policy("audit", &document).in_mode(Mode::Audit)]));
    assert_eq!(server.passed(1, "t"), 1);
    server.policies = Policies::new(vec![policy("audit", &document)]);
    assert_eq!(server.passed(5, "t"), 1);
}
