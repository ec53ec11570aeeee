//! The machine, rule by rule, and under random flows.

mod children;
mod inputs;
mod kept;
mod life;
mod loops;
mod outcomes;
mod polls;
mod properties;
mod records;
mod retries;
mod shape;
mod steps;
mod talks;
mod tries;

use crate::flow::{
    Decorator, Dependency, Effect, Executor, ExitRule, Field, Flow, Input, InputSource, OnError, Step, StepField, Task,
    When, advance, apply, begin, finish, is_due, task,
};
use crate::model::{ExitAction, Failure, Job, JobPhase, Meta, Outcome, RunPhase, StepRun, Time, WorkloadUid};
use serde_json::{Map, Value, json};

/// A script step without anything.
pub(super) fn step(name: &str) -> Step {
    Step {
        name: name.into(),
        description: None,
        executor: Executor::Script("true".into()),
        inputs: Default::default(),
        outputs: Default::default(),
        after: Vec::new(),
        after_resolved: Vec::new(),
        when: None,
        exits: Vec::new(),
        on_error: OnError::Fail,
        limits: Default::default(),
        decorators: Vec::new(),
        idempotency: Default::default(),
        cache: None,
        derived_outputs: Default::default(),
        working_dir: None,
        path: Vec::new(),
    }
}

fn field(text: &str) -> StepField {
    let mut parts = text.split('.').map(str::to_owned);
    StepField { step: parts.next().unwrap(), path: parts.collect() }
}

impl Step {
    /// `local: step.field`, or `local: $job.name`.
    pub(super) fn input(mut self, local: &str, from: &str) -> Step {
        let source = match from.strip_prefix("$job.") {
            Some(name) => InputSource::Job(vec![name.into()]),
            None => InputSource::Step(field(from)),
        };
        self.inputs.insert(local.into(), Input { source, optional: false });
        self
    }
    pub(super) fn optional(mut self, local: &str, from: &str) -> Step {
        self.inputs.insert(local.into(), Input { source: InputSource::Step(field(from)), optional: true });
        self
    }
    pub(super) fn any_of(mut self, local: &str, from: &[&str]) -> Step {
        let source = InputSource::AnyOf(from.iter().map(|text| field(text)).collect());
        self.inputs.insert(local.into(), Input { source, optional: false });
        self
    }
    pub(super) fn after(mut self, name: &str) -> Step {
        self.after.push(Dependency::Step(name.into()));
        self
    }
    pub(super) fn after_resolved(mut self, name: &str) -> Step {
        self.after_resolved.push(Dependency::Step(name.into()));
        self
    }
    pub(super) fn when(mut self, text: &str) -> Step {
        self.when = Some(When::Expression(text.into()));
        self
    }
    pub(super) fn go_on(mut self) -> Step {
        self.on_error = OnError::Continue;
        self
    }
    pub(super) fn exit(mut self, name: &str, when: &str, action: ExitAction) -> Step {
        let when = Some(when.to_owned());
        self.exits.push(ExitRule { name: Some(name.into()), when, action, target: None, max_iterations: None });
        self
    }
    /// A loop rule.
    pub(super) fn back_to(self, target: &str, when: &str, most: Option<u32>) -> Step {
        let mut step = self.exit("again", when, ExitAction::Loop);
        let rule = step.exits.last_mut().unwrap();
        rule.target = Some(target.into());
        rule.max_iterations = most;
        step
    }
    pub(super) fn gives(mut self, name: &str, field: Field) -> Step {
        self.outputs.insert(name.into(), field);
        self
    }
    pub(super) fn by(mut self, executor: Executor) -> Step {
        self.executor = executor;
        self
    }
    /// With this around it, outermost first.
    pub(super) fn within(mut self, decorators: impl IntoIterator<Item = Decorator>) -> Step {
        self.decorators = decorators.into_iter().collect();
        self
    }
    pub(super) fn asks(mut self, prompt: &str) -> Step {
        self.executor = Executor::External { prompt: Some(prompt.into()) };
        self
    }
}

/// A flow with its job, as the loop of the controller has them.
#[derive(Clone)]
pub(super) struct World {
    pub flow: Flow,
    pub job: Job,
    pub runs: Vec<StepRun>,
    pub now: Time,
}

impl World {
    pub(super) fn new(steps: impl IntoIterator<Item = Step>) -> World {
        let steps = steps.into_iter().map(|step| (step.name.clone(), step)).collect();
        let mut job = Job { metadata: Meta::named("j"), ..Job::default() };
        job.metadata.uid = "u1".into();
        job.metadata.generation = 1;
        World { flow: Flow { steps, ..Flow::default() }, job, runs: Vec::new(), now: Time(1_000) }
    }

    /// The same, after the first pass.
    pub(super) fn started(steps: impl IntoIterator<Item = Step>) -> World {
        let mut world = World::new(steps);
        world.pass();
        world
    }

    pub(super) fn pass(&mut self) -> Vec<Effect> {
        let effects = advance(&self.flow, &self.job, &self.runs, self.now);
        apply(&mut self.job, &mut self.runs, &effects);
        effects
    }

    /// The phase of a run, `step.attempt`.
    pub(super) fn phase(&self, run: &str) -> RunPhase {
        self.run(run).status.phase
    }

    pub(super) fn run(&self, run: &str) -> &StepRun {
        let name = format!("j.{run}");
        self.runs.iter().find(|run| run.metadata.name == name).unwrap_or_else(|| panic!("no run {name}"))
    }

    /// The runs that are in motion, by name.
    pub(super) fn moving(&self) -> Vec<String> {
        let moving = self.runs.iter().filter(|run| !run.status.phase.is_final());
        let mut names: Vec<String> = moving.map(|run| format!("{}.{}", run.spec.step, run.spec.attempt)).collect();
        names.sort();
        names
    }

    fn end(&mut self, step: &str, result: Result<Map<String, Value>, Failure>) {
        let at = (self.runs.iter().position(|run| run.spec.step == step && !run.status.phase.is_final()))
            .unwrap_or_else(|| panic!("`{step}` is not in motion"));
        self.runs[at] = finish(&self.flow, &self.runs[at], &Outcome::of(result), self.now);
    }

    /// Begins every run that is due, as the controller does if there are places; gives them as `step.attempt`.
    pub(super) fn begin(&mut self) -> Vec<String> {
        let mut begun = Vec::new();
        let mut oldest_first: Vec<usize> = (0..self.runs.len()).collect();
        oldest_first.sort_by_key(|&at| self.runs[at].spec.order);
        for at in oldest_first {
            let run = &self.runs[at];
            if !is_due(&self.flow, &self.runs, run, self.now) {
                continue;
            }
            let alone = match task(&self.flow, run) {
                Some(Task::Work(executor)) => {
                    matches!(executor, Executor::External { .. } | Executor::Mock(_) | Executor::SubFlow(_))
                }
                Some(Task::Notification { .. }) => false,
                None => panic!("{} is due, and there is nothing to do", run.metadata.name),
            };
            let name = format!("{}.{}", run.spec.step, run.spec.attempt);
            let workload = (!alone).then(|| WorkloadUid(format!("w-{name}-{}", run.status.tries.len())));
            self.runs[at] = begin(&self.flow, run, workload, self.now);
            begun.push(name);
        }
        begun
    }

    /// It is so late now, and a pass follows.
    pub(super) fn at(&mut self, now: i64) -> &mut World {
        self.now = Time(now);
        self.pass();
        self
    }

    /// The run of the step that is in motion ends well, and a pass follows.
    pub(super) fn done(&mut self, step: &str, outputs: Value) -> &mut World {
        let Value::Object(outputs) = outputs else { panic!("outputs are a mapping") };
        self.end(step, Ok(outputs));
        self.pass();
        self
    }

    /// It fails, and a pass follows.
    pub(super) fn fails(&mut self, step: &str) -> &mut World {
        self.end(step, Err(Failure { reason: "ExitStatus".into(), message: "exit status 1".into() }));
        self.pass();
        self
    }

    pub(super) fn ok(&mut self, step: &str) -> &mut World {
        self.done(step, json!({}))
    }

    pub(super) fn job_is(&self, phase: JobPhase, reason: &str) {
        let status = &self.job.status;
        assert_eq!((status.phase, status.reason.as_deref().unwrap_or("")), (phase, reason), "{:?}", status.message);
    }

    pub(super) fn message(&self) -> &str {
        self.job.status.message.as_deref().unwrap_or("")
    }
}
