//! What others hold of a running controller: the API asks through it.

use crate::act::foreign::Look;
use crate::model::{Observed, Time};
use crate::os::StateDir;
use crate::plan::{Acts, Bounds, Plan};
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// One pass of the loop, as it was.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// When it was.
    pub at: Time,
    /// What it saw; none before the first look.
    pub observed: Option<Arc<Observed>>,
    /// What it planned.
    pub plan: Arc<Plan>,
    /// What bounded the plan.
    pub bounds: Option<Bounds>,
    /// What had been done before.
    pub acts: Acts,
    /// The last look at what others started; none before the first one.
    pub foreign: Option<Arc<Look>>,
}

/// A running controller, to those who talk to it.
#[derive(Clone)]
pub struct Handle {
    /// What should be.
    pub store: Arc<Store>,
    /// Where it lives.
    pub state_dir: StateDir,
    /// The last pass.
    pub passes: watch::Receiver<Arc<Pass>>,
    /// Rings the loop's bell. Level-triggered: it only makes the next pass come sooner.
    pub bell: Arc<Notify>,
}
