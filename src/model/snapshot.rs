//! What should be: the store's active objects at one revision.

use crate::model::{AgentClass, Flow, Job, JobUid, Ledger, PolicySpec, StepRun, Workload, WorkloadUid};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The runs of one job, each shared with who remembers it: a copy of the list copies none of them.
pub type Runs = Vec<Arc<StepRun>>;

/// What should be, as of one revision of the store: all that is active, and the jobs that it refers to.
///
/// Objects are shared: a copy copies no object, and the next snapshot has those that did not change in common with this
/// one, so that who remembers an `Arc` sees by its address alone that nothing about it is new.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// Jobs that are active, every other job that owns an active run or workload, and the parents of all these, up the chain.
    /// An owner that is not here does not exist, nor does a parent.
    pub jobs: BTreeMap<JobUid, Arc<Job>>,
    /// All runs of the jobs that are active, and every other run that is not final; by job, then (step, attempt).
    pub runs: BTreeMap<JobUid, Arc<Runs>>,
    /// Workloads that are not stopped.
    pub workloads: BTreeMap<WorkloadUid, Arc<Workload>>,
    /// By name.
    pub flows: BTreeMap<String, Arc<Flow>>,
    /// By name.
    pub classes: BTreeMap<String, Arc<AgentClass>>,
    /// By name.
    pub ledgers: BTreeMap<String, Arc<Ledger>>,
    /// The policy.
    pub policy: PolicySpec,
}

impl Snapshot {
    /// The runs of one job; none where it has none.
    pub fn runs_of(&self, job: &JobUid) -> &[Arc<StepRun>] {
        self.runs.get(job).map(|runs| runs.as_slice()).unwrap_or_default()
    }

    /// All runs, by job.
    pub fn all_runs(&self) -> impl Iterator<Item = &StepRun> {
        self.runs.values().flat_map(|runs| runs.iter()).map(|run| &**run)
    }

    /// Every job with its runs, if it has any: one walk along both.
    pub fn jobs_with_runs(&self) -> impl Iterator<Item = (&JobUid, &Arc<Job>, Option<&Arc<Runs>>)> {
        let mut runs = self.runs.iter().peekable();
        self.jobs.iter().map(move |(uid, job)| {
            while runs.next_if(|(of, _)| *of < uid).is_some() {}
            (uid, job, runs.next_if(|(of, _)| *of == uid).map(|(_, runs)| runs))
        })
    }

    /// Runs whose job does not exist.
    pub fn runs_without_job(&self) -> impl Iterator<Item = &StepRun> {
        let mut jobs = self.jobs.keys().peekable();
        let without = self.runs.iter().filter(move |(of, _)| {
            while jobs.next_if(|uid| uid < of).is_some() {}
            jobs.peek() != Some(of)
        });
        without.flat_map(|(_, runs)| runs.iter()).map(|run| &**run)
    }

    /// Puts a run in its place among those of its job, over an earlier one of its name.
    pub fn put_run(&mut self, run: StepRun) {
        let runs = Arc::make_mut(self.runs.entry(run.spec.job_uid.clone()).or_default());
        match position(runs, &run.metadata.name) {
            Some(at) if runs[at].place() == run.place() => runs[at] = Arc::new(run),
            known => {
                known.map(|at| runs.remove(at));
                let at = runs.partition_point(|known| known.place() < run.place());
                runs.insert(at, Arc::new(run));
            }
        }
    }

    /// Takes the run of this name out of those of its job.
    pub fn remove_run(&mut self, job: &JobUid, name: &str) {
        let Some(runs) = self.runs.get_mut(job) else { return };
        let Some(at) = position(runs, name) else { return };
        Arc::make_mut(runs).remove(at);
        if runs.is_empty() {
            self.runs.remove(job);
        }
    }
}

impl StepRun {
    /// Its place among the runs of its job.
    pub fn place(&self) -> (&str, u32, &str) {
        (&self.spec.step, self.spec.attempt, &self.metadata.name)
    }
}

/// Sorted rows for who asks for most of them, and in about their order: each search begins where the last one ended. In a
/// sorted map of ten thousand long names, each search from the top waits a dozen times for memory.
#[derive(Debug)]
pub struct Finger<'a, T> {
    rows: Vec<(&'a str, T)>,
    at: Cell<usize>,
}

impl<'a, T> Finger<'a, T> {
    /// Over rows in the order of their keys.
    pub fn over(rows: impl Iterator<Item = (&'a str, T)>) -> Finger<'a, T> {
        Finger { rows: rows.collect(), at: Cell::new(0) }
    }

    /// The row of this key.
    pub fn get(&self, key: &str) -> Option<&T> {
        let is_before = |at: usize| self.rows.get(at).is_some_and(|(row, _)| *row < key);
        // The first row that is not before the key is in `low..=high`: widened from the last one, then halved.
        let (mut low, mut high, mut step) = (self.at.get(), self.at.get(), 1);
        while low > 0 && !is_before(low - 1) {
            (high, low, step) = (low - 1, low.saturating_sub(step), step * 2);
        }
        step = 1;
        while high < self.rows.len() && is_before(high) {
            (low, high, step) = (high + 1, (high + step).min(self.rows.len()), step * 2);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        self.at.set(low);
        self.rows.get(low).filter(|(row, _)| *row == key).map(|(_, row)| row)
    }
}

/// The jobs of a snapshot, with their runs.
#[derive(Debug)]
pub struct JobTable<'a>(Finger<'a, JobRow<'a>>);

type JobRow<'a> = (&'a Arc<Job>, Option<&'a Arc<Runs>>);

impl<'a> JobTable<'a> {
    /// The table of a snapshot.
    pub fn of(snapshot: &'a Snapshot) -> JobTable<'a> {
        JobTable(Finger::over(snapshot.jobs_with_runs().map(|(uid, job, runs)| (uid.as_str(), (job, runs)))))
    }

    /// The part of it that the owners of one workload are in.
    pub fn of_owners(workload: &Workload, snapshot: &'a Snapshot) -> JobTable<'a> {
        let owners: BTreeSet<&JobUid> = workload.spec.owners.iter().map(|owner| &owner.uid).collect();
        let jobs = owners.into_iter().filter_map(|uid| snapshot.jobs.get_key_value(uid));
        JobTable(Finger::over(jobs.map(|(uid, job)| (uid.as_str(), (job, snapshot.runs.get(uid))))))
    }

    /// A job.
    pub fn job(&self, uid: &JobUid) -> Option<&'a Arc<Job>> {
        self.0.get(uid.as_str()).map(|(job, _)| *job)
    }

    /// The run of this name of a job that exists.
    pub fn run(&self, job: &JobUid, name: &str) -> Option<&'a StepRun> {
        let (_, runs) = self.0.get(job.as_str())?;
        let runs = (*runs)?;
        run_named(runs, name).map(|run| &**run)
    }
}

/// So many runs are searched faster than asked for their places.
const FEW: usize = 8;

/// The run of this name among those of its job.
pub fn run_named<'r>(runs: &'r [Arc<StepRun>], name: &str) -> Option<&'r Arc<StepRun>> {
    runs.get(position(runs, name)?)
}

/// Where the run of this name is among those of its job: by what its name says, `<job>.<step>.<attempt>`, else by search.
fn position(runs: &[Arc<StepRun>], name: &str) -> Option<usize> {
    if runs.len() <= FEW {
        return runs.iter().position(|run| run.metadata.name == name);
    }
    let place = || {
        let (step, attempt) = name.strip_prefix(&runs.first()?.spec.job)?.strip_prefix('.')?.rsplit_once('.')?;
        let place = (step, attempt.parse().ok()?, name);
        runs.binary_search_by(|run| run.place().cmp(&place)).ok()
    };
    place().or_else(|| runs.iter().position(|run| run.metadata.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_finger_finds_what_is_there_from_wherever_it_is(
            keys in prop::collection::btree_set("[a-d]{1,4}", 0..60),
            asked in prop::collection::vec("[a-d]{1,4}", 0..60),
        ) {
            let finger = Finger::over(keys.iter().map(|key| (key.as_str(), key)));
            for key in asked.iter().chain(keys.iter()).chain(&asked).chain(keys.iter().rev()) {
                prop_assert_eq!(finger.get(key).copied(), keys.get(key));
            }
        }

        #[test]
        fn a_run_is_found_by_its_name_and_kept_in_its_place(
            steps in prop::collection::vec(("[ab]|a[.]1", 1..30_u32), 0..40),
            gone in 0..40_usize,
        ) {
            let job = JobUid::from("uid");
            let run = |(step, attempt): &(String, u32)| {
                let mut run = StepRun::default();
                run.metadata.name = format!("j.{step}.{attempt}");
                (run.spec.job, run.spec.job_uid) = ("j".into(), job.clone());
                (run.spec.step, run.spec.attempt) = (step.clone(), *attempt);
                run
            };
            let mut snapshot = Snapshot::default();
            steps.iter().for_each(|step| snapshot.put_run(run(step)));
            let runs = steps.iter().collect::<BTreeSet<_>>().into_iter().map(run);
            let mut expected: Runs = runs.map(Arc::new).collect();
            prop_assert_eq!(snapshot.runs_of(&job), expected.as_slice());
            if gone < expected.len() {
                let name = expected.remove(gone).metadata.name.clone();
                snapshot.remove_run(&job, &name);
                prop_assert_eq!(snapshot.runs_of(&job), expected.as_slice());
                snapshot.remove_run(&job, &name);
            }
            prop_assert_eq!(snapshot.runs.contains_key(&job), !expected.is_empty());
            for run in &expected {
                prop_assert_eq!(position(&expected, &run.metadata.name).map(|at| &expected[at]), Some(run));
            }
        }
    }
}
