//! Every request to every server: without the sidecar, and through two of them.

use std::cell::Cell;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use mcp_policy_interop::server::{Execution, Sdk, Server};
use mcp_policy_interop::sidecar::Sidecar;
use mcp_policy_interop::wire::{Answer, End, Received, exchange, exchange_until};
use serde_json::{Value, json};

use crate::request::{params, post};
use crate::{legitimate, variants};

/// How long a server may take to answer. Some requests open a stream that does not end, or make a server wait for more.
const PATIENCE: Duration = Duration::from_secs(4);

/// Everything but `danger`.
pub const DENYING: &str =
    r#"{"version": "1", "default": "deny", "tools": {"safe": {}, "echo": {}, "region": {}, "danger": {"action": "deny"}}}"#;
/// Everything.
pub const ALLOWING: &str = r#"{"version": "1", "default": "allow"}"#;

/// What one request led to.
#[derive(Debug)]
pub struct Outcome {
    pub statuses: Vec<u16>,
    /// Whether the connection stayed open without an answer.
    pub hung: bool,
    pub ran: Vec<Execution>,
    errors: usize,
}

impl Outcome {
    fn new(received: &Received, ran: Vec<Execution>) -> Self {
        let answers = received.answers();
        Self {
            statuses: answers.iter().map(|answer| answer.status).collect(),
            hung: received.hung,
            ran,
            errors: answers.iter().filter(|answer| is_error(answer)).count(),
        }
    }

    pub fn tools(&self) -> Vec<&str> {
        self.ran.iter().map(|execution| execution.tool.as_str()).collect()
    }

    /// Whether every answer says that its request was carried out.
    pub fn all_succeeded(&self) -> bool {
        !self.statuses.is_empty() && self.errors == 0
    }
}

/// Whether an answer says that its request failed. Some servers answer with a document, some with an event.
fn is_error(answer: &Answer) -> bool {
    let body = String::from_utf8_lossy(&answer.body);
    let text = body.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(&body);
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    answer.status >= 300 || message.get("error").is_some() || message["result"]["isError"] == true
}

/// What one request led to, through a sidecar.
#[derive(Debug)]
pub struct Seen {
    pub outcome: Outcome,
    /// The audit lines that it left.
    pub audit: Vec<Value>,
}

impl Seen {
    /// The tools whose calls were logged as allowed.
    pub fn allowed(&self) -> Vec<&str> {
        self.audit.iter().filter(|line| line["code"] == "allowed").filter_map(|line| line["tool"].as_str()).collect()
    }
}

#[derive(Debug)]
pub struct Row {
    pub direct: Outcome,
    pub denying: Seen,
    pub allowing: Seen,
}

/// What one server did with every request, in the order of the corpus.
pub struct Found {
    pub sdk: Sdk,
    pub variants: Vec<Row>,
    pub legitimate: Vec<Row>,
}

/// Everything is run once, however many tests look at it.
pub fn results() -> &'static [Found] {
    static RESULTS: OnceLock<Vec<Found>> = OnceLock::new();
    RESULTS.get_or_init(|| {
        let running = Sdk::ALL.map(|sdk| thread::spawn(move || find(sdk)));
        running.map(|found| found.join().unwrap()).into()
    })
}

fn find(sdk: Sdk) -> Found {
    let mut server = Server::start(sdk);
    let denying = Guard::new(DENYING, &server);
    let allowing = Guard::new(ALLOWING, &server);
    let mut row = |bytes: &[u8], end, answers| {
        let received = exchange_until(server.address(), bytes, end, answers, PATIENCE);
        let direct = Outcome::new(&received, settled(&mut server));
        let denying = denying.exchange(bytes, end, &mut server);
        Row { direct, denying, allowing: allowing.exchange(bytes, end, &mut server) }
    };
    Found {
        sdk,
        variants: variants().iter().map(|variant| row(&variant.bytes, variant.end, variant.answers)).collect(),
        legitimate: legitimate::all().iter().map(|message| row(&message.request.bytes(), End::Waits, 1)).collect(),
    }
}

/// What a server ran, also for a request that it had answered before it was done with it: Node answers a head that it cannot read while
/// the request before it still runs.
fn settled(server: &mut Server) -> Vec<Execution> {
    let last = params(r#""name":"echo","arguments":{"fence":true}"#);
    exchange_until(server.address(), &last.bytes(), End::Waits, 1, PATIENCE);
    let mut ran = server.executed();
    assert_eq!(ran.pop().map(|execution| execution.arguments), Some(json!({"fence": true})), "{ran:?}");
    ran
}

/// A sidecar, and how its audit lines are told apart.
struct Guard {
    sidecar: Sidecar,
    fences: Cell<u32>,
}

impl Guard {
    fn new(policy: &str, server: &Server) -> Self {
        Self { sidecar: Sidecar::start(policy, &server.url()), fences: Cell::new(0) }
    }

    fn exchange(&self, bytes: &[u8], end: End, server: &mut Server) -> Seen {
        let received = exchange(self.sidecar.address(), bytes, end);
        // Lines are written in order, and this method passes no policy: when its line is there, so are all before it.
        self.fences.set(self.fences.get() + 1);
        let fence = format!("fence/{}", self.fences.get());
        let answer =
            exchange(self.sidecar.address(), &post(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{fence}"}}"#)).bytes(), End::Waits);
        assert!(!answer.hung, "the sidecar does not answer any more");
        let mut audit = self.sidecar.audit_until(|line| line["method"] == fence.as_str());
        audit.pop();
        Seen { outcome: Outcome::new(&received, server.executed()), audit }
    }
}
