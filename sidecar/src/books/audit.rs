//! The audit log: one line of JSON for each decision.
//!
//! Guarantees: a call is not judged before there is room for its line, so no line is lost because lines are written slowly, and
//! memory stays bounded; writing happens on its own thread, so a slow reader of the log holds up calls and nothing else.
//! Values of arguments are never written.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use jiff::Timestamp;
use mcp_policy::Code;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// Lines that wait to be written. More than there are connections, so that ordinary pauses of the reader go unnoticed.
const QUEUE: usize = 4096;

/// Bytes of an ordinary line.
const LINE: usize = 512;

/// How long lines are gathered before they are written. What comes meanwhile wakes nobody: to wake the writing thread for each line
/// would cost a call more than to judge it.
const GATHER: Duration = Duration::from_millis(5);

/// How long [`Audit::flush`] waits for a reader that does not read.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// One decision. What is not known is null; what has no meaning for the kind of message is left out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    /// When the request arrived, RFC 3339.
    pub time: Timestamp,
    /// The id that the agent was told.
    pub decision_id: &'a str,
    /// The policy that decided; the first in force of an allowed call.
    pub policy: Option<&'a str>,
    /// Its revision.
    pub revision: Option<&'a str>,
    /// JSON pointer to the rule in that policy.
    pub rule: Option<&'a str>,
    /// Who called.
    pub caller: &'a str,
    /// The server: `namespace/pod` with the port that was called, the upstream's authority, or the name of the program.
    pub server: &'a str,
    /// The MCP method, if the message could be read so far.
    pub method: Option<&'a str>,
    /// Whether the server sent the message, and not the client.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_server: bool,
    /// The tool as it was called, cut at 256 bytes.
    pub tool: Option<&'a str>,
    /// What was decided.
    pub code: Code,
    /// Which check a malformed message failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malformed: Option<&'a str>,
    /// Names of the call's arguments.
    pub argument_keys: &'a [String],
    /// How many more names there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub argument_keys_left_out: usize,
    /// What policies in audit mode would have decided, each by itself.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub audited: &'a [AuditedLine],
    /// HTTP status of the server's answer; none if it gave none or was not asked.
    pub upstream_status: Option<u16>,
    /// Why the server's answer did not reach the caller, or not as a whole: [`crate::answer::answer_fault::AnswerFault`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_fault: Option<&'a str>,
    /// From the request's head to the end of the answer.
    pub duration_ms: f64,
}

/// What a policy in audit mode would have decided.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditedLine {
    /// The policy.
    pub policy: String,
    /// Its revision.
    pub revision: Option<String>,
    /// JSON pointer to the rule that would have refused.
    pub rule: Option<String>,
    /// What it would have decided.
    pub code: Code,
    /// The counter that is full, if that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Where decisions are written.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: mpsc::Sender<Entry>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// Room for one line.
#[derive(Debug)]
pub struct Slot(mpsc::OwnedPermit<Entry>);

/// The audit log has ended, so nothing may be judged any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the audit log has ended")]
pub struct Ended;

impl Audit {
    /// Starts writing to `out`.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(entries, BufWriter::new(out)))?;
        Ok(Self { queue })
    }

    /// Waits for room for one line.
    pub async fn slot(&self) -> Result<Slot, Ended> {
        self.queue.clone().reserve_owned().await.map(Slot).map_err(|_| Ended)
    }

    /// Waits until all lines so far are written, or for two seconds.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async { self.queue.send(Entry::Flush(done)).await.is_ok() && written.await.is_ok() };
        if !tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.unwrap_or(false) {
            tracing::error!("audit lines were not written before the end");
        }
    }
}

impl Slot {
    /// Writes the line.
    pub fn write(self, line: &Line<'_>) {
        // The types of a line have no map with keys that are not strings, so writing it cannot fail.
        let mut json = Vec::with_capacity(LINE);
        let _ = serde_json::to_writer(&mut json, line);
        json.push(b'\n');
        self.0.send(Entry::Line(json));
    }
}

fn write(mut entries: mpsc::Receiver<Entry>, mut out: impl Write) {
    let mut failing = false;
    while let Some(mut entry) = entries.blocking_recv() {
        std::thread::sleep(GATHER);
        loop {
            let written = match entry {
                Entry::Line(line) => out.write_all(&line),
                Entry::Flush(done) => {
                    let flushed = out.flush();
                    // Whoever asked may have given up.
                    let _ = done.send(());
                    flushed
                }
            };
            failing = report(failing, written);
            match entries.try_recv() {
                Ok(next) => entry = next,
                Err(_) => break,
            }
        }
        failing = report(failing, out.flush());
    }
}

/// Says once that lines cannot be written, and once that they can again.
fn report(failing: bool, written: io::Result<()>) -> bool {
    match (failing, written) {
        (false, Err(cause)) => tracing::error!(%cause, "audit lines cannot be written and are lost"),
        (true, Ok(())) => tracing::info!("audit lines are written again"),
        (true, Err(_)) => return true,
        (false, Ok(())) => return false,
    }
    !failing
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;

    fn line() -> Line<'static> {
        Line {
            time: Timestamp::UNIX_EPOCH,
            decision_id: "1",
            policy: None,
            revision: None,
            rule: None,
            caller: "anonymous:10.0.0.1",
            server: "imaging/server-0:8080",
            method: Some("tools/call"),
            from_server: false,
            tool: Some("x"),
            code: Code::NoPolicy,
            malformed: None,
            argument_keys: &[],
            argument_keys_left_out: 0,
            audited: &[],
            upstream_status: None,
            upstream_fault: None,
            duration_ms: 0.5,
        }
    }

    /// A writer that waits until it is opened.
    #[derive(Clone, Default)]
    struct Gate {
        state: Arc<Mutex<GateState>>,
        opened: Arc<Condvar>,
    }

    #[derive(Default)]
    struct GateState {
        open: bool,
        written: Vec<u8>,
    }

    impl Gate {
        fn open(&self) {
            self.state.lock().unwrap().open = true;
            self.opened.notify_all();
        }

        fn written(&self) -> String {
            String::from_utf8(self.state.lock().unwrap().written.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.opened.wait_while(self.state.lock().unwrap(), |state| !state.open).unwrap();
            state.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_is_one_json_object_with_the_documented_fields() {
        let gate = Gate::default();
        gate.open();
        let audit = Audit::start(gate.clone()).unwrap();
        audit.slot().await.unwrap().write(&line());
        audit.flush().await;
        assert_eq!(
            gate.written(),
            concat!(
                r#"{"time":"1970-01-01T00:00:00Z","decisionId":"1","policy":null,"revision":null,"rule":null,"caller":"anonymous:10.0.0.1","#,
                r#""server":"imaging/server-0:8080","method":"tools/call","tool":"x","code":"no_policy","argumentKeys":[],"#,
                r#""upstreamStatus":null,"durationMs":0.5}"#,
                "\n"
            )
        );
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_up_calls_and_loses_no_line() {
        const LINES: usize = 3 * QUEUE;
        let gate = Gate::default();
        let audit = Audit::start(gate.clone()).unwrap();
        let calls = tokio::spawn({
            let audit = audit.clone();
            async move {
                for _ in 0..LINES {
                    audit.slot().await.unwrap().write(&line());
                }
            }
        });
        while audit.queue.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(!calls.is_finished(), "calls wait for room");
        gate.open();
        calls.await.unwrap();
        audit.flush().await;
        assert_eq!(gate.written().lines().count(), LINES);
    }
}
