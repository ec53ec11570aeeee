//! One job's way through one pass: what is stored, until something about it changes.

use super::dependencies::{self, Before};
use super::ends::{self, Workloads};
use super::flows::{Flows, Known, Pending, Rest, file_of, hide, source_of, warning};
use super::outside;
use super::requirements::{self, Checks, Closed};
use super::results;
use super::settle::World;
use crate::flow::{self, Effect, Flow, Requirement, Secrets, Sensitive};
use crate::model::{
    AnyObject, Event, Job, JobPhase, JobState, JobUid, Outcome, RunPhase, Runs, Snapshot, StepRun, Time, run_named,
};
use crate::store::Txn;
use std::borrow::Cow;
use std::sync::Arc;

/// A job under way through one pass: what is stored, until something about it changes.
pub(super) struct JobNext<'a> {
    pub(super) uid: &'a JobUid,
    stored_job: &'a Arc<Job>,
    stored_runs: Option<&'a Arc<Runs>>,
    pub(super) job: Arc<Job>,
    pub(super) runs: Arc<Runs>,
    pub(super) events: Vec<Event>,
    /// None: there is none (yet), or it is not needed any more.
    pub(super) flow: Option<Arc<Flow>>,
    /// The checks that should begin.
    pub(super) asks: Vec<Requirement>,
}

impl<'a> JobNext<'a> {
    pub(super) fn new(uid: &'a JobUid, job: &'a Arc<Job>, runs: Option<&'a Arc<Runs>>) -> JobNext<'a> {
        JobNext {
            uid,
            stored_job: job,
            stored_runs: runs,
            job: job.clone(),
            runs: runs.cloned().unwrap_or_default(),
            events: Vec::new(),
            flow: None,
            asks: Vec::new(),
        }
    }

    /// The directory that relative paths in its flow are relative to.
    pub(super) fn flow_dir(&self) -> Option<&str> {
        self.job.status.flow_dir.as_deref()
    }

    /// Whether nothing more comes of it: it is here for what refers to it.
    pub(super) fn is_at_rest(&self) -> bool {
        self.job.is_over() && self.runs.iter().all(|run| run.status.phase.is_final())
    }

    /// Finds its flow, and until it begins the values that it was not given; or says why it cannot begin.
    pub(super) fn find_flow(&mut self, world: &World<'_>, flows: &mut Flows) -> Result<(), Pending> {
        let flow = flows.flow_of(self.uid, &self.job, world.desired)?;
        self.flow = Some(flow.clone());
        self.pin_flow(world.desired);
        // From then on they stay as they were.
        if self.job.status.started_at.is_some() || self.job.status.phase.is_terminal() || flow.inputs.is_empty() {
            return Ok(());
        }
        let config = file_of(&self.job, world.desired).and_then(|file| outside::config_of(&file));
        let vars = outside::vars(&flow, &self.job, config.as_deref(), world.outside)
            .map_err(|message| Pending { reason: "ConfigInvalid", message })?;
        if self.job.status.vars != vars {
            Arc::make_mut(&mut self.job).status.vars = vars;
        }
        Ok(())
    }

    /// The runs that may begin now, with the time since when.
    pub(super) fn due(&self, now: Time) -> impl Iterator<Item = (Time, usize)> {
        let may_begin = |run: &StepRun| matches!(run.status.phase, RunPhase::Pending | RunPhase::Suspended);
        let is_due = move |run: &StepRun| {
            self.flow.as_ref().is_some_and(|flow| may_begin(run) && flow::is_due(flow, &self.runs, run, now))
        };
        let due = self.runs.iter().enumerate().filter(move |(_, run)| is_due(run));
        due.map(move |(at, run)| (run.status.due_at.or(run.status.created_at).unwrap_or(now), at))
    }

    /// Where the result of an equal run was kept, it is taken instead of the work.
    pub(super) fn take_results(&mut self, world: &World<'_>) {
        let Some(flow) = self.flow.clone().filter(|flow| flow.steps.values().any(|step| step.cache.is_some())) else {
            return;
        };
        let due: Vec<usize> = self.due(world.now).map(|(_, at)| at).collect();
        for at in due {
            if let Some(run) = results::taken(&flow, &self.job, &self.runs[at], world) {
                Arc::make_mut(&mut self.runs)[at] = run.into();
            }
        }
    }

    /// Makes the run at this place what the outcome makes of it.
    pub(super) fn finish(&mut self, place: usize, outcome: &Outcome, now: Time) {
        let Some(flow) = &self.flow else { return };
        if let Some(run) = Arc::make_mut(&mut self.runs).get_mut(place) {
            *run = flow::finish(flow, run, outcome, now).into();
        }
    }

    /// Follows what the jobs before this one mean for it. False: it does not begin now.
    pub(super) fn follow(&mut self, before: Before, now: Time) -> bool {
        // Who is to end, ends; whoever it waits for.
        let is_to_end = self.job.spec.state == JobState::Cancelled || self.job.metadata.deletion_timestamp.is_some();
        match before {
            _ if is_to_end => true,
            Before::Done(values) => {
                if values.iter().any(|(name, value)| self.job.status.vars.get(name) != Some(value)) {
                    Arc::make_mut(&mut self.job).status.vars.extend(values);
                }
                true
            }
            Before::Wait(reason, message, seen) => {
                dependencies::note_seen(&mut self.job, &seen, now);
                self.wait(Pending { reason, message }, now);
                false
            }
            Before::Fail(reason, message) => {
                let status = &mut Arc::make_mut(&mut self.job).status;
                status.phase = JobPhase::Failed;
                status.reason = Some(reason.to_owned());
                status.message = Some(message.clone());
                status.finished_at = Some(now);
                self.tell("JobFailed", format!("{reason}: {message}"), now);
                false
            }
        }
    }

    fn tell(&mut self, reason: &str, message: String, now: Time) {
        self.events.push(warning(&self.job, reason, message, now));
    }

    /// Notes why the job can not begin.
    pub(super) fn wait(&mut self, pending: Pending, now: Time) {
        let status = &self.job.status;
        let told =
            status.reason.as_deref() == Some(pending.reason) && status.message.as_ref() == Some(&pending.message);
        if told || status.phase.is_terminal() {
            return;
        }
        let job = Arc::make_mut(&mut self.job);
        // A job that nobody wants to run any more needs no flow for that.
        if job.spec.state == JobState::Cancelled {
            job.status.phase = JobPhase::Cancelled;
            job.status.reason = Some("Cancelled".into());
            job.status.finished_at = Some(now);
            return;
        }
        job.status.reason = Some(pending.reason.into());
        job.status.message = Some(pending.message.clone());
        self.tell(pending.reason, pending.message, now);
    }

    /// From its first pass on, a job runs the flow as it was then.
    fn pin_flow(&mut self, desired: &Snapshot) {
        if self.job.status.flow.is_none()
            && let Some((value, dir)) = source_of(&self.job, desired)
        {
            let value = match &self.job.spec.flow {
                Some(own) if std::ptr::eq(&raw const **own, value) => own.clone(),
                _ => Arc::new(value.clone()),
            };
            let job = Arc::make_mut(&mut self.job);
            job.status.flow = Some(value);
            job.status.flow_dir = dir;
        }
    }

    pub(super) fn take_outcomes(&mut self, world: &World<'_>, workloads: &Workloads<'_>) {
        let Some(flow) = self.flow.clone() else { return };
        for at in 0..self.runs.len() {
            if self.runs[at].status.phase != RunPhase::Running {
                continue;
            }
            if self.runs[at].status.session.is_none()
                && let Some(session) = world.talk.session_of(&self.runs[at])
            {
                Arc::make_mut(&mut Arc::make_mut(&mut self.runs)[at]).status.session = Some(session);
            }
            if let Some(outcome) = ends::outcome_of(&flow, &self.runs[at], world, workloads) {
                let finished = ends::finished(&flow, &self.runs[at], outcome, world);
                Arc::make_mut(&mut self.runs)[at] = finished.into();
            }
        }
    }

    /// Takes the job as far as it goes; gives when the time alone asks for something. A state that was seen to ask for nothing
    /// is not asked again.
    pub(super) fn go_on(
        &mut self,
        known: Option<&mut Known>,
        wanted: JobState,
        checks: &Checks<'_>,
        now: Time,
    ) -> Option<Time> {
        let flow = self.flow.clone()?;
        let rest = known.as_ref().and_then(|known| known.rest.as_ref());
        if let Some(rest) = rest.filter(|rest| rest.holds(&self.job, &self.runs, wanted, now)) {
            return rest.due;
        }
        let before = self.job.clone();
        if before.spec.state != wanted {
            Arc::make_mut(&mut self.job).spec.state = wanted;
        }
        let effects = flow::advance(&flow, &self.job, &self.runs, now);
        let begins = |effect: &Effect| matches!(effect, Effect::Job(status) if status.started_at.is_some());
        let closed = if self.job.status.started_at.is_none() && effects.iter().any(begins) {
            requirements::closed(&flow, &self.job, checks, now)
        } else {
            None
        };
        let (asks, waits) = (!effects.is_empty(), closed.is_some());
        let mut due = closed.and_then(|closed| self.stay(closed, now));
        if asks && !waits {
            let (job, runs) = (Arc::make_mut(&mut self.job), Arc::make_mut(&mut self.runs));
            let effects = flow::follow(&flow, job, runs, effects, now);
            self.events.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Event(event) => Some(event),
                Effect::Job(_) | Effect::Run(_) => None,
            }));
        }
        // What it says itself is the person's word, and stays.
        if before.spec.state != wanted {
            match asks {
                true => Arc::make_mut(&mut self.job).spec.state = before.spec.state,
                false => self.job = before,
            }
        }
        if !waits {
            due = flow::next_wake(&flow, &self.job, &self.runs, now);
        }
        if let Some(known) = known.filter(|_| !asks) {
            known.rest = Some(Rest { job: self.job.clone(), runs: self.runs.clone(), wanted, due });
        }
        due
    }

    /// Stays where it is until what it requires is there; gives when that is to be asked for again.
    fn stay(&mut self, closed: Closed, now: Time) -> Option<Time> {
        self.asks = closed.ask;
        if let Some(missing) = closed.missing {
            self.wait(missing, now);
        }
        closed.due
    }

    /// What differs from what is stored.
    pub(super) fn changes(self, mut txn: Txn, now: Time) -> Txn {
        // Events outlive their job, and are logged: what is sensitive does not get into them.
        let mut secrets = Secrets::default();
        if let (false, Some(flow)) = (self.events.is_empty(), &self.job.status.flow) {
            let known = self.flow.as_ref().map(|flow| Cow::Borrowed(&flow.sensitive));
            let sensitive = known.unwrap_or_else(|| Cow::Owned(Sensitive::of(flow)));
            hide(&mut secrets, &sensitive, &self.job, self.runs.iter().map(|run| &**run));
        }
        let mut changed = false;
        if !Arc::ptr_eq(self.stored_job, &self.job) && *self.stored_job != self.job {
            txn = txn.put(AnyObject::Job(Arc::unwrap_or_clone(self.job)));
            changed = true;
        }
        if !self.stored_runs.is_some_and(|runs| Arc::ptr_eq(runs, &self.runs)) {
            let stored: &[Arc<StepRun>] = self.stored_runs.map(|runs| runs.as_slice()).unwrap_or_default();
            for (at, run) in self.runs.iter().enumerate() {
                // Most are where they were, and as they were.
                if stored.get(at).is_some_and(|before| Arc::ptr_eq(before, run)) {
                    continue;
                }
                let before = run_named(stored, &run.metadata.name);
                if before != Some(run) {
                    let before = before.map(|before| &**before);
                    let kept = |flow: &Arc<Flow>| results::kept(flow, self.stored_job, before, run, now);
                    if let Some((key, value)) = self.flow.as_ref().and_then(kept) {
                        txn = txn.meta(key, value);
                    }
                    txn = txn.put(AnyObject::StepRun(StepRun::clone(run)));
                    changed = true;
                }
            }
        }
        // An event without a change would be told again in each pass.
        if changed {
            for event in self.events {
                let message = secrets.mask_text(&event.message).into_owned();
                txn = txn.event(Event { message, ..event });
            }
        }
        txn
    }
}
