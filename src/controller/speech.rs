//! What is said of adapters that make no sense: a word on the row of one that goes on, the end of one that cannot.

use super::settle::{Talk, World};
use crate::model::{AnyObject, Cause, Event, EventType, Kind, Workload, WorkloadType, WorkloadUid};
use crate::store::Txn;
use serde_json::Value;

/// The reason of the event that tells of nonsense.
const NONSENSE: &str = "Nonsense";

/// Why an adapter cannot be talked with, or not any more.
pub(super) fn verdict(talk: &dyn Talk, uid: &WorkloadUid) -> Option<(Cause, String)> {
    let garbled = || Some((Cause::Garbled, talk.garbled(uid)?));
    let failed = || Some((Cause::StartFailed, with_nonsense(talk.failed_start(uid)?, talk, uid)));
    garbled().or_else(failed)
}

/// What happened to an adapter, and what it said before that may be why.
pub(super) fn with_nonsense(message: String, talk: &dyn Talk, uid: &WorkloadUid) -> String {
    match talk.nonsense(uid) {
        Some(nonsense) => format!("{message}; {nonsense}"),
        None => message,
    }
}

/// Condemns every adapter that cannot be talked with and is not condemned yet; notes what the others say that makes no sense.
pub(super) fn judge(world: &World<'_>, mut txn: Txn) -> Txn {
    let adapters = world.desired.workloads.iter().filter(|(_, row)| row.spec.r#type == WorkloadType::Adapter);
    for (uid, row) in adapters.filter(|(_, row)| row.status.cause.is_none()) {
        if let Some((cause, message)) = verdict(world.talk, uid) {
            let mut row = Workload::clone(row);
            row.status.cause = Some(cause);
            row.status.message = Some(message.clone());
            txn = txn.event(warning(world, &row, cause.as_str(), message)).put(AnyObject::Workload(row));
        } else if row.status.nonsense.is_none()
            && let Some(nonsense) = world.talk.nonsense(uid)
            && !puts(&txn, uid)
        {
            let mut row = Workload::clone(row);
            row.status.nonsense = Some(nonsense.clone());
            txn = txn.event(warning(world, &row, NONSENSE, nonsense)).put(AnyObject::Workload(row));
        }
    }
    txn
}

/// Whether it is written already: then this waits for the next pass.
fn puts(txn: &Txn, uid: &WorkloadUid) -> bool {
    txn.puts.iter().any(|object| matches!(object, AnyObject::Workload(row) if row.metadata.uid == uid.as_str()))
}

fn warning(world: &World<'_>, row: &Workload, reason: &str, message: String) -> Event {
    Event {
        id: 0,
        time: world.now,
        kind: Kind::Workload,
        name: row.metadata.name.clone(),
        r#type: EventType::Warning,
        reason: reason.into(),
        message,
        details: Value::Null,
    }
}
