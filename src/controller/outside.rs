//! What a pass asks of the world besides processes: values for inputs, texts beside a flow, results that were kept.

use crate::flow::Flow;
use crate::manifest;
use crate::model::Job;
use crate::os::read_plain;
use crate::store::Store;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest file that is read for a flow, in bytes.
const TEXT_MAX: u64 = 4 << 20;

/// The values of a flow directory are in this file; those of a flow file in one whose name ends so.
const CONFIG: &str = "config.local.yaml";

/// The world, to those who decide.
pub trait Outside {
    /// A variable of our own environment.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file beside a flow.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn text(&self, path: &Path) -> io::Result<String>;

    /// A note that the controller keeps for itself. One that cannot be read is one that is not there.
    fn note(&self, key: &str) -> Option<String>;
}

/// The world as it is.
pub(super) struct Host(pub(super) Arc<Store>);

impl Outside for Host {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn text(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(read_plain(path, TEXT_MAX)?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn note(&self, key: &str) -> Option<String> {
        self.0.meta(key).ok().flatten()
    }
}

/// The values of declared inputs that a job was not given: from the configuration beside its flow, else from the environment.
/// What nobody knows is left out. Else: what is wrong with the configuration.
pub(super) fn vars(
    flow: &Flow,
    job: &Job,
    config: Option<&Path>,
    outside: &dyn Outside,
) -> Result<BTreeMap<String, Value>, String> {
    let given = |name: &String| job.spec.inputs.get(name).is_some_and(|value| !value.is_null());
    let mut missing = flow.inputs.keys().filter(|name| !given(name)).peekable();
    if missing.peek().is_none() {
        return Ok(BTreeMap::new());
    }
    let config = config.map(|path| read_config(path, outside)).transpose()?.unwrap_or_default();
    let value = |name: &String| {
        let configured = config.get(name).filter(|value| !value.is_null()).cloned();
        configured.or_else(|| outside.variable(&format!("STEPWISE_VAR_{}", name.to_uppercase())).map(Value::String))
    };
    Ok(missing.filter_map(|name| Some((name.clone(), value(name)?))).collect())
}

fn read_config(path: &Path, outside: &dyn Outside) -> Result<Map<String, Value>, String> {
    let wrong = |what: String| format!("{}: {what}", path.display());
    let text = match outside.text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    match manifest::plain(&text).map_err(wrong)? {
        Value::Null => Ok(Map::new()),
        Value::Object(values) => Ok(values),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(wrong("it is no mapping of names to values".into()))
        }
    }
}

/// Where the values for a flow are, by its file: `x.config.local.yaml` for `x.flow.yaml` and `x.yaml`, `config.local.yaml` for
/// a directory with `FLOW.yaml`.
pub(super) fn config_of(flow_file: &Path) -> Option<PathBuf> {
    let name = flow_file.file_name()?.to_str()?;
    if name == "FLOW.yaml" {
        return Some(flow_file.with_file_name(CONFIG));
    }
    let stem = [".yaml", ".yml", ".json"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let stem = stem.strip_suffix(".flow").unwrap_or(stem);
    Some(flow_file.with_file_name(format!("{stem}.{CONFIG}")))
}

/// Whether a file of this name holds values for a flow, and is no manifest.
pub(super) fn is_config(name: &str) -> bool {
    name == CONFIG || name.strip_suffix(CONFIG).is_some_and(|stem| stem.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Field;
    use serde_json::json;

    /// A file, a variable, nothing else.
    struct Fake(&'static str);

    impl Outside for Fake {
        fn variable(&self, name: &str) -> Option<String> {
            ["STEPWISE_VAR_A", "STEPWISE_VAR_B", "STEPWISE_VAR_C"].contains(&name).then(|| "environment".into())
        }

        fn text(&self, _: &Path) -> io::Result<String> {
            if self.0.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(self.0.into()) }
        }

        fn note(&self, _: &str) -> Option<String> {
            None
        }
    }

    #[test]
    fn what_a_job_was_not_given_comes_from_the_configuration_then_from_the_environment() {
        let inputs = ["a", "b", "c", "d"].into_iter().map(|name| (name.into(), Field::default())).collect();
        let flow = Flow { inputs, ..Flow::default() };
        let mut job = Job::default();
        job.spec.inputs = BTreeMap::from([("a".into(), json!("given")), ("b".into(), Value::Null)]);
        let of = |text| vars(&flow, &job, Some(Path::new("x")), &Fake(text)).map(|vars| json!(vars));
        assert_eq!(of("b: 1\nother: 2\n"), Ok(json!({"b": 1, "c": "environment"})));
        assert_eq!(of(""), Ok(json!({"b": "environment", "c": "environment"})));
        assert_eq!(of("# nothing\n"), of(""));
        assert_eq!(of("[1]").unwrap_err(), "x: it is no mapping of names to values");
        assert!(of("a: [").unwrap_err().starts_with("x: "), "{:?}", of("a: ["));
    }

    #[test]
    fn the_configuration_is_beside_the_flow() {
        for (flow, config) in [
            ("d/x.flow.yaml", "d/x.config.local.yaml"),
            ("d/x.yml", "d/x.config.local.yaml"),
            ("d/FLOW.yaml", "d/config.local.yaml"),
        ] {
            let found = config_of(Path::new(flow)).unwrap();
            assert_eq!(found, Path::new(config));
            assert!(is_config(found.file_name().unwrap().to_str().unwrap()) && !is_config(flow));
        }
        assert!(!is_config("myconfig.local.yaml"));
    }
}
