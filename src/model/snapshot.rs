//! What should be: the store's active objects at one revision.

use crate::model::{AgentClass, Flow, Job, JobUid, PolicySpec, StepRun, Workload, WorkloadUid};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What should be, as of one revision of the store: all that is active, and the jobs that it refers to.
///
/// Objects are shared: a copy copies no object, and the next snapshot has those that did not change in common with this
/// one, so that who remembers an `Arc` sees by its address alone that nothing about it is new.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The revision.
    pub revision: u64,
    /// Jobs that are not terminal, and every other job that owns an active run or workload. An owner that is not here does
    /// not exist.
    pub jobs: BTreeMap<JobUid, Arc<Job>>,
    /// All runs of the jobs that are not terminal, and every other run that is not final; by job, then (step, attempt).
    pub runs: BTreeMap<JobUid, Arc<Vec<StepRun>>>,
    /// Workloads that are not stopped.
    pub workloads: BTreeMap<WorkloadUid, Arc<Workload>>,
    /// By name.
    pub flows: BTreeMap<String, Arc<Flow>>,
    /// By name.
    pub classes: BTreeMap<String, Arc<AgentClass>>,
    /// The policy.
    pub policy: PolicySpec,
}

impl Snapshot {
    /// The runs of one job; none where it has none.
    pub fn runs_of(&self, job: &JobUid) -> &[StepRun] {
        self.runs.get(job).map(|runs| runs.as_slice()).unwrap_or_default()
    }

    /// All runs, by job.
    pub fn all_runs(&self) -> impl Iterator<Item = &StepRun> {
        self.runs.values().flat_map(|runs| runs.iter())
    }

    /// Every job with its runs, if it has any: one walk along both.
    pub fn jobs_with_runs(&self) -> impl Iterator<Item = (&JobUid, &Arc<Job>, Option<&Arc<Vec<StepRun>>>)> {
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
        without.flat_map(|(_, runs)| runs.iter())
    }

    /// Puts a run in its place among those of its job, over an earlier one of its name.
    pub fn put_run(&mut self, run: StepRun) {
        let runs = Arc::make_mut(self.runs.entry(run.spec.job_uid.clone()).or_default());
        if let Some(at) = position(runs, &run.metadata.name) {
            runs.remove(at);
        }
        let at = runs.partition_point(|known| known.place() < run.place());
        runs.insert(at, run);
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

/// The jobs of a snapshot by uid, for who asks for most of them: ten thousand searches in a sorted map of long names cost more
/// than making a table once.
#[derive(Debug)]
pub struct JobTable<'a>(HashMap<&'a str, (&'a Job, &'a [StepRun])>);

impl<'a> JobTable<'a> {
    /// The table of a snapshot.
    pub fn of(snapshot: &'a Snapshot) -> JobTable<'a> {
        let rows = snapshot
            .jobs_with_runs()
            .map(|(uid, job, runs)| (uid.as_str(), (&**job, runs.map(|runs| runs.as_slice()).unwrap_or_default())));
        JobTable(rows.collect())
    }

    /// The part of it that the owners of one workload are in.
    pub fn of_owners(workload: &Workload, snapshot: &'a Snapshot) -> JobTable<'a> {
        let owners = workload.spec.owners.iter();
        let jobs = owners.filter_map(|owner| snapshot.jobs.get_key_value(&owner.uid));
        JobTable(jobs.map(|(uid, job)| (uid.as_str(), (&**job, snapshot.runs_of(uid)))).collect())
    }

    /// A job.
    pub fn job(&self, uid: &JobUid) -> Option<&'a Job> {
        self.0.get(uid.as_str()).map(|(job, _)| *job)
    }

    /// The run of this name of a job that exists.
    pub fn run(&self, job: &JobUid, name: &str) -> Option<&'a StepRun> {
        let (_, runs) = self.0.get(job.as_str())?;
        runs.get(position(runs, name)?)
    }
}

/// Where the run of this name is among those of its job: by what its name says, `<job>.<step>.<attempt>`, else by search.
fn position(runs: &[StepRun], name: &str) -> Option<usize> {
    let place = || {
        let (step, attempt) = name.strip_prefix(&runs.first()?.spec.job)?.strip_prefix('.')?.rsplit_once('.')?;
        let place = (step, attempt.parse().ok()?, name);
        runs.binary_search_by(|run| run.place().cmp(&place)).ok()
    };
    place().or_else(|| runs.iter().position(|run| run.metadata.name == name))
}
