use mcp_policy::PolicyId;

use super::*;
use crate::message::{Message, parse};

fn id(json: &str) -> Id {
    match parse(format!(r#"{{"jsonrpc":"2.0","id":{json},"method":"ping"}}"#).as_bytes()) {
        Ok(Message::Request(request)) => request.id,
        other => panic!("{other:?}"),
    }
}

/// The status and the body of an answer, which says that it is JSON.
fn read(response: &Response<Bytes>) -> (u16, Value) {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
}

fn refusal(code: Code) -> Refusal {
    Refusal {
        code,
        policy: Some(PolicyId::new(Some("imaging"), "exports")),
        rule: Some("/tools/start/limits/0".into()),
        reason: None,
        counter: None,
        retry_after_seconds: None,
        waits_for: None,
    }
}

fn limit(retry_after_seconds: Option<u64>) -> Refusal {
    Refusal {
        counter: Some("start_rate".into()),
        retry_after_seconds,
        reason: Some("Exports are slow".into()),
        ..refusal(Code::LimitExceeded)
    }
}

/// "Machines read `_meta["mcp-policy.dev/denial"]`: `{code, policy, rule, retryAfterSeconds, approval, decisionId}`."
#[test]
fn a_refused_call_is_a_result_that_the_model_sees() {
    let response = denied_call(&id("7"), Era::Legacy, "start", &limit(Some(42)), "01JD");
    let expected = json!({
        "jsonrpc": "2.0",
        "id": 7,
        "result": {
            "isError": true,
            "content": [{
                "type": "text",
                "text": "A policy refused this call of `start`: the limit `start_rate` is used up. Nothing was executed. Try again in 42 seconds, \
                         not before. Reason: Exports are slow. Reference: 01JD."
            }],
            "_meta": { "mcp-policy.dev/denial": {
                "code": "limit_exceeded", "policy": "imaging/exports", "rule": "/tools/start/limits/0", "retryAfterSeconds": 42, "approval": null, "decisionId": "01JD"
            } }
        }
    });
    assert_eq!(read(&response), (200, expected));
}

#[test]
fn the_result_type_is_there_in_the_modern_era_only() {
    let refusal = refusal(Code::ToolDenied);
    let answers = |era| {
        [
            denied_call(&id("7"), era, "x", &refusal, "d"),
            improper_tool_name(&id("7"), era, "d"),
            upstream_failed_call(&id("7"), era, "x", UpstreamFailure::NoAnswer, "d"),
        ]
    };
    for answer in answers(Era::Modern) {
        assert_eq!(read(&answer).1["result"]["resultType"], "complete");
    }
    for answer in answers(Era::Legacy) {
        assert_eq!(read(&answer).1["result"].get("resultType"), None);
    }
}

fn text(response: &Response<Bytes>) -> String {
    let (status, body) = read(response);
    assert_eq!((status, &body["result"]["isError"]), (200, &true.into()));
    body["result"]["content"][0]["text"].as_str().unwrap().to_owned()
}

/// "The agent sees one short text that says a policy refused it, that nothing was executed, whether a retry can help, and the
/// policy author's `reason`."
#[test]
fn the_text_says_whether_a_retry_can_help() {
    let denied = |refusal: &Refusal| text(&denied_call(&id("7"), Era::Legacy, "x", refusal, "d"));
    for (refusal, says) in [
        (refusal(Code::ToolDenied), "Repeating the call will not help."),
        (refusal(Code::DefaultDeny), "Repeating the call will not help."),
        (refusal(Code::NoPolicy), "will not help until"),
        (limit(Some(1)), "Try again in 1 second,"),
        (limit(Some(60)), "Try again in 60 seconds,"),
        (limit(None), "Repeating the call will not help."),
        (refusal(Code::ArgumentsInvalid), "a call with other arguments may pass."),
        (refusal(Code::RequireFailed), "a call with other arguments may pass."),
        (refusal(Code::DenyIf), "a call with other arguments may pass."),
        (refusal(Code::PolicyError), "Repeating the same call will not help."),
    ] {
        let text = denied(&refusal);
        assert!(text.contains(says) && text.contains("polic") && text.contains("Nothing was executed."), "{text}");
    }
    let asks = Refusal { reason: Some("Ask radiology!".into()), ..refusal(Code::ToolDenied) };
    assert!(denied(&asks).contains(" Reason: Ask radiology! Reference: d."), "{}", denied(&asks));
}

/// "A hidden call is answered as an unknown tool, without `_meta`".
#[test]
fn a_hidden_tool_is_one_that_does_not_exist() {
    let (status, body) = read(&denied_call(&id(r#""a""#), Era::Modern, "ghost \"x\"", &refusal(Code::Hidden), "01JD"));
    assert_eq!(
        (status, body),
        (200, json!({ "jsonrpc": "2.0", "id": "a", "error": { "code": -32602, "message": "Unknown tool: ghost \"x\"" } }))
    );
}

#[test]
fn a_name_that_may_be_anything_is_not_repeated() {
    let response = improper_tool_name(&id("7"), Era::Legacy, "01JD");
    assert!(text(&response).contains("Nothing was executed."));
    assert_eq!(read(&response).1["result"]["_meta"][DENIAL_KEY]["code"], "malformed");
}

/// "A denied method answers with a JSON-RPC error whose `error.data["mcp-policy.dev/denial"]` is the same object."
#[test]
fn a_refused_method_is_an_error_with_the_same_denial() {
    let (status, body) =
        read(&denied_method(&id("7"), "tools/list", &Refusal { policy: None, rule: None, ..refusal(Code::NoPolicy) }, "01JD"));
    assert_eq!((status, &body["error"]["code"]), (200, &403.into()));
    assert_eq!(
        body["error"]["data"],
        json!({ DENIAL_KEY: { "code": "no_policy", "policy": null, "rule": null, "retryAfterSeconds": null, "approval": null, "decisionId": "01JD" } })
    );
}

#[test]
fn a_method_that_a_policy_denies_is_told_as_that() {
    let (status, body) = read(&denied_method(&id("7"), "resources/read", &refusal(Code::MethodDenied), "01JD"));
    assert_eq!((status, &body["error"]["data"][DENIAL_KEY]["code"]), (200, &"method_denied".into()));
    let text = body["error"]["message"].as_str().unwrap();
    assert!(text.starts_with("A policy refused `resources/read`") && text.contains("Nothing was executed"), "{text}");
}

#[test]
fn a_server_learns_that_its_request_was_refused() {
    let body: Value = serde_json::from_slice(&refused_server_request(&id(r#""s\u0031""#), "roots/list", "01JD")).unwrap();
    assert_eq!((&body["id"], &body["error"]["code"]), (&"s1".into(), &(-32601).into()));
    assert!(body["error"]["message"].as_str().unwrap().contains("`roots/list`"), "{body}");
}

#[test]
fn a_call_that_cannot_go_on_is_not_said_to_have_done_nothing() {
    let response = refused_need(&id("7"), Era::Modern, "x", "sampling/createMessage", &refusal(Code::MethodDenied), "01JD");
    let text = text(&response);
    assert!(text.contains("may have done") && !text.contains("Nothing was executed"), "{text}");
    assert_eq!(read(&response).1["result"]["_meta"][DENIAL_KEY]["code"], "method_denied");
}

#[test]
fn only_what_was_not_sent_is_said_not_to_have_run() {
    for (failure, certain) in [(UpstreamFailure::NotReached, true), (UpstreamFailure::NoAnswer, false), (UpstreamFailure::Unusable, false)]
    {
        let response = upstream_failed_call(&id("7"), Era::Legacy, "x", failure, "d");
        let text = text(&response);
        assert_eq!((text.contains("Nothing was executed"), text.contains("may have run")), (certain, !certain), "{text}");
        assert_eq!(read(&response).1["result"]["_meta"][DENIAL_KEY]["code"], "upstream_unreachable");

        let (status, body) = read(&upstream_failed(Some(&id("7")), failure, "d"));
        assert_eq!((status, &body["id"], &body["error"]["code"]), (200, &7.into(), &(-32603).into()));
        assert_eq!(body["error"]["data"][DENIAL_KEY]["code"], "upstream_unreachable");
        let (status, body) = read(&upstream_failed(None, failure, "d"));
        assert_eq!((status, body.get("id")), (502, None));
    }
}

#[test]
fn an_unknown_method_is_answered_as_its_era_does() {
    for (era, expected) in [(Era::Legacy, 200), (Era::Modern, 404)] {
        let (status, body) = read(&unknown_method(&id("7"), era));
        assert_eq!((status, &body["error"]["code"], &body["id"]), (expected, &(-32601).into(), &7.into()));
    }
}

#[test]
fn the_id_goes_back_as_it_came() {
    for sent in ["18446744073709551616", r#""\u0061""#, "-1"] {
        let response = denied_call(&id(sent), Era::Legacy, "x", &refusal(Code::ToolDenied), "d");
        assert!(response.body().starts_with(format!(r#"{{"jsonrpc":"2.0","id":{sent},"result":"#).as_bytes()));
    }
}

#[test]
fn a_malformed_request_gets_its_status_and_its_id_where_it_could_be_read() {
    let answer = |body: &str| read(&super::malformed(&parse(body.as_bytes()).unwrap_err()));
    let (status, body) = answer(r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"x"}"#);
    assert_eq!((status, body.get("id"), &body["error"]["code"]), (400, None, &(-32600).into()));
    let (status, body) = answer(r#"{"jsonrpc":"2.0","id":7,"method":"x","x":1}"#);
    assert_eq!((status, &body["id"], &body["error"]["code"], body["error"].get("data")), (400, &7.into(), &(-32600).into(), None));
    assert_eq!(read(&super::malformed(&Malformed::too_large())).0, 413);
    assert_eq!(read(&super::malformed(&Malformed::body_timeout())).0, 408);
}

#[test]
fn an_unsupported_revision_is_told_which_can_be_named_in_its_place() {
    let malformed = Malformed { requested: Some("2099-01-01".into()), ..Malformed::too_large() };
    let (_, body) = read(&super::malformed(&malformed));
    assert_eq!(body["error"]["data"], json!({"supported": ["2026-07-28"], "requested": "2099-01-01"}));
}

#[test]
fn a_wrong_http_method_is_told_the_right_ones() {
    let malformed = Malformed { status: StatusCode::METHOD_NOT_ALLOWED, ..Malformed::too_large() };
    assert_eq!(super::malformed(&malformed).headers()[ALLOW], "POST, GET, DELETE");
}

#[test]
fn what_needs_no_answer_is_accepted_with_nothing() {
    let response = accepted();
    assert_eq!((response.status(), response.body().len(), response.headers().len()), (StatusCode::ACCEPTED, 0, 0));
}

/// "a JSON-RPC error with the call's id under any status, or a 4xx. Everything else counts."
#[test]
fn a_changed_list_is_told_in_the_form_of_the_era() {
    let read = |subscription| serde_json::from_slice::<Value>(&list_changed(subscription)).unwrap();
    assert_eq!(read(None), json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    let meta = json!({"io.modelcontextprotocol/subscriptionId": "a"});
    assert_eq!(
        read(Some(&id(r#""\u0061""#))),
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": meta}})
    );
}

/// "401 no/bad credential", with the denial as any refused request has it.
#[test]
fn who_proves_nothing_gets_a_challenge() {
    let challenge = HeaderValue::from_static(r#"Bearer realm="mcp""#);
    let response = unauthenticated(Rejected::Expired, Some(challenge.clone()), "01JD");
    let (status, body) = read(&response);
    let message =
        "A policy lets in only callers that prove who they are: the token or key has expired. Nothing was executed. Reference: 01JD.";
    let denial = json!({
        "code": "unauthenticated", "policy": null, "rule": null, "retryAfterSeconds": null, "approval": null, "decisionId": "01JD"
    });
    let error = json!({"code": 401, "message": message, "data": {"mcp-policy.dev/denial": denial}});
    assert_eq!((status, body), (401, json!({"jsonrpc": "2.0", "error": error})));
    assert_eq!(response.headers()["www-authenticate"], challenge);
}
