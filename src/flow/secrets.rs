//! What is not to be shown: the values of inputs and outputs that a flow declares `sensitive`.
//!
//! They are found by value, wherever they stand: in the environment of a script, in a prompt, in a message. A short text, a number, or
//! a truth value is hidden only where it stands alone among inputs and outputs: it would be found everywhere.

use serde_json::{Map, Value};
use std::borrow::Cow;

/// What is shown instead.
const MASK: &str = "***";

/// A shorter text is part of too many words.
const SHORTEST: usize = 4;

/// What stands in these is a value of a job.
const VALUES: [&str; 4] = ["inputs", "outputs", "vars", "default"];

/// What names an object is shown as it is: without it nobody could ask for it.
const NAMES: [&str; 4] = ["name", "uid", "kind", "apiVersion"];

/// The values that are not to be shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Secrets {
    /// Found within texts; the longest first.
    texts: Vec<String>,
    /// Found alone.
    values: Vec<Value>,
}

/// The names that a flow, as it was written, declares sensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sensitive {
    /// Of its inputs.
    pub inputs: Vec<String>,
    /// Of the outputs of its steps.
    pub outputs: Vec<String>,
}

impl Sensitive {
    /// Those of a flow.
    pub fn of(flow: &Value) -> Sensitive {
        let steps = flow["steps"].as_object().into_iter().flat_map(Map::values);
        Sensitive {
            inputs: ["inputs", "config"].iter().flat_map(|key| names(&flow[key])).collect(),
            outputs: steps.flat_map(|step| names(&step["outputs"])).collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }
}

fn names(fields: &Value) -> Vec<String> {
    let fields = fields.as_object().into_iter().flatten();
    let sensitive = fields.filter(|(_, field)| field["sensitive"] == Value::Bool(true));
    sensitive.map(|(name, _)| name.clone()).collect()
}

impl Secrets {
    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.values.is_empty()
    }

    /// And this value, with all that is in it.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => fields.values().for_each(|item| self.add(item)),
            Value::String(text) if text.chars().count() >= SHORTEST => {
                self.add_text(text.clone());
                // As it stands in a JSON text.
                let quoted = value.to_string();
                self.add_text(quoted.trim_matches('"').to_owned());
            }
            Value::String(text) if text.is_empty() => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) => self.values.push(value.clone()),
        }
    }

    fn add_text(&mut self, text: String) {
        if !self.texts.contains(&text) {
            self.texts.push(text);
            // One may be part of another.
            self.texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        }
    }

    /// And these.
    pub fn extend(&mut self, others: &Secrets) {
        others.texts.iter().for_each(|text| self.add_text(text.clone()));
        self.values.extend(others.values.iter().cloned());
    }

    /// The same for who reads line by line: each line of them is one of its own.
    #[must_use]
    pub fn by_line(&self) -> Secrets {
        let mut lines = Secrets { values: self.values.clone(), ..Secrets::default() };
        for line in self.texts.iter().flat_map(|text| text.lines()).filter(|line| line.chars().count() >= SHORTEST) {
            lines.add_text(line.to_owned());
        }
        lines
    }

    /// A text without them.
    pub fn mask_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for secret in self.texts.iter().filter(|secret| text.contains(secret.as_str())) {
            shown = Cow::Owned(shown.replace(secret.as_str(), MASK));
        }
        shown
    }

    /// An object without them.
    pub fn mask(&self, value: &mut Value) {
        if !self.is_empty() {
            self.walk(value, false);
        }
    }

    fn walk(&self, value: &mut Value, among_values: bool) {
        if among_values && self.values.contains(value) {
            *value = MASK.into();
            return;
        }
        match value {
            Value::String(text) => {
                if let Cow::Owned(shown) = self.mask_text(text) {
                    *text = shown;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, among_values)),
            Value::Object(fields) => {
                for (name, item) in fields.iter_mut().filter(|(name, _)| !NAMES.contains(&name.as_str())) {
                    self.walk(item, among_values || VALUES.contains(&name.as_str()));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_sensitive_is_not_shown_wherever_it_stands() {
        let flow = json!({"inputs": {"token": {"sensitive": true}, "who": {}}, "config": {"pin": {"sensitive": true}},
            "steps": {"a": {"outputs": {"key": {"sensitive": true}, "other": null}}, "b": {"outputs": ["x"]}}});
        let sensitive = Sensitive::of(&flow);
        assert_eq!((sensitive.inputs, sensitive.outputs), (vec!["token".into(), "pin".into()], vec!["key".into()]));
        let mut secrets = Secrets::default();
        for value in [json!("s3cr\"et"), json!(7), json!(["inner"]), json!(""), json!(null), json!("ab")] {
            secrets.add(&value);
        }
        let mut object = json!({
            "metadata": {"name": "inner", "labels": {"a": "inner"}},
            "spec": {"inputs": {"token": "s3cr\"et", "pin": 7, "short": "ab"}, "attempt": 7, "word": "ab",
                     "files": {"inputs.json": json!({"token": "s3cr\"et"}).to_string()}},
            "status": {"message": "it said: s3cr\"et, inner"},
        });
        secrets.mask(&mut object);
        assert_eq!(
            object,
            json!({
                "metadata": {"name": "inner", "labels": {"a": "***"}},
                "spec": {"inputs": {"token": "***", "pin": "***", "short": "***"}, "attempt": 7, "word": "ab",
                         "files": {"inputs.json": "{\"token\":\"***\"}"}},
                "status": {"message": "it said: ***, ***"},
            })
        );
        assert_eq!(secrets.mask_text("nothing"), "nothing");
        assert!(Secrets::default().is_empty());
    }
}
