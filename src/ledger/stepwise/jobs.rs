//! Which jobs of a large store go on: what was learned at earlier looks, brought up to date at each.
//!
//! There is no index on `jobs.status`, and a job's row is long. So each look reads the jobs that are new, those that went on
//! at the last look, those that an event names (and for some minutes after it: whatever an event tells of may be written
//! later than the event), and a slice of the old ones.

use super::milestones::Milestones;
use super::tables::{Job, Tables};
use crate::model::Time;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// So many old jobs are read again at each look.
const SLICE: usize = 500;

/// So many rows are read at once; between two there is a look at the clock.
const BATCH: usize = 5_000;

/// A job is read at each look for so long after an event that names it, and after its end.
const WATCHED_FOR: Duration = Duration::from_secs(600);

/// When events were removed so that nobody can say which are new, so many of the last ones are taken as new.
const LAST_EVENTS: i64 = 10_000;

/// What was learned of the jobs.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// By rowid: when it last went on, or an event named it.
    watched: BTreeMap<i64, Time>,
    milestones: Milestones,
    /// Up to where the old ones were read again.
    slice_at: i64,
    events: Milestones,
    /// Whether events were listened to before.
    is_hearing: bool,
}

impl Jobs {
    /// The ids of all that go on. `None`: it got too late; what was read is kept.
    pub(super) fn active(
        &mut self,
        connection: &Connection,
        tables: &Tables<'_>,
        now: Time,
        deadline: Instant,
    ) -> rusqlite::Result<Option<BTreeSet<String>>> {
        self.hear(connection, tables, now)?;
        if self.milestones.go_back(|rowid| Ok(tables.job_at(rowid)?.map(|job| job.name)))? {
            self.watched.split_off(&self.milestones.last().saturating_add(1));
        }
        let known = self.milestones.last();
        loop {
            let batch = tables.jobs_after(self.milestones.last(), i64::MAX, BATCH)?;
            self.note(&batch.found, now);
            if let Some(last) = batch.last {
                self.milestones.reached(last);
            }
            if batch.rows < BATCH {
                break;
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
        }
        self.again(tables, known, now)?;
        let mut active = BTreeSet::new();
        for rowid in self.watched.keys().copied().collect::<Vec<_>>() {
            let job = tables.job_at(rowid)?;
            match &job {
                Some(job) if job.is_active => {
                    self.watched.insert(rowid, now);
                }
                Some(_) if self.watched.get(&rowid).is_some_and(|at| now.since(*at) < WATCHED_FOR) => {}
                _ => {
                    self.watched.remove(&rowid);
                }
            }
            active.extend(job.filter(|job| job.is_active).and_then(|job| job.id));
        }
        Ok(Some(active))
    }

    fn note(&mut self, jobs: &[Job], now: Time) {
        self.watched.extend(jobs.iter().filter(|job| job.is_active).map(|job| (job.rowid, now)));
    }

    /// Reads a slice of the old jobs again, of those up to `known`.
    fn again(&mut self, tables: &Tables<'_>, known: i64, now: Time) -> rusqlite::Result<()> {
        let after = if self.slice_at < known { self.slice_at } else { i64::MIN };
        let batch = tables.jobs_after(after, known, SLICE)?;
        self.note(&batch.found, now);
        self.slice_at = match batch.last {
            Some((rowid, _)) if batch.rows == SLICE => rowid,
            _ => known,
        };
        Ok(())
    }

    /// Notes the jobs that new events name.
    fn hear(&mut self, connection: &Connection, tables: &Tables<'_>, now: Time) -> rusqlite::Result<()> {
        self.events.go_back(|rowid| tables.event_name(rowid))?;
        let mut after = self.events.last();
        if after == i64::MIN {
            let last = tables.last_event(connection)?.unwrap_or(0);
            // No job has been read before the first time, so nothing that an event tells of can be missed.
            after = last.saturating_sub(if self.is_hearing { LAST_EVENTS } else { 1 });
        }
        self.is_hearing = true;
        loop {
            let batch = tables.events_after(after, BATCH)?;
            for id in batch.found.into_iter().collect::<BTreeSet<String>>() {
                if let Some(job) = tables.job_of(&id)? {
                    self.watched.insert(job.rowid, now);
                }
            }
            if let Some(last) = batch.last {
                self.events.reached(last);
                after = last.0;
            }
            if batch.rows < BATCH {
                return Ok(());
            }
        }
    }
}
