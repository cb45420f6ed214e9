//! Sliding windows and the counters that use them, as state machines over a time that the caller gives.
//!
//! Laws (tests: `policy/tests/properties.rs`): no half-open interval of a window's length ever sees more than `max` calls,
//! whatever the order of calls, refunds and steps of the clock; a call reserves in all its counters or in none; a refund gives
//! back exactly what its reservation took.
//!
//! State is bounded twice. A window holds at most [`EXACT_CALLS`] entries: beyond that, neighbours no further apart than
//! 1 % of the window become one entry that expires when its last call does, so a call may be held a little longer than needed
//! and never passes too early. And all counters together hold at most [`MAX_BUDGETS`] budgets: see [`Series::overflow`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::caller::Caller;
use crate::document::Scope;
use crate::policy_id::PolicyId;

/// While at most this many calls are in a window, the limiter is exact.
const EXACT_CALLS: usize = 1_000;

/// Budgets (one for each caller or session, and counter) that are kept apart. With the usual limits a budget takes some
/// hundred bytes, so this is a few megabytes.
const MAX_BUDGETS: usize = 10_000;

/// Nanoseconds on the caller's monotonic clock.
type Nanos = u64;

const NANOS_PER_SECOND: Nanos = 1_000_000_000;

/// What makes a counter the same one across changes of its policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CounterId {
    pub policy: PolicyId,
    pub name: Arc<str>,
    pub window_seconds: u64,
    pub scope: Scope,
    /// The path of the amounts, as written; none where each call counts 1.
    pub increment_from: Option<Arc<str>>,
}

impl CounterId {
    fn window(&self) -> Nanos {
        self.window_seconds * NANOS_PER_SECOND
    }
}

/// Whose budget of a counter it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Budget {
    /// Everybody's.
    Server,
    /// One caller's.
    Caller(Caller),
    /// One session's.
    Session(Arc<str>),
}

/// One call's demand on one counter.
pub(crate) struct Claim<'a> {
    pub counter: &'a CounterId,
    pub budget: Budget,
    /// In units of 10^-18, as [`Claim::amount`]; one call is 10^18.
    pub max: u128,
    pub amount: u128,
}

/// All counters of one server, by counter and budget. Keep one for as long as the process lives: counters outlive changes of
/// policy.
#[derive(Debug, Default)]
pub struct Counters {
    series: HashMap<CounterId, Series>,
    budgets: usize,
    latest: Nanos,
    swept: Nanos,
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
    counter: CounterId,
    /// None: from what newcomers share.
    budget: Option<Budget>,
    amount: u128,
}

/// A counter that has no room, and the seconds after which it has again; none if it never will.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub retry_after_seconds: Option<u64>,
}

/// One counter's budgets.
#[derive(Debug, Default)]
struct Series {
    budgets: HashMap<Budget, Calls>,
    /// Shared by those who came when [`MAX_BUDGETS`] were in use. While any of their calls is in the window, all newcomers go
    /// here too: so nobody who spent from it gets a fresh budget before that spending has expired, and eviction never grants
    /// more than `max`.
    overflow: Calls,
}

impl Counters {
    /// Whether the claim fits now. Changes nothing that a later call could notice.
    pub(crate) fn check(&mut self, claim: &Claim<'_>, now: Duration) -> Result<(), Full> {
        let now = self.advance(now);
        let window = claim.counter.window();
        let room = match self.calls(claim, now) {
            Some(calls) => calls.room(claim.max, claim.amount, window, now),
            None => Calls::default().room(claim.max, claim.amount, window, now),
        };
        room.map_err(|wait| Full { retry_after_seconds: wait.map(|nanos| nanos.div_ceil(NANOS_PER_SECOND)) })
    }

    /// What the claim's budget has used, in units.
    pub(crate) fn used(&mut self, claim: &Claim<'_>, now: Duration) -> u128 {
        let now = self.advance(now);
        self.calls(claim, now).map_or(0, |calls| calls.used(claim.counter.window(), now))
    }

    /// The calls that the claim would be counted with; none if it would be the first of its budget.
    fn calls(&mut self, claim: &Claim<'_>, now: Nanos) -> Option<&mut Calls> {
        let series = self.series.get_mut(claim.counter)?;
        if series.budgets.contains_key(&claim.budget) {
            return series.budgets.get_mut(&claim.budget);
        }
        let shares = self.budgets >= MAX_BUDGETS || series.overflow.used(claim.counter.window(), now) > 0;
        shares.then_some(&mut series.overflow)
    }

    /// Takes the amount of each claim. They must have been checked at this same time.
    pub(crate) fn take(&mut self, claims: Vec<Claim<'_>>, now: Duration) -> Reservation {
        let now = self.advance(now);
        let mut taken = Vec::with_capacity(claims.len());
        for claim in claims {
            // At most once a second, or whoever fills the budgets could make every call pay for a sweep.
            if self.budgets >= MAX_BUDGETS && now - self.swept >= NANOS_PER_SECOND {
                self.sweep(now);
            }
            let window = claim.counter.window();
            let series = self.series.entry(claim.counter.clone()).or_default();
            let known = series.budgets.contains_key(&claim.budget);
            if known || (self.budgets < MAX_BUDGETS && series.overflow.used(window, now) == 0) {
                self.budgets += usize::from(!known);
                series.budgets.entry(claim.budget.clone()).or_default().push(claim.amount, window, now);
                taken.push(Taken { counter: claim.counter.clone(), budget: Some(claim.budget), amount: claim.amount });
            } else {
                series.overflow.push(claim.amount, window, now);
                taken.push(Taken { counter: claim.counter.clone(), budget: None, amount: claim.amount });
            }
        }
        Reservation { at: now, taken }
    }

    /// Gives back what a call took whose tool certainly did not run: the server could not be reached, or answered with a
    /// JSON-RPC error or an HTTP 4xx.
    pub fn refund(&mut self, reservation: Reservation) {
        for Taken { counter, budget, amount } in reservation.taken {
            let Some(series) = self.series.get_mut(&counter) else { continue };
            let calls = match budget {
                Some(budget) => series.budgets.get_mut(&budget),
                None => Some(&mut series.overflow),
            };
            if let Some(calls) = calls {
                calls.remove(reservation.at, amount);
            }
        }
    }

    /// Calls in the fullest budget of a counter.
    pub(crate) fn fullest(&mut self, counter: &CounterId, now: Duration) -> u128 {
        let now = self.advance(now);
        let window = counter.window();
        let Some(series) = self.series.get_mut(counter) else { return 0 };
        let own = series.budgets.values_mut().map(|calls| calls.used(window, now)).max().unwrap_or(0);
        own.max(series.overflow.used(window, now))
    }

    /// The clock never goes back: a time before the latest one counts as that.
    fn advance(&mut self, now: Duration) -> Nanos {
        let now = Nanos::try_from(now.as_nanos()).unwrap_or(Nanos::MAX);
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Forgets what no decision can depend on any more.
    fn sweep(&mut self, now: Nanos) {
        self.swept = now;
        self.series.retain(|counter, series| {
            let window = counter.window();
            series.budgets.retain(|_, calls| calls.used(window, now) > 0);
            !series.budgets.is_empty() || series.overflow.used(window, now) > 0
        });
        self.budgets = self.series.values().map(|series| series.budgets.len()).sum();
    }
}

/// The calls of one budget that are still in the window, oldest first.
#[derive(Debug, Default)]
struct Calls {
    entries: VecDeque<Entry>,
    total: u128,
}

/// Calls that expire together, when the last of them leaves the window.
#[derive(Debug)]
struct Entry {
    first: Nanos,
    last: Nanos,
    amount: u128,
}

impl Calls {
    fn used(&mut self, window: Nanos, now: Nanos) -> u128 {
        while let Some(oldest) = self.entries.front() {
            if now - oldest.last < window {
                break;
            }
            self.total -= oldest.amount;
            self.entries.pop_front();
        }
        self.total
    }

    /// Whether the amount fits; else how long until it does, none if it never will.
    fn room(&mut self, max: u128, amount: u128, window: Nanos, now: Nanos) -> Result<(), Option<Nanos>> {
        let used = self.used(window, now);
        let wanted = used.saturating_add(amount);
        if wanted <= max || amount == 0 {
            return Ok(());
        }
        if amount > max {
            return Err(None);
        }
        let mut to_expire = wanted - max;
        for entry in &self.entries {
            if entry.amount >= to_expire {
                return Err(Some(entry.last + window - now));
            }
            to_expire -= entry.amount;
        }
        Err(None)
    }

    fn push(&mut self, amount: u128, window: Nanos, now: Nanos) {
        if amount == 0 {
            return;
        }
        self.total += amount;
        self.entries.push_back(Entry { first: now, last: now, amount });
        if self.entries.len() > EXACT_CALLS {
            self.coalesce(window);
        }
    }

    /// Joins neighbours that lie within 1 % of the window. Any two that remain side by side lie further apart than that, so
    /// about 200 remain.
    fn coalesce(&mut self, window: Nanos) {
        let mut joined: VecDeque<Entry> = VecDeque::new();
        for entry in self.entries.drain(..) {
            match joined.back_mut() {
                Some(previous) if entry.last - previous.first <= window / 100 => {
                    previous.last = entry.last;
                    previous.amount += entry.amount;
                }
                _ => joined.push_back(entry),
            }
        }
        self.entries = joined;
    }

    /// Takes out one call of this time, if it has not expired.
    fn remove(&mut self, at: Nanos, amount: u128) {
        let holds = |entry: &Entry| (entry.first..=entry.last).contains(&at) && entry.amount >= amount;
        let Some(index) = self.entries.iter().position(holds) else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        entry.amount -= amount;
        self.total -= amount;
        if entry.amount == 0 {
            self.entries.remove(index);
        }
    }
}

#[cfg(test)]
mod tests;
