//! What an author may write: each key of the flow language, with what it takes, in one place.
//!
//! From these declarations come the JSON Schema with which editors complete and check flows, and the lists of known keys
//! for the compiler. They say what may be written; what it means, and what must hold between the parts, is the compiler's.
//! A key that nobody knows is a warning to the compiler, for it may come from a newer version; the schema refuses it, for in an
//! editor that marks the misspelt word and costs nothing.

#![allow(dead_code, reason = "these are declarations: no value of them is ever made")]
#![allow(clippy::large_enum_variant, reason = "the same")]

mod file;
mod parts;
mod step;
#[cfg(test)]
mod tests;
mod words;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The JSON Schema (2020-12) of a flow file.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let flow = generator.subschema_for::<file::FlowFile>().to_value();
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "tenure: a flow",
            "$ref": flow["$ref"],
            "$defs": generator.take_definitions(true),
        })
    });
    &SCHEMA
}

/// The keys of each declaration, in its order.
fn keys_of(name: &str) -> &'static [&'static str] {
    static KEYS: LazyLock<BTreeMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
        let keys =
            |schema: &'static Value| Some(schema.get("properties")?.as_object()?.keys().map(String::as_str).collect());
        let parts = schema()["$defs"].as_object().into_iter().flatten();
        parts.filter_map(|(name, part)| Some((name.as_str(), keys(part)?))).collect()
    });
    KEYS.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// The keys of a flow.
pub fn keys_of_flow() -> &'static [&'static str] {
    keys_of("FlowFile")
}

/// The keys of a step, whatever its executor.
pub fn keys_of_step() -> &'static [&'static str] {
    keys_of("Step")
}

/// The keys of the schema of a value: under `inputs` and `config` of a flow, and `outputs` of a step.
pub fn keys_of_field() -> &'static [&'static str] {
    keys_of("Field")
}

/// The keys of a requirement.
pub fn keys_of_requirement() -> &'static [&'static str] {
    keys_of("RequirementFields")
}

/// The keys of an input of a step.
pub fn keys_of_input() -> &'static [&'static str] {
    keys_of("InputFields")
}

/// The keys of a `when` that asks about one input.
pub fn keys_of_when() -> &'static [&'static str] {
    keys_of("WhenFields")
}

/// The keys of an exit rule.
pub fn keys_of_exit_rule() -> &'static [&'static str] {
    keys_of("ExitRule")
}

/// The keys of `limits`.
pub fn keys_of_limits() -> &'static [&'static str] {
    keys_of("Limits")
}

/// The keys of `cache`.
pub fn keys_of_cache() -> &'static [&'static str] {
    keys_of("CacheFields")
}
