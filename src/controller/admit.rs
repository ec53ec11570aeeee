//! What is due begins: with a workload of its own, with an adapter, new or shared, or with none. Within the policy's limits,
//! longest waiting first.

use super::classes::{self, Launched};
use super::places::{Place, Places, place_of};
use super::programs::{self, Launch, owner};
use super::settle::World;
use crate::flow::{self, AgentStep, Executor, Flow, Requirement, Step, Task};
use crate::model::{
    Failure, Job, Meta, Object, Outcome, Runs, StepRun, Workload, WorkloadPhase, WorkloadSpec, WorkloadStatus,
    WorkloadType, WorkloadUid,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The admission of one pass.
pub(super) struct Admission<'a> {
    world: &'a World<'a>,
    new_uid: &'a mut dyn FnMut() -> String,
    places: Places,
    /// The workloads that are new or have a new owner.
    changed: BTreeMap<WorkloadUid, Workload>,
    /// The adapters by what they may be shared for. Made when it is first asked for: most passes do not.
    by_key: Option<HashMap<String, Vec<WorkloadUid>>>,
}

impl<'a> Admission<'a> {
    /// With the places that are not taken yet.
    pub(super) fn new(world: &'a World<'a>, new_uid: &'a mut dyn FnMut() -> String, places: Places) -> Admission<'a> {
        Admission { world, new_uid, places, changed: BTreeMap::new(), by_key: None }
    }

    /// The workloads that are new or have a new owner.
    pub(super) fn changed(self) -> impl Iterator<Item = Workload> {
        self.changed.into_values()
    }

    /// Begins the run at `index`, if there is a place; or fails it, if what it needs cannot be had.
    pub(super) fn admit(&mut self, flow: &Flow, job: &Job, runs: &mut Arc<Runs>, index: usize) {
        let Some(run) = runs.get(index) else { return };
        let (Some(step), Some(task)) = (flow.steps.get(&run.spec.step), flow::task(flow, run)) else { return };
        if let Some(place) = place_of(&task)
            && !self.places.take(place, &self.world.desired.policy.max_concurrent)
        {
            return;
        }
        let now = self.world.now;
        let next = match self.work(flow, job, step, runs, run, task) {
            Ok(workload) => flow::begin(flow, run, workload, now),
            Err(failure) => {
                let outcome = Outcome::of(Err(failure));
                flow::finish(flow, &flow::begin(flow, run, None, now), &outcome, now)
            }
        };
        if let Some(run) = Arc::make_mut(runs).get_mut(index) {
            *run = next.into();
        }
    }

    /// Who works on it; nobody, where that is as it should be.
    fn work(
        &mut self,
        flow: &Flow,
        job: &Job,
        step: &Step,
        runs: &[Arc<StepRun>],
        run: &StepRun,
        task: Task<'_>,
    ) -> Result<Option<WorkloadUid>, Failure> {
        let uid = WorkloadUid((self.new_uid)());
        let launch = Launch { world: self.world, job, step, run, uid: &uid };
        let spec = match task {
            Task::Work(Executor::Script(command)) => launch.script(command),
            Task::Work(Executor::Poll(poll)) => launch.check(poll),
            Task::Work(Executor::Llm(llm)) => launch.llm(llm)?,
            Task::Notification { url, body } => launch.notification(url, body),
            Task::Work(Executor::Agent(agent)) => {
                let before = talked_before(flow, runs, run);
                return self.adapter(job, step, run, agent, before, uid).map(Some);
            }
            Task::Work(Executor::External { .. } | Executor::Mock(_) | Executor::SubFlow(_)) => return Ok(None),
        };
        Ok(Some(self.add(uid, spec)))
    }

    /// Asks whether a requirement of a job holds, if there is a place.
    pub(super) fn ask(&mut self, job: &Job, requirement: &Requirement) {
        if let Some(check) = &requirement.check
            && self.places.take(Place::Check, &self.world.desired.policy.max_concurrent)
        {
            let uid = WorkloadUid((self.new_uid)());
            self.add(uid, programs::requirement(job, requirement, check, self.world));
        }
    }

    fn adapter(
        &mut self,
        job: &Job,
        step: &Step,
        run: &StepRun,
        agent: &AgentStep,
        before: Option<&StepRun>,
        uid: WorkloadUid,
    ) -> Result<WorkloadUid, Failure> {
        let cwd = programs::step_dir(job, step, run, self.world);
        let Launched { key, spec } = classes::launch(agent, job, &cwd, self.world)?;
        // A conversation stays where it is, as long as it can.
        let known = before.and_then(|run| run.status.workload.as_ref()).and_then(|uid| self.workload(uid));
        let known = known.filter(|workload| workload.spec.class == spec.class && self.takes_more(workload));
        if let Some(uid) = known.map(Workload::uid).or_else(|| self.reusable(&key)) {
            self.own(&uid, job);
            return Ok(uid);
        }
        Ok(self.add(uid, spec))
    }

    /// An adapter of this configuration that can take another run.
    fn reusable(&mut self, key: &str) -> Option<WorkloadUid> {
        let by_key = self.by_key.take().unwrap_or_else(|| by_key(self.world.desired.workloads.values()));
        let all = by_key.get(key).into_iter().flatten().filter_map(|uid| self.workload(uid));
        let first = all.filter(|workload| self.takes_more(workload)).map(Workload::uid).min();
        self.by_key = Some(by_key);
        first
    }

    /// Whether an adapter can take another run.
    fn takes_more(&self, workload: &Workload) -> bool {
        workload.spec.r#type == WorkloadType::Adapter
            && matches!(workload.status.phase, WorkloadPhase::Starting | WorkloadPhase::Running)
            && workload.status.cause.is_none()
            && workload.status.stage.is_none()
            // Its row says so only after this pass.
            && self.world.talk.failed_start(&workload.uid()).is_none()
            // One whose owners have all ended is about to be stopped: not a place to begin.
            && (self.changed.contains_key(&workload.uid())
                || matches!(crate::plan::want(workload, self.world.desired), crate::plan::Want::Yes(_)))
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

/// The newest run before this one whose conversation it goes on with, or forks.
fn talked_before<'r>(flow: &Flow, runs: &'r [Arc<StepRun>], run: &StepRun) -> Option<&'r StepRun> {
    let mine = flow::conversation(flow, runs, run)?;
    let shares = |other: &&StepRun| flow::conversation(flow, runs, other).is_some_and(|theirs| theirs.key == mine.key);
    let forked = |other: &&StepRun| mine.fork_of.is_some() && other.status.session == mine.fork_of;
    let earlier = || {
        runs.iter()
            .map(|run| &**run)
            .filter(|other| other.spec.order < run.spec.order && other.status.workload.is_some())
    };
    let newest = earlier().filter(shares).max_by_key(|other| other.spec.order);
    newest.or_else(|| earlier().filter(forked).max_by_key(|other| other.spec.order))
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
