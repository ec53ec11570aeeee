//! Why a line says what it says.

use crate::model::Job;
use std::fmt;
use std::sync::Arc;

/// Why nothing is done, in words that are made only when somebody reads them: of ten thousand lines of a pass, nobody does.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// These words.
    Words(String),
    /// This job needs it.
    Wanted(Arc<Job>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Words(words) => f.write_str(words),
            Reason::Wanted(job) => write!(f, "wanted: {}", needs(job)),
        }
    }
}

impl From<String> for Reason {
    fn from(words: String) -> Reason {
        Reason::Words(words)
    }
}

impl From<&str> for Reason {
    fn from(words: &str) -> Reason {
        Reason::Words(words.to_owned())
    }
}

/// That a job is under way, in words.
pub(super) fn needs(job: &Job) -> String {
    format!("job {} is {}", job.metadata.name, job.status.phase.as_str())
}
