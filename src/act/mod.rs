//! The hands: every start, every signal, every clean-up. A file an action; one in flight per workload; back-off after a
//! failure.
//!
//! The hands decide nothing. They carry out one [`Action`] of a plan that was checked, record it with its cause before it
//! has an effect outside, and say when they have ended: what they touched is judged again only by a later look.

mod carry;
mod edge;
pub mod foreign;
mod host;
mod record;

pub use carry::carry_out;
pub use edge::{Aim, Edge};
pub use host::{AskClient, Host, HostPolicy};
pub use record::{Verdict, mark_sent, staged, tell};

use crate::model::{ProcId, Stage, Time, WorkloadUid};
use crate::os::OsError;
use crate::plan::{self, Act, Action, Acts};
use crate::store::{Records, StoreError};
use carry::TERMINATE;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Notify;

/// After a failed act: the first delay, doubled with each failure in a row, up to the cap.
const BACK_OFF: Duration = Duration::from_millis(500);
const BACK_OFF_CAP: Duration = plan::RETRY_WITHIN;

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

/// The hands.
pub struct Hands {
    store: Arc<dyn Records>,
    edge: Arc<dyn Edge>,
    acts: Arc<Mutex<Acts>>,
    /// The number of the newest look that has begun.
    looks: Arc<AtomicU64>,
    bell: Arc<Notify>,
    clock: fn() -> Time,
}

impl Hands {
    /// Hands that reach the world through `edge`, and ring `bell` when an act ends.
    pub fn new(store: Arc<dyn Records>, edge: Arc<dyn Edge>, bell: Arc<Notify>, clock: fn() -> Time) -> Hands {
        Hands { store, edge, acts: Arc::default(), looks: Arc::default(), bell, clock }
    }

    /// A look is about to begin: acts that end from now on are not in it.
    pub fn look_begins(&self, number: u64) {
        self.looks.store(number, Ordering::SeqCst);
    }

    /// What has been and is being done.
    pub fn acts(&self) -> Acts {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let (store, edge, clock) = (self.store.clone(), self.edge.clone(), self.clock);
        self.one_at_a_time(uid, action.as_str(), move |uid| carry_out(&*store, &*edge, uid, &action, &clock));
    }

    /// Takes hold of these processes, for a stage that is about to be recorded.
    pub fn aim(&self, uid: &WorkloadUid, targets: &[ProcId]) -> Aim {
        self.edge.aim(uid, targets)
    }

    /// Carries out the stage Terminate, whose verdict was committed this moment: the signals leave before this returns.
    pub fn terminate_now(&self, uid: &WorkloadUid, stage: Stage, aim: Aim) {
        let sent = aim(&TERMINATE);
        let (store, clock) = (self.store.clone(), self.clock);
        self.one_at_a_time(uid, stage.as_str(), move |uid| {
            carry::as_far_as_allowed(uid, sent.map_err(ActError::from))?;
            record::mark_sent(&*store, uid, stage, clock())
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

/// The record of an act that ended just now, while this look was the newest.
pub fn after(before: &Act, result: &Result<(), ActError>, look: u64, now: Time) -> Act {
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
