//! A person's retry: the failed steps of a job are tried again, in place.
//!
//! `spec.retry` counts how often it was asked for, `status.retried` what was acted upon. A job that has ended, but has not
//! succeeded, goes on, and so does one that waits for a person: each current run that ended the job, or ended with it, is
//! sent back to its own step as by a rule, so that what is downstream of it is superseded. Its time begins anew.

use crate::flow::machine::work::{RunAt, Work};
use crate::model::{Decision, EventType, ExitAction, JobPhase, RunPhase};

impl Work<'_> {
    /// Acts upon a retry, once.
    pub fn take_retry(&mut self) {
        if self.job.spec.retry <= self.status.retried {
            return;
        }
        self.status.retried = self.job.spec.retry;
        let escalated = match self.status.phase {
            JobPhase::Failed | JobPhase::Cancelled => false,
            JobPhase::Paused if self.status.escalated_generation.is_some() => true,
            // There is nothing that failed.
            JobPhase::Pending | JobPhase::Running | JobPhase::Paused | JobPhase::Succeeded => return,
        };
        self.status.phase = JobPhase::Running;
        (self.status.reason, self.status.message, self.status.finished_at) = (None, None, None);
        (self.status.outputs, self.status.escalated_generation) = (None, None);
        self.status.started_at = self.status.started_at.map(|_| self.now);
        let again: Vec<RunAt> = (0..self.runs.len()).filter(|&at| self.is_to_be_retried(at, escalated)).collect();
        let steps: Vec<String> = again.iter().map(|&at| format!("`{}`", self.runs[at].spec.step)).collect();
        for at in again {
            let target = Some(self.runs[at].spec.step.clone());
            let decision = Decision { action: ExitAction::Loop, rule: None, target, retry: true };
            self.runs[at].to_mut().status.decision = Some(decision);
        }
        let message = if steps.is_empty() { "nothing had failed".to_owned() } else { steps.join(", ") };
        self.tell_of_job(EventType::Normal, "JobRetried", format!("tried again: {message}"));
    }

    fn is_to_be_retried(&self, at: RunAt, escalated: bool) -> bool {
        let status = &self.runs[at].status;
        if self.is_current(at) != Some(true) {
            return false;
        }
        let action = status.decision.as_ref().map(|decision| decision.action);
        match status.phase {
            RunPhase::Failed => action != Some(ExitAction::Loop),
            RunPhase::Cancelled => true,
            RunPhase::Completed => match action {
                Some(ExitAction::Abandon) => true,
                Some(ExitAction::Escalate) => escalated && !self.is_a_source(at),
                Some(ExitAction::Advance | ExitAction::Loop) | None => false,
            },
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended | RunPhase::Skipped => false,
        }
    }

    /// Whether a run has begun because of this one: an escalation that a person let pass.
    fn is_a_source(&self, at: RunAt) -> bool {
        let spec = &self.runs[at].spec;
        let names_it = |(step, attempt): &(String, u32)| *step == spec.step && *attempt == spec.attempt;
        self.runs.iter().any(|run| run.spec.sources.iter().any(names_it))
    }
}
