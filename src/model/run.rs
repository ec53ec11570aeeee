//! Step runs: one attempt of one step of a job each.

use crate::model::{JobUid, Object, Time, WorkloadUid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A step run. Its name is `<job>.<step>.<attempt>`.
pub type StepRun = Object<RunSpec, RunStatus>;

/// Which attempt of what.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// The job's name.
    pub job: String,
    /// The job's uid.
    pub job_uid: JobUid,
    /// The step's name.
    pub step: String,
    /// From 1.
    pub attempt: u32,
    /// The values of the step's inputs, resolved when the run was made; `null`: absent.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// The runs that those values came from, and that `after` waited for, as (step, attempt): what makes it current.
    #[serde(default)]
    pub sources: Vec<(String, u32)>,
    /// Its place among the runs of its job, in the order in which they were made, from 1: what a loop supersedes is what
    /// is older than the run that it made.
    #[serde(default)]
    pub order: u32,
    /// The run whose end asked for this one, as (step, attempt): by a `loop` rule, or by a person's retry. None: its
    /// inputs did; it begins a new iteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<(String, u32)>,
    /// For `for_each`: the list, one sub-job an item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Value>>,
    /// The run whose sub-jobs this one goes on with, because a person asked for a retry: the attempt that began them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopts: Option<u32>,
}

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum RunPhase {
    /// Ready, and waiting for a place.
    #[default]
    Pending,
    /// Its workload works on it.
    Running,
    /// It waits for somebody's answer.
    Suspended,
    /// It gave its outputs.
    Completed,
    /// It did not.
    Failed,
    /// It never started: its job settled without it.
    Skipped,
    /// It was ended from outside.
    Cancelled,
}

impl RunPhase {
    /// Whether nothing more will happen to it.
    pub fn is_final(self) -> bool {
        match self {
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => false,
            RunPhase::Completed | RunPhase::Failed | RunPhase::Skipped | RunPhase::Cancelled => true,
        }
    }

    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            RunPhase::Pending => "Pending",
            RunPhase::Running => "Running",
            RunPhase::Suspended => "Suspended",
            RunPhase::Completed => "Completed",
            RunPhase::Failed => "Failed",
            RunPhase::Skipped => "Skipped",
            RunPhase::Cancelled => "Cancelled",
        }
    }
}

/// What a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunStatus {
    /// Where it is in its life.
    pub phase: RunPhase,
    /// One word for why, on a run that failed or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for a person; on a suspended run, the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Map<String, Value>>,
    /// What its exit rules said, once they were asked: the decision is taken once, with the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The workload that works, or worked, on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadUid>,
    /// The agent's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Tokens, as the agent counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// What it cost, where the agent told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// When it became ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When its work first began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Not before: the next check of a poll, the next try of a retry, the answer of a mock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Time>,
    /// What was tried so far, for a step with decorators; the last one may be under way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Try>,
    /// The result of an equal run was taken: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_from: Option<String>,
    /// The flow that the agent left behind, which does the step's work now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emitted: Option<Value>,
    /// When it became final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// One try at the work of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Try {
    /// What was tried.
    pub part: Part,
    /// When it began.
    pub started_at: Time,
    /// When it ended; none: it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Map<String, Value>>,
}

/// What a try is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// The step's own executor.
    Work,
    /// The executor of the decorator at this place.
    Fallback(usize),
    /// The webhook of the decorator at this place.
    Notification(usize),
}

/// What an exit rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitAction {
    /// Go on.
    Advance,
    /// Run the target again.
    Loop,
    /// Wait for a person.
    Escalate,
    /// End the job as failed.
    Abandon,
}

/// What was decided about a run that ended, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The action taken.
    pub action: ExitAction,
    /// The rule's name; none: no rule matched and the default held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// For `loop`: the step that runs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A person asked for it: it is tried again, in place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// How the work on a run ended, as seen at the edge: what a workload's files say. The flow machine gives it its meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Outputs, or the failure.
    pub result: Result<Map<String, Value>, Failure>,
    /// Tokens, where known.
    pub usage: Option<Value>,
    /// Cost, where known.
    pub cost_usd: Option<f64>,
    /// The agent's session, where there was one.
    pub session: Option<String>,
}

impl Outcome {
    /// What was given, or why nothing was, and nothing else.
    pub fn of(result: Result<Map<String, Value>, Failure>) -> Outcome {
        Outcome { result, usage: None, cost_usd: None, session: None }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One word: `ExitStatus`, `OutputInvalid`, `HandshakeFailed`, `WorkloadLost`, ….
    pub reason: String,
    /// The same for a person.
    pub message: String,
}

impl Outcome {
    /// A failure of which nothing more is known.
    pub fn failed(failure: Failure) -> Outcome {
        Outcome { result: Err(failure), usage: None, cost_usd: None, session: None }
    }
}
