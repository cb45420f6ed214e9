//! A server of the official Rust SDK: both eras, stateless, answers as JSON.
//!
//! usage: `mcp-policy-interop-rmcp FILE` Each execution becomes a line of FILE; the first line of stdout is the port.

use std::{
    env,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use axum::Router;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let path = env::args_os().nth(1).context("which file takes the executions?")?;
    let file = Arc::new(File::options().create(true).append(true).open(Path::new(&path))?);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;

    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let recorder = move || Ok(Recorder { executions: Arc::clone(&file) });
    let mcp = StreamableHttpService::new(recorder, Arc::new(NeverSessionManager::default()), config);
    axum::serve(listener, Router::new().nest_service("/mcp", mcp)).await.context("cannot serve")
}

/// Writes down what runs.
struct Recorder {
    executions: Arc<File>,
}

impl ServerHandler for Recorder {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let schema = match name {
            "safe" | "danger" | "echo" => json!({"type": "object"}),
            "region" => json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}),
            _ => return None,
        };
        let Value::Object(schema) = schema else { return None };
        Some(Tool::new(name.to_owned(), "", Arc::<JsonObject>::new(schema)))
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        let tools = ["safe", "danger", "echo", "region"].into_iter().filter_map(|name| self.get_tool(name));
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(&self, call: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        if self.get_tool(&call.name).is_none() {
            return Err(ErrorData::invalid_params(format!("Unknown tool: {}", call.name), None));
        }
        let arguments = Value::from(call.arguments.unwrap_or_default()).to_string();
        let mut line = json!({"tool": call.name, "arguments": arguments}).to_string();
        line.push('\n');
        (&*self.executions).write_all(line.as_bytes()).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(CallToolResult::success(vec![ContentBlock::text(arguments)]).into())
    }
}
