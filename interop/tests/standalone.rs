//! Servers on stdio that others published, behind a sidecar without a cluster: offered over HTTP, and started by a desktop client.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use mcp_policy_interop::client::{Agent, Answer, Client};
use mcp_policy_interop::prepared::{folder, python};
use mcp_policy_interop::sidecar::{Sidecar, program};
use mcp_policy_interop::wait::within;
use serde_json::{Value, json};

/// The first policy of the documentation: ten calls a minute for each caller to one tool, and nothing else.
const POLICY: &str = r#"
{ "version": "1", "default": "deny",
  "tools": { "start_dicom_export_job": {
    "limits": [ { "counter": "start_dicom_export_job_rate", "window": "minute", "max": 10, "scope": "grant" } ] } } }
"#;
const EXPORT: &str = "start_dicom_export_job";

/// A stand-in for AWS `HealthImaging` that starts every export job and counts them.
struct Aws {
    address: SocketAddr,
    jobs: Arc<AtomicUsize>,
}

impl Aws {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let jobs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&jobs);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let counted = Arc::clone(&counted);
                thread::spawn(move || serve(&stream.unwrap(), &counted));
            }
        });
        Self { address, jobs }
    }

    fn jobs(&self) -> usize {
        self.jobs.load(Ordering::SeqCst)
    }
}

/// Answers the requests of one connection.
fn serve(mut stream: &TcpStream, jobs: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let asked = std::mem::take(&mut line);
        let mut length = 0;
        while reader.read_line(&mut line).is_ok() && !line.trim().is_empty() {
            if let Some((_, value)) = line.to_ascii_lowercase().split_once("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        line.clear();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert!(asked.starts_with("POST /startDICOMExportJob/"), "{asked}");
        jobs.fetch_add(1, Ordering::SeqCst);
        let job = json!({"datastoreId": "d", "jobId": "j", "jobStatus": "SUBMITTED"}).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{job}", job.len()).unwrap();
    }
}

/// A published server, of the same Python as its packages.
fn server(name: &str) -> Command {
    let python = python("stdio-servers");
    Command::new(Path::new(&python).with_file_name(name))
}

/// The server of AWS, 0.1.1, whose AWS is the stand-in. The published `boto3` does not know the operation yet: the folder adds it.
fn healthimaging(aws: &Aws) -> Command {
    let mut server = server("awslabs.healthimaging-mcp-server");
    server
        .env("AWS_ENDPOINT_URL", format!("http://{}", aws.address))
        .env("AWS_DATA_PATH", folder().join("servers/healthimaging"))
        .envs([("AWS_ACCESS_KEY_ID", "none"), ("AWS_SECRET_ACCESS_KEY", "none"), ("AWS_DEFAULT_REGION", "us-east-1")])
        .env("AWS_MAX_ATTEMPTS", "1");
    server
}

fn connect(client: Client, sidecar: &Sidecar) -> Agent {
    let mut command = client.command();
    command.arg(sidecar.url());
    Agent::connect(command)
}

/// The command that a desktop client is told instead of the server's, with a client that starts it.
fn desktop(line: &str, policy: &Path, audit: &Path, server: &Command) -> Command {
    let mut client = Command::new(python(line));
    client.arg(folder().join("clients/python/desktop.py")).arg(program()).arg("run");
    client.arg("--policy").arg(policy).arg("--audit").arg(audit).arg("--").arg(server.get_program()).args(server.get_args());
    client.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
    client
}

fn job() -> Value {
    json!({"datastore_id": "0".repeat(32), "data_access_role_arn": "arn:aws:iam::123456789012:role/export", "output_s3_uri": "s3://b/p"})
}

fn submitted(answer: &Answer) -> bool {
    answer.passed() && answer.text().contains("SUBMITTED")
}

/// What the policy says, seen by a client.
fn ten_of_one_tool(agent: &mut Agent, aws: &Aws) {
    assert_eq!(agent.list(), [EXPORT], "39 tools, one of them visible");
    for call in 1..=10 {
        assert!(submitted(&agent.call(EXPORT, &job())), "call {call}");
    }
    let refused = agent.call(EXPORT, &job());
    assert_eq!((refused.passed(), refused.code()), (false, "limit_exceeded"));
    assert!(refused.text().contains("the limit `start_dicom_export_job_rate` is used up"), "{}", refused.text());
    for tool in ["list_datastores", "delete_patient_studies", "no_such_tool"] {
        assert_eq!(agent.call(tool, &json!({"datastore_id": "0".repeat(32)})).code(), "default_deny", "{tool}");
    }
    assert_eq!(aws.jobs(), 10);
}

/// The audit lines once there are as many: a line is written a moment after its answer.
fn written(audit: &Path, count: usize) -> Vec<Value> {
    within(Duration::from_secs(10), "audit lines", || {
        let lines = fs::read_to_string(audit).unwrap();
        if lines.lines().count() < count {
            return Err(lines);
        }
        Ok(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    })
}

fn codes(audit: &[Value]) -> Vec<&str> {
    audit.iter().map(|line| line["code"].as_str().unwrap()).collect()
}

const CODES: [&str; 14] = {
    let mut codes = ["allowed"; 14];
    (codes[10], codes[11], codes[12], codes[13]) = ("limit_exceeded", "default_deny", "default_deny", "default_deny");
    codes
};

#[test]
fn the_server_of_aws_offered_over_http_keeps_to_ten_calls_of_one_tool() {
    for (client, protocol) in [(Client::Python1, "2025-11-25"), (Client::Python2, "2026-07-28"), (Client::TypeScript2, "2025-11-25")] {
        let aws = Aws::start();
        let sidecar = Sidecar::offer(POLICY, &healthimaging(&aws));
        let mut agent = connect(client, &sidecar);
        assert_eq!(agent.protocol, protocol, "{client:?}");
        ten_of_one_tool(&mut agent, &aws);
        drop(agent);
        let audit = sidecar.end();
        assert_eq!(codes(&audit), CODES, "{client:?}");
        assert_eq!(audit[0]["server"], "awslabs.healthimaging-mcp-server");
    }
}

#[test]
fn the_server_of_aws_started_by_a_desktop_client_keeps_to_ten_calls_of_one_tool() {
    for (line, protocol) in [("mcp-1.30.0", "2025-11-25"), ("mcp-2.3.0", "2026-07-28")] {
        let aws = Aws::start();
        let files = tempfile::tempdir().unwrap();
        let (policy, audit) = (files.path().join("policy.json"), files.path().join("audit.jsonl"));
        fs::write(&policy, POLICY).unwrap();
        let mut agent = Agent::connect(desktop(line, &policy, &audit, &healthimaging(&aws)));
        assert_eq!(agent.protocol, protocol, "{line}");
        ten_of_one_tool(&mut agent, &aws);
        let lines = written(&audit, CODES.len());
        assert_eq!(codes(&lines), CODES, "{line}");
    }
}

#[test]
fn a_policy_on_arguments_holds_for_another_published_server_and_every_client() {
    let policy = "
tools:
  get_current_time: {require: [{path: args.timezone, op: regex, value: '^Europe/'}]}
  convert_time: {action: deny, reason: Ask a clock.}
";
    let sidecar = Sidecar::offer(policy, &server("mcp-server-time"));
    for client in Client::ALL {
        let mut agent = connect(client, &sidecar);
        assert_eq!(agent.protocol, client.revision(), "{client:?}");
        assert_eq!(agent.list(), ["get_current_time"], "{client:?}");
        let told = agent.call("get_current_time", &json!({"timezone": "Europe/Berlin"}));
        assert!(told.passed() && told.text().contains("Europe/Berlin"), "{client:?}: {told:?}");
        assert!(
            agent.call("get_current_time", &json!({"timezone": "Asia/Tokyo"})).text().contains("arguments are not allowed"),
            "{client:?}"
        );
        assert!(agent.call("convert_time", &json!({})).text().contains("Ask a clock."), "{client:?}");
    }
}

#[test]
fn a_server_without_the_newest_revision_reports_progress_and_asks_its_client() {
    let mut command = Command::new(python("mcp-1.30.0"));
    command.arg(folder().join("servers/python/stdio.py"));
    let sidecar = Sidecar::offer("tools: {count: {}, greet: {}}", &command);
    // This one has no way back from a server that does not know `server/discover`.
    for client in Client::ALL.into_iter().filter(|client| *client != Client::RustNewest) {
        let mut agent = connect(client, &sidecar);
        assert_eq!(agent.protocol, "2025-11-25", "{client:?}");
        assert_eq!(agent.list(), ["count", "greet"], "{client:?}");
        let counted = agent.call("count", &json!({}));
        assert!(counted.text() == "counted" && counted.0["progress"][0].as_f64() == Some(1.0), "{client:?}: {counted:?}");
        assert_eq!(agent.call("greet", &json!({})).text(), "Hello Ada", "{client:?}");
        assert!(!agent.call("purge", &json!({})).passed(), "{client:?}");
    }
}
