//! What is wrapped around the work of a step: which try follows, by what was tried so far.
//!
//! The answer is a function of the decorators, the tries, and the time, evaluated from the outside in; nothing else is
//! remembered. A try belongs to the innermost decorator that asks for one: it is taken from the list in its order. What
//! began after a timeout had run out is outside of it.
//!
//! Choices: a timeout counts from the beginning of the first try inside of it; the time in which a retry waits, also for a
//! place, is inside. Nothing makes up for `CostLimitExceeded`, neither a retry nor a fallback: it holds for the whole run.

use crate::flow::{Backoff, Decorator, Idempotency, Step};
use crate::model::{Failure, Part, RunPhase, StepRun, Time, Try};
use serde_json::{Map, Value};
use std::time::Duration;

/// The first wait of an exponential backoff, and the longest one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Failures that no second try mends: what they say does not change by itself.
const FINAL: [&str; 6] =
    ["ClassMissing", "ClassInvalid", "PromptMissing", "NotAList", "DerivedOutputInvalid", TOO_DEAR];

/// What costs too much does so whoever does the work.
const TOO_DEAR: &str = "CostLimitExceeded";

/// Where a timeout runs out: when, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bound {
    pub due: Time,
    pub limit: Duration,
}

impl Bound {
    /// What fails by it.
    pub fn failure(self) -> Failure {
        let message = format!("it took longer than {} s (`timeout`)", self.limit.as_secs_f64());
        Failure { reason: "Timeout".into(), message }
    }

    fn sooner(self, other: Option<Bound>) -> Bound {
        other.map_or(self, |other| self.min(other))
    }
}

/// Where the tries are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// This is to be tried, not before then; if it has not begun within this bound, something else follows.
    Begin(Part, Time, Option<Bound>),
    /// The last try is under way, and must have ended within this bound.
    UnderWay(Option<Bound>),
    /// They are over.
    Ended(Result<Map<String, Value>, Failure>),
}

/// Where the tries of a run of this step are, at this time.
pub(super) fn next(step: &Step, run: &StepRun, now: Time) -> Next {
    let earliest = run.status.created_at.unwrap_or(now);
    Walk { step, tries: &run.status.tries, taken: 0, last_end: earliest, now }.inside(0, earliest, None)
}

/// The same, as it was when the run's status was written: what `due_at` says of a run that waits was known then.
pub(super) fn as_written(step: &Step, run: &StepRun) -> Next {
    let known = run.status.due_at.filter(|_| run.status.phase == RunPhase::Pending);
    next(step, run, known.unwrap_or(Time(i64::MIN)))
}

struct Walk<'a> {
    step: &'a Step,
    tries: &'a [Try],
    taken: usize,
    last_end: Time,
    now: Time,
}

impl Walk<'_> {
    /// From this decorator on inwards, with the tries that began before `until`.
    fn inside(&mut self, at: usize, earliest: Time, until: Option<Time>) -> Next {
        match self.step.decorators.get(at) {
            None => self.try_of(Part::Work, earliest, until),
            Some(Decorator::Timeout(limit)) => self.timeout(at, *limit, earliest, until),
            Some(Decorator::Retry { max_retries, backoff }) => {
                self.retry(at, (*max_retries, *backoff), earliest, until)
            }
            Some(Decorator::Fallback(_)) => match self.inside(at + 1, earliest, until) {
                Next::Ended(Err(failure)) if failure.reason != TOO_DEAR => {
                    self.try_of(Part::Fallback(at), self.last_end, until)
                }
                other => other,
            },
            Some(Decorator::Notification { .. }) => match self.inside(at + 1, earliest, until) {
                // Whatever became of the post.
                Next::Ended(result) => match self.try_of(Part::Notification(at), self.last_end, until) {
                    Next::Ended(_) => Next::Ended(result),
                    other => other,
                },
                other => other,
            },
        }
    }

    fn try_of(&mut self, part: Part, earliest: Time, until: Option<Time>) -> Next {
        let next = self.tries.get(self.taken).filter(|it| until.is_none_or(|until| it.started_at < until));
        let Some(it) = next else { return Next::Begin(part, earliest, None) };
        self.taken += 1;
        let Some(end) = it.finished_at else { return Next::UnderWay(None) };
        self.last_end = end;
        Next::Ended(match &it.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(it.outputs.clone().unwrap_or_default()),
        })
    }

    fn timeout(&mut self, at: usize, limit: Duration, earliest: Time, until: Option<Time>) -> Next {
        let Some(first) = self.tries.get(self.taken) else { return self.inside(at + 1, earliest, until) };
        let due = first.started_at.after(limit);
        let until = Some(until.map_or(due, |until| until.min(due)));
        let bound = Bound { due, limit };
        let over = |last_end: &mut Time| {
            *last_end = (*last_end).max(due);
            Next::Ended(Err(bound.failure()))
        };
        let inside = self.inside(at + 1, earliest, until);
        // A try that is not inside tells that its time has come.
        let now = self.tries.get(self.taken).map_or(self.now, |later| self.now.max(later.started_at));
        match inside {
            Next::UnderWay(_) if due <= self.now => over(&mut self.last_end),
            Next::UnderWay(other) => Next::UnderWay(Some(bound.sooner(other))),
            // What cannot begin in time need not be waited for.
            Next::Begin(_, from, _) if due <= from.max(now) => over(&mut self.last_end),
            Next::Begin(part, from, other) => Next::Begin(part, from, Some(bound.sooner(other))),
            Next::Ended(result) => Next::Ended(result),
        }
    }

    fn retry(
        &mut self,
        at: usize,
        (max_retries, backoff): (u32, Backoff),
        earliest: Time,
        until: Option<Time>,
    ) -> Next {
        let mut earliest = earliest;
        let retriable = self.step.idempotency != Idempotency::NonRetriable;
        let mends = |failure: &Failure| retriable && !FINAL.contains(&failure.reason.as_str());
        for again in 0..=max_retries {
            match self.inside(at + 1, earliest, until) {
                Next::Ended(Err(failure)) if again < max_retries && mends(&failure) => {
                    earliest = self.last_end.after(wait(backoff, again));
                }
                other => return other,
            }
        }
        // The last round of the loop has returned.
        Next::Begin(Part::Work, earliest, None)
    }
}

/// How long to wait before the next try, after so many retries.
fn wait(backoff: Backoff, retries: u32) -> Duration {
    match backoff {
        Backoff::None => Duration::ZERO,
        Backoff::Exponential => FIRST_WAIT.saturating_mul(2_u32.saturating_pow(retries.min(16))).min(LAST_WAIT),
    }
}
