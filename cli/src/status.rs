//! `mcp-policy status`: the pods behind the counts. What is in force in a pod its sidecar says, and nobody else is believed.

mod policy;
mod print;

use std::collections::HashMap;
use std::process::ExitCode;
use std::thread;

use clap::Args;
use mcp_policy::resource::Selector;
use serde::Deserialize as _;
use serde_json::Value;

use crate::kubectl::{self, Kubectl, Labels};
use crate::report::Output;
use policy::{Governed, Pod, Policy, Word};

/// Where the sidecar says what it enforces.
const ADMIN_PORT: u16 = 14141;
/// Sidecars asked at one time: each takes a process of kubectl.
const ASKED_AT_ONCE: usize = 16;
/// The chart's admission policy, which says what is governed at all.
const ADMISSION_POLICY: &str = "mcp-policy";

/// What is asked.
#[derive(Debug, Args)]
pub struct Options {
    /// Only this policy
    policy: Option<String>,
    /// The namespace; as kubectl has it, if not given
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The context of kubectl's configuration
    #[arg(long)]
    context: Option<String>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Tells of each policy what each pod that it selects enforces.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let kubectl = Kubectl::new(options.namespace.as_deref(), options.context.as_deref());
    let list = |kind: &str| if options.all_namespaces { kubectl.list_everywhere(kind) } else { kubectl.list_here(kind) };
    let mut notes = Vec::new();
    let mut policies = list("mcppolicies.mcp-policy.dev")?;
    let mut namespaces = Namespaces::new();
    match of_cluster(&kubectl) {
        Ok((found, all)) => {
            policies.extend(found);
            namespaces = all;
        }
        Err(why) if Kubectl::is_forbidden(&why) => notes.push(format!("policies of the cluster cannot be read, and are left out: {why}")),
        Err(why) => return Err(why),
    }
    let mut policies: Vec<_> = policies.iter().map(Policy::new).collect();
    policies.retain(|policy| options.policy.as_deref().is_none_or(|name| policy.is_called(name)));
    policies.sort_by(|a, b| a.id.cmp(&b.id));
    if let (Some(name), true) = (&options.policy, policies.is_empty()) {
        anyhow::bail!("no policy is called {name}; `kubectl get mcpp,cmcpp --all-namespaces` lists them");
    }
    let pods: Vec<_> = list("pods")?.iter().filter_map(Pod::new).collect();
    let governable = governable(&kubectl, &mut notes);
    let governed = Governed::new(policies, pods, |namespace| {
        let named = Labels::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
        let labels = namespaces.get(namespace).unwrap_or(&named);
        governable.as_ref().is_none_or(|selector| selector.matches(labels)).then(|| labels.clone())
    });
    let words = ask(&kubectl, &governed);
    let told = governed.told(&words);
    match options.output {
        Output::Text => print::text(&told, &notes),
        Output::Json => print::json(&told, &notes),
    }
    Ok(if told.iter().all(policy::Told::is_enforced) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The labels of namespaces, by name.
type Namespaces = HashMap<String, Labels>;

/// The policies of the cluster, and the namespaces that they choose among: those are read only if there are such policies.
fn of_cluster(kubectl: &Kubectl<'_>) -> anyhow::Result<(Vec<Value>, Namespaces)> {
    let policies = kubectl.list("clustermcppolicies.mcp-policy.dev", None)?;
    let namespaces = if policies.is_empty() { Vec::new() } else { kubectl.list("namespaces", None)? };
    let labelled = |namespace: &Value| (kubectl::text(namespace, "/metadata/name").to_owned(), kubectl::labels(namespace));
    Ok((policies, namespaces.iter().map(labelled).collect()))
}

/// The namespaces that can be governed; none if that cannot be read.
fn governable(kubectl: &Kubectl<'_>, notes: &mut Vec<String>) -> Option<Selector> {
    match kubectl.get("validatingadmissionpolicies.admissionregistration.k8s.io", ADMISSION_POLICY) {
        Ok(found) => found.pointer("/spec/matchConstraints/namespaceSelector").and_then(|selector| Selector::deserialize(selector).ok()),
        Err(why) if Kubectl::is_forbidden(&why) => None,
        Err(why) => {
            notes.push(format!("the admission policy {ADMISSION_POLICY} is missing: is the chart installed? Without it nothing holds back a pod without a sidecar: {why}"));
            None
        }
    }
}

/// Asks each sidecar what it enforces.
fn ask(kubectl: &Kubectl<'_>, governed: &Governed) -> Vec<Word> {
    let pods: Vec<_> = governed.pods().collect();
    let word = |pod: &Pod| {
        let path = format!("/api/v1/namespaces/{}/pods/{}:{ADMIN_PORT}/proxy/snapshot", pod.namespace, pod.name);
        if !pod.has_sidecar {
            return Word::None;
        }
        match kubectl.raw(&path) {
            Ok(snapshot) => Word::of(&snapshot),
            Err(why) => Word::Unheard(format!("{why:#}")),
        }
    };
    let share = pods.len().div_ceil(ASKED_AT_ONCE).max(1);
    thread::scope(|scope| {
        let asked: Vec<_> = pods.chunks(share).map(|pods| scope.spawn(|| pods.iter().map(|pod| word(pod)).collect::<Vec<_>>())).collect();
        asked.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
