//! The flows of jobs under way: where they are from, what they mean, and why a job has none.

use crate::flow::{self, Flow, Secrets, Sensitive};
use crate::model::{
    Event, EventType, FLOW_DIR_ANNOTATION, FLOW_FILE_ANNOTATION, Job, JobState, JobUid, Kind, Meta, Runs, Snapshot,
    StepRun, Time,
};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compiled flows of active jobs, and which of the jobs ask for nothing. A cache: it may be dropped at any moment.
#[derive(Default)]
pub struct Flows {
    by_job: HashMap<JobUid, Known>,
}

/// What is known of one job.
pub(super) struct Known {
    flow: Arc<Flow>,
    pub(super) rest: Option<Rest>,
}

/// A state of a job that asks for nothing. What follows for a job depends on this state alone, and on the time.
pub(super) struct Rest {
    pub(super) job: Arc<Job>,
    pub(super) runs: Arc<Runs>,
    /// What was wanted of it.
    pub(super) wanted: JobState,
    /// From then on the time alone asks for something.
    pub(super) due: Option<Time>,
}

impl Rest {
    /// Whether this is that state still, and its time has not come.
    pub(super) fn holds(&self, job: &Arc<Job>, runs: &Arc<Runs>, wanted: JobState, now: Time) -> bool {
        let same_runs = Arc::ptr_eq(&self.runs, runs) || (self.runs.is_empty() && runs.is_empty());
        Arc::ptr_eq(&self.job, job) && same_runs && self.wanted == wanted && self.due.is_none_or(|due| now < due)
    }
}

/// Why a job cannot begin.
pub(super) struct Pending {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Flows {
    /// Compiles the flows of all active jobs that are under way. A driver that did not know a job's turn would take it for
    /// cancelled.
    pub fn fill(&mut self, desired: &Snapshot) {
        // As many as there are jobs do no harm: a uid is never used again.
        if self.by_job.len() > desired.jobs.len() {
            self.by_job.retain(|uid, _| desired.jobs.contains_key(uid));
        }
        for (uid, job) in desired.jobs.iter().filter(|(_, job)| job.status.flow.is_some() && !job.is_over()) {
            // What cannot be compiled is told when the job is settled.
            let _ = self.flow_of(uid, job, desired);
        }
    }

    /// The flow of this job, if it has been compiled.
    pub(super) fn get(&self, job: &JobUid) -> Option<Arc<Flow>> {
        self.by_job.get(job).map(|known| known.flow.clone())
    }

    /// What is known of a job whose flow has been compiled.
    pub(super) fn known(&mut self, job: &JobUid) -> Option<&mut Known> {
        self.by_job.get_mut(job)
    }

    /// The flow of a job, or why it cannot begin.
    pub(super) fn flow_of(&mut self, uid: &JobUid, job: &Job, desired: &Snapshot) -> Result<Arc<Flow>, Pending> {
        // Until it is pinned, the flow may still change.
        if job.status.flow.is_some()
            && let Some(known) = self.by_job.get(uid)
        {
            return Ok(known.flow.clone());
        }
        let Some((value, _)) = source_of(job, desired) else {
            let message = match &job.spec.flow_ref {
                Some(name) => format!("there is no flow `{name}` (yet): drop it into the directory or apply it"),
                None => "spec has neither `flowRef` nor `flow`".to_owned(),
            };
            return Err(Pending { reason: "FlowMissing", message });
        };
        let compiled = flow::compile(value);
        match compiled.flow {
            Some(flow) => {
                let flow = Arc::new(flow);
                self.by_job.insert(uid.clone(), Known { flow: flow.clone(), rest: None });
                Ok(flow)
            }
            None => {
                let words: Vec<String> = compiled.problems.iter().map(|problem| problem.message.clone()).collect();
                Err(Pending { reason: "FlowInvalid", message: words.join("; ") })
            }
        }
    }
}

/// The mapping of a job's flow, and the directory that its paths are relative to.
pub(super) fn source_of<'a>(job: &'a Job, desired: &'a Snapshot) -> Option<(&'a Value, Option<String>)> {
    if let Some(value) = &job.status.flow {
        return Some((value, job.status.flow_dir.clone()));
    }
    let (value, meta) = written(job, desired)?;
    Some((value, meta.annotations.get(FLOW_DIR_ANNOTATION).cloned()))
}

/// The file that a job's flow was read from, as far as that is still known.
pub(super) fn file_of(job: &Job, desired: &Snapshot) -> Option<PathBuf> {
    let (_, meta) = written(job, desired)?;
    let dir = meta.annotations.get(FLOW_DIR_ANNOTATION)?;
    Some(Path::new(dir).join(meta.annotations.get(FLOW_FILE_ANNOTATION)?))
}

/// The flow as somebody wrote it, and the object that it stands in.
fn written<'a>(job: &'a Job, desired: &'a Snapshot) -> Option<(&'a Value, &'a Meta)> {
    if let Some(value) = &job.spec.flow {
        return Some((value, &job.metadata));
    }
    let flow = desired.flows.get(job.spec.flow_ref.as_deref()?)?;
    Some((&flow.spec, &flow.metadata))
}

/// An event of a job that cannot go on as it is.
pub(super) fn warning(job: &Job, reason: &str, message: String, now: Time) -> Event {
    Event {
        id: 0,
        time: now,
        kind: Kind::Job,
        name: job.metadata.name.clone(),
        r#type: EventType::Warning,
        reason: reason.into(),
        message,
        details: Value::Null,
    }
}

/// Adds what a job has of what its flow declares sensitive.
pub(super) fn hide<'r>(
    secrets: &mut Secrets,
    sensitive: &Sensitive,
    job: &Job,
    runs: impl Iterator<Item = &'r StepRun>,
) {
    for name in &sensitive.inputs {
        let values = [job.spec.inputs.get(name), job.status.vars.get(name)];
        values.into_iter().flatten().for_each(|value| secrets.add(value));
    }
    if sensitive.outputs.is_empty() {
        return;
    }
    for outputs in runs.filter_map(|run| run.status.outputs.as_ref()) {
        sensitive.outputs.iter().filter_map(|name| outputs.get(name)).for_each(|value| secrets.add(value));
    }
}
