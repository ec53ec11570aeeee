//! What is wrapped around the work of a step: which try follows, by what was tried so far.
//!
//! The answer is a function of the decorators, the tries, and the time, evaluated from the outside in; nothing else is
//! remembered. A try belongs to the innermost decorator that asks for one: it is taken from the list in its order. What
//! began after a timeout had run out is outside of it.

use crate::flow::{Backoff, Decorator, Idempotency, Step};
use crate::model::{Failure, Part, Time, Try};
use serde_json::{Map, Value};
use std::time::Duration;

/// The first wait of an exponential backoff, and the longest one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// Failures that no second try mends: what they say does not change by itself.
const FINAL: [&str; 6] =
    ["ClassMissing", "ClassInvalid", "PromptMissing", "NotAList", "DerivedOutputInvalid", "CostLimitExceeded"];

/// Where the tries are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// This is to be tried, not before then.
    Begin(Part, Time),
    /// The last try is under way, and must have ended by then, if ever.
    UnderWay(Option<Time>),
    /// They are over.
    Ended(Result<Map<String, Value>, Failure>),
}

/// Where the tries of a run of this step are, whose work may begin from `earliest` on.
pub(super) fn next(step: &Step, tries: &[Try], earliest: Time, now: Time) -> Next {
    Walk { step, tries, taken: 0, last_end: earliest, now }.inside(0, earliest, None)
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
                Next::Ended(Err(_)) => self.try_of(Part::Fallback(at), self.last_end, until),
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
        let Some(it) = next else { return Next::Begin(part, earliest) };
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
        let over = |last_end: &mut Time| {
            *last_end = (*last_end).max(due);
            let message = format!("it took longer than {} s (`timeout`)", limit.as_secs_f64());
            Next::Ended(Err(Failure { reason: "Timeout".into(), message }))
        };
        match self.inside(at + 1, earliest, until) {
            Next::UnderWay(_) if due <= self.now => over(&mut self.last_end),
            Next::UnderWay(sooner) => Next::UnderWay(Some(sooner.map_or(due, |sooner| sooner.min(due)))),
            // What cannot begin in time need not be waited for.
            Next::Begin(_, from) if due <= from.max(self.now) => over(&mut self.last_end),
            other => other,
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
        Next::Begin(Part::Work, earliest)
    }
}

/// How long to wait before the next try, after so many retries.
fn wait(backoff: Backoff, retries: u32) -> Duration {
    match backoff {
        Backoff::None => Duration::ZERO,
        Backoff::Exponential => FIRST_WAIT.saturating_mul(2_u32.saturating_pow(retries.min(16))).min(LAST_WAIT),
    }
}
