//! Messages that no SDK would send.

use serde_json::Value;

use crate::cluster::{command, root, run};

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub body: String,
}

impl Response {
    /// The JSON-RPC message in the body, be it JSON or the first event of a stream.
    pub fn message(&self) -> Value {
        let event = self.body.lines().filter_map(|line| line.strip_prefix("data:")).find(|data| !data.trim().is_empty());
        serde_json::from_str(event.unwrap_or(&self.body)).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// Posts these very bytes. `headers` are `name: value`, and replace those that a client would send.
pub fn post(url: &str, headers: &[&str], body: &[u8]) -> Response {
    let mut python = command("python3");
    python.arg(root().join("e2e/raw.py")).arg(url).args(headers);
    let answer: Value = serde_json::from_str(&run(&mut python, Some(body)).unwrap_or_else(|why| panic!("POST {url}: {why}"))).unwrap();
    Response { status: u16::try_from(answer["status"].as_u64().unwrap()).unwrap(), body: answer["body"].as_str().unwrap().to_owned() }
}

/// The text of a `tools/call` with this id.
pub fn call(id: u64, tool: &str, arguments: &Value) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#)
}
