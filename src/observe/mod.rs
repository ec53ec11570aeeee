//! The eyes: [`Eyes::look`] sees the host once, as [`Observed`] describes it, and decides nothing.
//!
//! What a look promises:
//! - It finds a process by any of three marks: the cgroup that it is in, `TENURE_WORKLOAD=<instance>/<uid>` in its environment
//!   (that of *this* instance only), or the shim that it descends from. Who descends from a marked process descends from the
//!   shim that started that one, also after the shim has died.
//! - An environment mark says whose a process is, over its descent: one that names another workload, or another instance,
//!   ends the descent there.
//! - An environment that another user wrote is no mark.
//! - Process 1 and the controller itself are never part of a workload; nor is what was let go (`tenure detach`).
//! - State, parent, and memory of what it reports were read in this look.
//! - A look at the whole host misses none of these. One at what is [`Own`](Breadth::Own) reads no list of processes: it reads
//!   again what is known, what is in our cgroups, and what the others that are known have forked. Of what it saw it says what
//!   a look at the host says; but what it did not see may be there: who left both the cgroup and its parent since the last look
//!   at the host, or took on our mark since.
//! - Of what others started and is being ended it finds whom its row names and what descends from them, but for what somebody needs.
//! - A look that could not be completed is `Unknown`: nothing is missing then.
//! - Absence is honest: as long as something ends while it is being read, the table is read once more, for the child that it may
//!   have left (a double fork does just that). After [`MAX_PASSES`] it is taken as it is; a later look finds the rest.
//! - Files that prove an end are read *after* the processes. The shim writes `exit.json` before it leaves, so who sees no
//!   shim sees its `exit.json`.

mod census;
mod files;
mod marks;
mod others;

#[cfg(test)]
mod tests;

pub use census::{Surveyor, weigh};
pub use others::Others;

use crate::model::{
    BootId, Breadth, InstanceId, LetGo, LetGoWhy, Marks, Observed, Pid, ProcId, Reading, SeenProcess, SeenWorkload,
    Time, WorkloadUid,
};
use crate::os::{self, CgroupMembers, Cgroups, OsError, ProcessTable, StateDir, boot_id, is_plain_name, self_id};
use files::Files;
use marks::Roots;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How often one look reads the process table at most.
const MAX_PASSES: usize = 6;

/// A part of the world could not be read, so the look knows nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("could not read {path}: {source}")]
    Directory { path: String, source: std::io::Error },
}

/// The eyes of one instance. They keep what they have read of processes that are still there, so that a look at an unchanged host
/// costs little; dropping them loses nothing.
#[derive(Debug)]
pub struct Eyes {
    state: StateDir,
    instance: InstanceId,
    cgroups: Option<CgroupMembers>,
    table: ProcessTable,
    /// Who was found at the last look, and where it belongs.
    known: BTreeMap<ProcId, WorkloadUid>,
    looks: u64,
    /// The last look was completed.
    complete: bool,
    host: Option<(BootId, ProcId)>,
    /// What others started, and is being ended.
    others: Others,
}

impl Eyes {
    /// The eyes of the instance whose state directory this is.
    pub fn new(state: StateDir, instance: InstanceId, cgroups: Option<Cgroups>) -> Eyes {
        let cgroups = cgroups.map(CgroupMembers::new);
        let (table, known) = (ProcessTable::new(), BTreeMap::new());
        Eyes {
            state,
            instance,
            cgroups,
            table,
            known,
            looks: 0,
            complete: false,
            host: None,
            others: Others::default(),
        }
    }

    /// Tells these eyes what other eyes have found: these processes belong to this workload.
    pub fn remember(&mut self, uid: &WorkloadUid, members: &[ProcId]) {
        self.known.extend(members.iter().map(|id| (*id, uid.clone())));
    }

    /// Tells these eyes what of others' is being ended, from now on. Its members are those that its row names, and what descends
    /// from them; never what belongs to a workload of ours, or carries any mark.
    pub fn end_others(&mut self, others: Others) {
        self.others = others;
    }

    /// The number that the next look will have.
    pub fn next_look(&self) -> u64 {
        self.looks + 1
    }

    /// Whether these eyes can tell what is ours without a look at the whole host: for that, there must be cgroups.
    pub fn know_their_own(&self) -> bool {
        self.cgroups.is_some()
    }

    /// Looks at the whole host. `interested`: the workloads whose end matters though their run directory may be gone (those that are not
    /// stopped): of these, and only these, the log directory is asked for an `exit.json`.
    pub fn look(&mut self, now: Time, interested: &BTreeSet<WorkloadUid>) -> Observed {
        self.look_at(Breadth::Host, now, interested)
    }

    /// Looks as far as it is told to. A look of breadth `Own` costs what is ours, however much there is on the host. It adds
    /// to what looks at the whole host have found, so the first look is always one of those.
    pub fn look_at(&mut self, breadth: Breadth, now: Time, interested: &BTreeSet<WorkloadUid>) -> Observed {
        self.looks += 1;
        let breadth = if self.complete { breadth } else { Breadth::Host };
        self.known.extend(self.others.members().map(|(id, uid)| (id, uid.clone())));
        let (boot_id, workloads) = match self.host() {
            Ok((boot_id, me)) => {
                let seen = self.workloads(breadth, &boot_id, me, interested);
                (boot_id, seen.map_or_else(|error| Reading::Unknown(error.to_string()), Reading::Known))
            }
            Err(error) => (BootId::default(), Reading::Unknown(error.to_string())),
        };
        self.complete = workloads.known().is_some();
        Observed { look: self.looks, as_of: now, breadth, boot_id, workloads }
    }

    /// This boot and this process: asked once, neither changes.
    fn host(&mut self) -> Result<(BootId, ProcId), OsError> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let host = (boot_id()?, self_id()?);
        self.host = Some(host.clone());
        Ok(host)
    }

    fn workloads(
        &mut self,
        breadth: Breadth,
        boot_id: &BootId,
        me: ProcId,
        interested: &BTreeSet<WorkloadUid>,
    ) -> Result<BTreeMap<WorkloadUid, SeenWorkload>, LookError> {
        let mut seen: BTreeMap<WorkloadUid, SeenWorkload> = BTreeMap::new();
        let directory = self.state.workloads();
        for uid in files::run_dirs(&directory)
            .map_err(|source| LookError::Directory { path: directory.display().to_string(), source })?
        {
            let mut files = Files::default();
            let directory = self.state.workload(&uid);
            files
                .read_shim(&directory)
                .map_err(|source| LookError::Directory { path: directory.display().to_string(), source })?;
            let workload = seen.entry(uid).or_default();
            (workload.run_dir, workload.begun) = (true, files.begun);
            (workload.shim, workload.unreadable) = (files.shim, files.unreadable);
        }
        for _ in 0..MAX_PASSES {
            let settled = self.processes(breadth, boot_id, me, &mut seen)?;
            if settled {
                break;
            }
        }
        self.ends(&mut seen, interested)?;
        self.known = seen
            .iter()
            .flat_map(|(uid, workload)| workload.processes.iter().map(|process| (process.id, uid.clone())))
            .collect();
        // What an earlier pass of this look saw, and nothing is left of.
        seen.retain(|_, workload| *workload != SeenWorkload::default());
        Ok(seen)
    }

    /// One pass over the processes: replaces those of every workload. `false`: something ended in the meantime.
    fn processes(
        &mut self,
        breadth: Breadth,
        boot_id: &BootId,
        me: ProcId,
        seen: &mut BTreeMap<WorkloadUid, SeenWorkload>,
    ) -> Result<bool, LookError> {
        for workload in seen.values_mut() {
            workload.processes.clear();
            workload.let_go.clear();
            workload.cgroup = false;
        }
        let pass = match breadth {
            Breadth::Host => self.table.refresh()?,
            Breadth::Own => self.table.catch_up()?,
        };
        let mut settled = pass.vanished == 0;
        let mut roots = Roots::default();
        if let Some(cgroups) = &mut self.cgroups {
            for (uid, pids) in cgroups.read()? {
                let place = cgroups.cgroups().hierarchy_path(&uid);
                seen.entry(uid.clone()).or_default().cgroup = true;
                for pid in pids {
                    if breadth == Breadth::Own {
                        self.table.find(pid)?;
                    }
                    if self.table.is_in_cgroup(pid, &place)? {
                        roots.cgroup.insert((pid, uid.clone()));
                    } else if self.table.get(pid).is_none() {
                        // A member that the table does not hold was forked after the pass: the next one finds it.
                        settled = false;
                    }
                }
            }
        }
        for (uid, workload) in seen.iter() {
            let Some(shim) = workload.shim.as_ref().filter(|shim| shim.boot_id == *boot_id) else { continue };
            if breadth == Breadth::Own {
                self.table.find(shim.shim.pid)?;
            }
            if self.table.get(shim.shim.pid).is_some_and(|there| there.id == shim.shim) {
                roots.shims.insert(shim.shim.pid, uid.clone());
            }
        }
        for (id, uid) in &self.known {
            if breadth == Breadth::Own {
                self.table.find(id.pid)?;
            }
            if self.table.get(id.pid).is_some_and(|there| there.id == *id) {
                roots.known.insert(id.pid, uid.clone());
            }
        }
        if breadth == Breadth::Own {
            self.descend(&roots, me.pid)?;
        }
        self.keepers(boot_id, &mut roots, seen)?;
        let found = marks::find(&mut self.table, &self.instance, &roots, &self.others, me.pid)?;
        settled &= found.settled;
        for ((uid, pid), marks) in found.members {
            let Some(process) = self.seen_process(pid, &uid, marks, boot_id, seen)? else {
                settled = false;
                continue;
            };
            seen.entry(uid).or_default().processes.push(process);
        }
        Ok(settled)
    }

    /// The register of what was let go, read after the processes: whoever a keeper started was registered before.
    fn keepers(
        &mut self,
        boot_id: &BootId,
        roots: &mut Roots,
        seen: &mut BTreeMap<WorkloadUid, SeenWorkload>,
    ) -> Result<(), LookError> {
        let directory = self.state.let_go();
        let registered = os::keepers(&self.state, boot_id)
            .map_err(|source| LookError::Directory { path: directory.display().to_string(), source })?;
        for keeper in registered {
            if os::start_time(keeper.id.pid)? != Some(keeper.id.start) {
                keeper.forget();
                continue;
            }
            roots.keepers.insert(keeper.id.pid);
            let kept = keeper.kept.map(|kept| (kept.workload, kept.command));
            // What its file does not tell, its command line does.
            let Some((workload, command)) = kept.or_else(|| self.kept_by(keeper.id.pid)) else { continue };
            let let_go = LetGo { pid: keeper.id.pid, command, why: LetGoWhy::Detached };
            seen.entry(workload).or_default().let_go.push(let_go);
        }
        Ok(())
    }

    /// What a keeper was started with: `tenure keep <run directory> <descriptor> COMMAND…`.
    fn kept_by(&mut self, pid: Pid) -> Option<(WorkloadUid, String)> {
        self.table.again(pid).ok()?;
        let words: Vec<_> = self.table.get(pid)?.argv().skip(1).map(String::from_utf8_lossy).collect();
        let [verb, run_dir, _, command @ ..] = &words[..] else { return None };
        let uid = Path::new(&**run_dir).file_name()?.to_str().filter(|name| is_plain_name(name))?;
        (verb == "keep").then(|| (WorkloadUid::from(uid), command.join(" ")))
    }

    /// Finds what was forked since the last pass by who is not in a cgroup: shims, and what left its cgroup.
    fn descend(&mut self, roots: &Roots, me: Pid) -> Result<(), OsError> {
        let inside: BTreeSet<Pid> = roots.cgroup.iter().map(|(pid, _)| *pid).collect();
        let mut open: Vec<Pid> = marks::marked(&self.table, &self.instance).map(|(_, pid)| pid).collect();
        open.extend(roots.shims.keys().chain(roots.known.keys()));
        let mut asked = BTreeSet::from([me]);
        while let Some(pid) = open.pop() {
            if !inside.contains(&pid) && asked.insert(pid) {
                open.extend(self.table.children_now(pid)?);
            }
        }
        Ok(())
    }

    fn seen_process(
        &mut self,
        pid: Pid,
        uid: &WorkloadUid,
        marks: Marks,
        boot_id: &BootId,
        seen: &BTreeMap<WorkloadUid, SeenWorkload>,
    ) -> Result<Option<SeenProcess>, OsError> {
        let Some(user) = self.table.user(pid)? else { return Ok(None) };
        let Some(process) = self.table.get(pid) else { return Ok(None) };
        let written = seen.get(uid).and_then(|it| it.shim.as_ref()).filter(|shim| shim.boot_id == *boot_id);
        let is_shim = match written {
            Some(shim) => shim.shim == process.id,
            // It has not written its file yet: its command line says what it is, and its environment whose.
            None => marks.environment && is_shim_of(process.argv(), uid),
        };
        Ok(Some(SeenProcess {
            id: process.id,
            parent: process.parent,
            user,
            state: process.state,
            command: process.command(),
            rss_bytes: process.rss_bytes,
            is_shim,
            marks,
        }))
    }

    /// The ends that shims have written, in the run directory or, after the clean-up, in the log directory.
    fn ends(
        &self,
        seen: &mut BTreeMap<WorkloadUid, SeenWorkload>,
        interested: &BTreeSet<WorkloadUid>,
    ) -> Result<(), LookError> {
        let read = |files: &mut Files, directory: &Path| {
            let unread = |source| LookError::Directory { path: directory.display().to_string(), source };
            files.read_exit(directory).map_err(unread)
        };
        for (uid, workload) in seen.iter_mut() {
            let directory = self.state.workload(uid);
            let mut files = Files::default();
            // Its directory may have been cleaned up by its shim since the look began.
            workload.run_dir = directory.is_dir();
            if workload.run_dir {
                read(&mut files, &directory)?;
            }
            if files.exit.is_none() && interested.contains(uid) {
                read(&mut files, &self.state.log(uid))?;
            }
            workload.exit = files.exit;
            if workload.unreadable.is_none() {
                workload.unreadable = files.unreadable;
            }
        }
        for uid in interested.iter().filter(|uid| is_plain_name(uid.as_str())) {
            if seen.contains_key(uid) {
                continue;
            }
            let mut files = Files::default();
            read(&mut files, &self.state.log(uid))?;
            if files.exit.is_some() || files.unreadable.is_some() {
                let workload = SeenWorkload { exit: files.exit, unreadable: files.unreadable, ..Default::default() };
                seen.insert(uid.clone(), workload);
            }
        }
        Ok(())
    }
}

/// Whether an argument vector is `tenure shim <run directory of this workload>`.
fn is_shim_of<'a>(argv: impl Iterator<Item = &'a [u8]>, uid: &WorkloadUid) -> bool {
    let mut words = argv.skip(1);
    words.next() == Some(b"shim")
        && words
            .next()
            .map(|word| Path::new(OsStr::from_bytes(word)))
            .and_then(Path::file_name)
            .is_some_and(|name| name == uid.as_str())
}
