//! One census, made ready: who is whose child, and what each process is.

use super::catalogue::{Catalogue, Kind, Recognised};
use super::claims::TOLERANCE;
use crate::model::{Census, HostProcess, Pid, Reading};
use std::collections::HashMap;

/// The session that an agent gives to its tools.
pub(super) const SESSION: &str = "CLAUDE_CODE_SESSION_ID";
/// The store that Stepwise names to its adapters.
pub(super) const STORE: &str = "STEPWISE_DB";
/// Where Stepwise keeps the directories of its jobs.
pub(super) const JOBS_DIRECTORY: &str = "STEPWISE_JOBS_DIR";
/// The mark of a controller's workload.
pub(super) const WORKLOAD: &str = "TENURE_WORKLOAD";
/// The pid that systemd started, in what that one and its descendants inherit.
pub(super) const SYSTEMD_PID: &str = "SYSTEMD_EXEC_PID";
/// The service of launchd's that it is of; `0`: of none.
pub(super) const LAUNCHD_SERVICE: &str = "XPC_SERVICE_NAME";

/// Who adopts what has lost its parent. A name proves nothing by itself: it only says that a child may be adopted.
const REAPERS: &[&str] = &[
    "systemd",
    "init",
    "launchd",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "conmon",
    "s6-svscan",
    "runsvdir",
    "runit",
    "openrc-init",
    "podman-init",
];

/// The processes that live, by pid, and their descent. A process is named by its place.
pub(super) struct Host<'a> {
    pub census: &'a Census,
    pub all: Vec<&'a HostProcess>,
    pub parent: Vec<Option<usize>>,
    pub children: Vec<Vec<usize>>,
    pub recognised: Vec<Option<Recognised<'a>>>,
    places: HashMap<Pid, usize>,
}

impl<'a> Host<'a> {
    pub fn new(census: &'a Census, catalogue: &'a Catalogue) -> Host<'a> {
        let all: Vec<&HostProcess> =
            census.processes.known().into_iter().flat_map(|all| all.values()).filter(|one| !one.is_zombie()).collect();
        let places: HashMap<Pid, usize> = all.iter().enumerate().map(|(at, one)| (one.id.pid, at)).collect();
        let mut parent = vec![None; all.len()];
        let mut children = vec![Vec::new(); all.len()];
        for (at, one) in all.iter().enumerate() {
            // A parent that is younger than its child is another process, which took the pid between two reads.
            let of = one.parent.and_then(|pid| places.get(&pid)).copied();
            if let Some(of) = of.filter(|of| *of != at && all[*of].started_at <= one.started_at.after(TOLERANCE)) {
                parent[at] = Some(of);
                children[of].push(at);
            }
        }
        let recognised = all.iter().map(|one| catalogue.recognise(one)).collect();
        Host { census, all, parent, children, recognised, places }
    }

    pub fn place(&self, pid: Pid) -> Option<usize> {
        self.places.get(&pid).copied()
    }

    /// What a name has in the environment of a process; None, too, if that could not be read.
    pub fn mark(&self, at: usize, name: &str) -> Option<&'a str> {
        self.all[at].environment.known().and_then(|marks| marks.get(name)).map(String::as_str)
    }

    pub fn is_readable(&self, at: usize) -> bool {
        matches!(self.all[at].environment, Reading::Known(_))
    }

    pub fn is(&self, at: usize, kind: Kind) -> bool {
        self.recognised[at].is_some_and(|recognised| recognised.kind == kind)
    }

    /// Something that belongs to a tree, if it is no server.
    pub fn is_agent_or_its(&self, at: usize) -> bool {
        self.recognised[at].is_some_and(|recognised| recognised.kind != Kind::Server)
    }

    /// It leads its own group and session.
    pub fn is_leader(&self, at: usize) -> bool {
        let one = self.all[at];
        one.group == Some(one.id.pid) && one.session == Some(one.id.pid)
    }

    /// The group and session that its leader left behind: nobody has that pid, and nobody can get it while the group is there.
    pub fn left_group(&self, at: usize) -> Option<Pid> {
        let one = self.all[at];
        let group = one.group.filter(|group| *group != one.id.pid && one.session == Some(*group))?;
        (group.get() != 1 && self.place(group).is_none()).then_some(group)
    }

    /// Whether its parent may not be the one that started it.
    pub fn lost_parent(&self, at: usize) -> bool {
        let one = self.all[at];
        // Who is not in the table is hidden from us, or of another namespace: that says nothing.
        let Some(parent) = self.parent[at].map(|parent| self.all[parent]) else { return false };
        // A fork stays in its parent's session until it makes one, and then leads it.
        let is_adopted = one.session.is_some() && one.session != Some(one.id.pid) && parent.session != one.session;
        is_adopted || is_reaper(parent)
    }

    /// Whether the system's own manager of services started it, on purpose.
    pub fn is_service(&self, at: usize) -> bool {
        let own = self.all[at].id.pid.to_string();
        self.mark(at, SYSTEMD_PID) == Some(own.as_str())
            || self.mark(at, LAUNCHD_SERVICE).is_some_and(|service| !service.is_empty() && service != "0")
    }
}

/// Whether it adopts what has lost its parent, by its name.
pub(super) fn is_reaper(process: &HostProcess) -> bool {
    REAPERS.contains(&process.name.as_str()) || process.name.starts_with("containerd-shim")
}
