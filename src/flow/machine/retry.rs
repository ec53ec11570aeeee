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
        match self.status.phase {
            JobPhase::Failed | JobPhase::Cancelled => {}
            JobPhase::Paused if self.status.escalated_generation.is_some() => {}
            // There is nothing that failed.
            JobPhase::Pending | JobPhase::Running | JobPhase::Paused | JobPhase::Succeeded => return,
        }
        self.status.phase = JobPhase::Running;
        (self.status.reason, self.status.message, self.status.finished_at) = (None, None, None);
        (self.status.outputs, self.status.escalated_generation) = (None, None);
        self.status.started_at = self.status.started_at.map(|_| self.now);
        let again: Vec<RunAt> = (0..self.runs.len()).filter(|&at| self.is_to_be_retried(at)).collect();
        let steps: Vec<String> = again.iter().map(|&at| format!("`{}`", self.runs[at].spec.step)).collect();
        for at in again {
            let target = Some(self.runs[at].spec.step.clone());
            let decision = Decision { action: ExitAction::Loop, rule: None, target, retry: true };
            self.runs[at].to_mut().status.decision = Some(decision);
        }
        let message = if steps.is_empty() { "nothing had failed".to_owned() } else { steps.join(", ") };
        self.tell_of_job(EventType::Normal, "JobRetried", format!("tried again: {message}"));
    }

    fn is_to_be_retried(&self, at: RunAt) -> bool {
        let status = &self.runs[at].status;
        if self.is_current(at) != Some(true) {
            return false;
        }
        let action = status.decision.as_ref().map(|decision| decision.action);
        match status.phase {
            RunPhase::Failed => action != Some(ExitAction::Loop),
            RunPhase::Cancelled => true,
            RunPhase::Completed => matches!(action, Some(ExitAction::Abandon | ExitAction::Escalate)),
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended | RunPhase::Skipped => false,
        }
    }
}
