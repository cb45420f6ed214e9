//! Which replica leads: a Kubernetes Lease, taken and kept.
//!
//! The decision is [`evaluate`]; the loop around it only reads, writes and waits. No replica trusts the clock of another: a
//! lease has run out when *this* replica has seen it unchanged for its whole duration.
//!
//! Guarantee: who leads has renewed the lease so recently that nobody else can have taken it; when that cannot be kept, leading
//! stops.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::names::OPERATOR;

/// How long others wait before they take a lease that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long the holder leads after the start of the last renewal that succeeded. With a request and a pause more it is still
/// shorter than [`DURATION`], so that two never lead at once.
const DEADLINE: Duration = Duration::from_secs(8);
const INTERVAL: Duration = Duration::from_secs(2);
/// One request takes no longer, or the deadline could pass while it hangs.
const REQUEST: Duration = Duration::from_secs(3);

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take it: it is free, or its holder is gone.
    Acquire,
    /// Keep it.
    Renew,
    /// Somebody else has it.
    Wait,
}

/// Decides what to do. `unchanged_for`: how long this replica has seen the lease exactly as it is.
#[must_use]
pub fn evaluate(lease: &LeaseSpec, me: &str, unchanged_for: Duration) -> Step {
    let duration = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == me => Step::Renew,
        None | Some("") => Step::Acquire,
        Some(_) if unchanged_for >= duration => Step::Acquire,
        Some(_) => Step::Wait,
    }
}

/// The lease as the holder writes it.
fn held(before: &LeaseSpec, me: &str, now: Timestamp) -> LeaseSpec {
    let is_mine = before.holder_identity.as_deref() == Some(me);
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if is_mine { before.acquire_time.clone() } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: if is_mine { before.lease_transitions } else { Some(before.lease_transitions.unwrap_or(0) + 1) },
        ..LeaseSpec::default()
    }
}

/// A lease as it was seen, and since when it has been so.
struct Seen {
    lease: Lease,
    since: Instant,
}

/// Takes part in the election until `stop`, then gives the lease back. Tells `leads` whether this replica leads.
pub async fn take_part(api: Api<Lease>, me: &str, leads: watch::Sender<bool>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: Option<Seen> = None;
    let mut renewed: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let start = Instant::now();
        match timeout(REQUEST, attempt(&api, me, &mut seen)).await {
            Ok(Ok(true)) => renewed = Some(start),
            Ok(Ok(false)) => renewed = None,
            Ok(Err(error)) => tracing::warn!(%error, "failed to read or write the lease"),
            Err(_) => tracing::warn!("the API server did not answer about the lease in time"),
        }
        let is_leader = renewed.is_some_and(|at| at.elapsed() < DEADLINE);
        if leads.send_replace(is_leader) != is_leader {
            tracing::info!(leader = is_leader, "leadership changed");
        }
    }
    leads.send_replace(false);
    if let Some(seen) = seen.filter(|_| renewed.is_some()) {
        release(&api, seen.lease).await;
    }
}

/// One turn. True if the lease is now this replica's.
async fn attempt(api: &Api<Lease>, me: &str, seen: &mut Option<Seen>) -> kube::Result<bool> {
    let now = Timestamp::now();
    let Some(lease) = api.get_opt(OPERATOR).await? else {
        let metadata = ObjectMeta { name: Some(OPERATOR.to_owned()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(held(&LeaseSpec::default(), me, now)) };
        return written(api.create(&PostParams::default(), &lease).await, seen);
    };
    let since = match seen {
        Some(seen) if seen.lease.spec == lease.spec => seen.since,
        _ => Instant::now(),
    };
    let spec = lease.spec.clone().unwrap_or_default();
    *seen = Some(Seen { lease: lease.clone(), since });
    match evaluate(&spec, me, since.elapsed()) {
        Step::Wait => Ok(false),
        Step::Acquire | Step::Renew => {
            // The resource version in the metadata makes this a compare and swap.
            let lease = Lease { spec: Some(held(&spec, me, now)), ..lease };
            written(api.replace(OPERATOR, &PostParams::default(), &lease).await, seen)
        }
    }
}

/// Another replica was faster if the API server says that the lease has changed or exists.
fn written(result: kube::Result<Lease>, seen: &mut Option<Seen>) -> kube::Result<bool> {
    match result {
        Ok(lease) => {
            *seen = Some(Seen { lease, since: Instant::now() });
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the lease back, so that another replica need not wait for it to run out.
async fn release(api: &Api<Lease>, mut lease: Lease) {
    if let Some(spec) = &mut lease.spec {
        spec.holder_identity = None;
    }
    let released = timeout(REQUEST, api.replace(OPERATOR, &PostParams::default(), &lease)).await;
    if !matches!(released, Ok(Ok(_))) {
        tracing::warn!("failed to give the lease back; another replica takes it when it has run out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: Option<&str>) -> LeaseSpec {
        LeaseSpec { holder_identity: holder.map(str::to_owned), lease_duration_seconds: Some(15), ..LeaseSpec::default() }
    }

    #[test]
    fn a_free_lease_is_taken() {
        assert_eq!(evaluate(&LeaseSpec::default(), "a", Duration::ZERO), Step::Acquire);
        assert_eq!(evaluate(&spec(Some("")), "a", Duration::ZERO), Step::Acquire);
    }

    #[test]
    fn the_holder_renews_and_others_wait_until_it_has_run_out() {
        assert_eq!(evaluate(&spec(Some("a")), "a", Duration::from_mins(1)), Step::Renew);
        assert_eq!(evaluate(&spec(Some("b")), "a", Duration::from_secs(14)), Step::Wait);
        assert_eq!(evaluate(&spec(Some("b")), "a", Duration::from_secs(15)), Step::Acquire);
    }

    #[test]
    fn a_nonsensical_duration_is_as_the_usual_one() {
        let odd = LeaseSpec { lease_duration_seconds: Some(-1), ..spec(Some("b")) };
        assert_eq!(evaluate(&odd, "a", Duration::from_secs(14)), Step::Wait);
    }

    #[test]
    fn a_change_of_holder_counts_as_a_transition_and_a_renewal_does_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = held(&LeaseSpec::default(), "a", at(1));
        let renewed = held(&first, "a", at(2));
        assert_eq!((renewed.lease_transitions, renewed.acquire_time.clone()), (Some(1), first.acquire_time));
        assert_eq!(renewed.renew_time, Some(MicroTime(at(2))));
        let taken = held(&renewed, "b", at(3));
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(2), Some(MicroTime(at(3)))));
    }

    #[test]
    fn the_deadline_leaves_no_time_for_two_leaders() {
        assert!(DEADLINE + REQUEST + INTERVAL < DURATION);
    }
}
