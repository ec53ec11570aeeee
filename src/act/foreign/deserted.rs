//! Which orphans nobody talks to, and that do nothing.

use crate::model::{ForeignTree, ProcId, Time};
use crate::os::{has_client, processor_time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who does nothing uses at most this part of one processor: programs wake up now and then to see that there is nothing to do.
const BUSY: u32 = 100;

/// The orphans without a client, and since when each has done nothing.
#[derive(Debug, Default)]
pub(super) struct Deserted {
    idle: BTreeMap<ProcId, Idle>,
}

#[derive(Debug, Clone, Copy)]
struct Idle {
    since: Time,
    /// What its tree had had of processors' time then.
    used: Duration,
}

impl Deserted {
    /// Those of `strays` that have no client, and whose trees have done nothing for so long. Who is not among them any more is
    /// forgotten.
    pub(super) fn among(
        &mut self,
        strays: &[ProcId],
        trees: &[ForeignTree],
        idle_for: Duration,
        now: Time,
    ) -> BTreeSet<ProcId> {
        let before = std::mem::take(&mut self.idle);
        for root in strays {
            let Some(tree) = trees.iter().find(|tree| tree.root == *root) else { continue };
            // What can not be told may be a client.
            if has_client(*root).known() != Some(&false) {
                continue;
            }
            let used: Option<Duration> = tree.processes.iter().map(|id| processor_time(*id)).sum();
            let Some(used) = used else { continue };
            self.idle.insert(*root, idle(before.get(root).copied(), used, now));
        }
        let is_idle = |idle: &Idle| now.since(idle.since) >= idle_for;
        self.idle.iter().filter(|(_, idle)| is_idle(idle)).map(|(root, _)| *root).collect()
    }

    /// When all of those that have not done nothing for long enough will have.
    pub(super) fn again_at(&self, idle_for: Duration, now: Time) -> Option<Time> {
        self.idle.values().map(|idle| idle.since.after(idle_for)).filter(|at| *at > now).max()
    }
}

/// Since when it has done nothing, by what it has used until now.
fn idle(before: Option<Idle>, used: Duration, now: Time) -> Idle {
    match before {
        Some(before) if used.saturating_sub(before.used) <= now.since(before.since) / BUSY => before,
        _ => Idle { since: now, used },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_more_than_a_hundredth_of_a_processor_is_busy() {
        let begun = idle(None, Duration::from_secs(9), Time(1000));
        assert_eq!((begun.since, begun.used), (Time(1000), Duration::from_secs(9)));
        for (used_ms, at, since) in [(9_000, 11_000, 1000), (9_100, 11_000, 1000), (9_110, 11_000, 11_000)] {
            let now = idle(Some(begun), Duration::from_millis(used_ms), Time(at));
            assert_eq!(now.since, Time(since), "{used_ms} ms of processor time at {at}");
        }
    }
}
