//! The one door to the expression language.

use serde_json::{Map, Value};

/// Whether an expression holds.
pub(super) fn condition(text: &str, names: &Map<String, Value>) -> Result<bool, String> {
    let operand = |text: &str| -> Result<Value, String> {
        let text = text.trim();
        match text {
            "True" | "true" => return Ok(Value::Bool(true)),
            "False" | "false" => return Ok(Value::Bool(false)),
            "None" => return Ok(Value::Null),
            _ => {}
        }
        if let Some(text) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
            return Ok(text.into());
        }
        if let Ok(number) = text.parse::<serde_json::Number>() {
            return Ok(number.into());
        }
        let mut parts = text.split('.');
        let mut value = names.get(parts.next().unwrap_or("")).cloned().ok_or("no such name")?;
        for part in parts {
            value = value.get(part).cloned().ok_or("no such attribute")?;
        }
        Ok(value)
    };
    if let Some((left, right)) = text.split_once(" in ") {
        return Ok(operand(right)?.get(operand(left)?.as_str().unwrap_or("")).is_some());
    }
    if let Some((left, right)) = text.split_once("==") {
        return Ok(operand(left)? == operand(right)?);
    }
    if let Some((left, right)) = text.split_once(">=") {
        return Ok(operand(left)?.as_f64() >= operand(right)?.as_f64());
    }
    Ok(operand(text)? == Value::Bool(true))
}
