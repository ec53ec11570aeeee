//! One look at the simulated host, with the promises of `observe`, and no more than those: things go on happening while it
//! is taken.

use crate::host::{Files, Host, OURS, Proc};
use crate::sim::Sim;
use std::collections::{BTreeMap, BTreeSet};
use tenure::model::{
    Breadth, Marks, Observed, Pid, ProcId, Reading, SeenProcess, SeenWorkload, ShimSeen, Time, WorkloadUid,
};

/// As in `observe`.
const MAX_PASSES: usize = 6;

type Seen = BTreeMap<WorkloadUid, SeenWorkload>;

/// Looks. The second value: whether the table held still in the end.
pub fn look(
    sim: &Sim,
    breadth: Breadth,
    number: u64,
    now: Time,
    interested: &BTreeSet<WorkloadUid>,
) -> (Observed, bool) {
    // What it adds to is the last look at the whole host.
    let breadth = if sim.with(|it| it.mind.known.is_some()) { breadth } else { Breadth::Host };
    let unknown = sim.with(|it| it.chance(it.weather.blind));
    let boot_id = sim.with(|it| it.host.boot_id());
    let observed = |workloads| Observed { look: number, as_of: now, breadth, boot_id, workloads };
    if unknown {
        sim.note(|| format!("look {number}: /proc cannot be read"));
        sim.with(|it| it.mind.known = None);
        return (observed(Reading::Unknown("/proc cannot be read".into())), true);
    }
    let mut seen = Seen::new();
    sim.with(|it| {
        for (uid, files) in &it.host.run_dirs {
            let workload = seen.entry(uid.clone()).or_default();
            workload.run_dir = true;
            read_shim(files, workload);
        }
    });
    let mut settled = false;
    for _ in 0..MAX_PASSES {
        sim.moves("in a look");
        settled = processes(sim, breadth, &mut seen);
        if settled {
            break;
        }
    }
    sim.moves("before ends are read");
    ends(sim, &mut seen, interested);
    seen.retain(|_, workload| *workload != SeenWorkload::default());
    sim.note(|| format!("look {number} ({breadth:?}): {}", in_words(&seen)));
    (observed(Reading::Known(seen)), settled)
}

fn in_words(seen: &Seen) -> String {
    let words = seen.iter().map(|(uid, it)| {
        let processes: Vec<String> = it
            .processes
            .iter()
            .map(|it| {
                format!(
                    "{}{}{}",
                    it.id,
                    if it.is_shim { "s" } else { "" },
                    if it.state == 'S' { ' ' } else { it.state }
                )
            })
            .collect();
        let exit = it.exit.as_ref().map(|exit| format!(" exit: {exit}")).unwrap_or_default();
        format!(
            "{uid}[{}{}{exit}{}]",
            processes.join(" "),
            if it.run_dir { " dir" } else { "" },
            if it.cgroup { " cg" } else { "" }
        )
    });
    words.collect::<Vec<_>>().join(" ")
}

fn read_shim(files: &Files, workload: &mut SeenWorkload) {
    if files.garbage && files.shim.is_some() {
        workload.unreadable = Some("shim.json cannot be understood".into());
    } else {
        workload.begun = files.begun;
        workload.shim = files.shim.clone();
    }
}

fn written<'a>(seen: &'a Seen, uid: &WorkloadUid, boot: &tenure::model::BootId) -> Option<&'a ShimSeen> {
    seen.get(uid).and_then(|it| it.shim.as_ref()).filter(|shim| shim.boot_id == *boot)
}

/// One pass over the processes. False: something ended in the meantime.
fn processes(sim: &Sim, breadth: Breadth, seen: &mut Seen) -> bool {
    for workload in seen.values_mut() {
        workload.processes.clear();
        workload.cgroup = false;
    }
    let mut settled = true;
    // The list of pids first, then each of them: between two of them anything may happen.
    let pids: Vec<i32> = match breadth {
        Breadth::Host => sim.with(|it| it.host.procs.keys().copied().collect()),
        Breadth::Own => sim.with(|it| own(&it.host, it.mind.known.iter().flatten(), seen)),
    };
    let mut table: BTreeMap<i32, Proc> = BTreeMap::new();
    let cut = sim.with(|it| it.rng.usize(0..=pids.len() * 3));
    for (place, pid) in pids.iter().enumerate() {
        if place == cut {
            sim.moves("while the table is read");
        }
        match sim.with(|it| it.host.procs.get(pid).cloned()) {
            Some(process) => drop(table.insert(*pid, process)),
            None => settled = false,
        }
    }
    let mut roots: BTreeSet<(WorkloadUid, i32)> = BTreeSet::new();
    sim.with(|it| {
        for uid in &it.host.cgroups {
            seen.entry(uid.clone()).or_default().cgroup = true;
            for process in it.host.procs.values().filter(|process| process.cgroup.as_ref() == Some(uid)) {
                match table.contains_key(&process.id.pid.get()) {
                    true => drop(roots.insert((uid.clone(), process.id.pid.get()))),
                    false => settled = false,
                }
            }
        }
    });
    let (boot, me) = sim.with(|it| (it.host.boot_id(), it.host.controller));
    let mut fresh: BTreeSet<i32> = BTreeSet::new();
    let members = loop {
        let members = closure(&table, &roots, seen, &boot, me);
        let stale: BTreeSet<i32> = members.keys().map(|(_, pid)| *pid).filter(|pid| !fresh.contains(pid)).collect();
        if stale.is_empty() {
            break members;
        }
        for pid in stale {
            fresh.insert(pid);
            match sim.with(|it| it.host.procs.get(&pid).cloned()) {
                Some(process) => drop(table.insert(pid, process)),
                None => {
                    table.remove(&pid);
                    settled = false;
                }
            }
        }
        sim.moves("while members are read again");
    };
    sim.with(|it| it.mind.known = Some(members.keys().map(|(_, pid)| table[pid].id).collect()));
    for ((uid, pid), marks) in members {
        let process = &table[&pid];
        if process.is_zombie() {
            continue;
        }
        let is_shim = match written(seen, &uid, &boot) {
            Some(shim) => shim.shim == process.id,
            None => marks.environment && process.command == shim_command(&uid),
        };
        let user = process.user;
        let seen_process = SeenProcess {
            id: process.id,
            parent: Pid::new(process.parent),
            user,
            state: process.letter(),
            command: process.command.clone(),
            rss_bytes: 1 << 20,
            is_shim,
            marks,
        };
        seen.entry(uid).or_default().processes.push(seen_process);
    }
    settled
}

/// Whom a look at what is ours reads: who is known, who is in our cgroups, the shims, and what those of them forked that are
/// in no cgroup of ours.
fn own<'a>(host: &Host, known: impl Iterator<Item = &'a ProcId>, seen: &Seen) -> Vec<i32> {
    let mut found: BTreeSet<i32> = known.filter(|id| host.get(**id).is_some()).map(|id| id.pid.get()).collect();
    let ours = |uid: &WorkloadUid| host.cgroups.contains(uid);
    found.extend(host.procs.values().filter(|it| it.cgroup.as_ref().is_some_and(ours)).map(|it| it.id.pid.get()));
    found.extend(seen.keys().filter_map(|uid| written(seen, uid, &host.boot_id())).map(|shim| shim.shim.pid.get()));
    loop {
        let before = found.len();
        let parents: BTreeSet<i32> =
            found.iter().copied().filter(|pid| host.procs.get(pid).is_some_and(|it| it.cgroup.is_none())).collect();
        found.extend(host.procs.values().filter(|it| parents.contains(&it.parent)).map(|it| it.id.pid.get()));
        if found.len() == before {
            return found.into_iter().filter(|pid| host.procs.contains_key(pid)).collect();
        }
    }
}

/// As the shim's argument vector shows it.
pub fn shim_command(uid: &WorkloadUid) -> String {
    format!("tenure shim /state/workloads/{uid}")
}

fn closure(
    table: &BTreeMap<i32, Proc>,
    cgroups: &BTreeSet<(WorkloadUid, i32)>,
    seen: &Seen,
    boot: &tenure::model::BootId,
    me: Option<i32>,
) -> BTreeMap<(WorkloadUid, i32), Marks> {
    let allowed = |pid: i32| Some(pid) != me && pid != 1;
    let mut members: BTreeMap<(WorkloadUid, i32), Marks> = BTreeMap::new();
    for (pid, process) in table.iter().filter(|(pid, _)| allowed(**pid)) {
        if let Some(uid) = named(process).filter(|(of, _)| *of == OURS).map(|(_, uid)| uid) {
            members.entry((uid.into(), *pid)).or_default().environment = true;
        }
    }
    for (uid, pid) in cgroups.iter().filter(|(_, pid)| allowed(*pid) && table.contains_key(pid)) {
        members.entry((uid.clone(), *pid)).or_default().cgroup = true;
    }
    for uid in seen.keys() {
        if let Some(shim) = written(seen, uid, boot) {
            let id: ProcId = shim.shim;
            if table.get(&id.pid.get()).is_some_and(|process| process.id == id) {
                members.entry((uid.clone(), id.pid.get())).or_default().shim = true;
            }
        }
    }
    let mut open: Vec<(WorkloadUid, i32)> = members.keys().cloned().collect();
    while let Some((uid, pid)) = open.pop() {
        for (child, process) in table.iter().filter(|(child, process)| process.parent == pid && allowed(**child)) {
            if named(process).is_some_and(|(of, other)| of != OURS || other != uid.as_str()) {
                continue;
            }
            let key = (uid.clone(), *child);
            let known = members.contains_key(&key);
            members.entry(key.clone()).or_default().shim = true;
            if !known {
                open.push(key);
            }
        }
    }
    members
}

fn named(process: &Proc) -> Option<(&str, &str)> {
    process.mark.as_deref()?.split_once('/')
}

fn ends(sim: &Sim, seen: &mut Seen, interested: &BTreeSet<WorkloadUid>) {
    sim.with(|it| {
        let host = &it.host;
        for (uid, workload) in seen.iter_mut() {
            let run = host.run_dirs.get(uid);
            workload.run_dir = run.is_some();
            workload.exit = run.and_then(|files| files.exit.clone());
            if workload.exit.is_none() && interested.contains(uid) {
                workload.exit = host.log_dirs.get(uid).and_then(|files| files.exit.clone());
            }
        }
        for uid in interested {
            let exit = host.log_dirs.get(uid).and_then(|files| files.exit.clone());
            if let (false, Some(exit)) = (seen.contains_key(uid), exit) {
                seen.insert(uid.clone(), SeenWorkload { exit: Some(exit), ..SeenWorkload::default() });
            }
        }
    });
}
