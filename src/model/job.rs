//! Jobs: one run of a flow each.

use crate::model::{JobUid, Object, Span, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A job.
pub type Job = Object<JobSpec, JobStatus>;

/// What a person wants of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct JobSpec {
    /// The `Flow` to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_ref: Option<String>,
    /// Or the flow itself: a whole flow file's mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Arc<Value>>,
    /// Values for the flow's inputs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Value>,
    /// What it should be doing.
    pub state: JobState,
    /// From its start to its end, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// How long a terminal job is kept; unset: until somebody deletes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Span>,
    /// Where its scripts and agents run; unset: a directory of the job's own in the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Jobs (names) that must have succeeded before it begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Values for the flow's inputs that outputs of other jobs give; these jobs come before it, too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs_from: BTreeMap<String, OutputOf>,
    /// Counts how often somebody wanted the failed steps to be tried again, in place.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry: u32,
    /// The run that it does the work of: it is a sub-job, and ends with its parent. Only the controller writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub parent: Option<Parent>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// An output of another job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputOf {
    /// The job's name.
    pub job: String,
    /// The output, and the way into it: `name.field`; unset: all outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The run that a sub-job does the work of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parent {
    /// The name of the run's job.
    pub job: String,
    /// Its uid.
    pub job_uid: JobUid,
    /// The run's name; where a person retried it, that of the run that began the sub-job.
    pub run: String,
    /// For `for_each`: the place of its item in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The attempt of the step, and the try of that attempt, that it was last begun for: what ended badly for an earlier one
    /// is tried again, in place.
    #[serde(default)]
    pub round: (u32, u32),
    /// The flows around it, outermost first: a flow that stands among them would call itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<String>,
}

/// What a job should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum JobState {
    /// Go on.
    #[default]
    Running,
    /// Start nothing new.
    Paused,
    /// End.
    Cancelled,
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum JobPhase {
    /// Not begun: something is missing; the reason says what.
    #[default]
    Pending,
    /// Steps run, or wait to.
    Running,
    /// Nothing new starts until a person acts.
    Paused,
    /// Ended well.
    Succeeded,
    /// Ended badly; the reason says how.
    Failed,
    /// Ended by a person.
    Cancelled,
}

impl JobPhase {
    /// Whether the job has ended: it is entitled to no process.
    pub fn is_terminal(self) -> bool {
        match self {
            JobPhase::Pending | JobPhase::Running | JobPhase::Paused => false,
            JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => true,
        }
    }

    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            JobPhase::Pending => "Pending",
            JobPhase::Running => "Running",
            JobPhase::Paused => "Paused",
            JobPhase::Succeeded => "Succeeded",
            JobPhase::Failed => "Failed",
            JobPhase::Cancelled => "Cancelled",
        }
    }
}

/// What a job is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// Where it is in its life.
    pub phase: JobPhase,
    /// One word for why, such as `Abandoned`, `StepFailed`, `NoTerminalReached`, `DeadlineExceeded`, `Escalated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The outputs of its terminal steps, once it has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
    /// When its first pass began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it turned terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What its runs cost together, where agents told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// The flow as it was when the job began: a later edit of the `Flow` does not change a job under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<Arc<Value>>,
    /// The directory that relative paths in the flow are relative to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_dir: Option<String>,
    /// Values of declared inputs that were not given with the job: from `config` beside the flow and from the environment,
    /// as they were when it began.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, Value>,
    /// The `spec.retry` that was acted upon.
    #[serde(skip_serializing_if = "is_zero")]
    pub retried: u32,
    /// On a sub-job that has ended: its run has taken in how, or asks no more.
    #[serde(skip_serializing_if = "is_false")]
    pub collected: bool,
    /// The generation that it had when a step escalated it: it goes on when a person has changed its spec since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalated_generation: Option<u64>,
    /// Further facts, each with its own clock.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One fact about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name, such as `ManifestValid`.
    pub r#type: String,
    /// Whether it holds.
    pub status: bool,
    /// One word for why.
    pub reason: String,
    /// The same for a person.
    pub message: String,
    /// When it last changed; of a requirement: when it was last asked for.
    pub last_transition_time: Time,
    /// The generation of the object that it was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
}

impl Job {
    /// Its uid.
    pub fn uid(&self) -> JobUid {
        JobUid(self.metadata.uid.clone())
    }

    /// The uid of its parent, if it is a sub-job.
    pub fn parent_uid(&self) -> Option<&JobUid> {
        self.spec.parent.as_ref().map(|parent| &parent.job_uid)
    }

    /// Whether somebody wanted its failed steps to be tried again, and nothing was done about that yet.
    pub fn is_to_be_retried(&self) -> bool {
        self.spec.retry > self.status.retried
    }

    /// Whether it has ended, and stays so.
    pub fn is_over(&self) -> bool {
        self.status.phase.is_terminal() && !self.is_to_be_retried()
    }

    /// When it may be deleted, if it is over and says how long it is kept.
    pub fn expires_at(&self) -> Option<Time> {
        let kept = self.spec.ttl_after_finished.filter(|_| !self.is_active())?;
        Some(self.status.finished_at?.after(kept.0))
    }

    /// Whether something is to be done about it yet. A sub-job that has ended waits for its run to take that in.
    pub fn is_active(&self) -> bool {
        !self.is_over() || (self.spec.parent.is_some() && !self.status.collected)
    }
}
