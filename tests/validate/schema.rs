//! The JSON Schema of flows and manifests, held against the files that people have.

use super::text;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn schema(of: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_tenure")).args(["schema", of]).output().expect("tenure runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a schema")
}

fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::draft202012::options().build(schema).expect("the schema is one");
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn documents(path: &Path) -> Vec<Value> {
    let bytes = std::fs::read(path).expect("a file");
    let parsed = tenure::manifest::parse("x", &bytes);
    parsed.documents.into_iter().map(|document| document.value).collect()
}

fn files(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        found.push(if path.is_dir() { path.join("FLOW.yaml") } else { path });
    }
    found
}

#[test]
fn every_flow_and_manifest_that_people_have_passes() {
    let (all, flow) = (schema("all"), schema("flow"));
    let mut passed = 0;
    for path in files("tests/corpus/flows").into_iter().chain(files("manifests")) {
        for value in documents(&path) {
            assert_eq!(errors(&all, &value), Vec::<String>::new(), "{}", path.display());
            if let Some(kind) = value.get("kind").and_then(Value::as_str) {
                assert_eq!(errors(&schema(kind), &value), Vec::<String>::new(), "{}", path.display());
            } else {
                assert_eq!(errors(&flow, &value), Vec::<String>::new(), "{}", path.display());
            }
            passed += 1;
        }
    }
    assert!(passed >= 10, "only {passed} documents were found");
}

#[test]
fn what_is_broken_does_not_pass() {
    let all = schema("all");
    for name in [
        "misspelt-keys",
        "wrong-types",
        "unknown-executor",
        "missing-target",
        "two-executors",
        "any-of-one",
        "manifests",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/broken/{name}.yaml"));
        for value in documents(&path) {
            assert_ne!(errors(&all, &value), Vec::<String>::new(), "{name}: {value}");
        }
    }
}

#[test]
fn every_kind_has_a_schema_and_only_what_people_write() {
    for kind in ["Flow", "Job", "AgentClass", "MachineClass", "Ledger", "Policy"] {
        assert_eq!(schema(kind)["properties"]["kind"]["const"], kind);
    }
    let refused =
        Command::new(env!("CARGO_BIN_EXE_tenure")).args(["schema", "Workload"]).output().expect("tenure runs");
    assert_eq!(refused.status.code(), Some(2));
    insta::assert_snapshot!(text(&refused.stderr), @r"
    error: a Workload is written by the controller
    people write Flow, Job, AgentClass, MachineClass, Ledger, Policy
    ");
}
