//! Tasks: calls whose result is fetched later, by the task's id. mcp.md 1.6.

use serde_json::Value;

/// The key of `_meta` that names the task which a message belongs to.
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

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

/// The task that a notification of the server is about: `notifications/tasks` and what stands below it name it by `params.taskId`, all
/// others by `_meta`.
#[must_use]
pub fn notified(notification: &[u8]) -> Option<String> {
    // Most are about none. A backslash may be one of the key's or the method's letters.
    memchr::memmem::find(notification, b"task").or_else(|| memchr::memchr(b'\\', notification))?;
    let notification: Value = serde_json::from_slice(notification).ok()?;
    let params = &notification["params"];
    let is_about_one = notification["method"].as_str().is_some_and(|method| method.starts_with("notifications/tasks"));
    let id = if is_about_one { &params["taskId"] } else { &params["_meta"][RELATED_TASK]["taskId"] };
    // One that does not say which is about one that nobody knows.
    id.as_str().map(str::to_owned).or(is_about_one.then(String::new))
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

    #[test]
    fn a_notification_names_its_task_by_itself_or_by_what_it_is_related_to() {
        for (notification, task) in [
            (r#"{"method":"notifications/tasks/status","params":{"taskId":"t"}}"#, Some("t")),
            (r#"{"method":"notifications\/\u0074asks","params":{"\u0074askId":"t"}}"#, Some("t")),
            (r#"{"method":"notifications/tasks/status","params":{"taskId":7}}"#, Some("")),
            (r#"{"method":"notifications/message","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}"#, Some("t")),
            (r#"{"method":"notifications/message","params":{"data":"task"}}"#, None),
            (r#"{"method":"notifications/progress","params":{"taskId":"t"}}"#, None),
        ] {
            assert_eq!(notified(notification.as_bytes()).as_deref(), task, "{notification}");
        }
    }
}
