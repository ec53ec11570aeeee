//! What a look at others' trees leads to: rows for those that are to go, and what is said about ledgers and the budget.

use super::foreign::{grace, plan_of};
use super::{Controller, clock};
use crate::act::foreign::Look;
use crate::ledger::Source;
use crate::model::{
    AnyObject, Cause, Event, EventType, Foreign, ForeignTree, ForeignTreeSpec, Kind, Ledger, Meta, Object, Observed,
    Reading, Snapshot, Time, Workload, WorkloadPhase, WorkloadSpec, WorkloadStatus, WorkloadType,
};
use crate::plan::{self, Bounds, ForeignCase, ForeignPlan};
use crate::store::{Store, StoreError, Txn};
use serde_json::{Value, json};

/// How what is said about a ledger begins: what begins otherwise is about its manifest.
const UNREAD: &str = "can not be read: ";

impl Controller {
    /// Decides by a look that nobody has decided by yet. True: something was condemned, and its end is to begin.
    pub(super) fn decide_on_others(
        &mut self,
        desired: &Snapshot,
        observed: &Observed,
        bounds: &Bounds,
    ) -> Result<bool, StoreError> {
        let Some(look) = self.foreign.take_new() else { return Ok(false) };
        let now = clock();
        let is_old = now < look.census.as_of || now.since(look.census.as_of) > plan::FRESH_FOR;
        if is_old && desired.policy.foreign == Foreign::Reap {
            self.foreign.look_again(now);
        }
        let said = self.say_of_ledgers(desired, &look, now);
        match said.and_then(|()| self.condemn(desired, observed, bounds, &look, now)) {
            // Somebody else's newer word: read it, and look again.
            Err(StoreError::Conflict { .. }) => {
                self.foreign.look_again(now);
                Ok(false)
            }
            other => other,
        }
    }

    /// Gives a row to each tree that is to go.
    fn condemn(
        &mut self,
        desired: &Snapshot,
        observed: &Observed,
        bounds: &Bounds,
        look: &Look,
        now: Time,
    ) -> Result<bool, StoreError> {
        // What it saw alive may have been ended since it began.
        if self.foreign.has_ended(desired) {
            self.foreign.look_again(now);
            return Ok(false);
        }
        let plan = plan_others(&self.store, desired, observed, bounds, look, now)?;
        let mut txn = Txn::default();
        for (root, cause, why) in plan.condemned() {
            let Some(tree) = look.trees.iter().find(|tree| tree.root == root) else { continue };
            let (row, event) = condemned(tree, look, desired, cause, why, now);
            tracing::info!(workload = %row.metadata.name, cause = cause.as_str(), "condemned {}", event.message);
            txn = txn.put(AnyObject::Workload(row)).event(event);
        }
        let condemns = !txn.is_empty();
        let waiting = plan.waiting();
        if waiting > 0 && !self.foreign.suspended {
            let message = suspension(desired.policy.max_reaps_per_minute, waiting);
            tracing::warn!("{message}");
            let details = json!({"waiting": waiting});
            let (kind, name, reason) = (Kind::Policy, "default", "ReapsSuspended");
            txn = txn.event(event(kind, name, EventType::Warning, reason, message, details, now));
        }
        if !txn.is_empty() {
            self.store.commit(txn, now)?;
        }
        self.foreign.suspended = waiting > 0;
        Ok(condemns)
    }

    /// Says on each ledger whether it can be read, where that has changed.
    fn say_of_ledgers(&self, desired: &Snapshot, look: &Look, now: Time) -> Result<(), StoreError> {
        let mut txn = Txn::default();
        for (name, ledger) in &desired.ledgers {
            let unread = why_unread(name, ledger, look);
            let said = ledger.status.message.as_deref();
            let was_unread = said.is_some_and(|said| said.starts_with(UNREAD));
            // What is wrong with its manifest is told first.
            if said.is_some() && !was_unread {
                continue;
            }
            let event = match (&unread, was_unread) {
                (Some(why), false) => {
                    let message = format!("{why}; trees that it may speak for are kept");
                    tracing::warn!(ledger = %name, "{message}");
                    event(Kind::Ledger, name, EventType::Warning, "LedgerUnreadable", message, Value::Null, now)
                }
                (None, true) => {
                    tracing::info!(ledger = %name, "it can be read again");
                    let message = "it can be read again".to_owned();
                    event(Kind::Ledger, name, EventType::Normal, "LedgerReadable", message, Value::Null, now)
                }
                (Some(_), true) | (None, false) => continue,
            };
            let mut ledger = Ledger::clone(ledger);
            ledger.status.message = unread.map(|why| format!("{UNREAD}{why}"));
            txn = txn.put(AnyObject::Ledger(ledger)).event(event);
        }
        if !txn.is_empty() {
            self.store.commit(txn, now)?;
        }
        Ok(())
    }
}

/// The plan for what a look has found.
pub(super) fn plan_others(
    store: &Store,
    desired: &Snapshot,
    observed: &Observed,
    bounds: &Bounds,
    look: &Look,
    now: Time,
) -> Result<ForeignPlan, StoreError> {
    let reaps = desired.policy.foreign == Foreign::Reap;
    let case = ForeignCase {
        trees: &look.trees,
        as_of: look.census.as_of,
        boot_id: &look.census.boot_id,
        desired,
        observed,
        bounds,
        recent: if reaps { recent(store, now)? } else { 0 },
        now,
    };
    Ok(plan_of(look, case))
}

/// How many trees were condemned within the last minute, by whichever controller of this store.
fn recent(store: &Store, now: Time) -> Result<usize, StoreError> {
    // A clock that was set back does not hide what was condemned before.
    let window = i64::try_from(plan::BUDGET_WINDOW.as_millis()).unwrap_or(i64::MAX);
    let (from, to) = (Time(now.0.saturating_sub(window)), Time(now.0.saturating_add(window)));
    store.count_workloads(WorkloadType::Foreign, &first_uid(from), &first_uid(to))
}

/// Not after any uid that was made at that time, as they are in the order of their making.
fn first_uid(time: Time) -> String {
    let millis = u64::try_from(time.0).unwrap_or(0);
    format!("{:08x}-{:04x}", millis >> 16, millis & 0xffff)
}

/// Why a ledger can not be read, if so.
fn why_unread(name: &str, ledger: &Ledger, look: &Look) -> Option<String> {
    if let Err(error) = Source::of(name, &ledger.spec) {
        return Some(error.to_string());
    }
    let read = look.ledgers.iter().find(|read| read.name == name)?;
    match &read.book {
        Reading::Known(_) => None,
        Reading::Unknown(why) => Some(why.clone()),
    }
}

/// The row of a tree that is to go, and what is said about that.
fn condemned(
    tree: &ForeignTree,
    look: &Look,
    desired: &Snapshot,
    cause: Cause,
    why: &str,
    now: Time,
) -> (Workload, Event) {
    let uid = uuid::Uuid::now_v7().to_string();
    let boot_id = look.census.boot_id.clone();
    let foreign = ForeignTreeSpec::of(tree, &boot_id);
    let spec = WorkloadSpec {
        r#type: WorkloadType::Foreign,
        command: vec![tree.command.clone()],
        grace_period: grace(&tree.class, desired),
        foreign: Some(foreign),
        ..WorkloadSpec::default()
    };
    let status = WorkloadStatus {
        phase: WorkloadPhase::Stopping,
        cause: Some(cause),
        message: Some(why.to_owned()),
        pid: Some(tree.root.pid),
        start_time: Some(tree.root.start.0),
        boot_id: Some(boot_id),
        rss_bytes: Some(tree.rss_bytes),
        started_at: Some(tree.started_at),
        ..WorkloadStatus::default()
    };
    let pids: Vec<_> = tree.processes.iter().map(|id| id.pid).collect();
    let count = pids.len();
    let message = format!(
        "{} {} (user {}, {count} process{}): {why}",
        tree.class,
        tree.root.pid,
        tree.user,
        if count == 1 { "" } else { "es" }
    );
    let details = json!({
        "cause": cause.as_str(),
        "class": tree.class,
        "command": tree.command,
        "owners": tree.owners,
        "pids": pids,
        "rssBytes": tree.rss_bytes,
    });
    let event = event(Kind::Workload, &uid, EventType::Warning, "Condemned", message, details, now);
    let metadata = Meta { uid: uid.clone(), ..Meta::named(uid) };
    (Object { metadata, spec, status }, event)
}

/// That the budget is used up.
fn suspension(most: u32, waiting: usize) -> String {
    let trees = if waiting == 1 { "1 tree waits".to_owned() } else { format!("{waiting} trees wait") };
    format!("the policy allows {most} trees a minute (maxReapsPerMinute), and so many were reaped: {trees}")
}

fn event(
    kind: Kind,
    name: &str,
    r#type: EventType,
    reason: &str,
    message: String,
    details: Value,
    time: Time,
) -> Event {
    Event { id: 0, time, kind, name: name.to_owned(), r#type, reason: reason.to_owned(), message, details }
}
