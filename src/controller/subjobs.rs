//! Sub-jobs: what a step with `flow:` begins, what becomes of it, and that it ends with its parent.
//!
//! **Level-triggered.** From a running run, its list of items, and the sub-jobs that are there follows which ones are to be made:
//! their names follow from the run's, so that nothing is made twice. A sub-job that ended badly in an earlier attempt or try of
//! its run is begun again, in place; one that succeeded stays as it is.
//!
//! **One pass, one transaction.** Sub-jobs are settled before their parents, so that an end goes up as far as it goes; then
//! parents before sub-jobs, so that an end goes down to the last one. A sub-job is *collected* with the end of its run, and is
//! active until then.

use super::family::{DEEPEST, Family, JobAt, family_name, is_at_work, run_of};
use super::job_next::JobNext;
use super::programs;
use super::settle::{SOON, World};
use super::shelf::Shelf;
use crate::flow::{self, Child, Flow, FlowSource, ItemError, SubFlowTask};
use crate::model::{
    Event, EventType, FLOW_DIR_ANNOTATION, Failure, Job, JobPhase, JobSpec, Kind, Meta, Outcome, Parent, Reading,
    RunPhase, StepRun, Time,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// The reason of a job with a sub-job that waits for a person.
const ESCALATED_BELOW: &str = "SubJobEscalated";
/// The longest name of an object, in bytes.
const NAME_MAX: usize = 253;

/// The attempt of the step, and the try of that attempt.
fn round(run: &StepRun) -> (u32, u32) {
    (run.spec.attempt, u32::try_from(run.status.tries.len()).unwrap_or(u32::MAX))
}

/// Whether a sub-job ended badly in an earlier attempt or try of its run: it is to be begun again.
fn is_old(job: &Job, run: &StepRun) -> bool {
    let bad = matches!(job.status.phase, JobPhase::Failed | JobPhase::Cancelled);
    bad && job.is_over() && !is_of_this_round(job, run)
}

fn is_of_this_round(job: &Job, run: &StepRun) -> bool {
    job.spec.parent.as_ref().is_some_and(|parent| parent.round == round(run))
}

fn index_of(job: &Job) -> usize {
    job.spec.parent.as_ref().and_then(|parent| parent.index).unwrap_or(0)
}

/// The sub-jobs that work for a run. Those of a flow that an agent left behind in an earlier try are none of it: it may have
/// left another one this time.
fn of_run(live: &[JobNext<'_>], family: &Family, at: JobAt, run: &StepRun) -> BTreeMap<usize, JobAt> {
    let all = family.children_of_run(at, run).iter();
    let own = all.filter(|&&child| run.status.emitted.is_none() || is_of_this_round(&live[child].job, run));
    own.map(|&child| (index_of(&live[child].job), child)).collect()
}

/// Whether it is worth to ask what the sub-jobs come to. To tell all that a thousand have given, each time that one of them ends,
/// would take long.
fn may_be_over(live: &[JobNext<'_>], children: &BTreeMap<usize, JobAt>, run: &StepRun, task: &SubFlowTask<'_>) -> bool {
    let over = || children.values().map(|&child| &live[child].job).filter(|job| job.is_over() && !is_old(job, run));
    let fails = || over().any(|job| job.status.phase != JobPhase::Succeeded);
    over().count() >= task.count() || (task.on_error == ItemError::FailFast && fails())
}

/// What the flow machine is to know of them. One that is to be begun again is as good as not there.
fn told(live: &[JobNext<'_>], children: &BTreeMap<usize, JobAt>, run: &StepRun, whole: bool) -> Vec<Child> {
    let jobs = children.values().map(|&child| &live[child].job).filter(|job| !is_old(job, run));
    jobs.map(|job| Child {
        index: index_of(job),
        phase: if job.is_over() || !job.status.phase.is_terminal() { job.status.phase } else { JobPhase::Pending },
        outputs: if whole { job.status.outputs.clone() } else { None },
        failure: if whole { how_it_ended(job) } else { String::new() },
        cost_usd: job.status.cost_usd,
    })
    .collect()
}

fn how_it_ended(job: &Job) -> String {
    let reason = job.status.reason.as_deref().unwrap_or(job.status.phase.as_str());
    let message = job.status.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{reason}{message}")
}

/// The runs of a job whose sub-jobs have ended, each with how.
pub(super) fn outcomes(live: &[JobNext<'_>], family: &Family, at: JobAt) -> Vec<(usize, Outcome)> {
    let next = &live[at];
    let Some(flow) = &next.flow else { return Vec::new() };
    let ended = next.runs.iter().enumerate().filter(|(_, run)| is_at_work(run)).filter_map(|(place, run)| {
        let task = flow::sub_flow_of(flow, run)?;
        let children = of_run(live, family, at, run);
        if !may_be_over(live, &children, run, &task) {
            return None;
        }
        Some((place, task.outcome(&told(live, &children, run, true))?))
    });
    ended.collect()
}

/// Shows on a job that a sub-job of it, at any depth, waits for a person.
pub(super) fn tell_of_escalation(live: &mut [JobNext<'_>], family: &Family, at: JobAt) {
    let below = family.children(at).find_map(|child| {
        let job = &live[child].job;
        match (job.status.phase, job.status.reason.as_deref()) {
            (JobPhase::Paused, Some("Escalated")) => {
                let message = job.status.message.as_deref().unwrap_or_default();
                Some(format!("sub-job `{}` waits for a person: {message}", job.metadata.name))
            }
            (JobPhase::Running, Some(ESCALATED_BELOW)) => job.status.message.clone(),
            _ => None,
        }
    });
    let job = &mut live[at].job;
    let told = job.status.reason.as_deref() == Some(ESCALATED_BELOW);
    if job.status.phase != JobPhase::Running || (below.is_none() && !told) {
        return;
    }
    if below.is_some() && told && job.status.message == below {
        return;
    }
    let status = &mut Arc::make_mut(job).status;
    status.reason = below.as_ref().map(|_| ESCALATED_BELOW.to_owned());
    status.message = below;
}

/// Ends every sub-job whose run is not at work any more, and collects those whose run is final.
pub(super) fn end_with_their_parents(live: &mut [JobNext<'_>], family: &Family, parents_first: &[JobAt], now: Time) {
    for &at in parents_first {
        let Some(parent) = &live[at].job.spec.parent else { continue };
        let above = family.parent(at).map(|above| &live[above]);
        let run = above.and_then(|above| run_of(&above.runs, &parent.run));
        let why = match (above, run) {
            (None, _) => Some((true, format!("its parent, job {}, is no more", parent.job))),
            (Some(above), _) if above.job.status.phase.is_terminal() => {
                Some((true, format!("its parent, job {}, is {}", parent.job, above.job.status.phase.as_str())))
            }
            (Some(_), None) => Some((true, format!("run {} is no more", parent.run))),
            (Some(_), Some(run)) if is_at_work(run) => None,
            (Some(_), Some(run)) => {
                let (name, phase) = (&run.metadata.name, run.status.phase);
                Some((phase.is_final(), format!("run {name} is {}", phase.as_str())))
            }
        };
        if let Some((collected, message)) = why {
            live[at].end_with_its_parent(collected, message, now);
        }
    }
}

impl JobNext<'_> {
    fn end_with_its_parent(&mut self, collected: bool, message: String, now: Time) {
        if self.job.is_over() && self.job.status.collected == collected {
            return;
        }
        let had_ended = self.job.status.phase.is_terminal();
        let job = Arc::make_mut(&mut self.job);
        job.status.retried = job.spec.retry;
        job.status.collected = collected;
        if had_ended {
            return;
        }
        job.status.phase = JobPhase::Cancelled;
        job.status.reason = Some("ParentEnded".into());
        job.status.message = Some(message.clone());
        job.status.finished_at = Some(now);
        job.status.escalated_generation = None;
        self.events.push(event(&self.job, EventType::Normal, "JobCancelled", format!("ParentEnded: {message}"), now));
        if self.runs.iter().all(|run| run.status.phase.is_final()) {
            return;
        }
        for run in Arc::make_mut(&mut self.runs).iter_mut().filter(|run| !run.status.phase.is_final()) {
            let run = Arc::make_mut(run);
            run.status.phase = RunPhase::Cancelled;
            run.status.reason = Some("JobEnded".into());
            run.status.message = Some("its job is Cancelled: ParentEnded".into());
            run.status.finished_at = Some(now);
        }
    }
}

fn event(job: &Job, r#type: EventType, reason: &str, message: String, time: Time) -> Event {
    let (name, reason) = (job.metadata.name.clone(), reason.to_owned());
    Event { id: 0, time, kind: Kind::Job, name, r#type, reason, message, details: Value::Null }
}

/// What makes sub-jobs, in one pass.
pub(super) struct Making<'a> {
    world: &'a World<'a>,
    family: &'a Family,
    /// By where it is said to be, from where: what was found there.
    flows: HashMap<(Option<String>, String), Result<Found, Failure>>,
    /// Sub-jobs that are new, or that are active again.
    pub(super) jobs: Vec<Job>,
    /// What parents that are no more have left in their places.
    pub(super) left: Vec<Job>,
    /// When to look again, because something could not be read.
    pub(super) wake_at: Option<Time>,
}

/// A flow that goes by a name.
#[derive(Debug, Clone)]
struct Found {
    /// What it is known by, among those around it.
    id: String,
    spec: JobSpec,
    dir: Option<String>,
}

/// Why no sub-job was made.
enum No {
    /// There never will be one.
    Never(Failure),
    /// It is not known whether there is one already.
    Unknown,
}

impl<'a> Making<'a> {
    pub(super) fn new(world: &'a World<'a>, family: &'a Family) -> Making<'a> {
        Making { world, family, flows: HashMap::new(), jobs: Vec::new(), left: Vec::new(), wake_at: None }
    }

    /// Makes the sub-jobs of a job's runs that are to be there now, or begins them again.
    pub(super) fn bring_up(&mut self, live: &mut [JobNext<'_>], at: JobAt) {
        if live[at].job.status.phase != JobPhase::Running {
            return;
        }
        let Some(flow) = live[at].flow.clone() else { return };
        for place in 0..live[at].runs.len() {
            if !is_at_work(&live[at].runs[place]) {
                continue;
            }
            let run = live[at].runs[place].clone();
            let Some(task) = flow::sub_flow_of(&flow, &run) else { continue };
            match self.bring_up_run(live, at, &run, &flow, &task) {
                Ok(()) => {}
                Err(No::Unknown) => self.wake_at = Some(self.world.now.after(SOON)),
                Err(No::Never(failure)) => live[at].finish(place, &Outcome::of(Err(failure)), self.world.now),
            }
        }
    }

    fn bring_up_run(
        &mut self,
        live: &mut [JobNext<'_>],
        at: JobAt,
        run: &StepRun,
        flow: &Flow,
        task: &SubFlowTask<'_>,
    ) -> Result<(), No> {
        let there = of_run(live, self.family, at, run);
        let most = usize::try_from(self.world.desired.policy.max_concurrent.items).unwrap_or(usize::MAX);
        for index in task.missing(&told(live, &there, run, false), most) {
            match there.get(&index) {
                Some(&child) => begin_again(Arc::make_mut(&mut live[child].job), run, task, index),
                None => {
                    let job = self.make(live, at, run, flow, task, index)?;
                    self.jobs.push(job);
                }
            }
        }
        Ok(())
    }

    /// The sub-job of this index: a new one, or the one that an earlier attempt has left.
    fn make(
        &mut self,
        live: &[JobNext<'_>],
        at: JobAt,
        run: &StepRun,
        flow: &Flow,
        task: &SubFlowTask<'_>,
        index: usize,
    ) -> Result<Job, No> {
        let parent = &live[at].job;
        let began = family_name(run);
        let place = task.items.map(|_| index);
        let name = name(&began, place, run);
        let is_own = |job: &Job| {
            let of_it = |of: &Parent| of.job_uid == parent.uid() && of.run == began && of.index == place;
            job.spec.parent.as_ref().is_some_and(of_it)
        };
        match self.world.shelf.job(&name) {
            Reading::Unknown(why) => {
                tracing::warn!(job = %name, "it is not known whether this sub-job is there: {why}");
                return Err(No::Unknown);
            }
            Reading::Known(Some(mut job)) if is_own(&job) => {
                job.status.collected = false;
                if is_old(&job, run) {
                    begin_again(&mut job, run, task, index);
                }
                return Ok(job);
            }
            // Its parent had this one's name, and is no more: it is ended already, or is being ended.
            Reading::Known(Some(left)) if left.spec.parent.as_ref().is_some_and(|of| of.run == began) => {
                if left.is_active() {
                    return Err(No::Unknown);
                }
                self.left.push(left);
            }
            Reading::Known(Some(_)) => {
                let message =
                    format!("a sub-job would be called `{name}`, and there is such a job: delete or rename it");
                return Err(No::Never(Failure { reason: "NameTaken".into(), message }));
            }
            Reading::Known(None) => {}
        }
        if self.family.depth(at) + 1 >= DEEPEST {
            let message = format!("sub-flows are nested more than {DEEPEST} deep");
            return Err(No::Never(Failure { reason: "FlowTooDeep".into(), message }));
        }
        let found = match &*task.source {
            FlowSource::Inline(value, _) => None.ok_or(value),
            FlowSource::Named(name) => Ok(self.find(live[at].flow_dir(), name).map_err(No::Never)?),
        };
        let within = within(parent);
        let (spec, dir, within) = match found {
            Err(value) => {
                let spec = JobSpec { flow: Some(Arc::new(value.clone())), ..JobSpec::default() };
                (spec, live[at].flow_dir().map(str::to_owned), within)
            }
            Ok(found) => (found.spec, found.dir, around(within, found.id).map_err(No::Never)?),
        };
        let mut metadata = Meta::named(name);
        metadata.annotations.extend(dir.map(|dir| (FLOW_DIR_ANNOTATION.to_owned(), dir)));
        let step = flow.steps.get(&run.spec.step);
        let cwd = step.map(|step| programs::step_dir(parent, step, run, self.world).to_string_lossy().into_owned());
        let spec = JobSpec {
            inputs: task.inputs_of(index),
            working_dir: cwd,
            parent: Some(Parent {
                job: parent.metadata.name.clone(),
                job_uid: parent.uid(),
                run: began,
                index: place,
                round: round(run),
                within,
            }),
            ..spec
        };
        Ok(Job { metadata, spec, ..Job::default() })
    }

    /// The flow of this name: a `Flow`, else a file beside the flow that names it.
    fn find(&mut self, dir: Option<&str>, name: &str) -> Result<Found, Failure> {
        let key = (dir.map(str::to_owned), name.to_owned());
        if let Some(found) = self.flows.get(&key) {
            return found.clone();
        }
        let found = match self.world.desired.flows.get(name) {
            Some(flow) => {
                let spec = JobSpec { flow_ref: Some(name.to_owned()), ..JobSpec::default() };
                valid(name, &flow.spec).map(|()| Found { id: name.to_owned(), spec, dir: None })
            }
            None => read(self.world.shelf, dir, name),
        };
        self.flows.insert(key, found.clone());
        found
    }
}

fn read(shelf: &dyn Shelf, dir: Option<&str>, name: &str) -> Result<Found, Failure> {
    let missing = |why| Failure { reason: "FlowMissing".into(), message: format!("flow `{name}`: {why}") };
    let file = shelf.flow_file(dir, name).map_err(missing)?;
    valid(name, &file.flow)?;
    let spec = JobSpec { flow: Some(Arc::new(file.flow)), ..JobSpec::default() };
    Ok(Found { id: file.path, spec, dir: Some(file.dir) })
}

fn valid(name: &str, flow: &Value) -> Result<(), Failure> {
    let compiled = flow::compile(flow);
    if compiled.flow.is_some() {
        return Ok(());
    }
    let words: Vec<String> = compiled.problems.into_iter().map(|problem| problem.message).collect();
    Err(Failure { reason: "FlowInvalid".into(), message: format!("flow `{name}`: {}", words.join("; ")) })
}

/// The flows around the sub-jobs of a job, its own the last, as far as they go by a name.
fn within(job: &Job) -> Vec<String> {
    match &job.spec.parent {
        Some(parent) => parent.within.clone(),
        None => job.spec.flow_ref.iter().cloned().collect(),
    }
}

/// With one more around what is below, unless that would go in a circle.
fn around(mut within: Vec<String>, id: String) -> Result<Vec<String>, Failure> {
    let first = within.iter().position(|around| *around == id);
    within.push(id);
    let Some(first) = first else { return Ok(within) };
    let words: Vec<String> = within[first..].iter().map(|id| format!("`{id}`")).collect();
    let message = format!("flows name each other in a circle: {}", words.join(" → "));
    Err(Failure { reason: "FlowCircle".into(), message })
}

/// Wants what failed in a sub-job to be tried again.
fn begin_again(job: &mut Job, run: &StepRun, task: &SubFlowTask<'_>, index: usize) {
    job.spec.retry = job.status.retried.max(job.spec.retry) + 1;
    job.spec.inputs = task.inputs_of(index);
    job.status.collected = false;
    if let Some(parent) = &mut job.spec.parent {
        parent.round = round(run);
    }
}

/// The name of a sub-job: the same whenever it is asked for.
fn name(began: &str, index: Option<usize>, run: &StepRun) -> String {
    let end = match index {
        Some(index) => format!("-{index}"),
        None if run.status.emitted.is_some() => format!("-{}-{}", round(run).0, round(run).1),
        None => String::new(),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if began.len() + end.len() <= NAME_MAX && began.chars().all(good) {
        return format!("{began}{end}");
    }
    let hash = Sha256::digest(began.as_bytes());
    let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let fit: String = began.chars().map(|c| if good(c) { c } else { '-' }).take(NAME_MAX - 40).collect();
    format!("{fit}-{hash}{end}")
}
