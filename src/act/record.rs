//! What the hands write down: before an effect, with its cause; after it, that it was done.

use super::ActError;
use super::carry::row;
use crate::model::{
    AnyObject, BootId, Cause, Event, EventType, Exit, Kind, Meta, Object, Pid, ProcId, Stage, Time, Workload,
    WorkloadPhase, WorkloadSpec, WorkloadStatus, WorkloadUid,
};
use crate::store::{Records, StoreError, Txn};
use serde_json::{Value, json};

/// How a main process ended whose shim did not write it down.
const NO_EXIT: &str = "not known: its shim left no exit status";
/// How one ended that we did not start.
const HOW_OTHERS_END: &str = "not known: others started it";

fn event(uid: &WorkloadUid, r#type: EventType, reason: &str, message: String, details: Value, now: Time) -> Event {
    Event {
        id: 0,
        time: now,
        kind: Kind::Workload,
        name: uid.0.clone(),
        r#type,
        reason: reason.into(),
        message,
        details,
    }
}

/// Its shim has reported.
pub(super) fn note_running(
    store: &dyn Records,
    uid: &WorkloadUid,
    shim: ProcId,
    child: Option<ProcId>,
    boot_id: BootId,
    now: Time,
) -> Result<(), ActError> {
    let mut workload = row(store, uid)?;
    let status = &mut workload.status;
    status.phase = WorkloadPhase::Running;
    status.shim = Some(shim);
    status.pid = child.map(|child| child.pid);
    status.start_time = child.map(|child| child.start.0);
    status.boot_id = Some(boot_id);
    status.started_at = status.started_at.or(Some(now));
    // Not its arguments: events outlive the job, whose secrets may be in them. Its row has the command.
    let program = workload.spec.command.first().map_or("", String::as_str);
    let message = match child {
        Some(child) => format!("pid {}: {program}", child.pid),
        None => format!("could not be started: {program}"),
    };
    let txn = Txn::default().put(AnyObject::Workload(workload)).event(event(
        uid,
        EventType::Normal,
        "Started",
        message,
        Value::Null,
        now,
    ));
    store.commit(txn, now)?;
    Ok(())
}

/// It can serve no more. The runs that count on it fail when the jobs are settled next.
pub(super) fn condemn(
    store: &dyn Records,
    uid: &WorkloadUid,
    cause: Cause,
    message: &str,
    now: Time,
) -> Result<(), ActError> {
    let mut workload = row(store, uid)?;
    workload.status.cause = Some(cause);
    workload.status.message = Some(message.to_owned());
    let txn = Txn::default().put(AnyObject::Workload(workload)).event(event(
        uid,
        EventType::Warning,
        cause.as_str(),
        message.to_owned(),
        Value::Null,
        now,
    ));
    store.commit(txn, now)?;
    Ok(())
}

/// Gives a row to what carries our mark and has none (or one that says that it is stopped).
pub(super) fn adopt(store: &dyn Records, uid: &WorkloadUid, now: Time) -> Result<(), ActError> {
    let mut workload = match row(store, uid) {
        Ok(workload) => workload,
        Err(ActError::NoRow) => Object {
            metadata: Meta { uid: uid.0.clone(), ..Meta::named(uid.0.clone()) },
            spec: WorkloadSpec { grace_period: crate::model::Span::seconds(5), ..WorkloadSpec::default() },
            status: WorkloadStatus::default(),
        },
        Err(error) => return Err(error),
    };
    let message = "a process or a directory carries its mark, and no row wants it";
    workload.status.phase = WorkloadPhase::Running;
    workload.status.stage = None;
    workload.status.cause = Some(Cause::NoRow);
    workload.status.message = Some(message.to_owned());
    let found = event(uid, EventType::Warning, "Leaked", message.to_owned(), Value::Null, now);
    store.commit(Txn::default().put(AnyObject::Workload(workload)).event(found), now)?;
    Ok(())
}

/// Why a workload is ended, and the evidence for it.
pub struct Verdict<'a> {
    /// What makes it unwanted.
    pub cause: Cause,
    /// The same for a person.
    pub message: &'a str,
    /// Its living processes.
    pub processes: &'a [Pid],
    /// What they hold, in bytes.
    pub held_bytes: u64,
}

/// Says in the log what happens to a workload. That a step's script is cleaned up behind it is nothing to tell people.
pub fn tell(uid: &WorkloadUid, cause: Cause, words: &str) {
    match cause {
        Cause::NoLongerNeeded => tracing::debug!(workload = %uid, "{words}"),
        Cause::OwnerTerminal
        | Cause::OwnerMissing
        | Cause::Exited
        | Cause::ShimLost
        | Cause::StartFailed
        | Cause::Garbled
        | Cause::NoRow
        | Cause::Orphaned => tracing::info!(workload = %uid, cause = cause.as_str(), "{words}"),
    }
}

/// A row at the beginning of a stage, and the event that says so: what is on record before anything is done.
pub fn staged(mut workload: Workload, stage: Stage, verdict: &Verdict<'_>, now: Time) -> (Workload, Event) {
    let Verdict { cause, message, processes, held_bytes: held } = *verdict;
    let first = workload.status.phase != WorkloadPhase::Stopping;
    workload.status.phase = WorkloadPhase::Stopping;
    workload.status.stage = Some(stage);
    workload.status.cause = Some(cause);
    workload.status.message = Some(message.to_owned());
    if first {
        workload.status.rss_bytes = Some(held);
    }
    let what = if first { "Stopping" } else { "StopStage" };
    let whom = match processes.len() {
        0 => String::new(),
        1 => format!("; 1 process, {}", megabytes(held)),
        count => format!("; {count} processes, {}", megabytes(held)),
    };
    let text = format!("{}: {message}{whom}", stage.as_str());
    let details = json!({
        "cause": cause.as_str(),
        "stage": stage.as_str(),
        "owners": workload.spec.owners,
        "pids": processes,
        "rssBytes": held,
    });
    let uid = workload.uid();
    (workload, event(&uid, EventType::Normal, what, text, details, now))
}

/// A stage begins. Returns it as recorded.
pub(super) fn begin_stage(
    store: &dyn Records,
    uid: &WorkloadUid,
    stage: Stage,
    targets: &[ProcId],
    verdict: &Verdict<'_>,
    now: Time,
) -> Result<Stage, ActError> {
    let before = row(store, uid)?;
    let begins = before.status.phase != WorkloadPhase::Stopping;
    let mut txn = Txn::default();
    // Also where another owner is missing: those that are there may be wanted to go on.
    if begins && matches!(verdict.cause, Cause::OwnerTerminal | Cause::OwnerMissing) {
        txn = with_owners_as_they_are(store, &before, txn)?;
    }
    let (mut workload, event) = staged(before, stage, verdict, now);
    if let Some(foreign) = &mut workload.spec.foreign {
        // Whom nothing but this ties to it is found again by the next controller.
        let new: Vec<ProcId> = targets.iter().filter(|id| !foreign.members.contains(id)).copied().collect();
        foreign.members.extend(new);
    }
    tell(uid, verdict.cause, &event.message);
    store.commit(txn.put(AnyObject::Workload(workload)).event(event), now)?;
    Ok(stage)
}

/// An owner that has ended may be wanted to go on, since the verdict: then that is a conflict, and the next pass judges anew.
/// Those that have ended are written as they are, so that nobody can change them before this is on record.
fn with_owners_as_they_are(store: &dyn Records, workload: &Workload, mut txn: Txn) -> Result<Txn, ActError> {
    for owner in &workload.spec.owners {
        let Some(AnyObject::Job(job)) = store.get(Kind::Job, &owner.name)? else { continue };
        if job.uid() != owner.uid {
            continue;
        }
        if !job.status.phase.is_terminal() && job.metadata.deletion_timestamp.is_none() {
            let found = job.metadata.resource_version;
            return Err(StoreError::Conflict { kind: Kind::Job, name: owner.name.clone(), expected: 0, found }.into());
        }
        txn = txn.put(AnyObject::Job(job));
    }
    Ok(txn)
}

/// What the stage does was done.
///
/// # Errors
/// The store's, or the row is gone.
pub fn mark_sent(store: &dyn Records, uid: &WorkloadUid, done: Stage, now: Time) -> Result<(), ActError> {
    let mut workload = row(store, uid)?;
    let stage = match done {
        Stage::Ask { deadline, .. } => Stage::Ask { deadline, sent: true },
        Stage::Terminate { deadline, .. } => Stage::Terminate { deadline, sent: true },
        Stage::Kill { round, deadline, .. } => Stage::Kill { round, deadline, sent: true },
        Stage::Clean => Stage::Clean,
    };
    workload.status.stage = Some(stage);
    store.commit(Txn::default().put(AnyObject::Workload(workload)), now)?;
    Ok(())
}

/// Nothing of it is left.
pub(super) fn stopped(store: &dyn Records, uid: &WorkloadUid, exit: Option<Exit>, now: Time) -> Result<(), ActError> {
    let mut workload = row(store, uid)?;
    let status = &mut workload.status;
    let returned = status.rss_bytes.unwrap_or(0);
    status.phase = WorkloadPhase::Stopped;
    status.stage = None;
    status.pids.clear();
    status.rss_bytes = None;
    status.finished_at = Some(now);
    if status.exit.is_none() {
        status.exit = Some(exit.unwrap_or_else(|| Exit {
            message: Some(if workload.spec.foreign.is_some() { HOW_OTHERS_END } else { NO_EXIT }.into()),
            at: Some(now),
            ..Exit::default()
        }));
    }
    let cause = status.cause.unwrap_or(Cause::NoLongerNeeded);
    let message = status.message.clone().unwrap_or_else(|| cause.as_str().into());
    let exit = status.exit.clone().unwrap_or_default();
    let text = if returned > 0 {
        format!("no process of it is left ({exit}): {message}; {} came back", megabytes(returned))
    } else {
        format!("no process of it is left ({exit}): {message}")
    };
    let details = json!({
        "cause": cause.as_str(),
        "owners": workload.spec.owners,
        "exit": exit,
        "rssBytes": returned,
    });
    tell(uid, cause, &text);
    let event = event(uid, EventType::Normal, "Stopped", text, details, now);
    store.commit(Txn::default().put(AnyObject::Workload(workload)).event(event), now)?;
    Ok(())
}

/// Bytes as people say them.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
