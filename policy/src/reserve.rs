//! From a judged call to its outcome: what it wants of the counters, and what they say. They are asked here, in memory
//! ([`Judged::reserve`]), or by a store that several processes share: it is told [`Judged::wants`], and what it [`Found`] concludes.
//! Either way a call takes from all of its counters or from none, and a policy in audit mode takes only beside a call that passes.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Duration;

use crate::compiled::{CompiledLimit, CompiledRule, Policy};
use crate::decide::{Judged, audited_as};
use crate::decision::{Allowed, ApprovalNeeded, Approvals, Code, Decision, Outcome, Refusal};
use crate::document::{OnStoreError, Scope};
use crate::judge::{Admitted, Standing};
use crate::limit::{Claim, Counters, Full, Owner, Reservation};
use crate::policy_id::PolicyId;
use crate::trace::{Step, Trace};

/// What a call wants of one shared counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Names the counter and whose budget of it this is, the same in every process: 32 hex digits.
    pub budget: String,
    /// Length of the window.
    pub window: Duration,
    /// What the call counts, in units of 10^-18.
    pub amount: u128,
    /// What the window holds, in units of 10^-18.
    pub max: u128,
    /// 0: it must have room, as all of this group, or nothing is taken. Any other number: a policy in audit mode, which takes beside a
    /// call that passes if all of its own have room.
    pub group: usize,
    /// Whether to take, or only to ask.
    pub takes: bool,
    /// Whether calls may pass that the store might have forgotten others before.
    pub on_store_error: OnStoreError,
}

/// What a shared counter says of a [`Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It has room.
    Room,
    /// It has none, and will have in so many seconds; none if never.
    Full {
        /// Whole seconds, rounded up.
        retry_after_seconds: Option<u64>,
    },
    /// The store cannot tell what was used before.
    Unknown {
        /// Whole seconds, rounded up, after which it can.
        retry_after_seconds: u64,
    },
}

/// A claim, and the limit that makes it.
struct Claimed<'a> {
    claim: Claim<'a>,
    policy: &'a Policy,
    rule: &'a CompiledRule,
    limit: &'a CompiledLimit,
}

impl<'a> Judged<'a> {
    /// Asks the counters in memory, and reserves in all of them or in none.
    pub fn reserve(self, counters: &mut Counters, now: Duration) -> Outcome {
        self.settle(counters, now, &mut ())
    }

    pub(crate) fn settle<T: Trace>(self, counters: &mut Counters, now: Duration, trace: &mut T) -> Outcome {
        self.reserve_where(counters, now, |counters, claimed| {
            let full = counters.check(&claimed.claim, now).err();
            trace.step(|| Step::of_limit(claimed.policy, claimed.limit, full.as_ref(), counters.used(&claimed.claim, now)));
            full.map_or(Found::Room, Found::from)
        })
    }

    /// What the call wants of its counters; nothing if no counter has a word about it. Of a call that cannot pass they are only asked
    /// what they would say.
    #[must_use]
    pub fn wants(&self) -> Vec<Want> {
        let passes = self.refusal_before_counters().is_none();
        let of_group = |(group, (admitted, takes)): (usize, (&[Admitted<'a>], bool))| {
            claims(admitted, self).into_iter().map(move |Claimed { claim, limit, .. }| Want {
                budget: claim.budget(),
                window: Duration::from_secs(claim.counter.window_seconds),
                amount: claim.amount,
                max: claim.max,
                group,
                takes: takes && passes,
                on_store_error: limit.on_store_error,
            })
        };
        let told = (self.told.as_deref().unwrap_or_default(), true);
        let audits = self.audits.iter().map(|(_, standing)| match standing {
            Standing::Admitted(by) => (std::slice::from_ref(by), waits_in_audit(by).is_none()),
            Standing::Refused(_) => (&[][..], false),
        });
        std::iter::once(told).chain(audits).enumerate().flat_map(of_group).collect()
    }

    /// What refuses the call whatever its counters say; one that has no room is told before a person is waited for.
    fn refusal_before_counters(&self) -> Option<Refusal> {
        match &self.told {
            Ok(admitted) => waiting(admitted, self.approved, self.arguments_sha256.clone()),
            Err(refusal) => Some(refusal.clone()),
        }
    }

    /// The outcome by what a store found of each of [`Judged::wants`], in the same order. It has taken what there was to take, so the
    /// outcome's own reservation is empty. What it did not tell is unknown.
    #[must_use]
    pub fn conclude(self, found: &[Found]) -> Outcome {
        let mut found = found.iter();
        self.weigh(|_| found.next().copied().unwrap_or(Found::Unknown { retry_after_seconds: 1 })).0
    }

    /// The outcome while the store cannot be asked: who says `local` counts in memory, who says `deny` refuses, and names the seconds.
    pub fn without_store(self, counters: &mut Counters, now: Duration, retry_after_seconds: u64) -> Outcome {
        self.reserve_where(counters, now, |counters, claimed| match claimed.limit.on_store_error {
            OnStoreError::Deny => Found::Unknown { retry_after_seconds },
            OnStoreError::Local => counters.check(&claimed.claim, now).map_or_else(Found::from, |()| Found::Room),
        })
    }

    fn reserve_where(self, counters: &mut Counters, now: Duration, mut ask: impl FnMut(&mut Counters, &Claimed<'a>) -> Found) -> Outcome {
        let (outcome, claims) = self.weigh(|claimed| ask(counters, claimed));
        match outcome {
            Outcome { decision: Decision::Allowed(allowed), audited } => {
                let allowed = Allowed { reservation: counters.take(claims, now), ..allowed };
                Outcome { decision: Decision::Allowed(allowed), audited }
            }
            refused @ Outcome { decision: Decision::Refused(_), .. } => refused,
        }
    }

    /// The outcome, nothing taken yet, and what is to be taken of an allowed call.
    fn weigh(self, mut ask: impl FnMut(&Claimed<'a>) -> Found) -> (Outcome, Vec<Claim<'a>>) {
        let wanted = self.told.as_deref().map_or_else(|_| Vec::new(), |admitted| claims(admitted, &self));
        let refusal = match &self.told {
            Ok(_) => shortage(&wanted, &mut ask).or_else(|| self.refusal_before_counters()),
            Err(refusal) => Some(refusal.clone()),
        };
        let mut taken: Vec<Claim<'a>> = wanted.into_iter().map(|claimed| claimed.claim).collect();
        let mut audited = Vec::with_capacity(self.audits.len());
        for (policy, standing) in &self.audits {
            let short = match standing {
                Standing::Admitted(by) => {
                    let wanted = claims(std::slice::from_ref(by), &self);
                    let short = shortage(&wanted, &mut ask).or_else(|| waits_in_audit(by));
                    if short.is_none() {
                        taken.extend(wanted.into_iter().map(|claimed| claimed.claim));
                    }
                    short
                }
                Standing::Refused(refusal) => Some(refusal.clone()),
            };
            audited.push(audited_as(policy, short.as_ref()));
        }
        if let Some(refusal) = refusal {
            return (Outcome { decision: Decision::Refused(refusal), audited }, Vec::new());
        }
        let first = self.told.as_ref().ok().and_then(|admitted| admitted.first());
        let allowed = Allowed {
            policy: first.map(|by| by.policy.id.clone()),
            rule: first.map(|by| by.pointer.to_owned()),
            without_session: if self.call.session.is_none() { of_sessions(&taken) } else { Vec::new() },
            reservation: Reservation::default(),
        };
        (Outcome { decision: Decision::Allowed(allowed), audited }, taken)
    }
}

impl From<Full> for Found {
    fn from(Full { retry_after_seconds }: Full) -> Self {
        Self::Full { retry_after_seconds }
    }
}

/// What these policies claim for the call. It counts once in a counter, however many rules name it.
fn claims<'a>(admitted: &[Admitted<'a>], judged: &Judged<'a>) -> Vec<Claimed<'a>> {
    let call = &judged.call;
    let caller = LazyCell::new(|| Owner::caller(call.caller));
    let session = LazyCell::new(|| call.session.map(Owner::session));
    let mut claims: Vec<Claimed<'a>> = Vec::new();
    for by in admitted {
        for demand in &by.demands {
            let limit = demand.limit;
            if claims.iter().any(|earlier| *earlier.claim.counter == limit.counter) {
                continue;
            }
            let owner = match (limit.counter.scope, call.session) {
                (Scope::Server, _) => None,
                (Scope::Session, Some(_)) => *session,
                (Scope::Session, None) | (Scope::Grant, _) => Some(*caller),
            };
            let claim = Claim { counter: &limit.counter, owner, max: limit.max, amount: demand.amount };
            claims.push(Claimed { claim, policy: by.policy, rule: demand.rule, limit });
        }
    }
    claims
}

/// The refusal if one of these has no room, or if that is not known.
fn shortage<'a>(wanted: &[Claimed<'a>], ask: &mut impl FnMut(&Claimed<'a>) -> Found) -> Option<Refusal> {
    let mut told: Option<Refusal> = None;
    for claimed in wanted {
        let (code, wait) = match ask(claimed) {
            Found::Room => continue,
            Found::Full { retry_after_seconds } => (Code::LimitExceeded, retry_after_seconds),
            Found::Unknown { retry_after_seconds } => (Code::StoreUnavailable, Some(retry_after_seconds)),
        };
        // A retry passes when the last of them is free again, if ever.
        let retry_after_seconds = match &told {
            Some(told) => told.retry_after_seconds.zip(wait).map(|(a, b)| a.max(b)),
            None => wait,
        };
        match &mut told {
            // What is known to be full is told before what is not known.
            Some(told) if told.code == code || code == Code::StoreUnavailable => told.retry_after_seconds = retry_after_seconds,
            _ => {
                let reason = claimed.rule.reason.as_deref();
                told = Some(Refusal {
                    counter: Some(Arc::clone(&claimed.limit.counter.name)),
                    retry_after_seconds,
                    ..Refusal::by(claimed.policy, code, claimed.limit.pointer.clone(), reason)
                });
            }
        }
    }
    told
}

/// Nobody is asked for a policy in audit mode, so nothing was approved.
fn waits_in_audit(by: &Admitted<'_>) -> Option<Refusal> {
    waiting(std::slice::from_ref(by), &[], None)
}

/// The refusal of a call that waits for a person, or of which that cannot be decided.
fn waiting(admitted: &[Admitted<'_>], approved: &[ApprovalNeeded], arguments_sha256: Option<String>) -> Option<Refusal> {
    let mut needed = Vec::new();
    for by in admitted {
        match &by.approval {
            Err(refusal) => return Some(Refusal::clone(refusal)),
            Ok(Some(asks)) if !approved.contains(asks) => needed.push(asks.clone()),
            Ok(_) => {}
        }
    }
    let ApprovalNeeded { policy, rule, reason, .. } = needed.first()?.clone();
    Some(Refusal {
        policy: Some(policy),
        rule: Some(rule),
        reason,
        waits_for: arguments_sha256.map(|arguments_sha256| Box::new(Approvals { arguments_sha256, needed })),
        ..Refusal::of(Code::ApprovalRequired)
    })
}

/// The counters that are meant for sessions.
fn of_sessions(claims: &[Claim<'_>]) -> Vec<(PolicyId, Arc<str>)> {
    let counters = claims.iter().map(|claim| claim.counter).filter(|counter| counter.scope == Scope::Session);
    counters.map(|counter| (counter.policy.clone(), Arc::clone(&counter.name))).collect()
}
