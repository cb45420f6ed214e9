//! The operator's metrics. Every label is of a closed set.

use std::fmt::{self, Write};
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::approvals::resource::State;

/// Handles to all metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// From a change of a policy, as the watch told of it, to a sidecar's word that it enforces it.
    pub propagation: Histogram,
    /// Governed pods; zero on replicas that do not lead.
    pub pods: Family<PodLabels, Gauge>,
    /// Time to answer an admission request.
    pub admission_duration: Histogram,
    /// Admission requests answered.
    pub admissions: Family<AdmissionLabels, Counter>,
    /// When the certificates expire.
    pub certificate_expiry: Family<CertificateLabels, Gauge>,
    /// What the operator failed to write.
    pub reconcile_errors: Family<StepLabels, Counter>,
    /// Failures of watches; each is followed by a new attempt.
    pub watch_errors: Family<WatchLabels, Counter>,
    /// Sidecars that hold a watch stream of this replica.
    pub streams: Gauge,
    /// Snapshots that sidecars have answered.
    pub reports: Family<ReportLabels, Counter>,
    /// Whether this replica leads.
    pub leader: Gauge,
    /// What became of approvals, as the leading replica saw it.
    pub approvals: Family<ApprovalLabels, Counter>,
    issuer_reads: Family<IssuerReadLabels, Counter>,
    failing_issuers: Gauge,
    notifications: Family<NotificationLabels, Counter>,
    pending_approvals: Gauge,
    oldest_pending_approval: Gauge,
    registry: Arc<Registry>,
}

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
                match self { $(Self::$variant => $text,)+ }.encode(encoder)
            }
        }
    };
}

closed_set! {
    /// What holds for a pod.
    PodState {
        /// A policy governs it.
        Selected = "selected",
        /// It has the sidecar.
        Injected = "injected",
        /// Its sidecar enforces what it should.
        Enforcing = "enforcing",
        /// A policy governs it, and it has no sidecar.
        Uncovered = "uncovered",
    }
}
closed_set! {
    /// What became of an admission request.
    Admission {
        /// The pod was patched.
        Inject = "inject",
        /// No policy selects the pod.
        NotSelected = "not_selected",
        /// It was as it should be: the second look after another webhook changed something, or a copy of a governed pod.
        Complete = "complete",
        /// The kubelet's image of a static pod.
        MirrorPod = "mirror_pod",
        /// The pod was refused.
        Reject = "reject",
        /// The request could not be answered.
        Error = "error",
    }
}
closed_set! {
    /// Which certificate.
    Certificate {
        /// The operator's CA.
        Ca = "ca",
        /// What it serves with.
        Leaf = "leaf",
    }
}
closed_set! {
    /// A step of the leader's work.
    Step {
        /// The status of a policy.
        Status = "patch_status",
        /// An event.
        Event = "publish_event",
        /// The restart of what makes pods without the sidecar.
        Restart = "restart_owner",
        /// The Secret with the certificates.
        Secret = "write_certificates",
        /// The CA in a governed namespace.
        ConfigMap = "publish_ca",
        /// The webhook configuration.
        Webhook = "configure_webhook",
        /// The tally of another replica.
        Tally = "follow_tally",
        /// An approval.
        Approval = "write_approval",
    }
}
closed_set! {
    /// What came of reading the keys of an issuer.
    ReadResult {
        /// They were read.
        Read = "read",
        /// They were not; those that were read before stay.
        Failed = "failed",
    }
}
closed_set! {
    /// What is watched.
    Watched {
        /// Policies of namespaces.
        Policies = "mcppolicies",
        /// Policies of the cluster.
        ClusterPolicies = "clustermcppolicies",
        /// Namespaces.
        Namespaces = "namespaces",
        /// Pods.
        Pods = "pods",
        /// The Secret with the certificates.
        Secret = "secrets",
        /// The Secret with the counter store's credentials.
        StoreSecret = "store_secrets",
        /// The Secrets with callers' keys and servers' credentials.
        CallerSecrets = "caller_secrets",
        /// The CA in governed namespaces.
        ConfigMaps = "configmaps",
        /// The webhook configuration.
        Webhook = "mutatingwebhookconfigurations",
        /// The other replicas.
        Replicas = "endpointslices",
        /// Approvals.
        Approvals = "mcpapprovals",
    }
}
closed_set! {
    /// A sidecar's answer.
    Answer {
        /// In force.
        Ack = "ack",
        /// Refused.
        Nack = "nack",
    }
}

closed_set! {
    /// What came of a message about an approval.
    Notified {
        /// It was taken.
        Delivered = "delivered",
        /// It was posted, and not taken.
        Refused = "refused",
        /// It is not posted any more.
        GivenUp = "given_up",
        /// Too many waited already.
        Dropped = "dropped",
    }
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotificationLabels {
    result: Notified,
}

/// Labels of [`Metrics::pods`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PodLabels {
    /// What holds for the pods.
    pub state: PodState,
}
/// Labels of [`Metrics::admissions`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AdmissionLabels {
    /// What became of them.
    pub result: Admission,
}
/// Labels of [`Metrics::certificate_expiry`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// Which one.
    pub certificate: Certificate,
}
/// Labels of [`Metrics::reconcile_errors`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// What failed.
    pub reason: Step,
}
/// Labels of [`Metrics::watch_errors`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WatchLabels {
    /// What is watched.
    pub resource: Watched,
}
/// Labels of [`Metrics::reports`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReportLabels {
    /// What was said.
    pub result: Answer,
}
/// Labels of [`Metrics::approvals`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApprovalLabels {
    /// The state that was reached.
    pub state: State,
}
impl EncodeLabelValue for State {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        self.as_str().to_ascii_lowercase().encode(encoder)
    }
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerReadLabels {
    result: ReadResult,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// From a few milliseconds, which one sidecar takes, to the half minute after which something is wrong.
const PROPAGATION_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Around the 20 ms that p99 may take, up to the 3 s after which the API server gives up.
const ADMISSION_BUCKETS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 3.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mcp_policy_operator");
        let propagation = Histogram::new(PROPAGATION_BUCKETS);
        registry.register_with_unit(
            "propagation",
            "From a change of a policy to a sidecar that enforces it",
            Unit::Seconds,
            propagation.clone(),
        );
        let pods = Family::<PodLabels, Gauge>::default();
        registry.register("pods", "Governed pods, as the leading replica sees them", pods.clone());
        let admission_duration = Histogram::new(ADMISSION_BUCKETS);
        registry.register_with_unit("admission_duration", "Time to answer an admission request", Unit::Seconds, admission_duration.clone());
        let admissions = Family::<AdmissionLabels, Counter>::default();
        registry.register("admissions", "Admission requests answered", admissions.clone());
        let certificate_expiry = Family::<CertificateLabels, Gauge>::default();
        let help = "When the certificate expires, in seconds since the epoch";
        registry.register("certificate_expiry_timestamp_seconds", help, certificate_expiry.clone());
        let reconcile_errors = Family::<StepLabels, Counter>::default();
        registry.register("reconcile_errors", "Writes that failed and are tried again", reconcile_errors.clone());
        let watch_errors = Family::<WatchLabels, Counter>::default();
        registry.register("watch_errors", "Failures of watches, each followed by a new attempt", watch_errors.clone());
        let streams = Gauge::default();
        registry.register("streams", "Sidecars that hold a stream of this replica", streams.clone());
        let reports = Family::<ReportLabels, Counter>::default();
        registry.register("reports", "Answers of sidecars to snapshots", reports.clone());
        let leader = Gauge::<i64>::default();
        registry.register("leader", "Whether this replica leads", leader.clone());
        let approvals = Family::<ApprovalLabels, Counter>::default();
        registry.register("approvals", "Approvals that reached a state, as the leading replica saw it", approvals.clone());
        let issuer_reads = Family::<IssuerReadLabels, Counter>::default();
        registry.register("issuer_reads", "Times that the keys of an issuer were read", issuer_reads.clone());
        let failing_issuers = Gauge::default();
        registry.register("issuers_failing", "Issuers whose keys could not be read the last time", failing_issuers.clone());
        let notifications = Family::<NotificationLabels, Counter>::default();
        let help = "Messages about approvals that were posted, and what came of it";
        registry.register("approval_notifications", help, notifications.clone());
        let pending_approvals = Gauge::<i64>::default();
        registry.register("approvals_pending", "Calls that wait for a person, as the leading replica sees it", pending_approvals.clone());
        let oldest_pending_approval = Gauge::<i64>::default();
        let help = "How long the oldest of them has waited";
        registry.register_with_unit("approvals_oldest_pending", help, Unit::Seconds, oldest_pending_approval.clone());
        registry.register("build", "The build of the operator", Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") }));
        Self {
            propagation,
            pods,
            admission_duration,
            admissions,
            certificate_expiry,
            reconcile_errors,
            watch_errors,
            streams,
            reports,
            leader,
            approvals,
            issuer_reads,
            failing_issuers,
            notifications,
            pending_approvals,
            oldest_pending_approval,
            registry: Arc::new(registry),
        }
    }
}

impl Metrics {
    /// All metrics in the text format of `OpenMetrics`.
    pub fn openmetrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// All metrics in the text format of Prometheus before `OpenMetrics`, for tools that do not ask for more.
    pub fn classic(&self) -> Result<String, fmt::Error> {
        classic(&self.openmetrics()?)
    }

    /// Counts a write that failed.
    pub fn count_error(&self, reason: Step) {
        self.reconcile_errors.get_or_create(&StepLabels { reason }).inc();
    }

    /// Counts and logs a write of the leader that failed, and that is tried again.
    pub fn failed(&self, step: Step, error: &(dyn std::error::Error + 'static)) {
        self.count_error(step);
        tracing::warn!(?step, error, "a write failed; it is tried again");
    }

    /// Counts what came of a message about an approval.
    pub fn notified(&self, result: Notified) {
        self.notifications.get_or_create(&NotificationLabels { result }).inc();
    }

    /// Sets how many calls wait for a person, and for how many seconds the oldest has.
    pub fn set_pending_approvals(&self, count: i64, oldest_seconds: i64) {
        self.pending_approvals.set(count);
        self.oldest_pending_approval.set(oldest_seconds);
    }

    /// Counts a reading of an issuer's keys.
    pub fn issuer_read(&self, result: ReadResult) {
        self.issuer_reads.get_or_create(&IssuerReadLabels { result }).inc();
    }

    /// Sets how many issuers could not be read the last time.
    pub fn set_failing_issuers(&self, count: usize) {
        self.failing_issuers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets how many pods there are in a state.
    pub fn set_pods(&self, state: PodState, count: u32) {
        self.pods.get_or_create(&PodLabels { state }).set(i64::from(count));
    }
}

/// The formats differ in what `HELP` and `TYPE` call a counter and an info, in the types' names, and in the end mark.
fn classic(openmetrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(openmetrics.len());
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            writeln!(text, "{line}")?;
            continue;
        };
        let declared = lines.next_if(|line| line.starts_with("# TYPE ")).and_then(|line| line.rsplit(' ').next()).unwrap_or("untyped");
        let (suffix, declared) = match declared {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            other => ("", other),
        };
        writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {declared}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let metrics = Metrics::default();
        metrics.set_pods(PodState::Uncovered, 2);
        metrics.count_error(Step::Status);
        metrics.admissions.get_or_create(&AdmissionLabels { result: Admission::Reject }).inc();
        metrics.certificate_expiry.get_or_create(&CertificateLabels { certificate: Certificate::Leaf }).set(7);
        metrics.propagation.observe(0.03);
        let text = metrics.openmetrics().unwrap();
        for line in [
            "mcp_policy_operator_pods{state=\"uncovered\"} 2",
            "mcp_policy_operator_reconcile_errors_total{reason=\"patch_status\"} 1",
            "mcp_policy_operator_admissions_total{result=\"reject\"} 1",
            "mcp_policy_operator_certificate_expiry_timestamp_seconds{certificate=\"leaf\"} 7",
            "mcp_policy_operator_propagation_seconds_bucket{le=\"0.05\"} 1",
            "mcp_policy_operator_admission_duration_seconds_count 0",
            concat!("mcp_policy_operator_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_older_format_names_each_family_as_its_samples() {
        let metrics = Metrics::default();
        metrics.count_error(Step::Status);
        let text = metrics.classic().unwrap();
        for lines in [
            "# TYPE mcp_policy_operator_reconcile_errors_total counter\nmcp_policy_operator_reconcile_errors_total{reason=\"patch_status\"} 1\n",
            "# TYPE mcp_policy_operator_build_info gauge\nmcp_policy_operator_build_info{",
            "# TYPE mcp_policy_operator_leader gauge\nmcp_policy_operator_leader 0\n",
        ] {
            assert!(text.contains(lines), "{lines}\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }
}
