//! What must hold. Stated from the truth of the simulated world and from the rows of the store, without a look at how the
//! product comes to its decisions.

use crate::host::{Proc, Role, Said, State};
use crate::memory::{Change, Memory};
use crate::sim::{Counts, It};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tenure::controller::{Decision, turn_of};
use tenure::model::{
    AnyObject, Cause, Job, JobPhase, Kind, Part, RunPhase, Stage, StepRun, Time, Workload, WorkloadPhase, WorkloadType,
    WorkloadUid,
};
use tenure::plan::Action;
use tenure::store::{Committed, StoreError, Txn};

/// What the rules remember.
#[derive(Debug, Default)]
pub struct Books {
    pub counts: Counts,
    /// When a shim wrote how its main process ended.
    pub exits: BTreeMap<WorkloadUid, i64>,
    started: BTreeSet<WorkloadUid>,
    runs_started: BTreeSet<(String, String)>,
    turns: BTreeSet<(WorkloadUid, String)>,
    /// Which stage has had its effect.
    fired: BTreeSet<WorkloadUid>,
    tokens: BTreeMap<String, String>,
    look_begun: i64,
    /// Judged by a look at which the table did not hold still in the end: what it did not see may be there.
    unsettled: BTreeSet<WorkloadUid>,
    checked: u64,
}

/// A workload is wanted while an owner exists, is not terminal, and still needs it.
fn wanted(store: &Memory, row: &Workload) -> bool {
    let uid = row.uid();
    let job = |name: &str| match store.get(Kind::Job, name) {
        Some(AnyObject::Job(job)) => Some(job),
        _ => None,
    };
    let living = |job: &&Job| !job.status.phase.is_terminal() && job.metadata.deletion_timestamp.is_none();
    let owners: Vec<&Job> = row
        .spec
        .owners
        .iter()
        .filter_map(|owner| job(&owner.name).filter(|job| job.uid() == owner.uid))
        .filter(living)
        .collect();
    let run_needs_it = row.spec.run.as_ref().is_none_or(|name| match store.get(Kind::StepRun, name) {
        Some(AnyObject::StepRun(run)) => {
            owners.iter().any(|job| job.uid() == run.spec.job_uid)
                && run.status.phase == RunPhase::Running
                && run.status.workload.as_ref() == Some(&uid)
        }
        _ => false,
    });
    let parent_lives = row.spec.parent.as_ref().is_none_or(|parent| match row_of(store, parent) {
        Some(parent) => !matches!(parent.status.phase, WorkloadPhase::Stopping | WorkloadPhase::Stopped),
        None => false,
    });
    row.status.cause.is_none() && !row.spec.released && !owners.is_empty() && run_needs_it && parent_lives
}

fn row_of<'a>(store: &'a Memory, uid: &WorkloadUid) -> Option<&'a Workload> {
    match store.get(Kind::Workload, uid.as_str()) {
        Some(AnyObject::Workload(row)) => Some(row),
        _ => None,
    }
}

impl It {
    pub fn is_adapter(&self, uid: &WorkloadUid) -> bool {
        row_of(&self.store, uid).is_some_and(|row| row.spec.r#type == WorkloadType::Adapter)
    }

    /// The main process of a workload begins: what it does outside cannot be taken back.
    pub fn main_started(&mut self, uid: &WorkloadUid, main: tenure::model::ProcId) {
        self.books.counts.starts += 1;
        match row_of(&self.store, uid).cloned() {
            None => self.broken(format!("{main} of {uid} is started without a row")),
            Some(row) if row.status.phase == WorkloadPhase::Stopped => {
                self.broken(format!("{main} of {uid} is started, and its row says that it is stopped"));
            }
            Some(row) => {
                let owner = row.spec.owners.first().map(|owner| owner.uid.0.clone()).unwrap_or_default();
                // What is tried, or asked, again is begun again; each time by another workload.
                let again = row.spec.run.as_ref().is_some_and(|run| match self.store.get(Kind::StepRun, run) {
                    Some(AnyObject::StepRun(run)) => !run.status.tries.is_empty() || run.status.due_at.is_some(),
                    _ => false,
                });
                if let (false, Some(run)) = (again, row.spec.run)
                    && !self.books.runs_started.insert((owner, run.clone()))
                {
                    self.broken(format!("run {run} is started twice"));
                }
            }
        }
        if !self.books.started.insert(uid.clone()) {
            self.broken(format!("{uid} is started twice"));
        }
    }

    /// An agent is asked.
    pub fn turn_asked(&mut self, uid: &WorkloadUid, run: &str) {
        if !self.books.turns.insert((uid.clone(), run.to_owned())) {
            self.broken(format!("{run} is asked twice"));
        }
    }

    pub fn asked_to_end(&mut self, uid: &WorkloadUid) {
        match row_of(&self.store, uid).and_then(|row| row.status.stage) {
            Some(Stage::Ask { .. }) => drop(self.books.fired.insert(uid.clone())),
            other => self.broken(format!("{uid} is asked to end, and its row says {other:?}")),
        }
    }

    /// What a stage does is being done.
    pub fn stage_fired(&mut self, uid: &WorkloadUid) {
        self.books.fired.insert(uid.clone());
    }

    /// Before every signal of the controller. What was held is judged as it was then.
    pub fn before_signal(&mut self, uid: &WorkloadUid, pid: i32, held_at: u64, signal: Signal) {
        self.books.counts.signals += 1;
        let Some(process) = self.host.procs.get(&pid).cloned() else {
            self.broken(format!("{signal} to {pid}, which is nobody"));
        };
        let whose = match (&process.of, process.role) {
            _ if pid == 1 => Some("process 1".to_owned()),
            (_, Role::Controller | Role::Ancestor) => Some("the controller, or above it".to_owned()),
            (_, Role::Bystander) => Some("a bystander".to_owned()),
            (_, Role::Foreign) => Some("another instance's".to_owned()),
            (of, _) if of.as_ref() != Some(uid) && !self.has_gone_over(&process, uid) => Some(format!("of {of:?}")),
            _ if process.is_protected() && process.protected_at <= held_at => Some("protected".to_owned()),
            _ if self.host.user != 0 && process.user != self.host.user && process.cgroup.is_none() => {
                Some("another user's".to_owned())
            }
            (_, Role::Shim) if signal != Signal::SIGKILL => Some("a shim".to_owned()),
            _ => None,
        };
        if let Some(whose) = whose {
            self.broken(format!("{signal} for {uid} reaches {}, which is {whose}", process.id));
        }
        let stage = row_of(&self.store, uid).and_then(|row| row.status.stage);
        let on_record = matches!(
            (signal, stage),
            (Signal::SIGKILL, Some(Stage::Kill { .. }))
                | (Signal::SIGTERM | Signal::SIGCONT, Some(Stage::Terminate { .. }))
        );
        if !on_record {
            self.broken(format!("{signal} to {} of {uid}, and its row says {stage:?}", process.id));
        }
    }

    /// Whether a process has lost all marks of its own workload, and has those of this one: what was started by a controller
    /// that runs inside of a tree is below the shim of that one in the end.
    fn has_gone_over(&self, process: &Proc, uid: &WorkloadUid) -> bool {
        let pid = process.id.pid.get();
        let own = process.of.as_ref().is_some_and(|of| self.host.marked(of).contains(&pid));
        !own && self.host.marked(uid).contains(&pid)
    }

    /// What a pass came to.
    pub fn decided_on(&mut self, begun: i64, settled: bool, gate_is_open: bool, decision: &Decision) {
        self.books.look_begun = begun;
        let ends: Vec<WorkloadUid> = match decision {
            Decision::Settle(_, sends) => sends.iter().map(|(uid, _)| uid.clone()).collect(),
            Decision::Act(plan) => {
                plan.actions().into_iter().filter(|(_, it, _)| it.is_ending()).map(|(uid, _, _)| uid.clone()).collect()
            }
        };
        if !gate_is_open && let Some(uid) = ends.first() {
            self.broken(format!("{uid} is to be ended through a closed gate"));
        }
        if let Decision::Act(plan) = decision {
            for (uid, action, _) in plan.actions().into_iter().filter(|(_, it, _)| matches!(it, Action::Clean)) {
                let _ = action;
                if !settled {
                    self.books.unsettled.insert(uid.clone());
                }
            }
        }
        for uid in ends.into_iter().filter(|_| !settled) {
            self.books.unsettled.insert(uid);
        }
    }

    /// A commit of the controller's.
    pub fn commit(&mut self, txn: Txn, now: Time) -> Result<Committed, StoreError> {
        let told: BTreeSet<String> = txn.events.iter().map(|event| event.name.clone()).collect();
        let (committed, changes) = self.store.commit(txn, now)?;
        for change in &changes {
            match (&change.before, &change.after) {
                (before, Some(AnyObject::Workload(after))) => {
                    let before =
                        before.as_ref().and_then(|it| if let AnyObject::Workload(row) = it { Some(row) } else { None });
                    self.workload_changes(before, after, &told);
                }
                (Some(AnyObject::StepRun(before)), Some(AnyObject::StepRun(after))) => self.run_changes(before, after),
                (Some(AnyObject::Job(before)), Some(AnyObject::Job(after))) => {
                    let name = &after.metadata.name;
                    if before.status.phase != after.status.phase {
                        self.say(|| format!("job {name} is {}", after.status.phase.as_str()));
                        if before.is_over() && before.uid() == after.uid() {
                            self.broken(format!(
                                "job {name} was {:?} and is {:?}",
                                before.status.phase, after.status.phase
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        drop::<Vec<Change>>(changes);
        Ok(committed)
    }

    fn workload_changes(&mut self, before: Option<&Workload>, after: &Workload, told: &BTreeSet<String>) {
        let uid = after.uid();
        let status = &after.status;
        self.say(|| format!("row {uid}: {:?} {:?} {:?}", status.phase, status.stage, status.cause));
        let Some(before) = before else { return };
        let was = &before.status;
        if was.stage != status.stage {
            self.stage_changes(&uid, was.stage, status.stage, told);
        }
        if was.phase != WorkloadPhase::Stopping
            && status.phase == WorkloadPhase::Stopping
            && wanted(&self.store, before)
        {
            self.broken(format!("{uid} is wanted, and its end begins: {:?} {:?}", status.cause, status.message));
        }
        if was.cause.is_none() && status.phase != WorkloadPhase::Stopping {
            self.condemned(&uid, status.cause);
        }
        if was.phase != WorkloadPhase::Stopped && status.phase == WorkloadPhase::Stopped {
            self.stopped(&uid);
        }
    }

    fn stage_changes(&mut self, uid: &WorkloadUid, was: Option<Stage>, is: Option<Stage>, told: &BTreeSet<String>) {
        let done = |stage: Option<Stage>| match stage {
            Some(Stage::Ask { sent, .. } | Stage::Terminate { sent, .. } | Stage::Kill { sent, .. }) => sent,
            Some(Stage::Clean) | None => true,
        };
        let same = was.map(|stage| stage.as_str()) == is.map(|stage| stage.as_str()) && !done(was) && done(is);
        if same {
            if !self.books.fired.contains(uid) {
                self.broken(format!("{uid}: {is:?} is recorded as done, and was not"));
            }
            return;
        }
        if is.is_some() && !told.contains(uid.as_str()) {
            self.broken(format!("{uid}: {is:?} begins without an event"));
        }
        if let (Some(Stage::Terminate { .. } | Stage::Kill { .. }), Some(_)) = (is, was)
            && !done(was)
        {
            self.broken(format!("{uid}: {was:?} was never done, and {is:?} follows"));
        }
        self.books.fired.remove(uid);
    }

    /// A row is condemned by what was seen: it has to be true.
    fn condemned(&mut self, uid: &WorkloadUid, cause: Option<Cause>) {
        let living = |it: &&Proc| it.of.as_ref() == Some(uid) && !it.is_zombie();
        let main = self.host.procs.values().filter(living).any(|it| it.role == Role::Main);
        let shim =
            self.host.run_dirs.get(uid).and_then(|files| files.lock).is_some_and(|lock| self.host.is_alive(lock));
        let wrong = match cause {
            Some(Cause::Exited) => main,
            Some(Cause::ShimLost) => shim,
            _ => false,
        };
        if wrong {
            self.broken(format!("{uid} is condemned as {cause:?}, and is alive"));
        }
    }

    /// Whoever is there by any mark, but for those who were let go and those who came later.
    fn left(&self, uid: &WorkloadUid) -> Vec<i32> {
        let there = self.host.marked(uid).into_iter();
        there.filter(|pid| !self.host.is_let_go(*pid) && self.host.procs[pid].role != Role::Respawned).collect()
    }

    fn stopped(&mut self, uid: &WorkloadUid) {
        let left = self.left(uid);
        if !left.is_empty() && !self.books.unsettled.remove(uid) {
            self.broken(format!("{uid} is stopped, and {left:?} are alive"));
        }
        if self.host.run_dirs.contains_key(uid) {
            self.broken(format!("{uid} is stopped, and its run directory is there"));
        }
    }

    fn run_changes(&mut self, before: &StepRun, after: &StepRun) {
        let name = &after.metadata.name;
        let (was, is) = (&before.status, &after.status);
        if was.phase != is.phase {
            self.say(|| format!("run {name} is {} {:?} {:?}", is.phase.as_str(), is.reason, is.workload));
        }
        if was.phase.is_final() && (was.phase != is.phase || was.outputs != is.outputs) {
            self.broken(format!("{name} was {:?}, and is {:?}: its outcome is applied twice", was.phase, is.phase));
        }
        if was.phase != RunPhase::Running && is.phase == RunPhase::Running {
            // A mock needs nobody.
            let row = is.workload.as_ref().map(|uid| row_of(&self.store, uid));
            if !has_sub_jobs(after)
                && row.is_some_and(|row| row.is_none_or(|row| row.status.phase == WorkloadPhase::Stopped))
            {
                self.broken(format!("{name} runs, and its workload has no row"));
            }
        }
        if is.phase == RunPhase::Completed && has_sub_jobs(after) {
            self.results_are_of_its_sub_jobs(after);
        }
        let Some(uid) = was.workload.as_ref().filter(|_| was.phase == RunPhase::Running) else { return };
        let files = self.host.files(uid).cloned().unwrap_or_default();
        let turn = turn_of(after);
        let answer = files.said.iter().find_map(|(at, said)| match said {
            Said::Answer(run, outcome) if *run == turn => Some((*at, outcome.clone())),
            _ => None,
        });
        match is.phase {
            // Somebody was told of a result that is older.
            _ if is.tries.last().is_some_and(|it| matches!(it.part, Part::Notification(_))) => {}
            RunPhase::Completed => {
                self.books.counts.outcomes += 1;
                let told =
                    answer.as_ref().and_then(|(_, outcome)| outcome.result.as_ref().ok()).or(files.stdout.as_ref());
                if told != is.outputs.as_ref() {
                    self.broken(format!("{name} is completed with {:?}, and what was said is {told:?}", is.outputs));
                }
                let token =
                    is.outputs.as_ref().and_then(|it| it.get("result")).map(ToString::to_string).unwrap_or_default();
                if let Some(other) = self.books.tokens.insert(token, name.clone()) {
                    self.broken(format!("one outcome is applied to {other} and to {name}"));
                }
            }
            RunPhase::Failed => {
                let begun = self.books.look_begun;
                let lost = match is.reason.as_deref() {
                    Some(
                        "WorkloadLost" | "Exited" | "ShimLost" | "StartFailed" | "NoRow" | "OwnerTerminal"
                        | "NoLongerNeeded",
                    ) => {
                        let said = answer.is_some_and(|(at, _)| at < begun);
                        let ended =
                            files.exit.as_ref().is_some_and(|exit| exit.code.is_some() || exit.signal.is_some());
                        let exited =
                            !self.is_adapter(uid) && ended && self.books.exits.get(uid).is_some_and(|at| *at < begun);
                        said || exited
                    }
                    Some("ExitStatus") => files.exit.as_ref().is_none_or(|exit| exit.code == Some(0)),
                    Some("AgentError") => answer.is_none_or(|(_, outcome)| outcome.result.is_ok()),
                    _ => false,
                };
                if lost {
                    self.broken(format!(
                        "{name} failed ({:?}: {:?}), and its outcome was there",
                        is.reason, is.message
                    ));
                }
            }
            _ => {}
        }
    }

    /// The outputs of a run are those of its sub-jobs, each in its place.
    fn results_are_of_its_sub_jobs(&mut self, run: &StepRun) {
        let name = &run.metadata.name;
        let began = format!("{}.{}.{}", run.spec.job, run.spec.step, run.spec.adopts.unwrap_or(run.spec.attempt));
        let outputs = |index: Option<usize>| -> Option<Value> {
            let child = match index {
                Some(index) => format!("{began}-{index}"),
                None => began.clone(),
            };
            match self.store.get(Kind::Job, &child) {
                Some(AnyObject::Job(job)) if job.status.phase == JobPhase::Succeeded => job.status.outputs.clone(),
                _ => None,
            }
        };
        let given = run.status.outputs.clone().unwrap_or_default();
        let Some(items) = &run.spec.items else {
            if outputs(None) != Some(Value::Object(given.clone())) {
                self.broken(format!("{name} gives {given:?}, and its sub-job {:?}", outputs(None)));
            }
            return;
        };
        let results = given.get("results").and_then(Value::as_array).cloned().unwrap_or_default();
        let wrong = results.iter().enumerate().find(|(index, result)| match result.get("_error") {
            Some(_) => outputs(Some(*index)).is_some(),
            None => outputs(Some(*index)).as_ref() != Some(*result),
        });
        if results.len() != items.len() || wrong.is_some() {
            self.broken(format!("{name} has {} items, and gives {results:?}: {wrong:?} is wrong", items.len()));
        }
    }

    /// A sub-job has ended when its parent has, and is collected no sooner than its run is final.
    fn check_families(&mut self) {
        let jobs: BTreeMap<&str, &Job> = self
            .store
            .objects
            .values()
            .filter_map(|it| if let AnyObject::Job(job) = it { Some((job.metadata.uid.as_str(), job)) } else { None })
            .collect();
        let wrong = jobs.values().find_map(|job| {
            let of = job.spec.parent.as_ref()?;
            let parent = jobs.get(of.job_uid.as_str())?;
            let (name, phase) = (&job.metadata.name, job.status.phase);
            if parent.is_over() && (!job.is_over() || !job.status.collected) {
                return Some(format!("{name} is {phase:?}, and its parent {} has ended", parent.metadata.name));
            }
            let run = match self.store.get(Kind::StepRun, &of.run) {
                Some(AnyObject::StepRun(run)) => run,
                _ => return None,
            };
            (job.status.collected && !run.status.phase.is_final())
                .then(|| format!("{name} is collected, and {} is {:?}", of.run, run.status.phase))
        });
        if let Some(wrong) = wrong {
            self.broken(wrong);
        }
    }

    /// What must hold of the store after each step.
    pub fn check_books(&mut self) {
        if self.books.checked == self.store.revision {
            return;
        }
        self.books.checked = self.store.revision;
        let ended: BTreeSet<&str> = self
            .store
            .objects
            .values()
            .filter_map(|it| match it {
                AnyObject::Job(job) if job.is_over() => Some(job.metadata.uid.as_str()),
                _ => None,
            })
            .collect();
        let moving = self.store.objects.values().find_map(|it| match it {
            AnyObject::StepRun(run) if !run.status.phase.is_final() && ended.contains(run.spec.job_uid.as_str()) => {
                Some(format!("{} is {:?}, and its job is terminal", run.metadata.name, run.status.phase))
            }
            _ => None,
        });
        if let Some(what) = moving {
            self.broken(what);
        }
        self.check_families();
    }

    /// What must hold in the end: what is is what should be.
    pub fn check_end(&mut self) {
        let mut wrong: Vec<String> = Vec::new();
        let rows: BTreeMap<WorkloadUid, Workload> = self
            .store
            .objects
            .values()
            .filter_map(|it| if let AnyObject::Workload(row) = it { Some((row.uid(), row.clone())) } else { None })
            .collect();
        let alive = |uid: &WorkloadUid| rows.get(uid).is_some_and(|row| row.is_running() && wanted(&self.store, row));
        for process in self.host.procs.values().filter(|it| !it.is_zombie() && !self.host.is_let_go(it.id.pid.get())) {
            if let Some(uid) = process.of.as_ref().filter(|uid| !alive(uid))
                && self.host.marked(uid).contains(&process.id.pid.get())
            {
                wrong.push(format!("{} of {uid} is alive, and nobody wants it", process.id));
            }
        }
        for uid in self.host.run_dirs.keys().filter(|uid| !alive(uid)) {
            wrong.push(format!("the run directory of {uid} is left"));
        }
        for uid in self.host.cgroups.iter().filter(|uid| !alive(uid) && self.host.cgroup_is_empty(uid)) {
            wrong.push(format!("the cgroup of {uid} is left"));
        }
        for row in rows.values().filter(|row| row.status.phase != WorkloadPhase::Stopped) {
            let uid = row.uid();
            let main = self
                .host
                .procs
                .values()
                .any(|it| it.of.as_ref() == Some(&uid) && it.role == Role::Main && !it.is_zombie());
            if !alive(&uid) {
                wrong.push(format!("{uid} is {:?} {:?} {:?}", row.status.phase, row.status.stage, row.status.cause));
            } else if !main {
                wrong.push(format!("{uid} is wanted, and its main process is missing"));
            }
        }
        for object in self.store.objects.values() {
            let AnyObject::StepRun(run) = object else { continue };
            let (name, phase) = (&run.metadata.name, run.status.phase);
            let running = |uid: &WorkloadUid| alive(uid) && !self.is_silent(uid);
            match phase {
                RunPhase::Running if has_sub_jobs(run) && !self.has_open_child(run) && !self.is_held(run) => {
                    wrong.push(format!("{name} is Running, and no sub-job of it is open"));
                }
                RunPhase::Running if has_sub_jobs(run) => {}
                RunPhase::Running
                    if run.status.workload.as_ref().map_or(run.status.due_at.is_none(), |uid| !running(uid)) =>
                {
                    wrong.push(format!("{name} is Running, and nothing works on it"));
                }
                RunPhase::Pending if !self.is_full() && !self.is_held(run) => {
                    wrong.push(format!("{name} is Pending, for no reason"))
                }
                _ => {}
            }
        }
        let uids: BTreeSet<&str> = self
            .store
            .objects
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::Job)
            .map(|(_, it)| it.meta().uid.as_str())
            .collect();
        for object in self.store.objects.values() {
            if let AnyObject::Job(job) = object
                && job.parent_uid().is_some_and(|parent| !uids.contains(parent.as_str()))
            {
                wrong.push(format!("{} is left, and its parent is gone", job.metadata.name));
            }
        }
        if !wrong.is_empty() {
            let all = self.in_words();
            self.broken(format!("in the end: {}\n{all}", wrong.join("; ")));
        }
    }

    fn has_open_child(&self, run: &StepRun) -> bool {
        self.store.objects.values().any(|it| match it {
            AnyObject::Job(job) => {
                job.parent_uid() == Some(&run.spec.job_uid)
                    && !job.is_over()
                    && job.spec.parent.as_ref().is_some_and(|of| of.round.0 == run.spec.attempt)
            }
            _ => false,
        })
    }

    /// Whether nothing will come of it any more: it has said all, and its end is in its files.
    fn is_silent(&self, uid: &WorkloadUid) -> bool {
        self.host.run_dirs.get(uid).is_none_or(|files| files.exit.is_some())
    }

    /// Whether a limit of the policy is reached.
    fn is_full(&self) -> bool {
        let running = self
            .store
            .objects
            .values()
            .filter(|it| matches!(it, AnyObject::StepRun(run) if run.status.phase == RunPhase::Running));
        running.count() >= 2
    }

    fn is_held(&self, run: &StepRun) -> bool {
        self.store.objects.values().any(|it| {
            matches!(it, AnyObject::Job(job) if job.uid() == run.spec.job_uid && job.status.phase != tenure::model::JobPhase::Running)
        })
    }

    /// All that is not at rest, for a message.
    pub fn in_words(&self) -> String {
        let objects = self.store.objects.values().filter(|it| it.is_active()).filter_map(|it| match it {
            AnyObject::Job(job) => {
                Some(format!("job {} {:?} {:?}", job.metadata.name, job.status.phase, job.status.reason))
            }
            AnyObject::StepRun(run) => {
                Some(format!("run {} {:?} {:?}", run.metadata.name, run.status.phase, run.status.workload))
            }
            AnyObject::Workload(row) => Some(format!(
                "row {} {:?} {:?} {:?}",
                row.metadata.uid, row.status.phase, row.status.stage, row.status.cause
            )),
            _ => None,
        });
        let processes = self.host.procs.values().filter(|it| it.of.is_some()).map(|it| {
            let state = if it.state == State::Running { String::new() } else { format!(" {:?}", it.state) };
            format!(
                "{} {} of {:?} below {}{state} user {} cg {:?} mark {:?}",
                it.id, it.command, it.of, it.parent, it.user, it.cgroup, it.mark
            )
        });
        objects.chain(processes).collect::<Vec<_>>().join("\n  ")
    }
}

/// Whether jobs of their own do the work of a run: the flows of these worlds tell by the step's name.
fn has_sub_jobs(run: &StepRun) -> bool {
    run.spec.step.starts_with("sub")
}

/// A row that says that it runs.
trait Running {
    fn is_running(&self) -> bool;
}

impl Running for Workload {
    fn is_running(&self) -> bool {
        self.status.phase == WorkloadPhase::Running
    }
}
