//! A flow with its meaning: what `compile` makes of what an author wrote.

use crate::flow::Sensitive;
use crate::flow::machine::KnownShape;
use crate::model::{DocPath, ExitAction, Permissions};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A flow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flow {
    /// Its name, if it says one.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// What a job must or may be given (`inputs` and `config`, whose values are looked up in this order: given with the
    /// job, `config` beside the flow, the environment, the default).
    pub inputs: BTreeMap<String, Field>,
    /// What must hold before a job begins.
    pub requires: Vec<Requirement>,
    /// By name.
    pub steps: BTreeMap<String, Step>,
    /// What it declares sensitive, in whatever place.
    pub sensitive: Sensitive,
    /// What the machine has found out about the steps: they must not change once it was asked about them.
    pub(crate) shape: KnownShape,
}

/// What must hold before a job begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Requirement {
    /// Its name.
    pub name: String,
    /// A command line for `sh -c`; exit status 0: it holds. None: only people are told of it.
    pub check: Option<String>,
    /// How to get it, for people.
    pub install: Option<String>,
    /// Where to read about it.
    pub url: Option<String>,
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
    /// What one run may take, and how often the step may run.
    pub limits: Limits,
    /// What is wrapped around the work, outermost first.
    pub decorators: Vec<Decorator>,
    /// Whether its work may be done again.
    pub idempotency: Idempotency,
    /// Whether the result of an equal run is taken instead.
    pub cache: Option<Cache>,
    /// Outputs that expressions over the outputs give, in the order in which they are written: name, expression.
    pub derived_outputs: Vec<(String, String)>,
    /// Where it runs; `$name` is replaced by input values. Unset: the job's working directory.
    pub working_dir: Option<String>,
    /// Where in its document it is.
    pub path: DocPath,
}

impl Step {
    /// The steps that must have completed before it for what it does, besides its inputs and `after`.
    pub fn implied_sources(&self) -> impl Iterator<Item = &str> {
        let source = match &self.executor {
            Executor::SubFlow(SubFlow { for_each: Some(ForEach { list: InputSource::Step(field), .. }), .. }) => {
                Some(field.step.as_str())
            }
            Executor::Agent(AgentStep { fork_from, .. }) => fork_from.as_deref(),
            _ => None,
        };
        source.into_iter()
    }
}

/// What does the work of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Executor {
    /// `run:`: a command line for `sh -c` (a lone script path is already resolved).
    Script(String),
    /// `executor: agent`.
    Agent(AgentStep),
    /// `executor: llm`: one question to a model.
    Llm(LlmStep),
    /// `executor: external`: a person or a program answers.
    External {
        /// What they are asked.
        prompt: Option<String>,
    },
    /// `executor: poll`: a command is run again and again, until it gives something.
    Poll(PollStep),
    /// `executor: mock_llm`: answers by chance; for tests.
    Mock(MockStep),
    /// `flow:`, alone or for each item of a list: jobs of their own, that this job owns.
    SubFlow(SubFlow),
}

/// One question to a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LlmStep {
    /// The model, as its endpoint calls it; none: the endpoint's or the configured one.
    pub model: Option<String>,
    /// What it is asked; `$name` is replaced by input values.
    pub prompt: Prompt,
    /// What it is told before; `$name` is replaced by input values.
    pub system: Option<String>,
    /// How freely it answers.
    pub temperature: Option<f64>,
    /// The longest answer.
    pub max_tokens: Option<u32>,
}

/// A command that is run again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct PollStep {
    /// The command line for `sh -c`; `$name` is replaced by input values.
    pub check_command: String,
    /// From the beginning of one check to the beginning of the next.
    pub interval: Duration,
    /// For people: what is waited for.
    pub prompt: Option<String>,
}

/// Answers by chance, the same for the same run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MockStep {
    /// How often it fails, from 0 to 1.
    pub failure_rate: f64,
    /// How often an output is missing, from 0 to 1.
    pub partial_rate: f64,
    /// It takes from the first to the second.
    pub latency: (Duration, Duration),
    /// What it answers: the outputs, or by step name a mapping of them.
    pub responses: Map<String, Value>,
    /// What it is asked.
    pub prompt: Option<String>,
}

/// Jobs of their own, that this job owns.
#[derive(Debug, Clone, PartialEq)]
pub struct SubFlow {
    /// What they run.
    pub flow: FlowSource,
    /// One for each item of a list; none: one.
    pub for_each: Option<ForEach>,
}

/// Where the flow of a sub-job is.
#[derive(Debug, Clone, PartialEq)]
pub enum FlowSource {
    /// The `Flow` object of this name, or a file relative to the flow's directory.
    Named(String),
    /// Here: as written, and with its meaning.
    Inline(Value, Arc<Flow>),
}

/// One sub-job for each item of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ForEach {
    /// The list: `step.field`, or `$job.name`.
    pub list: InputSource,
    /// The name of the item among the sub-job's inputs.
    pub item: String,
    /// Whether one that fails takes the others along.
    pub on_error: ItemError,
}

/// What the failure of one item means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ItemError {
    /// The others are cancelled, and the step fails.
    #[default]
    FailFast,
    /// The others go on; the step fails if all of them do.
    Continue,
}

/// What one run may take, and how often the step may run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// How long one run may take.
    pub max_duration: Option<Duration>,
    /// What one run may cost.
    pub max_cost_usd: Option<f64>,
    /// For loops to this step whose rule has no bound of its own: after so many completed runs, escalate.
    pub max_iterations: Option<u32>,
}

/// Something that is wrapped around the work of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Decorator {
    /// What it wraps fails with `Timeout` if it takes longer.
    Timeout(Duration),
    /// What it wraps is tried again if it fails.
    Retry {
        /// How often, after the first time.
        max_retries: u32,
        /// How long it waits before.
        backoff: Backoff,
    },
    /// If what it wraps fails, this does the work instead.
    Fallback(Box<Executor>),
    /// How what it wraps ended is posted there.
    Notification {
        /// An `http` or `https` URL; `$name` is replaced by input values.
        webhook_url: String,
    },
}

/// How long a retry waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backoff {
    /// Not at all.
    #[default]
    None,
    /// 1 s, then twice as long each time, a minute at most.
    Exponential,
}

/// Whether the work of a step may be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idempotency {
    /// Doing it twice is like doing it once.
    #[default]
    Idempotent,
    /// It may be begun again.
    AllowRestart,
    /// It may be begun again; the author guards against what that may do.
    RetriableWithGuard,
    /// It is not tried again, whatever decorators say.
    NonRetriable,
}

/// Taking the result of an equal run instead of doing the work.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cache {
    /// How old it may be; none: any age.
    pub ttl: Option<Duration>,
    /// What must be equal besides the step and its inputs; `$name` is replaced by input values.
    pub key_extra: Option<String>,
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
    /// The tools that it may use; empty: its own choice.
    pub tools: Vec<String>,
    /// How its requests for permission are answered; none: as its class says.
    pub permissions: Option<Permissions>,
    /// The conversation that it shares with the steps of the same name; none: one of its own for each run.
    pub session: Option<String>,
    /// What it is asked from the second attempt of a loop on.
    pub loop_prompt: Option<String>,
    /// After so many attempts in one conversation, a new one is begun.
    pub max_continuous_attempts: Option<u32>,
    /// Its conversation begins where that of this step's run ended.
    pub fork_from: Option<String>,
    /// It may leave a flow behind, which then does the step's work.
    pub emit_flow: bool,
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
