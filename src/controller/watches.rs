//! Pidfds that ring the bell when a process of ours ends. Only hints: a lost one costs latency, not correctness.

use crate::model::{Observed, ProcId, Reading, Snapshot};
use crate::os::{self, ProcRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How many pidfds are held at most: what is beyond is found by the look that others cause.
const MOST: usize = 512;

/// The pidfds that are waited for.
pub(super) struct Watches {
    bell: Arc<Notify>,
    tasks: BTreeMap<ProcId, JoinHandle<()>>,
}

impl Watches {
    pub(super) fn new(bell: Arc<Notify>) -> Watches {
        Watches { bell, tasks: BTreeMap::new() }
    }

    /// Waits for the end of each shim and main process, and of every process of what is being stopped.
    pub(super) fn update(&mut self, desired: &Snapshot, observed: &Observed) {
        let Reading::Known(trees) = &observed.workloads else { return };
        let mut wanted = BTreeSet::new();
        for (uid, tree) in trees {
            let row = desired.workloads.get(uid);
            let stopping = row.is_none_or(|row| row.status.stage.is_some());
            let main = tree.shim.as_ref().and_then(|shim| shim.child);
            let watched = tree
                .processes
                .iter()
                .filter(|process| stopping || process.is_shim || Some(process.id) == main)
                .map(|process| process.id);
            wanted.extend(watched);
        }
        self.tasks.retain(|id, task| {
            let keep = wanted.contains(id) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for id in wanted {
            if self.tasks.len() >= MOST {
                break;
            }
            if !self.tasks.contains_key(&id)
                && let Some(task) = watch(id, self.bell.clone())
            {
                self.tasks.insert(id, task);
            }
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

/// A task that rings the bell when the process ends; none, with the bell rung, if it has ended already.
fn watch(id: ProcId, bell: Arc<Notify>) -> Option<JoinHandle<()>> {
    match ProcRef::open(id) {
        Ok(Some(process)) => Some(tokio::spawn(async move {
            if os::ended(process).await.is_ok() {
                bell.notify_one();
            }
        })),
        Ok(None) => {
            bell.notify_one();
            None
        }
        Err(error) => {
            tracing::debug!(process = %id, %error, "no pidfd; the next look will tell");
            None
        }
    }
}
