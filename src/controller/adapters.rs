//! The adapters that are spoken with: one driver each. A driver knows nothing that its workload's files do not say, so all
//! of this may be dropped at any moment, and is when the controller dies.

use super::outcome;
use super::flows::Flows;
use super::programs;
use super::settle::{Process, Talk, working_dir};
use crate::acp::{self, Driver, DriverConfig, Handshake, OutputMode, Turn, TurnState, Wanted};
use crate::flow::{self, Executor, Flow, Prompt, Step};
use crate::model::{
    Exit, Job, Observed, Outcome, Permissions, Reading, RunPhase, Snapshot, Span, Stage, StepRun, Time, Workload,
    WorkloadPhase, WorkloadType, WorkloadUid,
};
use crate::os::StateDir;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
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
            match self.turn(job, &flow, run) {
                Some(Ok(turn)) => turns.push(turn),
                Some(Err(why)) => {
                    self.unready.insert(turn_of(run), why);
                }
                None => {}
            }
        }
        turns.sort_by(|a, b| a.run.cmp(&b.run));
        Wanted { turns, closing, ..Wanted::default() }
    }

    /// The turn of a run: the same words whenever it is asked for.
    fn turn(&self, job: &Job, flow: &Flow, run: &StepRun) -> Option<Result<Turn, String>> {
        let step = flow.steps.get(&run.spec.step)?;
        let Executor::Agent(agent) = &step.executor else { return None };
        let base = working_dir(job, &self.state_dir);
        let cwd = programs::step_dir_in(base, step, &run.spec.inputs);
        // A job's own directory is made for it; one that somebody named is theirs to make.
        if job.spec.working_dir.is_none()
            && let Err(error) = std::fs::create_dir_all(self.state_dir.workspace(&job.uid()))
        {
            return Some(Err(format!("failed to create the job's workspace: {error}")));
        }
        let text = match &agent.prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::File(file) => {
                let path = programs::beside_flow(job, file);
                match std::fs::read_to_string(&path) {
                    Ok(text) => text,
                    Err(error) => return Some(Err(format!("failed to read prompt_file {}: {error}", path.display()))),
                }
            }
        };
        let mut allowed_paths: Vec<PathBuf> = agent.allowed_paths.iter().map(|path| cwd.join(path)).collect();
        let mut prompt_values = run.spec.inputs.clone();
        let (output_mode, block) = match agent.output_mode {
            flow::OutputMode::Effect => (OutputMode::Effect, String::new()),
            flow::OutputMode::StreamResult => (OutputMode::StreamResult, String::new()),
            flow::OutputMode::File => {
                let path = output_path(agent.output_path.as_deref(), &cwd, &self.state_dir, job, run);
                allowed_paths.extend(path.parent().map(Path::to_path_buf));
                prompt_values.insert("STEPWISE_OUTPUT_FILE".into(), path.to_string_lossy().into_owned().into());
                let block = output_block(step, &path);
                (OutputMode::File(path), block)
            }
        };
        let prompt = format!("{}{block}", flow::substitute(&text, &prompt_values));
        Some(Ok(Turn {
            run: turn_of(run),
            prompt,
            cwd,
            allowed_paths,
            output_mode,
            model: agent.model.clone(),
            tools: Vec::new(),
            conversation: None,
        }))
    }
}

/// What the turn of a run is called towards its agent. A job may be deleted and come again under its name, and an agent that is
/// shared outlives both: what it said to the one is not an answer to the other.
pub fn turn_of(run: &StepRun) -> String {
    format!("{}@{}", run.metadata.name, run.spec.job_uid)
}

impl Talk for Adapters {
    fn outcome_of(&self, run: &StepRun) -> Option<Outcome> {
        let turn = turn_of(run);
        if let Some(why) = self.unready.get(&turn) {
            let failure = crate::model::Failure { reason: "PromptMissing".into(), message: why.clone() };
            return Some(Outcome::failed(failure));
        }
        let link = self.links.get(run.status.workload.as_ref()?)?;
        match link.driver.progress().borrow().turns.get(&turn)? {
            TurnState::Done(outcome) => Some(outcome.clone()),
            TurnState::Waiting | TurnState::InFlight => None,
        }
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

fn output_path(given: Option<&str>, cwd: &Path, state_dir: &StateDir, job: &Job, run: &StepRun) -> PathBuf {
    match given {
        Some(path) => cwd.join(flow::substitute(path, &run.spec.inputs)),
        None => state_dir.job(&job.uid()).join("outputs").join(format!("{}.{}.json", run.spec.step, run.spec.attempt)),
    }
}

/// What an agent is told about its output file, at the end of its prompt.
fn output_block(step: &Step, path: &Path) -> String {
    let keys: Vec<String> = step.outputs.keys().map(|key| format!("`{key}`")).collect();
    let what = if keys.is_empty() {
        "a JSON object with your results".to_owned()
    } else {
        format!("a JSON object with the keys {}", keys.join(", "))
    };
    format!(
        "\n\n---\nBefore you finish, write {what}, and nothing else, to this file:\noutput file: {}\n",
        path.display()
    )
}
