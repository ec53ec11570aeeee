//! One row of `step_runs`.

use crate::ledger::entry::{Named, Scalar, named};
use crate::model::{Claim, Pid};
use rusqlite::types::ValueRef;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What `executor_state` says of processes. It holds much else.
#[derive(Debug, Default, Deserialize)]
pub(super) struct State<'a> {
    #[serde(default, borrow)]
    pub(super) pid: Scalar<'a>,
    #[serde(default, borrow)]
    pub(super) pgid: Scalar<'a>,
    #[serde(default, borrow)]
    pub(super) session_id: Scalar<'a>,
    #[serde(default, borrow)]
    in_vm: Scalar<'a>,
}

impl<'a> State<'a> {
    /// `Err`: it is there, and nothing that a state can be.
    pub(super) fn of(value: ValueRef<'a>) -> Result<State<'a>, String> {
        match value {
            ValueRef::Null => Ok(State::default()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => match bytes.trim_ascii() {
                b"" | b"null" => Ok(State::default()),
                // A struct could be read from a list, too.
                text if text.starts_with(b"{") => serde_json::from_slice(text).map_err(|error| error.to_string()),
                _ => Err("it is no JSON object".into()),
            },
            ValueRef::Integer(_) | ValueRef::Real(_) => Err("it is a number".into()),
        }
    }

    fn is_in_guest(&self) -> bool {
        !matches!(self.in_vm, Scalar::Nothing | Scalar::Bool(false))
    }
}

/// One run, as it was read for an answer.
#[derive(Debug)]
pub(super) struct Row {
    /// Its id, hashed: whether the row is still the same run.
    pub(super) name: u64,
    pub(super) job: Option<String>,
    pub(super) claim: Option<Claim>,
    /// Why it is not certain that the job has ended, if it says so.
    pub(super) doubt: Option<String>,
    /// What of it could not be understood, so that it may be about anything.
    pub(super) nonsense: Option<String>,
}

impl Row {
    /// Reads `id, job_id, executor_state, started_at, completed_at`.
    pub(super) fn of(row: &rusqlite::Row<'_>, ours: &BTreeSet<Pid>) -> rusqlite::Result<Row> {
        let id = row.get_ref(0)?;
        let run = shown(id);
        let job = row.get_ref(1)?.as_str().ok().map(str::to_owned);
        let completed_at = row.get_ref(4)?;
        let mut found = Row { name: hash_of(id), claim: None, doubt: None, nonsense: None, job };
        let state = match State::of(row.get_ref(2)?) {
            Ok(state) => state,
            Err(error) => {
                found.nonsense = Some(format!("step run {run}: executor_state: {error}"));
                return Ok(found);
            }
        };
        let mut claim = match named(&state.pid, &state.pgid, state.session_id.text(), ours) {
            Named::Nobody => return Ok(found),
            Named::Nonsense(what) => {
                found.nonsense = Some(format!("step run {run}: {what}"));
                return Ok(found);
            }
            Named::Claim(claim) => claim,
        };
        claim.in_guest = state.is_in_guest();
        let mut time = |column: &str, value: ValueRef<'_>| match scalar(value).time() {
            Ok(time) => time,
            Err(error) => {
                found.doubt = Some(format!("step run {run}: {column}: {error}"));
                None
            }
        };
        claim.started_at = time("started_at", row.get_ref(3)?);
        claim.until = time("completed_at", completed_at);
        match &found.job {
            Some(job) => {
                claim.job.clone_from(job);
                found.claim = Some(claim);
            }
            None => found.nonsense = Some(format!("step run {run}: it names no job")),
        }
        Ok(found)
    }
}

fn scalar(value: ValueRef<'_>) -> Scalar<'_> {
    match value {
        ValueRef::Null => Scalar::Nothing,
        ValueRef::Integer(number) => Scalar::Number(number as f64),
        ValueRef::Real(number) => Scalar::Number(number),
        ValueRef::Text(text) => Scalar::Text(String::from_utf8_lossy(text)),
        ValueRef::Blob(_) => Scalar::Other,
    }
}

fn shown(id: ValueRef<'_>) -> String {
    match id {
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => "without an id".into(),
    }
}

/// The same for the same value, as long as this process lives. Never 0.
pub(super) fn hash_of(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => hash_bytes(bytes),
        ValueRef::Integer(number) => hash_bytes(&number.to_ne_bytes()),
        ValueRef::Null | ValueRef::Real(_) => 1,
    }
}

/// The same of a text.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish().max(1)
}
