use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::approvals::resource::{ApprovedArguments, AskingPolicy, Decision};

/// An approval that expires at this second.
pub fn approval(expires: i64) -> McpApproval {
    McpApproval {
        metadata: ObjectMeta { name: Some("a-1".to_owned()), namespace: Some("imaging".to_owned()), ..ObjectMeta::default() },
        spec: ApprovalSpec {
            caller: "serviceaccount:agents/a".to_owned(),
            server: "Deployment/web".to_owned(),
            tool: "pay".to_owned(),
            arguments: ApprovedArguments { sha256: "0".repeat(64), keys: Vec::new(), values: None },
            policy: AskingPolicy {
                namespace: Some("imaging".to_owned()),
                name: "p".to_owned(),
                generation: 3,
                rule: "/tools/pay/action".to_owned(),
            },
            reason: None,
            approvers: 1,
            expires_at: at(expires).to_string(),
            decisions: Vec::new(),
        },
        status: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn said(by: &str, verdict: Verdict) -> Decision {
    Decision { verdict, by: by.to_owned(), reason: None }
}

fn request() -> ApprovalRequest {
    ApprovalRequest {
        caller: "serviceaccount:agents/a".to_owned(),
        tool: "pay".to_owned(),
        arguments_sha256: "0".repeat(64),
        needed: vec![needed()],
        wait_seconds: 0,
    }
}

fn needed() -> Needed {
    Needed {
        namespace: Some("imaging".to_owned()),
        name: "p".to_owned(),
        generation: 3,
        rule: "/tools/pay/action".to_owned(),
        reason: None,
        timeout_seconds: 60,
        argument_keys: Vec::new(),
        arguments: None,
    }
}

#[test]
fn the_state_follows_from_decisions_use_and_time() {
    use Verdict::{Approved, Denied};
    let used = Some(ApprovalStatus { used_at: Some("1970-01-01T00:00:01Z".to_owned()), ..ApprovalStatus::default() });
    // That somebody wrote a state counts for nothing.
    let claimed = Some(ApprovalStatus { state: Some(State::Approved), ..ApprovalStatus::default() });
    let cases = [
        (1, vec![], None, 99, State::Pending),
        (1, vec![], claimed.clone(), 99, State::Pending),
        (1, vec![said("ann", Approved)], None, 99, State::Approved),
        (1, vec![said("ann", Approved)], None, 100, State::Expired),
        (1, vec![said("ann", Approved)], used.clone(), 99, State::Used),
        (1, vec![said("ann", Approved)], used, 100, State::Used),
        (1, vec![said("ann", Denied)], claimed.clone(), 99, State::Denied),
        (1, vec![said("ann", Denied)], None, 100, State::Expired),
        (2, vec![said("ann", Approved)], claimed, 99, State::Pending),
        (2, vec![said("ann", Approved), said("ann", Approved)], None, 99, State::Pending),
        (2, vec![said("ann", Approved), said("bob", Approved)], None, 99, State::Approved),
        (2, vec![said("ann", Approved), said("bob", Denied)], None, 99, State::Denied),
    ];
    for (approvers, decisions, status, now, expected) in cases {
        let spec = ApprovalSpec { approvers, decisions, ..approval(100).spec };
        assert_eq!(state(&spec, status.as_ref(), at(now)), expected, "{spec:?} {status:?} at {now}");
    }
    let unreadable = ApprovalSpec { expires_at: "soon".to_owned(), decisions: vec![said("ann", Approved)], ..approval(100).spec };
    assert_eq!(state(&unreadable, None, at(0)), State::Expired);
    let nobody = ApprovalSpec { approvers: 0, ..approval(100).spec };
    assert_eq!(state(&nobody, None, at(0)), State::Pending);
}

/// An approval is of one caller, server, tool, argument digest, policy, revision and rule, and good for no other.
#[test]
fn an_approval_is_of_one_call_only() {
    let server = "Deployment/web";
    let (request, needed) = (request(), needed());
    let spec = approval(100).spec;
    assert!(is_of(&spec, server, &request, &needed));
    let others: Vec<(&str, ApprovalRequest, Needed)> = vec![
        ("Deployment/other", request.clone(), needed.clone()),
        (server, ApprovalRequest { caller: "serviceaccount:agents/b".to_owned(), ..request.clone() }, needed.clone()),
        (server, ApprovalRequest { tool: "pay_all".to_owned(), ..request.clone() }, needed.clone()),
        (server, ApprovalRequest { arguments_sha256: "1".repeat(64), ..request.clone() }, needed.clone()),
        (server, request.clone(), Needed { namespace: None, ..needed.clone() }),
        (server, request.clone(), Needed { name: "q".to_owned(), ..needed.clone() }),
        (server, request.clone(), Needed { generation: 4, ..needed.clone() }),
        (server, request.clone(), Needed { rule: "/allTools/action".to_owned(), ..needed.clone() }),
    ];
    let name = base_name(server, &request, &needed);
    for (server, other, by) in others {
        assert!(!is_of(&spec, server, &other, &by), "{server} {other:?} {by:?}");
        assert_ne!(base_name(server, &other, &by), name, "{server} {other:?} {by:?}");
    }
    // What is told to people makes no other call of it.
    let told = Needed { reason: Some("x".to_owned()), timeout_seconds: 1, argument_keys: vec!["a".to_owned()], ..needed };
    assert!(is_of(&spec, server, &request, &told) && base_name(server, &request, &told) == name);
}

#[test]
fn the_number_that_waits_is_bounded_by_caller_and_by_policy() {
    let of = |caller: &str, count: usize| {
        let spec = ApprovalSpec { caller: caller.to_owned(), ..approval(100).spec };
        vec![McpApproval { spec, ..approval(100) }; count]
    };
    let mine = "serviceaccount:agents/a";
    let why = |approvals: &[McpApproval], now| too_many(approvals.iter(), &request(), &needed(), at(now));
    assert_eq!(why(&of(mine, MAX_PENDING_OF_CALLER - 1), 0), None);
    assert_eq!(why(&of(mine, MAX_PENDING_OF_CALLER), 0), Some("too many calls of this caller wait for approval already"));
    assert_eq!(why(&of(mine, MAX_PENDING_OF_CALLER), 100), None, "what has expired waits no more");
    assert_eq!(why(&of("other", MAX_PENDING_OF_POLICY - 1), 0), None);
    assert_eq!(why(&of("other", MAX_PENDING_OF_POLICY), 0), Some("too many calls wait for approval already"));
    let elsewhere = Needed { name: "q".to_owned(), ..needed() };
    assert_eq!(too_many(of(mine, 300).iter(), &request(), &elsewhere, at(0)), None);
}
