//! Reads the fields of one mapping, and notes what is wrong with them.

use crate::model::{DocPath, PathSegment, Problem, Severity, Span};
use serde_json::{Map, Value};
use std::time::Duration;

pub(super) fn key(path: &[PathSegment], name: &str) -> DocPath {
    path.iter().cloned().chain([PathSegment::Key(name.to_owned())]).collect()
}

pub(super) fn index(path: &[PathSegment], index: usize) -> DocPath {
    path.iter().cloned().chain([PathSegment::Index(index)]).collect()
}

pub(super) fn problem(path: DocPath, message: &str, help: Option<String>) -> Problem {
    Problem { severity: Severity::Error, path, at_key: false, offset: 0, message: message.to_owned(), help }
}

pub(super) fn warning(path: DocPath, message: &str, help: Option<String>) -> Problem {
    Problem { severity: Severity::Warning, ..problem(path, message, help) }
}

/// The name among these that was probably meant, as a hint.
pub(super) fn did_you_mean<'a>(text: &str, among: impl IntoIterator<Item = &'a str>) -> Option<String> {
    among
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(text, candidate), candidate))
        .filter(|(closeness, _)| *closeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// One mapping.
pub(super) struct Reader<'a, 'p> {
    fields: &'a Map<String, Value>,
    path: DocPath,
    problems: &'p mut Vec<Problem>,
}

impl<'a, 'p> Reader<'a, 'p> {
    pub(super) fn mapping(
        value: &'a Value,
        path: DocPath,
        what: &str,
        problems: &'p mut Vec<Problem>,
    ) -> Option<Reader<'a, 'p>> {
        match value.as_object() {
            Some(fields) => Some(Reader { fields, path, problems }),
            None => {
                problems.push(problem(path, &format!("{what} must be a mapping"), None));
                None
            }
        }
    }

    pub(super) fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    pub(super) fn path(&self) -> &DocPath {
        &self.path
    }

    pub(super) fn error(&mut self, path: DocPath, message: &str, help: Option<String>) {
        self.problems.push(problem(path, message, help));
    }

    /// Warns of every key that is not one of these: it may come from a newer version, or be misspelt.
    pub(super) fn known(&mut self, known: &[&str]) {
        for name in self.fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let help = did_you_mean(name, known.iter().copied());
            let unknown = warning(key(&self.path, name), &format!("unknown key `{name}` is passed over"), help);
            self.problems.push(Problem { at_key: true, ..unknown });
        }
    }

    /// The value of a key, and its path; none where it is absent or null.
    pub(super) fn field(&self, name: &str) -> Option<(&'a Value, DocPath)> {
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        Some((value, key(&self.path, name)))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let (value, path) = self.field(name)?;
        match value {
            Value::String(text) => Some(text.clone()),
            // `version: 1.0` and `name: 5` are texts to an author.
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.error(path, &format!("`{name}` must be a text"), None);
                None
            }
        }
    }

    /// An expression; YAML reads a bare `True` as a boolean.
    pub(super) fn expression(&mut self, name: &str) -> Option<String> {
        let (value, path) = self.field(name)?;
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(true) => Some("True".into()),
            Value::Bool(false) => Some("False".into()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.error(path, &format!("`{name}` must be an expression"), None);
                None
            }
        }
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let (value, path) = self.field(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.error(path, &format!("`{name}` must be true or false"), None);
        }
        flag
    }

    pub(super) fn number(&mut self, name: &str) -> Option<f64> {
        let (value, path) = self.field(name)?;
        let number = value.as_f64();
        if number.is_none() {
            self.error(path, &format!("`{name}` must be a number"), None);
        }
        number
    }

    pub(super) fn count(&mut self, name: &str) -> Option<u32> {
        let (value, path) = self.field(name)?;
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
        if count.is_none() {
            self.error(path, &format!("`{name}` must be a whole number from 1"), None);
        }
        count
    }

    /// So many seconds; more than none.
    pub(super) fn seconds(&mut self, name: &str) -> Option<Duration> {
        let seconds = self.number(name)?;
        self.duration(name, seconds)
    }

    /// So many minutes; more than none.
    pub(super) fn minutes(&mut self, name: &str) -> Option<Duration> {
        let minutes = self.number(name)?;
        self.duration(name, minutes * 60.0)
    }

    /// `90s`, `2h 30m`, or a number of seconds; more than none.
    pub(super) fn span(&mut self, name: &str) -> Option<Duration> {
        let (value, path) = self.field(name)?;
        if value.is_number() {
            return self.seconds(name);
        }
        let span = value.as_str().and_then(|text| text.parse::<Span>().ok()).map(|span| span.0);
        if span.is_none_or(|span| span.is_zero()) {
            let help = Some("write `90s`, `2h 30m`, or a number of seconds".to_owned());
            self.error(path, &format!("`{name}` must be a duration"), help);
        }
        span
    }

    /// What is longer than anybody lives is for ever.
    fn duration(&mut self, name: &str, seconds: f64) -> Option<Duration> {
        if seconds.is_nan() || seconds <= 0.0 {
            self.error(key(&self.path, name), &format!("`{name}` must be more than 0"), None);
            return None;
        }
        Some(Duration::try_from_secs_f64(seconds).map_or(super::wrap::LONGEST, |it| it.min(super::wrap::LONGEST)))
    }

    pub(super) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let help = did_you_mean(&text, all.iter().copied()).unwrap_or(format!("it is one of {}", all.join(", ")));
            self.error(key(&self.path, name), &format!("`{name}` cannot be `{text}`"), Some(help));
        }
        found.map(|(_, value)| *value)
    }

    /// The names in a list.
    pub(super) fn names(&mut self, name: &str) -> Vec<String> {
        let Some((value, path)) = self.field(name) else { return Vec::new() };
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => {
                self.error(path, &format!("`{name}` must be a list of texts"), None);
                Vec::new()
            }
        }
    }

    /// What this version cannot do is an error, never passed over in silence; an empty value asks for nothing.
    pub(super) fn refuse(&mut self, name: &str, why: &str) {
        let Some((value, path)) = self.field(name) else { return };
        let empty = match value {
            Value::Bool(flag) => !flag,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Null | Value::Number(_) | Value::String(_) => false,
        };
        if !empty {
            let message = format!("`{name}` is not supported by this version: {why}");
            self.problems.push(Problem { at_key: true, ..problem(path, &message, Some("remove it".into())) });
        }
    }
}
