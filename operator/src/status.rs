//! Pure: conditions and counts of a policy, from what was judged of it and what its pods say.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use mcp_policy::Mode;

use crate::accept::{Judged, Verdict};
use crate::crd::{AcceptedRevision, PolicyStatus};

/// The policy can be enforced.
pub const ACCEPTED: &str = "Accepted";
/// Every selected pod has the sidecar.
pub const COVERED: &str = "Covered";
/// Every selected pod enforces this generation.
pub const PROGRAMMED: &str = "Programmed";
/// Several pods are selected, and each counts for itself.
pub const LIMITS_PER_POD: &str = "LimitsPerPod";

/// The callers whom the policy asks for a proof can give one.
pub const CALLERS_PROVABLE: &str = "CallersProvable";
/// The reason of that condition where somebody has to mend something.
pub const NOT_PROVABLE: &str = "NotProvable";

/// Long enough for a screen of errors, short enough to leave the object readable.
const MAX_MESSAGE_CHARACTERS: usize = 2048;

/// What the pods of one policy say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Pods that the policy governs.
    pub selected: u32,
    /// Of these, the ones with the sidecar.
    pub injected: u32,
    /// Of these, the ones that enforce the present generation.
    pub enforcing: u32,
    /// The first pod by name whose sidecar refused its snapshot, and why.
    pub refused: Option<(String, String)>,
    /// How many namespaces a cluster policy selects; 1 of any other.
    pub namespaces: usize,
    /// The namespaces that a cluster policy selects in vain, since they are never governed.
    pub left_out: Vec<String>,
    /// Whether pods count together, in a shared store.
    pub shares_counters: bool,
    /// What stands in the way of callers who prove who they are.
    pub callers: Callers,
}

/// What stands in the way of callers who prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers {
    /// What somebody has to mend, each in a clause.
    pub troubles: BTreeSet<String>,
    /// What will be there in a moment, each in a clause.
    pub awaited: BTreeSet<String>,
}

impl Coverage {
    /// Pods that the policy governs and that have no sidecar.
    fn uncovered(&self) -> u32 {
        self.selected.saturating_sub(self.injected)
    }
}

/// The status of a policy. `before` is the one that stands: a condition whose status does not change keeps its time.
#[must_use]
pub fn status(policy: &Judged, coverage: &Coverage, before: Option<&PolicyStatus>, now: Timestamp) -> PolicyStatus {
    let before = before.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let states = [accepted(policy, coverage), covered(coverage), programmed(policy, coverage), limits_per_pod(policy, coverage)];
    PolicyStatus {
        observed_generation: Some(policy.generation),
        conditions: states
            .into_iter()
            .chain(callers_provable(policy, coverage))
            .map(|state| state.into_condition(policy.generation, before, now))
            .collect(),
        mode: Some(policy.mode()),
        selected: Some(coverage.selected),
        injected: Some(coverage.injected),
        enforcing: Some(coverage.enforcing),
        stale: Some(coverage.injected.saturating_sub(coverage.enforcing)),
        uncovered: Some(coverage.uncovered()),
        last_accepted: policy
            .in_force
            .as_ref()
            .map(|revision| AcceptedRevision { generation: revision.generation, spec: revision.raw.clone() }),
    }
}

struct State {
    type_: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl State {
    fn into_condition(self, generation: i64, before: &[Condition], now: Timestamp) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let unchanged = before.iter().find(|condition| condition.type_ == self.type_ && condition.status == status);
        Condition {
            last_transition_time: unchanged.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            message: shorten(self.message),
            observed_generation: Some(generation),
            reason: self.reason.to_owned(),
            status: status.to_owned(),
            type_: self.type_.to_owned(),
        }
    }
}

fn accepted(policy: &Judged, coverage: &Coverage) -> State {
    match &policy.verdict {
        Verdict::Accepted { warnings } => {
            let mut sentences = vec!["Accepted.".to_owned()];
            if policy.mode() == Mode::Audit {
                sentences.push("In audit mode: calls are decided and recorded, and this policy refuses and hides none.".to_owned());
            }
            if coverage.selected == 0 {
                sentences.push(no_pods(policy, coverage));
            }
            if !coverage.left_out.is_empty() {
                sentences
                    .push(format!("Selected in vain, since they are never governed: the namespaces {}.", coverage.left_out.join(", ")));
            }
            sentences.extend(warnings.iter().map(|warning| format!("Warning: {warning}.")));
            State { type_: ACCEPTED, holds: true, reason: "Accepted", message: sentences.join(" ") }
        }
        Verdict::Invalid(errors) => {
            let consequence = match &policy.in_force {
                Some(revision) => {
                    let mode = if revision.mode == Mode::Audit { ", in audit mode" } else { "" };
                    format!("Generation {} stays in force{mode}.", revision.generation)
                }
                None => "No revision was accepted yet: every call to the selected pods is refused.".to_owned(),
            };
            let room = MAX_MESSAGE_CHARACTERS - consequence.len() - 2;
            let message = format!("{}. {consequence}", shorten_to(errors.clone(), room));
            State { type_: ACCEPTED, holds: false, reason: "Invalid", message }
        }
    }
}

fn no_pods(policy: &Judged, coverage: &Coverage) -> String {
    match (policy.id.namespace(), coverage.namespaces) {
        (Some(namespace), _) => format!("The selector matches no pod in namespace {namespace}."),
        (None, 0) => "The namespaceSelector matches no namespace.".to_owned(),
        (None, 1) => "The selector matches no pod in the 1 selected namespace.".to_owned(),
        (None, namespaces) => format!("The selector matches no pod in the {namespaces} selected namespaces."),
    }
}

fn covered(coverage: &Coverage) -> State {
    let state = |holds, reason, message| State { type_: COVERED, holds, reason, message };
    match (coverage.selected, coverage.uncovered()) {
        (0, _) => state(false, "NoPods", "The policy selects no pod.".to_owned()),
        (1, 0) => state(true, "Covered", "The selected pod has the sidecar.".to_owned()),
        (selected, 0) => state(true, "Covered", format!("All {selected} selected pods have the sidecar.")),
        (selected, uncovered) => {
            let message = match uncovered {
                1 => format!(
                    "1 of {selected} selected pods runs without the sidecar: calls reach it unchecked. Its events name the command that mends it."
                ),
                pods => format!(
                    "{pods} of {selected} selected pods run without the sidecar: calls reach them unchecked. Their events name the command that mends it."
                ),
            };
            state(false, "UncoveredPods", message)
        }
    }
}

fn programmed(policy: &Judged, coverage: &Coverage) -> State {
    let Coverage { selected, enforcing, refused, .. } = coverage;
    let generation = policy.generation;
    let in_mode = if policy.mode() == Mode::Audit { " in audit mode" } else { "" };
    let uncovered = coverage.uncovered();
    let state = |holds, reason, message| State { type_: PROGRAMMED, holds, reason, message };
    if !policy.is_accepted() {
        return state(false, "NotAccepted", format!("Generation {generation} is not accepted."));
    }
    if *selected == 0 {
        return state(false, "NoPods", "The policy selects no pod.".to_owned());
    }
    if enforcing == selected {
        return state(true, "Programmed", format!("{} generation {generation}{in_mode}.", enforce(*enforcing, *selected)));
    }
    let mut sentences = vec![format!("{} generation {generation}{in_mode}.", enforce(*enforcing, *selected))];
    match uncovered {
        0 => {}
        1 => sentences.push("1 pod runs without the sidecar.".to_owned()),
        pods => sentences.push(format!("{pods} pods run without the sidecar.")),
    }
    if let Some((pod, error)) = refused {
        sentences.push(format!("Pod {pod} refused it: {error}."));
    }
    let is_waiting = uncovered == 0 && refused.is_none();
    state(false, if is_waiting { "Reconciling" } else { "PartiallyProgrammed" }, sentences.join(" "))
}

fn enforce(enforcing: u32, selected: u32) -> String {
    match (enforcing, selected) {
        (1, 1) => "The selected pod enforces".to_owned(),
        (all, selected) if all == selected => format!("All {selected} selected pods enforce"),
        (1, selected) => format!("1 of {selected} selected pods enforces"),
        (some, selected) => format!("{some} of {selected} selected pods enforce"),
    }
}

fn limits_per_pod(policy: &Judged, coverage: &Coverage) -> State {
    let pods = coverage.selected;
    let (holds, reason, message) = match (policy.has_limits(), pods) {
        (false, _) => (false, "NoLimits", "The policy has no limits.".to_owned()),
        (true, _) if coverage.shares_counters => {
            (false, "SharedStore", "The selected pods of a namespace count together, in the shared store.".to_owned())
        }
        (true, 0 | 1) => (false, "OnePod", "At most one pod is selected, so its counts are all there are.".to_owned()),
        (true, _) => (
            true,
            "SeveralPods",
            format!("Each of the {pods} selected pods counts its own calls: together they let pass up to {pods} times each limit."),
        ),
    };
    State { type_: LIMITS_PER_POD, holds, reason, message }
}

/// Of a policy that asks for proofs, or whose `from` names callers that nobody proves.
fn callers_provable(policy: &Judged, coverage: &Coverage) -> Option<State> {
    let Callers { troubles, awaited } = &coverage.callers;
    let is_asked = policy.authentication().is_some();
    let state = |holds, reason, message| Some(State { type_: CALLERS_PROVABLE, holds, reason, message });
    let sentences = |clauses: &BTreeSet<String>| {
        let sentences: Vec<_> = clauses.iter().map(|clause| format!("{}.", uppercase_first(clause))).collect();
        sentences.join(" ")
    };
    if !troubles.is_empty() {
        state(false, NOT_PROVABLE, sentences(troubles))
    } else if !is_asked {
        None
    } else if coverage.selected == 0 {
        state(false, "NoPods", "The policy selects no pod.".to_owned())
    } else if awaited.is_empty() {
        state(true, "Provable", "Callers can prove who they are.".to_owned())
    } else {
        state(false, "Awaited", sentences(awaited))
    }
}

fn uppercase_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn shorten(text: String) -> String {
    shorten_to(text, MAX_MESSAGE_CHARACTERS)
}

fn shorten_to(text: String, characters: usize) -> String {
    let mut ends = text.char_indices().map(|(start, _)| start).skip(characters.saturating_sub(1));
    match (ends.next(), ends.next()) {
        (Some(cut), Some(_)) => format!("{}…", &text[..cut]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::StoredPolicy;
    use serde_json::{Value, json};

    fn judged(generation: i64, spec: Value, before: Option<&Judged>) -> Judged {
        let mut policy = StoredPolicy { spec, ..StoredPolicy::default() };
        if policy.spec.get("namespaceSelector").is_none() {
            policy.metadata.namespace = Some("imaging".to_owned());
        }
        policy.metadata.name = Some("calls".to_owned());
        policy.metadata.generation = Some(generation);
        Judged::new(&policy, before)
    }

    fn limited() -> Value {
        json!({ "selector": {}, "tools": { "t": { "limits": [{ "counter": "c", "window": "minute", "max": 10 }] } } })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn counts(selected: u32, injected: u32, enforcing: u32) -> Coverage {
        Coverage { selected, injected, enforcing, namespaces: 1, ..Coverage::default() }
    }

    fn condition<'a>(status: &'a PolicyStatus, type_: &str) -> &'a Condition {
        status.conditions.iter().find(|condition| condition.type_ == type_).unwrap()
    }

    /// Status, reason and message of a condition.
    fn told<'a>(status: &'a PolicyStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let condition = condition(status, type_);
        (&condition.status, &condition.reason, &condition.message)
    }

    #[test]
    fn what_stands_in_the_way_of_callers_is_said_to_who_asks_for_proofs() {
        let asking = judged(1, json!({ "selector": {}, "server": { "authentication": { "keys": { "secretName": "k" } } } }), None);
        let silent = judged(1, json!({ "selector": {} }), None);
        let clauses = |clauses: &[&str]| clauses.iter().map(|clause| (*clause).to_owned()).collect();
        let of = |policy: &Judged, pods: u32, troubles: &[&str], awaited: &[&str]| {
            let callers = Callers { troubles: clauses(troubles), awaited: clauses(awaited) };
            status(policy, &Coverage { callers, ..counts(pods, pods, pods) }, None, at(0))
        };
        let told_of = |pods, troubles: &[&str], awaited: &[&str]| {
            let status = of(&asking, pods, troubles, awaited);
            let (holds, reason, message) = told(&status, CALLERS_PROVABLE);
            format!("{holds} {reason} {message}")
        };
        assert_eq!(told_of(1, &[], &[]), "True Provable Callers can prove who they are.");
        assert_eq!(told_of(0, &[], &[]), "False NoPods The policy selects no pod.");
        assert_eq!(told_of(1, &[], &["the keys are not read yet"]), "False Awaited The keys are not read yet.");
        assert_eq!(told_of(1, &["b fails", "a fails"], &["c"]), "False NotProvable A fails. B fails.");
        let has = |status: PolicyStatus| status.conditions.iter().any(|condition| condition.type_ == CALLERS_PROVABLE);
        assert!(!has(of(&silent, 1, &[], &[])), "who asks for no proof is told of none");
        assert!(has(of(&silent, 1, &["from[0] names nobody"], &[])));
    }

    #[test]
    fn programmed_is_true_only_when_every_selected_pod_enforces_this_generation() {
        let policy = judged(3, limited(), None);
        let of = |coverage: Coverage| status(&policy, &coverage, None, at(0));
        assert_eq!(told(&of(counts(2, 2, 2)), PROGRAMMED), ("True", "Programmed", "All 2 selected pods enforce generation 3."));
        assert_eq!(told(&of(counts(1, 1, 1)), PROGRAMMED), ("True", "Programmed", "The selected pod enforces generation 3."));
        assert_eq!(told(&of(counts(2, 2, 1)), PROGRAMMED), ("False", "Reconciling", "1 of 2 selected pods enforces generation 3."));
        let uncovered = of(counts(3, 2, 2));
        assert_eq!(
            told(&uncovered, PROGRAMMED),
            ("False", "PartiallyProgrammed", "2 of 3 selected pods enforce generation 3. 1 pod runs without the sidecar.")
        );
        let refused = of(Coverage { refused: Some(("p-1".to_owned(), "unknown version".to_owned())), ..counts(2, 2, 1) });
        assert_eq!(
            told(&refused, PROGRAMMED),
            ("False", "PartiallyProgrammed", "1 of 2 selected pods enforces generation 3. Pod p-1 refused it: unknown version.")
        );
    }

    #[test]
    fn covered_is_true_only_when_every_selected_pod_has_the_sidecar() {
        let of = |selected, injected, enforcing| status(&judged(1, limited(), None), &counts(selected, injected, enforcing), None, at(0));
        assert_eq!(told(&of(0, 0, 0), COVERED), ("False", "NoPods", "The policy selects no pod."));
        assert_eq!(told(&of(1, 1, 0), COVERED), ("True", "Covered", "The selected pod has the sidecar."));
        assert_eq!(told(&of(3, 3, 1), COVERED), ("True", "Covered", "All 3 selected pods have the sidecar."));
        let one = of(3, 2, 2);
        let (holds, reason, message) = told(&one, COVERED);
        assert_eq!((holds, reason), ("False", "UncoveredPods"));
        assert!(message.starts_with("1 of 3 selected pods runs without the sidecar"), "{message}");
        assert!(told(&of(3, 1, 1), COVERED).2.starts_with("2 of 3 selected pods run without the sidecar"));
    }

    #[test]
    fn every_selected_pod_is_counted_as_enforcing_stale_or_uncovered() {
        for (selected, injected, enforcing) in [(0, 0, 0), (3, 3, 3), (3, 2, 1), (5, 4, 0)] {
            let status = status(&judged(1, limited(), None), &counts(selected, injected, enforcing), None, at(0));
            let parts = [status.enforcing, status.stale, status.uncovered].map(Option::unwrap);
            assert_eq!(parts.iter().sum::<u32>(), selected, "{parts:?}");
        }
    }

    #[test]
    fn a_selector_that_matches_nothing_is_accepted_and_said() {
        let status = status(&judged(1, limited(), None), &counts(0, 0, 0), None, at(0));
        assert_eq!(told(&status, ACCEPTED), ("True", "Accepted", "Accepted. The selector matches no pod in namespace imaging."));
        assert_eq!(told(&status, PROGRAMMED), ("False", "NoPods", "The policy selects no pod."));
        assert_eq!(status.selected, Some(0));
    }

    #[test]
    fn an_audit_policy_says_that_it_refuses_nothing() {
        let mut spec = limited();
        spec["mode"] = json!("audit");
        let audit = judged(1, spec, None);
        let accepted = status(&audit, &counts(1, 1, 1), None, at(0));
        assert_eq!(accepted.mode, Some(Mode::Audit));
        assert_eq!(
            told(&accepted, ACCEPTED).2,
            "Accepted. In audit mode: calls are decided and recorded, and this policy refuses and hides none."
        );
        assert_eq!(told(&accepted, PROGRAMMED).2, "The selected pod enforces generation 1 in audit mode.");

        let bad = judged(2, json!({ "selector": {}, "tols": {} }), Some(&audit));
        let later = status(&bad, &counts(1, 1, 0), None, at(0));
        assert_eq!(later.mode, Some(Mode::Audit), "the mode of the revision that is in force");
        assert!(told(&later, ACCEPTED).2.ends_with("Generation 1 stays in force, in audit mode."), "{}", told(&later, ACCEPTED).2);
        assert_eq!(status(&judged(1, limited(), None), &counts(1, 1, 1), None, at(0)).mode, Some(Mode::Enforce));
    }

    #[test]
    fn a_cluster_policy_says_which_namespaces_it_selects_in_vain() {
        let policy = judged(1, json!({ "namespaceSelector": {}, "selector": {} }), None);
        let told = |namespaces, left_out: &[&str]| {
            let left_out = left_out.iter().map(|&name| name.to_owned()).collect();
            let status = status(&policy, &Coverage { namespaces, left_out, ..Coverage::default() }, None, at(0));
            condition(&status, ACCEPTED).message.clone()
        };
        assert_eq!(told(0, &[]), "Accepted. The namespaceSelector matches no namespace.");
        assert_eq!(told(1, &[]), "Accepted. The selector matches no pod in the 1 selected namespace.");
        assert_eq!(
            told(3, &["kube-node-lease", "kube-system"]),
            "Accepted. The selector matches no pod in the 3 selected namespaces. Selected in vain, since they are never governed: the \
             namespaces kube-node-lease, kube-system."
        );
    }

    /// "A policy that does not compile is not accepted, its status says why".
    #[test]
    fn an_invalid_revision_says_why_and_what_stays_in_force() {
        let bad = json!({ "selector": {}, "tols": {} });
        let never = status(&judged(1, bad.clone(), None), &counts(1, 1, 0), None, at(0));
        let (holds, reason, message) = told(&never, ACCEPTED);
        assert_eq!((holds, reason), ("False", "Invalid"));
        assert!(message.contains("spec.tols") && message.ends_with("every call to the selected pods is refused."), "{message}");
        assert_eq!(never.last_accepted, None);

        let first = judged(1, limited(), None);
        let later = status(&judged(2, bad, Some(&first)), &counts(1, 1, 0), None, at(0));
        assert!(told(&later, ACCEPTED).2.ends_with("Generation 1 stays in force."));
        assert_eq!(told(&later, PROGRAMMED), ("False", "NotAccepted", "Generation 2 is not accepted."));
        assert_eq!(later.last_accepted, Some(AcceptedRevision { generation: 1, spec: limited() }));
        assert_eq!(later.observed_generation, Some(2));
    }

    /// "In memory by default (one pod, one count, and the policy's status says so where it selects several)".
    #[test]
    fn limits_hold_per_pod_where_several_are_selected() {
        let limited = judged(1, limited(), None);
        let unlimited = judged(1, json!({ "selector": {} }), None);
        let of = |policy: &Judged, pods| status(policy, &counts(pods, pods, pods), None, at(0));
        let several = of(&limited, 3);
        let (holds, reason, message) = told(&several, LIMITS_PER_POD);
        assert_eq!((holds, reason), ("True", "SeveralPods"));
        assert!(message.contains("up to 3 times each limit"), "{message}");
        assert_eq!(told(&of(&limited, 1), LIMITS_PER_POD).0, "False");
        let shared = status(&limited, &Coverage { shares_counters: true, ..counts(3, 3, 3) }, None, at(0));
        assert_eq!((told(&shared, LIMITS_PER_POD).0, told(&shared, LIMITS_PER_POD).1), ("False", "SharedStore"));
        assert_eq!(told(&of(&unlimited, 3), LIMITS_PER_POD).1, "NoLimits");
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let policy = judged(1, limited(), None);
        let first = status(&policy, &counts(2, 2, 0), None, at(100));
        let same = status(&policy, &counts(2, 2, 1), Some(&first), at(200));
        assert_ne!(told(&first, PROGRAMMED).2, told(&same, PROGRAMMED).2);
        assert_eq!(condition(&same, PROGRAMMED).last_transition_time, Time(at(100)));
        let changed = status(&policy, &counts(2, 2, 2), Some(&same), at(300));
        assert_eq!(condition(&changed, PROGRAMMED).last_transition_time, Time(at(300)));
        assert_eq!(condition(&changed, ACCEPTED).last_transition_time, Time(at(100)));
        assert_eq!(status(&policy, &counts(2, 2, 2), Some(&changed), at(400)), changed, "nothing new gives the same status");
    }

    #[test]
    fn warnings_stand_in_the_message() {
        let spec = json!({ "selector": {}, "tools": { "t": { "action": "deny", "rateLimit": { "max": 1, "window": "minute" } } } });
        let status = status(&judged(1, spec, None), &counts(1, 1, 1), None, at(0));
        let (holds, _, message) = told(&status, ACCEPTED);
        assert!(holds == "True" && message.contains("Warning: spec.tools.t.rateLimit"), "{message}");
    }

    #[test]
    fn a_flood_of_errors_is_cut_and_the_consequence_kept() {
        let tools: serde_json::Map<_, _> =
            (0..400).map(|i| (format!("tool-é-{i}"), json!({ "limits": [{ "counter": "", "window": "x", "max": 1 }] }))).collect();
        let status = status(&judged(1, json!({ "selector": {}, "tools": tools }), None), &counts(1, 1, 0), None, at(0));
        let message = told(&status, ACCEPTED).2;
        assert!(message.chars().count() <= MAX_MESSAGE_CHARACTERS, "{}", message.chars().count());
        assert!(message.contains('…') && message.ends_with("is refused."), "{message}");
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(shorten_to("äöü".to_owned(), 3), "äöü");
        assert_eq!(shorten_to("äöüß".to_owned(), 3), "äö…");
        assert_eq!(shorten_to(String::new(), 3), "");
    }
}
