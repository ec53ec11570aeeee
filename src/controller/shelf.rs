//! What a pass asks for by name, because it is not among what is active: jobs that have ended, and files with flows.

use crate::manifest::{self, DocumentKind};
use crate::model::{AnyObject, Job, Kind, Reading, Severity};
use crate::os::read_plain;
use crate::store::Records;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// The largest flow file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// A flow that was read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowFile {
    /// Which file, with nothing in its path that could be written in another way.
    pub path: String,
    /// The directory that relative paths in it are relative to.
    pub dir: String,
    /// What is in it: a mapping of the flow language.
    pub flow: Value,
}

/// What can be asked for by name.
pub trait Shelf {
    /// The job of this name, active or not. None: there is none.
    fn job(&self, name: &str) -> Reading<Option<Job>>;

    /// The flow in this file, or in this directory, which is relative to `dir`.
    ///
    /// # Errors
    /// In words: it is not there, can not be read, or is no flow.
    fn flow_file(&self, dir: Option<&str>, name: &str) -> Result<FlowFile, String>;
}

/// The store, and the files of this host.
pub(super) struct OnDisk<'a>(pub(super) &'a dyn Records);

impl Shelf for OnDisk<'_> {
    fn job(&self, name: &str) -> Reading<Option<Job>> {
        match self.0.get(Kind::Job, name) {
            Ok(Some(AnyObject::Job(job))) => Reading::Known(Some(job)),
            Ok(_) => Reading::Known(None),
            Err(error) => Reading::Unknown(error.to_string()),
        }
    }

    fn flow_file(&self, dir: Option<&str>, name: &str) -> Result<FlowFile, String> {
        let base = dir.map_or_else(|| PathBuf::from(name), |dir| Path::new(dir).join(name));
        let mut with_ending = base.clone().into_os_string();
        with_ending.push(".flow.yaml");
        for path in [base.join("FLOW.yaml"), base.clone(), with_ending.into()] {
            match read_plain(&path, FILE_MAX) {
                Ok(text) => return understood(&path, &text),
                Err(error) if is_absence(&error) || path.is_dir() => {}
                Err(error) => return Err(format!("failed to read {}: {error}", path.display())),
            }
        }
        Err(format!("neither a Flow of this name nor a file {} is there", base.display()))
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn understood(path: &Path, text: &[u8]) -> Result<FlowFile, String> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.display().to_string();
    let parsed = manifest::parse(&name, text);
    if let Some(error) = parsed.diagnostics.iter().find(|it| it.severity == Severity::Error) {
        return Err(format!("{name}:{}:{}: {}", error.line, error.column, error.message));
    }
    let mut flows = parsed.documents.into_iter().filter_map(|document| match (document.kind, document.object) {
        (DocumentKind::BareFlow, _) => Some(document.value),
        (DocumentKind::Object(_), Some(AnyObject::Flow(flow))) => Some(flow.spec),
        (DocumentKind::Object(_), _) => None,
    });
    let flow = flows.next().ok_or_else(|| format!("{name} holds no flow: a flow has `steps`"))?;
    let dir = path.parent().unwrap_or(Path::new(".")).display().to_string();
    Ok(FlowFile { path: name, dir, flow })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::fs;

    #[test]
    fn a_flow_is_found_by_its_file_or_its_directory() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("tenure.db")).unwrap();
        let dir = scratch.path().join("flows");
        fs::create_dir_all(dir.join("whole")).unwrap();
        let write = |name: &str, step: &str| {
            fs::write(dir.join(name), format!("steps: {{{step}: {{run: 'true'}}}}\n")).unwrap();
        };
        write("one.yaml", "a");
        write("two.flow.yaml", "b");
        write("whole/FLOW.yaml", "c");
        fs::write(dir.join("list.yaml"), "[1, 2]\n").unwrap();
        let find = |name: &str| OnDisk(&store).flow_file(dir.to_str(), name);
        for (name, step, file) in [
            ("one.yaml", "a", "one.yaml"),
            ("two", "b", "two.flow.yaml"),
            ("./whole", "c", "whole/FLOW.yaml"),
            ("whole/FLOW.yaml", "c", "whole/FLOW.yaml"),
        ] {
            let found = find(name).unwrap();
            assert!(found.flow["steps"].get(step).is_some(), "{name}: {found:?}");
            let file = dir.join(file).canonicalize().unwrap();
            assert_eq!(
                (found.path, found.dir),
                (file.display().to_string(), file.parent().unwrap().display().to_string())
            );
        }
        assert!(find("three").unwrap_err().contains("is there"));
        assert!(find("list.yaml").is_err());
    }
}
