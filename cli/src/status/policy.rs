//! Pure: from what the API server and the sidecars say to what each pod enforces of each policy.

use std::collections::HashMap;

use mcp_policy::PolicyId;
use mcp_policy::resource::Selector;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;

use crate::kubectl::{Labels, SIDECAR, labels, text};

/// A policy, as its status says of it.
#[derive(Debug)]
pub struct Policy {
    /// Its namespace and name.
    pub id: PolicyId,
    generation: i64,
    observed: i64,
    /// The generation that is in force; none if none was ever accepted.
    in_force: Option<i64>,
    is_accepted: bool,
    mode: String,
    message: String,
    /// Of a cluster policy: in which namespaces.
    namespaces: Option<Selector>,
    pods: Option<Selector>,
}

/// A pod that runs or is about to.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it has the sidecar.
    pub has_sidecar: bool,
    labels: Labels,
}

/// What a sidecar says.
#[derive(Debug)]
pub enum Word {
    /// There is none.
    None,
    /// It enforces these revisions, by the policy's name, and heard of the operator so many seconds ago.
    Enforces { revisions: HashMap<String, String>, age_seconds: u64 },
    /// It could not be asked, or gave no answer.
    Unheard(String),
}

/// Which pods which policies select.
#[derive(Debug)]
pub struct Governed {
    policies: Vec<Policy>,
    pods: Vec<Pod>,
    /// For each policy the places of its pods.
    selected: Vec<Vec<usize>>,
}

/// What there is to say of a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// `namespace/name`, or the name of a cluster policy.
    pub policy: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// The generation that is in force; none if none was ever accepted.
    pub in_force: Option<i64>,
    /// Whether the operator has judged the present generation.
    pub is_judged: bool,
    /// Whether the present generation is accepted.
    pub is_accepted: bool,
    /// `enforce` or `audit`.
    pub mode: String,
    /// What the operator says of the policy.
    pub message: String,
    /// The pods that it selects.
    pub pods: Vec<ToldPod>,
}

/// What there is to say of a pod under a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldPod {
    /// `namespace/name`.
    pub pod: String,
    /// What it enforces.
    pub state: State,
    /// The generation that its sidecar enforces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// For how many seconds its sidecar has not heard of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_seconds_ago: Option<u64>,
    /// Why nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a pod stands to a policy, as the policy's status counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The present generation is in force.
    Enforcing,
    /// The sidecar enforces another generation, or does not know the policy yet.
    Stale,
    /// There is no sidecar: calls reach the pod unchecked.
    Uncovered,
    /// The sidecar could not be asked.
    Unknown,
}

impl Policy {
    /// Reads a policy and its status.
    pub fn new(object: &Value) -> Self {
        let number = |pointer| object.pointer(pointer).and_then(Value::as_i64);
        let mut conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let accepted = conditions.find(|condition| text(condition, "/type") == "Accepted");
        let is_accepted = accepted.is_some_and(|condition| text(condition, "/status") == "True");
        // While the present revision is not accepted, the last one that was is in force, and its selectors select.
        let spec =
            if is_accepted { None } else { object.pointer("/status/lastAccepted/spec") }.or(object.get("spec")).unwrap_or(&Value::Null);
        let selector = |field: &str| Selector::deserialize(spec.get(field)?).ok();
        let mode = text(object, "/status/mode");
        Self {
            id: PolicyId::new(object.pointer("/metadata/namespace").and_then(Value::as_str), text(object, "/metadata/name")),
            generation: number("/metadata/generation").unwrap_or_default(),
            observed: number("/status/observedGeneration").unwrap_or_default(),
            in_force: number("/status/lastAccepted/generation"),
            is_accepted,
            mode: if mode.is_empty() { "enforce" } else { mode }.to_owned(),
            message: accepted.map(|condition| text(condition, "/message").to_owned()).unwrap_or_default(),
            namespaces: selector("namespaceSelector"),
            pods: selector("selector"),
        }
    }

    /// Whether people call it so: `name` or `namespace/name`.
    pub fn is_called(&self, name: &str) -> bool {
        self.id.name() == name || self.id.to_string() == name
    }

    fn selects(&self, pod: &Pod, namespace: &Labels) -> bool {
        let is_here = match self.id.namespace() {
            Some(own) => own == pod.namespace,
            None => self.namespaces.as_ref().is_some_and(|selector| selector.matches(namespace)),
        };
        is_here && self.pods.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
    }
}

impl Pod {
    /// Reads a pod; none if it has ended or is being deleted, and so is governed by nobody.
    pub fn new(object: &Value) -> Option<Self> {
        let is_over =
            ["Succeeded", "Failed"].contains(&text(object, "/status/phase")) || object.pointer("/metadata/deletionTimestamp").is_some();
        let mut init = object.pointer("/spec/initContainers").and_then(Value::as_array).into_iter().flatten();
        (!is_over).then(|| Self {
            namespace: text(object, "/metadata/namespace").to_owned(),
            name: text(object, "/metadata/name").to_owned(),
            has_sidecar: init.any(|container| text(container, "/name") == SIDECAR),
            labels: labels(object),
        })
    }
}

impl Word {
    /// Reads what a sidecar enforces.
    pub fn of(snapshot: &Value) -> Self {
        let policies = snapshot.get("policies").and_then(Value::as_array);
        match (policies, snapshot.get("ageSeconds").and_then(Value::as_u64)) {
            (Some(policies), Some(age_seconds)) => {
                let accepted = policies.iter().filter(|policy| policy.get("accepted").and_then(Value::as_bool) == Some(true));
                let revisions = accepted.map(|policy| (text(policy, "/name").to_owned(), text(policy, "/revision").to_owned()));
                Self::Enforces { revisions: revisions.collect(), age_seconds }
            }
            _ => Self::Unheard("the sidecar's answer cannot be read: is it of another version?".to_owned()),
        }
    }
}

impl Governed {
    /// Finds the pods of each policy. `governable` gives the labels of a namespace, if it can be governed.
    pub fn new(policies: Vec<Policy>, mut pods: Vec<Pod>, governable: impl Fn(&str) -> Option<Labels>) -> Self {
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods.retain(|pod| governable(&pod.namespace).is_some_and(|labels| policies.iter().any(|policy| policy.selects(pod, &labels))));
        let of = |policy: &Policy| {
            let is_selected = |pod: &Pod| governable(&pod.namespace).is_some_and(|labels| policy.selects(pod, &labels));
            pods.iter().enumerate().filter(|(_, pod)| is_selected(pod)).map(|(place, _)| place).collect()
        };
        let selected = policies.iter().map(of).collect();
        Self { policies, pods, selected }
    }

    /// The pods that any of the policies selects.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// What there is to say of each policy, from the words of the pods in their order.
    pub fn told(&self, words: &[Word]) -> Vec<Told> {
        let of_pod = |policy: &Policy, place: usize| {
            let pod = &self.pods[place];
            let name = policy.id.to_string();
            let told = |state, generation, heard_seconds_ago, error| ToldPod {
                pod: format!("{}/{}", pod.namespace, pod.name),
                state,
                generation,
                heard_seconds_ago,
                error,
            };
            match words.get(place).unwrap_or(&Word::None) {
                Word::None => told(State::Uncovered, None, None, None),
                Word::Unheard(why) => told(State::Unknown, None, None, Some(why.clone())),
                Word::Enforces { revisions, age_seconds } => {
                    let revision = revisions.get(&name).cloned();
                    let is_present = revision.as_ref().is_some_and(|revision| *revision == policy.generation.to_string());
                    told(if is_present { State::Enforcing } else { State::Stale }, revision, Some(*age_seconds), None)
                }
            }
        };
        let each = self.policies.iter().zip(&self.selected).map(|(policy, places)| Told {
            policy: policy.id.to_string(),
            generation: policy.generation,
            in_force: policy.in_force,
            is_judged: policy.observed == policy.generation,
            is_accepted: policy.is_accepted,
            mode: policy.mode.clone(),
            message: policy.message.clone(),
            pods: places.iter().map(|&place| of_pod(policy, place)).collect(),
        });
        each.collect()
    }
}

impl Told {
    /// Whether all there is enforces the present generation.
    pub fn is_enforced(&self) -> bool {
        self.is_judged && self.is_accepted && self.pods.iter().all(|pod| pod.state == State::Enforcing)
    }
}
