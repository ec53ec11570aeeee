//! A manifest's text → objects that may be stored: parsed, and its flows understood.

use crate::flow;
use crate::manifest::{self, DocumentKind};
use crate::model::{
    AnyObject, Diagnostic, FLOW_DIR_ANNOTATION, FLOW_FILE_ANNOTATION, Flow, Job, JobSpec, Kind, Meta, NoStatus,
    PathSegment, Problem, Severity,
};
use std::path::Path;

/// The condition of a job that says whether its manifest can be understood.
pub(super) const MANIFEST_VALID: &str = "ManifestValid";

/// What a manifest gives.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Its objects, in order.
    pub objects: Vec<AnyObject>,
    /// What is wrong with it. With an error among them, the objects are not to be used.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// The first error.
    pub fn first_error(&self) -> Option<&Diagnostic> {
        self.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error)
    }
}

/// Loads a file; relative paths in its flows are relative to its directory.
pub fn load(path: &Path, text: &[u8]) -> Loaded {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    load_text(&path.display().to_string(), text, Some(&dir))
}

/// The flow that is all of a text; or what is wrong with it, first of all, and in which line.
pub(super) fn flow(file: &str, text: &[u8]) -> Result<serde_json::Value, String> {
    let loaded = load_text(file, text, None);
    if let Some(error) = loaded.first_error() {
        return Err(format!("line {}: {}", error.line, error.message));
    }
    match loaded.objects.into_iter().next() {
        Some(AnyObject::Flow(flow)) => Ok(flow.spec),
        Some(_) | None => Err("line 1: it is no flow: `steps:` is missing".into()),
    }
}

/// Loads a text that is called `file` in messages.
pub fn load_text(file: &str, text: &[u8], dir: Option<&Path>) -> Loaded {
    let parsed = manifest::parse(file, text);
    let mut loaded = Loaded { objects: Vec::new(), diagnostics: parsed.diagnostics };
    for document in parsed.documents {
        // Of an object with errors, too: everything is found in one go.
        let prefix: &[&str] = match document.kind {
            DocumentKind::BareFlow => &[],
            DocumentKind::Object(Kind::Flow) => &["spec"],
            DocumentKind::Object(Kind::Job) => &["spec", "flow"],
            DocumentKind::Object(_) => &["", ""],
        };
        let flow_value = prefix.iter().try_fold(&document.value, |value, name| value.get(name));
        let prefix = key(prefix);
        if let Some(value) = flow_value {
            for problem in flow::compile(value).problems {
                let path = prefix.iter().cloned().chain(problem.path).collect();
                let problem = Problem { path, ..problem };
                loaded.diagnostics.push(manifest::diagnose(file, text, &document.positions, &problem));
            }
        }
        let objects = match (document.kind, document.object) {
            (DocumentKind::BareFlow, _) => bare_flow(file, document.value),
            (DocumentKind::Object(_), Some(object)) => vec![object],
            (DocumentKind::Object(_), None) => Vec::new(),
        };
        loaded.objects.extend(objects.into_iter().map(|object| at(object, file, dir)));
    }
    loaded.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    loaded
}

fn key(names: &[&str]) -> Vec<PathSegment> {
    names.iter().map(|name| PathSegment::Key((*name).to_owned())).collect()
}

/// A bare flow file is a flow and one job of it.
fn bare_flow(file: &str, value: serde_json::Value) -> Vec<AnyObject> {
    let name = manifest::flow_name(file, &value);
    let job_name = manifest::job_name(&name, &value);
    let flow = Flow { metadata: Meta::named(name.clone()), spec: value, status: NoStatus::default() };
    let spec = JobSpec { flow_ref: Some(name), ..JobSpec::default() };
    let job = Job { metadata: Meta::named(job_name), spec, status: Default::default() };
    vec![AnyObject::Flow(flow), AnyObject::Job(job)]
}

fn at(mut object: AnyObject, file: &str, dir: Option<&Path>) -> AnyObject {
    if let AnyObject::Job(job) = &mut object {
        // Whose sub-job it is, the controller says.
        job.spec.parent = None;
    }
    let has_paths = match &object {
        AnyObject::Flow(_) => true,
        AnyObject::Job(job) => job.spec.flow.is_some(),
        _ => false,
    };
    if let (true, Some(dir)) = (has_paths, dir) {
        let annotations = &mut object.meta_mut().annotations;
        annotations.insert(FLOW_DIR_ANNOTATION.into(), dir.to_string_lossy().into_owned());
        if let Some(name) = Path::new(file).file_name() {
            annotations.insert(FLOW_FILE_ANNOTATION.into(), name.to_string_lossy().into_owned());
        }
    }
    object
}

/// What is stored, with what a person wrote over it: the status stays, and so does who the object is.
pub fn merged(stored: &AnyObject, mut written: AnyObject) -> AnyObject {
    let old = stored.meta();
    let meta = written.meta_mut();
    meta.uid.clone_from(&old.uid);
    meta.generation = old.generation;
    meta.resource_version = old.resource_version;
    meta.creation_timestamp = old.creation_timestamp;
    meta.deletion_timestamp = old.deletion_timestamp;
    match (&mut written, stored) {
        (AnyObject::Job(written), AnyObject::Job(stored)) => {
            written.spec.parent.clone_from(&stored.spec.parent);
            written.status = stored.status.clone();
            written.status.conditions.retain(|condition| condition.r#type != MANIFEST_VALID);
        }
        (AnyObject::StepRun(written), AnyObject::StepRun(stored)) => written.status = stored.status.clone(),
        (AnyObject::Workload(written), AnyObject::Workload(stored)) => written.status = stored.status.clone(),
        // What is said on the others is about the text, and the text is new.
        _ => {}
    }
    written
}
