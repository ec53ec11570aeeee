//! How a verb ends: an exit status, and an error in one or two lines.

use std::fmt;
use std::io;

/// The exit status of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was done.
    Done,
    /// It failed.
    Failed,
    /// The command line made no sense, or (for `plan`) there is something to do.
    UsageOrChanges,
    /// There is no such thing.
    NotFound,
    /// It took too long.
    TimedOut,
    /// What a command that was run ended with.
    OfCommand(u8),
}

impl Exit {
    /// The number of it.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::UsageOrChanges => 2,
            Exit::NotFound => 3,
            Exit::TimedOut => 4,
            Exit::OfCommand(status) => status,
        }
    }
}

/// What a verb gives.
pub type Done = Result<Exit, Failure>;

/// Why a verb came to nothing. As text: `failed to {what}: {why}`, and what to do on the next line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// What was tried: fits behind "failed to".
    pub what: Option<String>,
    /// What stood in the way.
    pub why: String,
    /// What to do.
    pub help: Option<String>,
    /// Nobody reads our output any more: not an error, but the end.
    pub is_closed_pipe: bool,
}

impl Failure {
    /// A failure with this exit status.
    pub fn new(exit: Exit, why: impl Into<String>) -> Failure {
        Failure { exit, what: None, why: why.into(), help: None, is_closed_pipe: false }
    }

    /// It failed.
    pub fn failed(why: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, why)
    }

    /// The command line made no sense.
    pub fn usage(why: impl Into<String>) -> Failure {
        Failure::new(Exit::UsageOrChanges, why)
    }

    /// There is no such thing.
    pub fn not_found(why: impl Into<String>) -> Failure {
        Failure::new(Exit::NotFound, why)
    }

    /// The same with what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(what) = &self.what {
            write!(f, "failed to {what}: ")?;
        }
        f.write_str(&self.why)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n{help}"))
    }
}

impl std::error::Error for Failure {}

/// Writing the output failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let is_closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        let what = Some("write the output".to_owned());
        Failure { what, is_closed_pipe, ..Failure::failed(error.to_string()) }
    }
}

/// Says what was tried.
pub trait Context<T> {
    /// `what` fits behind "failed to". The innermost one stands.
    fn to(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Context<T> for Result<T, Failure> {
    fn to(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|mut failure| {
            failure.what.get_or_insert_with(what);
            failure
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_tried_why_not_and_what_to_do() {
        let failure = Failure::not_found("there is no Flow triage").help("`tenure get flows` shows what there is");
        let failure = Err::<(), _>(failure).to(|| "start triage".into()).to(|| "outer".into()).unwrap_err();
        insta::assert_snapshot!(failure, @r"
        failed to start triage: there is no Flow triage
        `tenure get flows` shows what there is
        ");
        assert_eq!(failure.exit.code(), 3);
    }
}
