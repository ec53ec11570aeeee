//! What we did not start: the processes of the host, what the ledgers of other programs say, and what follows for each tree.

use crate::model::{BootId, Cause, Pid, ProcId, Reading, StartTime, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One process of the host, as a census saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProcess {
    /// Which one.
    pub id: ProcId,
    /// Its parent at that moment.
    pub parent: Option<Pid>,
    /// Its process group. None: it could not be read, or is no pid of this host's.
    pub group: Option<Pid>,
    /// Its session, likewise.
    pub session: Option<Pid>,
    /// Whether it has a controlling terminal: a person may sit in front of it.
    pub has_terminal: bool,
    /// The user that it runs as (real uid).
    pub user: u32,
    /// `R`, `S`, `D`, `T`, `Z`, …: field 3 of `/proc/PID/stat`.
    pub state: char,
    /// When it started, by the clock of now: as coarse as the boot time is (two seconds), and wrong by what the clock was set
    /// since.
    pub started_at: Time,
    /// Its name as the kernel has it, without brackets.
    pub name: String,
    /// The path of its executable. None: it could not be read.
    pub exe: Option<String>,
    /// Its argument vector, what is no UTF-8 replaced. Empty: it has none, or it could not be read.
    pub argv: Vec<String>,
    /// Of its environment, the names that a mark may have. `Unknown`: it could not be read, so it may have any.
    pub environment: Reading<BTreeMap<String, String>>,
    /// Its resident memory, in bytes: shared pages count in each process that has them.
    pub rss_bytes: u64,
    /// Its proportional memory, in bytes: shared pages are divided. None: it was not asked for, or could not be read.
    pub pss_bytes: Option<u64>,
}

impl HostProcess {
    /// Whether it has ended and only waits to be collected by its parent.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Every process of the host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// When it began.
    pub as_of: Time,
    /// This boot.
    pub boot_id: BootId,
    /// The user who looked; root (0) sees and may do what others do not.
    pub user: u32,
    /// By pid. `Unknown`: the process table could not be read as a whole.
    pub processes: Reading<BTreeMap<Pid, HostProcess>>,
}

/// How another program keeps its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LedgerType {
    /// Stepwise's SQLite file.
    Stepwise,
    /// acpx's directory of session records.
    Acpx,
    /// A directory with a JSON or YAML file for each job.
    Files,
}

/// What is asked of a ledger: whatever it says about these. Ledgers may be large, and most of them is about what has long
/// ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// Claims on these pids, and on groups of these ids.
    pub pids: BTreeSet<Pid>,
    /// Claims of these agent sessions.
    pub sessions: BTreeSet<String>,
    /// The life of these jobs.
    pub jobs: BTreeSet<String>,
}

/// One answer of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRead {
    /// How a person calls it: the name of the `Ledger` object, or its path.
    pub name: String,
    /// How it is kept.
    pub r#type: LedgerType,
    /// The file or directory, absolute, links resolved.
    pub path: String,
    /// What else it is called: the paths by which it was asked for, before links were resolved. The environment of a process
    /// names its store so.
    pub aliases: BTreeSet<String>,
    /// Who owns the file or directory, and so could write it. None: not known; then nothing is ended on what it says.
    pub user: Option<u32>,
    /// When the reading began.
    pub as_of: Time,
    /// What it said. `Unknown`: locked, half-written, newer than known, damaged, gone, refused, or too slow; in words.
    pub book: Reading<LedgerBook>,
}

/// What a ledger says about what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerBook {
    /// Every claim on a pid, group, or session that was asked for.
    pub claims: Vec<Claim>,
    /// The life of every job that a claim names, and of those that were asked for. One that is not here is missing from the
    /// ledger: that is known, not unknown.
    pub jobs: BTreeMap<String, JobLife>,
    /// Entries that could not be understood, in words. They may be about anything, so nothing is missing from this ledger.
    pub unreadable: Vec<String>,
}

/// What a ledger wrote about a process of one of its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The job's id, as the ledger has it.
    pub job: String,
    /// The process at the root of the job's tree. Never 1: such an entry is dropped by the reader, and said in `unreadable`.
    pub pid: Option<Pid>,
    /// Its process group, likewise.
    pub group: Option<Pid>,
    /// The agent's session.
    pub session: Option<String>,
    /// When the process started, if the ledger says that, by its clock. Of Stepwise: when the run began that has the process; an
    /// older one may have been used again.
    pub started_at: Option<Time>,
    /// The same in the system's unit, with the boot that it is about.
    pub start: Option<(BootId, StartTime)>,
    /// When the job's use of the process ended. None: it has not.
    pub until: Option<Time>,
    /// The command that was started, if the ledger says that.
    pub command: Option<String>,
    /// The pids are those of a guest, not of this host.
    pub in_guest: bool,
}

/// Whether a job of a ledger is at its end, with the ledger's own word for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobLife {
    /// It goes on, or may go on.
    Active(String),
    /// It has ended.
    Terminal(String),
    /// Its entry could not be understood; why.
    Unknown(String),
}

/// What is to become of a tree that we did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ForeignVerdict {
    /// It has a reason to live, or nothing says that it has none.
    Keep,
    /// There is proof that nobody needs it.
    Reap,
    /// What would decide it could not be read.
    Unknown,
}

/// Why. What a verdict means to a program; the evidence says it to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ForeignCause {
    /// `Keep`: a job that owns it goes on.
    OwnerActive,
    /// `Reap`: all jobs that own it have ended.
    OwnerTerminal,
    /// `Reap`: the ledger that it belongs to has no record of its job.
    OwnerMissing,
    /// `Reap`, where the policy lists its class: it lost its parent. `Keep` elsewhere.
    Orphaned,
    /// `Keep`: younger than the policy's `minAge`, or than its ledger takes to write.
    TooYoung,
    /// `Keep`: no ledger that we can read says anything about it.
    Unowned,
    /// `Keep`: a person may use it: it has a terminal.
    Interactive,
    /// `Keep`: a workload of a controller's; that one's business.
    Tenure,
    /// `Keep`: the policy protects it.
    Protected,
    /// `Keep`: another user's, and we are not root.
    OtherUser,
    /// `Keep`: a record names its pid, but is about another process: identity, time, user, or command disagree.
    Disagreement,
    /// `Unknown`: its ledger, or its environment, could not be read.
    LedgerUnknown,
}

impl ForeignCause {
    /// What makes a tree unwanted, of what may make it that.
    pub fn of_reaping(self) -> Option<Cause> {
        match self {
            ForeignCause::OwnerTerminal => Some(Cause::OwnerTerminal),
            ForeignCause::OwnerMissing => Some(Cause::OwnerMissing),
            ForeignCause::Orphaned => Some(Cause::Orphaned),
            ForeignCause::OwnerActive
            | ForeignCause::TooYoung
            | ForeignCause::Unowned
            | ForeignCause::Interactive
            | ForeignCause::Tenure
            | ForeignCause::Protected
            | ForeignCause::OtherUser
            | ForeignCause::Disagreement
            | ForeignCause::LedgerUnknown => None,
        }
    }

    /// Whether somebody needs, or guards, a tree that is kept for this: not only that nothing is known of it.
    pub fn is_need(self) -> bool {
        match self {
            ForeignCause::OwnerActive
            | ForeignCause::Interactive
            | ForeignCause::Tenure
            | ForeignCause::Protected
            | ForeignCause::OtherUser => true,
            ForeignCause::OwnerTerminal
            | ForeignCause::OwnerMissing
            | ForeignCause::Orphaned
            | ForeignCause::TooYoung
            | ForeignCause::Unowned
            | ForeignCause::Disagreement
            | ForeignCause::LedgerUnknown => false,
        }
    }
}

/// A job of a ledger that owns a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignOwner {
    /// The ledger's name.
    pub ledger: String,
    /// The job's id, as the ledger has it.
    pub job: String,
    /// Its state in the ledger's own word; `missing`, if the ledger has no such job.
    pub state: String,
}

/// A tree of an agent, of its tools, or of its machine, with what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTree {
    /// The process at its root.
    pub root: ProcId,
    /// What it is, by the catalogue or an `AgentClass`.
    pub class: String,
    /// The command line of the root, words joined by spaces.
    pub command: String,
    /// The user that the root runs as.
    pub user: u32,
    /// When the root started.
    pub started_at: Time,
    /// All that belongs to it and lives, the root first, parents before their children.
    pub processes: Vec<ProcId>,
    /// All that descends from it, and does not belong to it: a server of jobs that an agent started, another user's process, a
    /// tree of its own; and whatever those started. Never ended with it.
    pub others_below: Vec<ProcId>,
    /// The resident memory of all, in bytes.
    pub rss_bytes: u64,
    /// The proportional memory of all, in bytes. None: of one of them it could not be read.
    pub pss_bytes: Option<u64>,
    /// Whose it is, as far as that is known.
    pub owners: Vec<ForeignOwner>,
    /// What is to become of it.
    pub verdict: ForeignVerdict,
    /// Why.
    pub cause: ForeignCause,
    /// The proof, or the doubt, in words.
    pub evidence: String,
    /// When time alone may change the verdict.
    pub again_at: Option<Time>,
}

/// A tree that others started, as it was when it was condemned: by identities, so that whatever is left of it when its root has
/// ended still is it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForeignTreeSpec {
    /// The process at its root.
    pub root: ProcId,
    /// All that belonged to it, the root first; who was found and signalled since has joined them.
    pub members: Vec<ProcId>,
    /// What descended from it and did not belong to it: never ended with it, also when no tree names it any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others_below: Vec<ProcId>,
    /// The boot in which these mean anything.
    pub boot_id: BootId,
    /// What it was, by the catalogue or an `AgentClass`.
    pub class: String,
    /// The user that it ran as.
    pub user: u32,
    /// Whose it was.
    pub owners: Vec<ForeignOwner>,
    /// When the root had started.
    pub started_at: Time,
}

impl ForeignTreeSpec {
    /// A tree of this boot.
    pub fn of(tree: &ForeignTree, boot_id: &BootId) -> ForeignTreeSpec {
        ForeignTreeSpec {
            root: tree.root,
            members: tree.processes.clone(),
            others_below: tree.others_below.clone(),
            boot_id: boot_id.clone(),
            class: tree.class.clone(),
            user: tree.user,
            owners: tree.owners.clone(),
            started_at: tree.started_at,
        }
    }
}
