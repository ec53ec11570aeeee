//! What people want of a job: that it ends, pauses, goes on, or tries again what failed. Its sub-jobs follow it: the controller sees
//! to that, but for what only a person can decide, which is passed on to those that wait for it.

use super::{Api, ApiError, now, objects};
use crate::controller::Veil;
use crate::model::{AnyObject, Job, JobPhase, JobState, JobUid, Kind};
use crate::store::{StoreError, Txn};
use serde_json::Value;
use std::collections::BTreeSet;

/// How often it is tried again when somebody else wrote meanwhile.
const TRIES: usize = 8;

/// A wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It ends.
    Cancel,
    /// It starts nothing new.
    Pause,
    /// It goes on, also where a step escalated it.
    Resume,
    /// What failed is tried again, in place.
    Retry,
}

impl Wish {
    /// As in `POST /jobs/{name}/{action}`.
    pub(super) fn parse(action: &str) -> Option<Wish> {
        match action {
            "cancel" => Some(Wish::Cancel),
            "pause" => Some(Wish::Pause),
            "resume" => Some(Wish::Resume),
            "retry" => Some(Wish::Retry),
            _ => None,
        }
    }

    /// What is told of it.
    fn event(self) -> (&'static str, &'static str) {
        match self {
            Wish::Cancel => ("CancelRequested", "a person asked for its end"),
            Wish::Pause => ("PauseRequested", "a person asked for a pause"),
            Wish::Resume => ("ResumeRequested", "a person asked for it to go on"),
            Wish::Retry => ("RetryRequested", "a person asked for what failed to be tried again"),
        }
    }
}

/// Writes what is wanted; gives the job as it is stored then.
pub(super) fn grant(api: &Api, name: &str, wish: Wish) -> Result<Value, ApiError> {
    let store = &api.handle.store;
    let mut tries = 0;
    loop {
        tries += 1;
        let AnyObject::Job(job) = objects::stored(api, Kind::Job, name)? else {
            return Err(ApiError::not_found(format!("there is no Job {name}")));
        };
        let below = waiting_below(store.snapshot()?.jobs.values().map(|job| &**job), &job);
        let changed = wanted(&job, below, wish).map_err(ApiError::conflict)?;
        if changed.is_empty() {
            return Ok(Veil::new(&api.handle.store).object(&AnyObject::Job(job))?);
        }
        let (reason, message) = wish.event();
        let txn = Txn::new().event(objects::event(Kind::Job, name, reason, message));
        let txn = changed.into_iter().fold(txn, |txn, job| txn.put(AnyObject::Job(job)));
        match store.commit(txn, now()) {
            Err(StoreError::Conflict { .. }) if tries < TRIES => {}
            result => {
                result?;
                api.ring();
                return Ok(Veil::new(&api.handle.store).object(&objects::stored(api, Kind::Job, name)?)?);
            }
        }
    }
}

/// The sub-jobs of a job, at any depth, that wait for a person.
fn waiting_below<'a>(jobs: impl Iterator<Item = &'a Job>, top: &Job) -> Vec<Job> {
    let mut left: Vec<&Job> = jobs.filter(|job| job.spec.parent.is_some()).collect();
    let mut above: BTreeSet<JobUid> = BTreeSet::from([top.uid()]);
    let mut waiting = Vec::new();
    loop {
        let is_below = |job: &&Job| job.parent_uid().is_some_and(|parent| above.contains(parent));
        let (below, rest): (Vec<&Job>, Vec<&Job>) = left.into_iter().partition(is_below);
        if below.is_empty() {
            return waiting;
        }
        above.extend(below.iter().map(|job| job.uid()));
        waiting.extend(below.into_iter().filter(|job| job.status.escalated_generation.is_some()).cloned());
        left = rest;
    }
}

/// The jobs as they are to be written: the one that is meant, and those below it that wait for a person.
fn wanted(job: &Job, below: Vec<Job>, wish: Wish) -> Result<Vec<Job>, String> {
    let mut next = job.clone();
    let name = &job.metadata.name;
    match wish {
        // What has ended stays as it ended.
        Wish::Cancel | Wish::Pause if job.is_over() => return Ok(Vec::new()),
        Wish::Cancel => next.spec.state = JobState::Cancelled,
        Wish::Pause => next.spec.state = JobState::Paused,
        Wish::Resume if job.is_over() => {
            let phase = job.status.phase.as_str();
            return Err(format!("job {name} is {phase}: `tenure retry {name}` tries what failed again"));
        }
        Wish::Resume => {
            next.spec.state = JobState::Running;
            next.status.escalated_generation = None;
            let resumed = below.into_iter().map(|mut job| {
                job.status.escalated_generation = None;
                job
            });
            return Ok(std::iter::once(next).filter(|next| next != job).chain(resumed).collect());
        }
        Wish::Retry => return retried(job, below),
    }
    Ok(if next == *job { Vec::new() } else { vec![next] })
}

fn retried(job: &Job, below: Vec<Job>) -> Result<Vec<Job>, String> {
    let name = &job.metadata.name;
    let again = |mut job: Job| {
        job.spec.state = JobState::Running;
        job.spec.retry += 1;
        job
    };
    match (&job.spec.parent, job.status.phase) {
        _ if job.is_to_be_retried() => Ok(Vec::new()),
        (Some(parent), phase) if job.status.collected => {
            let top = &parent.job;
            Err(format!(
                "job {name} is {}, and its parent has gone on without it: `tenure retry {top}`",
                phase.as_str()
            ))
        }
        (_, JobPhase::Failed | JobPhase::Cancelled) => Ok(vec![again(job.clone())]),
        (_, JobPhase::Paused) if job.status.escalated_generation.is_some() => Ok(vec![again(job.clone())]),
        (_, JobPhase::Running) if !below.is_empty() => Ok(below.into_iter().map(again).collect()),
        (_, phase) => Err(format!("job {name} is {}: nothing of it has failed", phase.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Meta, Parent};

    fn job(name: &str, phase: JobPhase) -> Job {
        let mut job = Job { metadata: Meta { uid: name.into(), ..Meta::named(name) }, ..Job::default() };
        job.status.phase = phase;
        job
    }

    fn child(parent: &str, name: &str, phase: JobPhase) -> Job {
        let mut child = job(name, phase);
        let (job, job_uid, run) = (parent.to_owned(), JobUid::from(parent), format!("{parent}.s.1"));
        child.spec.parent = Some(Parent { job, job_uid, run, index: None, round: (1, 0), within: Vec::new() });
        child
    }

    #[test]
    fn what_can_be_wanted_of_a_job_depends_on_what_it_is() {
        use JobPhase::*;
        use Wish::*;
        let outcome = |wish, phase| match wanted(&job("j", phase), Vec::new(), wish) {
            Ok(changed) if changed.is_empty() => "nothing",
            Ok(_) => "written",
            Err(_) => "refused",
        };
        for (wish, expected) in [
            (Cancel, ["written", "written", "written", "nothing", "nothing", "nothing"]),
            (Pause, ["written", "written", "written", "nothing", "nothing", "nothing"]),
            (Resume, ["nothing", "nothing", "nothing", "refused", "refused", "refused"]),
            (Retry, ["refused", "refused", "refused", "refused", "written", "written"]),
        ] {
            let found = [Pending, Running, Paused, Succeeded, Failed, Cancelled].map(|phase| outcome(wish, phase));
            assert_eq!(found, expected, "{wish:?}");
        }
    }

    #[test]
    fn who_waits_below_is_found_at_any_depth_and_goes_on() {
        let top = job("top", JobPhase::Running);
        let mut deep = child("middle", "deep", JobPhase::Paused);
        deep.status.escalated_generation = Some(1);
        let jobs = [deep, child("other", "stranger", JobPhase::Paused), child("top", "middle", JobPhase::Running)];
        let below = waiting_below(jobs.iter(), &top);
        assert_eq!(below.iter().map(|job| job.metadata.name.as_str()).collect::<Vec<_>>(), ["deep"]);
        let resumed = wanted(&top, below.clone(), Wish::Resume).unwrap();
        assert_eq!(resumed.iter().map(|job| job.status.escalated_generation).collect::<Vec<_>>(), [None]);
        let retried = wanted(&top, below, Wish::Retry).unwrap();
        assert_eq!(
            retried.iter().map(|job| (job.metadata.name.as_str(), job.spec.retry)).collect::<Vec<_>>(),
            [("deep", 1)]
        );
    }

    #[test]
    fn a_sub_job_whose_parent_has_gone_on_is_not_retried_alone() {
        let mut left = child("top", "left", JobPhase::Failed);
        assert_eq!(retried(&left, Vec::new()).unwrap().len(), 1);
        left.status.collected = true;
        assert!(retried(&left, Vec::new()).unwrap_err().ends_with("`tenure retry top`"));
    }
}
