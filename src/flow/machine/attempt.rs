//! The work of a run: what is to be done, whether it may begin, and what has begun. How it ended is `outcome`'s matter.

use crate::flow::machine::wrap::{self, Next};
use crate::flow::machine::{mock, talk};
use crate::flow::text::substitute;
use crate::flow::{Decorator, Executor, Flow, Step};
use crate::model::{Part, RunPhase, StepRun, Time, Try, WorkloadUid};
use serde_json::{Value, json};
use std::borrow::Borrow;
use std::time::Duration;

/// What of a run is to be worked on next, or is being worked on.
#[derive(Debug, Clone, PartialEq)]
pub enum Task<'f> {
    /// The step's executor, or the one of a fallback.
    Work(&'f Executor),
    /// A post to a webhook of how the work ended.
    Notification {
        /// Where to.
        url: String,
        /// What.
        body: Value,
    },
}

/// What of a run is to be worked on next, or is being worked on; none for one that is final.
pub fn task<'f>(flow: &'f Flow, run: &StepRun) -> Option<Task<'f>> {
    let step = flow.steps.get(&run.spec.step)?;
    if run.status.phase.is_final() {
        return None;
    }
    match part(step, run)? {
        Part::Work => Some(Task::Work(&step.executor)),
        Part::Fallback(at) => match step.decorators.get(at) {
            Some(Decorator::Fallback(executor)) => Some(Task::Work(executor)),
            _ => None,
        },
        Part::Notification(at) => match step.decorators.get(at) {
            Some(Decorator::Notification { webhook_url }) => {
                Some(Task::Notification { url: substitute(webhook_url, &run.spec.inputs), body: body(run) })
            }
            _ => None,
        },
    }
}

/// The part that is under way, or comes next.
fn part(step: &Step, run: &StepRun) -> Option<Part> {
    if step.decorators.is_empty() {
        return Some(Part::Work);
    }
    if let Some(last) = run.status.tries.last().filter(|last| last.finished_at.is_none()) {
        return Some(last.part);
    }
    match wrap::as_written(step, run) {
        Next::Begin(part, ..) => Some(part),
        Next::UnderWay(_) | Next::Ended(_) => None,
    }
}

/// What a webhook is told.
fn body(run: &StepRun) -> Value {
    let worked = |it: &&Try| !matches!(it.part, Part::Notification(_)) && it.finished_at.is_some();
    let last = run.status.tries.iter().rev().find(worked);
    let failure = last.and_then(|last| last.failure.as_ref());
    json!({
        "job": run.spec.job,
        "step": run.spec.step,
        "attempt": run.spec.attempt,
        "status": if failure.is_some() { "failed" } else { "completed" },
        "outputs": last.and_then(|last| last.outputs.clone()),
        "error": failure.map(|failure| json!({"reason": failure.reason, "message": failure.message})),
    })
}

/// Whether a run may begin, or go on: it is pending and due, or the next check of a poll is; and its conversation, if it has
/// one, is free. `runs`: all of its job.
pub fn is_due<R: Borrow<StepRun>>(flow: &Flow, runs: &[R], run: &StepRun, now: Time) -> bool {
    let due = run.status.due_at.is_none_or(|due| due <= now);
    match run.status.phase {
        RunPhase::Pending => due && !talk::is_busy(flow, runs, run),
        RunPhase::Suspended => due && is_poll(flow, run),
        RunPhase::Running | RunPhase::Completed | RunPhase::Failed | RunPhase::Skipped | RunPhase::Cancelled => false,
    }
}

pub(super) fn is_poll(flow: &Flow, run: &StepRun) -> bool {
    matches!(task(flow, run), Some(Task::Work(Executor::Poll(_))))
}

/// The run once its work has begun, with this workload; none: what needs no process, a mock or a sub-flow.
pub fn begin(flow: &Flow, run: &StepRun, workload: Option<WorkloadUid>, now: Time) -> StepRun {
    let mut next = run.clone();
    let Some(step) = flow.steps.get(&run.spec.step) else { return next };
    let Some(task) = task(flow, run) else { return next };
    let asks = match &task {
        Task::Work(Executor::External { prompt }) => Some(prompt.as_deref()),
        _ => None,
    };
    let status = &mut next.status;
    status.phase = if asks.is_some() { RunPhase::Suspended } else { RunPhase::Running };
    status.reason = None;
    status.message = asks.flatten().map(|text| substitute(text, &run.spec.inputs));
    status.started_at.get_or_insert(now);
    status.workload = workload;
    if !step.decorators.is_empty()
        && status.tries.last().is_none_or(|last| last.finished_at.is_some())
        && let Some(part) = part(step, run)
    {
        status.tries.push(Try { part, started_at: now, finished_at: None, failure: None, outputs: None });
    }
    let due_at = match &task {
        // The time of the check that begins: the schedule is counted from it, however late it is.
        Task::Work(Executor::Poll(_)) => Some(run.status.due_at.unwrap_or(now)),
        Task::Work(Executor::Mock(mock)) => Some(now.after(mock::latency(mock, &next))),
        Task::Work(
            Executor::Script(_)
            | Executor::Agent(_)
            | Executor::Llm(_)
            | Executor::External { .. }
            | Executor::SubFlow(_),
        )
        | Task::Notification { .. } => None,
    };
    next.status.due_at = due_at;
    next
}

/// The next time of a schedule after `now`: what was missed is skipped.
pub(super) fn next_time(last: Time, interval: Duration, now: Time) -> Time {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let behind = now.0.saturating_sub(last.0).max(0);
    Time(last.0.saturating_add((behind / interval).saturating_add(1).saturating_mul(interval)))
}
