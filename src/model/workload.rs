//! Workloads: one process tree each, that the controller starts and ends.

use crate::model::{BootId, ForeignTreeSpec, JobUid, LetGo, Object, Pid, ProcId, Span, Time, WorkloadUid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A workload. Its name is its uid.
pub type Workload = Object<WorkloadSpec, WorkloadStatus>;

/// What kind of tree it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum WorkloadType {
    /// It speaks ACP on its stdio.
    Adapter,
    /// It runs to its end.
    #[default]
    Script,
    /// A check of a condition.
    Check,
    /// A virtual machine.
    Machine,
    /// A tree that others started, and that is being ended.
    Foreign,
}

impl WorkloadType {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadType::Adapter => "Adapter",
            WorkloadType::Script => "Script",
            WorkloadType::Check => "Check",
            WorkloadType::Machine => "Machine",
            WorkloadType::Foreign => "Foreign",
        }
    }
}

/// A job that a workload works for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The job's name.
    pub name: String,
    /// Its uid: a new job of the same name is another owner.
    pub uid: JobUid,
}

/// One value of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", untagged)]
pub enum EnvValue {
    /// The value itself.
    Literal(String),
    /// The value of this variable of the controller, when the workload starts.
    FromEnv {
        /// Its name.
        #[serde(rename = "fromEnv")]
        from_env: String,
    },
    /// The content of this file (a final newline is cut), when the workload starts.
    FromFile {
        /// Its path.
        #[serde(rename = "fromFile")]
        from_file: String,
    },
}

/// What should run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// What kind of tree.
    pub r#type: WorkloadType,
    /// The jobs that it works for. It is wanted while one of them exists, is not terminal, and still needs it.
    pub owners: Vec<Owner>,
    /// The one run that it works on (`<job>.<step>.<attempt>`): a script ends with it. None: an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The requirement of its job that it checks: it is wanted until the job begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// The adapter that asked for it (an ACP terminal): it is wanted only while that one is, and while the agent keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<WorkloadUid>,
    /// The agent let go of it (an ACP terminal).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// The `AgentClass`, for an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What must be equal for two runs to share an adapter: a hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse_key: Option<String>,
    /// The argument vector.
    pub command: Vec<String>,
    /// The environment, over the controller's own.
    pub env: BTreeMap<String, EnvValue>,
    /// Files that are put into its run directory before it starts, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The working directory; made if it is not there.
    pub cwd: String,
    /// Between Ask and Terminate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask_period: Option<Span>,
    /// Between Terminate and Kill.
    pub grace_period: Span,
    /// For the handshake of an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Span>,
    /// An adapter that no run has used for so long is stopped; none: it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// The most memory that its cgroup may hold, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// Of a tree that others started: which one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignTreeSpec>,
}

/// Where a workload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum WorkloadPhase {
    /// The row is there; the process may not be.
    #[default]
    Starting,
    /// Its shim was seen, or is known to have been.
    Running,
    /// It is being ended: the stage says how far that is.
    Stopping,
    /// Nothing of it is left.
    Stopped,
}

impl WorkloadPhase {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadPhase::Starting => "Starting",
            WorkloadPhase::Running => "Running",
            WorkloadPhase::Stopping => "Stopping",
            WorkloadPhase::Stopped => "Stopped",
        }
    }
}

/// How far the end of a workload is: `Ask → Terminate → Kill → Verify → Clean`. A restart goes on here.
///
/// `sent` says whether the stage's signal left: a crash between recording and sending repeats it, never swallows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all_fields = "camelCase")]
pub enum Stage {
    /// End-of-file on stdin, after `session/close`.
    Ask {
        /// Then: Terminate.
        deadline: Time,
        /// Whether it was asked.
        sent: bool,
    },
    /// SIGTERM (and SIGCONT) to every process of the tree.
    Terminate {
        /// Then: Kill.
        deadline: Time,
        /// Whether it was sent.
        sent: bool,
    },
    /// SIGKILL to every process of the tree, again and again.
    Kill {
        /// How often it was sent; the delay before the next one grows with it.
        round: u32,
        /// Then: once more.
        deadline: Time,
        /// Whether this round's signal was sent.
        sent: bool,
    },
    /// A look that began after the last act found no process: clean up what lies outside processes.
    Clean,
}

impl Stage {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Ask { .. } => "Ask",
            Stage::Terminate { .. } => "Terminate",
            Stage::Kill { .. } => "Kill",
            Stage::Clean => "Clean",
        }
    }
}

/// How the main process of a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exit {
    /// Its exit code, if it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, such as `SIGTERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why there is neither: `shim lost`, `could not be started: …`, `lease expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// The most memory that it held, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, &self.signal, &self.message) {
            (Some(code), _, _) => write!(f, "exit status {code}"),
            (None, Some(signal), _) => write!(f, "{signal}"),
            (None, None, Some(message)) => f.write_str(message),
            (None, None, None) => f.write_str("unknown"),
        }
    }
}

/// What a workload is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Where it is in its life.
    pub phase: WorkloadPhase,
    /// How far its end is, while it is `Stopping`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Why it is being ended, or was: what makes it unwanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The same for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it wrote that makes no sense, though it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonsense: Option<String>,
    /// The main process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<Pid>,
    /// Its start time (system unit).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    /// The boot in which these pids mean anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<BootId>,
    /// The shim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shim: Option<ProcId>,
    /// Its processes at the last look; filled in when it is asked for, not at each look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<Pid>,
    /// Their memory at the last look, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// What was let go of it and lives; filled in when it is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub let_go: Vec<LetGo>,
    /// How its main process ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// When its shim was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When nothing of it was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// What makes a workload unwanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Every owner is terminal.
    OwnerTerminal,
    /// Every owner is terminal or missing, and one at least is missing.
    OwnerMissing,
    /// Its run, or its agent, needs it no more.
    NoLongerNeeded,
    /// Its main process ended by itself.
    Exited,
    /// Its shim died.
    ShimLost,
    /// It did not finish its start in time, or failed at it.
    StartFailed,
    /// What it, or its shim, wrote makes no sense.
    Garbled,
    /// No row names it, and it carries our mark.
    NoRow,
    /// Others started it, the policy lists its class, and it lost its parent.
    Orphaned,
}

impl Cause {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::OwnerTerminal => "OwnerTerminal",
            Cause::OwnerMissing => "OwnerMissing",
            Cause::NoLongerNeeded => "NoLongerNeeded",
            Cause::Exited => "Exited",
            Cause::ShimLost => "ShimLost",
            Cause::StartFailed => "StartFailed",
            Cause::Garbled => "Garbled",
            Cause::NoRow => "NoRow",
            Cause::Orphaned => "Orphaned",
        }
    }
}

/// How long the row of a tree that others started is kept once it is ended: the history of what was healed.
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

impl Workload {
    /// Its uid.
    pub fn uid(&self) -> WorkloadUid {
        WorkloadUid(self.metadata.uid.clone())
    }

    /// From when on it may be deleted. What belongs to a job goes with that; a tree of others' has none.
    pub fn expires_at(&self) -> Option<Time> {
        self.spec.foreign.as_ref()?;
        let finished = self.status.finished_at.filter(|_| self.status.phase == WorkloadPhase::Stopped)?;
        Some(finished.after(HISTORY))
    }
}
