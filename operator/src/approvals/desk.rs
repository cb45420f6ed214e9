//! Where sidecars ask about calls that wait: an approval is found or made, and used up when all that a call needs are given.
//!
//! Guarantees: what is decided is what the API server says at that moment, never what this replica remembers; of all who ask about the same
//! call, on whatever replica, one uses an approval, for the API server takes only one write on what it read. Whatever fails, the call
//! does not pass. A sidecar that waits for people is answered as soon as they have spoken: what this replica hears of them says only
//! when to ask the API server again.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, PostParams};
use mcp_policy::approval::{ApprovalAnswer, ApprovalName, ApprovalRequest, Needed};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::known::Known;
use super::page::Page;
use super::resource::{ApprovalSpec, ApprovalStatus, ApprovedArguments, AskingPolicy, McpApproval, State, Verdict};
use super::state::{base_name, is_of, state, too_many};
use crate::review::BoundPod;
use crate::world::World;

/// For each request to the API server.
const REQUEST: Duration = Duration::from_secs(5);
/// More than can be over since this replica last heard of them.
const ATTEMPTS: u32 = 16;
/// A sidecar has as many policies at the most as a pod has; nobody has so many that ask.
const MAX_NEEDED: usize = 16;
const MAX_TIMEOUT_SECONDS: u64 = 24 * 3600;
/// The longest that an answer is put off. Who waits longer asks again.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// Questions whose answer is put off, at one time: each is a connection.
const MAX_WAITING: usize = 4096;

/// Answers sidecars.
pub struct Desk {
    /// How the API server is reached.
    pub client: Client,
    /// What governs which pod.
    pub world: Arc<World>,
    /// The approvals that there are.
    pub known: Arc<Known>,
    /// Where people decide, if there is such a page.
    pub page: Option<Page>,
    /// Answers everybody who waits: they are to ask another replica.
    pub stop: CancellationToken,
    /// For answers that are put off.
    pub waiting: Semaphore,
}

/// Why a sidecar gets no answer. The call does not pass.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The API server refused.
    #[error("failed to read or write an approval: {0}")]
    Api(#[from] Box<kube::Error>),
    /// The API server did not answer.
    #[error("the API server did not answer in time")]
    TimedOut,
}

/// How a call stands with one policy.
enum Stand {
    Is(Box<McpApproval>, State),
    NotAsked(&'static str),
}

impl Desk {
    /// A desk where nobody waits yet, and that knows of no page.
    #[must_use]
    pub fn new(client: Client, world: Arc<World>, known: Arc<Known>, stop: CancellationToken) -> Self {
        Self { client, world, known, page: None, stop, waiting: Semaphore::new(MAX_WAITING) }
    }

    /// Whether the call passes; if it does, its approvals are used up. The answer that people are asked is put off as long as the request
    /// says.
    pub async fn answer(&self, pod: &BoundPod, request: &ApprovalRequest) -> Result<ApprovalAnswer, DeskError> {
        let end = Instant::now() + Duration::from_secs(request.wait_seconds).min(MAX_WAIT);
        let mut changes = self.known.changes();
        loop {
            let answer = self.answer_now(pod, request).await?;
            let ApprovalAnswer::Waiting { approval } = answer else { return Ok(answer) };
            let asked = Instant::now();
            let waiting = |approval: ApprovalName| {
                let seconds_left = approval.seconds_left.saturating_sub(asked.elapsed().as_secs());
                Ok(ApprovalAnswer::Waiting { approval: ApprovalName { seconds_left, ..approval } })
            };
            let Ok(_room) = self.waiting.try_acquire() else { return waiting(approval) };
            let key = (approval.namespace.clone(), approval.name.clone());
            tokio::select! {
                _ = changes.wait_for(|()| self.known.is_decided(&key, Timestamp::now())) => {}
                // When it expires, people would be asked anew: that is for the next call.
                () = sleep_until(end.min(asked + Duration::from_secs(approval.seconds_left))) => return waiting(approval),
                () = self.stop.cancelled() => return waiting(approval),
            }
        }
    }

    async fn answer_now(&self, pod: &BoundPod, request: &ApprovalRequest) -> Result<ApprovalAnswer, DeskError> {
        let Some((server, approvers)) = self.asking(pod, request) else {
            return Ok(not_asked("the policy that asks is not the one in force any more"));
        };
        if request.needed.is_empty() || request.needed.len() > MAX_NEEDED {
            return Ok(not_asked("too many policies ask"));
        }
        let api = Api::<McpApproval>::namespaced(self.client.clone(), &pod.namespace);
        let mut approved = Vec::new();
        let mut waiting = None;
        for (needed, approvers) in request.needed.iter().zip(approvers) {
            let now = Timestamp::now();
            match self.stand(&api, &server, request, (needed, approvers), now).await? {
                Stand::NotAsked(why) => return Ok(not_asked(why)),
                Stand::Is(approval, State::Approved) => approved.push(*approval),
                Stand::Is(approval, State::Denied) => {
                    let denial = approval.spec.decisions.iter().find(|decision| decision.verdict == Verdict::Denied);
                    let reason = denial.and_then(|decision| decision.reason.clone());
                    return Ok(ApprovalAnswer::Denied { approval: named(&approval, now), reason });
                }
                Stand::Is(approval, _) => {
                    waiting.get_or_insert_with(|| {
                        let named = named(&approval, now);
                        ApprovalName { url: self.page.as_ref().map(|page| page.url(&named.namespace, &named.name)), ..named }
                    });
                }
            }
        }
        if let Some(approval) = waiting {
            return Ok(ApprovalAnswer::Waiting { approval });
        }
        self.use_up(&api, approved, pod).await
    }

    /// What is called, and how many people each policy that asks wants; if all of them govern the pod, in the revision that asks.
    fn asking(&self, pod: &BoundPod, request: &ApprovalRequest) -> Option<(String, Vec<u8>)> {
        let pods = self.world.pods();
        let pod = pods.get(&(pod.namespace.clone(), pod.name.clone())).filter(|known| known.uid == pod.uid)?;
        let policies = self.world.policies();
        let approvers = |needed: &Needed| {
            let mut governing = policies.governing(&pod.namespace, &pod.labels);
            let policy = governing.find(|policy| policy.id == needed.policy())?;
            policy.in_force.as_ref().filter(|revision| revision.generation == needed.generation).map(|revision| revision.approvers())
        };
        Some((pod.workload(), request.needed.iter().map(approvers).collect::<Option<_>>()?))
    }

    /// Finds the approval of a call, or has people asked.
    async fn stand(
        &self,
        api: &Api<McpApproval>,
        server: &str,
        request: &ApprovalRequest,
        (needed, approvers): (&Needed, u8),
        now: Timestamp,
    ) -> Result<Stand, DeskError> {
        let namespace = api.namespace().unwrap_or_default();
        let base = base_name(server, request, needed);
        let first = self.known.first_open(namespace, &base, now);
        for number in first..first + ATTEMPTS {
            let name = format!("{base}-{number}");
            let mut found = within(api.get_opt(&name)).await?;
            if found.is_none() {
                let known = self.known.of_namespace(namespace);
                if let Some(why) = too_many(known.iter().map(AsRef::as_ref), request, needed, now) {
                    return Ok(Stand::NotAsked(why));
                }
                found = self.make(api, asking(name, server, request, (needed, approvers), now)).await?;
            }
            // Deleted at this very moment: its name is used no more.
            let Some(found) = found else { continue };
            if !is_of(&found.spec, server, request, needed) {
                return Ok(Stand::NotAsked("another call has an approval of the same name"));
            }
            match state(&found.spec, found.status.as_ref(), now) {
                State::Used | State::Expired => {}
                other => return Ok(Stand::Is(Box::new(found), other)),
            }
        }
        Ok(Stand::NotAsked("the call was approved too often in too short a time"))
    }

    /// Makes an approval, or finds the one that another replica made first; none if that is gone already.
    async fn make(&self, api: &Api<McpApproval>, new: McpApproval) -> Result<Option<McpApproval>, DeskError> {
        let (_, name) = new.key();
        match within(api.create(&PostParams::default(), &new)).await {
            Ok(made) => {
                self.known.insert(made.clone());
                Ok(Some(made))
            }
            Err(error) if is_conflict(&error) => within(api.get_opt(&name)).await,
            Err(error) => Err(error),
        }
    }

    /// Uses up all of the approvals, or none.
    async fn use_up(&self, api: &Api<McpApproval>, approved: Vec<McpApproval>, pod: &BoundPod) -> Result<ApprovalAnswer, DeskError> {
        let mut used: Vec<McpApproval> = Vec::new();
        for approval in approved {
            match self.use_one(api, approval, pod).await {
                Ok(Some(written)) => used.push(written),
                Ok(None) => {
                    self.give_back(api, used).await;
                    return Ok(not_asked("another call used the approval at this moment"));
                }
                Err(error) => {
                    self.give_back(api, used).await;
                    return Err(error);
                }
            }
        }
        for approval in used {
            self.known.insert(approval);
        }
        Ok(ApprovalAnswer::Granted)
    }

    /// Uses up an approval; none if it is not good any more. Each write names the version that was read, and if anything has changed
    /// since, the API server refuses it. That may be no more than the state that is written for people, so it is looked at again.
    async fn use_one(&self, api: &Api<McpApproval>, mut approval: McpApproval, pod: &BoundPod) -> Result<Option<McpApproval>, DeskError> {
        let (_, name) = approval.key();
        for _ in 0..ATTEMPTS {
            let now = Timestamp::now();
            if state(&approval.spec, approval.status.as_ref(), now) != State::Approved {
                return Ok(None);
            }
            // The state is written for people, by who tells them.
            let state = approval.status.and_then(|status| status.state);
            approval.status = Some(ApprovalStatus { state, used_at: Some(now.to_string()), used_by: Some(pod.name.clone()) });
            match within(api.replace_status(&name, &PostParams::default(), &approval)).await {
                Err(error) if is_conflict(&error) => match within(api.get_opt(&name)).await? {
                    Some(found) if found.metadata.uid == approval.metadata.uid => approval = found,
                    _ => return Ok(None),
                },
                written => return written.map(Some),
            }
        }
        Ok(None)
    }

    /// Makes approvals good again of a call that did not pass. One that cannot be written stays used up.
    async fn give_back(&self, api: &Api<McpApproval>, used: Vec<McpApproval>) {
        for mut approval in used {
            let (_, name) = approval.key();
            approval.status = Some(ApprovalStatus { state: Some(State::Approved), ..ApprovalStatus::default() });
            if let Err(error) = within(api.replace_status(&name, &PostParams::default(), &approval)).await {
                tracing::warn!(approval = name, %error, "an approval of a call that did not pass stays used up");
            }
        }
    }
}

/// A new approval.
fn asking(name: String, server: &str, request: &ApprovalRequest, (needed, approvers): (&Needed, u8), now: Timestamp) -> McpApproval {
    let timeout = i64::try_from(needed.timeout_seconds.min(MAX_TIMEOUT_SECONDS)).unwrap_or(0);
    McpApproval {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: ApprovalSpec {
            caller: request.caller.clone(),
            server: server.to_owned(),
            tool: request.tool.clone(),
            arguments: ApprovedArguments {
                sha256: request.arguments_sha256.clone(),
                keys: needed.argument_keys.clone(),
                values: needed.arguments.clone(),
            },
            policy: AskingPolicy {
                namespace: needed.namespace.clone(),
                name: needed.name.clone(),
                generation: needed.generation,
                rule: needed.rule.clone(),
            },
            reason: needed.reason.clone(),
            approvers,
            expires_at: now.saturating_add(SignedDuration::from_secs(timeout)).unwrap_or(now).to_string(),
            decisions: Vec::new(),
        },
        status: None,
    }
}

fn named(approval: &McpApproval, now: Timestamp) -> ApprovalName {
    let (namespace, name) = approval.key();
    let left = approval.spec.expires_at().map_or(0, |expires| expires.as_second() - now.as_second());
    ApprovalName { namespace, name, seconds_left: u64::try_from(left).unwrap_or(0), url: None }
}

fn not_asked(why: &str) -> ApprovalAnswer {
    ApprovalAnswer::NotAsked { why: why.to_owned() }
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, DeskError> {
    let answered = timeout(REQUEST, request).await.map_err(|_| DeskError::TimedOut)?;
    answered.map_err(|error| DeskError::Api(Box::new(error)))
}

/// Whether the object is there already, or is another than the one that was read.
fn is_conflict(error: &DeskError) -> bool {
    matches!(error, DeskError::Api(error) if matches!(error.as_ref(), kube::Error::Api(status) if status.code == 409))
}
