//! Results that are kept: a step with `cache:` takes that of an equal run instead of doing the work.
//!
//! They are notes in the store. What cannot be read, or is too old, is not there.

use super::settle::World;
use crate::flow::{self, Flow};
use crate::model::{Job, RunPhase, StepRun, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The keys of these notes begin so.
pub(super) const PREFIX: &str = "cache:";

/// So many are kept, …
pub(super) const MOST: u64 = 10_000;
/// … of so many bytes together.
pub(super) const MOST_BYTES: u64 = 64 << 20;
/// A larger one is not worth its place.
const LARGEST_BYTES: usize = 1 << 20;

/// A result.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// When; first in the text, for [`crate::store::Store::prune_notes`].
    at: Time,
    /// The run.
    run: String,
    /// What it gave.
    outputs: Map<String, Value>,
}

/// The run with the result of an equal one, if there is one that is young enough.
pub(super) fn taken(flow: &Flow, job: &Job, run: &StepRun, world: &World<'_>) -> Option<StepRun> {
    let cache = flow.steps.get(&run.spec.step)?.cache.as_ref()?;
    if run.status.phase != RunPhase::Pending || !run.status.tries.is_empty() {
        return None;
    }
    let key = flow::cache_key(flow, job, run)?;
    let kept: Kept = serde_json::from_str(&world.outside.note(&format!("{PREFIX}{key}"))?).ok()?;
    if cache.ttl.is_some_and(|ttl| kept.at.after(ttl) <= world.now) {
        return None;
    }
    Some(flow::from_cache(run, &kept.run, &kept.outputs, world.now))
}

/// The note of a run that has just completed by its own work.
pub(super) fn kept(
    flow: &Flow,
    job: &Job,
    before: Option<&StepRun>,
    run: &StepRun,
    now: Time,
) -> Option<(String, String)> {
    let was_completed = before.is_some_and(|before| before.status.phase == RunPhase::Completed);
    if run.status.phase != RunPhase::Completed || was_completed || run.status.cached_from.is_some() {
        return None;
    }
    let key = flow::cache_key(flow, job, run)?;
    let kept = Kept { at: now, run: run.metadata.name.clone(), outputs: run.status.outputs.clone()? };
    let text = serde_json::to_string(&kept).ok().filter(|text| text.len() <= LARGEST_BYTES)?;
    Some((format!("{PREFIX}{key}"), text))
}
