//! Ledgers: the job stores that other programs keep, read as desired state.
//!
//! It promises three things. A writer is never disturbed: no lock that it could wait for, no file made or changed, no
//! checkpoint. *Unknown is not missing*: what is locked, half-written, newer than known, damaged, gone, refused, or too slow
//! is [`Reading::Unknown`] in words, and a book is `Known` only when it is complete. And no reading waits for ever: it has a
//! thread of its own, which is given up on after some seconds, at most one for each ledger.
//!
//! What an answer relies on was read for this answer, or can not have changed since it was read; what else is kept between
//! looks only says where to look. It imports `model`, `manifest`, and `os`.

mod acpx;
mod ask;
mod entry;
mod files;
mod folder;
mod stepwise;
#[cfg(test)]
mod tests;
mod trust;

use crate::model::{Fields, LedgerRead, LedgerSpec, LedgerType, Question, Reading, Time};
use ask::Desk;
use nix::unistd::User;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was read of a ledger that nobody has asked about for so long is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// One ledger: where it is, and how it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// How a person calls it: the name of the `Ledger` object, or its path.
    pub name: String,
    /// How it is kept.
    pub r#type: LedgerType,
    /// The file or directory, absolute.
    pub path: PathBuf,
    /// Of `files`: where in a job's file things are.
    pub fields: Fields,
    /// Whose file it may be beside our own, by the administrator's word.
    pub user: Option<u32>,
}

/// Why the spec of a `Ledger` makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It does not say how the ledger is kept.
    #[error("a ledger needs `type`: `stepwise`, `acpx`, or `files`")]
    NoType,
    /// The path is empty, or depends on where somebody stands.
    #[error("`path: {0}` is not absolute; write where the ledger is from `/` on")]
    Path(String),
    /// There is no such user.
    #[error("`user: {0}` names no user of this host")]
    User(String),
    /// The users of this host could not be asked for.
    #[error("could not look up `user: {name}`: {source}")]
    Users {
        /// Whom.
        name: String,
        /// Why.
        source: nix::errno::Errno,
    },
    /// A field without a name.
    #[error("`fields.{0}` is empty; leave it out for the usual name")]
    Field(&'static str),
    /// No state would ever end a job.
    #[error("`fields.terminal` is empty, so no job would ever end; list the words of your states that are final")]
    NoTerminal,
}

impl Source {
    /// What a `Ledger` object of this name describes.
    ///
    /// # Errors
    /// The spec makes no sense.
    pub fn of(name: &str, spec: &LedgerSpec) -> Result<Source, SourceError> {
        let r#type = spec.r#type.ok_or(SourceError::NoType)?;
        let path = PathBuf::from(&spec.path);
        if !path.is_absolute() {
            return Err(SourceError::Path(spec.path.clone()));
        }
        let fields = &spec.fields;
        for (key, value) in [
            ("id", &fields.id),
            ("state", &fields.state),
            ("pid", &fields.pid),
            ("pgid", &fields.pgid),
            ("session", &fields.session),
            ("startTime", &fields.start_time),
            ("endTime", &fields.end_time),
            ("command", &fields.command),
        ] {
            if value.is_empty() {
                return Err(SourceError::Field(key));
            }
        }
        if fields.terminal.is_empty() {
            return Err(SourceError::NoTerminal);
        }
        let user = spec.user.as_deref().map(user_of).transpose()?;
        Ok(Source { name: name.to_owned(), r#type, path, fields: fields.clone(), user })
    }
}

fn user_of(name: &str) -> Result<u32, SourceError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(SourceError::User(name.to_owned())),
        Err(source) => Err(SourceError::Users { name: name.to_owned(), source }),
    }
}

/// acpx's ledger below this home directory, if there is one.
pub fn acpx_home(home: &Path) -> Option<Source> {
    let path = home.join(".acpx");
    path.join("sessions").is_dir().then(|| Source {
        name: path.display().to_string(),
        r#type: LedgerType::Acpx,
        path,
        fields: Fields::default(),
        user: None,
    })
}

/// Reads ledgers, and keeps what it learned of where things are in them. Dropping it costs time, and loses nothing.
#[derive(Default)]
pub struct Readers {
    desks: HashMap<Source, Desk>,
}

impl Readers {
    /// Nothing was read yet.
    pub fn new() -> Readers {
        Readers::default()
    }

    /// Whatever a ledger says about what is asked. Waits some seconds at most; what can not be read by then is `Unknown`.
    pub fn read(&mut self, source: &Source, question: &Question, now: Time) -> LedgerRead {
        self.desks.retain(|_, desk| desk.is_busy() || now.since(desk.asked_at) < KEPT_FOR);
        let answer = self.desks.entry(source.clone()).or_default().ask(source, question, now);
        LedgerRead {
            name: source.name.clone(),
            r#type: source.r#type,
            path: answer.path.display().to_string(),
            as_of: now,
            aliases: [source.path.display().to_string()].into(),
            user: answer.user,
            book: match answer.book {
                Ok(book) => Reading::Known(book),
                Err(why) => Reading::Unknown(why),
            },
        }
    }
}
