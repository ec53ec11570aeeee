//! The simulated shim: the order of its effects is that of the real one, and between any two of them it may be killed.

use crate::host::{Role, Shim, State, mark};
use crate::look::shim_command;
use crate::sim::It;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use tenure::model::{Exit, ProcId, ShimSeen, Time, WorkloadUid};

/// Between SIGTERM and SIGKILL when it ends its workload by itself.
const GRACE_MS: i64 = 1_000;

impl It {
    /// A shim is started, as a child of the controller.
    pub fn spawn_shim(&mut self, uid: &WorkloadUid) {
        let parent = self.host.controller.unwrap_or(1);
        let Some(id) = self.host.spawn(parent, &shim_command(uid), Role::Shim) else { return };
        self.say(|| format!("shim {id} of {uid} is started"));
        let pid = id.pid.get();
        if let Some(process) = self.host.procs.get_mut(&pid) {
            process.mark = Some(mark(uid));
            process.of = Some(uid.clone());
        }
        let lease = self.lease_ms;
        self.host.shims.insert(pid, (Shim::New, lease));
    }

    /// Each shim goes on as far as it gets.
    pub fn step_shims(&mut self) {
        let all: Vec<i32> = self.host.shims.keys().copied().collect();
        for pid in all {
            for _ in 0..6 {
                if self.host.procs.get(&pid).is_none_or(|it| it.state != State::Running) || !self.step_shim(pid) {
                    break;
                }
                // In a storm it is interrupted between any two steps.
                if !self.weather.calm && self.rng.u8(0..4) == 0 {
                    break;
                }
            }
        }
    }

    /// One step. False: it has nothing to do now.
    fn step_shim(&mut self, pid: i32) -> bool {
        let Some((shim, lease)) = self.host.shims.get(&pid).cloned() else { return false };
        let (id, Some(uid)) = (self.host.procs[&pid].id, self.host.procs[&pid].of.clone()) else { return false };
        match shim {
            Shim::New => self.shim_begins(id, &uid, lease),
            Shim::Begun => self.shim_starts(id, &uid, lease),
            Shim::Started { main } => {
                let boot_id = self.host.boot_id();
                let garbage = self.weather.garbage;
                let garbage = self.chance(garbage);
                let Some(files) = self.host.run_dirs.get_mut(&uid) else { return self.leave(pid) };
                files.shim = Some(ShimSeen { shim: id, child: Some(main), boot_id });
                files.garbage = garbage;
                self.say(|| format!("shim {id} of {uid} reports main process {main}"));
                self.host.shims.insert(pid, (Shim::Live { main }, lease));
                true
            }
            Shim::Failed => {
                let boot_id = self.host.boot_id();
                if let Some(files) = self.host.run_dirs.get_mut(&uid) {
                    files.shim = Some(ShimSeen { shim: id, child: None, boot_id });
                }
                self.leave(pid)
            }
            Shim::Live { main } => {
                if !self.collect(id, main, &uid) {
                    return self.leave(pid);
                }
                let free = self.host.free_since.filter(|_| lease > 0);
                if free.is_some_and(|since| self.host.now - since >= lease) {
                    self.say(|| format!("shim {id} of {uid}: no controller came back"));
                    let begun = self.host.now;
                    self.host.shims.insert(pid, (Shim::Ending { main, begun, told: BTreeSet::new() }, lease));
                    return true;
                }
                false
            }
            Shim::Ending { main, begun, told } => self.shim_ends(id, main, begun, told, &uid, lease),
        }
    }

    fn leave(&mut self, pid: i32) -> bool {
        self.say(|| format!("shim {pid} leaves"));
        self.host.end(pid, Exit { code: Some(0), ..Exit::default() });
        false
    }

    fn shim_begins(&mut self, id: ProcId, uid: &WorkloadUid, lease: i64) -> bool {
        let pid = id.pid.get();
        let locked = |it: &It, lock: Option<ProcId>| lock.is_some_and(|lock| it.host.is_alive(lock));
        let Some(files) = self.host.run_dirs.get(uid).cloned() else { return self.leave(pid) };
        if locked(self, files.lock) || files.begun || files.shim.is_some() || files.exit.is_some() || !files.spec {
            return self.leave(pid);
        }
        if let Some(files) = self.host.run_dirs.get_mut(uid) {
            files.lock = Some(id);
        }
        if let Some(files) = self.host.run_dirs.get_mut(uid) {
            files.begun = true;
        }
        self.host.shims.insert(pid, (Shim::Begun, lease));
        true
    }

    fn shim_starts(&mut self, id: ProcId, uid: &WorkloadUid, lease: i64) -> bool {
        let pid = id.pid.get();
        let fails = self.weather.fails_to_start;
        if self.chance(fails) {
            self.write_exit(uid, Exit { message: Some("could not be started".into()), ..Exit::default() });
            self.host.shims.insert(pid, (Shim::Failed, lease));
            return true;
        }
        let is_adapter = self.is_adapter(uid);
        let command = if is_adapter { "agent" } else { "script" };
        let Some(main) = self.host.spawn(pid, command, Role::Main) else { return false };
        let nature = self.nature();
        let ends_at = (!is_adapter).then(|| self.host.now + self.rng.i64(5..4_000));
        let cgroup = (self.host.has_cgroups && self.host.cgroups.contains(uid)).then(|| uid.clone());
        if let Some(process) = self.host.procs.get_mut(&main.pid.get()) {
            (process.mark, process.of, process.cgroup) = (Some(mark(uid)), Some(uid.clone()), cgroup);
            (process.nature, process.ends_at) = (nature, ends_at);
        }
        self.say(|| format!("shim {id} of {uid} starts {main}"));
        self.main_started(uid, main);
        self.host.shims.insert(pid, (Shim::Started { main }, lease));
        true
    }

    /// Collects what has ended. False: no child is left.
    fn collect(&mut self, id: ProcId, main: ProcId, uid: &WorkloadUid) -> bool {
        let pid = id.pid.get();
        let ended: Vec<ProcId> =
            self.host.procs.values().filter(|it| it.parent == pid && it.is_zombie()).map(|it| it.id).collect();
        for child in ended {
            let end = self.host.procs.remove(&child.pid.get()).map(|it| it.end).unwrap_or_default();
            if child == main && self.host.run_dirs.get(uid).is_some_and(|files| files.exit.is_none()) {
                self.write_exit(uid, Exit { at: Some(Time(self.host.now)), ..end });
            }
        }
        self.host.procs.values().any(|it| it.parent == pid)
    }

    fn write_exit(&mut self, uid: &WorkloadUid, exit: Exit) {
        self.say(|| format!("exit.json of {uid}: {exit}"));
        let now = self.host.now;
        if let Some(files) = self.host.run_dirs.get_mut(uid) {
            files.exit = Some(exit);
            self.books.exits.insert(uid.clone(), now);
        }
    }

    /// What a controller would have done.
    fn shim_ends(
        &mut self,
        id: ProcId,
        main: ProcId,
        begun: i64,
        mut told: BTreeSet<ProcId>,
        uid: &WorkloadUid,
        lease: i64,
    ) -> bool {
        let pid = id.pid.get();
        self.collect(id, main, uid);
        let members: Vec<ProcId> = self
            .host
            .marked(uid)
            .into_iter()
            .filter(|member| *member != pid)
            .filter_map(|member| self.host.procs.get(&member))
            .map(|member| member.id)
            .collect();
        if members.is_empty() {
            let ended = self.host.run_dirs.get(uid).is_some_and(|files| files.exit.is_some());
            if !ended {
                self.write_exit(uid, Exit { message: Some("lease expired".into()), ..Exit::default() });
            }
            if self.host.cgroup_is_empty(uid) {
                self.host.cgroups.remove(uid);
            }
            self.move_to_logs(uid);
            return self.leave(pid);
        }
        for member in members {
            // What the kernel refuses stays, and so does the shim.
            if self.host.user != 0 && self.host.get(member).is_none_or(|it| it.user != self.host.user) {
                continue;
            }
            if self.host.now - begun >= GRACE_MS {
                self.deliver(member.pid.get(), Signal::SIGKILL);
            } else if told.insert(member) {
                self.deliver(member.pid.get(), Signal::SIGTERM);
                self.deliver(member.pid.get(), Signal::SIGCONT);
            }
        }
        self.host.shims.insert(pid, (Shim::Ending { main, begun, told }, lease));
        false
    }

    /// The run directory becomes the log directory.
    pub fn move_to_logs(&mut self, uid: &WorkloadUid) {
        if let Some(mut files) = self.host.run_dirs.remove(uid) {
            (files.spec, files.lock, files.shim, files.eof) = (false, None, None, false);
            self.host.log_dirs.insert(uid.clone(), files);
        }
    }
}
