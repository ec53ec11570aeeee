//! What the eyes saw: one look at the host.

use crate::model::{BootId, Exit, Pid, ProcId, Reading, Time, WorkloadUid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One process as one look saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenProcess {
    /// Which one.
    pub id: ProcId,
    /// Its parent at that moment.
    pub parent: Option<Pid>,
    /// The user that it runs as (real uid).
    pub user: u32,
    /// `R`, `S`, `D`, `T`, `Z`, …: field 3 of `/proc/PID/stat`.
    pub state: char,
    /// Its command line, words joined by spaces, or its name in brackets.
    pub command: String,
    /// Its resident memory, in bytes.
    pub rss_bytes: u64,
    /// Whether it is the shim of its workload: that one ends by itself when the others have.
    pub is_shim: bool,
    /// By which marks it was found.
    pub marks: Marks,
}

impl SeenProcess {
    /// Whether it has ended and only waits to be collected by its parent: it holds nothing, and no signal reaches it.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// By which marks a process was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// It is in the workload's cgroup.
    pub cgroup: bool,
    /// Its environment names the workload.
    pub environment: bool,
    /// It is the shim, or descends from it, or from another one that was found.
    pub shim: bool,
    /// It has none of these any more, and is the same process that had one when it was seen before.
    pub known: bool,
}

/// What a look saw of one workload, by any of its marks or its directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenWorkload {
    /// Every living process with one of its marks, the shim among them; zombies are left out.
    pub processes: Vec<SeenProcess>,
    /// Whether its run directory `<state>/workloads/<uid>` is there.
    pub run_dir: bool,
    /// Whether its cgroup is there.
    pub cgroup: bool,
    /// Whether a shim has begun to start the main process: it may have run, whatever else is known.
    pub begun: bool,
    /// What the shim wrote about itself, if it did.
    pub shim: Option<ShimSeen>,
    /// What the shim wrote about the end of the main process, if it did (in the run directory or, after the clean-up, in
    /// the log directory).
    pub exit: Option<Exit>,
    /// A file of the shim's that is there and cannot be understood: which, and why.
    pub unreadable: Option<String>,
    /// What was let go of it by `tenure detach`, and lives. None of it is among `processes`.
    pub let_go: Vec<LetGo>,
}

/// A process that outlives its workload, on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LetGo {
    /// Which: for a detached command, the keeper above it.
    pub pid: Pid,
    /// The command.
    pub command: String,
    /// `Detached`, or `Protected` by the policy.
    pub why: LetGoWhy,
}

/// Why something was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetGoWhy {
    /// By `tenure detach`.
    Detached,
    /// A `protect` pattern of the policy matches it, or something above it.
    Protected,
}

impl SeenWorkload {
    /// The shim, if it is alive.
    pub fn living_shim(&self) -> Option<&SeenProcess> {
        self.processes.iter().find(|process| process.is_shim)
    }

    /// The processes of the tree, without the shim.
    pub fn members(&self) -> impl Iterator<Item = &SeenProcess> {
        self.processes.iter().filter(|process| !process.is_shim)
    }

    /// The members that are `free`, with all that descends from them in the tree.
    pub fn free(&self, free: impl Fn(&SeenProcess) -> bool) -> BTreeSet<ProcId> {
        let mut pids: BTreeSet<Pid> = self.members().filter(|it| free(it)).map(|it| it.id.pid).collect();
        loop {
            let before = pids.len();
            let below = self.members().filter(|it| it.parent.is_some_and(|parent| pids.contains(&parent)));
            let below: Vec<Pid> = below.map(|it| it.id.pid).collect();
            pids.extend(below);
            if pids.len() == before {
                return self.members().map(|it| it.id).filter(|id| pids.contains(&id.pid)).collect();
            }
        }
    }

    /// The resident memory of all processes together, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.processes.iter().map(|process| process.rss_bytes).sum()
    }
}

/// What a shim wrote about itself (`shim.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimSeen {
    /// The shim.
    pub shim: ProcId,
    /// Its child, the main process of the workload; none: it could not be started.
    pub child: Option<ProcId>,
    /// The boot in which these mean anything.
    pub boot_id: BootId,
}

/// How much of the host a look looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Breadth {
    /// Every process: what it did not see is not there.
    #[default]
    Host,
    /// What is known, and what descends from it or is in a cgroup of ours: what it saw is there, and a known process that it
    /// did not see has ended. There may be more.
    Own,
}

/// One look at the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The number of this look; they count up. What was acted on is judged again only by a look that began later.
    pub look: u64,
    /// When it began.
    pub as_of: Time,
    /// How much it looked at.
    pub breadth: Breadth,
    /// This boot.
    pub boot_id: BootId,
    /// Everything of this instance, by workload. `Unknown`: the process table could not be read as a whole; then nothing is
    /// missing, and nothing is ended.
    pub workloads: Reading<BTreeMap<WorkloadUid, SeenWorkload>>,
}
