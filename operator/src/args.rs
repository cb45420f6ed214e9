//! The command line. Every flag has an environment variable, which is what the chart sets; the flag wins.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mcp_policy::authentication::Authentication;
use mcp_policy::document::duration_seconds;

use crate::approvals::notify::{self, message::Form};
use crate::approvals::page::Page;
use crate::certs::lifetimes::{LifetimeError, Lifetimes, Seconds};
use crate::inject::{Resources, Settings};
use crate::{callers, names, store};

/// The operator of mcp-policy.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Namespace of the operator.
    #[arg(long, env = "MCP_POLICY_NAMESPACE", default_value = "mcp-policy-system", global = true)]
    pub namespace: String,

    /// Filter of the operator's logs.
    #[arg(long, env = "MCP_POLICY_LOG", default_value = "info", global = true)]
    pub log: String,

    /// Name of the operator's pod: its identity among the replicas.
    #[arg(long, env = "MCP_POLICY_POD_NAME")]
    pub pod_name: Option<String>,

    /// File with the operator's own service-account token for audience `mcp-policy-operator`; replicas show it to each other.
    #[arg(long, env = "MCP_POLICY_TOKEN_FILE", default_value = "/run/mcp-policy/token")]
    pub token_file: PathBuf,

    /// Port of webhook, watch, report and tally (HTTPS).
    #[arg(long, env = "MCP_POLICY_HTTPS_PORT", default_value_t = 9443)]
    pub https_port: u16,

    /// Port of health and metrics (HTTP).
    #[arg(long, env = "MCP_POLICY_ADMIN_PORT", default_value_t = 14141)]
    pub admin_port: u16,

    /// Image of the injected containers.
    #[arg(long, env = "MCP_POLICY_SIDECAR_IMAGE")]
    pub sidecar_image: Option<String>,

    /// When the kubelet pulls that image.
    #[arg(long, env = "MCP_POLICY_SIDECAR_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub sidecar_image_pull_policy: String,

    /// CPU that each injected container requests.
    #[arg(long, env = "MCP_POLICY_SIDECAR_CPU_REQUEST", default_value = "10m")]
    pub sidecar_cpu_request: String,

    /// Most CPU of each injected container.
    #[arg(long, env = "MCP_POLICY_SIDECAR_CPU_LIMIT", default_value = "1")]
    pub sidecar_cpu_limit: String,

    /// Memory that each injected container requests.
    #[arg(long, env = "MCP_POLICY_SIDECAR_MEMORY_REQUEST", default_value = "32Mi")]
    pub sidecar_memory_request: String,

    /// Most memory of each injected container.
    #[arg(long, env = "MCP_POLICY_SIDECAR_MEMORY_LIMIT", default_value = "64Mi")]
    pub sidecar_memory_limit: String,

    /// Filter of the sidecars' logs.
    #[arg(long, env = "MCP_POLICY_SIDECAR_LOG", default_value = "info")]
    pub sidecar_log: String,

    /// Base URL of the collector that takes the sidecars' spans over OTLP; without it they make none.
    #[arg(long, env = "MCP_POLICY_SIDECAR_OTLP_ENDPOINT")]
    pub sidecar_otlp_endpoint: Option<String>,

    /// Namespaces that no cluster policy governs, besides the operator's own: those that webhook and admission policies leave out.
    #[arg(long, env = "MCP_POLICY_UNGOVERNED_NAMESPACES", value_delimiter = ',', default_value = "kube-system,kube-node-lease")]
    pub ungoverned_namespaces: Vec<String>,

    /// How long the certificate of the HTTPS server is valid: a number and s, m, h or d. It is renewed at two thirds of that.
    #[arg(long, env = "MCP_POLICY_CERTIFICATE_LIFETIME", default_value_t = Seconds(Lifetimes::default().leaf()))]
    pub certificate_lifetime: Seconds,

    /// How long the CA that signs it is valid. It is replaced from two thirds of that on.
    #[arg(long, env = "MCP_POLICY_CA_LIFETIME", default_value_t = Seconds(Lifetimes::default().ca()))]
    pub ca_lifetime: Seconds,

    /// Counter store that all sidecars share; without it, each counts by itself.
    #[arg(long, env = "MCP_POLICY_STORE_URL")]
    pub store_url: Option<String>,

    /// Secret of the operator's namespace with the store's credentials: username, password, sentinel-username, sentinel-password, ca.crt.
    #[arg(long, env = "MCP_POLICY_STORE_SECRET", requires = "store_url")]
    pub store_secret: Option<String>,

    /// How callers of every governed pod prove who they are: JSON, as a policy has it under `spec.server.authentication`.
    #[arg(long, env = "MCP_POLICY_AUTHENTICATION", value_parser = authentication)]
    pub authentication: Option<Authentication>,

    /// Names of the Secrets with callers' keys and servers' credentials that the operator has a right to, in every namespace.
    #[arg(long, env = "MCP_POLICY_CALLER_SECRETS", value_delimiter = ',', default_value = "mcp-policy-keys,mcp-policy-credential")]
    pub caller_secrets: Vec<String>,

    /// How often the keys of issuers are read: one number and one of s, m, h.
    #[arg(long, env = "MCP_POLICY_ISSUER_REFRESH", default_value = "5m", value_parser = refresh)]
    pub issuer_refresh: Duration,

    /// Reads the keys of issuers at private addresses too.
    #[arg(long, env = "MCP_POLICY_ALLOW_PRIVATE_ISSUERS", num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    pub allow_private_issuers: bool,

    /// Folder with `url` and `signing-secret`: where each new approval is posted to, and how that is signed. Without it nobody is told.
    #[arg(long, env = "MCP_POLICY_APPROVAL_WEBHOOK")]
    pub approval_webhook: Option<PathBuf>,

    /// How these messages are written.
    #[arg(long, env = "MCP_POLICY_APPROVAL_WEBHOOK_FORM", value_enum, default_value_t)]
    pub approval_webhook_form: Form,

    /// The page where people decide about an approval: an https URL with `{namespace}` and `{name}` where its own belong. Clients that can
    /// show pages to their users are told of it.
    #[arg(long, env = "MCP_POLICY_APPROVAL_URL")]
    pub approval_url: Option<Page>,

    /// What to do; without a command, the operator runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the binary does.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Asks the running operator over its Service, with the CA that the API server trusts, and says whether it answers.
    Check,
}

/// All that [`crate::run()`] needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the operator.
    pub namespace: String,
    /// Name of its pod.
    pub pod_name: String,
    /// File with its own token.
    pub token_file: PathBuf,
    /// Port of the HTTPS server.
    pub https_port: u16,
    /// Port of health and metrics.
    pub admin_port: u16,
    /// Namespaces that no cluster policy governs; the operator's own is one.
    pub ungoverned_namespaces: Vec<String>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// Where counters are shared; none if each sidecar counts by itself.
    pub store: Option<store::Settings>,
    /// How callers prove who they are.
    pub callers: callers::Settings,
    /// Who is told of new approvals; none if nobody is.
    pub notify: Option<notify::Settings>,
    /// Where people decide about approvals, if there is such a page.
    pub approval_page: Option<Page>,
    /// What is injected.
    pub injection: Settings,
}

fn authentication(text: &str) -> Result<Authentication, String> {
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    mcp_policy::read::callers(&value, "authentication").map_err(|errors| errors.to_string())
}

fn refresh(text: &str) -> Result<Duration, String> {
    let seconds = duration_seconds(text).filter(|seconds| (1..=24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "is from 1s to 24h".to_owned())
}

/// Settings with which the operator cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is none.
    #[error("{flag} (or {env}) is required")]
    Missing {
        /// As it is written on the command line.
        flag: &'static str,
        /// The environment variable that is read without it.
        env: &'static str,
    },
    /// They are there, and do not fit.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
}

impl Args {
    /// The configuration of a running operator.
    pub fn into_config(self) -> Result<Config, SettingError> {
        let missing = |flag, env| SettingError::Missing { flag, env };
        let image = self.sidecar_image.ok_or(missing("--sidecar-image", "MCP_POLICY_SIDECAR_IMAGE"))?;
        let pod_name = self.pod_name.ok_or(missing("--pod-name", "MCP_POLICY_POD_NAME"))?;
        let injection = Settings {
            image,
            pull_policy: self.sidecar_image_pull_policy,
            operator_url: format!("https://{}:{}", names::service_host(&self.namespace), names::SERVICE_PORT),
            log: self.sidecar_log,
            otlp_endpoint: self.sidecar_otlp_endpoint,
            resources: Resources {
                cpu_request: self.sidecar_cpu_request,
                cpu_limit: self.sidecar_cpu_limit,
                memory_request: self.sidecar_memory_request,
                memory_limit: self.sidecar_memory_limit,
            },
        };
        let secret = self.store_secret;
        let store = self.store_url.map(|url| store::Settings { url, secret });
        let form = self.approval_webhook_form;
        let notify = self.approval_webhook.map(|folder| notify::Settings { folder, form });
        let mut ungoverned_namespaces = self.ungoverned_namespaces;
        ungoverned_namespaces.push(self.namespace.clone());
        Ok(Config {
            namespace: self.namespace,
            pod_name,
            token_file: self.token_file,
            https_port: self.https_port,
            admin_port: self.admin_port,
            ungoverned_namespaces,
            lifetimes: Lifetimes::new(self.certificate_lifetime, self.ca_lifetime)?,
            store,
            callers: callers::Settings {
                for_all: self.authentication,
                secret_names: self.caller_secrets.into_iter().filter(|name| !name.is_empty()).collect(),
                refresh: self.issuer_refresh,
                allow_private: self.allow_private_issuers,
            },
            notify,
            approval_page: self.approval_url,
            injection,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecars_are_sent_to_the_service_of_the_operators_namespace() {
        let args = Args::try_parse_from(["operator", "--namespace", "mcp", "--pod-name", "p", "--sidecar-image", "i"]).unwrap();
        assert_eq!(args.into_config().unwrap().injection.operator_url, "https://mcp-policy-operator.mcp.svc:443");
    }

    #[test]
    fn the_operators_own_namespace_is_never_governed() {
        let args = ["operator", "--namespace", "mcp", "--pod-name", "p", "--sidecar-image", "i"];
        let ungoverned = |args: &[&str]| Args::try_parse_from(args).unwrap().into_config().unwrap().ungoverned_namespaces;
        assert_eq!(ungoverned(&args), ["kube-system", "kube-node-lease", "mcp"]);
        assert_eq!(ungoverned(&[&args[..], &["--ungoverned-namespaces", "a,b"]].concat()), ["a", "b", "mcp"]);
    }

    #[test]
    fn a_missing_setting_is_named() {
        let args = Args::try_parse_from(["operator", "--pod-name", "p"]).unwrap();
        assert_eq!(args.into_config().unwrap_err().to_string(), "--sidecar-image (or MCP_POLICY_SIDECAR_IMAGE) is required");
    }

    #[test]
    fn lifetimes_that_do_not_fit_are_an_error_at_the_start() {
        let config = |more: &[&str]| {
            let args = ["operator", "--namespace", "mcp", "--pod-name", "p", "--sidecar-image", "i"];
            Args::try_parse_from([&args[..], more].concat()).unwrap().into_config().map(|config| config.lifetimes)
        };
        assert_eq!(config(&[]), Ok(Lifetimes::default()));
        assert_eq!(
            config(&["--certificate-lifetime", "5m", "--ca-lifetime", "12m"]),
            Ok(Lifetimes::new(Seconds(300), Seconds(720)).unwrap())
        );
        let error = config(&["--ca-lifetime", "1d"]).unwrap_err().to_string();
        assert!(error.contains("is 30d, longer than the 1d of --ca-lifetime"), "{error}");
    }

    #[test]
    fn what_is_asked_of_all_callers_is_read_as_in_a_policy() {
        let args = ["operator", "--namespace", "mcp", "--pod-name", "p", "--sidecar-image", "i", "--authentication"];
        let read = |json: &str| Args::try_parse_from(args.iter().copied().chain([json])).map_err(|error| error.to_string());
        assert!(read(r#"{"serviceAccounts": {"audiences": ["mcp"]}}"#).unwrap().authentication.unwrap().service_accounts.is_some());
        for (json, told) in [
            ("{}", "authentication: needs at least one of"),
            (r#"{"jwt": [{"issuer": "http://idp", "audiences": ["a"]}]}"#, "authentication.jwt[0].issuer: is an https URL"),
            (r#"{"key": {}}"#, "authentication.key: unknown field"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_page_that_is_none_is_an_error_at_the_start() {
        let args = ["operator", "--namespace", "mcp", "--pod-name", "p", "--sidecar-image", "i", "--approval-url"];
        let error = Args::try_parse_from(args.into_iter().chain(["http://approvals/{name}"])).unwrap_err().to_string();
        assert!(error.contains("--approval-url") && error.contains("is an https URL"), "{error}");
    }

    #[test]
    fn the_check_needs_no_settings() {
        assert!(matches!(Args::try_parse_from(["operator", "check"]).unwrap().command, Some(Command::Check)));
    }
}
