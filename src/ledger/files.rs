//! A directory with a JSON or YAML file for each job, for everybody else's programs; where in it things are, the `Ledger`
//! object says.

use super::ask::Task;
use super::entry::{Named, Scalar, doubted, is_asked, named, note, our_line};
use super::folder::{Folder, Rules};
use super::trust::Place;
use crate::manifest;
use crate::model::{Claim, Fields, JobLife, LedgerBook, Pid, is_too_much};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What is known of each file.
pub(super) type Jobs = Folder<Job>;

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    id: String,
    life: JobLife,
    claim: Option<Claim>,
    /// What of its processes could not be understood.
    nonsense: Option<String>,
}

pub(super) fn read(task: &Task<'_>, place: &Place, jobs: &mut Jobs) -> Result<LedgerBook, String> {
    let rules = Rules { trust: place.trust, deadline: task.deadline };
    let ours = our_line();
    let parse = |name: &str, bytes: &[u8]| job_of(name, bytes, &task.source.fields, &ours);
    jobs.look(&place.path, &rules, |name| !name.starts_with('.') && parts(name).is_some(), parse)?;
    let mut book = LedgerBook::default();
    let mut lives = LedgerBook::default();
    for (name, entry) in jobs.entries() {
        match entry {
            Ok(job) => {
                note(&mut lives, &job.id, job.life.clone());
                let is_ended = matches!(job.life, JobLife::Terminal(_));
                // A job that has ended claims nothing that matters.
                book.unreadable.extend(job.nonsense.iter().filter(|_| !is_ended).map(|what| format!("{name}: {what}")));
                book.claims.extend(job.claim.iter().filter(|claim| is_asked(claim, task.question)).cloned());
            }
            Err(why) => book.unreadable.push(format!("{name}: {why}")),
        }
    }
    let claimed = book.claims.iter().map(|claim| claim.job.clone());
    let asked: BTreeSet<String> = claimed.chain(task.question.jobs.iter().cloned()).collect();
    book.jobs = lives.jobs.into_iter().filter(|(job, _)| asked.contains(job)).collect();
    Ok(book)
}

/// The name of a job's file without its extension, and whether it is YAML.
fn parts(name: &str) -> Option<(&str, bool)> {
    let (stem, extension) = name.rsplit_once('.')?;
    match extension {
        "json" => Some((stem, false)),
        "yaml" | "yml" => Some((stem, true)),
        _ => None,
    }
}

fn value_of(is_yaml: bool, bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if !is_yaml {
        if is_too_much(bytes) {
            return Err("it holds too many values".into());
        }
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    if text.len() > manifest::LONGEST {
        return Err(format!("it is larger than {} bytes", manifest::LONGEST));
    }
    // Half a YAML file is a YAML file; and half a number is a number.
    if !text.ends_with('\n') {
        return Err("it does not end with a line break, so it may be half-written".into());
    }
    manifest::plain(text)
}

fn job_of(name: &str, bytes: &[u8], fields: &Fields, ours: &BTreeSet<Pid>) -> Result<Job, String> {
    let (stem, is_yaml) = parts(name).ok_or("it is no file of a job")?;
    let value = value_of(is_yaml, bytes)?;
    if !value.is_object() {
        return Err("it is no mapping".into());
    }
    let at = |path: &str| scalar(&value, path);
    let id = match at(&fields.id) {
        Scalar::Nothing => stem.to_owned(),
        id => word(&id).ok_or_else(|| format!("`{}` is neither a text nor a number", fields.id))?,
    };
    let mut life = match word(&at(&fields.state)) {
        Some(state) if fields.terminal.iter().any(|end| end.eq_ignore_ascii_case(&state)) => JobLife::Terminal(state),
        Some(state) => JobLife::Active(state),
        None => JobLife::Unknown(format!("`{}` is no word", fields.state)),
    };
    let session = word(&at(&fields.session));
    let (claim, nonsense) = match named(&at(&fields.pid), &at(&fields.pgid), session.as_deref(), ours) {
        Named::Nobody => (None, None),
        Named::Nonsense(what) => (None, Some(what)),
        Named::Claim(claim) => {
            let mut time = |key: &str| match at(key).time() {
                Ok(time) => time,
                Err(error) => {
                    life = doubted(life.clone(), &format!("`{key}`: {error}"));
                    None
                }
            };
            let (started_at, until) = (time(&fields.start_time), time(&fields.end_time));
            let command = at(&fields.command).text().map(str::to_owned);
            (Some(Claim { job: id.clone(), started_at, until, command, ..claim }), None)
        }
    };
    Ok(Job { id, life, claim, nonsense })
}

/// What is at a name; a name with dots goes inside, unless there is a key just like it.
fn scalar<'v>(value: &'v Value, path: &str) -> Scalar<'v> {
    let found = match value.get(path) {
        Some(found) => Some(found),
        None => path.split('.').try_fold(value, |value, key| value.get(key)),
    };
    match found {
        None | Some(Value::Null) => Scalar::Nothing,
        Some(Value::Bool(value)) => Scalar::Bool(*value),
        Some(Value::Number(number)) => number.as_f64().map_or(Scalar::Other, Scalar::Number),
        Some(Value::String(text)) => Scalar::Text(Cow::Borrowed(text)),
        Some(Value::Array(_) | Value::Object(_)) => Scalar::Other,
    }
}

/// A word, a number, or a boolean, as a word.
fn word(value: &Scalar<'_>) -> Option<String> {
    match value {
        Scalar::Nothing | Scalar::Other => None,
        Scalar::Bool(value) => Some(value.to_string()),
        Scalar::Number(number) => Some(number.to_string()),
        Scalar::Text(_) => value.text().map(str::to_owned),
    }
}
