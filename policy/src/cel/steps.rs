//! What an evaluation may cost.

use super::fault::Fault;

/// The steps of one evaluation.
const MAX_STEPS: usize = 10_000;
/// Bytes of text that are compared, searched, counted or copied in one step: about as much work as any other step.
const TEXT_BYTES: usize = 1_024;
/// Bytes of text that a regular expression reads in one step. The slowest patterns that are accepted take some 50 ns a byte, up to a
/// hundred times as long as a plain search.
const PATTERN_BYTES: usize = 64;

/// The steps that an evaluation has left.
#[derive(Debug)]
pub(super) struct Steps {
    left: usize,
}

impl Steps {
    pub fn new() -> Self {
        Self { left: MAX_STEPS }
    }

    /// Takes some steps, before the work that they pay for is done.
    pub fn spend<'v>(&mut self, steps: usize) -> Result<(), Fault<'v>> {
        self.left = self.left.checked_sub(steps).ok_or(Fault::OutOfSteps)?;
        Ok(())
    }

    /// Pays for text that is compared, searched, counted or copied.
    pub fn text<'v>(&mut self, bytes: usize) -> Result<(), Fault<'v>> {
        self.spend(bytes / TEXT_BYTES)
    }

    /// Pays for text that a regular expression reads.
    pub fn pattern<'v>(&mut self, bytes: usize) -> Result<(), Fault<'v>> {
        self.spend(bytes / PATTERN_BYTES)
    }
}
