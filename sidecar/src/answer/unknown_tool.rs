//! How a server answers a call of a tool that it does not have. A hidden tool is answered in the same words, so that nobody can tell it
//! from one that does not exist. Learnt from what passes by: each implementation has its own.
//!
//! Caveat: that no server was asked shows in the time that the answer takes, and in headers of the server's own.

use serde_json::Value;

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
}

impl Default for UnknownTool {
    /// The words that most servers use.
    fn default() -> Self {
        Self { code: Some(crate::message::INVALID_PARAMS), before: "Unknown tool: ".to_owned(), after: Some(String::new()) }
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
            Some((before, after)) => Some(Self { code, before: before.to_owned(), after: Some(after.to_owned()) }),
            None => Some(Self { code, before: text.to_owned(), after: None }),
        }
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
}
