//! Who is whose parent among the jobs of a pass.

use super::job_next::JobNext;
use crate::model::{JobState, RunPhase, StepRun};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How deep sub-jobs may go.
pub(super) const DEEPEST: usize = 16;

/// A job, by its place in the list of all.
pub(super) type JobAt = usize;

/// Who is whose parent.
pub(super) struct Family {
    parent: Vec<Option<JobAt>>,
    depth: Vec<usize>,
    /// Of each job with sub-jobs: by the name of the run that began them.
    children: HashMap<JobAt, BTreeMap<String, Vec<JobAt>>>,
}

impl Family {
    /// Of all jobs, in the order of their uids.
    pub(super) fn of(live: &[JobNext<'_>]) -> Family {
        let place = |next: &JobNext<'_>| {
            let parent = next.job.parent_uid()?;
            live.binary_search_by(|other| other.uid.cmp(parent)).ok()
        };
        let parent: Vec<Option<JobAt>> = live.iter().map(place).collect();
        let mut children: HashMap<JobAt, BTreeMap<String, Vec<JobAt>>> = HashMap::new();
        for (at, next) in live.iter().enumerate() {
            if let (Some(above), Some(parent)) = (parent[at], &next.job.spec.parent) {
                children.entry(above).or_default().entry(parent.run.clone()).or_default().push(at);
            }
        }
        let depth = (0..live.len()).map(|at| above(&parent, at).count()).collect();
        Family { parent, depth, children }
    }

    /// Every job, sub-jobs before their parents.
    pub(super) fn children_first(&self) -> Vec<JobAt> {
        let mut all: Vec<JobAt> = (0..self.parent.len()).collect();
        if !self.children.is_empty() {
            all.sort_by_key(|&at| std::cmp::Reverse(self.depth[at]));
        }
        all
    }

    /// How many parents there are above a job.
    pub(super) fn depth(&self, at: JobAt) -> usize {
        self.depth[at]
    }

    /// The parent of a job, if it is there.
    pub(super) fn parent(&self, at: JobAt) -> Option<JobAt> {
        self.parent[at]
    }

    /// The sub-jobs of a job.
    pub(super) fn children(&self, at: JobAt) -> impl Iterator<Item = JobAt> {
        self.children.get(&at).into_iter().flat_map(|runs| runs.values().flatten().copied())
    }

    /// The sub-jobs of a run.
    pub(super) fn children_of_run(&self, at: JobAt, run: &StepRun) -> &[JobAt] {
        let of_job = self.children.get(&at);
        of_job.and_then(|runs| runs.get(&family_name(run))).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a job should be doing, as all above it want it, too: it is paused while one of them is, or waits for a person.
    pub(super) fn wanted(&self, live: &[JobNext<'_>], at: JobAt) -> JobState {
        let holds = |at: JobAt| {
            let job = &live[at].job;
            job.spec.state == JobState::Paused || job.status.escalated_generation.is_some()
        };
        match live[at].job.spec.state {
            JobState::Running if above(&self.parent, at).any(holds) => JobState::Paused,
            own => own,
        }
    }
}

/// The parents of a job, from the nearest on. However they may stand in a circle, this ends.
fn above(parent: &[Option<JobAt>], at: JobAt) -> impl Iterator<Item = JobAt> {
    std::iter::successors(parent[at], |&at| parent[at]).take(2 * DEEPEST)
}

/// The name that the sub-jobs of a run know it by: that of the run that began them.
pub(super) fn family_name(run: &StepRun) -> String {
    let attempt = run.spec.adopts.unwrap_or(run.spec.attempt);
    format!("{}.{}.{attempt}", run.spec.job, run.spec.step)
}

/// The run that a sub-job works for now: of those that its parent's run handed it on to, the last.
pub(super) fn run_of<'a>(runs: &'a [Arc<StepRun>], began: &str) -> Option<&'a StepRun> {
    let (step, attempt) = began.strip_prefix(&runs.first()?.spec.job)?.strip_prefix('.')?.rsplit_once('.')?;
    let attempt: u32 = attempt.parse().ok()?;
    let own = runs.iter().map(|run| &**run);
    let own = own.filter(|run| run.spec.adopts.unwrap_or(run.spec.attempt) == attempt && run.spec.step == step);
    own.max_by_key(|run| run.spec.attempt)
}

/// Whether a run may have sub-jobs at work.
pub(super) fn is_at_work(run: &StepRun) -> bool {
    run.status.phase == RunPhase::Running
}
