//! The hands: every start, every signal, every clean-up. A file an action; one in flight per workload; back-off after a
//! failure.
//!
//! The hands decide nothing. They carry out one [`Action`] of a plan that was checked, record it with its cause before it
//! has an effect outside, and say when they have ended: what they touched is judged again only by a later look.

mod clean;
mod record;
mod signal;
mod start;
mod stop;

pub use record::{Verdict, staged, tell};
pub use signal::Aim;

use crate::model::{InstanceId, Kind, Stage, Time, WorkloadUid};
use crate::os::{Cgroups, OsError, StateDir};
use crate::plan::{Act, Action, Acts};
use crate::store::{Store, StoreError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Notify;

/// After a failed act: the first delay, doubled with each failure in a row, up to the cap.
const BACK_OFF: Duration = Duration::from_millis(500);
const BACK_OFF_CAP: Duration = Duration::from_secs(30);

/// Why an act failed. It is tried again.
#[derive(Debug, Error)]
pub enum ActError {
    /// The store would not take the record, so nothing was done.
    #[error("failed to record it: {0}")]
    Store(#[from] StoreError),
    /// The operating system refused.
    #[error(transparent)]
    Os(#[from] OsError),
    /// A file could not be made, changed, or removed.
    #[error("failed to {doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The row went away meanwhile; the next pass sees what that means.
    #[error("its row is gone")]
    NoRow,
    /// The shim did not report in time.
    #[error("its shim did not report within {0:?}; see {1}")]
    ShimSilent(Duration, PathBuf),
    /// A value of its environment cannot be had.
    #[error("failed to resolve the environment variable {name}: {why}")]
    Env {
        /// The variable.
        name: String,
        /// Why.
        why: String,
    },
}

/// What every hand has at hand.
#[derive(Clone)]
pub struct Tools {
    /// What should be, and the record.
    pub store: Arc<Store>,
    /// Where run directories are.
    pub state_dir: StateDir,
    /// Who we are.
    pub instance: InstanceId,
    /// Where cgroups can be made, if they can.
    pub cgroups: Option<Cgroups>,
    /// The program to start as a shim: our own.
    pub exe: PathBuf,
    /// How long a shim waits for a controller.
    pub lease: Duration,
}

/// What the adapters' client does about `Ask`: the hands tell it, and do not wait for it.
pub type AskClient = Arc<dyn Fn(&WorkloadUid) -> bool + Send + Sync>;

/// The hands.
pub struct Hands {
    tools: Tools,
    ask: AskClient,
    acts: Arc<Mutex<Acts>>,
    /// The number of the newest look that has begun.
    looks: Arc<AtomicU64>,
    bell: Arc<Notify>,
    clock: fn() -> Time,
}

impl Hands {
    /// Hands that ring `bell` when an act ends. `ask` closes an adapter in the protocol's way and returns whether somebody
    /// speaks with that adapter at all.
    pub fn new(tools: Tools, ask: AskClient, bell: Arc<Notify>, clock: fn() -> Time) -> Hands {
        Hands {
            tools,
            ask,
            acts: Arc::new(Mutex::new(Acts::default())),
            looks: Arc::new(AtomicU64::new(0)),
            bell,
            clock,
        }
    }

    /// A look is about to begin: acts that end from now on are not in it.
    pub fn look_begins(&self, number: u64) {
        self.looks.store(number, Ordering::SeqCst);
    }

    /// What has been and is being done.
    pub fn acts(&self) -> Acts {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long a shim waits for a controller, from now on.
    pub fn set_lease(&mut self, lease: Duration) {
        self.tools.lease = lease;
    }

    /// Whether nothing is under way.
    pub fn idle(&self) -> bool {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).by_workload.values().all(|act| act.in_flight.is_none())
    }

    /// Forgets what was done to workloads that nobody sees any more.
    pub fn retain(&self, is_known: impl Fn(&WorkloadUid) -> bool) {
        let mut acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
        acts.by_workload.retain(|uid, act| act.in_flight.is_some() || is_known(uid));
    }

    /// Carries out one action; returns at once.
    pub fn submit(&self, uid: &WorkloadUid, action: Action) {
        let (tools, ask, clock) = (self.tools.clone(), self.ask.clone(), self.clock);
        self.one_at_a_time(uid, action.as_str(), move |uid| carry_out(&tools, &ask, uid, &action, clock));
    }

    /// Carries out the stage Terminate, whose verdict was committed this moment: the signals leave before this returns.
    pub fn terminate_now(&self, uid: &WorkloadUid, stage: Stage, aim: Aim) {
        let sent = stop::terminate(uid, aim);
        let (tools, clock) = (self.tools.clone(), self.clock);
        self.one_at_a_time(uid, stage.as_str(), move |uid| {
            sent?;
            record::mark_sent(&tools, uid, stage, clock())
        });
    }

    /// Runs an act on a thread of its own, unless one on this workload is under way.
    fn one_at_a_time(
        &self,
        uid: &WorkloadUid,
        name: &'static str,
        act: impl FnOnce(&WorkloadUid) -> Result<(), ActError> + Send + 'static,
    ) {
        {
            let mut acts = self.acts.lock().unwrap_or_else(PoisonError::into_inner);
            let act = acts.by_workload.entry(uid.clone()).or_default();
            if act.in_flight.is_some() {
                return;
            }
            act.in_flight = Some(name);
        }
        let (acts, looks, bell) = (self.acts.clone(), self.looks.clone(), self.bell.clone());
        let (clock, uid) = (self.clock, uid.clone());
        tokio::task::spawn_blocking(move || {
            let result = act(&uid);
            let mut acts = acts.lock().unwrap_or_else(PoisonError::into_inner);
            let act = acts.by_workload.entry(uid.clone()).or_default();
            *act = after(act, &result, looks.load(Ordering::SeqCst), clock());
            drop(acts);
            if let Err(error) = result {
                tracing::warn!(workload = %uid, action = name, %error, "an act failed; it will be tried again");
            }
            bell.notify_one();
        });
    }
}

/// The record of an act that ended just now.
fn after(before: &Act, result: &Result<(), ActError>, look: u64, now: Time) -> Act {
    match result {
        // A conflict is somebody else's newer word: the next pass reads it, and there is nothing to wait for.
        Ok(()) | Err(ActError::Store(StoreError::Conflict { .. }) | ActError::NoRow) => {
            Act { ended_at_look: look, ..Act::default() }
        }
        Err(error) => {
            let failures = before.failures.saturating_add(1);
            let delay = BACK_OFF.saturating_mul(2_u32.saturating_pow(failures.min(16) - 1)).min(BACK_OFF_CAP);
            Act {
                in_flight: None,
                ended_at_look: look,
                retry_at: Some(now.after(delay)),
                failures,
                error: Some(error.to_string()),
            }
        }
    }
}

fn carry_out(
    tools: &Tools,
    ask: &AskClient,
    uid: &WorkloadUid,
    action: &Action,
    clock: fn() -> Time,
) -> Result<(), ActError> {
    match action {
        Action::Start => start::start(tools, uid, clock),
        Action::NoteRunning { shim, child } => record::note_running(tools, uid, *shim, *child, clock()),
        Action::Condemn { cause, message } => record::condemn(tools, uid, *cause, message, clock()),
        Action::Adopt => record::adopt(tools, uid, clock()),
        Action::Stop { stage, cause, message, targets, processes, held_bytes } => {
            let verdict = Verdict { cause: *cause, message, processes, held_bytes: *held_bytes };
            let recorded = record::begin_stage(tools, uid, *stage, &verdict, clock())?;
            stop::send(tools, ask, uid, recorded, targets, clock)
        }
        Action::Send { stage, targets } => stop::send(tools, ask, uid, *stage, targets, clock),
        Action::Clean => clean::clean(tools, uid, clock),
    }
}

/// The row of a workload, as it is now.
fn row(tools: &Tools, uid: &WorkloadUid) -> Result<crate::model::Workload, ActError> {
    match tools.store.get(Kind::Workload, uid.as_str())? {
        Some(crate::model::AnyObject::Workload(workload)) => Ok(workload),
        _ => Err(ActError::NoRow),
    }
}
