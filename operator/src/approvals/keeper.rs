//! The leader's part: the state of each approval is written for people to read, told in events and metrics, and what is long over is
//! deleted.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::events::EventType;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::known::Known;
use super::notify::Notifier;
use super::resource::{KIND, McpApproval, State};
use super::state::state;
use crate::crd::{GROUP, VERSION};
use crate::events::Events;
use crate::metrics::{ApprovalLabels, Metrics, Step};

/// Approvals expire without anybody telling of it.
const TICK: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(20);
const REQUEST: Duration = Duration::from_secs(5);
/// Written at one time.
const CONCURRENT: usize = 8;
/// What is over stays for people to read.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Keeps what there is to read of approvals.
pub struct Keeper {
    /// How the API server is reached.
    pub client: Client,
    /// The approvals that there are.
    pub known: Arc<Known>,
    /// Where events go.
    pub events: Events,
    /// Who is told of new approvals, if somebody is.
    pub notifier: Option<Notifier>,
    /// Where approvals are counted.
    pub metrics: Metrics,
}

/// What is to be done about an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Write(State),
    Delete,
    Nothing,
}

/// Pure: what is to be done about an approval.
fn due(approval: &McpApproval, now: Timestamp) -> Due {
    let expires = approval.spec.expires_at().unwrap_or(Timestamp::MIN);
    if expires.saturating_add(KEPT).is_ok_and(|end| now >= end) {
        return Due::Delete;
    }
    let state = state(&approval.spec, approval.status.as_ref(), now);
    let written = approval.status.as_ref().and_then(|status| status.state);
    // What was denied has been answered; that its time is over is no news.
    let is_settled = written == Some(State::Denied) && state == State::Expired;
    if written == Some(state) || is_settled { Due::Nothing } else { Due::Write(state) }
}

impl Keeper {
    /// Runs until its future is dropped.
    pub async fn run(self) {
        let mut changes = self.known.changes();
        loop {
            let now = Timestamp::now();
            let approvals = self.known.all();
            self.measure(&approvals, now);
            let work = approvals.into_iter().map(|approval| (due(&approval, now), approval)).filter(|(due, _)| *due != Due::Nothing);
            futures::stream::iter(work).for_each_concurrent(CONCURRENT, |(due, approval)| self.act(due, approval)).await;
            tokio::select! {
                // An error says that the process is ending.
                _ = changes.changed() => sleep(QUIET).await,
                () = sleep(TICK) => {}
            }
        }
    }

    fn measure(&self, approvals: &[Arc<McpApproval>], now: Timestamp) {
        let pending = approvals.iter().filter(|approval| state(&approval.spec, approval.status.as_ref(), now) == State::Pending);
        let made = pending.map(|approval| approval.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0));
        let (count, oldest) = made.fold((0, now), |(count, oldest), made| (count + 1, oldest.min(made)));
        self.metrics.set_pending_approvals(count, now.as_second() - oldest.as_second());
    }

    async fn act(&self, due: Due, approval: Arc<McpApproval>) {
        let (namespace, name) = approval.key();
        let api = Api::<McpApproval>::namespaced(self.client.clone(), &namespace);
        let done = match due {
            Due::Nothing => return,
            Due::Delete => {
                // Not another one that has come under the same name.
                let preconditions = Preconditions { uid: approval.metadata.uid.clone(), resource_version: None };
                let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                timeout(REQUEST, api.delete(&name, &params)).await.map(|deleted| deleted.map(|_| None))
            }
            Due::Write(state) => {
                // Of the version that was seen: what somebody has written since is looked at first.
                let patch = json!({
                    "metadata": { "resourceVersion": approval.metadata.resource_version },
                    "status": { "state": state },
                });
                timeout(REQUEST, api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)))
                    .await
                    .map(|written| written.map(Some))
            }
        };
        match (done, due) {
            (Ok(Ok(Some(written))), Due::Write(state)) => {
                self.metrics.approvals.get_or_create(&ApprovalLabels { state }).inc();
                self.tell(&written, state).await;
                if let (State::Pending, Some(notifier)) = (state, &self.notifier) {
                    notifier.tell(Arc::new(written.clone()));
                }
                self.known.insert(written);
            }
            (Ok(Ok(_)), _) => {}
            (Ok(Err(kube::Error::Api(status))), _) if status.is_not_found() || status.is_conflict() => {}
            (Ok(Err(error)), _) => self.metrics.failed(Step::Approval, &error),
            (Err(error), _) => self.metrics.failed(Step::Approval, &error),
        }
    }

    /// An event on the approval.
    async fn tell(&self, approval: &McpApproval, state: State) {
        let (namespace, name) = approval.key();
        let spec = &approval.spec;
        let people: Vec<_> = spec.decisions.iter().map(|decision| decision.by.as_str()).collect();
        let note = match state {
            State::Pending => {
                format!("{} wants to call {} of {}; waits for a person until {}", spec.caller, spec.tool, spec.server, spec.expires_at)
            }
            State::Approved => format!("approved by {}; the call may pass once until {}", people.join(" and "), spec.expires_at),
            State::Denied => format!("denied by {}", people.last().copied().unwrap_or_default()),
            State::Used => format!("approved by {}; the call passed", people.join(" and ")),
            State::Expired => "nothing passed in time".to_owned(),
        };
        let about = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(KIND.to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: approval.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.events.publish(EventType::Normal, &about, state.as_str(), "Approve", &note).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approvals::state::tests::approval;

    #[test]
    fn each_state_is_written_once_and_what_is_long_over_goes() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut asked = approval(100);
        assert_eq!(due(&asked, at(0)), Due::Write(State::Pending));
        let mut wrote = |state, now| {
            asked.status.get_or_insert_default().state = Some(state);
            due(&asked, at(now))
        };
        assert_eq!(wrote(State::Pending, 99), Due::Nothing);
        assert_eq!(wrote(State::Pending, 100), Due::Write(State::Expired));
        assert_eq!(wrote(State::Denied, 100), Due::Nothing);
        assert_eq!(wrote(State::Expired, 100 + 24 * 3600 - 1), Due::Nothing);
        assert_eq!(wrote(State::Expired, 100 + 24 * 3600), Due::Delete);
        wrote(State::Approved, 99);
        asked.status.get_or_insert_default().used_at = Some(at(99).to_string());
        assert_eq!(due(&asked, at(99)), Due::Write(State::Used), "who used it left that to be told");
    }
}
