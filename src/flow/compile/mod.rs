//! From what an author wrote to a flow with its meaning, with every problem found in one go, each by its path in the
//! document.

mod check;
mod cycles;
mod executor;
mod reader;
mod sessions;
mod step;
#[cfg(test)]
mod tests;
mod wrap;

use super::Sensitive;
use super::schema;
use super::types::{Field, FieldType, Flow, Requirement};
use crate::model::{DocPath, Problem, Severity};
use reader::Reader;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What became of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The flow; none: it has errors.
    pub flow: Option<Flow>,
    /// Everything that is wrong, in the order of the document's parts.
    pub problems: Vec<Problem>,
}

/// So many flows may be written inside of each other.
const DEEPEST: usize = 16;

/// Gives a flow its meaning.
pub fn compile(spec: &Value) -> Compiled {
    let mut problems = Vec::new();
    let flow = compile_at(spec, Vec::new(), 0, &BTreeSet::new(), &mut problems);
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    Compiled { flow: (!failed).then_some(flow), problems }
}

/// The same, for a flow at this place of a document: inside of so many others, and given at least these inputs.
fn compile_at(
    spec: &Value,
    path: DocPath,
    depth: usize,
    given: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Flow {
    let mut flow = Flow::default();
    if depth > DEEPEST {
        let message = format!("more than {DEEPEST} flows are inside of each other");
        problems.push(reader::problem(path, &message, Some("write it as a flow of its own".into())));
        return flow;
    }
    let Some(mut top) = Reader::mapping(spec, path.clone(), "a flow", problems) else { return flow };
    top.known(schema::keys_of_flow());
    flow.sensitive = Sensitive::of(spec);
    flow.name = top.text("name");
    flow.description = top.text("description");
    for section in ["inputs", "config"] {
        if let Some((value, path)) = top.field(section) {
            flow.inputs.extend(fields(value, path, section == "inputs", top.problems()));
        }
    }
    if let Some((value, path)) = top.field("requires") {
        flow.requires = requires(value, path, top.problems());
    }
    top.refuse("containment", "machines come with a later version");
    match top.field("steps") {
        Some((value, path)) => flow.steps = step::steps(value, path, depth, top.problems()),
        None => top.error(path, "the flow has no `steps`", Some("write `steps: {name: {run: …}}`".into())),
    }
    check::check(&flow, given, problems);
    flow
}

fn requires(value: &Value, path: DocPath, problems: &mut Vec<Problem>) -> Vec<Requirement> {
    let Some(items) = value.as_array() else {
        let help = Some("write `requires: [{name: git, check: git --version}]`".to_owned());
        problems.push(reader::problem(path, "`requires` must be a list", help));
        return Vec::new();
    };
    let one = |(at, item): (usize, &Value)| {
        let at = reader::index(&path, at);
        if let Some(name) = item.as_str() {
            return Some(Requirement { name: name.to_owned(), ..Requirement::default() });
        }
        let mut reader = Reader::mapping(item, at.clone(), "a requirement", problems)?;
        reader.known(schema::keys_of_requirement());
        if !reader.has("name") {
            reader.error(at, "the requirement has no `name`", None);
        }
        Some(Requirement {
            name: reader.text("name")?,
            check: reader.text("check"),
            install: reader.text("install"),
            url: reader.text("url"),
        })
    };
    items.iter().enumerate().filter_map(one).collect()
}

/// A mapping of names to schemas, or a list of names.
pub(super) fn fields(
    value: &Value,
    path: DocPath,
    required_by_default: bool,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Field> {
    let mut fields = BTreeMap::new();
    match value {
        Value::Array(names) => {
            for (index, name) in names.iter().enumerate() {
                match name.as_str() {
                    Some(name) => {
                        fields.insert(name.to_owned(), Field { required: true, ..Field::default() });
                    }
                    None => problems.push(reader::problem(reader::index(&path, index), "a name must be a text", None)),
                }
            }
        }
        Value::Object(entries) => {
            for (name, schema) in entries {
                fields.insert(name.clone(), field(schema, reader::key(&path, name), required_by_default, problems));
            }
        }
        Value::Null => {}
        _ => problems.push(reader::problem(path, "must be a list of names, or a mapping of names to schemas", None)),
    }
    fields
}

fn field(schema: &Value, path: DocPath, required_by_default: bool, problems: &mut Vec<Problem>) -> Field {
    let mut field = Field { required: required_by_default, ..Field::default() };
    // `name: str` is a schema too, and so is nothing at all.
    if let Some(word) = schema.as_str() {
        field.r#type = field_type(word, path, problems);
        return field;
    }
    if schema.is_null() {
        return field;
    }
    let Some(mut reader) = Reader::mapping(schema, path.clone(), "a schema", problems) else { return field };
    reader.known(schema::keys_of_field());
    field.description = reader.text("description");
    if let Some(word) = reader.text("type") {
        let at = reader::key(&path, "type");
        field.r#type = field_type(&word, at, reader.problems());
    }
    field.default = reader.field("default").map(|(value, _)| value.clone());
    field.required = reader.flag("required").unwrap_or(required_by_default && field.default.is_none());
    field.sensitive = reader.flag("sensitive").unwrap_or(false);
    field.min = reader.number("min");
    field.max = reader.number("max");
    if let Some((value, at)) = reader.field("options") {
        match value.as_array() {
            Some(options) => field.options.clone_from(options),
            None => reader.error(at, "`options` must be a list", None),
        }
    }
    if field.r#type == FieldType::Choice && field.options.is_empty() {
        reader.error(path, "a choice needs `options`", Some("write `options: [a, b]`".into()));
    }
    field
}

fn field_type(word: &str, path: DocPath, problems: &mut Vec<Problem>) -> FieldType {
    match word {
        "str" | "string" => FieldType::Str,
        "text" => FieldType::Text,
        "number" | "int" | "float" => FieldType::Number,
        "bool" | "boolean" => FieldType::Bool,
        "choice" => FieldType::Choice,
        "any" | "json" | "list" | "dict" | "object" => FieldType::Any,
        _ => {
            let help = "the types are str, text, number, bool, and choice".to_owned();
            problems.push(reader::problem(path, &format!("there is no type `{word}`"), Some(help)));
            FieldType::Any
        }
    }
}
