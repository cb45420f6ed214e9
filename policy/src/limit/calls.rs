//! The calls of one budget: what of them is still in the window, and when there is room for one more.

use std::collections::VecDeque;

use super::{Nanos, ONE_CALL};

/// When a window has too many entries, calls within 1 % of it become one, so that at most 101 remain.
const PARTS: Nanos = 100;

/// The calls of one budget that are still in the window. Time never goes back between two uses: see `Counters::advance`.
///
/// An entry is one or more calls that expire together, when the last of them leaves the window. Calls of one instant share one
/// entry, or have one each of the same amount; so a call lies in the first entry that is not older than it.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The time of the last call of each entry, oldest first.
    times: VecDeque<Nanos>,
    /// None while each entry is one call that counts 1: then a call takes no more than its time.
    amounts: Option<Box<Amounts>>,
}

#[derive(Debug, Default)]
struct Amounts {
    each: VecDeque<u128>,
    total: u128,
}

/// Entries that room is made for at once, at the least.
const STEP: usize = 4;

/// Makes room for one more, and for a quarter of them: half of the memory would be idle if it doubled.
fn make_room<T>(entries: &mut VecDeque<T>) {
    if entries.len() == entries.capacity() {
        entries.reserve_exact((entries.len() / 4).max(STEP));
    }
}

impl Calls {
    /// The sum of what is in the window.
    pub fn used(&mut self, window: Nanos, now: Nanos) -> u128 {
        self.expire(window, now);
        match &self.amounts {
            None => self.times.len() as u128 * ONE_CALL,
            Some(amounts) => amounts.total,
        }
    }

    /// Whether the amount fits; else how long until it does, none if it never will.
    pub fn room(&mut self, amount: u128, max: u128, window: Nanos, now: Nanos) -> Result<(), Option<Nanos>> {
        if amount == 0 {
            return Ok(());
        }
        let spare = max.checked_sub(amount).ok_or(None)?;
        let used = self.used(window, now);
        if used <= spare {
            return Ok(());
        }
        Err(self.last_of_oldest(used - spare).map(|last| window - (now - last)))
    }

    /// The time of the last of the oldest entries that make up an amount.
    fn last_of_oldest(&self, amount: u128) -> Option<Nanos> {
        let entry = match &self.amounts {
            None => usize::try_from(amount.div_ceil(ONE_CALL)).ok()?.checked_sub(1)?,
            Some(amounts) => {
                let mut rest = amount;
                amounts.each.iter().position(|each| {
                    let enough = *each >= rest;
                    rest = rest.saturating_sub(*each);
                    enough
                })?
            }
        };
        self.times.get(entry).copied()
    }

    /// Adds a call, for which there is [`Calls::room`]. Holds at most `most` entries.
    pub fn push(&mut self, amount: u128, window: Nanos, now: Nanos, most: usize) {
        if self.times.is_empty() {
            // Else memory for many calls of long ago would stay, and that for amounts where there are none now.
            *self = Self::default();
        }
        if amount != ONE_CALL && self.amounts.is_none() {
            self.join(1);
        }
        if let Some(amounts) = &mut self.amounts {
            amounts.total += amount;
            if let Some(latest) = amounts.each.back_mut().filter(|_| self.times.back() == Some(&now)) {
                *latest += amount;
                return;
            }
            make_room(&mut amounts.each);
            amounts.each.push_back(amount);
        }
        make_room(&mut self.times);
        self.times.push_back(now);
        if self.times.len() > most {
            let mut part = window / PARTS;
            // Down to half of them, or the next call would have to join them again.
            while self.times.len() > most / 2 {
                self.join(part);
                part *= 2;
            }
        }
    }

    /// Takes out a call of this time that is still in the window.
    pub fn remove(&mut self, amount: u128, at: Nanos) {
        let entry = self.times.partition_point(|last| *last < at);
        if let Some(amounts) = &mut self.amounts {
            let Some(each) = amounts.each.get_mut(entry) else { return };
            // It holds the amount, or the reservation is not of these counters.
            let Some(rest) = each.checked_sub(amount) else { return };
            amounts.total -= amount;
            *each = rest;
            if rest > 0 {
                return;
            }
            amounts.each.remove(entry);
        }
        self.times.remove(entry);
    }

    /// All of it as one entry.
    pub fn joined(&mut self, window: Nanos, now: Nanos) -> Self {
        let total = self.used(window, now);
        match self.times.back() {
            None => Self::default(),
            Some(last) => Self { times: [*last].into(), amounts: Some(Box::new(Amounts { each: [total].into(), total })) },
        }
    }

    /// What it takes on the heap, in words of 8 bytes.
    pub fn words(&self) -> usize {
        self.times.capacity() + self.amounts.as_ref().map_or(0, |amounts| 4 + 2 * amounts.each.capacity())
    }

    /// Gives back memory that fewer calls do not need.
    pub fn shrink(&mut self) {
        let enough = 2 * self.times.len() + STEP;
        self.times.shrink_to(enough);
        if let Some(amounts) = &mut self.amounts {
            amounts.each.shrink_to(enough);
        }
    }

    fn expire(&mut self, window: Nanos, now: Nanos) {
        while self.times.front().is_some_and(|last| now - last >= window) {
            self.times.pop_front();
            if let Some(amounts) = &mut self.amounts {
                amounts.total -= amounts.each.pop_front().unwrap_or_default();
            }
        }
    }

    /// Makes one entry of those that lie in the same part of time.
    fn join(&mut self, part: Nanos) {
        let mut times: VecDeque<Nanos> = VecDeque::new();
        let mut joined = Amounts::default();
        for (entry, time) in self.times.iter().enumerate() {
            let amount = self.amounts.as_ref().map_or(Some(ONE_CALL), |amounts| amounts.each.get(entry).copied()).unwrap_or_default();
            joined.total += amount;
            match (times.back_mut(), joined.each.back_mut()) {
                (Some(last), Some(each)) if *last / part == time / part => {
                    *last = *time;
                    *each += amount;
                }
                _ => {
                    times.push_back(*time);
                    joined.each.push_back(amount);
                }
            }
        }
        self.times = times;
        self.amounts = Some(Box::new(joined));
    }
}
