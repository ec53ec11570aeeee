//! The adapters that are spoken with: one driver each. A driver knows nothing that its workload's files do not say, so all
//! of this may be dropped at any moment, and is when the controller dies.

use super::flows::Flows;
use super::outcome;
use super::settle::{Process, Talk};
use super::turns::{self, turn_of};
use crate::acp::{self, Driver, DriverConfig, Handshake, TurnState, Wanted};
use crate::flow;
use crate::model::{
    Exit, Failure, Observed, Outcome, Permissions, Reading, RunPhase, Snapshot, Span, Stage, StepRun, Time, Workload,
    WorkloadPhase, WorkloadType, WorkloadUid,
};
use crate::os::StateDir;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};

/// One adapter that is spoken with.
struct Link {
    /// The directory of the adapter's files, when it was connected.
    dir: PathBuf,
    driver: Driver,
    wanted: watch::Sender<Wanted>,
}

/// Every adapter that is spoken with.
pub(super) struct Adapters {
    state_dir: StateDir,
    bell: Arc<Notify>,
    links: BTreeMap<WorkloadUid, Link>,
    /// What the hands have asked to be closed.
    closing: Arc<Mutex<BTreeSet<WorkloadUid>>>,
    /// Turns that could not even be put together: turn → why.
    unready: BTreeMap<String, String>,
}

impl Adapters {
    pub(super) fn new(state_dir: StateDir, bell: Arc<Notify>) -> Adapters {
        Adapters { state_dir, bell, links: BTreeMap::new(), closing: Arc::default(), unready: BTreeMap::new() }
    }

    /// What the hands call for the stage `Ask`: the driver closes its sessions, then the adapter's stdin.
    pub(super) fn ask_client(&self) -> crate::act::AskClient {
        let (closing, bell) = (self.closing.clone(), self.bell.clone());
        Arc::new(move |uid| {
            closing.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone());
            bell.notify_one();
            true
        })
    }

    /// Brings the drivers in line with the adapters that run, and each driver with the turns that it should take.
    pub(super) fn update(&mut self, desired: &Snapshot, observed: &Observed, flows: &Flows) {
        let Reading::Known(trees) = &observed.workloads else { return };
        // Its shim may have cleaned up by itself while no controller was there: what it had said is in its log directory then.
        let counts_on = |uid: &WorkloadUid| {
            let mut running = desired.all_runs().filter(|run| run.status.phase == RunPhase::Running);
            running.any(|run| run.status.workload.as_ref() == Some(uid))
        };
        let dir_of = |uid: &WorkloadUid| {
            let tree = trees.get(uid)?;
            if tree.run_dir {
                return Some(self.state_dir.workload(uid));
            }
            (tree.exit.is_some() && counts_on(uid)).then(|| self.state_dir.log(uid))
        };
        let running: BTreeMap<&WorkloadUid, (&Workload, PathBuf)> = desired
            .workloads
            .iter()
            .filter(|(_, workload)| {
                workload.spec.r#type == WorkloadType::Adapter && workload.status.phase != WorkloadPhase::Starting
            })
            .filter_map(|(uid, workload)| Some((uid, (&**workload, dir_of(uid)?))))
            .collect();
        self.links.retain(|uid, link| running.get(uid).is_some_and(|(_, dir)| *dir == link.dir));
        {
            let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
            closing.retain(|uid| running.contains_key(uid));
            // A controller that was killed after it had asked asks again.
            closing.extend(
                running
                    .iter()
                    .filter(|(_, (workload, _))| matches!(workload.status.stage, Some(Stage::Ask { .. })))
                    .map(|(uid, _)| (*uid).clone()),
            );
        }
        self.unready.clear();
        let mut work: HashMap<&WorkloadUid, Vec<&StepRun>> = HashMap::new();
        for run in desired.all_runs().filter(|run| run.status.phase == RunPhase::Running) {
            if let Some(uid) = run.status.workload.as_ref().filter(|uid| running.contains_key(uid)) {
                work.entry(uid).or_default().push(run);
            }
        }
        for (uid, (workload, dir)) in running {
            let wanted = self.wanted(uid, work.get(uid).map(Vec::as_slice).unwrap_or_default(), desired, flows);
            match self.links.get(uid) {
                Some(link) => {
                    link.wanted.send_if_modified(|before| {
                        let differs = *before != wanted;
                        if differs {
                            *before = wanted;
                        }
                        differs
                    });
                }
                None => {
                    let link = self.connect(uid, workload, dir, desired, wanted);
                    self.links.insert(uid.clone(), link);
                }
            }
        }
    }

    fn connect(
        &self,
        uid: &WorkloadUid,
        workload: &Workload,
        dir: PathBuf,
        desired: &Snapshot,
        wanted: Wanted,
    ) -> Link {
        let permissions = workload
            .spec
            .class
            .as_deref()
            .and_then(|name| super::classes::class(name, desired))
            .map_or(Permissions::Allow, |class| class.permissions);
        let state_dir = self.state_dir.clone();
        let config = DriverConfig {
            uid: uid.clone(),
            dir: dir.clone(),
            permissions,
            start_timeout: workload.spec.start_timeout.unwrap_or(Span::seconds(60)),
            started_at: workload.status.started_at.unwrap_or(Time(0)),
            terminal_dir: Arc::new(move |uid: &WorkloadUid| state_dir.transcripts(uid)),
        };
        let bell = self.bell.clone();
        let (sender, receiver) = watch::channel(wanted);
        Link { dir, driver: acp::spawn_driver(config, receiver, move || bell.notify_one()), wanted: sender }
    }

    /// What a driver should be doing now: the turns of the runs that count on its workload.
    fn wanted(&mut self, uid: &WorkloadUid, runs: &[&StepRun], desired: &Snapshot, flows: &Flows) -> Wanted {
        let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner).contains(uid);
        let mut turns = Vec::new();
        for run in runs {
            let (Some(job), Some(flow)) = (desired.jobs.get(&run.spec.job_uid), flows.get(&run.spec.job_uid)) else {
                continue;
            };
            let asked = turns::Asked { state_dir: &self.state_dir, desired, job, flow: &flow, run };
            match asked.turn() {
                Some(Ok(turn)) => turns.push(turn),
                Some(Err(why)) => {
                    self.unready.insert(turn_of(run), why);
                }
                None => {}
            }
        }
        turns.sort_by(|a, b| a.run.cmp(&b.run));
        // What a later step may go on with stays open as long as its job lives.
        let mut keep = BTreeSet::new();
        for owner in desired.workloads.get(uid).into_iter().flat_map(|row| &row.spec.owners) {
            let living = desired.jobs.get(&owner.uid).filter(|job| !job.status.phase.is_terminal());
            if let (Some(job), Some(flow)) = (living, flows.get(&owner.uid)) {
                let kept = flow::kept_conversations(&flow, desired.runs_of(&owner.uid));
                keep.extend(kept.iter().map(|key| turns::key_of(key, job)));
            }
        }
        Wanted { turns, keep, closing }
    }
}

impl Talk for Adapters {
    fn outcome_of(&self, run: &StepRun) -> Option<Outcome> {
        let turn = turn_of(run);
        if let Some(why) = self.unready.get(&turn) {
            let failure = Failure { reason: "PromptMissing".into(), message: why.clone() };
            return Some(Outcome::of(Err(failure)));
        }
        let link = self.links.get(run.status.workload.as_ref()?)?;
        match link.driver.progress().borrow().turns.get(&turn)? {
            TurnState::Done(outcome) => Some(outcome.clone()),
            TurnState::Waiting | TurnState::InFlight => None,
        }
    }

    fn emitted_by(&self, run: &StepRun) -> Option<Result<Value, Failure>> {
        turns::emitted(&turns::emit_path(&self.state_dir, run))
    }

    fn outcome_of_process(&self, what: Process, workload: &Workload, exit: &Exit) -> Outcome {
        outcome::of(what, exit, &self.state_dir.transcripts(&workload.uid()))
    }

    fn session_of(&self, run: &StepRun) -> Option<String> {
        let link = self.links.get(run.status.workload.as_ref()?)?;
        link.driver.progress().borrow().sessions.get(&turn_of(run)).cloned()
    }

    fn failed_start(&self, uid: &WorkloadUid) -> Option<String> {
        match &self.links.get(uid)?.driver.progress().borrow().handshake {
            Handshake::Failed(why) => Some(why.clone()),
            Handshake::Pending | Handshake::Done => None,
        }
    }

    fn nonsense(&self, uid: &WorkloadUid) -> Option<String> {
        let driver = &self.links.get(uid)?.driver;
        let said = driver.progress().borrow().nonsense.clone();
        said.or_else(|| driver.torn())
    }

    fn garbled(&self, uid: &WorkloadUid) -> Option<String> {
        self.links.get(uid)?.driver.progress().borrow().garbled.clone()
    }

    fn drained(&self, uid: &WorkloadUid) -> bool {
        self.links.get(uid).is_none_or(|link| link.driver.drained())
    }

    fn terminals(&self) -> Vec<(WorkloadUid, acp::TerminalWanted)> {
        let all = self.links.iter().flat_map(|(uid, link)| {
            let terminals = link.driver.progress().borrow().terminals.clone();
            terminals.into_iter().map(move |terminal| (uid.clone(), terminal))
        });
        all.collect()
    }
}
