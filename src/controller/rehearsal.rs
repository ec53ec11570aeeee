//! A pass without eyes and hands: the decisions of the loop on a look that somebody else gives. For measuring what a pass
//! costs, and nothing else.

use super::adapters::Adapters;
use super::settle::{self, Flows, World};
use super::{PassError, tidy, verdicts};
use crate::act::Tools;
use crate::model::{Observed, Reading, Time};
use crate::os::{self, StateDir};
use crate::plan::{self, Acts, Bounds, Guard, Plan};
use crate::store::Store;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Notify;

/// What the loop keeps from pass to pass.
pub struct Rehearsal {
    tools: Tools,
    adapters: Adapters,
    flows: Flows,
    bounds: Bounds,
}

impl Rehearsal {
    /// A loop on this store. Nothing is read or made in the state directory.
    pub fn new(store: Arc<Store>, state_dir: StateDir) -> Rehearsal {
        let instance = store.instance().clone();
        let adapters = Adapters::new(state_dir.clone(), Arc::new(Notify::new()));
        let lease = std::time::Duration::ZERO;
        let tools = Tools { store, state_dir, instance, cgroups: None, exe: PathBuf::from("tenure"), lease };
        let bounds = Bounds { gate: Reading::Known(()), protected: BTreeSet::new(), selves: BTreeSet::new() };
        Rehearsal { tools, adapters, flows: Flows::default(), bounds }
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
        tidy::tidy(&self.tools);
    }

    fn try_pass(&mut self, observed: &Observed, now: Time) -> Result<Option<Plan>, PassError> {
        let desired = self.tools.store.snapshot()?;
        self.flows.fill(&desired);
        self.adapters.update(&desired, observed, &self.flows);
        let world = World {
            desired: &desired,
            observed,
            adapters: &self.adapters,
            state_dir: &self.tools.state_dir,
            exe: &self.tools.exe,
            ended: &BTreeSet::new(),
            now,
        };
        let mut new_uid = || uuid::Uuid::now_v7().to_string();
        let settled = settle::settle(&world, &mut self.flows, &mut new_uid);
        let acts = Acts::default();
        if !settled.txn.is_empty() {
            let verdicts = verdicts::follow(settled.txn, &desired, observed, &acts, &self.bounds, now)?;
            drop(desired);
            self.tools.store.commit(verdicts.txn, now)?;
            return Ok(None);
        }
        let plan = plan::diff(&desired, observed, &acts, &self.bounds, now);
        plan::check(&plan, &desired, observed, &Guard { bounds: &self.bounds, user: os::effective_uid() })?;
        Ok(Some(plan))
    }
}
