//! `$name` in a prompt.

use serde_json::{Map, Value};

/// Replaces `$name` by the value of that name.
pub(super) fn substitute(text: &str, names: &Map<String, Value>) -> String {
    let mut result = text.to_owned();
    for (name, value) in names {
        let plain = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
        };
        result = result.replace(&format!("${name}"), &plain);
    }
    result
}
