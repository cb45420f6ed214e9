//! Entries of `denyIf` and `approveIf`: true if one is true, else undecided if one is. An entry is true if all its conditions are.

use super::{Asked, told};
use crate::compiled::{CompiledEntry, CompiledRule};
use crate::condition::Elements;
use crate::decision::{Code, Refusal};
use crate::trace::{Step, Trace, Verdict};
use crate::truth::Truth;

impl Asked<'_, '_> {
    /// The first entry that holds, with its index; or the refusal by the first condition that cannot be decided. `pointer` leads to
    /// the list, and an entry that holds is told as `holds`.
    pub(super) fn entries<'e, T: Trace>(
        &self,
        entries: &'e [CompiledEntry],
        pointer: &str,
        rule: &CompiledRule,
        holds: Verdict,
        trace: &mut T,
    ) -> Result<Option<(usize, &'e CompiledEntry)>, Box<Refusal>> {
        if entries.is_empty() {
            return Ok(None);
        }
        let args = self.args(trace)?;
        let facts = self.facts(args);
        let (mut first, mut undecided) = (None, None);
        for (i, entry) in entries.iter().enumerate() {
            let mut is_true = true;
            let mut unclear = None;
            for (j, condition) in entry.conditions.iter().enumerate() {
                match condition.holds(&facts, Elements::Any) {
                    Truth::True => {}
                    Truth::False => is_true = false,
                    Truth::Undecided(_) => {
                        unclear.get_or_insert(j);
                    }
                }
                if !is_true {
                    break;
                }
            }
            trace.step(|| {
                let verdict = match (is_true, unclear) {
                    (false, _) => Verdict::Passes,
                    (true, None) => holds,
                    (true, Some(_)) => Verdict::Undecided,
                };
                let accounts: Vec<_> = entry
                    .conditions
                    .iter()
                    .map(|condition| told(condition.account(&facts), &condition.holds(&facts, Elements::Any)))
                    .collect();
                let account = if accounts.is_empty() { "an empty list always holds".to_owned() } else { accounts.join(" and ") };
                Step::of(self.policy, format!("{pointer}/{i}"), verdict, account)
            });
            match (is_true, unclear) {
                (true, None) => {
                    first.get_or_insert((i, entry));
                    if !T::GOES_ON {
                        break;
                    }
                }
                (true, Some(j)) => {
                    undecided.get_or_insert((i, j, entry));
                }
                (false, _) => {}
            }
        }
        match (first, undecided) {
            (None, Some((i, j, entry))) => {
                Err(Box::new(self.refusal_by_entry(Code::PolicyError, format!("{pointer}/{i}/conditions/{j}"), entry, rule)))
            }
            (first, _) => Ok(first),
        }
    }

    /// A refusal with the reason of the entry, else of the rule.
    pub(super) fn refusal_by_entry(&self, code: Code, pointer: String, entry: &CompiledEntry, rule: &CompiledRule) -> Refusal {
        let refusal = self.refusal(code, pointer, rule);
        Refusal { reason: entry.reason.clone().or(refusal.reason), ..refusal }
    }
}
