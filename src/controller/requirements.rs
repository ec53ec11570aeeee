//! What must hold before a job begins. Each check is a workload of the job; its answer is a condition of the job, asked for
//! again after a while where it is no, and when the job's spec has changed. A job that has begun is not asked any more.

use super::flows::Pending;
use super::settle::{Process, Talk, World};
use crate::flow::{Flow, Requirement};
use crate::model::{Cause, Condition, Job, JobUid, SeenWorkload, Time, Workload};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long after it was found missing a requirement is asked for again.
const AGAIN: Duration = Duration::from_secs(30);

/// The conditions of a job that say whether its requirements hold.
const CONDITION: &str = "Requirement:";

/// The checks that run, or ran and were not heard yet, by job.
pub(super) type Checks<'a> = HashMap<&'a JobUid, Vec<(&'a Workload, Option<&'a SeenWorkload>)>>;

/// What keeps a job from beginning.
pub(super) struct Closed {
    /// What is missing; none: nothing that is known of.
    pub(super) missing: Option<Pending>,
    /// Whom to ask now.
    pub(super) ask: Vec<Requirement>,
    /// When to ask again.
    pub(super) due: Option<Time>,
}

/// Finds the checks among all workloads.
pub(super) fn checks<'a>(world: &World<'a>) -> Checks<'a> {
    let mut checks = Checks::new();
    let rows = world.desired.workloads.iter();
    for (uid, row) in rows.filter(|(_, row)| row.spec.requirement.is_some() && row.status.cause.is_none()) {
        let seen = world.observed.workloads.known().and_then(|trees| trees.get(uid));
        if let Some(owner) = row.spec.owners.first() {
            checks.entry(&owner.uid).or_default().push((row, seen));
        }
    }
    checks
}

/// Hears the checks of a job that have ended: each answer becomes a condition, and the row says that it was heard.
pub(super) fn hear(job: &mut Arc<Job>, checks: &Checks<'_>, talk: &dyn Talk, now: Time) -> Vec<Workload> {
    let mut heard = Vec::new();
    for (row, seen) in checks.get(&job.uid()).into_iter().flatten() {
        let (Some(name), Some(exit)) = (&row.spec.requirement, seen.and_then(|seen| seen.exit.as_ref())) else {
            continue;
        };
        let outcome = talk.outcome_of_process(Process::Requirement, row, exit);
        let message = outcome.result.err().map_or_else(|| "it holds".to_owned(), |failure| failure.message);
        let condition = Condition {
            r#type: format!("{CONDITION}{name}"),
            status: exit.code == Some(0),
            reason: if exit.code == Some(0) { "Holds" } else { "Missing" }.into(),
            message,
            last_transition_time: now,
            observed_generation: Some(job.metadata.generation),
        };
        let conditions = &mut Arc::make_mut(job).status.conditions;
        conditions.retain(|known| known.r#type != condition.r#type);
        conditions.push(condition);
        let mut row = Workload::clone(row);
        row.status.cause = Some(Cause::Exited);
        row.status.message = Some(format!("its main process ended: {exit}"));
        heard.push(row);
    }
    heard
}

/// What keeps a job, which would begin now, from it; none: all that it requires is there.
pub(super) fn closed(flow: &Flow, job: &Job, checks: &Checks<'_>, now: Time) -> Option<Closed> {
    let mut closed = Closed { missing: None, ask: Vec::new(), due: None };
    let (mut words, mut all_hold) = (Vec::new(), true);
    let asked = |requirement: &Requirement| {
        let rows = checks.get(&job.uid()).into_iter().flatten();
        rows.clone().any(|(row, _)| row.spec.requirement.as_ref() == Some(&requirement.name))
    };
    for requirement in flow.requires.iter().filter(|requirement| requirement.check.is_some()) {
        let known = condition(job, requirement);
        let current = known.filter(|known| known.observed_generation == Some(job.metadata.generation));
        if current.is_some_and(|known| known.status) {
            continue;
        }
        all_hold = false;
        words.extend(known.filter(|known| !known.status).map(|known| in_words(requirement, known)));
        let due = current.map(|known| known.last_transition_time.after(AGAIN));
        match due {
            // Further away than that it cannot be: the clock was set back since.
            Some(due) if due > now && due <= now.after(AGAIN) => {
                closed.due = Some(closed.due.map_or(due, |earlier| earlier.min(due)));
            }
            Some(_) | None if !asked(requirement) => closed.ask.push(requirement.clone()),
            Some(_) | None => {}
        }
    }
    closed.missing = (!words.is_empty()).then(|| Pending { reason: "RequirementMissing", message: words.join("; ") });
    (!all_hold).then_some(closed)
}

fn condition<'j>(job: &'j Job, requirement: &Requirement) -> Option<&'j Condition> {
    let name = |condition: &&Condition| condition.r#type.strip_prefix(CONDITION) == Some(&requirement.name);
    job.status.conditions.iter().find(name)
}

/// What is missing, and what to do.
fn in_words(requirement: &Requirement, condition: &Condition) -> String {
    let mut words = format!("`{}` is missing ({})", requirement.name, condition.message);
    if let Some(install) = &requirement.install {
        words.push_str(&format!("; install it: {install}"));
    }
    if let Some(url) = &requirement.url {
        words.push_str(&format!("; see {url}"));
    }
    words
}
