//! What this program's own commits have changed since the last snapshot: so that the next one reads these rows, and no
//! other. What anybody else changes is not known by row; that anybody did is, and then everything is read.

use super::{Store, StoreError, lock, read};
use crate::model::{AnyObject, JobUid, Kind, WorkloadUid};
use rusqlite::Connection;
use std::collections::VecDeque;

/// How many changes are remembered while nobody asks for a snapshot; with more, everything is read.
const MOST: usize = 20_000;

/// One row that a commit wrote or removed, named by what a snapshot is built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// A job, and whether it came, went, turned active, or turned terminal.
    Job(JobUid, bool),
    /// A run, with the job that it belongs or belonged to.
    Run(JobUid, String),
    Workload(WorkloadUid),
    Other(Kind, String),
}

impl Touched {
    /// The row of an object; `turned` says whether it came, or became active or inactive.
    pub(super) fn object(object: &AnyObject, turned: bool) -> Touched {
        let meta = object.meta();
        Touched::row(object.kind(), &meta.name, &meta.uid, object.owner().map(JobUid::as_str), turned)
    }

    /// The row with these columns.
    pub(super) fn row(kind: Kind, name: &str, uid: &str, owner: Option<&str>, turned: bool) -> Touched {
        match kind {
            Kind::Job => Touched::Job(JobUid(uid.to_owned()), turned),
            Kind::StepRun => Touched::Run(JobUid(owner.unwrap_or_default().to_owned()), name.to_owned()),
            Kind::Workload => Touched::Workload(WorkloadUid(name.to_owned())),
            Kind::Flow | Kind::AgentClass | Kind::MachineClass | Kind::Ledger | Kind::Policy => {
                Touched::Other(kind, name.to_owned())
            }
        }
    }
}

/// The one connection that writes, and what it has written.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// SQLite's mark of change as this connection sees it: its own commits leave it as it is, everybody else's do not.
    mark: i64,
    /// How often somebody else was found to have written.
    strangers: u64,
    /// By revision, oldest first.
    log: VecDeque<(u64, Vec<Touched>)>,
    logged: usize,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Writer> {
        let mark = read::data_version(&connection)?;
        Ok(Writer { connection, mark, strangers: 0, log: VecDeque::new(), logged: 0 })
    }

    /// Remembers what a commit of this connection changed.
    pub(super) fn remember(&mut self, revision: u64, touched: Vec<Touched>) {
        self.logged += touched.len();
        self.log.push_back((revision, touched));
        if self.logged > MOST {
            // What is not known by row any more is as if somebody else had written it.
            self.strangers += 1;
            self.log.clear();
            self.logged = 0;
        }
    }

    fn strangers(&mut self) -> rusqlite::Result<u64> {
        let mark = read::data_version(&self.connection)?;
        if mark != self.mark {
            self.mark = mark;
            self.strangers += 1;
        }
        Ok(self.strangers)
    }

    /// What was changed after revision `since`, up to `until`; who asks has a snapshot of `until` then.
    fn take(&mut self, since: u64, until: u64) -> Vec<Touched> {
        let mut all = Vec::new();
        while let Some((revision, touched)) = self.log.pop_front_if(|(revision, _)| *revision <= until) {
            self.logged -= touched.len();
            if revision > since {
                all.extend(touched);
            }
        }
        all
    }
}

impl Store {
    /// How often somebody else was found to have written so far. None: all writers are somebody else to a store that was opened
    /// read-only.
    pub(super) fn strangers(&self) -> Result<Option<u64>, StoreError> {
        let Some(writer) = &self.writer else { return Ok(None) };
        lock(writer).strangers().map(Some).map_err(|error| self.sqlite(error))
    }

    /// What our own commits changed after revision `since`, up to `until`. None: somebody else has written since that
    /// number of strangers was asked for.
    pub(super) fn own_changes(
        &self,
        strangers: Option<u64>,
        since: u64,
        until: u64,
    ) -> Result<Option<Vec<Touched>>, StoreError> {
        let (Some(writer), Some(strangers)) = (&self.writer, strangers) else { return Ok(None) };
        let mut writer = lock(writer);
        let changes = writer.take(since, until);
        let now = writer.strangers().map_err(|error| self.sqlite(error))?;
        Ok((now == strangers).then_some(changes))
    }
}
