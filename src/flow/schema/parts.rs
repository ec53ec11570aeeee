//! The parts of a step: inputs, conditions, exit rules, limits, decorators, the cache.

use super::words::{Amount, Count, Duration, Expression, Source, StepName, Text};
use schemars::JsonSchema;
use serde_json::Value;

/// Where the value of an input comes from.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Input {
    /// From there.
    Source(Source),
    /// From there, or one of several, or not at all.
    Described(InputFields),
}

/// Where the value of an input comes from: `from`, or `any_of`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["from"]}, {"required": ["any_of"]}]))]
pub struct InputFields {
    /// From there.
    from: Option<Source>,
    /// From the first in this order whose step has a current completed run.
    #[schemars(length(min = 2))]
    any_of: Option<Vec<Source>>,
    /// Whether it may be absent: then it is empty in a prompt, and unset in a script.
    optional: Option<bool>,
    /// What it is, for people.
    description: Option<Text>,
}

/// Steps that another waits for.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Dependencies {
    /// One.
    One(StepName),
    /// One of several.
    Group(AnyOf),
    /// All of these.
    All(Vec<Dependency>),
}

/// A step, or one of several, that another waits for.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Dependency {
    /// This one.
    Step(StepName),
    /// One of these.
    Group(AnyOf),
}

/// One of several steps.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AnyOf {
    /// Two or more.
    #[schemars(length(min = 2))]
    any_of: Vec<StepName>,
}

/// A condition.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum When {
    /// An expression over the inputs.
    Expression(Expression),
    /// A question about one input, such as one that a loop gives.
    Input(WhenFields),
}

/// A question about one input: `is_present`, or `is_null`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [{"required": ["is_present"]}, {"required": ["is_null"]}]))]
pub struct WhenFields {
    /// Its name.
    input: String,
    /// Whether it must have a value.
    is_present: Option<bool>,
    /// Whether its value must be null.
    is_null: Option<bool>,
}

/// What the end of a run means, under a condition.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend(
    "if" = {"properties": {"action": {"const": "loop"}}, "required": ["action"]},
    "then" = {"required": ["target"]}
))]
pub struct ExitRule {
    /// What the rule is called in events.
    name: Option<Text>,
    /// What it is for.
    description: Option<Text>,
    /// An expression over `outputs`, `attempt`, and `max_attempts`; unset: always.
    when: Option<Expression>,
    /// What follows.
    action: Action,
    /// For `loop` and `escalate`: the step that runs again.
    target: Option<StepName>,
    /// For `loop`: after so many completed runs of the target, escalate instead.
    max_iterations: Option<Count>,
}

/// What follows the end of a run.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Action {
    /// Go on.
    Advance,
    /// The target runs again, and everything behind it.
    Loop,
    /// The job is paused until a person acts.
    Escalate,
    /// The job fails, and everything that it owned is stopped.
    Abandon,
}

/// What one run may take and cost.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// In US dollars; past it, the run fails with `CostLimitExceeded`.
    max_cost_usd: Option<f64>,
    /// In minutes; past it, the run fails with `DurationLimitExceeded`.
    max_duration_minutes: Option<Amount>,
    /// For loops to this step whose rule has no bound of its own.
    max_iterations: Option<Count>,
}

/// Taking the result of an equal run: `true`, or its fields.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Cache {
    /// Whether it is taken at all.
    Switch(bool),
    /// And which one.
    Described(CacheFields),
}

/// Taking the result of an equal run.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CacheFields {
    /// How old it may be; unset: any age.
    ttl: Option<Duration>,
    /// What must be equal besides the step and its inputs; `$name` is replaced by input values.
    key_extra: Option<Text>,
    /// Whether it is taken at all.
    enabled: Option<bool>,
}

/// Something that is wrapped around the work: `{type: retry, config: {…}}`, `{type: retry, …}`, or `{retry: {…}}`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [
    {"required": ["type"]}, {"required": ["timeout"]}, {"required": ["retry"]},
    {"required": ["fallback"]}, {"required": ["notification"]}
]))]
pub struct Decorator {
    /// Which one.
    r#type: Option<DecoratorName>,
    /// Its fields, where they do not stand beside `type`.
    config: Option<DecoratorFields>,
    /// What it wraps fails if it takes longer.
    timeout: Option<TimeoutFields>,
    /// What it wraps is tried again if it fails.
    retry: Option<RetryFields>,
    /// If what it wraps fails, another executor does the work.
    fallback: Option<FallbackFields>,
    /// How what it wraps ended is posted to a URL.
    notification: Option<NotificationFields>,
    /// For `timeout`: the limit.
    seconds: Option<Amount>,
    /// For `timeout`: the limit.
    minutes: Option<Amount>,
    /// For `retry`: how often, after the first time.
    max_retries: Option<Count>,
    /// For `retry`: how long it waits before.
    backoff: Option<Backoff>,
    /// For `fallback`: what does the work then.
    fallback_ref: Option<FallbackRef>,
    /// For `notification`: the URL.
    webhook_url: Option<Text>,
    /// For `notification`: the same as `webhook_url`.
    url: Option<Text>,
}

/// The decorators.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum DecoratorName {
    /// What it wraps fails if it takes longer.
    Timeout,
    /// What it wraps is tried again if it fails.
    Retry,
    /// If what it wraps fails, another executor does the work.
    Fallback,
    /// How what it wraps ended is posted to a URL.
    Notification,
}

/// The fields of a decorator.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum DecoratorFields {
    /// Of `timeout`.
    Timeout(TimeoutFields),
    /// Of `retry`.
    Retry(RetryFields),
    /// Of `fallback`.
    Fallback(FallbackFields),
    /// Of `notification`.
    Notification(NotificationFields),
}

/// The limit of a `timeout`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TimeoutFields {
    /// In seconds.
    seconds: Option<Amount>,
    /// In minutes.
    minutes: Option<Amount>,
}

/// How often is tried again.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RetryFields {
    /// After the first time.
    max_retries: Count,
    /// How long it waits before.
    backoff: Option<Backoff>,
}

/// How long a retry waits.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Backoff {
    /// Not at all.
    None,
    /// 1 s, then twice as long each time, a minute at most.
    Exponential,
}

/// What does the work if it fails.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FallbackFields {
    /// The executor.
    fallback_ref: FallbackRef,
}

/// An executor by its name, with its fields.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FallbackRef {
    /// Which one.
    r#type: FallbackName,
    /// Its fields, as in a step.
    config: Option<std::collections::BTreeMap<String, Value>>,
}

/// The executors that can be a fallback.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum FallbackName {
    /// A command line.
    Script,
    /// An AI agent.
    Agent,
    /// One question to a model.
    Llm,
    /// Somebody outside answers.
    External,
    /// Answers by chance, for tests.
    MockLlm,
}

/// Where a result is posted.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NotificationFields {
    /// An `http` or `https` URL; `$name` is replaced by input values.
    webhook_url: Option<Text>,
    /// The same.
    url: Option<Text>,
}
