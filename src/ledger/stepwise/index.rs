//! Where in a store are the runs that may be asked for: what was learned at earlier looks, compact (32 bytes a run).
//!
//! It is allowed to be out of date, because it only says which rows to read again. What it could miss is a row that *begins*
//! to matter. A store of up to [`SLICE`] runs is therefore read whole at each look. Of a larger one, each look reads the rows
//! that are new, those of runs that had not ended, all those of jobs that go on ([`Jobs`]), and a slice of the old ones. So
//! a claim that is missed is one of a job that has ended or is missing, and such a job keeps no tree: what was missed is a
//! proof, never a reason to live. One case is left, until a round of slices finds it: a job that had ended is set going again,
//! its run that had ended is given another process in place instead of being made anew, and no event tells of it. Stepwise
//! makes a new run for each attempt.

use super::jobs::Jobs;
use super::milestones::Milestones;
use super::open::{Identity, Moment, Stand, Trouble};
use super::run::{Row, State, hash_bytes};
use super::tables::Tables;
use crate::model::{LedgerBook, Pid, Question, Time};
use rusqlite::{Connection, ErrorCode};
use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

/// So many old rows are read again at each look: some milliseconds.
pub(super) const SLICE: usize = 2_000;

/// So many rows are read at once; between two there is a look at the clock.
const BATCH: usize = 5_000;

/// So many marks there are for the pids that are asked for: 4 KiB of them.
const MARKS: usize = 1 << 15;

/// A run that has a process, or may get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    rowid: i64,
    /// Its id, hashed.
    name: u64,
    /// Its session, hashed; 0: none.
    session: u64,
    /// 0: none.
    pid: i32,
    /// 0: none. With [`READ_ALWAYS`] in it: the run has not ended, or could not be understood.
    group: i32,
}

/// The sign of `group`, which no pid has: so that a run stays small. Such a run is read at each look.
const READ_ALWAYS: i32 = i32::MIN;

/// What was learned of a store.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Index {
    identity: Option<Identity>,
    /// As [`Tables::schema`] was.
    schema: i64,
    /// By rowid.
    runs: Vec<Run>,
    milestones: Milestones,
    /// Up to where the old rows were read again.
    slice_at: i64,
    jobs: Jobs,
    /// The last answer of a store without a log.
    last: Option<Last>,
}

/// An answer that is right for as long as the file is what it was: without a log, nothing else says anything.
#[derive(Debug)]
struct Last {
    stand: Stand,
    question: Question,
    ours: BTreeSet<Pid>,
    book: LedgerBook,
}

/// Whether the index knows all rows.
pub(super) enum Progress {
    Complete,
    /// So many were read, and then it was too late.
    Until(usize),
}

impl Run {
    /// What matters of a run, if anything does.
    pub(super) fn of(rowid: i64, name: u64, is_open: bool, state: &State<'_>) -> Option<Run> {
        let number = |pid: Option<Pid>| pid.map_or(0, Pid::get);
        let (pid, group) = (number(state.pid.pid()), number(state.pgid.pid()));
        let session = state.session_id.text().map_or(0, |text| hash_bytes(text.as_bytes()));
        // It names something, and nothing that can be: of which only the job says whether that matters.
        let is_odd = pid == 0 && session == 0 && !(state.pid.is_nothing() && (group != 0 || state.pgid.is_nothing()));
        let group = if is_open || is_odd { group | READ_ALWAYS } else { group };
        (pid != 0 || group != 0 || session != 0).then_some(Run { rowid, name, session, pid, group })
    }

    /// One that could not be understood.
    pub(super) fn unreadable(rowid: i64, name: u64) -> Run {
        Run { rowid, name, session: 0, pid: 0, group: READ_ALWAYS }
    }

    fn is_always_read(&self) -> bool {
        self.group & READ_ALWAYS != 0
    }
}

impl Index {
    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Index::default();
    }

    /// The answer to the same question, if nothing can have changed since.
    pub(super) fn last(&self, moment: &Moment, question: &Question, ours: &BTreeSet<Pid>) -> Option<LedgerBook> {
        let last = self.last.as_ref()?;
        let is_same = moment.still.as_ref() == Some(&last.stand) && *question == last.question && *ours == last.ours;
        is_same.then(|| last.book.clone())
    }

    /// Keeps an answer, if it can be right again.
    pub(super) fn keep(&mut self, moment: &Moment, question: &Question, ours: BTreeSet<Pid>, book: &LedgerBook) {
        self.last =
            moment.still.clone().map(|stand| Last { stand, question: question.clone(), ours, book: book.clone() });
    }

    /// Learns what is new. What was read when it gets too late is kept.
    pub(super) fn catch_up(
        &mut self,
        connection: &Connection,
        tables: &Tables<'_>,
        moment: &Moment,
        now: Time,
        deadline: Instant,
    ) -> Result<Progress, Trouble> {
        if self.identity != Some(moment.identity) || self.schema != tables.schema {
            *self = Index { identity: Some(moment.identity), schema: tables.schema, ..Index::default() };
        }
        match self.learn(connection, tables, now, deadline) {
            Err(Trouble::Sqlite(error)) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Ok(self.until())
            }
            other => other,
        }
    }

    fn learn(
        &mut self,
        connection: &Connection,
        tables: &Tables<'_>,
        now: Time,
        deadline: Instant,
    ) -> Result<Progress, Trouble> {
        if self.milestones.go_back(|rowid| tables.run_name(rowid))? {
            let last = self.milestones.last();
            self.runs.truncate(self.runs.partition_point(|run| run.rowid <= last));
        }
        let known = self.milestones.last();
        if let Progress::Until(runs) = self.go_on(tables, deadline)? {
            return Ok(Progress::Until(runs));
        }
        if self.again(tables, known)? {
            return Ok(Progress::Complete);
        }
        if !tables.finds_runs {
            return Err(Trouble::Newer("`step_runs` has no index that begins with `job_id`".into()));
        }
        let Some(active) = self.jobs.active(connection, tables, now, deadline)? else { return Ok(self.until()) };
        for job in &active {
            for (rowid, run) in tables.runs_of(job)? {
                self.put(rowid, run);
            }
        }
        Ok(Progress::Complete)
    }

    fn until(&self) -> Progress {
        Progress::Until(self.runs.len())
    }

    /// Reads what is behind the last row that was read.
    fn go_on(&mut self, tables: &Tables<'_>, deadline: Instant) -> rusqlite::Result<Progress> {
        loop {
            let batch = tables.runs_after(self.milestones.last(), i64::MAX, BATCH)?;
            let is_last = batch.rows < BATCH;
            self.runs.extend(batch.found);
            if let Some(last) = batch.last {
                self.milestones.reached(last);
            }
            if is_last {
                return Ok(Progress::Complete);
            }
            if Instant::now() > deadline {
                return Ok(self.until());
            }
        }
    }

    /// Reads a slice of the old rows again, of those up to `known`. Says whether these were all.
    fn again(&mut self, tables: &Tables<'_>, known: i64) -> rusqlite::Result<bool> {
        let after = if self.slice_at < known { self.slice_at } else { i64::MIN };
        let rest = self.slice(tables, after, known, SLICE)?;
        if after == i64::MIN {
            return Ok(rest > 0);
        }
        // The last rows are fewer than a slice: the first ones follow.
        let is_all = rest > 0 && self.slice(tables, i64::MIN, after, rest)? > 0;
        Ok(is_all)
    }

    /// Reads up to so many rows again; says how many fewer there were.
    fn slice(&mut self, tables: &Tables<'_>, after: i64, known: i64, most: usize) -> rusqlite::Result<usize> {
        let batch = tables.runs_after(after, known, most)?;
        let until = match batch.last {
            Some((rowid, _)) if batch.rows == most => rowid,
            _ => known,
        };
        let from = self.runs.partition_point(|run| run.rowid <= after);
        let to = self.runs.partition_point(|run| run.rowid <= until);
        self.runs.splice(from..to.max(from), batch.found);
        self.slice_at = until;
        Ok(most - batch.rows)
    }

    /// Takes a row as it is now.
    fn put(&mut self, rowid: i64, run: Option<Run>) {
        match (self.find(rowid), run) {
            (Ok(at), Some(run)) => self.runs[at] = run,
            (Ok(at), None) => drop(self.runs.remove(at)),
            (Err(at), Some(run)) => self.runs.insert(at, run),
            (Err(_), None) => {}
        }
    }

    /// The rows that an answer has to read: those that may be about what is asked, and those that may be about anything.
    pub(super) fn to_read(&self, question: &Question) -> Vec<i64> {
        // A million runs are asked: few bits, that stay near, answer for most of them.
        let mut marked = [0_u64; MARKS / 64];
        for pid in &question.pids {
            let (word, bit) = mark_of(pid.get());
            marked[word] |= bit;
        }
        let is_asked = |pid: i32| {
            let (word, bit) = mark_of(pid);
            marked[word] & bit != 0 && Pid::new(pid).is_some_and(|pid| question.pids.contains(&pid))
        };
        let sessions: HashSet<u64> = question.sessions.iter().map(|text| hash_bytes(text.as_bytes())).collect();
        let matters = |run: &Run| {
            let group = run.group & !READ_ALWAYS;
            run.is_always_read()
                || is_asked(run.pid)
                || (group != run.pid && is_asked(group))
                || (run.session != 0 && !sessions.is_empty() && sessions.contains(&run.session))
        };
        self.runs.iter().filter(|run| matters(run)).map(|run| run.rowid).collect()
    }

    /// Whether a row is the run that it was.
    pub(super) fn holds(&self, rowid: i64, row: &Row) -> bool {
        self.find(rowid).is_ok_and(|at| self.runs[at].name == row.name)
    }

    /// A run that is gone.
    pub(super) fn remove(&mut self, rowid: i64) {
        if let Ok(at) = self.find(rowid) {
            self.runs.remove(at);
        }
    }

    fn find(&self, rowid: i64) -> Result<usize, usize> {
        self.runs.binary_search_by_key(&rowid, |run| run.rowid)
    }
}

/// Where the mark of a pid is, and of others that end in the same bits.
fn mark_of(pid: i32) -> (usize, u64) {
    let mark = pid as usize % MARKS;
    (mark / 64, 1 << (mark % 64))
}
