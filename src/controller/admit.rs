//! What is ready gets a workload: a new script, or an adapter, new or shared. Within the policy's limits, longest waiting
//! first.

use super::settle::{World, working_dir};
use super::{classes, script};
use crate::flow::{self, AgentStep, Executor, Flow, Step};
use crate::model::{
    AgentClassSpec, Failure, Job, Meta, Object, Outcome, Owner, Reuse, RunPhase, Span, StepRun, Workload,
    WorkloadPhase, WorkloadSpec, WorkloadStatus, WorkloadType, WorkloadUid,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Between Terminate and Kill, for scripts.
const SCRIPT_GRACE: Span = Span::seconds(5);

/// The admission of one pass.
pub(super) struct Admission<'a> {
    world: &'a World<'a>,
    new_uid: &'a mut dyn FnMut() -> String,
    /// The workloads that are new or have a new owner.
    changed: BTreeMap<WorkloadUid, Workload>,
    /// The adapters by what they may be shared for. Made when it is first asked for: most passes do not.
    by_key: Option<HashMap<String, Vec<WorkloadUid>>>,
    /// Agents and scripts at work. Counted when it is first asked for.
    counted: Option<(u32, u32)>,
}

impl<'a> Admission<'a> {
    pub(super) fn new(world: &'a World<'a>, new_uid: &'a mut dyn FnMut() -> String) -> Admission<'a> {
        Admission { world, new_uid, changed: BTreeMap::new(), by_key: None, counted: None }
    }

    /// How many agents and scripts are at work.
    fn counted(&mut self) -> &mut (u32, u32) {
        let desired = self.world.desired;
        self.counted.get_or_insert_with(|| {
            let (mut agents, mut scripts) = (0, 0);
            for run in desired.all_runs().filter(|run| run.status.phase == RunPhase::Running) {
                let workload = run.status.workload.as_ref().and_then(|uid| desired.workloads.get(uid));
                match workload.map(|workload| workload.spec.r#type) {
                    Some(WorkloadType::Adapter) => agents += 1,
                    Some(WorkloadType::Script) => scripts += 1,
                    Some(WorkloadType::Check | WorkloadType::Machine) | None => {}
                }
            }
            (agents, scripts)
        })
    }

    /// The workloads that are new or have a new owner.
    pub(super) fn changed(self) -> impl Iterator<Item = Workload> {
        self.changed.into_values()
    }

    /// Gives the pending run at `index` a workload, if there is a place; or fails it, if it can never have one.
    pub(super) fn admit(&mut self, flow: &Flow, job: &Job, runs: &mut Arc<Vec<StepRun>>, index: usize) {
        let Some(run) = runs.get(index) else { return };
        let Some(step) = flow.steps.get(&run.spec.step) else { return };
        let limits = &self.world.desired.policy.max_concurrent;
        let (agents, scripts) = self.counted();
        let given = match &step.executor {
            Executor::Script(command) if *scripts < limits.scripts => {
                *scripts += 1;
                Ok(self.script(job, step, run, command))
            }
            Executor::Agent(agent) if *agents < limits.agents => {
                *agents += 1;
                self.adapter(job, agent)
            }
            Executor::Script(_) | Executor::Agent(_) => return,
            // Nobody works on it but a person: the machine suspends it.
            Executor::External { .. } => return,
            Executor::Llm(_) | Executor::Poll(_) | Executor::Mock(_) | Executor::SubFlow(_) => return,
        };
        let Some(run) = Arc::make_mut(runs).get_mut(index) else { return };
        match given {
            Ok(uid) => {
                run.status.phase = RunPhase::Running;
                run.status.started_at = Some(self.world.now);
                run.status.workload = Some(uid);
            }
            Err(failure) => {
                let outcome = Outcome { result: Err(failure), usage: None, cost_usd: None, session: None };
                *run = flow::finish(flow, run, &outcome, self.world.now);
            }
        }
    }

    fn script(&mut self, job: &Job, step: &Step, run: &StepRun, command: &str) -> WorkloadUid {
        let uid = WorkloadUid((self.new_uid)());
        let cwd = step_dir(job, step, run, self.world);
        let spec = WorkloadSpec {
            r#type: WorkloadType::Script,
            owners: vec![owner(job)],
            run: Some(run.metadata.name.clone()),
            command: script::command(command, run),
            env: script::environment(job, run, &cwd, &self.world.state_dir.workload(&uid)),
            files: script::files(run),
            cwd: cwd.to_string_lossy().into_owned(),
            grace_period: SCRIPT_GRACE,
            ..WorkloadSpec::default()
        };
        self.add(uid, spec)
    }

    fn adapter(&mut self, job: &Job, agent: &AgentStep) -> Result<WorkloadUid, Failure> {
        let Some(class) = classes::class(&agent.class, self.world.desired) else {
            let known = classes::names(self.world.desired).join(", ");
            return Err(Failure {
                reason: "ClassMissing".into(),
                message: format!("there is no AgentClass `{}`; there are: {known}", agent.class),
            });
        };
        if class.command.is_empty() {
            return Err(Failure {
                reason: "ClassInvalid".into(),
                message: format!("AgentClass `{}` has an empty `command`", agent.class),
            });
        }
        let memory_max_bytes = match &class.memory_max {
            None => None,
            Some(text) => Some(classes::bytes(text).ok_or_else(|| Failure {
                reason: "ClassInvalid".into(),
                message: format!("AgentClass `{}`: memoryMax `{text}` is not a size such as 2Gi", agent.class),
            })?),
        };
        let key = reuse_key(&class, &agent.class, job);
        if let Some(uid) = self.reusable(&key) {
            self.own(&uid, job);
            return Ok(uid);
        }
        let cwd = match class.reuse {
            Reuse::Job => working_dir(job, self.world.state_dir),
            Reuse::Shared => self.world.state_dir.root().join("shared"),
        };
        let spec = WorkloadSpec {
            r#type: WorkloadType::Adapter,
            owners: vec![owner(job)],
            class: Some(agent.class.clone()),
            reuse_key: Some(key),
            command: classes::resolve(&class.command, self.world.exe),
            env: class.env,
            cwd: cwd.to_string_lossy().into_owned(),
            ask_period: Some(class.ask_period),
            grace_period: class.grace_period,
            start_timeout: Some(class.start_timeout),
            memory_max_bytes,
            ..WorkloadSpec::default()
        };
        let uid = WorkloadUid((self.new_uid)());
        Ok(self.add(uid, spec))
    }

    /// An adapter of this configuration that can take another run.
    fn reusable(&mut self, key: &str) -> Option<WorkloadUid> {
        let desired = self.world.desired;
        let by_key = self.by_key.take().unwrap_or_else(|| by_key(desired.workloads.values()));
        let all = by_key.get(key).into_iter().flatten().filter_map(|uid| self.workload(uid));
        let fit = all.filter(|workload| {
            matches!(workload.status.phase, WorkloadPhase::Starting | WorkloadPhase::Running)
                && workload.status.cause.is_none()
                && workload.status.stage.is_none()
                // Its row says so only after this pass.
                && self.world.talk.failed_start(&workload.uid()).is_none()
                // One whose owners have all ended is about to be stopped: not a place to begin.
                && (self.changed.contains_key(&workload.uid())
                    || matches!(crate::plan::want(workload, desired), crate::plan::Want::Yes(_)))
        });
        let first = fit.map(Workload::uid).min();
        self.by_key = Some(by_key);
        first
    }

    /// A workload, as it is after what was admitted so far.
    fn workload(&self, uid: &WorkloadUid) -> Option<&Workload> {
        self.changed.get(uid).or_else(|| self.world.desired.workloads.get(uid).map(|workload| &**workload))
    }

    fn own(&mut self, uid: &WorkloadUid, job: &Job) {
        let Some(workload) = self.workload(uid) else { return };
        if !workload.spec.owners.iter().any(|owner| owner.uid == job.uid()) {
            let mut workload = workload.clone();
            workload.spec.owners.push(owner(job));
            self.changed.insert(uid.clone(), workload);
        }
    }

    fn add(&mut self, uid: WorkloadUid, spec: WorkloadSpec) -> WorkloadUid {
        if let (Some(by_key), Some(key)) = (&mut self.by_key, &spec.reuse_key) {
            by_key.entry(key.clone()).or_default().push(uid.clone());
        }
        let metadata = Meta { uid: uid.0.clone(), ..Meta::named(uid.0.clone()) };
        self.changed.insert(uid.clone(), Object { metadata, spec, status: WorkloadStatus::default() });
        uid
    }
}

fn by_key<'a>(workloads: impl Iterator<Item = &'a Arc<Workload>>) -> HashMap<String, Vec<WorkloadUid>> {
    let mut by_key: HashMap<String, Vec<WorkloadUid>> = HashMap::new();
    for workload in workloads {
        if let Some(key) = &workload.spec.reuse_key {
            by_key.entry(key.clone()).or_default().push(workload.uid());
        }
    }
    by_key
}

fn owner(job: &Job) -> Owner {
    Owner { name: job.metadata.name.clone(), uid: job.uid() }
}

/// The directory of a step: its own, with input values in it, else the job's.
pub(super) fn step_dir(job: &Job, step: &Step, run: &StepRun, world: &World<'_>) -> PathBuf {
    let base = working_dir(job, world.state_dir);
    match &step.working_dir {
        Some(dir) => base.join(flow::substitute(dir, &run.spec.inputs)),
        None => base,
    }
}

/// What must be equal for two runs to share an adapter.
fn reuse_key(class: &AgentClassSpec, name: &str, job: &Job) -> String {
    let scope = match class.reuse {
        Reuse::Job => job.metadata.uid.as_str(),
        Reuse::Shared => "shared",
    };
    let what = serde_json::json!([scope, name, class]).to_string();
    let hash = Sha256::digest(what.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
