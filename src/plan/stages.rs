//! What follows for a row, by its phase and stage and by what was seen: the whole life of a workload on one screen.

use super::reason::needs;
use super::{Action, Case, Line, Reason, Want};
use crate::model::{Cause, Job, SeenWorkload, Span, Stage, Time, Workload, WorkloadPhase, WorkloadType};
use std::sync::Arc;
use std::time::Duration;

/// How soon a look follows when something is about to become visible by itself.
const SOON: Duration = Duration::from_millis(20);
/// How long a shim without processes may take to end by itself before it is killed too.
const SHIM_GRACE: Duration = Duration::from_secs(2);
/// How long an adapter has to end after end-of-file, where its row does not say.
const ASK_PERIOD: Duration = Duration::from_secs(2);
/// The delay before SIGKILL is sent again; it doubles with each round, up to the cap.
const KILL_DELAY: Duration = Duration::from_millis(200);
const KILL_DELAY_CAP: Duration = Duration::from_secs(30);

/// The line of a row.
pub(super) fn with_row(row: &Workload, want: &Want, case: Case<'_>) -> Line {
    match (row.status.phase, row.status.stage, want) {
        (WorkloadPhase::Starting, None, Want::Yes(job)) => starting(case.seen, job),
        (WorkloadPhase::Running, None, Want::Yes(job)) => running(row, case, job),
        (WorkloadPhase::Starting | WorkloadPhase::Running, None, Want::No(cause, why)) => {
            begin_stop(row, case, *cause, why)
        }
        // Once its end has begun there is no way back, whatever its owners say now: they get a new one.
        (WorkloadPhase::Stopping, Some(stage), _) => stopping(row, stage, case),
        (WorkloadPhase::Stopping, None, _) => begin_stop(row, case, cause_of(row), &message_of(row)),
        (WorkloadPhase::Starting | WorkloadPhase::Running, Some(stage), _) => stopping(row, stage, case),
        (WorkloadPhase::Stopped, _, _) => Line::Held("it is stopped".into(), None),
    }
}

fn cause_of(row: &Workload) -> Cause {
    row.status.cause.unwrap_or(Cause::NoLongerNeeded)
}

fn message_of(row: &Workload) -> String {
    row.status.message.clone().unwrap_or_else(|| cause_of(row).as_str().into())
}

fn starting(seen: &SeenWorkload, job: &Arc<Job>) -> Line {
    match (&seen.shim, &seen.exit, &seen.unreadable, seen.living_shim()) {
        (Some(shim), _, _, _) => {
            Line::Act(Action::NoteRunning { shim: shim.shim, child: shim.child }, "its shim has started".into())
        }
        (None, Some(exit), _, _) => Line::Act(
            Action::Condemn { cause: Cause::Exited, message: format!("its main process ended: {exit}") },
            "it ended before it was seen running".into(),
        ),
        // The report is put into its place as a whole: what cannot be read now never will be.
        (None, None, Some(what), _) => Line::Act(
            Action::Condemn { cause: Cause::StartFailed, message: what.clone() },
            "its shim's report cannot be read".into(),
        ),
        (None, None, None, Some(shim)) => Line::Held(format!("its shim {} is about to report", shim.id).into(), None),
        // An effect must not happen twice: once it may have happened, it is lost rather than begun again.
        (None, None, None, None) if seen.begun => Line::Act(
            Action::Condemn {
                cause: Cause::ShimLost,
                message: "its shim died while it started the program, which may have run".to_owned(),
            },
            "its shim is gone and left no report".into(),
        ),
        (None, None, None, None) => Line::Act(Action::Start, needs(job)),
    }
}

fn running(row: &Workload, case: Case<'_>, job: &Arc<Job>) -> Line {
    let seen = case.seen;
    match (&seen.exit, &seen.unreadable, seen.living_shim()) {
        // A script's end is an outcome, which the jobs are settled with first; what comes here has no run to tell.
        (Some(exit), _, _) => Line::Act(
            Action::Condemn { cause: Cause::Exited, message: format!("its main process ended: {exit}") },
            "its main process ended".into(),
        ),
        // How it ends would not be known either: it goes as long as it can be told what of it there is.
        (None, Some(what), _) => Line::Act(
            Action::Condemn { cause: Cause::Garbled, message: format!("{what}; only its shim should write there") },
            "what its shim wrote cannot be understood".into(),
        ),
        (None, None, None) => Line::Act(
            Action::Condemn { cause: Cause::ShimLost, message: lost(row, seen) },
            "its shim is gone and left no exit status".into(),
        ),
        (None, None, Some(_)) => {
            let child_alive = row.status.pid.is_none_or(|pid| seen.members().any(|process| process.id.pid == pid));
            let soon = (!child_alive).then(|| case.now.after(SOON));
            Line::Held(Reason::Wanted(job.clone()), soon)
        }
    }
}

fn lost(row: &Workload, seen: &SeenWorkload) -> String {
    let left = seen.processes.len();
    match row.status.shim {
        Some(shim) => format!("its shim (pid {}) died; {left} of its processes were left", shim.pid),
        None => format!("its shim died; {left} of its processes were left"),
    }
}

/// The first stage of an end.
fn begin_stop(row: &Workload, case: Case<'_>, cause: Cause, why: &str) -> Line {
    let living = case.living().count();
    let first = match (living, row.spec.r#type, cause) {
        (0, _, _) => Stage::Clean,
        // What has lost its shim has lost its stdin, and what has exited cannot be asked.
        (_, WorkloadType::Adapter, Cause::OwnerTerminal | Cause::OwnerMissing | Cause::NoLongerNeeded)
            if case.seen.living_shim().is_some() =>
        {
            Stage::Ask { deadline: case.now.after(ask_period(row)), sent: false }
        }
        (_, _, _) => terminate(row, case.now),
    };
    stop(first, cause, why, case)
}

fn ask_period(row: &Workload) -> Duration {
    row.spec.ask_period.map_or(ASK_PERIOD, |Span(period)| period)
}

fn terminate(row: &Workload, now: Time) -> Stage {
    // Who gives no time asks for no SIGTERM.
    if row.spec.grace_period.0.is_zero() {
        return kill(1, now);
    }
    Stage::Terminate { deadline: now.after(row.spec.grace_period.0), sent: false }
}

fn kill(round: u32, now: Time) -> Stage {
    Stage::Kill { round, deadline: now.after(kill_delay(round)), sent: false }
}

fn kill_delay(round: u32) -> Duration {
    KILL_DELAY.saturating_mul(2_u32.saturating_pow(round.saturating_sub(1).min(16))).min(KILL_DELAY_CAP)
}

fn stop(stage: Stage, cause: Cause, why: &str, case: Case<'_>) -> Line {
    let targets = targets_of(stage, case);
    let message = why.to_owned();
    let reason = format!("unwanted: {why}");
    let held_bytes = case.living().map(|process| process.rss_bytes).sum();
    let processes = case.living().map(|process| process.id.pid).collect();
    Line::Act(Action::Stop { stage, cause, message, targets, processes, held_bytes }, reason)
}

/// Whom a stage signals. The shim ends by itself when the others have; it is killed only when it alone is left.
fn targets_of(stage: Stage, case: Case<'_>) -> Vec<crate::model::ProcId> {
    match stage {
        Stage::Ask { .. } | Stage::Clean => Vec::new(),
        Stage::Terminate { .. } => case.targets(),
        Stage::Kill { .. } => {
            let members = case.targets();
            let only_the_shim = members.is_empty() && case.living().all(|process| process.is_shim);
            if !only_the_shim {
                return members;
            }
            let shims = case.living().filter(|shim| case.out_of_reach(shim).is_none());
            shims.map(|shim| shim.id).collect()
        }
    }
}

/// An end under way: whether its stage has done what it does, whether that was enough, and whether its time is over.
fn stopping(row: &Workload, stage: Stage, case: Case<'_>) -> Line {
    let (living, members) = (case.living().count(), case.living().filter(|process| !process.is_shim).count());
    if living == 0 {
        return Line::Act(Action::Clean, "no process of it is left".into());
    }
    let next = |stage: Stage| stop(stage, cause_of(row), &message_of(row), case);
    let send = || {
        Line::Act(
            Action::Send { stage, targets: targets_of(stage, case) },
            format!("{} was recorded, and perhaps not done", stage.as_str()),
        )
    };
    let wait = |deadline: Time| {
        let who = if members == 0 { "its shim".to_owned() } else { format!("{members} processes") };
        Line::Held(format!("{}: {who} left{}", stage.as_str(), stuck(case)).into(), Some(deadline))
    };
    match stage {
        Stage::Ask { sent: false, .. } | Stage::Terminate { sent: false, .. } | Stage::Kill { sent: false, .. } => {
            send()
        }
        Stage::Ask { sent: true, .. } | Stage::Terminate { sent: true, .. } if waits_for_what_was_let_go(case) => {
            next(kill(1, case.now))
        }
        Stage::Ask { deadline, sent: true } if is_ahead(deadline, ask_period(row), case.now) => wait(deadline),
        Stage::Ask { sent: true, .. } if members == 0 => next(kill_of_shim(case.now)),
        Stage::Ask { sent: true, .. } => next(terminate(row, case.now)),
        Stage::Terminate { deadline, sent: true }
            if is_ahead(deadline, row.spec.grace_period.0.max(SHIM_GRACE), case.now) =>
        {
            wait(deadline)
        }
        Stage::Terminate { sent: true, .. } => next(kill(1, case.now)),
        Stage::Kill { round, deadline, sent: true } if is_ahead(deadline, kill_delay(round), case.now) => {
            wait(deadline)
        }
        Stage::Kill { round, sent: true, .. } => next(kill(round.saturating_add(1), case.now)),
        // It was thought to be gone, and is not: something with its mark came back.
        Stage::Clean => next(terminate(row, case.now)),
    }
}

/// Whether a stage of this length has time left. More than all of it can not be left: then the clock was set back since the
/// deadline was written down, and waiting for it would let what is unwanted live on.
fn is_ahead(deadline: Time, length: Duration, now: Time) -> bool {
    now < deadline && deadline <= now.after(length)
}

/// Whether only the shim is left, and it stays for what was let go: that is below it, and it would wait for its end.
fn waits_for_what_was_let_go(case: Case<'_>) -> bool {
    let let_go = !case.seen.let_go.is_empty() || case.living().count() < case.seen.processes.len();
    let_go && case.seen.exit.is_some() && case.living().all(|process| process.is_shim)
}

fn kill_of_shim(now: Time) -> Stage {
    Stage::Terminate { deadline: now.after(SHIM_GRACE), sent: true }
}

/// What cannot be ended by any signal is said, and kept on the list.
fn stuck(case: Case<'_>) -> String {
    let why = |process| case.out_of_reach(process).or((process.state == 'D').then_some("in uninterruptible sleep"));
    let stuck = case.living().filter_map(|process| Some((why(process)?, process)));
    stuck.map(|(why, process)| format!("; {why}: {} ({})", process.id.pid, process.command)).collect()
}
