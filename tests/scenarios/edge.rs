//! The hands of the controller, as far as they reach into the simulated world: its store and its edge.

use crate::controller::pids;
use crate::host::{Files, OURS, Role};
use crate::sim::Sim;
use nix::sys::signal::Signal;
use std::io;
use std::sync::Arc;
use tenure::act::{ActError, Aim, Edge};
use tenure::controller::{FlowFile, Shelf};
use tenure::model::{AnyObject, BootId, Exit, Job, Kind, ProcId, Reading, Snapshot, Time, Workload, WorkloadUid};
use tenure::os::OsError;
use tenure::store::{Committed, Records, StoreError, Txn};

/// As in `act::host::start`.
const REPORT_TIMEOUT_MS: i64 = 20_000;

/// The store and the edge, to those who act.
#[derive(Clone)]
pub struct Hand(pub Arc<Sim>);

impl Hand {
    fn is_busy(&self) -> bool {
        self.0.with(|it| {
            let busy = it.weather.busy;
            it.chance(busy)
        })
    }

    pub fn read(&self) -> Result<Arc<Snapshot>, StoreError> {
        Records::snapshot(self)
    }
}

impl Records for Hand {
    fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        if self.is_busy() { Err(crate::memory::busy()) } else { Ok(self.0.with(|it| it.store.snapshot())) }
    }

    fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, StoreError> {
        self.0.meanwhile("before reading a row");
        if self.is_busy() {
            return Err(crate::memory::busy());
        }
        Ok(self.0.with(|it| it.store.get(kind, name).cloned()))
    }

    fn commit(&self, txn: Txn, now: Time) -> Result<Committed, StoreError> {
        self.0.meanwhile("before a commit");
        if self.is_busy() {
            return Err(crate::memory::busy());
        }
        let committed = self.0.with(|it| it.commit(txn, now));
        self.0.meanwhile("after a commit");
        committed
    }
}

impl Shelf for Hand {
    fn job(&self, name: &str) -> Reading<Option<Job>> {
        match Records::get(self, Kind::Job, name) {
            Ok(Some(AnyObject::Job(job))) => Reading::Known(Some(job)),
            Ok(_) => Reading::Known(None),
            Err(error) => Reading::Unknown(error.to_string()),
        }
    }

    fn flow_file(&self, dir: Option<&str>, name: &str) -> Result<FlowFile, String> {
        self.0.meanwhile("before a flow file is read");
        let flow = crate::people::BESIDE.get(name).cloned().ok_or("there is no such file")?;
        Ok(FlowFile { path: format!("/flows/{name}"), dir: dir.unwrap_or("/flows").to_owned(), flow })
    }
}

fn refused(path: &str) -> ActError {
    ActError::File { doing: "write", path: path.into(), source: io::Error::from(io::ErrorKind::StorageFull) }
}

impl Edge for Hand {
    fn boot_id(&self) -> Result<BootId, OsError> {
        Ok(self.0.with(|it| it.host.boot_id()))
    }

    fn start(&self, workload: &Workload) -> Result<(), ActError> {
        let uid = workload.uid();
        self.0.meanwhile("before a run directory is made");
        let full = self.0.with(|it| {
            it.host.run_dirs.entry(uid.clone()).or_insert_with(Files::default);
            let full = it.weather.disk_full;
            it.chance(full)
        });
        if full {
            return Err(refused("spec.json"));
        }
        self.0.meanwhile("before a cgroup is made");
        self.0.with(|it| {
            if it.host.has_cgroups {
                it.host.cgroups.insert(uid.clone());
            }
            if let Some(files) = it.host.run_dirs.get_mut(&uid) {
                files.spec = true;
            }
        });
        self.0.meanwhile("before a shim is started");
        self.0.with(|it| it.spawn_shim(&uid));
        let begun = self.0.with(|it| it.host.now);
        let mut pause = 1;
        loop {
            self.0.meanwhile("while a shim is about to report");
            let (reported, now) = self.0.with(|it| {
                let files = it.host.run_dirs.get(&uid);
                (files.is_none_or(|files| files.shim.is_some() || files.exit.is_some()), it.host.now)
            });
            if reported {
                return Ok(());
            }
            if now - begun > REPORT_TIMEOUT_MS {
                return Err(ActError::ShimSilent(std::time::Duration::from_secs(20), "shim.log".into()));
            }
            self.0.with(|it| it.tick(pause));
            pause = (pause * 2).min(2_000);
        }
    }

    fn ask(&self, uid: &WorkloadUid) -> Result<(), ActError> {
        self.0.meanwhile("before asking");
        self.0.with(|it| {
            it.say(|| format!("{uid} is asked to end"));
            it.asked_to_end(uid);
            it.mind.closing.insert(uid.clone());
        });
        Ok(())
    }

    fn aim(&self, uid: &WorkloadUid, targets: &[ProcId]) -> Aim {
        let mut held = Vec::new();
        for target in targets {
            self.0.moves("between two holds");
            if self.0.with(|it| it.may_hold(*target)) {
                held.push((*target, self.0.with(|it| it.steps)));
            }
        }
        self.0.note(|| format!("aim at {uid}: {}", pids(&held.iter().map(|(id, _)| *id).collect::<Vec<_>>())));
        let (sim, uid) = (self.0.clone(), uid.clone());
        Box::new(move |signals| {
            sim.meanwhile("before signals");
            sim.with(|it| it.stage_fired(&uid));
            let mut refused = None;
            for (target, held_at) in held {
                sim.moves("between two signals");
                if !sim.with(|it| it.signal(&uid, target, held_at, signals)) {
                    refused = Some(target);
                }
            }
            sim.meanwhile("after signals");
            let source = || io::Error::from(io::ErrorKind::PermissionDenied);
            refused.map_or(Ok(()), |id| Err(OsError::Signal { id, signal: Signal::SIGTERM, source: source() }))
        })
    }

    fn kill(&self, uid: &WorkloadUid, targets: &[ProcId], round: u32) -> Result<(), ActError> {
        self.0.meanwhile("before a kill");
        self.0.with(|it| {
            it.stage_fired(uid);
            it.kill_cgroup(uid);
        });
        self.0.meanwhile("between cgroup and the rest");
        let mut targets = targets.to_vec();
        if round > 1 {
            // Thorough: who is found now, too, but not who was let go.
            self.0.with(|it| {
                let found = it.host.marked(uid).into_iter().filter(|pid| !it.host.is_let_go(*pid));
                let found = found.map(|pid| it.host.procs[&pid].clone());
                targets.extend(found.filter(|it| it.role != Role::Shim).map(|it| it.id));
            });
        }
        for target in targets {
            self.0.moves("between two kills");
            if self.0.with(|it| it.may_hold(target)) {
                self.0.with(|it| it.signal(uid, target, it.steps, &[Signal::SIGKILL]));
            }
        }
        Ok(())
    }

    fn clean(&self, uid: &WorkloadUid) -> Result<Option<Exit>, ActError> {
        self.0.meanwhile("before a clean-up");
        let cgroup_is_gone = self.0.with(|it| it.clean_cgroup(uid));
        if !cgroup_is_gone {
            return Err(refused("the cgroup"));
        }
        self.0.meanwhile("in a clean-up");
        let full = self.0.with(|it| {
            let full = it.weather.disk_full;
            it.chance(full)
        });
        if full {
            return Err(refused("logs"));
        }
        self.0.with(|it| {
            it.say(|| format!("{uid} is cleaned up"));
            it.move_to_logs(uid);
        });
        self.0.meanwhile("after a clean-up");
        Ok(self.0.with(|it| it.host.log_dirs.get(uid).and_then(|files| files.exit.clone())))
    }
}

impl crate::sim::It {
    /// As `os::Held::take`: whether it is the one that was seen, and may be signalled.
    fn may_hold(&mut self, target: ProcId) -> bool {
        let selves = self.selves();
        let Some(process) = self.host.get(target).filter(|it| !it.is_zombie()) else { return false };
        let of = process.mark.as_deref().and_then(|mark| mark.split_once('/')).map(|(instance, _)| instance);
        target.pid.get() != 1
            && !selves.contains(&target.pid)
            && (self.host.user == 0 || process.user == self.host.user)
            && of.is_none_or(|of| of == OURS)
            && !process.is_protected()
    }

    /// What is sent reaches who is held, or nobody. False: the kernel refuses.
    fn signal(&mut self, uid: &WorkloadUid, target: ProcId, held_at: u64, signals: &[Signal]) -> bool {
        let user = self.host.user;
        match self.host.get(target).filter(|it| !it.is_zombie()) {
            None => return true,
            Some(process) if user != 0 && process.user != user => return false,
            Some(_) => {}
        }
        for signal in signals {
            self.before_signal(uid, target.pid.get(), held_at, *signal);
            self.say(|| format!("{signal} to {target} of {uid}"));
            self.deliver(target.pid.get(), *signal);
        }
        true
    }

    /// `cgroup.kill`, but not over the heads of those who were let go in it.
    fn kill_cgroup(&mut self, uid: &WorkloadUid) {
        let inside = self.without_spared(uid);
        let selves = self.selves();
        if inside.iter().any(|pid| selves.iter().any(|it| it.get() == *pid)) {
            return;
        }
        for pid in inside {
            self.before_signal(uid, pid, self.steps, Signal::SIGKILL);
            self.say(|| format!("cgroup.kill reaches {pid} of {uid}"));
            self.host.kill(pid);
        }
    }

    /// False: somebody is in it. Who was let go leaves it first.
    fn clean_cgroup(&mut self, uid: &WorkloadUid) -> bool {
        let is_empty = self.without_spared(uid).is_empty();
        if is_empty {
            self.host.cgroups.remove(uid);
        }
        is_empty
    }

    /// Moves those who were let go out of a cgroup; gives the others in it.
    fn without_spared(&mut self, uid: &WorkloadUid) -> Vec<i32> {
        let inside = self.host.procs.values().filter(|it| it.cgroup.as_ref() == Some(uid) && !it.is_zombie());
        let inside: Vec<i32> = inside.map(|it| it.id.pid.get()).collect();
        let (spared, others): (Vec<i32>, Vec<i32>) = inside.into_iter().partition(|pid| self.host.is_let_go(*pid));
        for pid in spared {
            if let Some(process) = self.host.procs.get_mut(&pid) {
                process.cgroup = None;
            }
        }
        others
    }
}
