//! A host out of nothing: processes with pids that are soon used again, run directories, cgroups, and time.
//!
//! `of` on a process is the truth about whose it is. Nothing that stands for the product reads it: those have to find
//! processes by their marks, as the real eyes do. The rules read nothing else.

use crate::nature::Nature;
use std::collections::{BTreeMap, BTreeSet};
use tenure::acp::TerminalWanted;
use tenure::model::{BootId, Exit, Outcome, Pid, ProcId, ShimSeen, StartTime, WorkloadUid};

/// The instance whose controller is put to the test.
pub const OURS: &str = "aaaaaaaaaaaa";
/// Another one on the same host.
pub const THEIRS: &str = "bbbbbbbbbbbb";
/// What the policy protects: command lines with this in them.
pub const PROTECTED: &str = "build-server";

const FIRST_PID: i32 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Process 1, and what the controller was started from.
    Ancestor,
    Controller,
    Shim,
    /// The main process of a workload.
    Main,
    /// What it started.
    Child,
    /// Carries a mark of ours, and was started by somebody else, later.
    Respawned,
    /// Nobody's business.
    Bystander,
    /// A workload of another instance.
    Foreign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    /// By SIGSTOP; what was sent to it comes in when it is continued.
    Stopped {
        termed: bool,
    },
    /// In uninterruptible sleep; what was sent to it comes in afterwards.
    Stuck {
        until: i64,
        killed: bool,
        termed: bool,
    },
    Zombie,
}

#[derive(Debug, Clone)]
pub struct Proc {
    pub id: ProcId,
    pub parent: i32,
    pub user: u32,
    pub state: State,
    pub cgroup: Option<WorkloadUid>,
    pub mark: Option<String>,
    pub command: String,
    pub role: Role,
    pub of: Option<WorkloadUid>,
    pub nature: Nature,
    pub ends_at: Option<i64>,
    /// The step of the trace at which its command line came under a pattern of the policy.
    pub protected_at: u64,
    /// Once it has ended.
    pub end: Exit,
}

impl Proc {
    pub fn is_zombie(&self) -> bool {
        self.state == State::Zombie
    }
    pub fn is_protected(&self) -> bool {
        self.command.contains(PROTECTED)
    }
    pub fn letter(&self) -> char {
        match self.state {
            State::Running => 'S',
            State::Stopped { .. } => 'T',
            State::Stuck { .. } => 'D',
            State::Zombie => 'Z',
        }
    }
}

/// One line of an adapter's stdout.
#[derive(Debug, Clone)]
pub enum Said {
    Handshake,
    Answer(String, Outcome),
    Terminal(TerminalWanted),
    LetGo { id: WorkloadUid, kill: bool },
}

/// A question on an adapter's stdin.
#[derive(Debug, Clone)]
pub struct Asked {
    pub due: i64,
    pub closed: bool,
}

/// The files of a run directory, or of the log directory that it becomes.
#[derive(Debug, Clone, Default)]
pub struct Files {
    pub spec: bool,
    /// A shim left word that it is about to start the main process.
    pub begun: bool,
    pub lock: Option<ProcId>,
    pub shim: Option<ShimSeen>,
    pub garbage: bool,
    pub exit: Option<Exit>,
    pub eof: bool,
    /// What a script has printed.
    pub stdout: Option<serde_json::Map<String, serde_json::Value>>,
    pub said: Vec<(i64, Said)>,
    pub asked: BTreeMap<String, Asked>,
    pub closing: bool,
}

/// How far a shim is.
#[derive(Debug, Clone)]
pub enum Shim {
    New,
    Begun,
    Started {
        main: ProcId,
    },
    Failed,
    Live {
        main: ProcId,
    },
    /// It ends its workload by itself.
    Ending {
        main: ProcId,
        begun: i64,
        told: BTreeSet<ProcId>,
    },
}

#[derive(Debug)]
pub struct Host {
    pub now: i64,
    pub boot: u32,
    booted: i64,
    last_start: u64,
    next_pid: i32,
    pub pids: i32,
    pub procs: BTreeMap<i32, Proc>,
    pub shims: BTreeMap<i32, (Shim, i64)>,
    pub run_dirs: BTreeMap<WorkloadUid, Files>,
    pub log_dirs: BTreeMap<WorkloadUid, Files>,
    pub has_cgroups: bool,
    pub cgroups: BTreeSet<WorkloadUid>,
    pub controller: Option<i32>,
    /// Since when nobody holds the controller's lock.
    pub free_since: Option<i64>,
    pub user: u32,
}

impl Host {
    pub fn new(has_cgroups: bool, user: u32, pids: i32) -> Host {
        let mut host = Host {
            now: 1_000_000,
            boot: 0,
            booted: 0,
            last_start: 0,
            next_pid: FIRST_PID,
            pids,
            procs: BTreeMap::new(),
            shims: BTreeMap::new(),
            run_dirs: BTreeMap::new(),
            log_dirs: BTreeMap::new(),
            has_cgroups,
            cgroups: BTreeSet::new(),
            controller: None,
            free_since: Some(0),
            user,
        };
        host.boot();
        host
    }

    /// Everything ends; pids and start times begin anew.
    pub fn boot(&mut self) {
        self.procs.clear();
        self.shims.clear();
        self.cgroups.clear();
        for files in self.run_dirs.values_mut() {
            files.lock = None;
        }
        self.boot += 1;
        self.booted = self.now;
        self.last_start = 0;
        self.next_pid = FIRST_PID;
        self.controller = None;
        self.free_since = Some(self.now);
        self.insert(1, 0, "init", Role::Ancestor);
        self.insert(2, 1, "sshd", Role::Ancestor);
        self.insert(3, 2, "sh", Role::Ancestor);
    }

    pub fn boot_id(&self) -> BootId {
        BootId(format!("boot-{}", self.boot))
    }

    fn insert(&mut self, pid: i32, parent: i32, command: &str, role: Role) -> ProcId {
        // In the kernel's unit a tree may well start at once; two holders of one pid never do.
        self.last_start = (self.last_start + 1).max(u64::try_from((self.now - self.booted) / 10).unwrap_or(0));
        let id = ProcId { pid: Pid::new(pid).unwrap(), start: StartTime(self.last_start) };
        let process = Proc {
            id,
            parent,
            user: if role == Role::Ancestor { 0 } else { self.user },
            state: State::Running,
            cgroup: None,
            mark: None,
            command: command.to_owned(),
            role,
            of: None,
            nature: Nature::default(),
            ends_at: None,
            protected_at: 0,
            end: Exit::default(),
        };
        self.procs.insert(pid, process);
        id
    }

    /// A new process; none, if the pids are used up.
    pub fn spawn(&mut self, parent: i32, command: &str, role: Role) -> Option<ProcId> {
        let all = FIRST_PID..FIRST_PID + self.pids;
        let next = self.next_pid;
        let pid = (next..all.end).chain(all.start..next).find(|pid| !self.procs.contains_key(pid))?;
        self.next_pid = if pid + 1 < all.end { pid + 1 } else { all.start };
        Some(self.insert(pid, parent, command, role))
    }

    /// The same, with what a child inherits.
    pub fn fork(&mut self, parent: i32, command: &str) -> Option<ProcId> {
        let of = self.procs.get(&parent)?.clone();
        let role = match of.role {
            // Where it goes from here is not what its workload had to end.
            _ if self.is_let_go(parent) => Role::Respawned,
            Role::Main => Role::Child,
            other => other,
        };
        let id = self.spawn(parent, command, role)?;
        let child = self.procs.get_mut(&id.pid.get())?;
        (child.mark, child.cgroup, child.user, child.of) = (of.mark, of.cgroup, of.user, of.of);
        Some(id)
    }

    pub fn get(&self, id: ProcId) -> Option<&Proc> {
        self.procs.get(&id.pid.get()).filter(|process| process.id == id)
    }

    pub fn is_alive(&self, id: ProcId) -> bool {
        self.get(id).is_some_and(|process| !process.is_zombie())
    }

    /// It ends; its children go to the next shim above, else to process 1.
    pub fn end(&mut self, pid: i32, end: Exit) {
        // What was below something that was let go comes back to its workload now, which had not to end it before.
        let was_let_go = self.is_let_go(pid);
        for child in
            self.procs.values_mut().filter(|child| was_let_go && child.parent == pid && child.role == Role::Child)
        {
            child.role = Role::Respawned;
        }
        let Some(process) = self.procs.get_mut(&pid) else { return };
        process.state = State::Zombie;
        process.end = end;
        process.cgroup = None;
        let heir = self.heir(pid);
        let (controller, id) = (self.controller == Some(pid), self.procs[&pid].id);
        for child in self.procs.values_mut().filter(|child| child.parent == pid) {
            child.parent = heir;
        }
        if self.shims.remove(&pid).is_some() {
            for files in self.run_dirs.values_mut().filter(|files| files.lock == Some(id)) {
                files.lock = None;
            }
        }
        if controller {
            self.controller = None;
            self.free_since = Some(self.now);
        }
    }

    /// Who takes the children of a process that ends.
    pub fn heir(&self, pid: i32) -> i32 {
        let mut above = self.procs.get(&pid).map_or(1, |process| process.parent);
        while let Some(process) = self.procs.get(&above) {
            if above == 1 || (self.shims.contains_key(&above) && !process.is_zombie()) {
                return above;
            }
            above = process.parent;
        }
        1
    }

    /// SIGKILL.
    pub fn kill(&mut self, pid: i32) {
        match self.procs.get_mut(&pid).map(|process| &mut process.state) {
            None | Some(State::Zombie) => {}
            Some(State::Stuck { killed, .. }) => *killed = true,
            Some(State::Running | State::Stopped { .. }) => {
                self.end(pid, Exit { signal: Some("SIGKILL".into()), ..Exit::default() });
            }
        }
    }

    /// Whether a process was let go: a pattern protects it, or something above it in the same tree.
    pub fn is_let_go(&self, pid: i32) -> bool {
        let Some(process) = self.procs.get(&pid) else { return false };
        let above = self.procs.get(&process.parent).filter(|above| above.of.is_some() && above.of == process.of);
        process.role != Role::Shim
            && (process.is_protected() || above.is_some_and(|above| self.is_let_go(above.id.pid.get())))
    }

    /// Whether every process in a cgroup has ended.
    pub fn cgroup_is_empty(&self, uid: &WorkloadUid) -> bool {
        !self.procs.values().any(|process| process.cgroup.as_ref() == Some(uid))
    }

    pub fn files(&self, uid: &WorkloadUid) -> Option<&Files> {
        self.run_dirs.get(uid).or_else(|| self.log_dirs.get(uid))
    }

    /// Who belongs to a workload by any of its marks, and what descends from those, at this moment: as the eyes promise it.
    pub fn marked(&self, uid: &WorkloadUid) -> BTreeSet<i32> {
        let mark = mark(uid);
        let shim = self.files(uid).and_then(|files| files.shim.as_ref()).filter(|shim| shim.boot_id == self.boot_id());
        let mut found: BTreeSet<i32> = self
            .procs
            .values()
            .filter(|process| {
                process.mark.as_deref() == Some(&mark)
                    || process.cgroup.as_ref() == Some(uid)
                    || shim.is_some_and(|shim| shim.shim == process.id)
            })
            .map(|process| process.id.pid.get())
            .collect();
        loop {
            let before = found.len();
            let children = self.procs.values().filter(|process| {
                found.contains(&process.parent) && process.mark.as_ref().is_none_or(|other| *other == mark)
            });
            found.extend(children.map(|process| process.id.pid.get()).collect::<Vec<_>>());
            if found.len() == before {
                break;
            }
        }
        found.retain(|pid| *pid != 1 && Some(*pid) != self.controller && !self.procs[pid].is_zombie());
        found
    }
}

/// The environment's mark of a workload of ours.
pub fn mark(uid: &WorkloadUid) -> String {
    format!("{OURS}/{uid}")
}
