//! The state while it is worked on: what was given, what has changed, and which runs are current.

use crate::flow::machine::Effect;
use crate::flow::machine::graph::{Graph, Node};
use crate::flow::{Executor, Flow};
use crate::model::{
    Event, EventType, ExitAction, Failure, Job, JobPhase, JobStatus, Kind, Meta, RunPhase, RunSpec, RunStatus, StepRun,
    Time,
};
use serde_json::{Map, Value};
use smallvec::SmallVec;
use std::collections::HashSet;
use std::ops::Deref;

/// A run, by its place in the list of all.
pub(super) type RunAt = usize;

/// The runs of one step, by attempt: mostly there is one.
pub(super) type Attempts = SmallVec<[RunAt; 2]>;

/// A run: as it was given, or as it will be. Small, since there may be thousands of the first.
pub(super) enum Version<'a> {
    Given(&'a StepRun),
    Changed(Box<StepRun>),
}

impl Deref for Version<'_> {
    type Target = StepRun;

    fn deref(&self) -> &StepRun {
        match self {
            Version::Given(run) => run,
            Version::Changed(run) => run,
        }
    }
}

impl Version<'_> {
    /// The run, to be changed.
    pub fn to_mut(&mut self) -> &mut StepRun {
        if let Version::Given(run) = self {
            *self = Version::Changed(Box::new(run.clone()));
        }
        match self {
            Version::Changed(run) => run,
            Version::Given(_) => unreachable!("it was changed just now"),
        }
    }
}

/// One pass over one job.
pub(super) struct Work<'a> {
    pub graph: &'a Graph<'a>,
    pub flow: &'a Flow,
    pub job: &'a Job,
    pub now: Time,
    /// The job's status as it will be.
    pub status: JobStatus,
    /// The job's inputs, resolved.
    pub inputs: Map<String, Value>,
    /// The runs as they will be.
    pub runs: Vec<Version<'a>>,
    /// The step of each run; none: the flow does not have it.
    step_of: Vec<Option<Node>>,
    /// Of each step, by attempt.
    pub of_step: Vec<Attempts>,
    /// What is older than this is superseded: by a loop run at the step or upstream of it, …
    barrier: Vec<u32>,
    /// … or upstream of it only.
    inherited: Vec<u32>,
    /// The runs that caused another, as (step, attempt).
    causes: HashSet<(String, u32)>,
    events: Vec<Event>,
    last_order: u32,
}

/// What a new run has from its sources.
#[derive(Debug, Default)]
pub(super) struct Supply {
    pub inputs: Map<String, Value>,
    pub sources: Vec<(String, u32)>,
    /// For `for_each`: the list.
    pub list: Option<Value>,
}

impl<'a> Work<'a> {
    pub fn new(graph: &'a Graph<'a>, flow: &'a Flow, job: &'a Job, runs: &[&'a StepRun], now: Time) -> Work<'a> {
        let mut of_step: Vec<Attempts> = graph.steps.iter().map(|_| Attempts::new()).collect();
        let step_of: Vec<Option<Node>> = runs.iter().map(|run| graph.node(&run.spec.step)).collect();
        for (at, node) in step_of.iter().enumerate() {
            if let Some(node) = node {
                of_step[*node].push(at);
            }
        }
        for places in of_step.iter_mut().filter(|places| places.len() > 1) {
            places.sort_unstable_by_key(|&at| runs[at].spec.attempt);
        }
        let mut work = Work {
            graph,
            flow,
            job,
            now,
            status: job.status.clone(),
            inputs: Map::new(),
            of_step,
            barrier: vec![0; graph.steps.len()],
            inherited: vec![0; graph.steps.len()],
            causes: runs.iter().filter_map(|run| run.spec.cause.clone()).collect(),
            events: Vec::new(),
            last_order: runs.iter().map(|run| run.spec.order).max().unwrap_or(0),
            runs: runs.iter().copied().map(Version::Given).collect(),
            step_of,
        };
        work.raise_barriers();
        work
    }

    /// The changes: runs in the order of their making, the job, the events.
    pub fn into_effects(mut self) -> Vec<Effect> {
        self.add_up_cost();
        let mut effects: Vec<Effect> = Vec::new();
        for run in self.runs {
            if let Version::Changed(run) = run {
                effects.push(Effect::Run(*run));
            }
        }
        if self.status != self.job.status {
            effects.push(Effect::Job(self.status));
        }
        effects.extend(self.events.into_iter().map(Effect::Event));
        effects
    }

    /// The newest attempt of a step.
    pub fn newest(&self, node: Node) -> Option<RunAt> {
        self.of_step[node].last().copied()
    }

    /// The current run of a step.
    pub fn current(&self, node: Node) -> Option<RunAt> {
        self.newest(node).filter(|&at| self.runs[at].spec.order >= self.barrier[node])
    }

    /// Whether this run is the current one of its step; `None` for a step that the flow does not have.
    pub fn is_current(&self, at: RunAt) -> Option<bool> {
        let node = self.step_of[at]?;
        Some(self.current(node) == Some(at))
    }

    /// The step of a run; none: the flow does not have it.
    pub fn step_of(&self, at: RunAt) -> Option<Node> {
        self.step_of[at]
    }

    /// How new a run of this step must be.
    pub fn barrier(&self, node: Node) -> u32 {
        self.barrier[node]
    }

    /// The order of the first run of the present chain of iterations of a loop's target: its newest run that no loop asked
    /// for, or the first one since what is upstream of it was run again.
    pub fn loop_began(&self, target: Node) -> u32 {
        let fresh = self.of_step[target].iter().map(|&at| &self.runs[at].spec).filter(|spec| spec.cause.is_none());
        let newest_fresh = fresh.map(|spec| spec.order).max().unwrap_or(0);
        newest_fresh.max(self.inherited[target] + 1)
    }

    /// For a run that its rules sent back: the target, while no run was made for it.
    pub fn open_loop(&self, at: RunAt) -> Option<Node> {
        let run = &self.runs[at];
        let decision = run.status.decision.as_ref().filter(|decision| decision.action == ExitAction::Loop)?;
        let answered = self.causes.contains(&(run.spec.step.clone(), run.spec.attempt));
        let target = || decision.target.as_deref().map_or(self.step_of[at], |target| self.graph.node(target));
        if answered { None } else { target() }
    }

    /// Whether this run was sent back to a step that it depends on, and no run was made for it: it satisfies nobody. (One
    /// that was sent elsewhere is not superseded by what it asked for.)
    pub fn is_sent_back(&self, at: RunAt) -> bool {
        let loops = self.open_loop(at).zip(self.step_of[at]);
        loops.is_some_and(|(target, node)| target == node || self.graph.downstream(target).contains(&node))
    }

    /// Whether any run may still end.
    pub fn in_motion(&self) -> bool {
        self.runs.iter().any(|run| !run.status.phase.is_final())
    }

    /// Makes the next run of a step. One with a cause supersedes what is downstream.
    pub fn make_run(&mut self, node: Node, supply: Supply, cause: Option<RunAt>, status: RunStatus) -> RunAt {
        let step = self.graph.steps[node];
        let attempt = self.newest(node).map_or(1, |at| self.runs[at].spec.attempt + 1);
        self.last_order += 1;
        let adopts = cause.and_then(|at| self.adopted(node, at));
        let cause = cause.map(|at| (self.runs[at].spec.step.clone(), self.runs[at].spec.attempt));
        let items = supply.list.and_then(|list| match list {
            Value::Array(items) => Some(items),
            _ => None,
        });
        let spec = RunSpec {
            job: self.job.metadata.name.clone(),
            job_uid: self.job.uid(),
            step: step.name.clone(),
            attempt,
            inputs: supply.inputs,
            sources: supply.sources,
            order: self.last_order,
            cause: cause.clone(),
            items,
            adopts,
        };
        let name = format!("{}.{}.{attempt}", spec.job, spec.step);
        self.of_step[node].push(self.runs.len());
        self.runs.push(Version::Changed(Box::new(StepRun { metadata: Meta::named(name), spec, status })));
        self.step_of.push(Some(node));
        if let Some(cause) = cause {
            self.causes.insert(cause);
            self.supersede_downstream(node, self.last_order);
        }
        self.runs.len() - 1
    }

    /// The attempt whose sub-jobs a run goes on with that a person wanted instead of this one.
    fn adopted(&self, node: Node, cause: RunAt) -> Option<u32> {
        let run = &self.runs[cause];
        let by_person = run.status.decision.as_ref().is_some_and(|decision| decision.retry);
        let is_sub_flow = matches!(self.graph.steps[node].executor, Executor::SubFlow(_));
        (by_person && is_sub_flow).then(|| run.spec.adopts.unwrap_or(run.spec.attempt))
    }

    /// Makes a run final.
    pub fn close_run(&mut self, at: RunAt, phase: RunPhase, reason: &str, message: String) {
        let now = self.now;
        let status = &mut self.runs[at].to_mut().status;
        status.phase = phase;
        status.reason = Some(reason.to_owned());
        status.finished_at = Some(now);
        status.due_at = None;
        if let Some(open) = status.tries.last_mut().filter(|last| last.finished_at.is_none()) {
            open.finished_at = Some(now);
            open.failure = Some(Failure { reason: reason.to_owned(), message: message.clone() });
        }
        status.message = Some(message);
    }

    /// Cancels a run that is in motion, if it is superseded.
    pub fn cancel_if_superseded(&mut self, at: RunAt) {
        let run = &self.runs[at];
        if run.status.phase.is_final() || self.is_current(at) != Some(false) {
            return;
        }
        let message = format!("a loop runs what `{}` depends on again", run.spec.step);
        self.close_run(at, RunPhase::Cancelled, "Superseded", message.clone());
        self.tell_of_run(at, EventType::Normal, "Superseded", message);
    }

    /// The same for all runs.
    pub fn cancel_superseded(&mut self) {
        for at in 0..self.runs.len() {
            self.cancel_if_superseded(at);
        }
    }

    /// Ends the job, and with it every run that is in motion.
    pub fn end(&mut self, phase: JobPhase, reason: &str, message: String) {
        self.status.phase = phase;
        self.status.reason = Some(reason.to_owned());
        self.status.message = Some(message.clone());
        self.status.finished_at = Some(self.now);
        self.status.escalated_generation = None;
        self.cancel_all();
        let (kind, word) = match phase {
            JobPhase::Succeeded => (EventType::Normal, "JobSucceeded"),
            JobPhase::Cancelled => (EventType::Normal, "JobCancelled"),
            JobPhase::Failed | JobPhase::Pending | JobPhase::Running | JobPhase::Paused => {
                (EventType::Warning, "JobFailed")
            }
        };
        self.tell_of_job(kind, word, format!("{reason}: {message}"));
    }

    /// Cancels every run that is in motion: the job has ended.
    pub fn cancel_all(&mut self) {
        let word = self.status.phase.as_str();
        let reason = self.status.reason.clone().unwrap_or_else(|| word.to_owned());
        for at in 0..self.runs.len() {
            if !self.runs[at].status.phase.is_final() {
                self.close_run(at, RunPhase::Cancelled, "JobEnded", format!("its job is {word}: {reason}"));
            }
        }
    }

    /// An event of the job.
    pub fn tell_of_job(&mut self, kind: EventType, reason: &str, message: String) {
        let name = self.job.metadata.name.clone();
        self.tell(Kind::Job, name, kind, reason, message);
    }

    /// An event of a run.
    pub fn tell_of_run(&mut self, at: RunAt, kind: EventType, reason: &str, message: String) {
        let name = self.runs[at].metadata.name.clone();
        self.tell(Kind::StepRun, name, kind, reason, message);
    }

    fn tell(&mut self, kind: Kind, name: String, r#type: EventType, reason: &str, message: String) {
        let reason = reason.to_owned();
        self.events.push(Event { id: 0, time: self.now, kind, name, r#type, reason, message, details: Value::Null });
    }

    /// Says anew what is superseded: by all runs that there are.
    pub fn raise_barriers(&mut self) {
        for &node in &self.graph.order {
            let upstream = self.graph.sources[node].iter().map(|&source| self.barrier[source]).max().unwrap_or(0);
            let asked_for =
                self.of_step[node].iter().map(|&at| &self.runs[at].spec).filter(|spec| spec.cause.is_some());
            let own = asked_for.map(|spec| spec.order).max().unwrap_or(0);
            self.inherited[node] = upstream;
            self.barrier[node] = upstream.max(own);
        }
    }

    /// `inherited` is left as it is: nothing downstream becomes ready, nor is decided, before the next pass.
    fn supersede_downstream(&mut self, from: Node, order: u32) {
        for node in self.graph.downstream(from) {
            self.barrier[node] = order;
            for place in 0..self.of_step[node].len() {
                self.cancel_if_superseded(self.of_step[node][place]);
            }
        }
    }

    /// The job costs what its runs cost together. Of a job that was terminal before, not all runs are at hand.
    fn add_up_cost(&mut self) {
        if self.job.status.phase.is_terminal() {
            return;
        }
        let costs: Vec<f64> = self.runs.iter().filter_map(|run| run.status.cost_usd).collect();
        if !costs.is_empty() {
            self.status.cost_usd = Some(costs.iter().sum());
        }
    }
}
