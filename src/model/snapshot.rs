//! What should be: the store's active objects at one revision.

use crate::model::{AgentClass, Flow, Job, JobUid, PolicySpec, StepRun, Workload, WorkloadUid};
use std::collections::BTreeMap;
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

    /// The run of this name of this job.
    pub fn run(&self, job: &JobUid, name: &str) -> Option<&StepRun> {
        let runs = self.runs_of(job);
        runs.get(position(runs, name)?)
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

/// Where the run of this name is among those of its job: by what its name says, `<job>.<step>.<attempt>`, else by search.
fn position(runs: &[StepRun], name: &str) -> Option<usize> {
    let place = || {
        let (step, attempt) = name.strip_prefix(&runs.first()?.spec.job)?.strip_prefix('.')?.rsplit_once('.')?;
        let place = (step, attempt.parse().ok()?, name);
        runs.binary_search_by(|run| run.place().cmp(&place)).ok()
    };
    place().or_else(|| runs.iter().position(|run| run.metadata.name == name))
}
