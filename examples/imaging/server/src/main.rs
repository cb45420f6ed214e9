//! A medical-imaging service as an MCP server: Streamable HTTP on `/mcp`, health on `/healthz`, everything in memory.
//!
//! It knows nothing of policies. `IMAGING_LISTEN` is the address to listen on (default: port 8080 of all, IPv4 and IPv6);
//! `IMAGING_ALLOWED_HOSTS` is a list, separated by commas, of the names and addresses that a `Host` header may have (default: loopback).

mod archive;
mod tools;

use std::{
    env,
    sync::{Arc, Mutex},
};

use anyhow::Context;
use axum::{Router, routing::get, serve::ListenerExt};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{archive::Archive, tools::Imaging};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // As the first process of a container it would not be ended by the signal itself.
    let mut terminate = signal(SignalKind::terminate())?;

    let address = env::var("IMAGING_LISTEN").unwrap_or_else(|_| "[::]:8080".into());
    let listener = TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;

    let mut config = StreamableHttpServerConfig::default();
    if let Ok(hosts) = env::var("IMAGING_ALLOWED_HOSTS") {
        config = config.with_allowed_hosts(hosts.split(','));
    }
    let archive = Arc::new(Mutex::new(Archive::sample()));
    let mcp = StreamableHttpService::new(move || Ok(Imaging::new(Arc::clone(&archive))), Arc::new(LocalSessionManager::default()), config);
    let routes = Router::new().route("/healthz", get(|| async { "ok" })).nest_service("/mcp", mcp);

    tokio::select! {
        // An answer is written in parts: none of them waits for the one before to be acknowledged.
        served = axum::serve(listener.tap_io(|stream| _ = stream.set_nodelay(true)), routes) => served.context("cannot serve"),
        _ = terminate.recv() => Ok(()),
    }
}
