//! What the job should be doing: its spec, its inputs, its deadline, and what a person did about an escalation.
//!
//! An escalated job goes on when its `metadata.generation` exceeds the one that it was escalated at: when a person has
//! changed its spec since, for instance to `state: Paused` and back. The run that escalated then counts as advanced.

use crate::flow::Executor;
use crate::flow::machine::inputs::resolve_job_inputs;
use crate::flow::machine::outcome::{close_try, follow_tries};
use crate::flow::machine::work::Work;
use crate::flow::machine::{Task, deadline, finish, mock, overdue_at, task, wrapped_until};
use crate::model::{EventType, JobPhase, JobState, RunPhase};

/// What this pass may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Nothing: the job is terminal.
    Ended,
    /// Nothing: the job can not begin.
    Waiting,
    /// Answer what has ended, start nothing.
    Held,
    /// Everything.
    Going,
}

impl Work<'_> {
    /// Brings the job's phase in line with what is wanted of it.
    pub fn set_course(&mut self) -> Course {
        self.take_retry();
        if self.status.phase.is_terminal() {
            self.cancel_all();
            return Course::Ended;
        }
        let given = resolve_job_inputs(self.flow, &self.job.spec.inputs, &self.job.status.vars);
        if let Ok(values) = &given {
            self.inputs.clone_from(values);
        }
        if self.job.metadata.deletion_timestamp.is_some() {
            return self.ended(JobPhase::Cancelled, "Deleted", "the job is being deleted".into());
        }
        if deadline(self.job, &self.status).is_some_and(|at| at <= self.now) {
            let span = self.job.spec.deadline.unwrap_or_default();
            return self.ended(JobPhase::Failed, "DeadlineExceeded", format!("not done within {span}"));
        }
        let acted_upon = |escalated: u64| self.job.metadata.generation > escalated;
        if self.status.escalated_generation.is_some_and(acted_upon) {
            self.status.escalated_generation = None;
        }
        match (self.job.spec.state, self.status.escalated_generation, self.status.started_at) {
            (JobState::Cancelled, _, _) => {
                self.ended(JobPhase::Cancelled, "Cancelled", "`spec.state` is `Cancelled`".into())
            }
            (JobState::Paused | JobState::Running, Some(_), _) => Course::Held,
            (JobState::Paused, None, _) => self.pause(),
            (JobState::Running, None, Some(_)) => self.resume(),
            (JobState::Running, None, None) => match given {
                Ok(_) => self.begin(),
                Err((reason, message)) => self.wait(reason, message),
            },
        }
    }

    /// Fails the runs that have taken too long, and ends the tries that have.
    pub fn expire_runs(&mut self) {
        for at in 0..self.runs.len() {
            let run = &self.runs[at];
            if run.status.phase.is_final() {
                continue;
            }
            let Some(step) = self.flow.steps.get(&run.spec.step) else { continue };
            if overdue_at(self.flow, run).is_some_and(|due| due <= self.now) {
                let seconds = step.limits.max_duration.unwrap_or_default().as_secs_f64();
                let message = format!("it took longer than {seconds} s (`max_duration_minutes`)");
                self.close_run(at, RunPhase::Failed, "DurationLimitExceeded", message);
            } else if let Some(bound) = wrapped_until(self.flow, run).filter(|bound| bound.due <= self.now) {
                let now = self.now;
                let run = self.runs[at].to_mut();
                close_try(run, Err(bound.failure()), now);
                follow_tries(step, run, now);
            }
        }
    }

    /// Gives the answers of mocks that are due.
    pub fn answer_mocks(&mut self) {
        for at in 0..self.runs.len() {
            let run = &self.runs[at];
            let due = run.status.phase == RunPhase::Running && run.status.due_at.is_none_or(|due| due <= self.now);
            if !due || run.status.workload.is_some() {
                continue;
            }
            if let Some(Task::Work(Executor::Mock(mock))) = task(self.flow, run) {
                let declared = self.flow.steps.get(&run.spec.step).map(|step| &step.outputs);
                let outcome = mock::outcome(mock, declared.unwrap_or(&Default::default()), run);
                *self.runs[at].to_mut() = finish(self.flow, &self.runs[at].clone(), &outcome, self.now);
            }
        }
    }

    /// Waits for a person: a rule asked for one.
    pub fn escalate(&mut self, message: String) {
        if self.status.escalated_generation.is_some() {
            return;
        }
        self.status.phase = JobPhase::Paused;
        self.status.reason = Some("Escalated".into());
        self.status.message = Some(message.clone());
        self.status.escalated_generation = Some(self.job.metadata.generation);
        self.tell_of_job(EventType::Warning, "Escalated", message);
    }

    fn ended(&mut self, phase: JobPhase, reason: &str, message: String) -> Course {
        self.end(phase, reason, message);
        Course::Ended
    }

    fn wait(&mut self, reason: &str, message: String) -> Course {
        let is_news = self.status.reason.as_deref() != Some(reason) || self.status.message.as_ref() != Some(&message);
        self.status.phase = JobPhase::Pending;
        self.status.reason = Some(reason.to_owned());
        self.status.message = Some(message.clone());
        if is_news {
            self.tell_of_job(EventType::Warning, reason, message);
        }
        Course::Waiting
    }

    fn pause(&mut self) -> Course {
        let message = "`spec.state` is `Paused`".to_owned();
        if self.status.phase != JobPhase::Paused {
            self.tell_of_job(EventType::Normal, "Paused", message.clone());
        }
        self.status.phase = JobPhase::Paused;
        self.status.reason = Some("Paused".into());
        self.status.message = Some(message);
        Course::Held
    }

    fn begin(&mut self) -> Course {
        self.status.started_at = Some(self.now);
        self.go("JobStarted", "its steps run as they become ready".into())
    }

    fn resume(&mut self) -> Course {
        match self.status.phase {
            JobPhase::Running => Course::Going,
            JobPhase::Pending | JobPhase::Paused | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => {
                self.go("JobResumed", "new steps may start again".into())
            }
        }
    }

    fn go(&mut self, word: &str, message: String) -> Course {
        self.status.phase = JobPhase::Running;
        self.status.reason = None;
        self.status.message = None;
        self.tell_of_job(EventType::Normal, word, message);
        Course::Going
    }
}
