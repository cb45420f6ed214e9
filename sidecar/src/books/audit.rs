//! The audit log: one line of JSON for each decision.
//!
//! Guarantees: writing never holds up a call longer than [`PATIENCE`]; a line for which there was no room is counted, and the log itself
//! says how many are missing where they are missing. Whether a call is refused then is the policies' word. Values of arguments are
//! never written.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use mcp_policy::Code;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::books::lines::Lines;
pub use crate::books::lines::Slot;

/// The longest that a message waits for room for its line.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// What a caller is told to wait who was refused because there was no room.
pub const RETRY_AFTER_SECONDS: u64 = 5;

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

/// Stands where lines are missing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gap {
    /// When the log went on, RFC 3339.
    time: Timestamp,
    lines_lost: u64,
}

/// Where decisions are written. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: Arc<Lines>,
    lost: Counter,
    /// Those of the lost that the log does not tell of yet.
    untold: Arc<AtomicU64>,
}

impl Audit {
    /// Starts writing to `out`. What is lost is counted in `lost`.
    pub fn start(out: impl Write + Send + 'static, lost: Counter) -> io::Result<Self> {
        Ok(Self { lines: Arc::new(Lines::start("audit", out)?), lost, untold: Arc::default() })
    }

    /// Room for one line, if there is some now.
    #[must_use]
    pub fn room(&self) -> Option<Slot> {
        self.lines.room()
    }

    /// Room for one line, if there is some soon.
    pub async fn room_soon(&self) -> Option<Slot> {
        self.lines.room_within(PATIENCE).await
    }

    /// Writes a line, if there was room for it or is now; else it is lost, and counted.
    pub fn write(&self, slot: Option<Slot>, line: &Line<'_>) {
        if let Some(slot) = slot.or_else(|| self.room()) {
            return self.append(slot, Some(line));
        }
        self.lost.inc();
        if self.untold.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("audit lines are lost: they are not taken as fast as they come");
        }
    }

    /// Waits until all lines so far are written, or for two seconds.
    pub async fn flush(&self) {
        let flushed = async {
            if self.untold.load(Ordering::Relaxed) > 0
                && let Some(slot) = self.lines.room_within(FLUSH_TIMEOUT).await
            {
                self.append(slot, None);
            }
            self.lines.flush().await;
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushed).await.is_err() {
            tracing::error!("audit lines were not written before the end");
        }
    }

    fn append(&self, slot: Slot, line: Option<&Line<'_>>) {
        self.lines.append(slot, |bytes| {
            let lines_lost = self.untold.swap(0, Ordering::Relaxed);
            if lines_lost > 0 {
                json(bytes, &Gap { time: Timestamp::now(), lines_lost });
            }
            if let Some(line) = line {
                json(bytes, line);
            }
        });
    }
}

fn json(bytes: &mut Vec<u8>, line: &impl Serialize) {
    // The types of a line have no map with keys that are not strings, so writing it cannot fail.
    let _ = serde_json::to_writer(&mut *bytes, line);
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader};

    use serde_json::Value;

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

    fn audit() -> (Audit, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Audit::start(writer, Counter::default()).unwrap(), reader)
    }

    #[tokio::test]
    async fn a_line_is_one_json_object_with_the_documented_fields() {
        let (audit, reader) = audit();
        audit.write(audit.room(), &line());
        audit.flush().await;
        drop(audit);
        assert_eq!(
            io::read_to_string(reader).unwrap(),
            concat!(
                r#"{"time":"1970-01-01T00:00:00Z","decisionId":"1","policy":null,"revision":null,"rule":null,"caller":"anonymous:10.0.0.1","#,
                r#""server":"imaging/server-0:8080","method":"tools/call","tool":"x","code":"no_policy","argumentKeys":[],"#,
                r#""upstreamStatus":null,"durationMs":0.5}"#,
                "\n"
            )
        );
    }

    /// The lines, and where there is a gap, how many are missing.
    fn told(reader: PipeReader) -> Vec<Result<(), u64>> {
        let told = |line: io::Result<String>| match serde_json::from_str::<Value>(&line.unwrap()).unwrap()["linesLost"].as_u64() {
            Some(lost) => Err(lost),
            None => Ok(()),
        };
        BufReader::new(reader).lines().map(told).collect()
    }

    #[tokio::test]
    async fn what_is_lost_is_counted_and_told_in_the_log_where_it_is_missing() {
        let (audit, reader) = audit();
        let mut kept = 0;
        while let Some(slot) = audit.room_soon().await {
            audit.write(Some(slot), &line());
            kept += 1;
        }
        for _ in 0..3 {
            audit.write(None, &line());
        }
        assert_eq!(audit.lost.get(), 3);
        let read = std::thread::spawn(|| told(reader));
        audit.flush().await;
        audit.write(audit.room(), &line());
        audit.flush().await;
        drop(audit);
        let told = read.join().unwrap();
        let expected = [vec![Ok(()); kept], vec![Err(3), Ok(())]].concat();
        assert!(told == expected, "{} lines, and {:?}", told.len(), told.iter().filter(|one| one.is_err()).collect::<Vec<_>>());
    }
}
