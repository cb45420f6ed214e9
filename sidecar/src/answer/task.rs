//! Tasks: calls whose result is fetched later, by the task's id. mcp.md 1.6.

use serde_json::Value;

/// The id of the task that the server made of a call, if its answer says so: `result.task.taskId` in 2025-11-25, and a flat result of
/// type `task` in the extension of 2026-07-28.
#[must_use]
pub fn created_by(answer: &[u8]) -> Option<String> {
    // Most answers are no tasks, and reading all of a long one takes time. A server that writes the key with escapes makes no task
    // that its clients can fetch.
    memchr::memmem::find(answer, b"\"taskId\"")?;
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let result = &answer["result"];
    let id = if result["resultType"] == "task" { &result["taskId"] } else { &result["task"]["taskId"] };
    id.as_str().map(str::to_owned)
}

/// Whether a request is about one task, which it names by `params.taskId`.
#[must_use]
pub fn is_about_one(method: &str) -> bool {
    matches!(method, "tasks/get" | "tasks/result" | "tasks/update" | "tasks/cancel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_known_by_the_form_of_its_revision() {
        for (result, task) in [
            (r#"{"task":{"taskId":"t","status":"working"}}"#, Some("t")),
            (r#"{"resultType":"task","taskId":"t","status":"working"}"#, Some("t")),
            (r#"{"resultType":"complete","taskId":"t"}"#, None),
            (r#"{"content":[{"type":"text","text":"\"taskId\""}]}"#, None),
            (r#"{"task":{"taskId":7}}"#, None),
        ] {
            assert_eq!(created_by(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#).as_bytes()).as_deref(), task, "{result}");
        }
    }
}
