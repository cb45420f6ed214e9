//! What an agent is told of a call that waits for people.

use bytes::Bytes;
use http::{Response, StatusCode};
use mcp_policy::Refusal;
use mcp_policy::approval::ApprovalName;
use serde_json::{Value, json};

use super::{DENIAL_KEY, denial, error, in_band, keyed, respond, respond_error, with_reason};
use crate::message::Id;
use crate::message::era::Era;

/// After so long it is worth asking again whether a person has decided.
const RETRY_AFTER_SECONDS: u64 = 10;

/// The code with which 2025-11-25 says that the user has to open pages first.
const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Under which modern clients answer that their user was sent to the page. What they say is not read: only people with the right decide.
const INPUT_KEY: &str = "mcp-policy.dev/approval";

/// Answers a `tools/call` about which people are asked.
#[must_use]
pub fn waiting(id: &Id, era: Era, tool: &str, refusal: &Refusal, approval: &ApprovalName, decision_id: &str) -> Response<Bytes> {
    in_band(id, era, &told(tool, refusal, approval, decision_id), come_back(refusal, approval, decision_id))
}

/// Answers a `tools/call` about which people are asked, to a client that can send its user to the page where that is decided.
#[must_use]
pub fn page(id: &Id, era: Era, tool: &str, refusal: &Refusal, approval: &ApprovalName, url: &str, decision_id: &str) -> Response<Bytes> {
    let ApprovalName { namespace, name, seconds_left, .. } = approval;
    let message = format!(
        "A policy lets this call of `{tool}` pass only with a person's approval. It can be given or denied on this page for another \
         {seconds_left} seconds: approval {namespace}/{name}."
    );
    let message = with_reason(message, refusal, decision_id);
    let denial = come_back(refusal, approval, decision_id);
    match era {
        Era::Modern => {
            let asked = json!({ "method": "elicitation/create", "params": { "mode": "url", "url": url, "message": message } });
            let result =
                [("resultType", "input_required".into()), ("inputRequests", json!({ INPUT_KEY: asked })), ("_meta", keyed(denial))];
            respond(StatusCode::OK, Some(id), "result", result.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
        }
        Era::Legacy => {
            let asked = json!({ "mode": "url", "elicitationId": format!("{namespace}/{name}"), "url": url, "message": message });
            let mut error = error(URL_ELICITATION_REQUIRED, &told(tool, refusal, approval, decision_id));
            error.insert("data".to_owned(), json!({ "elicitations": [asked], DENIAL_KEY: denial }));
            respond_error(StatusCode::OK, Some(id), error)
        }
    }
}

/// What the model is told of a call about which people are asked.
fn told(tool: &str, refusal: &Refusal, approval: &ApprovalName, decision_id: &str) -> String {
    let ApprovalName { namespace, name, seconds_left, .. } = approval;
    let text = format!(
        "A policy lets this call of `{tool}` pass only with a person's approval. Nothing was executed. A person was asked, and can answer for \
         another {seconds_left} seconds: approval {namespace}/{name}. Make the very same call again, not before {RETRY_AFTER_SECONDS} seconds \
         have passed; once it is approved, it passes, one time."
    );
    with_reason(text, refusal, decision_id)
}

/// What machines are told of it.
fn come_back(refusal: &Refusal, approval: &ApprovalName, decision_id: &str) -> Value {
    let mut denial = about(refusal, approval, decision_id);
    denial["retryAfterSeconds"] = RETRY_AFTER_SECONDS.into();
    denial
}

/// Tells who waits for the answer to a call, by its token, that people are asked; as often as is said.
pub fn progress(token: &Id, approval: &ApprovalName) -> impl Fn(usize) -> Bytes + Send + use<> {
    let ApprovalName { namespace, name, .. } = approval;
    let message = json!(format!("A person is asked whether this call may pass: approval {namespace}/{name}."));
    let token = token.clone();
    move |told| {
        // Numbers of one token must grow, and those of the server, which come later, begin at 0.
        let progress = i64::try_from(told).unwrap_or(i64::MAX).saturating_sub(1_000_000).min(-1);
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress},"message":{message}}}}}"#
        )
        .into()
    }
}

/// Answers a `tools/call` that a person said no to. The refusal has the person's words.
#[must_use]
pub fn denied(id: &Id, era: Era, tool: &str, refusal: &Refusal, approval: &ApprovalName, decision_id: &str) -> Response<Bytes> {
    let ApprovalName { namespace, name, .. } = approval;
    let text = format!(
        "A person denied this call of `{tool}`: approval {namespace}/{name}. Nothing was executed. Repeating the same call will not help."
    );
    in_band(id, era, &with_reason(text, refusal, decision_id), about(refusal, approval, decision_id))
}

/// Answers a `tools/call` that needs an approval which nobody could be asked for.
#[must_use]
pub fn not_asked(id: &Id, era: Era, tool: &str, refusal: &Refusal, why: &str, decision_id: &str) -> Response<Bytes> {
    let text = format!(
        "A policy lets this call of `{tool}` pass only with a person's approval, and nobody was asked: {why}. Nothing was executed. Trying again \
         later may help."
    );
    in_band(id, era, &with_reason(text, refusal, decision_id), denial(refusal, decision_id))
}

fn about(refusal: &Refusal, approval: &ApprovalName, decision_id: &str) -> Value {
    let ApprovalName { namespace, name, seconds_left, .. } = approval;
    let mut denial = denial(refusal, decision_id);
    denial["approval"] = json!({ "namespace": namespace, "name": name, "secondsLeft": seconds_left });
    denial
}
