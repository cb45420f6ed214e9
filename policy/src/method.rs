//! The methods of all supported MCP revisions (2025-03-26 to 2026-07-28). What a policy does not name is allowed if it is one of
//! these, and denied otherwise: nobody has judged what another one does.

/// What a client may send: requests and notifications.
pub const FROM_CLIENT: &[&str] = &[
    "completion/complete",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/initialized",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// What a server may send: requests and notifications.
pub const FROM_SERVER: &[&str] = &[
    "elicitation/create",
    "notifications/cancelled",
    "notifications/elicitation/complete",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/subscriptions/acknowledged",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
    "ping",
    "roots/list",
    "sampling/createMessage",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
];

/// Whether some supported revision has the method, in either direction.
#[must_use]
pub fn is_known(method: &str) -> bool {
    FROM_CLIENT.contains(&method) || FROM_SERVER.contains(&method)
}
