//! Sliding windows and the counters that use them, as state machines over a time that the caller gives.
//!
//! Laws (tests: `limit/tests/`): no half-open interval of a window's length ever sees more than `max`, whatever the order of
//! calls, refunds, changes of policy and steps of the clock; a call reserves in all its counters or in none; a refund gives back
//! exactly what its reservation took.
//!
//! State is bounded, whatever `max` is and however many call. A window holds at most [`EXACT_CALLS`] entries: beyond that, calls
//! within 1 % of the window expire together, so that one may be held a little longer than needed and none ever passes too early.
//! And budgets are kept apart only while there is room for them: see [`Series::shared`].

mod budgets;
mod calls;
mod identity;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use budgets::Budgets;
use calls::Calls;

pub(crate) use identity::{CounterId, Owner};

/// What one call counts where no amount is given. Amounts are counted in units of 10^-18.
pub(crate) const ONE_CALL: u128 = 1_000_000_000_000_000_000;

/// While at most this many calls are in a window, the limiter is exact.
const EXACT_CALLS: usize = 1_000;

/// Nanoseconds on the caller's monotonic clock.
type Nanos = u64;

const NANOS_PER_SECOND: Nanos = 1_000_000_000;

/// One call's demand on one counter.
pub(crate) struct Claim<'a> {
    pub counter: &'a Arc<CounterId>,
    /// Whose budget it is; none where all share one.
    pub owner: Option<Owner>,
    /// In units of 10^-18, as [`Claim::amount`].
    pub max: u128,
    pub amount: u128,
}

/// All counters of one server. Keep one for as long as the process lives: counters outlive changes of policy.
#[derive(Debug, Default)]
pub struct Counters {
    budgets: Budgets,
    series: HashMap<Arc<CounterId>, Series>,
    latest: Nanos,
    /// When all budgets were last looked at for what can be forgotten.
    swept: Nanos,
}

/// One counter, without the budgets that are kept apart.
#[derive(Debug, Default)]
struct Series {
    /// How many are kept apart.
    apart: usize,
    /// Everybody's budget where all share one. Else that of newcomers for whom there is no room: they have `max` together.
    /// Whoever gets a budget of their own while its calls are in the window owes all of them, for some may be theirs. So nobody
    /// gains by making others, or oneself, be forgotten; and sharing ends with the flood that made it necessary, however many
    /// newcomers still come.
    shared: Calls,
}

/// What an allowed call took from its counters. Dropping it settles the call as one that ran.
#[derive(Debug, Default)]
#[must_use = "give it to Counters::refund if the tool certainly did not run; drop it on purpose otherwise"]
pub struct Reservation {
    at: Nanos,
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    counter: Arc<CounterId>,
    owner: Option<Owner>,
    amount: u128,
    from_shared: bool,
}

/// A counter that has no room, and the seconds after which it has again; none if it never will.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub retry_after_seconds: Option<u64>,
}

impl Claim<'_> {
    /// Names the counter and the budget, as [`CounterId::budget`] does.
    pub fn budget(&self) -> String {
        self.counter.budget(self.owner)
    }

    fn taken(self, from_shared: bool) -> Taken {
        Taken { counter: Arc::clone(self.counter), owner: self.owner, amount: self.amount, from_shared }
    }
}

impl Counters {
    /// Whether the claim fits now. Changes nothing that a later call could notice.
    pub(crate) fn check(&mut self, claim: &Claim<'_>, now: Duration) -> Result<(), Full> {
        let now = self.advance(now);
        let Claim { amount, max, .. } = *claim;
        let window = claim.counter.window();
        let room = match self.calls(claim) {
            Some(calls) => calls.room(amount, max, window, now),
            None => Calls::default().room(amount, max, window, now),
        };
        room.map_err(|wait| Full { retry_after_seconds: wait.map(|nanos| nanos.div_ceil(NANOS_PER_SECOND)) })
    }

    /// What the claim's budget has used.
    pub(crate) fn used(&mut self, claim: &Claim<'_>, now: Duration) -> u128 {
        let now = self.advance(now);
        self.calls(claim).map_or(0, |calls| calls.used(claim.counter.window(), now))
    }

    /// The calls that the claim is counted with: its owner's, else those that are shared.
    fn calls(&mut self, claim: &Claim<'_>) -> Option<&mut Calls> {
        match claim.owner.and_then(|owner| self.budgets.find(claim.counter, owner)) {
            Some(place) => self.budgets.at(place),
            None => self.series.get_mut(claim.counter).map(|series| &mut series.shared),
        }
    }

    /// Takes the amount of each claim. They must have been checked at this same time, and be of different counters.
    pub(crate) fn take(&mut self, claims: Vec<Claim<'_>>, now: Duration) -> Reservation {
        let now = self.advance(now);
        let mut taken = Vec::with_capacity(claims.len());
        let mut newcomers = Vec::new();
        for claim in claims.into_iter().filter(|claim| claim.amount > 0) {
            match claim.owner.and_then(|owner| self.budgets.find(claim.counter, owner)) {
                Some(place) => {
                    self.budgets.push(place, claim.amount, now);
                    taken.push(claim.taken(false));
                }
                None => newcomers.push(claim),
            }
        }
        // Not before: a budget that was empty when it was checked would be forgotten.
        if self.budgets.are_short_of_memory() {
            self.sweep(now, |counters| counters.budgets.are_short_of_memory());
        }
        for claim in newcomers {
            let own = claim.owner.and_then(|owner| self.admit(claim.counter, owner, now));
            match own {
                Some(place) => self.budgets.push(place, claim.amount, now),
                None => self.series(claim.counter, now).shared.push(claim.amount, claim.counter.window(), now, EXACT_CALLS),
            }
            taken.push(claim.taken(own.is_none()));
        }
        Reservation { at: now, taken }
    }

    /// A place for a newcomer, if there is room. A counter keeps at most as many budgets apart as it leaves free: so none has
    /// more than half of them, and a flood of callers in one that forgets slowly leaves room in the others.
    fn admit(&mut self, counter: &Arc<CounterId>, owner: Owner, now: Nanos) -> Option<usize> {
        let no_room = |counters: &Self| counters.series.get(counter).map_or(0, |series| series.apart) >= counters.budgets.free();
        self.sweep(now, no_room);
        if no_room(self) {
            return None;
        }
        let series = self.series(counter, now);
        series.apart += 1;
        let owed = series.shared.joined(counter.window(), now);
        Some(self.budgets.insert(Arc::clone(counter), owner, owed))
    }

    /// Gives back what a call took whose tool certainly did not run: the server could not be reached, or answered with a
    /// JSON-RPC error or an HTTP 4xx.
    pub fn refund(&mut self, reservation: Reservation) {
        let Reservation { at, taken } = reservation;
        for Taken { counter, owner, amount, from_shared } in taken {
            // Elsewhere that time may hold the calls of others by now.
            if self.latest.saturating_sub(at) >= counter.window() {
                continue;
            }
            // Of the shared budget too: its owner may have got an own one since, which owes this call.
            if let Some(own) = owner.and_then(|owner| self.budgets.find(&counter, owner)).and_then(|place| self.budgets.at(place)) {
                own.remove(amount, at);
            }
            if let Some(series) = self.series.get_mut(&counter).filter(|_| from_shared) {
                series.shared.remove(amount, at);
            }
        }
    }

    /// What is used in the fullest budget of each counter.
    pub(crate) fn fullest(&mut self, now: Duration) -> HashMap<Arc<CounterId>, u128> {
        let now = self.advance(now);
        let shared = self.series.iter_mut().map(|(counter, series)| (counter, &mut series.shared));
        let own = self.budgets.iter_mut().map(|budget| (&budget.counter, &mut budget.calls));
        let mut fullest: HashMap<Arc<CounterId>, u128> = HashMap::new();
        for (counter, calls) in shared.chain(own) {
            let used = calls.used(counter.window(), now);
            match fullest.get_mut(counter) {
                Some(most) => *most = used.max(*most),
                None => _ = fullest.insert(Arc::clone(counter), used),
            }
        }
        fullest
    }

    /// The clock never goes back: a time before the latest one counts as that.
    fn advance(&mut self, now: Duration) -> Nanos {
        let now = Nanos::try_from(now.as_nanos()).unwrap_or(Nanos::MAX);
        self.latest = self.latest.max(now);
        self.latest
    }

    fn series(&mut self, counter: &Arc<CounterId>, now: Nanos) -> &mut Series {
        // Counters of policies that are gone are looked for when there are twice as many as before.
        if self.series.len().is_power_of_two() && !self.series.contains_key(counter) {
            self.series.retain(|counter, series| series.apart > 0 || series.shared.used(counter.window(), now) > 0);
        }
        self.series.entry(Arc::clone(counter)).or_default()
    }

    /// Forgets budgets: a few, and all that can be forgotten if those were not enough. That takes some hundred microseconds where
    /// there are many, so it happens at most once a second.
    fn sweep(&mut self, now: Nanos, not_enough: impl Fn(&Self) -> bool) {
        self.forget(false, now);
        if now - self.swept >= NANOS_PER_SECOND && not_enough(self) {
            self.swept = now;
            self.forget(true, now);
        }
    }

    fn forget(&mut self, all: bool, now: Nanos) {
        let series = &mut self.series;
        self.budgets.sweep(all, now, |counter| {
            if let Some(series) = series.get_mut(counter) {
                series.apart -= 1;
            }
        });
    }
}

#[cfg(test)]
mod tests;
