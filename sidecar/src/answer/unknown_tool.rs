//! How a server answers a call of a tool that it does not have. A hidden tool is answered in the same words, so that nobody can tell it
//! from one that does not exist. Learnt from what passes by: each implementation has its own.
//!
//! Caveat: that no server was asked shows in the time that the answer takes, and until such an answer has passed, in its words and its
//! head.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::answer::sse;
use crate::front::headers::{self, Body, Carrier, SESSION_ID};

/// A longer answer says more than that there is no such tool.
const MAX_TEXT_BYTES: usize = 200;

/// The words for a tool that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTool {
    /// The code of a JSON-RPC error; none where the server answers with a result that is an error.
    pub(crate) code: Option<i64>,
    /// Before and after the name. Some servers leave the name out.
    before: String,
    after: Option<String>,
    head: Option<Head>,
}

/// How the server sends such an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    headers: HeaderMap,
    streams: bool,
}

/// Headers that belong to one answer, or to one caller.
const OWN: [HeaderName; 6] =
    [header::CONTENT_LENGTH, header::DATE, header::ETAG, header::SET_COOKIE, header::WWW_AUTHENTICATE, header::AUTHORIZATION];

impl Default for UnknownTool {
    /// The words that most servers use.
    fn default() -> Self {
        Self { code: Some(crate::message::INVALID_PARAMS), before: "Unknown tool: ".to_owned(), after: Some(String::new()), head: None }
    }
}

impl UnknownTool {
    /// The words of this answer to a call of `tool`, if that is what it says. The caller knows that the server did not list the tool.
    #[must_use]
    pub fn of_answer(answer: &[u8], tool: &str) -> Option<Self> {
        // With a short name it is not certain which part of the text it is.
        if answer.len() > 4 * MAX_TEXT_BYTES + tool.len() || tool.len() < 4 {
            return None;
        }
        // Most answers are no errors, and need not be read for this.
        let is_error = memchr::memmem::find(answer, b"rror\"").is_some();
        let answer: Value = if is_error { serde_json::from_slice(answer).ok()? } else { return None };
        let (code, text) = match (&answer["error"], &answer["result"]) {
            (Value::Object(error), _) if !error.contains_key("data") => {
                (Some(error.get("code")?.as_i64()?), error.get("message")?.as_str()?)
            }
            (_, result) if result["isError"] == true && result["content"].as_array()?.len() == 1 => {
                (None, result["content"][0]["text"].as_str()?)
            }
            _ => return None,
        };
        let lower = text.to_ascii_lowercase();
        let says_so = ["unknown tool", "not found", "no such tool", "does not exist"].iter().any(|words| lower.contains(words));
        if !says_so || text.len() > MAX_TEXT_BYTES + tool.len() {
            return None;
        }
        match text.split_once(tool) {
            Some((_, after)) if after.contains(tool) => None,
            Some((before, after)) => Some(Self { code, before: before.to_owned(), after: Some(after.to_owned()), head: None }),
            None => Some(Self { code, before: text.to_owned(), after: None, head: None }),
        }
    }

    /// As these words came: with this head.
    #[must_use]
    pub fn with_head(self, status: StatusCode, headers: &HeaderMap) -> Self {
        let mut headers = headers::to_client(headers.clone(), Body::Replaced);
        for name in OWN {
            headers.remove(name);
        }
        let streams = match headers::carrier(&headers) {
            Carrier::Json => false,
            Carrier::EventStream => true,
            Carrier::Other => return self,
        };
        let head = (status == StatusCode::OK && !headers::is_encoded(&headers)).then_some(Head { headers, streams });
        Self { head, ..self }
    }

    /// An answer of these words, sent as the server sends it to a caller who named this session.
    #[must_use]
    pub fn dress(&self, answer: Response<Bytes>, session: Option<&HeaderValue>) -> Response<Bytes> {
        let Some(Head { headers, streams }) = &self.head else { return answer };
        let body = answer.into_body();
        let mut dressed = Response::new(if *streams { sse::event(&body) } else { body });
        *dressed.headers_mut() = headers.clone();
        if dressed.headers_mut().remove(SESSION_ID).is_some()
            && let Some(session) = session
        {
            dressed.headers_mut().insert(SESSION_ID, session.clone());
        }
        dressed
    }

    /// The words for this tool.
    pub(crate) fn text(&self, tool: &str) -> String {
        match &self.after {
            Some(after) => format!("{}{tool}{after}", self.before),
            None => self.before.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_of_each_server_are_learnt_with_the_name_in_its_place() {
        for (answer, code, words) in [
            (json!({"error": {"code": -32602, "message": "Tool missing not found"}}), Some(-32602), "Tool secret not found"),
            (json!({"error": {"code": -32602, "message": "Unknown tool: missing"}}), Some(-32602), "Unknown tool: secret"),
            (json!({"error": {"code": -32602, "message": "tool not found"}}), Some(-32602), "tool not found"),
            (
                json!({"result": {"isError": true, "content": [{"type": "text", "text": "Unknown tool: missing"}]}}),
                None,
                "Unknown tool: secret",
            ),
        ] {
            let learnt = UnknownTool::of_answer(answer.to_string().as_bytes(), "missing").unwrap();
            assert_eq!((learnt.code, learnt.text("secret").as_str()), (code, words), "{answer}");
        }
        for answer in [
            json!({"error": {"code": -32603, "message": "missing: out of disk"}}),
            json!({"error": {"code": -32602, "message": "Tool missing not found", "data": {"near": ["secret"]}}}),
            json!({"error": {"code": -32602, "message": "Tool missing not found, missing"}}),
            json!({"error": {"code": -32602, "message": format!("missing not found{}", ".".repeat(300))}}),
            json!({"result": {"content": [{"type": "text", "text": "Unknown tool: missing"}]}}),
            json!({"result": {"isError": true, "content": [{"type": "text", "text": "Unknown tool: missing"}, {"type": "text", "text": "x"}]}}),
        ] {
            assert_eq!(UnknownTool::of_answer(answer.to_string().as_bytes(), "missing"), None, "{answer}");
        }
    }

    #[test]
    fn the_head_is_the_servers_but_for_what_belongs_to_one_answer_or_caller() {
        let words = UnknownTool::of_answer(br#"{"error":{"code":-32602,"message":"no such tool"}}"#, "missing").unwrap();
        let answered = |content_type: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("content-type", content_type),
                ("server", "uvicorn"),
                ("set-cookie", "a=b"),
                ("mcp-session-id", "theirs"),
                ("date", "then"),
            ] {
                headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            }
            let session = HeaderValue::from_static("mine");
            words.clone().with_head(StatusCode::OK, &headers).dress(Response::new(Bytes::from_static(b"{}")), Some(&session))
        };
        let json = answered("application/json");
        assert_eq!((json.headers()["server"].to_str().unwrap(), json.headers()["mcp-session-id"].to_str().unwrap()), ("uvicorn", "mine"));
        assert_eq!((json.headers().len(), json.body().as_ref()), (3, b"{}".as_slice()));
        assert_eq!(answered("text/event-stream").body().as_ref(), b"event: message\ndata: {}\n\n");
        assert_eq!(answered("text/html").headers().len(), 0);
    }
}
