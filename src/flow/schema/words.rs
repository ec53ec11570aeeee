//! The simple values of the flow language.

use schemars::JsonSchema;

/// A text; a number is taken for its digits.
#[derive(JsonSchema)]
#[schemars(transparent, extend("type" = ["string", "number", "null"]))]
pub struct Text(String);

/// An expression in Python's syntax, such as `outputs.score >= 0.8 and attempt < 3`.
#[derive(JsonSchema)]
#[schemars(transparent, extend("type" = ["string", "boolean", "number", "null"]))]
pub struct Expression(String);

/// A number of 1 or more.
#[derive(JsonSchema)]
#[schemars(transparent, extend("type" = ["integer", "null"]))]
pub struct Count(#[schemars(range(min = 1))] u32);

/// A number above 0.
#[derive(JsonSchema)]
#[schemars(transparent, extend("type" = ["number", "null"], "exclusiveMinimum" = 0))]
pub struct Amount(f64);

/// `90s`, `2h 30m`, or a number of seconds.
#[derive(JsonSchema)]
#[schemars(transparent, extend("type" = ["string", "number", "null"]))]
pub struct Duration(String);

/// Where a value comes from: `step.field`, `step.field.path`, or `$job.name` for an input of the job.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub struct Source(#[schemars(regex(pattern = r"^(\$job|[A-Za-z0-9_-]+)(\.[^.]+)+$"))] String);

/// The name of a step.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub struct StepName(#[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))] String);

/// A list of texts; a single one may stand alone.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}
