//! What else people write: agent classes, machine classes, ledgers, and the policy.

use crate::model::{EnvValue, LedgerType, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How to launch an agent, and how to know one that we did not launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AgentClassSpec {
    /// The argument vector. A first word `tenure-echo` means the bundled example agent, wherever it is installed.
    pub command: Vec<String>,
    /// Its environment, over the controller's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// Who may share one adapter.
    pub reuse: Reuse,
    /// How requests for permission are answered.
    pub permissions: Permissions,
    /// Between Ask and Terminate.
    pub ask_period: Span,
    /// Between Terminate and Kill.
    pub grace_period: Span,
    /// For the handshake.
    pub start_timeout: Span,
    /// Stop an adapter that no run has used for this long; 0: keep it while its jobs live.
    pub idle_timeout: Span,
    /// The most memory that its cgroup may hold: `2Gi`, `500M`, or bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<String>,
    /// What is appended to the command for what a step asks of its agent.
    #[serde(skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
    /// Run inside such a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_class: Option<String>,
    /// How to know one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#match: Option<Match>,
}

impl Default for AgentClassSpec {
    fn default() -> Self {
        AgentClassSpec {
            command: Vec::new(),
            env: BTreeMap::new(),
            reuse: Reuse::Job,
            permissions: Permissions::Allow,
            ask_period: Span::seconds(2),
            grace_period: Span::seconds(5),
            start_timeout: Span::seconds(60),
            idle_timeout: Span::seconds(0),
            memory_max: None,
            flags: Flags::default(),
            machine_class: None,
            r#match: None,
        }
    }
}

/// Arguments for what a step asks of its agent: `$value` in them is replaced (for a list: the arguments are repeated, one
/// value each). Where a class has none, the step's wish goes through the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Flags {
    /// For `model`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<String>,
    /// For each of `tools`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// For each of `allowed_paths`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_paths: Vec<String>,
}

impl Flags {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Flags::default()
    }
}

/// Who may share one adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// One adapter per job and configuration.
    #[default]
    Job,
    /// Across jobs with an equal configuration.
    Shared,
}

/// How requests for permission are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Permissions {
    /// Yes.
    #[default]
    Allow,
    /// No.
    Deny,
}

/// Signatures of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Match {
    /// Names to look for in an argument vector, by position.
    pub cmdline: Vec<String>,
}

/// A kind of virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineClassSpec {
    /// `qemu`, `cloud-hypervisor`, or `firecracker`.
    pub backend: String,
}

/// A job store that another program keeps: read as desired state, never written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LedgerSpec {
    /// How it is kept: `stepwise`, `acpx`, or `files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<LedgerType>,
    /// Where it is, absolute. `stepwise`: the file `stepwise.db`; `acpx`: the directory that is `~/.acpx` elsewhere;
    /// `files`: the directory that holds a JSON or YAML file for each job.
    pub path: String,
    /// The name, or the number in quotes, of the user whose file it may be beside our own. It then speaks for processes of
    /// this user only. A controller that is root reads no ledger that anybody else could write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Of `files`: where in a job's file things are, and what they mean.
    #[serde(skip_serializing_if = "Fields::is_default")]
    pub fields: Fields,
}

/// Where things are in the file of a job, and what they mean. A name with dots goes inside: `status.phase` is `phase` in the
/// mapping `status`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
// In the schema of everything, the `Fields` of a flow are beside these.
#[schemars(rename = "LedgerFields")]
pub struct Fields {
    /// The job's id. A file without one is about the job that it is named after.
    pub id: String,
    /// The job's state: a word, a number, or a boolean. A job without one is kept.
    pub state: String,
    /// The states of a job that has ended and does not need its processes any more; capitals do not matter. Every other word
    /// means that it goes on.
    pub terminal: Vec<String>,
    /// The process at the root of the job's tree.
    pub pid: String,
    /// Its process group.
    pub pgid: String,
    /// The agent's session.
    pub session: String,
    /// When the process started: ISO 8601 (UTC where it names no offset), or seconds or milliseconds since 1970.
    pub start_time: String,
    /// When the job's use of the process ended, likewise.
    pub end_time: String,
    /// The command that was started, as one text.
    pub command: String,
}

impl Fields {
    fn is_default(&self) -> bool {
        *self == Fields::default()
    }
}

impl Default for Fields {
    fn default() -> Self {
        let terminal = [
            "succeeded",
            "completed",
            "complete",
            "done",
            "failed",
            "cancelled",
            "canceled",
            "aborted",
            "archived",
            "closed",
        ];
        Fields {
            id: "id".into(),
            state: "state".into(),
            terminal: terminal.map(String::from).to_vec(),
            pid: "pid".into(),
            pgid: "pgid".into(),
            session: "session".into(),
            start_time: "startTime".into(),
            end_time: "endTime".into(),
            command: "command".into(),
        }
    }
}

/// What is allowed on this host. One per instance, named `default`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PolicySpec {
    /// What happens to trees that we did not start.
    pub foreign: Foreign,
    /// `AgentClass` names whose trees may be reaped for having lost their parent.
    pub orphans: Vec<String>,
    /// Of a foreign tree, before it is judged.
    pub min_age: Span,
    /// Regular expressions on command lines that are never touched.
    pub protect: Vec<String>,
    /// The budget of foreign trees.
    pub max_reaps_per_minute: u32,
    /// How long a shim waits for a controller; 0: for ever.
    pub lease: Span,
    /// What an orderly exit does to running workloads.
    pub on_shutdown: OnShutdown,
    /// How many run at the same time.
    pub max_concurrent: MaxConcurrent,
}

impl Default for PolicySpec {
    fn default() -> Self {
        PolicySpec {
            foreign: Foreign::Report,
            orphans: Vec::new(),
            min_age: Span::seconds(120),
            protect: Vec::new(),
            max_reaps_per_minute: 30,
            lease: Span::seconds(300),
            on_shutdown: OnShutdown::Keep,
            max_concurrent: MaxConcurrent::default(),
        }
    }
}

/// What happens to trees that we did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "DESIGN.md section 7 explains both")]
pub enum Foreign {
    #[default]
    Report,
    Reap,
}

/// What an orderly exit does to running workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OnShutdown {
    /// They go on; the next controller finds them.
    #[default]
    Keep,
    /// They are stopped first.
    Drain,
}

/// Limits on what runs at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaxConcurrent {
    /// Turns of agents.
    pub agents: u32,
    /// Scripts.
    pub scripts: u32,
    /// Requests to models.
    pub llms: u32,
    /// Checks: of polls and of requirements.
    pub checks: u32,
    /// Sub-jobs of one `for_each`.
    pub items: u32,
    /// Turns of agents of these classes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, u32>,
}

impl Default for MaxConcurrent {
    fn default() -> Self {
        MaxConcurrent { agents: 8, scripts: 64, llms: 16, checks: 64, items: 16, classes: BTreeMap::new() }
    }
}
