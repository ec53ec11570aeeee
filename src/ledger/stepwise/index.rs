//! Where in a store are the runs that may be asked for: what was learned at earlier looks, compact (32 bytes a run).
//!
//! It is allowed to be out of date, because it only says which rows to read again. What it could miss is a row that *begins*
//! to matter: so each look reads the rows that are new, those of runs that had not ended, and, since anything can be
//! updated, a slice of the old ones. A store of up to [`SLICE`] runs is read whole each time; of a larger one, a run that
//! had ended and is given another process without being made anew is seen after a round of slices.

use super::open::{Identity, Trouble};
use super::run::{Row, State, hash_bytes, hash_of};
use crate::model::{Pid, Question};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

/// So many old rows are read again at each look: some milliseconds.
pub(super) const SLICE: usize = 2_000;

/// So many rows are read at once; between two there is a look at the clock.
const BATCH: usize = 5_000;

/// Milestones are at least so many rows apart, but for the last.
const APART: i64 = 1_000;

/// When more milestones than this are gone, the store was written anew.
const MOST_GONE: usize = 50;

/// The most pids that a system can have: what is marked here answers most questions with one look into memory.
const MOST_PIDS: usize = 1 << 22;

/// A run that has a process, or may get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
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
    /// SQLite counts it up when the schema changes, and when the rows get other numbers (`VACUUM`).
    schema: i64,
    /// By rowid.
    runs: Vec<Run>,
    /// Rows that were there, with their ids, hashed; the last is that of the last row that was read. A new row always comes
    /// behind the last one: so if one of these is still the same, nothing new is before it.
    milestones: Vec<(i64, u64)>,
    /// Up to where the old rows were read again.
    slice_at: i64,
}

/// Whether the index knows all rows.
pub(super) enum Progress {
    Complete,
    /// So many were read, and then it was too late.
    Until(usize),
}

/// The statements that a look needs.
pub(super) struct Tables<'c> {
    schema: i64,
    rows_after: RefCell<Statement<'c>>,
    id_at: RefCell<Statement<'c>>,
    row_at: RefCell<Statement<'c>>,
}

impl<'c> Tables<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Tables<'c>> {
        let prepare = |sql| connection.prepare(sql).map(RefCell::new);
        Ok(Tables {
            schema: connection.query_row("PRAGMA schema_version", [], |row| row.get(0))?,
            rows_after: prepare(
                "SELECT rowid, id, completed_at IS NULL, executor_state FROM step_runs \
                 WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3",
            )?,
            id_at: prepare("SELECT id FROM step_runs WHERE rowid = ?1")?,
            row_at: prepare(
                "SELECT id, job_id, executor_state, started_at, completed_at FROM step_runs WHERE rowid = ?1",
            )?,
        })
    }

    /// One row, with all that an answer says of it.
    pub(super) fn row(&self, rowid: i64, ours: &BTreeSet<Pid>) -> rusqlite::Result<Option<Row>> {
        self.row_at.borrow_mut().query_row([rowid], |row| Row::of(row, ours)).optional()
    }

    fn name(&self, rowid: i64) -> rusqlite::Result<Option<u64>> {
        self.id_at.borrow_mut().query_row([rowid], |row| Ok(hash_of(row.get_ref(0)?))).optional()
    }

    /// The next rows.
    fn after(&self, rowid: i64, until: i64, most: usize) -> rusqlite::Result<Batch> {
        let mut batch = Batch::default();
        let mut statement = self.rows_after.borrow_mut();
        let mut rows = statement.query((rowid, until, most as i64))?;
        while let Some(row) = rows.next()? {
            let (rowid, name) = (row.get(0)?, hash_of(row.get_ref(1)?));
            batch.rows += 1;
            batch.last = Some((rowid, name));
            let is_open: bool = row.get(2)?;
            let run = match State::of(row.get_ref(3)?) {
                Err(_) => Some(Run { rowid, name, session: 0, pid: 0, group: READ_ALWAYS }),
                Ok(state) => run_of(rowid, name, is_open, &state),
            };
            batch.runs.extend(run);
        }
        Ok(batch)
    }
}

fn run_of(rowid: i64, name: u64, is_open: bool, state: &State<'_>) -> Option<Run> {
    let number = |pid: Option<Pid>| pid.map_or(0, Pid::get);
    let (pid, group) = (number(state.pid.pid()), number(state.pgid.pid()));
    let session = state.session_id.text().map_or(0, |text| hash_bytes(text.as_bytes()));
    // It names something, and nothing that can be: of which only the job says whether that matters.
    let is_odd = pid == 0 && session == 0 && !(state.pid.is_nothing() && (group != 0 || state.pgid.is_nothing()));
    let group = if is_open || is_odd { group | READ_ALWAYS } else { group };
    (pid != 0 || group != 0 || session != 0).then_some(Run { rowid, name, session, pid, group })
}

/// Rows that follow each other.
#[derive(Default)]
struct Batch {
    rows: usize,
    /// The last of them, and its id, hashed.
    last: Option<(i64, u64)>,
    /// The runs among them that matter.
    runs: Vec<Run>,
}

impl Index {
    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Index::default();
    }

    /// Learns what is new. What was read when it gets too late is kept.
    pub(super) fn catch_up(
        &mut self,
        tables: &Tables<'_>,
        identity: Identity,
        deadline: Instant,
    ) -> Result<Progress, Trouble> {
        if self.identity != Some(identity) || self.schema != tables.schema {
            *self = Index { identity: Some(identity), schema: tables.schema, ..Index::default() };
        }
        let result = self.go_back(tables).and_then(|()| {
            let known = self.last();
            let progress = self.go_on(tables, deadline)?;
            self.again(tables, known)?;
            Ok(progress)
        });
        match result {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(self.until()),
            other => Ok(other?),
        }
    }

    fn until(&self) -> Progress {
        Progress::Until(self.runs.len())
    }

    /// The last row that was read.
    fn last(&self) -> i64 {
        self.milestones.last().map_or(i64::MIN, |(rowid, _)| *rowid)
    }

    /// Back to the last milestone that is still there: all behind it may be new.
    fn go_back(&mut self, tables: &Tables<'_>) -> rusqlite::Result<()> {
        let mut gone = 0;
        while let Some((rowid, name)) = self.milestones.last().copied() {
            if tables.name(rowid)? == Some(name) {
                break;
            }
            gone += 1;
            self.milestones.pop();
            if gone > MOST_GONE {
                self.milestones.clear();
            }
        }
        if gone > 0 {
            let last = self.last();
            self.runs.truncate(self.runs.partition_point(|run| run.rowid <= last));
        }
        Ok(())
    }

    /// Reads what is behind the last row that was read.
    fn go_on(&mut self, tables: &Tables<'_>, deadline: Instant) -> rusqlite::Result<Progress> {
        loop {
            let batch = tables.after(self.last(), i64::MAX, BATCH)?;
            let is_last = batch.rows < BATCH;
            self.runs.extend(batch.runs);
            if let Some(last) = batch.last {
                self.reached(last);
            }
            if is_last {
                return Ok(Progress::Complete);
            }
            if Instant::now() > deadline {
                return Ok(self.until());
            }
        }
    }

    fn reached(&mut self, last: (i64, u64)) {
        if let [.., before, end] = self.milestones.as_mut_slice()
            && end.0 - before.0 < APART
        {
            *end = last;
        } else {
            self.milestones.push(last);
        }
    }

    /// Reads a slice of the old rows again, of those up to `known`.
    fn again(&mut self, tables: &Tables<'_>, known: i64) -> rusqlite::Result<()> {
        let after = if self.slice_at < known { self.slice_at } else { i64::MIN };
        let batch = tables.after(after, known, SLICE)?;
        let until = match batch.last {
            Some((rowid, _)) if batch.rows == SLICE => rowid,
            _ => known,
        };
        let from = self.runs.partition_point(|run| run.rowid <= after);
        let to = self.runs.partition_point(|run| run.rowid <= until);
        self.runs.splice(from..to.max(from), batch.runs);
        self.slice_at = until;
        Ok(())
    }

    /// The rows that an answer has to read: those that may be about what is asked, and those that may be about anything.
    pub(super) fn to_read(&self, question: &Question) -> Vec<i64> {
        let mut marked = vec![0_u64; MOST_PIDS / 64];
        for pid in &question.pids {
            if let Some((word, bit)) = place_of(pid.get()) {
                marked[word] |= bit;
            }
        }
        let is_marked = |pid: i32| place_of(pid).is_some_and(|(word, bit)| marked[word] & bit != 0);
        let sessions: HashSet<u64> = question.sessions.iter().map(|text| hash_bytes(text.as_bytes())).collect();
        let matters = |run: &Run| {
            run.is_always_read()
                || is_marked(run.pid)
                || is_marked(run.group & !READ_ALWAYS)
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

impl Run {
    fn is_always_read(&self) -> bool {
        self.group & READ_ALWAYS != 0
    }
}

/// Where the mark of a pid is; 0 has none.
fn place_of(pid: i32) -> Option<(usize, u64)> {
    let pid = usize::try_from(pid).ok().filter(|pid| *pid > 0 && *pid < MOST_PIDS)?;
    Some((pid / 64, 1 << (pid % 64)))
}
