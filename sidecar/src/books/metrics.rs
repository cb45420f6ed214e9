//! Metrics, in the `OpenMetrics` text form and in the older one of Prometheus.
//!
//! Labels are bounded: a tool's name is one only where a policy names it or the server listed it, else `other`, and a caller is told in
//! the words of a policy's `from`, because names on the wire belong to attackers. What is state and not an event is computed when it is scraped.

use std::borrow::Cow;
use std::fmt::{self, Debug, Write as _};
use std::sync::Arc;
use std::time::Duration;

use mcp_policy::{Code, Mode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::answer::answer_fault::AnswerFault;
use crate::authenticate::Rejected;
use crate::state::State;

/// Content type of [`Metrics::openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`Metrics::classic`].
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Label of a tool that no policy names and the server did not list.
pub const OTHER_TOOL: &str = "other";

/// A decision takes microseconds.
const DECISION_BUCKETS: [f64; 12] = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2, 1e-1];
/// A tool takes from milliseconds to minutes.
const UPSTREAM_BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// Handles of everything that is counted. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    decisions: Family<DecisionLabels, Counter>,
    limit_refusals: Family<LimitLabels, Counter>,
    without_session: Family<LimitLabels, Counter>,
    malformed: Family<MalformedLabels, Counter>,
    unproved: Family<UnprovedLabels, Counter>,
    decision_duration: Histogram,
    upstream_duration: Family<ToolLabels, Histogram, fn() -> Histogram>,
    upstream_faults: Family<FaultLabels, Counter>,
    in_flight: Gauge,
    audit_lines_lost: Counter,
    spans_lost: Counter,
    /// The label where there is nothing to name, and that of tools which are not named: made once.
    nothing: Arc<str>,
    other_tool: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    policy: Arc<str>,
    tool: Arc<str>,
    decision: &'static str,
    code: &'static str,
    mode: &'static str,
    #[prometheus(flatten)]
    caller: CallerLabel,
}

/// There only where a policy names the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallerLabel(Option<Arc<str>>);

impl EncodeLabelSet for CallerLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |caller| ("caller", &**caller).encode(encoder.encode_label()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    policy: Arc<str>,
    counter: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnprovedLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MalformedLabels {
    from: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolLabels {
    tool: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SnapshotLabels {
    version: String,
    sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    reason: &'static str,
}

/// A request that is being answered; dropping it ends it.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        let decisions = Family::default();
        let limit_refusals = Family::default();
        let without_session = Family::default();
        let malformed = Family::default();
        let unproved = Family::default();
        let decision_duration = Histogram::new(DECISION_BUCKETS);
        let upstream_duration: Family<ToolLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(UPSTREAM_BUCKETS));
        let upstream_faults = Family::default();
        let in_flight = Gauge::default();
        let audit_lines_lost = Counter::default();
        let spans_lost = Counter::default();

        let mut registry = Registry::with_prefix("mcp_policy");
        registry.register("decisions", "Decisions on messages, by policy, tool and code", decisions.clone());
        registry.register("limit_refusals", "Calls refused because a counter was full", limit_refusals.clone());
        let help = "Calls without a session that a limit of scope session counted by their caller";
        registry.register("limit_without_session", help, without_session.clone());
        let help = "Messages refused before any rule, and messages of servers that were dropped, by sender and reason";
        registry.register("malformed", help, malformed.clone());
        let help = "Requests that proved no caller though callers can prove themselves, by reason";
        registry.register("unproved_requests", help, unproved.clone());
        registry.register("decision_duration_seconds", "Time to decide one call", decision_duration.clone());
        registry.register(
            "upstream_duration_seconds",
            "Time from forwarding a call to the end of the server's answer",
            upstream_duration.clone(),
        );
        let help = "Answers of the server that did not reach their caller, or not as a whole, by reason";
        registry.register("upstream_faults", help, upstream_faults.clone());
        registry.register("requests_in_flight", "Requests whose answer has not ended", in_flight.clone());
        let help = "Audit lines that were not written, because lines are not taken as fast as they come";
        registry.register("audit_lines_lost", help, audit_lines_lost.clone());
        registry.register("spans_lost", "Spans that were not sent to the collector", spans_lost.clone());
        registry.register("build", "The build that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        state.store_metrics().register(&mut registry);
        registry.register_collector(Box::new(Scraped(state)));
        Self {
            registry: Arc::new(registry),
            decisions,
            limit_refusals,
            without_session,
            malformed,
            unproved,
            decision_duration,
            upstream_duration,
            upstream_faults,
            in_flight,
            audit_lines_lost,
            spans_lost,
            nothing: Arc::from(""),
            other_tool: Arc::from(OTHER_TOOL),
        }
    }

    /// Counts spans that were not sent.
    #[must_use]
    pub fn spans_lost(&self) -> Counter {
        self.spans_lost.clone()
    }

    /// Counts audit lines that were not written.
    #[must_use]
    pub fn audit_lines_lost(&self) -> Counter {
        self.audit_lines_lost.clone()
    }

    /// A request has arrived.
    #[must_use]
    pub fn request(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// The label [`OTHER_TOOL`].
    #[must_use]
    pub fn other_tool(&self) -> Arc<str> {
        Arc::clone(&self.other_tool)
    }

    /// Counts a decision; with [`Mode::Audit`], what a policy in that mode would have decided. `tool` is a label: see [`OTHER_TOOL`].
    /// Without a policy or a tool, the label is empty. `caller` is the entry of a policy that names it: a caller's own words are no label.
    pub fn decided(&self, policy: Option<&Arc<str>>, tool: Option<&Arc<str>>, code: Code, mode: Mode, caller: Option<&Arc<str>>) {
        // Whether it was allowed is the policy's word; a server that could not be reached does not change it.
        let decision = if matches!(code, Code::Allowed | Code::UpstreamUnreachable) { "allowed" } else { "refused" };
        let labels = DecisionLabels {
            policy: Arc::clone(policy.unwrap_or(&self.nothing)),
            tool: Arc::clone(tool.unwrap_or(&self.nothing)),
            decision,
            code: code.as_str(),
            mode: mode.as_str(),
            caller: CallerLabel(caller.cloned()),
        };
        self.decisions.get_or_create(&labels).inc();
    }

    /// Counts a refusal by a full counter. What a policy in audit mode would have refused is none.
    pub fn limited(&self, policy: &Arc<str>, counter: &Arc<str>) {
        self.limit_refusals.get_or_create(&LimitLabels { policy: Arc::clone(policy), counter: Arc::clone(counter) }).inc();
    }

    /// Counts a call without a session that a counter of scope `session` counted by its caller. The first one of each counter is a
    /// warning: on a server without sessions, the limit is not what its author meant.
    pub fn counted_without_session(&self, policy: &str, counter: &Arc<str>) {
        let labels = LimitLabels { policy: policy.into(), counter: Arc::clone(counter) };
        if self.without_session.get_or_create(&labels).inc() == 0 {
            tracing::warn!(policy, %counter, "a call without a session spent from a limit of scope `session`; such calls are counted by caller");
        }
    }

    /// Counts a message of the `client` that was refused before any rule, or one of the `server` that was dropped.
    pub fn malformed(&self, from: &'static str, reason: &'static str) {
        self.malformed.get_or_create(&MalformedLabels { from, reason }).inc();
    }

    /// Counts a request that proves no caller, where callers can prove themselves.
    pub fn unproved(&self, rejected: Rejected) {
        self.unproved.get_or_create(&UnprovedLabels { reason: rejected.as_str() }).inc();
    }

    /// Notes how long a decision took.
    pub fn decision_took(&self, time: Duration) {
        self.decision_duration.observe(time.as_secs_f64());
    }

    /// Notes how long the server took to answer a call.
    pub fn upstream_took(&self, tool: &Arc<str>, time: Duration) {
        self.upstream_duration.get_or_create(&ToolLabels { tool: Arc::clone(tool) }).observe(time.as_secs_f64());
    }

    /// Counts an answer that did not reach its caller, or not as a whole.
    pub fn answer_failed(&self, fault: AnswerFault) {
        self.upstream_faults.get_or_create(&FaultLabels { reason: fault.as_str() }).inc();
    }

    /// All metrics in the `OpenMetrics` form.
    pub fn openmetrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// All metrics in the form of Prometheus before `OpenMetrics`, for tools that do not ask for more.
    pub fn classic(&self) -> Result<String, fmt::Error> {
        classic(&self.openmetrics()?)
    }
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The forms differ in what `HELP` and `TYPE` call a counter and an info, in the types' names, and in the end mark.
fn classic(openmetrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some(help) = line.strip_prefix("# HELP ") else {
            writeln!(text, "{line}")?;
            continue;
        };
        let (name, help) = help.split_once(' ').unwrap_or((help, ""));
        let declared = lines.next_if(|line| line.starts_with("# TYPE ")).and_then(|line| line.rsplit(' ').next()).unwrap_or("untyped");
        let (name, declared) = match declared {
            "counter" => (Cow::Owned(format!("{name}_total")), "counter"),
            "info" => (Cow::Owned(format!("{name}_info")), "gauge"),
            other => (Cow::Borrowed(name), other),
        };
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {declared}")?;
    }
    Ok(text)
}

/// What is read from the state at each scrape.
#[derive(Debug)]
struct Scraped(Arc<State>);

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let usage = self.0.usage();
        let labels =
            |policy: &dyn ToString, counter: &Arc<str>| LimitLabels { policy: policy.to_string().into(), counter: Arc::clone(counter) };
        if !usage.is_empty() {
            let max = ConstGauge::new(0f64);
            let mut family = encoder.encode_descriptor(
                "limit_max",
                "What a budget of the counter holds: calls, or the sum of amounts",
                None,
                max.metric_type(),
            )?;
            for one in &usage {
                ConstGauge::new(one.max).encode(family.encode_family(&labels(&one.policy, &one.counter))?)?;
            }
            // What others took in a shared store is not known here.
            if self.0.store().is_none() {
                let help = "How full the fullest budget of the counter is";
                let mut family = encoder.encode_descriptor("limit_used_ratio", help, None, max.metric_type())?;
                for one in &usage {
                    ConstGauge::new(ratio(one.used, one.max)).encode(family.encode_family(&labels(&one.policy, &one.counter))?)?;
                }
            }
        }
        if let Some(store) = self.0.store() {
            let connected = ConstGauge::new(i64::from(store.is_connected()));
            let help = "Whether the shared counter store is connected; if not, it is not asked and nobody waits for it";
            connected.encode(encoder.encode_descriptor("store_connected", help, None, connected.metric_type())?)?;
        }
        let age = ConstGauge::new(self.0.age().as_secs_f64());
        let help = "Time since the source of policies last confirmed what is enforced";
        age.encode(encoder.encode_descriptor("snapshot_age_seconds", help, None, age.metric_type())?)?;
        if let Some(id) = &self.0.enforced().snapshot {
            let labels = SnapshotLabels { version: id.version.clone(), sha256: id.sha256.clone() };
            let one = ConstGauge::new(1u64);
            let mut family = encoder.encode_descriptor("snapshot_info", "The snapshot that is enforced", None, one.metric_type())?;
            one.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// A budget that holds nothing is full.
fn ratio(used: f64, max: f64) -> f64 {
    if max > 0.0 { used / max } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use mcp_policy::Snapshot;
    use mcp_policy::snapshot::SnapshotPolicy;

    use super::*;
    use crate::state::Enforced;

    fn metrics() -> Metrics {
        let document = serde_json::json!({"tools": {"export": {"limits": [{"counter": "rate", "window": "minute", "max": 10}]}}});
        let snapshot = Snapshot::new(vec![SnapshotPolicy {
            namespace: Some("imaging".to_owned()),
            name: "imaging".to_owned(),
            generation: 1,
            mode: Mode::Enforce,
            server: mcp_policy::Server::default(),
            from: None,
            on_audit_error: mcp_policy::resource::OnAuditError::Deny,
            document: Some(serde_json::from_value(document).unwrap()),
        }]);
        let state = Arc::new(State::default());
        state.apply(Enforced::from_snapshot(&snapshot).unwrap());
        Metrics::new(state)
    }

    #[test]
    fn both_forms_have_the_documented_names() {
        let metrics = metrics();
        metrics.decided(Some(&Arc::from("imaging/imaging")), Some(&Arc::from("export")), Code::Allowed, Mode::Enforce, None);
        metrics.decided(None, None, Code::Allowed, Mode::Enforce, Some(&Arc::from("key:ci")));
        metrics.limited(&Arc::from("imaging/imaging"), &Arc::from("rate"));
        metrics.upstream_took(&Arc::from("export"), Duration::from_millis(3));
        let decision = "mcp_policy_decisions_total{policy=\"imaging/imaging\",tool=\"export\",decision=\"allowed\",code=\"allowed\",mode=\"enforce\"} 1";
        for text in [metrics.openmetrics().unwrap(), metrics.classic().unwrap()] {
            assert!(text.contains(decision), "{text}");
            for line in [
                "code=\"allowed\",mode=\"enforce\",caller=\"key:ci\"} 1",
                "mcp_policy_limit_max{policy=\"imaging/imaging\",counter=\"rate\"} 10",
                "mcp_policy_limit_used_ratio{policy=\"imaging/imaging\",counter=\"rate\"} 0",
                "mcp_policy_limit_refusals_total{policy=\"imaging/imaging\",counter=\"rate\"} 1",
                "mcp_policy_decision_duration_seconds_count 0",
                "mcp_policy_upstream_duration_seconds_count{tool=\"export\"} 1",
                "mcp_policy_requests_in_flight 0",
                "mcp_policy_snapshot_age_seconds ",
                "mcp_policy_snapshot_info{version=\"1\",sha256=\"",
                concat!("mcp_policy_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            ] {
                assert!(text.contains(line), "{line} is not in\n{text}");
            }
        }
    }

    #[test]
    fn the_older_form_calls_a_counter_by_its_whole_name() {
        let metrics = metrics();
        metrics.decided(None, None, Code::Malformed, Mode::Enforce, None);
        let text = metrics.classic().unwrap();
        assert!(text.contains("# TYPE mcp_policy_decisions_total counter"), "{text}");
        assert!(text.contains("# TYPE mcp_policy_build_info gauge"), "{text}");
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn requests_in_flight_go_up_and_down() {
        let metrics = metrics();
        let request = metrics.request();
        assert!(metrics.classic().unwrap().contains("mcp_policy_requests_in_flight 1"));
        drop(request);
        assert!(metrics.classic().unwrap().contains("mcp_policy_requests_in_flight 0"));
    }
}
