//! The statements that a look needs, prepared once for each look.

use super::index::Run;
use super::life_of;
use super::run::{Row, State, hash_of};
use crate::model::{JobLife, Pid};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Statement};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The tables of one store, in one transaction.
pub(super) struct Tables<'c> {
    /// SQLite counts it up when the schema changes, and when the rows get other numbers (`VACUUM`).
    pub(super) schema: i64,
    /// Whether the runs of a job are found without reading all runs.
    pub(super) finds_runs: bool,
    rows_after: RefCell<Statement<'c>>,
    id_at: RefCell<Statement<'c>>,
    row_at: RefCell<Statement<'c>>,
    runs_of: RefCell<Statement<'c>>,
    jobs_after: RefCell<Statement<'c>>,
    job_at: RefCell<Statement<'c>>,
    job_of: RefCell<Statement<'c>>,
    /// A store may have none.
    events: Option<Events<'c>>,
}

struct Events<'c> {
    after: RefCell<Statement<'c>>,
    id_at: RefCell<Statement<'c>>,
}

/// Rows that follow each other.
pub(super) struct Batch<T> {
    pub(super) rows: usize,
    /// The last of them, and its id, hashed.
    pub(super) last: Option<(i64, u64)>,
    /// Those among them that matter.
    pub(super) found: Vec<T>,
}

/// A job, as it was just read.
pub(super) struct Job {
    pub(super) rowid: i64,
    /// Its id, hashed.
    pub(super) name: u64,
    /// None: it is no text, so no run can name it.
    pub(super) id: Option<String>,
    /// Whether it goes on, or may go on.
    pub(super) is_active: bool,
}

impl Job {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Job> {
        let id = row.get_ref(1)?;
        let is_active = !matches!(life_of(row.get_ref(2)?), JobLife::Terminal(_));
        Ok(Job { rowid: row.get(0)?, name: hash_of(id), id: id.as_str().ok().map(str::to_owned), is_active })
    }
}

impl<'c> Tables<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Tables<'c>> {
        let prepare = |sql| connection.prepare(sql).map(RefCell::new);
        let finds_runs = "SELECT EXISTS (SELECT 1 FROM pragma_index_list('step_runs') AS list, \
             pragma_index_info(list.name) AS part \
             WHERE part.seqno = 0 AND part.name = 'job_id' AND list.partial = 0)";
        Ok(Tables {
            schema: connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?,
            finds_runs: connection.query_row(finds_runs, [], |row| row.get(0))?,
            rows_after: prepare(
                "SELECT rowid, id, completed_at IS NULL, executor_state FROM step_runs \
                 WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3",
            )?,
            id_at: prepare("SELECT id FROM step_runs WHERE rowid = ?1")?,
            row_at: prepare(
                "SELECT id, job_id, executor_state, started_at, completed_at FROM step_runs WHERE rowid = ?1",
            )?,
            runs_of: prepare(
                "SELECT rowid, id, completed_at IS NULL, executor_state FROM step_runs WHERE job_id = ?1",
            )?,
            jobs_after: prepare(
                "SELECT rowid, id, status FROM jobs WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3",
            )?,
            job_at: prepare("SELECT rowid, id, status FROM jobs WHERE rowid = ?1")?,
            job_of: prepare("SELECT rowid, id, status FROM jobs WHERE id = ?1")?,
            events: Events::of(connection),
        })
    }

    /// One row, with all that an answer says of it.
    pub(super) fn row(&self, rowid: i64, ours: &BTreeSet<Pid>) -> rusqlite::Result<Option<Row>> {
        self.row_at.borrow_mut().query_row([rowid], |row| Row::of(row, ours)).optional()
    }

    /// The id of a run, hashed.
    pub(super) fn run_name(&self, rowid: i64) -> rusqlite::Result<Option<u64>> {
        name_by(&self.id_at, rowid)
    }

    /// The next runs.
    pub(super) fn runs_after(&self, rowid: i64, until: i64, most: usize) -> rusqlite::Result<Batch<Run>> {
        let mut batch = Batch { rows: 0, last: None, found: Vec::new() };
        let mut statement = self.rows_after.borrow_mut();
        let mut rows = statement.query((rowid, until, most as i64))?;
        while let Some(row) = rows.next()? {
            let (rowid, name, run) = run_of(row)?;
            batch.rows += 1;
            batch.last = Some((rowid, name));
            batch.found.extend(run);
        }
        Ok(batch)
    }

    /// All runs of a job: their rows, and what matters of them.
    pub(super) fn runs_of(&self, job: &str) -> rusqlite::Result<Vec<(i64, Option<Run>)>> {
        let mut statement = self.runs_of.borrow_mut();
        let runs = statement.query_map([job], |row| run_of(row).map(|(rowid, _, run)| (rowid, run)))?;
        runs.collect()
    }

    /// The next jobs.
    pub(super) fn jobs_after(&self, rowid: i64, until: i64, most: usize) -> rusqlite::Result<Batch<Job>> {
        let mut statement = self.jobs_after.borrow_mut();
        let jobs = statement.query_map((rowid, until, most as i64), Job::of)?;
        let found = jobs.collect::<rusqlite::Result<Vec<Job>>>()?;
        Ok(Batch { rows: found.len(), last: found.last().map(|job| (job.rowid, job.name)), found })
    }

    pub(super) fn job_at(&self, rowid: i64) -> rusqlite::Result<Option<Job>> {
        self.job_at.borrow_mut().query_row([rowid], Job::of).optional()
    }

    pub(super) fn job_of(&self, id: &str) -> rusqlite::Result<Option<Job>> {
        self.job_of.borrow_mut().query_row([id], Job::of).optional()
    }

    /// The life of a job. `None`: there is no such job.
    pub(super) fn life(&self, id: &str) -> rusqlite::Result<Option<JobLife>> {
        self.job_of.borrow_mut().query_row([id], |row| Ok(life_of(row.get_ref(2)?))).optional()
    }

    /// The id of an event, hashed.
    pub(super) fn event_name(&self, rowid: i64) -> rusqlite::Result<Option<u64>> {
        self.events.as_ref().map_or(Ok(None), |events| name_by(&events.id_at, rowid))
    }

    /// The jobs that the next events name.
    pub(super) fn events_after(&self, rowid: i64, most: usize) -> rusqlite::Result<Batch<String>> {
        let mut batch = Batch { rows: 0, last: None, found: Vec::new() };
        let Some(events) = &self.events else { return Ok(batch) };
        let mut statement = events.after.borrow_mut();
        let mut rows = statement.query((rowid, most as i64))?;
        while let Some(row) = rows.next()? {
            batch.rows += 1;
            batch.last = Some((row.get(0)?, hash_of(row.get_ref(1)?)));
            let job = row.get_ref(2)?;
            if let (ValueRef::Text(_), Ok(job)) = (job, job.as_str())
                && batch.found.last().is_none_or(|last| last != job)
            {
                batch.found.push(job.to_owned());
            }
        }
        Ok(batch)
    }

    /// The row of the last event.
    pub(super) fn last_event(&self, connection: &Connection) -> rusqlite::Result<Option<i64>> {
        match &self.events {
            Some(_) => connection.query_row("SELECT max(rowid) FROM events", [], |row| row.get(0)),
            None => Ok(None),
        }
    }
}

impl<'c> Events<'c> {
    fn of(connection: &'c Connection) -> Option<Events<'c>> {
        let prepare = |sql| connection.prepare(sql).map(RefCell::new).ok();
        Some(Events {
            after: prepare("SELECT rowid, id, job_id FROM events WHERE rowid > ?1 ORDER BY rowid LIMIT ?2")?,
            id_at: prepare("SELECT id FROM events WHERE rowid = ?1")?,
        })
    }
}

fn name_by(statement: &RefCell<Statement<'_>>, rowid: i64) -> rusqlite::Result<Option<u64>> {
    statement.borrow_mut().query_row([rowid], |row| Ok(hash_of(row.get_ref(0)?))).optional()
}

/// Reads `rowid, id, completed_at IS NULL, executor_state`.
fn run_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, u64, Option<Run>)> {
    let (rowid, name) = (row.get(0)?, hash_of(row.get_ref(1)?));
    let is_open: bool = row.get(2)?;
    let run = match State::of(row.get_ref(3)?) {
        Err(_) => Some(Run::unreadable(rowid, name)),
        Ok(state) => Run::of(rowid, name, is_open, &state),
    };
    Ok((rowid, name, run))
}
