//! A step, with the fields of every executor.

use super::file::{Fields, FlowFile};
use super::parts::{Cache, Decorator, Dependencies, ExitRule, Input, Limits, When};
use super::words::{Amount, Count, Expression, Source, StepName, Text, Texts};
use schemars::JsonSchema;
use serde_json::Value;
use std::collections::BTreeMap;

/// A step. It has one of `run`, `executor`, and `flow`; `for_each` goes with `flow`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend(
    "dependentRequired" = {"for_each": ["flow"], "as": ["for_each"]},
    "allOf" = [
        {"anyOf": [{"required": ["run"]}, {"required": ["executor"]}, {"required": ["flow"]}]},
        {"not": {"required": ["run", "flow"]}},
        {"not": {"required": ["executor", "flow"]}},
        {"not": {"required": ["prompt", "prompt_file"]}},
        {"if": {"required": ["run", "executor"]}, "then": {"properties": {"executor": {"const": "script"}}}},
        {
            "if": {"required": ["executor"], "properties": {"executor": {"enum": ["agent", "llm"]}}},
            "then": {"anyOf": [{"required": ["prompt"]}, {"required": ["prompt_file"]}]}
        },
        {
            "if": {"required": ["executor"], "properties": {"executor": {"const": "poll"}}},
            "then": {"required": ["check_command"]}
        }
    ]
))]
pub struct Step {
    /// What the step is for.
    description: Option<Text>,
    /// A command line for `sh -c`, or the path of a script beside the flow. Inputs are shell variables. One JSON object on
    /// stdout is the outputs.
    run: Option<Text>,
    /// What does the work, where it is not `run` or `flow`.
    executor: Option<ExecutorName>,
    /// A flow that does the work as a job of its own: its name, its path, or `{steps: …}` here.
    flow: Option<FlowOrName>,
    /// A list (`step.field` or `$job.name`): the `flow` runs once for each item of it, in parallel.
    for_each: Option<Source>,
    /// For `for_each`: the name of the item among the inputs of the `flow`; unset: `item`.
    r#as: Option<String>,

    /// The names that the step sees, and where their values come from.
    inputs: Option<BTreeMap<String, Input>>,
    /// What it must give: a list of names, or a mapping of names to schemas.
    outputs: Option<Fields>,
    /// Outputs that expressions over the outputs give, by name; before the exit rules.
    derived_outputs: Option<BTreeMap<String, Expression>>,
    /// Steps that must have completed before it.
    after: Option<Dependencies>,
    /// The same, but one that was skipped, or that failed with `on_error: continue`, will do.
    after_resolved: Option<Dependencies>,
    /// Whether it becomes ready, once everything that it waits for is there.
    when: Option<When>,
    /// What its end means; the first rule that holds decides.
    exits: Option<Vec<ExitRule>>,
    /// What its failure means, if no rule answers it. With `for_each`: what the failure of one item means.
    on_error: Option<OnError>,
    /// What one run may take and cost.
    limits: Option<Limits>,
    /// What is wrapped around the work, outermost first.
    decorators: Option<Vec<Decorator>>,
    /// Whether its work may be done again.
    idempotency: Option<Idempotency>,
    /// Whether the result of an equal run is taken instead.
    cache: Option<Cache>,
    /// Where it runs; `$name` is replaced by input values. Unset: the job's workspace.
    working_dir: Option<Text>,
    /// In which kind of machine it runs.
    containment: Option<Value>,

    /// What an agent, a model, or a person is asked; `$name` is replaced by input values, `$$` is a dollar sign.
    prompt: Option<Text>,
    /// A file with the prompt, relative to the flow.
    prompt_file: Option<Text>,
    /// For `agent` and `llm`: the model.
    model: Option<Text>,
    /// For `agent`: the `AgentClass`; unset: `claude`.
    agent: Option<Text>,
    /// For `agent`: the tools that it may use.
    tools: Option<Texts>,
    /// For `agent`: further directories that it may read and write.
    allowed_paths: Option<Texts>,
    /// For `agent`: how its outputs come about; unset: `file` where `outputs` are declared, else `effect`.
    output_mode: Option<OutputMode>,
    /// For `output_mode: file`: where the agent writes them, relative to the working directory.
    output_path: Option<Text>,
    /// For `agent`: it may leave a flow behind, which then does the step's work.
    emit_flow: Option<bool>,
    /// For `agent`: the name of the conversation; steps of a job with the same name share it.
    session: Option<Text>,
    /// For `agent`: what it is asked from the second attempt of a loop on.
    loop_prompt: Option<Text>,
    /// For `agent`: after so many attempts in one conversation a new one begins.
    max_continuous_attempts: Option<Count>,
    /// For `agent`: its conversation begins where that of this step ended.
    fork_from: Option<StepName>,
    /// For `agent`: how its requests for permission are answered; unset: as its class says.
    permissions: Option<StepPermissions>,

    /// For `llm`: what the model is told before the prompt.
    system: Option<Text>,
    /// For `llm`: how freely it answers.
    temperature: Option<f64>,
    /// For `llm`: the longest answer.
    max_tokens: Option<Count>,

    /// For `poll`: a command line; one JSON object on stdout ends the waiting, nothing goes on with it.
    check_command: Option<Text>,
    /// For `poll`: from one check to the next; unset: 60.
    interval_seconds: Option<Amount>,

    /// For `mock_llm`: how often it fails.
    #[schemars(range(min = 0, max = 1))]
    failure_rate: Option<f64>,
    /// For `mock_llm`: how often an output is missing.
    #[schemars(range(min = 0, max = 1))]
    partial_rate: Option<f64>,
    /// For `mock_llm`: the least and the most that it takes, in seconds.
    #[schemars(length(min = 2, max = 2))]
    latency_range: Option<Vec<f64>>,
    /// For `mock_llm`: the outputs, or by step name a mapping of them.
    responses: Option<BTreeMap<String, Value>>,

    /// For `executor: script`: the same as `run`.
    command: Option<Text>,
    /// Has no effect; write `limits` or a `timeout` decorator.
    #[schemars(extend("deprecated" = true))]
    timeout: Option<Value>,
    /// Has no effect.
    #[schemars(extend("deprecated" = true))]
    config: Option<Value>,
    /// Has no effect: a step is called as its key is.
    #[schemars(extend("deprecated" = true))]
    name: Option<Text>,
    /// Has no effect.
    #[schemars(extend("deprecated" = true))]
    effort: Option<Value>,
}

/// What does the work of a step.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ExecutorName {
    /// An AI agent that speaks ACP.
    Agent,
    /// One question to a model.
    Llm,
    /// Somebody outside answers: `tenure fulfill`.
    External,
    /// A command is run again and again, until it gives something.
    Poll,
    /// Answers by chance, for tests.
    MockLlm,
    /// A command line: the same as `run` alone.
    Script,
}

/// A flow, or where it is.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum FlowOrName {
    /// The name of a `Flow`, or a path relative to this flow.
    Name(String),
    /// The flow itself.
    Here(Box<FlowFile>),
}

/// What a failure means.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum OnError {
    /// The job fails.
    Fail,
    /// The others go on.
    Continue,
    /// For `for_each`: the other items are cancelled, and the step fails.
    FailFast,
}

/// Whether the work of a step may be done again.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Idempotency {
    /// Doing it twice is like doing it once.
    Idempotent,
    /// It may be begun again.
    AllowRestart,
    /// It may be begun again; the author guards against what that may do.
    RetriableWithGuard,
    /// It is not tried again, whatever decorators say.
    NonRetriable,
}

/// How the outputs of an agent come about.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum OutputMode {
    /// What it does is what counts: `{"status": "completed"}`.
    Effect,
    /// What it says: `{"result": "…"}`.
    StreamResult,
    /// A JSON file that it writes.
    File,
}

/// How an agent's requests for permission are answered.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum StepPermissions {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// The same as `allow`.
    ApproveAll,
}
