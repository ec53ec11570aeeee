//! What others may ask of a controller beyond reading and writing objects: answers to suspended runs, manifests to apply,
//! and what the next pass would do.

use super::condemn::plan_others;
use super::load::{Loaded, load_text, merged};
use super::{Pass, clock, foreign, observer};
use crate::act::foreign::Look;
use crate::flow;
use crate::model::{AnyObject, Diagnostic, Kind, RunPhase};
use crate::observe::Others;
use crate::os::{self, OsError, StateDir};
use crate::plan::{self, Bounds, ForeignLine, ForeignPlan, Line, Plan};
use crate::store::{Store, StoreError, Txn};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// How often a write is tried against somebody else's newer word.
const TRIES: usize = 20;

/// Why a request was not granted.
#[derive(Debug, Error)]
pub enum RequestError {
    /// There is no such run.
    #[error("there is no run `{0}`; `tenure get runs` shows what there is")]
    NotFound(String),
    /// The run does not wait for an answer.
    #[error("run `{name}` is {phase}, and only a Suspended one waits for an answer")]
    NotSuspended {
        /// The run.
        name: String,
        /// What it is.
        phase: &'static str,
    },
    /// The answer is not what the step declares.
    #[error("{}", .0.join("; "))]
    Outputs(Vec<String>),
    /// The flow of the run's job is not there or cannot be understood.
    #[error("the flow of job `{0}` cannot be read")]
    Flow(String),
    /// The manifest has errors.
    #[error("the manifest has errors")]
    Manifest(Vec<Diagnostic>),
    /// The store would not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system would not say.
    #[error(transparent)]
    Os(#[from] OsError),
}

/// Gives a suspended run its outputs.
///
/// # Errors
/// See [`RequestError`].
pub fn fulfil(store: &Store, name: &str, outputs: &Map<String, Value>) -> Result<(), RequestError> {
    retrying(|| {
        let Some(AnyObject::StepRun(run)) = store.get(Kind::StepRun, name)? else {
            return Err(RequestError::NotFound(name.to_owned()));
        };
        if run.status.phase != RunPhase::Suspended {
            return Err(RequestError::NotSuspended { name: name.to_owned(), phase: run.status.phase.as_str() });
        }
        let job = store.snapshot()?.jobs.get(&run.spec.job_uid).cloned();
        let flow = job.and_then(|job| flow::compile(job.status.flow.as_ref()?).flow);
        let flow = flow.ok_or_else(|| RequestError::Flow(run.spec.job.clone()))?;
        let now = clock();
        let run = flow::fulfil(&flow, &run, outputs.clone(), now).map_err(RequestError::Outputs)?;
        store.commit(Txn::default().put(AnyObject::StepRun(run)), now)?;
        Ok(())
    })
}

/// Writes the objects of a manifest; gives them as they are stored.
///
/// # Errors
/// [`RequestError::Manifest`] with every diagnostic; then nothing was written.
pub fn apply(store: &Store, file: &str, text: &[u8], dir: &Path) -> Result<Vec<AnyObject>, RequestError> {
    let loaded: Loaded = load_text(file, text, Some(dir));
    if loaded.first_error().is_some() {
        return Err(RequestError::Manifest(loaded.diagnostics));
    }
    retrying(|| {
        let mut txn = Txn::default();
        for object in loaded.objects.clone() {
            let stored = store.get(object.kind(), &object.meta().name)?;
            txn = txn.put(match &stored {
                Some(stored) => merged(stored, object),
                None => object,
            });
        }
        Ok(store.commit(txn, clock())?.objects)
    })
}

fn retrying<T>(mut attempt: impl FnMut() -> Result<T, RequestError>) -> Result<T, RequestError> {
    for _ in 1..TRIES {
        match attempt() {
            Err(RequestError::Store(StoreError::Conflict { .. })) => {}
            result => return result,
        }
    }
    attempt()
}

/// What the next pass would do.
#[derive(Debug)]
pub struct Planned {
    /// About our own workloads.
    pub plan: Plan,
    /// About what others started.
    pub foreign: ForeignPlan,
    /// What that is about. None: it could not be looked at.
    pub look: Option<Arc<Look>>,
}

/// What the next pass would do to processes: a new look and a new diff, and no act. `last` is the last pass of the
/// controller, if one runs; what others started is as that one last saw it.
///
/// # Errors
/// The store's, or the system's.
pub fn plan_now(store: &Store, state_dir: &StateDir, last: Option<&Pass>) -> Result<Planned, RequestError> {
    let (mut eyes, selves) = observer(store, state_dir)?;
    let before = store.snapshot()?;
    let look = match last.and_then(|pass| pass.foreign.clone()) {
        Some(look) => Some(look),
        None => foreign::look_once(&before, clock()).map(Arc::new),
    };
    let trees = look.as_ref().map(|look| look.trees.as_slice()).unwrap_or_default();
    eyes.end_others(Others::new(&before, &os::boot_id()?, trees));
    let interested = before.workloads.keys().cloned().collect();
    let observed = eyes.look(clock(), &interested);
    let desired = store.snapshot()?;
    let bounds = last.and_then(|pass| pass.bounds.clone()).unwrap_or(Bounds {
        gate: store.integrity(),
        protected: BTreeSet::new(),
        selves,
        user: os::effective_uid(),
    });
    // This look began after every act that has ended.
    let mut acts = last.map(|pass| pass.acts.clone()).unwrap_or_default();
    acts.by_workload.values_mut().for_each(|act| act.ended_at_look = 0);
    let plan = plan::diff(&desired, &observed, &acts, &bounds, clock());
    let foreign = match &look {
        Some(look) => plan_others(store, &desired, &observed, &bounds, look, look.census.as_of)?,
        None => ForeignPlan::default(),
    };
    Ok(Planned { plan, foreign, look })
}

/// A plan as it is printed: `{"actions": […], "held": […]}`. Trees that others started have keys such as `foreign/4711`, and the
/// verdict on them.
pub fn plan_to_json(planned: &Planned) -> Value {
    let plan = &planned.plan;
    let mut actions: Vec<Value> = plan
        .actions()
        .into_iter()
        .map(|(uid, action, reason)| {
            let pids: Vec<i32> = action.targets().iter().map(|target| target.pid.get()).collect();
            json!({"key": uid, "action": action.as_str(), "reason": reason, "pids": pids})
        })
        .collect();
    let mut held: Vec<Value> = plan
        .lines
        .iter()
        .filter_map(|(uid, line)| match line {
            Line::Held(reason, _) => Some(json!({"key": uid, "reason": reason.to_string()})),
            Line::Act(..) => None,
        })
        .collect();
    for tree in planned.look.iter().flat_map(|look| &look.trees) {
        let Some(line) = planned.foreign.lines.get(&tree.root) else { continue };
        let key = format!("foreign/{}", tree.root.pid);
        let pids: Vec<i32> = tree.processes.iter().map(|id| id.pid.get()).collect();
        match line {
            ForeignLine::Condemn(_, why) => {
                actions.push(
                    json!({"key": key, "action": "Condemn", "reason": why, "pids": pids, "verdict": tree.verdict}),
                );
            }
            ForeignLine::Waits(why) | ForeignLine::Held(why) => {
                held.push(json!({"key": key, "reason": why, "pids": pids, "verdict": tree.verdict}));
            }
        }
    }
    json!({"actions": actions, "held": held})
}
