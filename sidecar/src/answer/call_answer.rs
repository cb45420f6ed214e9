//! How a call that was forwarded ended.

use http::StatusCode;

use crate::answer::answer_fault::AnswerFault;
use crate::books::Record;

/// The answer to a call that was forwarded. Dropped, it is written down; unless something else is known, the call counts as one that
/// ran.
#[derive(Debug)]
pub struct CallAnswer {
    record: Record,
    /// None on stdio.
    status: Option<StatusCode>,
}

impl CallAnswer {
    /// The head of the answer has come. A 4xx says that the tool did not run.
    #[must_use]
    pub fn new(mut record: Record, status: StatusCode) -> Self {
        record.answered(status);
        if status.is_client_error() {
            record.refund();
        }
        Self { record, status: Some(status) }
    }

    /// A call on stdio, where an answer has no head.
    #[must_use]
    pub fn without_status(record: Record) -> Self {
        Self { record, status: None }
    }

    /// The tool certainly did not run.
    pub fn did_not_run(&mut self) {
        self.record.refund();
    }

    /// The answer does not reach the caller, or not as a whole.
    pub fn failed(&mut self, fault: AnswerFault) {
        self.record.answer_failed(self.status, fault);
    }
}
