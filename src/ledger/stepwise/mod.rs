//! Stepwise's store: SQLite, `jobs` and `step_runs`. A run's `executor_state` names the process that it was given to;
//! `jobs.status` alone decides whether that process has a reason to live.
//!
//! Terminal is not for ever: resume, retry, rerun, and reset set a job running again. So all that an answer says was read
//! for it, in one transaction; the [`Index`] only says which of a million rows to read. Only a store without a log whose file
//! has not been touched is not read again for the same question.

mod index;
mod jobs;
mod milestones;
mod open;
mod run;
mod tables;

pub(super) use index::Index;

use super::ask::Task;
use super::entry::{doubted, is_asked, note, our_line};
use super::trust::Place;
use crate::model::{Claim, JobLife, LedgerBook, Pid, Question};
use index::Progress;
use open::Trouble;
use run::Row;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use std::collections::{BTreeMap, BTreeSet};
use tables::Tables;

/// The states that Stepwise itself calls final. Any other, also one that we have never heard of, means that the job goes on.
const TERMINAL: [&str; 4] = ["completed", "failed", "cancelled", "archived"];

/// What a store says about what is asked; why, if that can not be known.
pub(super) fn read(task: &Task<'_>, place: &Place, index: &mut Index) -> Result<LedgerBook, String> {
    let ours = our_line();
    open::read(place, task.deadline, |connection, moment| {
        if let Some(book) = index.last(moment, task.question, &ours) {
            return Ok(book);
        }
        refuse_newer(connection)?;
        // Once more if rows are not where they were: a store that was vacuumed, or written anew.
        for _ in 0..2 {
            let tables = Tables::of(connection)?;
            let progress = index.catch_up(connection, &tables, moment, task.now, task.deadline)?;
            if let Progress::Until(runs) = progress {
                let what = format!("{runs} step runs were read in time; the next look goes on from there");
                return Err(Trouble::Slow(what));
            }
            if let Some(book) = answer(&tables, task.question, &ours, index)? {
                index.keep(moment, task.question, ours.clone(), &book);
                return Ok(book);
            }
            index.forget();
        }
        Err(Trouble::Unsteady)
    })
}

/// A store of another schema is not understood, and what is not understood says nothing.
fn refuse_newer(connection: &Connection) -> Result<(), Trouble> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != 0 {
        return Err(Trouble::Newer(format!("its user_version is {version}")));
    }
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('jobs', 'step_runs')";
    let tables: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if tables != 2 {
        return Err(Trouble::Newer("it has no tables `jobs` and `step_runs`".into()));
    }
    Ok(())
}

/// What the rows say that may be about what is asked.
#[derive(Default)]
struct Found {
    /// Each with why it is not certain that its job has ended, if its run says so.
    claims: Vec<(Claim, Option<String>)>,
    /// What could not be understood, with the job that it is of.
    nonsense: Vec<(Option<String>, String)>,
}

/// `None`: a row is not where the index says, so the index is worth nothing.
fn found(
    tables: &Tables<'_>,
    question: &Question,
    ours: &BTreeSet<Pid>,
    index: &mut Index,
) -> Result<Option<Found>, Trouble> {
    let mut found = Found::default();
    for rowid in index.to_read(question) {
        let row = match tables.row(rowid, ours)? {
            Some(row) if index.holds(rowid, &row) => row,
            Some(_) => return Ok(None),
            None => {
                index.remove(rowid);
                continue;
            }
        };
        let Row { claim, job, doubt, nonsense, .. } = row;
        found.nonsense.extend(nonsense.map(|what| (job, what)));
        found.claims.extend(claim.filter(|claim| is_asked(claim, question)).map(|claim| (claim, doubt)));
    }
    Ok(Some(found))
}

/// `None`, as above.
fn answer(
    tables: &Tables<'_>,
    question: &Question,
    ours: &BTreeSet<Pid>,
    index: &mut Index,
) -> Result<Option<LedgerBook>, Trouble> {
    let Some(found) = found(tables, question, ours, index)? else { return Ok(None) };
    // In the order of their ids, so that neighbours are read from the same page.
    let mut lives: BTreeMap<&str, Option<JobLife>> = question.jobs.iter().map(|job| (job.as_str(), None)).collect();
    lives.extend(found.claims.iter().map(|(claim, _)| (claim.job.as_str(), None)));
    lives.extend(found.nonsense.iter().filter_map(|(job, _)| Some((job.as_deref()?, None))));
    for (job, life) in &mut lives {
        *life = tables.life(job)?;
    }
    let life = |job: &str| lives.get(job).cloned().flatten();
    let mut book = LedgerBook::default();
    for job in &question.jobs {
        if let Some(life) = life(job) {
            note(&mut book, job, life);
        }
    }
    for (job, what) in &found.nonsense {
        // A job that has ended, or is gone, claims nothing; of one that goes on this may be about any process.
        let ended = job.as_deref().is_some_and(|job| matches!(life(job), None | Some(JobLife::Terminal(_))));
        if !ended {
            book.unreadable.push(what.clone());
        }
    }
    for (claim, doubt) in &found.claims {
        if let Some(life) = life(&claim.job) {
            let life = match doubt {
                Some(doubt) => doubted(life, doubt),
                None => life,
            };
            note(&mut book, &claim.job, life);
        }
    }
    book.claims = found.claims.into_iter().map(|(claim, _)| claim).collect();
    Ok(Some(book))
}

fn life_of(status: ValueRef<'_>) -> JobLife {
    match status.as_str() {
        Ok(word) if TERMINAL.contains(&word) => JobLife::Terminal(word.to_owned()),
        Ok(word) if !word.is_empty() => JobLife::Active(word.to_owned()),
        _ => JobLife::Unknown("its status is no word".into()),
    }
}
