//! From a generic value to an object of one kind.

use super::{DocumentKind, names};
use crate::model::{API_VERSION, AnyObject, DocPath, Kind, Object, PathSegment, Problem, Severity};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

/// How many problems of one document are looked for: each costs a reading of the whole.
const MOST_PROBLEMS: usize = 32;

fn key(name: &str) -> PathSegment {
    PathSegment::Key(name.to_owned())
}

fn error(path: DocPath, message: String, help: Option<String>) -> Problem {
    Problem { severity: Severity::Error, path, at_key: false, offset: 0, message, help }
}

/// What a document says that it is.
pub(super) fn header(value: &Value, problems: &mut Vec<Problem>) -> Option<DocumentKind> {
    let Some(fields) = value.as_object() else {
        let help = "an object is a mapping with `kind:`, a flow is one with `steps:`".to_owned();
        problems.push(error(Vec::new(), "the document is not a mapping".into(), Some(help)));
        return None;
    };
    let Some(kind) = fields.get("kind") else {
        if fields.contains_key("steps") {
            return Some(DocumentKind::BareFlow);
        }
        let help = match names::similar("steps", fields.keys().map(String::as_str)) {
            Some(close) => format!("`{close}` looks like `steps`"),
            None => "an object has `apiVersion:` and `kind:`, a flow has `steps:`".to_owned(),
        };
        problems.push(error(Vec::new(), "the document has neither `kind` nor `steps`".into(), Some(help)));
        return None;
    };
    match fields.get("apiVersion").and_then(Value::as_str) {
        Some(API_VERSION) => {}
        Some(other) => {
            let help = Some(format!("write `apiVersion: {API_VERSION}`"));
            problems.push(error(vec![key("apiVersion")], format!("there is no API version `{other}`"), help));
        }
        None => {
            let help = Some(format!("write `apiVersion: {API_VERSION}`"));
            problems.push(error(vec![key("kind")], "there is a `kind` and no `apiVersion`".into(), help));
        }
    }
    let known: Vec<&str> = Kind::ALL.into_iter().filter(|kind| kind.is_authored()).map(Kind::as_str).collect();
    let found = Kind::ALL.into_iter().find(|known| Some(known.as_str()) == kind.as_str());
    match found {
        Some(kind) if kind.is_authored() => Some(DocumentKind::Object(kind)),
        Some(kind) => {
            let help = Some(format!("people write {}", known.join(", ")));
            problems.push(error(vec![key("kind")], format!("a {kind} is written by the controller"), help));
            None
        }
        None => {
            let text = kind.as_str().map_or_else(|| kind.to_string(), str::to_owned);
            let help = match names::similar(&text, known.iter().copied()) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("the kinds are {}", known.join(", ")),
            };
            problems.push(error(vec![key("kind")], format!("there is no kind `{text}`"), Some(help)));
            None
        }
    }
}

/// The object of a document, if nothing is wrong with it.
pub(super) fn object(kind: Kind, value: &Value, problems: &mut Vec<Problem>) -> Option<AnyObject> {
    let before = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let mut fields = value.as_object().cloned().unwrap_or_default();
    fields.shift_remove("apiVersion");
    fields.shift_remove("kind");
    if fields.shift_remove("status").is_some() {
        problems.push(Problem {
            severity: Severity::Warning,
            path: vec![key("status")],
            at_key: true,
            offset: 0,
            message: "`status` is written by the controller; this one is passed over".into(),
            help: Some("remove it".into()),
        });
    }
    metadata(&mut fields, problems);
    if !fields.contains_key("spec") {
        problems.push(error(vec![key("kind")], format!("the {kind} has no `spec`"), None));
    }
    let object = match kind {
        Kind::Flow => read(fields, problems).map(AnyObject::Flow),
        Kind::Job => read(fields, problems).map(AnyObject::Job),
        Kind::AgentClass => read(fields, problems).map(AnyObject::AgentClass),
        Kind::MachineClass => read(fields, problems).map(AnyObject::MachineClass),
        Kind::Ledger => read(fields, problems).map(AnyObject::Ledger),
        Kind::Policy => read(fields, problems).map(AnyObject::Policy),
        Kind::StepRun | Kind::Workload => None,
    };
    if let Some(AnyObject::Job(job)) = &object
        && job.spec.flow_ref.is_some() == job.spec.flow.is_some()
    {
        let message = "a job has either `flowRef` or `flow`".to_owned();
        problems.push(error(vec![key("spec")], message, Some("name a Flow, or write its steps here".into())));
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    object.filter(|_| errors == before)
}

/// What people may say of who an object is; the rest is the store's.
fn metadata(fields: &mut Map<String, Value>, problems: &mut Vec<Problem>) {
    const STORES_OWN: [&str; 5] = ["uid", "generation", "resourceVersion", "creationTimestamp", "deletionTimestamp"];
    let Some(meta) = fields.get_mut("metadata").and_then(Value::as_object_mut) else {
        let help = Some("write `metadata: {name: …}`".to_owned());
        problems.push(error(vec![key("metadata")], "the object has no name".into(), help));
        return;
    };
    for own in STORES_OWN {
        meta.shift_remove(own);
    }
    match meta.get("name") {
        Some(Value::String(name)) if names::is_name(name) => {}
        Some(other) => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            let help = Some("use letters, digits, `-`, `_`, and `.`; at most 253".to_owned());
            let path = vec![key("metadata"), key("name")];
            problems.push(error(path, format!("`{text}` cannot be a name"), help));
        }
        None => {
            let help = Some("write `metadata: {name: …}`".to_owned());
            problems.push(error(vec![key("metadata")], "the object has no name".into(), help));
        }
    }
}

/// Reads the object again and again, each time without what was wrong before: so everything that is wrong is found.
fn read<S, T>(fields: Map<String, Value>, problems: &mut Vec<Problem>) -> Option<Object<S, T>>
where
    S: DeserializeOwned,
    T: DeserializeOwned + Default,
{
    let mut value = Value::Object(fields);
    for reading in 0..MOST_PROBLEMS {
        let failed = match serde_path_to_error::deserialize::<_, Object<S, T>>(&value) {
            Ok(object) => return (reading == 0).then_some(object),
            Err(failed) => failed,
        };
        let text = failed.inner().to_string();
        let problem = wrong(path_of(failed.path()), &text);
        // Said already, with what to do.
        let is_said = ["missing field `spec`", "missing field `metadata`"].iter().any(|said| text.starts_with(said));
        let mut path = problem.path.clone();
        if !is_said {
            problems.push(problem);
        }
        // An item of a list goes with the list: the next would take its place.
        while matches!(path.last(), Some(PathSegment::Index(_))) {
            path.pop();
        }
        if text.starts_with("missing field") || !remove(&mut value, &path) {
            return None;
        }
    }
    None
}

/// What serde says, as people say it.
fn wrong(path: DocPath, text: &str) -> Problem {
    if let Some((unknown, known)) = quoted(text, "unknown field ") {
        let help = match names::similar(&unknown, known.iter().map(String::as_str)) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        let path = with_key(path, &unknown);
        return Problem { at_key: true, ..error(path, format!("unknown key `{unknown}`"), Some(help)) };
    }
    if let Some((unknown, known)) = quoted(text, "unknown variant ") {
        let help = match names::similar(&unknown, known.iter().map(String::as_str)) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("it is one of {}", known.join(", ")),
        };
        return error(path, format!("it cannot be `{unknown}`"), Some(help));
    }
    let types = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    if let Some((found, expected)) = types.and_then(|types| types.split_once(", expected ")) {
        return error(path, format!("this is {}, and it must be {}", in_words(found), in_words(expected)), None);
    }
    error(path, text.to_owned(), None)
}

/// A type as people call it.
fn in_words(text: &str) -> String {
    let (r#type, value) = text.split_once(' ').filter(|(_, value)| value.starts_with(['"', '`'])).unwrap_or((text, ""));
    let word = match r#type {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "string" | "a string" => "a text",
        "boolean" | "a boolean" => "true or false",
        "integer" => "the number",
        "floating" => return text.replace("floating point", "the number").replace('`', ""),
        "null" => "nothing",
        "sequence" | "a sequence" => "a list",
        "map" | "a map" => "a mapping",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    };
    match (r#type, value) {
        (_, "") => word.to_owned(),
        ("integer", value) => format!("the number {}", value.trim_matches('`')),
        ("boolean", value) => value.trim_matches('`').to_owned(),
        (_, value) => format!("the text {value}"),
    }
}

fn path_of(path: &serde_path_to_error::Path) -> DocPath {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(PathSegment::Index(*index)),
        Segment::Map { key } => Some(PathSegment::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(segment).collect()
}

/// Whether the path of an unknown key ends with the key depends on where it was found.
fn with_key(mut path: DocPath, unknown: &str) -> DocPath {
    if path.last() != Some(&key(unknown)) {
        path.push(key(unknown));
    }
    path
}

/// The unknown word, and the known ones, in serde's message.
fn quoted(text: &str, start: &str) -> Option<(String, Vec<String>)> {
    let rest = text.strip_prefix(start)?;
    let mut words = rest.split('`').skip(1).step_by(2).map(str::to_owned);
    let unknown = words.next()?;
    Some((unknown, words.collect()))
}

fn remove(value: &mut Value, path: &[PathSegment]) -> bool {
    let Some((PathSegment::Key(last), inner)) = path.split_last() else { return false };
    let mut at = value;
    for segment in inner {
        let next = match segment {
            PathSegment::Key(key) => at.get_mut(key),
            PathSegment::Index(index) => at.get_mut(index),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    at.as_object_mut().and_then(|fields| fields.shift_remove(last)).is_some()
}
