//! Terminate, then Kill, until nothing of what was condemned is left. Every signal leaves through [`Held`], with the
//! never-rules; before each, a fresh look says whether it is still due.

use super::targets::{Aimed, Condemned};
use crate::act::carry::TERMINATE;
use crate::model::{Census, ForeignTree, InstanceId, ProcId};
use crate::os::{self, Held, Never, OsError, ProcRef};
use regex::RegexSet;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// After the last one's grace: how long SIGKILL is tried.
const KILLING: Duration = Duration::from_secs(10);

/// Between two looks that had somebody to kill, at most.
const ROUND: Duration = Duration::from_millis(500);

/// Looks in a row that must find nothing: a child that is forked while one is under way may be missing in that one.
const EMPTY_LOOKS: u32 = 2;

/// Who is never signalled for a tree that we did not start: as for our own, and nobody with a mark of any instance.
///
/// # Errors
/// Who we are could not be read.
pub fn never(protect: Option<RegexSet>) -> Result<Never, OsError> {
    let user = Some(os::effective_uid()).filter(|user| *user != 0);
    // No instance has an empty id: whoever carries a mark carries that of another one.
    let instance = Some(InstanceId(String::new()));
    Ok(Never { selves: os::self_and_ancestors()?, instance, user, protect, shims: None })
}

/// SIGTERM to these; who is stopped is continued. Gives how many were reached.
///
/// # Errors
/// The first refusal of the system; the others were signalled all the same.
pub fn terminate(targets: &[ProcId], never: &Never) -> Result<usize, OsError> {
    Held::send(targets, never, &TERMINATE)
}

/// SIGKILL to these. Gives how many were reached.
///
/// # Errors
/// The first refusal of the system; the others were signalled all the same.
pub fn kill(targets: &[ProcId], never: &Never) -> Result<usize, OsError> {
    Held::kill(targets, never)
}

/// A tree on its way out.
#[derive(Debug)]
pub struct Stopping {
    /// Who it is.
    pub condemned: Condemned,
    /// How long it has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What became of it so far.
    pub outcome: Outcome,
    told: BTreeSet<ProcId>,
    kill_at: Option<Instant>,
    empty_looks: u32,
}

/// What became of a tree that was to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing of it is left.
    Gone,
    /// It was kept after all; why.
    Spared(String),
    /// These are left; why, as far as that is known.
    Left(Vec<ProcId>, String),
}

impl Stopping {
    /// A tree that is to be ended.
    pub fn new(tree: &ForeignTree, grace: Duration) -> Stopping {
        let condemned = Condemned::of(tree);
        let outcome = Outcome::Left(condemned.members.iter().copied().collect(), "nothing was sent yet".into());
        Stopping { condemned, grace, outcome, told: BTreeSet::new(), kill_at: None, empty_looks: 0 }
    }

    fn is_over(&self) -> bool {
        match self.outcome {
            Outcome::Spared(_) => true,
            Outcome::Gone => self.empty_looks >= EMPTY_LOOKS,
            Outcome::Left(..) => false,
        }
    }

    /// What is due by a fresh look; gives whom to wait for.
    fn step(&mut self, census: &Census, trees: &[ForeignTree], never: &Never, now: Instant) -> Vec<ProcId> {
        let targets = match self.condemned.aim(census, trees) {
            Aimed::At(targets) => targets,
            Aimed::Gone => {
                self.empty_looks += 1;
                self.outcome = Outcome::Gone;
                return Vec::new();
            }
            Aimed::Spared(why) => {
                self.outcome = Outcome::Spared(why);
                return Vec::new();
            }
            Aimed::Unknown(why) => {
                let members = self.condemned.members.iter().copied().collect();
                self.outcome = Outcome::Left(members, why);
                return Vec::new();
            }
        };
        self.empty_looks = 0;
        self.condemned.told = true;
        let kill_at = *self.kill_at.get_or_insert(now + self.grace);
        let sent = if now >= kill_at {
            kill(&targets, never)
        } else {
            let new: Vec<ProcId> = targets.iter().filter(|id| self.told.insert(**id)).copied().collect();
            terminate(&new, never)
        };
        let why = match sent {
            Ok(_) => "it did not end".to_owned(),
            Err(error) => error.to_string(),
        };
        self.outcome = Outcome::Left(targets.clone(), why);
        targets
    }
}

/// Ends these trees. `look` looks afresh: a census, and what follows for each tree. Comes back when nothing is left of any, or
/// nothing more can be done; each says what became of it.
pub async fn stop(all: &mut [Stopping], never: &Never, mut look: impl FnMut() -> (Census, Vec<ForeignTree>)) {
    let longest = all.iter().map(|it| it.grace).max().unwrap_or_default();
    let deadline = Instant::now() + longest + KILLING;
    loop {
        let (census, trees) = look();
        let now = Instant::now();
        let mut left = Vec::new();
        for stopping in all.iter_mut().filter(|stopping| !stopping.is_over()) {
            left.extend(stopping.step(&census, &trees, never, now));
        }
        let open: Vec<&Stopping> = all.iter().filter(|stopping| !stopping.is_over()).collect();
        if open.is_empty() || now >= deadline {
            return;
        }
        // Until all of them are gone, or the next signal is due.
        let due = open.iter().filter_map(|it| it.kill_at).filter(|at| *at > now).min();
        let until = due.unwrap_or(now + ROUND).min(deadline);
        if !left.is_empty() {
            wait_for_ends(&left, until).await;
        } else if open.iter().any(|it| matches!(it.outcome, Outcome::Left(..))) {
            // It is unknown for now: who reads again at once reads the same.
            tokio::time::sleep_until((now + ROUND).min(deadline)).await;
        }
    }
}

/// Waits until all of these have ended, at most until then.
async fn wait_for_ends(processes: &[ProcId], until: Instant) {
    for id in processes {
        match ProcRef::open(*id) {
            Ok(Some(process)) => {
                if !matches!(timeout_at(until, os::ended(process)).await, Ok(Ok(()))) {
                    return tokio::time::sleep_until(until).await;
                }
            }
            Ok(None) => {}
            Err(_) => return tokio::time::sleep_until(until).await,
        }
    }
}

#[cfg(test)]
mod tests;
