//! Values: the inputs of a job, the way into a value, and the schema of one.

use crate::flow::{Field, FieldType, Flow};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// The inputs of a job: as given, else from outside of it, else the default, else `null`. What is given beyond the declared
/// ones is kept. Else: reason and message of why the job can not begin.
pub(super) fn resolve_job_inputs(
    flow: &Flow,
    given: &BTreeMap<String, Value>,
    vars: &BTreeMap<String, Value>,
) -> Result<Map<String, Value>, (&'static str, String)> {
    let mut values: Map<String, Value> = vars.clone().into_iter().chain(given.clone()).collect();
    let (mut missing, mut wrong) = (Vec::new(), Vec::new());
    for (name, field) in &flow.inputs {
        let from_outside = [given.get(name), vars.get(name)].into_iter().flatten().find(|value| !value.is_null());
        let value = from_outside.or(field.default.as_ref());
        match value {
            Some(value) => {
                let value = coerce(field, value.clone());
                wrong.extend(misfit(field, &value).map(|why| format!("`{name}` {why}")));
                values.insert(name.clone(), value);
            }
            None if field.required => missing.push(format!("`{name}`")),
            None => {
                values.insert(name.clone(), Value::Null);
            }
        }
    }
    if !missing.is_empty() {
        return Err(("InputsMissing", format!("set `spec.inputs` for {}", missing.join(", "))));
    }
    if !wrong.is_empty() {
        return Err(("InputsInvalid", format!("correct `spec.inputs`: {}", wrong.join("; "))));
    }
    Ok(values)
}

/// The value at the end of a path, through mappings and (by number) lists; `null` if there is none.
pub(super) fn at_path(value: &Value, path: &[String]) -> Value {
    let step = |value: &'_ Value, key: &String| match value {
        Value::Object(map) => map.get(key).cloned(),
        Value::Array(list) => key.parse::<usize>().ok().and_then(|at| list.get(at).cloned()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    path.iter().try_fold(value.clone(), |value, key| step(&value, key)).unwrap_or(Value::Null)
}

/// The same, from a mapping.
pub(super) fn in_map(map: &Map<String, Value>, path: &[String]) -> Value {
    match path.split_first() {
        Some((first, rest)) => map.get(first).map_or(Value::Null, |value| at_path(value, rest)),
        None => Value::Object(map.clone()),
    }
}

/// Text, as a command line gives it, as the value that the field wants; anything else as it is.
pub(super) fn coerce(field: &Field, value: Value) -> Value {
    let Value::String(text) = &value else { return value };
    let number = || text.trim().parse::<Number>().ok().map(Value::Number);
    let option = || field.options.iter().find(|option| option.to_string() == *text).cloned();
    let coerced = match field.r#type {
        FieldType::Number => number(),
        FieldType::Bool => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Some(Value::Bool(true)),
            "false" | "no" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        FieldType::Choice if !field.options.contains(&value) => option(),
        FieldType::Any | FieldType::Str | FieldType::Text | FieldType::Choice => None,
    };
    coerced.unwrap_or(value)
}

/// Why a value is not what the field wants: the end of a sentence that begins with its name.
pub(super) fn misfit(field: &Field, value: &Value) -> Option<String> {
    let fits = match field.r#type {
        FieldType::Any | FieldType::Choice => true,
        FieldType::Str | FieldType::Text => value.is_string(),
        FieldType::Number => value.is_number(),
        FieldType::Bool => value.is_boolean(),
    };
    let shown = || if field.sensitive { "the value".to_owned() } else { shortened(value) };
    if !fits {
        return Some(format!("must be {}, not {}", kind(field.r#type), shown()));
    }
    if !field.options.is_empty() && !field.options.contains(value) {
        let options: Vec<String> = field.options.iter().map(|option| format!("`{}`", plain(option))).collect();
        return Some(format!("must be one of {}, not {}", options.join(", "), shown()));
    }
    let number = value.as_f64()?;
    match (field.min, field.max) {
        (Some(min), _) if number < min => Some(format!("must be at least {min}, not {}", shown())),
        (_, Some(max)) if number > max => Some(format!("must be at most {max}, not {}", shown())),
        (_, _) => None,
    }
}

fn kind(r#type: FieldType) -> &'static str {
    match r#type {
        FieldType::Any => "any value",
        FieldType::Str | FieldType::Text => "text",
        FieldType::Number => "a number",
        FieldType::Bool => "`true` or `false`",
        FieldType::Choice => "one of the options",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Enough of a value to know it by.
pub(super) fn shortened(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
