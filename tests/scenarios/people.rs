//! What people do: jobs come, are cancelled, paused, answered, and deleted, at any moment, with no regard to the controller.

use crate::host::{PROTECTED, State};
use crate::sim::It;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use tenure::flow;
use tenure::model::{
    AgentClassSpec, AnyObject, Job, JobSpec, JobState, Kind, MaxConcurrent, Meta, NoStatus, Object, PolicySpec, Reuse,
    RunPhase, Span, Time,
};
use tenure::store::Txn;

/// Flows of every shape that leads to processes.
pub static FLOWS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let agent =
        |class: &str| json!({"executor": "agent", "agent": class, "prompt": "do it", "output_mode": "stream_result"});
    let with = |mut step: Value, more: Value| {
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let script = || json!({"run": "work"});
    let below = |flow: &str| json!({"flow": flow});
    let each = |on_error: &str, flow: Value| json!({"for_each": "$job.items", "flow": flow, "on_error": on_error});
    let again = |target: &str| {
        json!([{"name": "good", "when": "outputs.score >= 50", "action": "advance"},
               {"name": "again", "when": "True", "action": "loop", "target": target, "max_iterations": 3}])
    };
    let abandon = json!([{"name": "no", "when": "outputs.score >= 30", "action": "abandon"}]);
    let steps = [
        json!({"a": script()}),
        json!({"a": agent("solo")}),
        json!({"a": agent("pool")}),
        json!({"a": script(), "b": with(script(), json!({"inputs": {"x": "a.score"}}))}),
        json!({"a": with(agent("solo"), json!({"exits": abandon})), "b": with(script(), json!({"after": ["a"]}))}),
        json!({"a": script(), "b": with(agent("pool"), json!({"inputs": {"x": "a.result"}})),
               "c": with(script(), json!({"inputs": {"x": "b.score"}, "exits": again("c")}))}),
        json!({"a": with(script(), json!({"on_error": "continue"})), "b": agent("solo"),
               "c": with(agent("solo"), json!({"after_resolved": ["a"]}))}),
        json!({"a": with(script(), json!({"exits": again("a")})), "b": with(agent("solo"), json!({"exits": again("b")}))}),
        json!({"a": with(agent("pool"), json!({"limits": {"max_duration_minutes": 0.02}})), "b": script()}),
        json!({"a": with(script(), json!({"limits": {"max_duration_minutes": 0.02}, "on_error": "continue"})), "b": script()}),
        json!({"a": script(), "b": {"executor": "external", "prompt": "?", "inputs": {"x": "a.score"}},
               "c": with(agent("solo"), json!({"inputs": {"y": "b.ok"}}))}),
        json!({"a": with(agent("solo"), json!({"exits": [{"name": "ask", "when": "outputs.score >= 60", "action": "escalate"}]})),
               "b": with(agent("pool"), json!({"after": ["a"]}))}),
        json!({"a": {"executor": "poll", "check_command": "look", "interval_seconds": 1}, "b": with(agent("solo"), json!({"after": ["a"]}))}),
        json!({"a": with(script(), json!({"decorators": [{"timeout": {"seconds": 2}}, {"retry": {"max_retries": 2}}]})),
               "b": with(agent("pool"), json!({"after": ["a"], "decorators": [{"retry": {"max_retries": 1, "backoff": "exponential"}}]}))}),
        json!({"a": {"executor": "mock_llm", "failure_rate": 0.3, "latency_range": [0.1, 2.0], "prompt": "?", "on_error": "continue"},
               "b": with(script(), json!({"after_resolved": ["a"], "decorators": [
                   {"notification": {"webhook_url": "http://127.0.0.1/"}}, {"fallback": {"fallback_ref": {"type": "script", "config": {"run": "work"}}}}]}))}),
        // Sub-jobs; the steps that have them begin with `sub`.
        json!({"a": script(), "sub": with(below("inner"), json!({"inputs": {"x": "a.score"}})), "b": script()}),
        json!({"sub": below("outer"), "b": with(agent("solo"), json!({"after": ["sub"], "exits": abandon}))}),
        json!({"sub": each("fail_fast", json!({"steps": {"a": script()}}))}),
        json!({"sub": each("continue", "inner".into()), "b": with(script(), json!({"after": ["sub"], "exits": again("sub")}))}),
        json!({"sub": each("continue", json!({"steps": {"a": with(agent("pool"),
               json!({"exits": [{"name": "ask", "when": "outputs.score >= 80", "action": "escalate"}]}))}}))}),
        json!({"sub": with(each("fail_fast", json!({"steps": {"sub-a": below("inner"), "b": script()}})),
               json!({"limits": {"max_duration_minutes": 0.05}, "on_error": "fail_fast"}))}),
        json!({"sub": with(below("inner"), json!({"decorators": [{"retry": {"max_retries": 2}}]}))}),
        json!({"sub": below("nowhere"), "b": script()}),
        json!({"sub": below("ring")}),
    ];
    let inputs = json!({"items": {"default": []}});
    steps.into_iter().map(|steps| json!({"name": "f", "inputs": inputs, "steps": steps})).collect()
});

/// Flow files beside the flows.
pub static BESIDE: LazyLock<BTreeMap<&str, Value>> = LazyLock::new(|| {
    let script = json!({"run": "work"});
    let agent = json!({"executor": "agent", "agent": "solo", "prompt": "do it", "output_mode": "stream_result"});
    let flow = |steps: Value| json!({"name": "f", "steps": steps});
    BTreeMap::from([
        ("inner", flow(json!({"a": script, "b": {"run": "work", "inputs": {"x": "a.score"}}}))),
        ("outer", flow(json!({"a": agent, "sub": {"flow": "inner", "after": ["a"]}}))),
        ("ring", flow(json!({"a": script, "sub": {"flow": "ring", "after": ["a"]}}))),
    ])
});

impl It {
    /// Writes as people do: over what is there now.
    fn write(&mut self, txn: Txn) {
        let now = Time(self.host.now);
        if let Err(error) = self.store.commit(txn, now) {
            self.broken(format!("people cannot write: {error}"));
        }
    }

    /// Policy, classes, and the first jobs.
    pub fn furnish(&mut self) {
        let few = self.rng.bool();
        let policy = PolicySpec {
            protect: vec![PROTECTED.into()],
            lease: Span(std::time::Duration::from_millis(self.lease_ms.unsigned_abs())),
            max_concurrent: if few {
                MaxConcurrent { agents: 2, scripts: 2, items: 2, ..MaxConcurrent::default() }
            } else {
                MaxConcurrent::default()
            },
            ..PolicySpec::default()
        };
        let class = |name: &str, reuse| {
            AnyObject::AgentClass(Object {
                metadata: Meta::named(name),
                spec: AgentClassSpec {
                    command: vec!["agent".into()],
                    reuse,
                    ask_period: Span::seconds(1),
                    grace_period: Span::seconds(2),
                    start_timeout: Span::seconds(5),
                    ..AgentClassSpec::default()
                },
                status: NoStatus::default(),
            })
        };
        let policy = Object { metadata: Meta::named("default"), spec: policy, status: NoStatus::default() };
        let txn =
            Txn::new().put(AnyObject::Policy(policy)).put(class("solo", Reuse::Job)).put(class("pool", Reuse::Shared));
        self.write(txn);
        for _ in 0..self.rng.u8(1..4) {
            self.new_job();
        }
    }

    fn new_job(&mut self) {
        let name = format!("j{}", self.rng.u8(0..6));
        if self.store.get(Kind::Job, &name).is_some() {
            return;
        }
        let flow = self.pick(&FLOWS);
        let deadline =
            (self.rng.u8(0..6) == 0).then(|| Span(std::time::Duration::from_millis(self.rng.u64(10..8_000))));
        self.say(|| {
            format!("people start {name}: {}", flow.as_ref().map(|it| it["steps"].to_string()).unwrap_or_default())
        });
        let mut spec = JobSpec { flow: flow.map(Into::into), deadline, ..JobSpec::default() };
        let items = Value::Array((0..self.rng.u8(0..6)).map(Value::from).collect());
        spec.inputs.insert("items".into(), items);
        if self.rng.u8(0..6) == 0 {
            spec.after = vec![format!("j{}", self.rng.u8(0..6))];
        }
        self.write(Txn::new().put(AnyObject::Job(Job { metadata: Meta::named(name), spec, ..Job::default() })));
    }

    fn jobs(&self) -> Vec<Job> {
        let all = self.store.objects.values();
        all.filter_map(|it| if let AnyObject::Job(job) = it { Some(job.clone()) } else { None }).collect()
    }

    /// Somebody does something.
    pub fn people(&mut self) {
        let weather = self.weather.clone();
        let jobs = self.jobs();
        let Some(mut job) = self.pick(&jobs) else { return self.new_job() };
        let kinds = [0.5, weather.cancels, weather.deletes, weather.pauses, 0.3];
        let mut left = self.rng.f64() * kinds.iter().sum::<f64>();
        let kind = kinds.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let name = job.metadata.name.clone();
        match kind.unwrap_or(0) {
            0 => self.new_job(),
            1 => {
                self.say(|| format!("people cancel {name}"));
                job.spec.state = JobState::Cancelled;
                self.write(Txn::new().put(AnyObject::Job(job)));
            }
            2 if self.rng.u8(0..4) == 0 => {
                self.say(|| format!("people ask for the deletion of {name}"));
                job.metadata.deletion_timestamp = Some(Time(self.host.now));
                self.write(Txn::new().put(AnyObject::Job(job)));
            }
            2 => {
                self.say(|| format!("people delete {name}"));
                self.write(Txn::new().delete(Kind::Job, name, 0));
            }
            3 => {
                job.spec.state = if job.spec.state == JobState::Running { JobState::Paused } else { JobState::Running };
                self.say(|| format!("people make {name} {:?}", job.spec.state));
                self.write(Txn::new().put(AnyObject::Job(job)));
            }
            _ if self.rng.u8(0..3) == 0 => self.retry_one(),
            _ => self.answer_one(),
        }
    }

    /// Somebody wants what failed to be tried again.
    fn retry_one(&mut self) {
        let mut jobs = self.jobs();
        jobs.retain(|job| job.status.phase.is_terminal() && !job.status.collected && !job.is_to_be_retried());
        let Some(mut job) = self.pick(&jobs) else { return };
        self.say(|| format!("people retry {}", job.metadata.name));
        job.spec.state = JobState::Running;
        job.spec.retry += 1;
        self.write(Txn::new().put(AnyObject::Job(job)));
    }

    /// Somebody answers a run that waits for people.
    fn answer_one(&mut self) {
        let waiting: Vec<_> = self
            .store
            .objects
            .values()
            .filter_map(|it| match it {
                AnyObject::StepRun(run) if run.status.phase == RunPhase::Suspended => Some(run.clone()),
                _ => None,
            })
            .collect();
        let Some(run) = self.pick(&waiting) else { return };
        let Some(job) = self.jobs().into_iter().find(|job| job.uid() == run.spec.job_uid) else { return };
        let Some(flow) = job.status.flow.as_ref().and_then(|flow| flow::compile(flow).flow) else { return };
        let outputs = Map::from_iter([("ok".to_owned(), Value::Bool(true))]);
        if let Ok(run) = flow::fulfil(&flow, &run, outputs, Time(self.host.now)) {
            self.say(|| format!("people answer {}", run.metadata.name));
            self.write(Txn::new().put(AnyObject::StepRun(run)));
        }
    }

    /// Before the calm: most of what waits for people goes on, and what only others could end ends.
    pub fn settle_people(&mut self) {
        let (now, user) = (self.host.now, self.host.user);
        for process in self.host.procs.values_mut().filter(|it| it.of.is_some() && it.user != user && !it.is_zombie()) {
            (process.state, process.ends_at) = (State::Running, Some(now + 1_000 + i64::from(process.id.pid.get())));
        }
        for mut job in self.jobs() {
            if job.spec.state == JobState::Paused && self.rng.u8(0..4) > 0 {
                job.spec.state = JobState::Running;
                self.write(Txn::new().put(AnyObject::Job(job)));
            }
        }
        if self.rng.bool() {
            self.answer_one();
        }
    }
}
