//! How a script step is launched: its inputs reach it as data, never as text of the script.

use crate::model::{EnvValue, Job, StepRun};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the file, in the run directory, that holds the inputs as JSON.
const INPUTS_FILE: &str = "inputs.json";

/// The argument vector: `sh -c`, with each input that can be a shell variable set as one, not exported.
pub(super) fn command(script: &str, run: &StepRun) -> Vec<String> {
    let mut prelude = String::new();
    for (name, value) in run.spec.inputs.iter().filter(|(name, _)| is_shell_name(name)) {
        if value.is_null() {
            prelude.push_str(&format!("unset -v {name}; "));
        } else {
            prelude.push_str(&format!("{name}=$STEPWISE_INPUT_{name}; "));
        }
    }
    vec!["sh".into(), "-c".into(), format!("{prelude}{script}")]
}

/// The environment of a script.
pub(super) fn environment(job: &Job, run: &StepRun, cwd: &Path, run_dir: &Path) -> BTreeMap<String, EnvValue> {
    let mut env = of_job(job, cwd);
    let mut set = |name: String, value: String| env.insert(name, EnvValue::Literal(value));
    for (name, value) in &run.spec.inputs {
        if let Some(text) = text_of(value) {
            set(format!("STEPWISE_INPUT_{name}"), text);
        }
    }
    set("STEPWISE_ATTEMPT".into(), run.spec.attempt.to_string());
    set("STEPWISE_STEP_NAME".into(), run.spec.step.clone());
    set("JOB_ENGINE_INPUTS".into(), run_dir.join(INPUTS_FILE).to_string_lossy().into_owned());
    env
}

/// What of it does not depend on a step.
pub(super) fn of_job(job: &Job, cwd: &Path) -> BTreeMap<String, EnvValue> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), EnvValue::Literal(value));
    set("STEPWISE_JOB_ID", job.metadata.name.clone());
    set("STEPWISE_PROJECT_DIR", cwd.to_string_lossy().into_owned());
    set("JOB_ENGINE_WORKSPACE", cwd.to_string_lossy().into_owned());
    if let Some(dir) = &job.status.flow_dir {
        set("STEPWISE_FLOW_DIR", dir.clone());
    }
    env
}

/// The files that a script finds in its run directory.
pub(super) fn files(run: &StepRun) -> BTreeMap<String, String> {
    BTreeMap::from([(INPUTS_FILE.to_owned(), Value::Object(run.spec.inputs.clone()).to_string())])
}

/// A value as a script sees it: strings as they are, others as JSON, `null` not at all.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Whether a shell can have a variable of this name.
fn is_shell_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
}
