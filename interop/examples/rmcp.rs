//! An MCP client of the official Rust SDK that does what it is told, within one session.
//!
//! usage: rmcp initialize|discover URL     how it opens; input and output are those of `clients/python/agent.py`
#![allow(deprecated, reason = "sampling is part of what is tried")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool of tests")]

use std::io::stdin;
use std::sync::Mutex;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ContentBlock, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData, Implementation, ProgressNotificationParam, ProtocolVersion,
    SamplingMessage,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, NotificationContext, RequestContext, RoleClient, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, serve_client};
use serde_json::{Value, json};
use tokio::sync::watch;

const ANSWER: &str = "Ada";

struct Agent {
    progress: watch::Sender<Vec<f64>>,
    /// To which the user was sent.
    pages: Mutex<Vec<String>>,
}

impl ClientHandler for Agent {
    fn get_info(&self) -> ClientConfig {
        let capabilities: ClientCapabilities =
            serde_json::from_value(json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}})).unwrap();
        ClientConfig::new(capabilities, Implementation::new("agent", "0"))
    }

    async fn create_message(&self, _: CreateMessageRequestParams, _: RequestContext<RoleClient>) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text(ANSWER), "none".to_owned()))
    }

    async fn create_elicitation(&self, asked: ElicitRequestParams, _: RequestContext<RoleClient>) -> Result<ElicitResult, ErrorData> {
        if let ElicitRequestParams::UrlElicitationParams { url, .. } = asked {
            self.pages.lock().unwrap().push(url);
            return Ok(ElicitResult::new(ElicitationAction::Accept));
        }
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"name": ANSWER})))
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.send_modify(|progress| progress.push(params.progress));
    }
}

async fn step(client: &RunningService<RoleClient, Agent>, what: &Value) -> Value {
    if what["list"] == true {
        let tools = client.list_all_tools().await.unwrap();
        return json!({"tools": tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>()});
    }
    let progress = &client.service().progress;
    progress.send_replace(Vec::new());
    client.service().pages.lock().unwrap().clear();
    let mut reported = progress.subscribe();
    let mut params = CallToolRequestParams::new(what["call"].as_str().unwrap().to_owned());
    params.arguments = what["arguments"].as_object().cloned();
    let call = client.call_tool(params);
    let answer = if what["cancel"] == true {
        tokio::select! {
            answer = call => answer,
            // Giving up the wait cancels.
            _ = reported.changed() => return json!({"cancelled": true}),
        }
    } else {
        call.await
    };
    let mut pages = client.service().pages.lock().unwrap().clone();
    match answer {
        Ok(result) => {
            let texts: Vec<&str> = result.content.iter().filter_map(ContentBlock::as_text).map(|text| text.text.as_str()).collect();
            let is_error = result.is_error == Some(true);
            json!({"text": texts.join("\n"), "isError": is_error, "meta": result.meta, "progress": *progress.borrow(), "pages": pages})
        }
        Err(ServiceError::McpError(error)) => {
            let data = error.data.unwrap_or_default();
            pages.extend(data["elicitations"].as_array().into_iter().flatten().filter_map(|page| page["url"].as_str().map(str::to_owned)));
            json!({"error": {"code": error.code.0, "message": error.message}, "raised": "ServiceError::McpError", "pages": pages})
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let agent = Agent { progress: watch::Sender::new(Vec::new()), pages: Mutex::default() };
    let transport = StreamableHttpClientTransport::from_uri(arguments[2].clone());
    let client = match arguments[1].as_str() {
        "initialize" => serve_client(agent, transport).await.unwrap(),
        "discover" => {
            let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
            agent.serve_with_lifecycle(transport, lifecycle).await.unwrap()
        }
        other => panic!("{other} is no way to open"),
    };
    println!("{}", json!({"protocol": client.peer_info().unwrap().protocol_version}));
    // Lines are read on a thread of their own, so that what the server says is heard meanwhile.
    while let Some(line) = tokio::task::spawn_blocking(|| stdin().lines().next()).await.unwrap() {
        println!("{}", step(&client, &serde_json::from_str(&line.unwrap()).unwrap()).await);
    }
}
