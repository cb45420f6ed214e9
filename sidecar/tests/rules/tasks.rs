//! Tasks: what a task brings is the result of the tool that it was made of, so it is bound to that tool (rule 19).

use serde_json::{Value, json};

use crate::support::{Reply, Server, Sidecar, call, eventually};
use crate::{Pair, modern, modern_call};

/// A server that makes a task of every call, by the form of the era.
async fn making_tasks(policy: &Value) -> Pair {
    let server = Server::start(|got| {
        let message = got.json();
        let name = message["params"]["name"].as_str().unwrap_or_default();
        let result = match message["method"].as_str() {
            Some("tools/call") if got.headers.contains_key("mcp-method") => {
                json!({"resultType": "task", "taskId": format!("modern-{name}"), "status": "working"})
            }
            Some("tools/call") => json!({"task": {"taskId": format!("legacy-{name}"), "status": "working"}}),
            _ => json!({"content": [{"type": "text", "text": "outcome"}]}),
        };
        Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), policy);
    Pair { server, sidecar }
}

fn about(method: &str, task: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"taskId": task}})
}

#[tokio::test]
async fn rule_19_a_task_that_was_not_made_here_is_unknown() {
    let pair = making_tasks(&json!({"default": "allow"})).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"] {
        for task in [json!("foreign"), json!(7), Value::Null] {
            let message = about(method, &task);
            let answer = pair.sidecar.post(&message);
            pair.refused_as(method, "unknown_task", answer, |answer| {
                assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (200, &json!(-32602)), "{method}");
            })
            .await;
        }
    }
    pair.refused("modern", modern(1, "tasks/get", &json!({"taskId": "foreign"})), 200, -32602, "unknown_task").await;
}

#[tokio::test]
async fn rule_19_a_task_can_be_fetched_in_both_eras() {
    let pair = making_tasks(&json!({"default": "allow"})).await;
    pair.sidecar.post(&call(1, "read")).await;
    pair.sidecar.send(modern_call(1, "read")).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        assert!(pair.sidecar.post(&about(method, &json!("legacy-read"))).await.text().contains("outcome"), "{method}");
    }
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        assert!(pair.sidecar.send(modern(1, method, &json!({"taskId": "modern-read"}))).await.text().contains("outcome"), "{method}");
    }
    assert!(pair.sidecar.post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"})).await.text().contains("outcome"));
}

#[tokio::test]
async fn rule_19_a_task_of_a_tool_that_is_denied_meanwhile_brings_nothing_and_can_be_ended() {
    let pair = making_tasks(&json!({"default": "allow"})).await;
    pair.sidecar.post(&call(1, "read")).await;
    std::fs::write(&pair.sidecar.policy, json!({"default": "allow", "tools": {"read": {"action": "deny"}}}).to_string()).unwrap();
    eventually("the change is in force", async || pair.sidecar.call("read").await.text().contains("tool_denied")).await;
    let requests = pair.server.requests();
    for method in ["tasks/get", "tasks/result", "tasks/update"] {
        let answer = pair.sidecar.post(&about(method, &json!("legacy-read"))).await;
        assert_eq!(answer.json()["error"]["data"]["mcp-policy.dev/denial"]["code"], "tool_denied", "{method}");
    }
    assert_eq!(pair.server.requests(), requests);
    assert!(pair.sidecar.post(&about("tasks/cancel", &json!("legacy-read"))).await.text().contains("outcome"));
}

#[tokio::test]
async fn rule_19_what_is_told_of_a_task_passes_only_to_whom_its_result_would() {
    let told =
        |task: &str| json!({"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": task, "status": "working"}});
    let related = |task: &str| {
        let meta = json!({"io.modelcontextprotocol/related-task": {"taskId": task}});
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x", "_meta": meta}})
    };
    let server = Server::start(move |got| {
        let message = got.json();
        match message["params"]["name"].as_str() {
            Some(name) if message["method"] == "tools/call" => {
                Reply::json(&json!({"jsonrpc": "2.0", "id": message["id"], "result": {"task": {"taskId": name, "status": "working"}}}))
            }
            _ => Reply::events(&["read", "write", "foreign"].map(|task| [told(task), related(task)]).concat()),
        }
    })
    .await;
    let sidecar = Sidecar::guarding(&server.url(), &json!({"default": "allow"}));
    for tool in ["read", "write"] {
        sidecar.call(tool).await;
    }
    std::fs::write(&sidecar.policy, json!({"default": "allow", "tools": {"write": {"action": "deny"}}}).to_string()).unwrap();
    eventually("the change is in force", async || sidecar.call("write").await.text().contains("tool_denied")).await;
    let heard = sidecar.send(crate::get()).await.events();
    assert_eq!(heard, [told("read"), related("read")]);
    assert_eq!(crate::counted(&sidecar, "server", "unknown_task").await, 4);
}
