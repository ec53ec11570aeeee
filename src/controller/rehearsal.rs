//! A pass without eyes and hands: the decisions of the loop on a look that somebody else gives. For measuring what a pass
//! costs, and nothing else.

use super::adapters::Adapters;
use super::flows::Flows;
use super::settle::World;
use super::shelf::OnDisk;
use super::{Decision, PassError, decide, outside, tidy};
use crate::model::{Observed, Reading, Time};
use crate::os::{self, StateDir};
use crate::plan::{Acts, Bounds, Plan};
use crate::store::Store;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// What the loop keeps from pass to pass.
pub struct Rehearsal {
    store: Arc<Store>,
    state_dir: StateDir,
    adapters: Adapters,
    flows: Flows,
    bounds: Bounds,
}

impl Rehearsal {
    /// A loop on this store. Nothing is read or made in the state directory.
    pub fn new(store: Arc<Store>, state_dir: StateDir) -> Rehearsal {
        let adapters = Adapters::new(state_dir.clone(), Arc::new(Notify::new()));
        let bounds = Bounds {
            gate: Reading::Known(()),
            protected: BTreeSet::new(),
            selves: BTreeSet::new(),
            user: os::effective_uid(),
        };
        Rehearsal { store, state_dir, adapters, flows: Flows::default(), bounds }
    }

    /// One pass on this look. None: the jobs were settled, something was written, and the next pass follows at once.
    ///
    /// # Errors
    /// In words: the store's, or a plan that breaks a rule.
    pub fn pass(&mut self, observed: &Observed, now: Time) -> Result<Option<Plan>, String> {
        self.try_pass(observed, now).map_err(|error| error.to_string())
    }

    /// What each resync adds to a pass.
    pub fn resync(&self) {
        tidy::tidy(&self.store, &self.state_dir, &BTreeSet::new());
    }

    fn try_pass(&mut self, observed: &Observed, now: Time) -> Result<Option<Plan>, PassError> {
        let desired = self.store.snapshot()?;
        self.flows.fill(&desired);
        self.adapters.update(&desired, observed, &self.flows);
        let world = World {
            desired: &desired,
            observed,
            talk: &self.adapters,
            outside: &outside::Host(self.store.clone()),
            acts: &Acts::default(),
            bounds: &self.bounds,
            user: os::effective_uid(),
            state_dir: &self.state_dir,
            exe: Path::new("tenure"),
            ended: &BTreeSet::new(),
            shelf: &OnDisk(&*self.store),
            now,
        };
        let mut new_uid = || uuid::Uuid::now_v7().to_string();
        match decide(&world, &mut self.flows, &mut new_uid)?.decision {
            Decision::Settle(txn, _) => {
                drop(desired);
                self.store.commit(txn, now)?;
                Ok(None)
            }
            Decision::Act(plan) => Ok(Some(plan)),
        }
    }
}
