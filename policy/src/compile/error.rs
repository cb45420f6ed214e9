//! Why a document does not compile.

/// Everything that is wrong with a document, in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(.0))]
pub struct CompileErrors(pub Vec<CompileError>);

/// All of them in one line.
pub(crate) fn joined(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// One field that cannot be enforced as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct CompileError {
    /// The field: `tools.start_job.limits[0].window`.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}
