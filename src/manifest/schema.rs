//! The JSON Schema (2020-12) of manifests, from the types that they are read into.

use crate::model::{API_VERSION, AgentClassSpec, JobSpec, Kind, LedgerSpec, MachineClassSpec, Meta, PolicySpec};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The reference to a flow's own schema.
fn flow_file() -> Value {
    json!({"$ref": "#/$defs/FlowFile"})
}

/// The schema of objects of one kind; `flow` is that of flow files. None: people write no such object.
pub fn schema_of(kind: Kind, flow: &Value) -> Option<Value> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let object = object(kind, &mut generator)?;
    Some(root(&format!("tenure: {kind}"), object, generator, flow))
}

/// The schema of everything that a file in a watched directory may hold: an object of any kind, or a flow.
pub fn schema_of_all(flow: &Value) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut kinds = Map::new();
    for kind in Kind::ALL {
        if let Some(object) = object(kind, &mut generator) {
            kinds.insert(kind.as_str().to_owned(), object);
        }
    }
    let names: Vec<&String> = kinds.keys().collect();
    // Each kind by itself, so that what is said is about the kind that is meant.
    let each: Vec<Value> = kinds
        .iter()
        .map(|(name, object)| json!({"if": {"properties": {"kind": {"const": name}}}, "then": object}))
        .collect();
    let whole = json!({
        "type": "object",
        "if": {"required": ["kind"]},
        "then": {"properties": {"kind": {"enum": names}}, "allOf": each},
        "else": flow_file(),
    });
    root("tenure: an object, or a flow", whole, generator, flow)
}

/// A schema with everything that it refers to.
fn root(title: &str, schema: Value, mut generator: SchemaGenerator, flow: &Value) -> Value {
    let mut whole = Map::new();
    whole.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    whole.insert("title".into(), title.into());
    whole.extend(schema.as_object().cloned().unwrap_or_default());
    let mut parts = flow.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    parts.extend(generator.take_definitions(true));
    // A flow stands in a job as in a file; the work of another run is given by the controller only.
    if let Some(fields) = parts.get_mut("JobSpec").and_then(|job| job.get_mut("properties")?.as_object_mut()) {
        fields.insert(
            "flow".into(),
            json!({"description": "The flow itself, if no `flowRef` names one.", "$ref": "#/$defs/FlowFile"}),
        );
        fields.shift_remove("parent");
    }
    whole.insert("$defs".into(), Value::Object(parts));
    Value::Object(whole)
}

fn object(kind: Kind, generator: &mut SchemaGenerator) -> Option<Value> {
    let spec = match kind {
        Kind::Flow => flow_file(),
        Kind::Job => generator.subschema_for::<JobSpec>().to_value(),
        Kind::AgentClass => generator.subschema_for::<AgentClassSpec>().to_value(),
        Kind::MachineClass => generator.subschema_for::<MachineClassSpec>().to_value(),
        Kind::Ledger => generator.subschema_for::<LedgerSpec>().to_value(),
        Kind::Policy => generator.subschema_for::<PolicySpec>().to_value(),
        Kind::StepRun | Kind::Workload => return None,
    };
    let metadata = generator.subschema_for::<Meta>().to_value();
    // A job runs one flow.
    let spec = match kind {
        Kind::Job => json!({"allOf": [spec], "oneOf": [{"required": ["flowRef"]}, {"required": ["flow"]}]}),
        _ => spec,
    };
    Some(json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind.as_str()},
            "metadata": {"allOf": [metadata], "required": ["name"], "properties": {"name": {"pattern": NAME}}},
            "spec": spec,
            "status": {"description": "Written by the controller; passed over in a manifest."},
        },
    }))
}

/// What `names::is_name` allows.
const NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$";
