use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for was done.
    Success,
    /// A check found something, or a thing that was asked for is not there.
    No,
    /// It could not be done.
    Failure,
    /// The child's own code.
    Child(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::No => Self::from(1),
            Exit::Failure => Self::from(2),
            Exit::Child(code) => Self::from(code),
        }
    }
}

/// A failure as a person reads it: one line that says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// Puts what was being done before what went wrong.
    pub fn new(doing: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}
