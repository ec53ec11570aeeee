//! The controller: observe, plan, act, again and again.
//!
//! **Architecture invariants.** Nothing here decides about a process: [`crate::plan`] does, from values. Nothing here is told
//! by an event what to do: a wake-up only makes the next pass come sooner. There is no clean-up path that only an orderly
//! exit takes.

mod adapters;
mod admit;
mod classes;
mod condemn;
mod decide;
mod dependencies;
mod directory;
mod ends;
mod family;
mod flows;
mod foreign;
mod handle;
mod idle;
mod job_next;
mod listing;
mod load;
mod outcome;
mod outside;
mod places;
mod programs;
mod protect;
mod rehearsal;
mod requests;
mod requirements;
mod results;
mod script;
mod settle;
mod shelf;
mod speech;
mod subjobs;
mod tidy;
mod turns;
mod veil;
mod verdicts;
mod wake;
mod watches;

pub use decide::{Decided, Decision, decide};
pub use flows::Flows;
pub use handle::*;
pub use load::{Loaded, load, load_text};
pub use outside::Outside;
#[doc(hidden)]
pub use rehearsal::Rehearsal;
pub use requests::{Planned, RequestError, apply, fulfil, plan_now, plan_to_json};
pub use settle::{Process, Talk, World};
pub use shelf::{FlowFile, Shelf};
pub use turns::turn_of;
pub use veil::Veil;
pub use verdicts::Send;

use crate::act::{Aim, Hands, Host, HostPolicy};
use crate::model::{
    Breadth, Event, Kind, Observed, Pid, Reading, RunPhase, Snapshot, Stage, StepRun, Time, Workload, WorkloadPhase,
    WorkloadUid,
};
use crate::observe::{Eyes, Others};
use crate::os::{self, Cgroups, LockError, Never, OsError, StateDir, StateLock};
use crate::plan::{self, Action, Bounds};
use crate::store::{Store, StoreError, Txn};
use adapters::Adapters;
use protect::Protect;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use watches::Watches;

/// How long a controller that starts waits for the lock: another one may be ending just now.
const LOCK_PATIENCE: Duration = Duration::from_millis(1500);
/// After signals that left with the end of a job.
const AFTER_SIGNALS: Duration = Duration::from_millis(2);
/// After a pass that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What a controller is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The watched directories.
    pub dirs: Vec<PathBuf>,
    /// The state directory.
    pub state: StateDir,
    /// Converge, then exit.
    pub once: bool,
    /// How long nothing may happen before a pass is made all the same.
    pub resync: Duration,
}

/// Why a controller could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state directory could not be made.
    #[error("failed to create the state directory {path}: {source}; choose another one with --state")]
    StateDir {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another controller has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system would not say who we are.
    #[error(transparent)]
    Os(#[from] OsError),
    /// Our own program, which shims are started from, cannot be found.
    #[error("failed to find the path of this program: {0}")]
    Exe(std::io::Error),
}

/// Why a pass came to nothing. The next one tries again.
#[derive(Debug, Error)]
enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the plan breaks a safety rule and is not carried out (please report this): {0}")]
    Violation(#[from] plan::Violation),
}

/// A controller with its state directory.
pub struct Controller {
    options: Options,
    store: Arc<Store>,
    eyes: Eyes,
    hands: Hands,
    adapters: Adapters,
    flows: Flows,
    outside: outside::Host,
    watches: Watches,
    bell: Arc<Notify>,
    passes: watch::Sender<Arc<Pass>>,
    /// What each watched directory was when it was last read.
    /// When each was read: whether that went well, and when it is to be read again.
    directories: Vec<(PathBuf, Reading<Option<Time>>)>,
    /// When a job has something to do even if nothing happens.
    wake_jobs: Option<Time>,
    /// Something waits for a look at the whole host.
    wants_host: bool,
    selves: BTreeSet<Pid>,
    protect: Protect,
    foreign: foreign::Watch,
    /// What others started and is being ended, as the eyes and the hands know it.
    others: Arc<Others>,
    host: Arc<Host>,
    /// Held as long as the controller lives; shims watch it.
    _lock: StateLock,
}

/// What is to be done once a verdict is on record.
enum Ready {
    Terminate(Stage, Aim),
    Other(Action),
}

/// What a pass came to.
enum Outcome {
    /// Something changed: look again at once.
    Again,
    /// Wait until something happens, or until then.
    Rest(Option<Time>),
}

/// The time of day.
pub fn clock() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

impl Controller {
    /// Takes the state directory, opens the store, finds out what the host offers.
    ///
    /// # Errors
    /// See [`StartError`]; the most frequent one is that another controller has the state directory.
    pub async fn open(options: Options) -> Result<Controller, StartError> {
        use std::os::unix::fs::DirBuilderExt;
        let root = options.state.root().to_owned();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(|source| StartError::StateDir { path: root, source })?;
        let lock = take_lock(&options.state).await?;
        let file = options.state.store_file();
        // Who converges and exits has no time beside.
        let store = Arc::new(if options.once { Store::open(&file)? } else { Store::open_beside(&file)? });
        let instance = store.instance().clone();
        let cgroups = Cgroups::detect(&instance);
        let bell = Arc::new(Notify::new());
        tracing::info!(
            %instance,
            state = %options.state.root().display(),
            cgroups = cgroups.is_some(),
            "controller {} started",
            std::process::id()
        );
        let adapters = Adapters::new(options.state.clone(), bell.clone());
        let host = Arc::new(Host {
            state_dir: options.state.clone(),
            instance: instance.clone(),
            cgroups: cgroups.clone(),
            exe: std::env::current_exe().map_err(StartError::Exe)?,
            ask: adapters.ask_client(),
            policy: RwLock::default(),
        });
        let hands = Hands::new(store.clone(), host.clone(), bell.clone(), clock);
        let first = Arc::new(Pass { at: clock(), ..Pass::default() });
        let not_read = || Reading::Unknown("its first reading".to_owned());
        Ok(Controller {
            eyes: Eyes::new(options.state.clone(), instance, cgroups),
            hands,
            adapters,
            flows: Flows::default(),
            outside: outside::Host(store.clone()),
            watches: Watches::new(bell.clone(), os::raise_open_files()),
            passes: watch::channel(first).0,
            directories: options.dirs.iter().map(|dir| (dir.clone(), not_read())).collect(),
            wake_jobs: None,
            wants_host: true,
            selves: os::self_and_ancestors()?,
            protect: Protect::default(),
            foreign: foreign::Watch::new(bell.clone(), options.resync),
            others: Arc::default(),
            host,
            bell,
            store,
            options,
            _lock: lock,
        })
    }

    /// What others hold of it.
    pub fn handle(&self) -> Handle {
        Handle {
            store: self.store.clone(),
            state_dir: self.options.state.clone(),
            passes: self.passes.subscribe(),
            bell: self.bell.clone(),
        }
    }

    /// The loop. Returns when `shutdown` completes or, with `once`, when what is is what should be.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        self.reconcile(shutdown).await;
        // Where nothing runs on, nothing of ours stays; where something does, the kernel refuses.
        if let Some(cgroups) = &self.host.cgroups {
            cgroups.remove_base();
        }
    }

    async fn reconcile(&mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let dirty = Arc::new(Notify::new());
        let _watcher = wake::watch_directories(&self.options.dirs, dirty.clone());
        let mut revisions = self.store.subscribe();
        let mut integrity = self.store.integrity_changes();
        let mut read_directories = true;
        let mut next_resync = tokio::time::Instant::now() + self.options.resync;
        loop {
            let outcome = self.pass(std::mem::take(&mut read_directories)).await;
            let wait = match outcome {
                Ok(Outcome::Again) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(Outcome::Rest(at)) => {
                    if self.options.once && self.converged() {
                        return;
                    }
                    at.map(|at| at.since(clock()))
                }
                Err(error) => {
                    tracing::error!(%error, "the pass came to nothing; trying again");
                    Some(AFTER_FAILURE)
                }
            };
            let due = tokio::time::sleep(wait.unwrap_or(self.options.resync));
            tokio::select! {
                () = &mut shutdown => return,
                () = self.bell.notified() => {}
                _ = revisions.changed() => {}
                _ = integrity.changed() => {}
                () = dirty.notified() => read_directories = true,
                () = due => {}
                () = tokio::time::sleep_until(next_resync) => {
                    read_directories = true;
                    self.wants_host = true;
                    next_resync = tokio::time::Instant::now() + self.options.resync;
                    tidy::tidy(&self.store, &self.options.state, &self.let_go_of());
                }
            }
            revisions.mark_unchanged();
        }
    }

    /// One pass: look, read, settle the jobs, plan, act.
    async fn pass(&mut self, read_directories: bool) -> Result<Outcome, PassError> {
        if read_directories || self.directories_due().is_some_and(|at| at <= clock()) {
            self.read_directories();
        }
        let now = clock();
        let number = self.eyes.next_look();
        self.hands.look_begins(number);
        // Who is not asked for is not found in the logs, and what has ended long ago would be taken for never begun.
        let before = self.store.snapshot()?;
        let interested = before.workloads.keys().cloned().collect();
        self.foreign.turn(&before, now);
        self.wants_host |= self.foreign.has_found();
        self.end_others(&before);
        let breadth = self.breadth(&before);
        let mut observed = self.eyes.look_at(breadth, now, &interested);
        self.wants_host = false;
        let desired = self.store.snapshot()?;
        self.flows.fill(&desired);
        self.adapters.update(&desired, &observed, &self.flows);
        let bounds = self.bounds(&desired, &observed);
        let ended = self.ended_terminals(&desired)?;
        let acts = self.hands.acts();
        let world = World {
            desired: &desired,
            observed: &observed,
            talk: &self.adapters,
            outside: &self.outside,
            acts: &acts,
            bounds: &bounds,
            user: os::effective_uid(),
            state_dir: &self.options.state,
            exe: &self.host.exe,
            ended: &ended,
            shelf: &shelf::OnDisk(&*self.store),
            now,
        };
        let mut new_uid = || uuid::Uuid::now_v7().to_string();
        let decided = decide(&world, &mut self.flows, &mut new_uid)?;
        self.wake_jobs = decided.wake_jobs;
        let plan = match decided.decision {
            Decision::Settle(txn, sends) => {
                // Who was just signalled ends now: a look at once would only be in the way, and too early.
                if self.settle(txn, sends, now)? {
                    tokio::time::sleep(AFTER_SIGNALS).await;
                }
                return Ok(Outcome::Again);
            }
            Decision::Act(plan) => plan,
        };
        for (uid, action, reason) in plan.actions() {
            tracing::debug!(workload = %uid, action = action.as_str(), reason, "acting");
            self.hands.submit(uid, action.clone());
        }
        self.wants_host |= plan.wants_host;
        self.watches.update(&desired, &observed);
        self.forget(&desired, &observed);
        let condemned = self.decide_on_others(&desired, &observed, &bounds)?;
        let wake_at = [plan.wake_at, self.wake_jobs, self.directories_due(), self.foreign.due_at()];
        let wake_at = wake_at.into_iter().flatten().min();
        protect::note(&mut observed, &bounds.protected);
        let pass = Pass {
            at: now,
            observed: Some(Arc::new(observed)),
            plan: Arc::new(plan),
            bounds: Some(bounds),
            acts,
            foreign: self.foreign.last().cloned(),
        };
        self.passes.send_replace(Arc::new(pass));
        Ok(if condemned { Outcome::Again } else { Outcome::Rest(wake_at) })
    }
}

impl Controller {
    /// Tells the eyes what of others' is being ended.
    fn end_others(&mut self, desired: &Snapshot) {
        let is_any = desired.workloads.values().any(|row| row.spec.foreign.is_some());
        let others = match (is_any, os::boot_id()) {
            (true, Ok(boot_id)) => {
                let trees = self.foreign.last().map(|look| look.trees.as_slice()).unwrap_or_default();
                Others::new(desired, &boot_id, trees)
            }
            // The look fails for the same reason, and nothing is concluded from it.
            (true, Err(_)) => return,
            (false, _) => Others::default(),
        };
        if *self.others != others {
            self.others = Arc::new(others);
            self.eyes.end_others((*self.others).clone());
        }
    }

    /// How far to look: at the whole host while something comes or goes, or somebody waits for it; else at what is ours.
    fn breadth(&mut self, desired: &Snapshot) -> Breadth {
        self.wants_host |= self.watches.take_shim_ended();
        let moving = |row: &Workload| row.status.stage.is_some() || row.status.phase != WorkloadPhase::Running;
        let at_rest = !desired.workloads.values().any(|row| moving(row));
        let own = self.eyes.know_their_own() && at_rest && !self.wants_host;
        if own { Breadth::Own } else { Breadth::Host }
    }

    /// When a directory is to be read again, because of a file that is absent.
    fn directories_due(&self) -> Option<Time> {
        self.directories.iter().filter_map(|(_, reading)| *reading.known()?).min()
    }

    /// Brings the store in line with the watched directories.
    fn read_directories(&mut self) {
        for (dir, known) in &mut self.directories {
            let reading = match directory::sync(dir, &self.store, clock()) {
                Ok(reading) => reading,
                // Somebody else wrote meanwhile: their write rings, and the next pass reads again.
                Err(StoreError::Conflict { .. }) => {
                    self.bell.notify_one();
                    known.clone()
                }
                Err(error) => Reading::Unknown(format!("the store can be written ({error})")),
            };
            if let (Reading::Unknown(why), true) = (&reading, *known != reading) {
                tracing::warn!("nothing is ended until {why}");
            }
            *known = reading;
        }
    }

    /// Writes what the jobs came to, and ends what nobody needs any more. True: signals have left.
    fn settle(&self, txn: Txn, sends: Vec<(WorkloadUid, Send)>, now: Time) -> Result<bool, StoreError> {
        let told: Vec<Event> = txn.events.iter().filter(|event| event.kind == Kind::Job).cloned().collect();
        // Held before the verdict is on record, so that the signals can leave the moment that it is.
        let ready: Vec<(WorkloadUid, Ready)> = sends
            .into_iter()
            .map(|(uid, send)| {
                let ready = match send {
                    Send::Terminate(stage, targets) => Ready::Terminate(stage, self.hands.aim(&uid, &targets)),
                    Send::Other(action) => Ready::Other(action),
                };
                (uid, ready)
            })
            .collect();
        match self.store.commit(txn, now) {
            Ok(_) => {}
            // A newer word of somebody else's: read it, and settle anew. Or what a job of the same name has left, which no
            // snapshot shows, and which is in the way until it is tidied up.
            Err(StoreError::Conflict { .. }) => {
                tidy::tidy(&self.store, &self.options.state, &self.let_go_of());
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let signalled = !ready.is_empty();
        for (uid, ready) in ready {
            match ready {
                Ready::Terminate(stage, aim) => self.hands.terminate_now(&uid, stage, aim),
                Ready::Other(action) => self.hands.submit(&uid, action),
            }
        }
        for event in told {
            tracing::info!(job = %event.name, "{}: {}", event.reason, event.message);
        }
        Ok(signalled)
    }

    /// Those of the terminals that agents asked for that have run and are stopped: active rows do not show them.
    fn ended_terminals(&self, desired: &Snapshot) -> Result<BTreeSet<WorkloadUid>, StoreError> {
        let mut ended = BTreeSet::new();
        for (_, terminal) in self.adapters.terminals() {
            if !desired.workloads.contains_key(&terminal.id)
                && self.store.get(Kind::Workload, terminal.id.as_str())?.is_some()
            {
                ended.insert(terminal.id);
            }
        }
        Ok(ended)
    }

    /// The workloads that something was let go of that lives.
    fn let_go_of(&self) -> BTreeSet<WorkloadUid> {
        let pass = self.passes.borrow();
        let trees = pass.observed.as_ref().and_then(|observed| observed.workloads.known());
        let trees = trees.into_iter().flatten().filter(|(_, tree)| !tree.let_go.is_empty());
        trees.map(|(uid, _)| uid.clone()).collect()
    }

    /// What bounds this pass's plan.
    fn bounds(&mut self, desired: &Snapshot, observed: &Observed) -> Bounds {
        let mut gate = self.store.integrity();
        for (_, reading) in &self.directories {
            if let Reading::Unknown(why) = reading {
                gate = Reading::Unknown(why.clone());
            }
        }
        let protected = match self.protect.of(&desired.policy.protect) {
            Ok(protect) => {
                self.host.set_policy(HostPolicy {
                    lease: desired.policy.lease.0,
                    never: Arc::new(Never {
                        selves: self.selves.clone(),
                        instance: Some(self.store.instance().clone()),
                        user: Some(os::effective_uid()).filter(|user| *user != 0),
                        protect: protect.clone(),
                        shims: Some(self.options.state.shim_words()),
                    }),
                    others: self.others.clone(),
                });
                protect::matches(protect, observed)
            }
            // A pattern that says nothing might have protected anything.
            Err(why) => {
                gate = Reading::Unknown(why);
                BTreeSet::new()
            }
        };
        Bounds { gate, protected, selves: self.selves.clone(), user: os::effective_uid() }
    }

    /// Drops what is remembered of things that are no more.
    fn forget(&mut self, desired: &Snapshot, observed: &Observed) {
        if let Reading::Known(trees) = &observed.workloads {
            let known = |uid: &WorkloadUid| desired.workloads.contains_key(uid) || trees.contains_key(uid);
            self.hands.retain(known);
        }
    }

    /// Whether what is is what should be, and nothing but a person or a program outside will change that.
    fn converged(&self) -> bool {
        let Ok(desired) = self.store.snapshot() else { return false };
        let open = desired.jobs.values().filter(|job| !job.is_over());
        let with_sub_jobs: BTreeSet<&str> =
            open.filter_map(|job| Some(job.spec.parent.as_ref()?.run.as_str())).collect();
        let moving = |run: &StepRun| match run.status.phase {
            RunPhase::Pending => true,
            // Its sub-jobs move, or wait for a person.
            RunPhase::Running => !with_sub_jobs.contains(family::family_name(run).as_str()),
            RunPhase::Suspended | RunPhase::Completed | RunPhase::Failed | RunPhase::Skipped | RunPhase::Cancelled => {
                false
            }
        };
        let at_rest = desired.jobs.keys().all(|uid| !desired.runs_of(uid).iter().any(|run| moving(run)));
        let pass = self.passes.borrow().clone();
        let plan_is_empty = pass.plan.actions().is_empty() && !pass.plan.wants_host;
        let read = self.directories.iter().all(|(_, reading)| *reading == Reading::Known(None));
        let ending = desired.workloads.values().any(|workload| workload.status.stage.is_some());
        at_rest && plan_is_empty && !ending && read && self.hands.idle() && self.foreign.is_at_rest()
    }
}

/// Eyes of somebody who only wants to see, and who they are.
fn observer(store: &Store, state_dir: &StateDir) -> Result<(Eyes, BTreeSet<Pid>), OsError> {
    let instance = store.instance().clone();
    let cgroups = Cgroups::detect(&instance);
    Ok((Eyes::new(state_dir.clone(), instance, cgroups), os::self_and_ancestors()?))
}

async fn take_lock(state: &StateDir) -> Result<StateLock, LockError> {
    let begun = tokio::time::Instant::now();
    loop {
        match StateLock::take(&state.lock_file()) {
            Err(LockError::Held { .. }) if begun.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
}
