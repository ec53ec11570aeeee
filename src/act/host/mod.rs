//! The host, behind [`Edge`]: run directories, shims, cgroups, signals.

mod clean;
mod spare;
mod start;
mod stop;

use super::{ActError, Aim, Edge};
use crate::model::{BootId, Exit, InstanceId, ProcId, Workload, WorkloadUid};
use crate::observe::Others;
use crate::os::{self, Cgroups, Held, Never, OsError, StateDir};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How many processes are held by descriptors at once: of those that a program may have, no tree takes more.
const HELD: usize = 256;

/// What the adapters' client does about `Ask`: it is told, and not waited for. False: nobody speaks with that workload.
pub type AskClient = Arc<dyn Fn(&WorkloadUid) -> bool + Send + Sync>;

/// The host, as far as one instance may touch it.
pub struct Host {
    /// Where run directories are.
    pub state_dir: StateDir,
    /// Who we are.
    pub instance: InstanceId,
    /// Where cgroups can be made, if they can.
    pub cgroups: Option<Cgroups>,
    /// The program to start as a shim: our own.
    pub exe: PathBuf,
    /// Closes an adapter in the protocol's way.
    pub ask: AskClient,
    /// What the policy says, as of the last pass.
    pub policy: RwLock<HostPolicy>,
}

/// What a policy says about the host.
#[derive(Debug, Clone, Default)]
pub struct HostPolicy {
    /// How long a shim waits for a controller.
    pub lease: Duration,
    /// Who is never signalled.
    pub never: Arc<Never>,
    /// What others started, and is being ended.
    pub others: Arc<Others>,
}

impl HostPolicy {
    /// Who is never signalled for this workload: for what others started, nobody with a mark of any instance, ours included.
    fn never_for(&self, uid: &WorkloadUid) -> Arc<Never> {
        if !self.others.is_one(uid) {
            return self.never.clone();
        }
        // No instance has an empty id: whoever carries a mark carries that of another one.
        let instance = Some(InstanceId(String::new()));
        Arc::new(Never { instance, ..(*self.never).clone() })
    }
}

impl Host {
    fn policy(&self) -> HostPolicy {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the policy says, from now on.
    pub fn set_policy(&self, policy: HostPolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }
}

impl Edge for Host {
    fn boot_id(&self) -> Result<BootId, OsError> {
        os::boot_id()
    }

    fn start(&self, workload: &Workload) -> Result<(), ActError> {
        start::start(self, workload)
    }

    fn ask(&self, uid: &WorkloadUid) -> Result<(), ActError> {
        // Nobody speaks with it: end-of-file is all that can be said.
        if (self.ask)(uid) { Ok(()) } else { stop::end_of_file(self, uid) }
    }

    fn aim(&self, uid: &WorkloadUid, targets: &[ProcId]) -> Aim {
        let never = self.policy().never_for(uid);
        let (first, rest) = targets.split_at(targets.len().min(HELD));
        let (held, rest) = (Held::take(first, &never), rest.to_vec());
        let uid = uid.clone();
        Box::new(move |signals| {
            // Whatever is refused to some, the others are told.
            let (first, rest) = (held.signal(signals), Held::send(&rest, &never, signals));
            let reached = first? + rest?;
            tracing::debug!(workload = %uid, ?signals, reached, "signalled");
            Ok(())
        })
    }

    fn kill(&self, uid: &WorkloadUid, targets: &[ProcId], round: u32) -> Result<(), ActError> {
        stop::kill(self, uid, targets, round)
    }

    fn clean(&self, uid: &WorkloadUid) -> Result<Option<Exit>, ActError> {
        clean::clean(self, uid)
    }
}
