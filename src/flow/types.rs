//! A flow with its meaning: what `compile` makes of what an author wrote.

use crate::model::{DocPath, ExitAction};
use serde_json::Value;
use std::collections::BTreeMap;

/// A flow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flow {
    /// Its name, if it says one.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// What a job must or may be given (`inputs` and `config`, whose values are looked up in this order: given with the
    /// job, the default).
    pub inputs: BTreeMap<String, Field>,
    /// By name.
    pub steps: BTreeMap<String, Step>,
}

/// The schema of one value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Field {
    /// For people.
    pub description: Option<String>,
    /// What it must be.
    pub r#type: FieldType,
    /// The value when none is given.
    pub default: Option<Value>,
    /// Whether one must be given.
    pub required: bool,
    /// For `choice`: what it may be.
    pub options: Vec<Value>,
    /// For numbers: the least.
    pub min: Option<f64>,
    /// For numbers: the most.
    pub max: Option<f64>,
    /// Never printed or logged.
    pub sensitive: bool,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names of the flow language")]
pub enum FieldType {
    /// Nothing was said: any JSON value.
    #[default]
    Any,
    Str,
    Text,
    Number,
    Bool,
    Choice,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// What does the work.
    pub executor: Executor,
    /// The names that it sees, and where their values come from.
    pub inputs: BTreeMap<String, Input>,
    /// What it must give; empty: anything.
    pub outputs: BTreeMap<String, Field>,
    /// What must have completed before it.
    pub after: Vec<Dependency>,
    /// The same, but a skipped source or one that failed with `on_error: continue` will do.
    pub after_resolved: Vec<Dependency>,
    /// Whether it becomes ready.
    pub when: Option<When>,
    /// What its end means.
    pub exits: Vec<ExitRule>,
    /// What its failure means, if no rule answers it.
    pub on_error: OnError,
    /// How long one run may take.
    pub max_duration: Option<std::time::Duration>,
    /// What one run may cost.
    pub max_cost_usd: Option<f64>,
    /// Where it runs; `$name` is replaced by input values. Unset: the job's working directory.
    pub working_dir: Option<String>,
    /// Where in its document it is.
    pub path: DocPath,
}

/// What does the work of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Executor {
    /// `run:`: a command line for `sh -c` (a lone script path is already resolved).
    Script(String),
    /// `executor: agent`.
    Agent(AgentStep),
    /// `executor: external`: a person or a program answers.
    External {
        /// What they are asked.
        prompt: Option<String>,
    },
}

/// The work of an agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentStep {
    /// The `AgentClass`.
    pub class: String,
    /// What it is asked; `$name` is replaced by input values.
    pub prompt: Prompt,
    /// How its outputs come about.
    pub output_mode: OutputMode,
    /// For `file`: where, relative to the working directory; unset: a path of the run's own.
    pub output_path: Option<String>,
    /// The model, if the class's default will not do.
    pub model: Option<String>,
    /// Further directories that it may read and write through the client.
    pub allowed_paths: Vec<String>,
}

/// What an agent is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// The text.
    Text(String),
    /// A file with the text, relative to the flow's directory.
    File(String),
}

impl Default for Prompt {
    fn default() -> Self {
        Prompt::Text(String::new())
    }
}

/// How an agent's outputs come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputMode {
    /// `{"status": "completed"}`.
    #[default]
    Effect,
    /// `{"result": text}`.
    StreamResult,
    /// A JSON file that the agent writes.
    File,
}

/// One input of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Where its value comes from.
    pub source: InputSource,
    /// Whether it may be absent.
    pub optional: bool,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum InputSource {
    /// `$job.name.path…`.
    Job(Vec<String>),
    /// `step.field.path…`.
    Step(StepField),
    /// The first in list order whose step has a current completed run.
    AnyOf(Vec<StepField>),
}

/// A field of a step's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepField {
    /// The step.
    pub step: String,
    /// The field, and the way into it; empty: all outputs.
    pub path: Vec<String>,
}

/// A step, or one of several, that another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependency {
    /// This one.
    Step(String),
    /// One of these.
    AnyOf(Vec<String>),
}

/// The condition of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum When {
    /// An expression over the resolved inputs.
    Expression(String),
    /// Whether this input has a value.
    IsPresent(String, bool),
    /// Whether this input's value is null.
    IsNull(String, bool),
}

/// What the end of a run means, under a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitRule {
    /// Its name.
    pub name: Option<String>,
    /// The condition; none: always.
    pub when: Option<String>,
    /// What follows.
    pub action: ExitAction,
    /// For `loop`: what runs again.
    pub target: Option<String>,
    /// For `loop`: after this many completed runs of the target, escalate instead.
    pub max_iterations: Option<u32>,
}

/// What a failure means, if no rule answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The job fails.
    #[default]
    Fail,
    /// The others go on.
    Continue,
}
