//! The top of a flow, and the values of a job.

use super::step::Step;
use super::words::Text;
use schemars::JsonSchema;
use serde_json::Value;
use std::collections::BTreeMap;

/// A flow: steps, their inputs and outputs, and what their end means.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FlowFile {
    /// What the flow is called; unset: as its file, or its directory.
    name: Option<Text>,
    /// What it is for.
    description: Option<Text>,
    /// Who wrote it.
    author: Option<Text>,
    /// Which version of it this is.
    version: Option<Text>,
    /// The flow that it was made from.
    forked_from: Option<Value>,
    /// Who may see it in a catalogue.
    visibility: Option<Text>,
    /// Whether a catalogue passes it over.
    archived: Option<bool>,
    /// Words to find it by.
    tags: Option<Vec<String>>,
    /// What a job is given. A default makes a value optional.
    inputs: Option<Fields>,
    /// Values that are set beside the flow or in the environment rather than with each job.
    config: Option<Fields>,
    /// What must be installed before a job starts.
    requires: Option<Vec<Requirement>>,
    /// A longer text for people.
    readme: Option<Text>,
    /// In which kind of machine the steps run.
    containment: Option<Value>,
    /// The steps, by name. Their order carries no meaning: `inputs` and `after` order them.
    #[schemars(extend("minProperties" = 1, "propertyNames" = {"pattern": "^[A-Za-z0-9_-]{1,64}$"}))]
    steps: BTreeMap<String, Step>,
}

/// Values by name: a mapping of names to schemas, or a list of names.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Fields {
    /// With a schema each.
    Schemas(BTreeMap<String, Option<FieldOrType>>),
    /// Names alone: any value will do.
    Names(Vec<String>),
}

/// The schema of a value; a type alone is short for `{type: …}`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum FieldOrType {
    /// The type alone.
    Type(FieldType),
    /// The whole schema.
    Field(Field),
}

/// The schema of a value.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Field {
    /// What it is, for people.
    description: Option<Text>,
    /// What it must be; unset: anything.
    r#type: Option<FieldType>,
    /// The value when none is given.
    default: Option<Value>,
    /// Whether one must be given.
    required: Option<bool>,
    /// What one may look like.
    example: Option<Value>,
    /// For a `choice`: what it may be.
    options: Option<Vec<Value>>,
    /// Whether it is masked in everything that is printed or logged.
    sensitive: Option<bool>,
    /// For a number: the least.
    min: Option<f64>,
    /// For a number: the most.
    max: Option<f64>,
}

/// The type of a value.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum FieldType {
    /// A short text.
    Str,
    /// A text of several lines.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// One of `options`.
    Choice,
    /// The same as `str`.
    String,
    /// The same as `number`.
    Int,
    /// The same as `number`.
    Float,
    /// The same as `bool`.
    Boolean,
    /// Anything.
    Any,
    /// Anything.
    Json,
    /// Anything.
    List,
    /// Anything.
    Dict,
    /// Anything.
    Object,
}

/// Something that must be installed; a name alone is for people.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Requirement {
    /// Its name.
    Name(String),
    /// And how to see and get it.
    Described(RequirementFields),
}

/// Something that must be installed.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RequirementFields {
    /// What it is called.
    name: Text,
    /// What it is needed for.
    description: Option<Text>,
    /// A command line; exit status 0 says that it is there.
    check: Option<Text>,
    /// How to install it, for people.
    install: Option<Text>,
    /// Where to read about it.
    url: Option<Text>,
}
