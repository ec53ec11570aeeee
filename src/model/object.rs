//! The shape that every object has: header, metadata, spec, status.

use crate::model::{
    AgentClassSpec, Job, JobSpec, JobStatus, LedgerSpec, MachineClassSpec, PolicySpec, StepRun, Time, Uid, Workload,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The only API version there is.
pub const API_VERSION: &str = "tenure.dev/v1alpha1";

/// Annotation: the manifest file (path below its watched directory) that an object came from. Such an object goes when
/// the file goes.
pub const SOURCE_ANNOTATION: &str = "tenure.dev/source";

/// Annotation: the directory that relative paths in a flow are relative to.
pub const FLOW_DIR_ANNOTATION: &str = "tenure.dev/flow-dir";

/// Annotation: the name of the file in that directory that a flow was read from.
pub const FLOW_FILE_ANNOTATION: &str = "tenure.dev/flow-file";

/// The kinds of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation: DESIGN.md section 7 explains each kind")]
pub enum Kind {
    Flow,
    Job,
    StepRun,
    Workload,
    AgentClass,
    MachineClass,
    Ledger,
    Policy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] = [
        Kind::Flow,
        Kind::Job,
        Kind::StepRun,
        Kind::Workload,
        Kind::AgentClass,
        Kind::MachineClass,
        Kind::Ledger,
        Kind::Policy,
    ];

    /// As written in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Flow => "Flow",
            Kind::Job => "Job",
            Kind::StepRun => "StepRun",
            Kind::Workload => "Workload",
            Kind::AgentClass => "AgentClass",
            Kind::MachineClass => "MachineClass",
            Kind::Ledger => "Ledger",
            Kind::Policy => "Policy",
        }
    }

    /// As written in paths and on the command line: `jobs`, `stepruns`, ….
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Flow => "flows",
            Kind::Job => "jobs",
            Kind::StepRun => "stepruns",
            Kind::Workload => "workloads",
            Kind::AgentClass => "agentclasses",
            Kind::MachineClass => "machineclasses",
            Kind::Ledger => "ledgers",
            Kind::Policy => "policies",
        }
    }

    /// Any spelling that Kubernetes users would try: `job`, `jobs`, `Job`; also `run`, `runs`, `wl`.
    pub fn parse(text: &str) -> Option<Kind> {
        let lower = text.to_ascii_lowercase();
        let alias = match lower.as_str() {
            "run" | "runs" => Some(Kind::StepRun),
            "wl" => Some(Kind::Workload),
            "class" | "classes" => Some(Kind::AgentClass),
            _ => None,
        };
        alias.or_else(|| {
            Kind::ALL.into_iter().find(|kind| kind.as_str().to_ascii_lowercase() == lower || kind.plural() == lower)
        })
    }

    /// Whether people write objects of this kind (the others are the controller's).
    pub fn is_authored(self) -> bool {
        !matches!(self, Kind::StepRun | Kind::Workload)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every object says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Meta {
    /// Unique among the objects of its kind: letters, digits, `-`, `_`, `.`; at most 253 bytes.
    pub name: String,
    /// Assigned at the first write; empty until then.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: String,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    /// The store revision of the last write. A write with another one than the stored one is a conflict; 0: must be new.
    pub resource_version: u64,
    /// For selecting.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For everything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When it was first written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
    /// When its deletion was asked for; it goes when nothing of it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Time>,
}

impl Meta {
    /// Metadata of a new object of this name.
    pub fn named(name: impl Into<String>) -> Meta {
        Meta { name: name.into(), ..Meta::default() }
    }
}

/// An object of one kind: `S` is what should be, `T` is what is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object<S, T> {
    /// Who it is.
    pub metadata: Meta,
    /// What should be; people write it.
    pub spec: S,
    /// What is; only the controller writes it.
    #[serde(default)]
    pub status: T,
}

/// The status of a kind that has none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NoStatus {
    /// What is wrong with the object or with the file it came from, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A flow as an author wrote it: the mapping of the flow language. `flow::compile` gives it its meaning.
pub type Flow = Object<serde_json::Value, NoStatus>;
/// An agent class.
pub type AgentClass = Object<AgentClassSpec, NoStatus>;
/// A machine class.
pub type MachineClass = Object<MachineClassSpec, NoStatus>;
/// A ledger.
pub type Ledger = Object<LedgerSpec, NoStatus>;
/// A policy.
pub type Policy = Object<PolicySpec, NoStatus>;

/// An object of any kind. As JSON: `apiVersion`, `kind`, `metadata`, `spec`, `status`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is the kind of that name")]
#[allow(clippy::large_enum_variant, reason = "objects are moved one at a time; a box would only add noise")]
pub enum AnyObject {
    Flow(Flow),
    Job(Job),
    StepRun(StepRun),
    Workload(Workload),
    AgentClass(AgentClass),
    MachineClass(MachineClass),
    Ledger(Ledger),
    Policy(Policy),
}

macro_rules! each {
    ($self:expr, $object:ident => $body:expr) => {
        match $self {
            AnyObject::Flow($object) => $body,
            AnyObject::Job($object) => $body,
            AnyObject::StepRun($object) => $body,
            AnyObject::Workload($object) => $body,
            AnyObject::AgentClass($object) => $body,
            AnyObject::MachineClass($object) => $body,
            AnyObject::Ledger($object) => $body,
            AnyObject::Policy($object) => $body,
        }
    };
}

impl AnyObject {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            AnyObject::Flow(_) => Kind::Flow,
            AnyObject::Job(_) => Kind::Job,
            AnyObject::StepRun(_) => Kind::StepRun,
            AnyObject::Workload(_) => Kind::Workload,
            AnyObject::AgentClass(_) => Kind::AgentClass,
            AnyObject::MachineClass(_) => Kind::MachineClass,
            AnyObject::Ledger(_) => Kind::Ledger,
            AnyObject::Policy(_) => Kind::Policy,
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        each!(self, object => &object.metadata)
    }

    /// Its metadata, to change.
    pub fn meta_mut(&mut self) -> &mut Meta {
        each!(self, object => &mut object.metadata)
    }

    /// Its uid.
    pub fn uid(&self) -> Uid {
        Uid(self.meta().uid.clone())
    }

    /// The whole object as JSON, header first.
    pub fn to_json(&self) -> serde_json::Value {
        let body = each!(self, object => serde_json::to_value(object));
        let mut whole = serde_json::Map::new();
        whole.insert("apiVersion".into(), API_VERSION.into());
        whole.insert("kind".into(), self.kind().as_str().into());
        if let Ok(serde_json::Value::Object(fields)) = body {
            whole.extend(fields);
        }
        serde_json::Value::Object(whole)
    }

    /// The object of this kind in a JSON value with `metadata`, `spec`, and `status` (a header is passed over).
    pub fn from_json(kind: Kind, mut json: serde_json::Value) -> Result<AnyObject, serde_json::Error> {
        if let Some(fields) = json.as_object_mut() {
            fields.shift_remove("apiVersion");
            fields.shift_remove("kind");
        }
        Ok(match kind {
            Kind::Flow => AnyObject::Flow(serde_json::from_value(json)?),
            Kind::Job => AnyObject::Job(serde_json::from_value::<Object<JobSpec, JobStatus>>(json)?),
            Kind::StepRun => AnyObject::StepRun(serde_json::from_value(json)?),
            Kind::Workload => AnyObject::Workload(serde_json::from_value(json)?),
            Kind::AgentClass => AnyObject::AgentClass(serde_json::from_value(json)?),
            Kind::MachineClass => AnyObject::MachineClass(serde_json::from_value(json)?),
            Kind::Ledger => AnyObject::Ledger(serde_json::from_value(json)?),
            Kind::Policy => AnyObject::Policy(serde_json::from_value(json)?),
        })
    }

    /// The word for its phase, for tables and selection; empty where the kind has none.
    pub fn phase(&self) -> &'static str {
        match self {
            AnyObject::Job(job) => job.status.phase.as_str(),
            AnyObject::StepRun(run) => run.status.phase.as_str(),
            AnyObject::Workload(workload) => workload.status.phase.as_str(),
            _ => "",
        }
    }

    /// Whether the controller still has something to do with it: what a pass reads.
    pub fn is_active(&self) -> bool {
        match self {
            AnyObject::Job(job) => job.is_active(),
            AnyObject::StepRun(run) => !run.status.phase.is_final(),
            AnyObject::Workload(workload) => workload.status.phase != crate::model::WorkloadPhase::Stopped,
            _ => true,
        }
    }

    /// From when on it may be deleted, for what says so.
    pub fn expires_at(&self) -> Option<Time> {
        match self {
            AnyObject::Job(job) => job.expires_at(),
            AnyObject::Workload(workload) => workload.expires_at(),
            _ => None,
        }
    }

    /// The uid of the job that it belongs to, for what belongs to one: a sub-job to its parent.
    pub fn owner(&self) -> Option<&JobUidRef> {
        match self {
            AnyObject::Job(job) => job.parent_uid(),
            AnyObject::StepRun(run) => Some(&run.spec.job_uid),
            AnyObject::Workload(workload) => workload.spec.owners.first().map(|owner| &owner.uid),
            _ => None,
        }
    }
}

/// The type of an owner's uid.
pub type JobUidRef = crate::model::JobUid;
