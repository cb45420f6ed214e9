//! Every answer of our own: from a refusal, a malformed request or a failure of the server to an HTTP status and a JSON body. The only
//! place that builds one. mcp.md section 2 and the statuses of section 3.
//!
//! A refused `tools/call` is answered with status 200 and a result with `isError`: the one form that reaches the model in every client;
//! an HTTP error would end the session of some. Nothing of the policy's inside is told but what the agent may act on.

pub mod approval;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use mcp_policy::{Code, Refusal};
use serde_json::{Map, Value, json};

use crate::answer::unknown_tool::UnknownTool;
use crate::authenticate::Rejected;
use crate::message::era::{Era, LEGACY_REVISIONS, MODERN};
use crate::message::{INVALID_PARAMS, INVALID_REQUEST, Id, Malformed, SUBSCRIPTION_ID};

/// The key under which machines find a denial: in `_meta` of a result, in `data` of an error.
pub const DENIAL_KEY: &str = "mcp-policy.dev/denial";

/// The JSON-RPC code of a refused method. Application codes are outside of JSON-RPC's own range; this one reads like its HTTP namesake.
const DENIED: i64 = 403;
/// That of a request whose caller has to prove more than it does, after its HTTP namesake as well.
const UNAUTHENTICATED: i64 = 401;
const METHOD_NOT_FOUND: i64 = -32601;
const INTERNAL_ERROR: i64 = -32603;

/// Why an allowed request has no usable answer of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No connection, or none in time: nothing was sent, so nothing ran.
    NotReached,
    /// The request was sent, wholly or in part, and no answer came, or only part of one.
    NoAnswer,
    /// An answer came that must not be passed on: a redirect, one that is encoded or ambiguous where it has to be filtered.
    Unusable,
}

/// Answers a request that was refused before any rule.
#[must_use]
pub fn malformed(malformed: &Malformed) -> Response<Bytes> {
    let mut error = error(malformed.code, malformed.message);
    if let Some(requested) = &malformed.requested {
        // What can be named in `_meta`; the revisions with a handshake cannot.
        error.insert("data".to_owned(), json!({ "supported": [MODERN], "requested": requested }));
    }
    let mut response = respond_error(malformed.status, malformed.id.as_ref(), error);
    if malformed.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
    }
    response
}

/// Answers a message to a server on stdio that names no session.
#[must_use]
pub fn session_needed(id: Option<&Id>) -> Response<Bytes> {
    respond_error(StatusCode::BAD_REQUEST, id, error(INVALID_REQUEST, "`Mcp-Session-Id` is missing: begin with `initialize`"))
}

/// Answers a message of a session that has ended, or never was. Clients begin a new one.
#[must_use]
pub fn unknown_session(id: Option<&Id>) -> Response<Bytes> {
    respond_error(StatusCode::NOT_FOUND, id, error(INVALID_REQUEST, "there is no such session"))
}

/// Answers a request whose id is that of another one that has no answer yet: their answers could not be told apart.
#[must_use]
pub fn id_in_use() -> Response<Bytes> {
    malformed(&Malformed::id_in_use())
}

/// Answers who has to prove more than it does, and tells how ([RFC 6750]). The only refusal with a 401: clients get a token and come
/// again.
///
/// [RFC 6750]: https://www.rfc-editor.org/rfc/rfc6750#section-3
#[must_use]
pub fn unauthenticated(rejected: Rejected, challenge: Option<HeaderValue>, decision_id: &str) -> Response<Bytes> {
    let text =
        format!("A policy lets in only callers that prove who they are: {rejected}. Nothing was executed. Reference: {decision_id}.");
    let mut error = error(UNAUTHENTICATED, &text);
    error.insert("data".to_owned(), keyed(denial(&Refusal::of(Code::Unauthenticated), decision_id)));
    // Nothing but the head was read, so the id is not known.
    let mut response = respond_error(StatusCode::UNAUTHORIZED, None, error);
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge.unwrap_or(HeaderValue::from_static("Bearer")));
    response
}

/// The document that says whose tokens are taken (RFC 9728). It may depend on the host that was asked, so nobody may keep it for others.
#[must_use]
pub fn resource_metadata(document: &Value) -> Response<Bytes> {
    let mut response = Response::new(document.to_string().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The HTTP status under which the modern revision wants an answer of a server.
#[must_use]
pub fn status_of(answer: &[u8]) -> StatusCode {
    #[derive(serde::Deserialize)]
    struct Failed {
        error: Fault,
    }
    #[derive(serde::Deserialize)]
    struct Fault {
        code: i64,
    }
    match serde_json::from_slice(answer) {
        Ok(Failed { error: Fault { code: METHOD_NOT_FOUND } }) => StatusCode::NOT_FOUND,
        Ok(Failed { error: Fault { code: -32099..=-32020 } }) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// Answers a notification or a response: 202, empty. Also one that is dropped.
#[must_use]
pub fn accepted() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// Answers a request whose method no revision knows (rule 7).
#[must_use]
pub fn unknown_method(id: &Id, era: Era) -> Response<Bytes> {
    let status = match era {
        Era::Legacy => StatusCode::OK,
        Era::Modern => StatusCode::NOT_FOUND,
    };
    respond_error(status, Some(id), error(METHOD_NOT_FOUND, "Method not found"))
}

/// Whether and when a retry can help.
fn retry(after_seconds: Option<u64>) -> String {
    match after_seconds {
        Some(1) => "Try again in 1 second, not before.".to_owned(),
        Some(seconds) => format!("Try again in {seconds} seconds, not before."),
        None => "Repeating the call will not help.".to_owned(),
    }
}

/// Answers a `tools/call` that a policy refuses. A hidden tool is answered as one that does not exist.
#[must_use]
pub fn denied_call(id: &Id, era: Era, tool: &str, refusal: &Refusal, decision_id: &str) -> Response<Bytes> {
    if refusal.code == Code::Hidden {
        return unknown_tool(id, era, tool, &UnknownTool::default());
    }
    let text = match refusal.code {
        Code::LimitExceeded => {
            let limit = refusal.counter.as_ref().map_or_else(String::new, |counter| format!(" `{counter}`"));
            let retry = retry(refusal.retry_after_seconds);
            format!("A policy refused this call of `{tool}`: the limit{limit} is used up. Nothing was executed. {retry}")
        }
        Code::StoreUnavailable => {
            let retry = retry(refusal.retry_after_seconds);
            format!("This call of `{tool}` was refused: its limit cannot be counted at this moment. Nothing was executed. {retry}")
        }
        Code::AuditUnavailable => {
            let retry = retry(refusal.retry_after_seconds);
            format!("This call of `{tool}` was refused: it cannot be written down at this moment. Nothing was executed. {retry}")
        }
        Code::NoPolicy => format!(
            "This call of `{tool}` was refused: no policy is in force that could allow it. Nothing was executed. Repeating the call will \
             not help until an administrator applies a policy."
        ),
        Code::ArgumentsInvalid | Code::RequireFailed | Code::DenyIf => format!(
            "A policy refused this call of `{tool}`: its arguments are not allowed. Nothing was executed. Repeating the same call will not \
             help; a call with other arguments may pass."
        ),
        // Without an operator there is nobody to ask.
        Code::ApprovalRequired => format!(
            "A policy lets this call of `{tool}` pass only with a person's approval, and nobody can be asked here. Nothing was executed. \
             Repeating the call will not help."
        ),
        Code::PolicyError => format!(
            "A policy refused this call of `{tool}`: it could not be decided whether its arguments are allowed. Nothing was executed. \
             Repeating the same call will not help."
        ),
        _ => format!(
            "A policy refused this call of `{tool}`: the tool is not allowed for this caller. Nothing was executed. Repeating the call will \
             not help."
        ),
    };
    in_band(id, era, &with_reason(text, refusal, decision_id), denial(refusal, decision_id))
}

/// Answers a `tools/call` of a hidden tool, in the words in which the server speaks of one that it does not have.
#[must_use]
pub fn unknown_tool(id: &Id, era: Era, tool: &str, words: &UnknownTool) -> Response<Bytes> {
    let text = words.text(tool);
    match words.code {
        Some(code) => respond_error(StatusCode::OK, Some(id), error(code, &text)),
        None => respond(StatusCode::OK, Some(id), "result", error_result(era, &text)),
    }
}

/// Answers a `tools/call` whose tool has a name that is not proper ([`crate::message::ToolCall::has_proper_name`]). The name is not
/// repeated: it may be anything.
#[must_use]
pub fn improper_tool_name(id: &Id, era: Era, decision_id: &str) -> Response<Bytes> {
    let text = format!(
        "This call was refused: the server lists no tool of this name. Nothing was executed. Repeating the call will not help; use a name \
         from the list of tools. Reference: {decision_id}."
    );
    in_band(id, era, &text, denial(&Refusal::of(Code::Malformed), decision_id))
}

/// Answers a request other than a `tools/call` that is refused. Status 200: clients keep their session.
#[must_use]
pub fn denied_method(id: &Id, method: &str, refusal: &Refusal, decision_id: &str) -> Response<Bytes> {
    let text = match refusal.code {
        Code::NoPolicy => format!("`{method}` was refused: no policy is in force that could allow it. Repeating the request will not help"),
        _ => format!("A policy refused `{method}` to this caller. Nothing was executed. Repeating the request will not help"),
    };
    let mut error = error(DENIED, &with_reason(format!("{text}."), refusal, decision_id));
    error.insert("data".to_owned(), keyed(denial(refusal, decision_id)));
    respond_error(StatusCode::OK, Some(id), error)
}

/// What the server gets as the answer to a request of its own that a policy holds back: what a client says that does not have the
/// method, which servers know how to go on from.
#[must_use]
pub fn refused_server_request(id: &Id, method: &str, decision_id: &str) -> Bytes {
    let text = format!("A policy refused `{method}`. The client did not see this request. Reference: {decision_id}.");
    respond_error(StatusCode::OK, Some(id), error(METHOD_NOT_FOUND, &text)).into_body()
}

/// Takes the place of an answer to a `tools/call` in which the server asks the client for something that a policy refuses.
#[must_use]
pub fn refused_need(id: &Id, era: Era, tool: &str, method: &str, refusal: &Refusal, decision_id: &str) -> Response<Bytes> {
    let text = format!(
        "The call of `{tool}` was allowed, but to go on the server asks for `{method}`, which a policy refuses. The tool may have done a \
         part of its work. Repeating the call will not help."
    );
    in_band(id, era, &with_reason(text, refusal, decision_id), denial(refusal, decision_id))
}

/// Answers a `tools/call` that was allowed and has no usable answer of the server.
#[must_use]
pub fn upstream_failed_call(id: &Id, era: Era, tool: &str, failure: UpstreamFailure, decision_id: &str) -> Response<Bytes> {
    let what = match failure {
        UpstreamFailure::NotReached => "the server could not be reached. Nothing was executed. Trying again later may help.",
        UpstreamFailure::NoAnswer => "the server did not answer. The tool may have run: find out before repeating the call.",
        UpstreamFailure::Unusable => {
            "the answer of the server could not be used. The tool may have run: find out before repeating the call."
        }
    };
    let text = format!("The call of `{tool}` was allowed, but {what} Reference: {decision_id}.");
    in_band(id, era, &text, denial(&Refusal::of(Code::UpstreamUnreachable), decision_id))
}

/// Answers anything else that has no usable answer of the server: a request with status 200, for a 5xx would end the session of some
/// clients; what has no id (a notification, a response, GET, DELETE) with 502.
#[must_use]
pub fn upstream_failed(id: Option<&Id>, failure: UpstreamFailure, decision_id: &str) -> Response<Bytes> {
    let text = match failure {
        UpstreamFailure::NotReached => "The server could not be reached",
        UpstreamFailure::NoAnswer => "The server did not answer",
        UpstreamFailure::Unusable => "The answer of the server could not be used",
    };
    let mut error = error(INTERNAL_ERROR, text);
    error.insert("data".to_owned(), keyed(denial(&Refusal::of(Code::UpstreamUnreachable), decision_id)));
    respond_error(if id.is_some() { StatusCode::OK } else { StatusCode::BAD_GATEWAY }, id, error)
}

/// Answers a request about a task that was not created through the sidecar: as a server does that does not know it. Another caller's task
/// is not told apart from none.
#[must_use]
pub fn unknown_task(id: &Id) -> Response<Bytes> {
    respond_error(StatusCode::OK, Some(id), error(INVALID_PARAMS, "Task not found"))
}

/// Answers an `initialize` to which the server answered with a revision that is not spoken here: what followed would be refused.
#[must_use]
pub fn revision_not_spoken(id: &Id) -> Response<Bytes> {
    let mut error = error(INVALID_PARAMS, "The server chose a revision of the protocol that is not spoken here");
    error.insert("data".to_owned(), json!({ "supported": LEGACY_REVISIONS }));
    respond_error(StatusCode::OK, Some(id), error)
}

/// The notification that a client's list of tools has changed.
pub const LIST_CHANGED: &str = "notifications/tools/list_changed";

/// Tells a client that a change of policy changed its list of tools; in the modern era by the `subscription` with which it asked.
#[must_use]
pub fn list_changed(subscription: Option<&Id>) -> Bytes {
    let params = subscription.map_or_else(String::new, |id| format!(r#","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{id}}}}}"#));
    format!(r#"{{"jsonrpc":"2.0","method":"{LIST_CHANGED}"{params}}}"#).into()
}

fn with_reason(mut text: String, refusal: &Refusal, decision_id: &str) -> String {
    if let Some(reason) = &refusal.reason {
        text = format!("{text} Reason: {reason}");
        if !reason.ends_with(['.', '!', '?']) {
            text.push('.');
        }
    }
    format!("{text} Reference: {decision_id}.")
}

/// The denial for machines. The fields are API.
fn denial(refusal: &Refusal, decision_id: &str) -> Value {
    json!({
        "code": refusal.code.as_str(),
        "policy": refusal.policy.as_ref().map(ToString::to_string),
        "rule": refusal.rule,
        "retryAfterSeconds": refusal.retry_after_seconds,
        "approval": null,
        "decisionId": decision_id,
    })
}

/// A denial under its key.
fn keyed(denial: Value) -> Value {
    Map::from_iter([(DENIAL_KEY.to_owned(), denial)]).into()
}

/// The result that tells the model.
fn in_band(id: &Id, era: Era, text: &str, denial: Value) -> Response<Bytes> {
    let mut result = error_result(era, text);
    result.insert("_meta".to_owned(), keyed(denial));
    respond(StatusCode::OK, Some(id), "result", result)
}

/// The result of a tool that failed.
fn error_result(era: Era, text: &str) -> Map<String, Value> {
    let mut result = Map::new();
    if era == Era::Modern {
        result.insert("resultType".to_owned(), "complete".into());
    }
    result.insert("isError".to_owned(), true.into());
    result.insert("content".to_owned(), json!([{ "type": "text", "text": text }]));
    result
}

fn error(code: i64, message: &str) -> Map<String, Value> {
    Map::from_iter([("code".to_owned(), code.into()), ("message".to_owned(), message.into())])
}

fn respond_error(status: StatusCode, id: Option<&Id>, error: Map<String, Value>) -> Response<Bytes> {
    respond(status, id, "error", error)
}

/// A JSON-RPC response. Without an id it has no `id`: the schemas of all revisions know no `null` there.
fn respond(status: StatusCode, id: Option<&Id>, key: &str, value: Map<String, Value>) -> Response<Bytes> {
    // The id goes in as it was sent; the rest is a tree of strings and numbers, which always prints.
    let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
    let body = format!(r#"{{"jsonrpc":"2.0",{id}"{key}":{}}}"#, Value::Object(value));
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests;
