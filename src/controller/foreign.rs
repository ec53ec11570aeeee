//! What others started: when it is looked at, and what the loop does with what was seen.
//!
//! A look reads ledgers, which may take seconds, so it is made on a thread of its own: the loop goes on meanwhile, and is rung
//! for when it is done. What is decided is decided by [`crate::plan::foreign`].

use super::classes;
use crate::act::foreign::{Look, Lookout, Rules};
use crate::ledger::Source;
use crate::model::{
    AgentClass, Foreign, ForeignVerdict, HostProcess, Ledger, PolicySpec, ProcId, Snapshot, Span, Time, WorkloadUid,
};
use crate::os;
use crate::plan::{self, ForeignCase, ForeignGuard, ForeignPlan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The least time that an orphan must have done nothing. A policy that lets trees grow older before they are judged asks for as
/// much of that.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// After a look that said when more will be known, so that nobody looks without a pause.
const PAUSE: Duration = Duration::from_millis(250);
/// After a look that could not be decided by.
const LONGER_PAUSE: Duration = Duration::from_secs(1);
/// Where nothing is reaped, looking takes at most this part of one processor, …
const SHARE: u32 = 200;
/// … but is done at least this often.
const AT_LEAST: Duration = Duration::from_secs(60);

/// The objects that say how to look.
#[derive(Debug, Clone, Default)]
struct Terms {
    policy: PolicySpec,
    classes: BTreeMap<String, Arc<AgentClass>>,
    ledgers: BTreeMap<String, Arc<Ledger>>,
}

impl Terms {
    fn of(desired: &Snapshot) -> Terms {
        let Snapshot { policy, classes, ledgers, .. } = desired;
        Terms { policy: policy.clone(), classes: classes.clone(), ledgers: ledgers.clone() }
    }

    /// Whether looking is the same by both; what is said about an object is no part of that.
    fn ask_the_same(&self, desired: &Snapshot) -> bool {
        let classes = || self.classes.values().map(|it| (&it.metadata.name, &it.spec));
        let ledgers = || self.ledgers.values().map(|it| (&it.metadata.name, &it.spec));
        self.policy == desired.policy
            && classes().eq(desired.classes.values().map(|it| (&it.metadata.name, &it.spec)))
            && ledgers().eq(desired.ledgers.values().map(|it| (&it.metadata.name, &it.spec)))
    }

    /// Who looks by these. A ledger that makes no sense is not read: its trees have no owners then, and are kept.
    fn lookout(&self) -> Lookout {
        let sources = self.ledgers.iter().filter_map(|(name, ledger)| Source::of(name, &ledger.spec).ok());
        let matches =
            self.classes.iter().filter_map(|(name, class)| Some((name.as_str(), class.spec.r#match.as_ref()?)));
        Lookout::new(matches, sources.collect())
    }

    fn rules(&self) -> Result<Rules, regex::Error> {
        Rules::of(&self.policy, self.policy.min_age.0.max(IDLE_FOR))
    }
}

/// One look, for who only wants to see.
pub(super) fn look_once(desired: &Snapshot, now: Time) -> Option<Look> {
    let terms = Terms::of(desired);
    // Patterns that can not be understood close the gate, and no verdict could be trusted.
    let rules = terms.rules().ok()?;
    Some(terms.lookout().look(&rules, now))
}

/// What of others' is being ended.
fn rows(desired: &Snapshot) -> impl Iterator<Item = &WorkloadUid> {
    desired.workloads.iter().filter(|(_, row)| row.spec.foreign.is_some()).map(|(uid, _)| uid)
}

/// How long a tree of this class has between SIGTERM and SIGKILL.
pub(super) fn grace(class: &str, desired: &Snapshot) -> Span {
    classes::class(class, desired).unwrap_or_default().grace_period
}

/// The plan of a look, with what breaks a never-rule taken out and said.
pub(super) fn plan_of(look: &Look, case: ForeignCase<'_>) -> ForeignPlan {
    let mut plan = plan::foreign(case);
    let is_marked = |it: &&HostProcess| it.environment.known().is_some_and(|marks| marks.contains_key(os::MARK));
    let all = look.census.processes.known().into_iter().flat_map(|all| all.values());
    let marked: BTreeSet<ProcId> = all.filter(is_marked).map(|it| it.id).collect();
    let guard = ForeignGuard {
        selves: &look.terms.selves,
        protected: &look.terms.protected,
        marked: &marked,
        user: look.census.user,
    };
    for violation in plan::check_foreign(&plan, &case, &guard) {
        tracing::error!("{violation}");
        plan.lines.insert(violation.root, plan::ForeignLine::Held(violation.to_string()));
    }
    plan
}

/// What came back from a look.
struct Back {
    lookout: Lookout,
    look: Look,
    again_at: Option<Time>,
    took: Duration,
}

/// How it stands with looking at what others started.
pub(super) struct Watch {
    bell: Arc<Notify>,
    resync: Duration,
    /// None: nobody has read the objects yet.
    terms: Option<Terms>,
    /// Away while a look is under way.
    lookout: Option<Lookout>,
    under_way: bool,
    back: Arc<Mutex<Option<Option<Back>>>>,
    /// What the look under way goes by has changed since it began.
    outdated: bool,
    due: Option<Time>,
    last: Option<Arc<Look>>,
    is_new: bool,
    /// The rows of what is being ended, as they were last seen.
    ending: BTreeSet<WorkloadUid>,
    /// When the last of them was seen to have ended: a look that began before may show it alive.
    ended_at: Option<Time>,
    /// Looks that came back.
    looks: u64,
    /// The budget is used up, and that was said.
    pub(super) suspended: bool,
}

impl Watch {
    pub(super) fn new(bell: Arc<Notify>, resync: Duration) -> Watch {
        Watch {
            bell,
            resync,
            terms: None,
            lookout: None,
            under_way: false,
            back: Arc::default(),
            outdated: false,
            due: None,
            last: None,
            is_new: false,
            ending: BTreeSet::new(),
            ended_at: None,
            looks: 0,
            suspended: false,
        }
    }

    /// Takes what has come back, and begins the next look if it is due. Returns at once.
    pub(super) fn turn(&mut self, desired: &Snapshot, now: Time) {
        if self.has_ended(desired) {
            self.ended_at = Some(now);
        }
        self.ending = rows(desired).cloned().collect();
        self.receive(now);
        self.follow(desired, now);
        let is_due = self.due.is_some_and(|due| due <= now || due.since(now) > AT_LEAST.max(self.resync));
        if is_due && !self.under_way && !self.is_new {
            self.set_out(now);
        }
    }

    /// What others started may be looked at by other terms from now on.
    fn follow(&mut self, desired: &Snapshot, now: Time) {
        if self.terms.as_ref().is_some_and(|terms| terms.ask_the_same(desired)) {
            return;
        }
        // A controller that only reports is in no hurry when it starts.
        let begins = self.terms.is_none() && desired.policy.foreign == Foreign::Report;
        self.due = Some(if begins { now.after(self.resync) } else { now });
        self.terms = Some(Terms::of(desired));
        self.lookout = None;
        self.outdated = self.under_way;
        self.is_new = false;
    }

    fn set_out(&mut self, now: Time) {
        let Some(terms) = &self.terms else { return };
        self.due = Some(now.after(self.resync));
        // The gate says what is wrong with the patterns.
        let Ok(rules) = terms.rules() else { return };
        let mut lookout = self.lookout.take().unwrap_or_else(|| terms.lookout());
        self.under_way = true;
        let look = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let look = lookout.look(&rules, now);
            let again_at = lookout.again_at(&rules, now);
            Back { lookout, look, again_at, took: begun.elapsed() }
        });
        let (back, bell) = (self.back.clone(), self.bell.clone());
        tokio::spawn(async move {
            let came =
                look.await.inspect_err(|error| tracing::error!(%error, "a look at foreign trees broke down")).ok();
            *back.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
            bell.notify_one();
        });
    }

    fn receive(&mut self, now: Time) {
        let Some(came) = self.back.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.under_way = false;
        self.looks += 1;
        let outdated = std::mem::take(&mut self.outdated);
        let Some(Back { lookout, look, again_at, took }) = came.filter(|_| !outdated) else {
            self.due = Some(if outdated { now } else { now.after(self.resync) });
            return;
        };
        let reports = !self.reaps();
        let pace = if reports { (took * SHARE).min(AT_LEAST).max(self.resync) } else { self.resync };
        if pace > self.resync {
            tracing::debug!(
                ?took,
                ?pace,
                "a look at foreign trees takes long: with `foreign: Report` they are made less often"
            );
        }
        let again = look.trees.iter().filter_map(|tree| tree.again_at).chain(again_at).filter(|at| *at > now).min();
        let soon = again.map(|at| at.max(now.after(PAUSE))).filter(|_| !reports);
        self.due = Some(soon.map_or(now.after(pace), |at| at.min(now.after(pace))));
        self.lookout = Some(lookout);
        self.is_new = self.ended_at.is_none_or(|ended| look.census.as_of > ended);
        if !self.is_new {
            self.look_again(now);
        }
        self.last = Some(Arc::new(look));
    }

    /// Whether something of what was being ended is on record as gone.
    pub(super) fn has_ended(&self, desired: &Snapshot) -> bool {
        self.ending.iter().any(|uid| !desired.workloads.contains_key(uid))
    }

    /// The last look.
    pub(super) fn last(&self) -> Option<&Arc<Look>> {
        self.last.as_ref()
    }

    /// The last look, if nobody has decided by it yet.
    pub(super) fn take_new(&mut self) -> Option<Arc<Look>> {
        std::mem::take(&mut self.is_new).then(|| self.last.clone()).flatten()
    }

    /// Whether there is somebody to be condemned, so that the rest of the host has to be seen, too.
    pub(super) fn has_found(&self) -> bool {
        let finds = |look: &Arc<Look>| look.trees.iter().any(|tree| tree.verdict == ForeignVerdict::Reap);
        self.is_new && self.reaps() && self.last.as_ref().is_some_and(finds)
    }

    /// What was seen could not be decided by: look again soon.
    pub(super) fn look_again(&mut self, now: Time) {
        let soon = now.after(LONGER_PAUSE);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn reaps(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.policy.foreign == Foreign::Reap)
    }

    /// When the next look is due. None: it is under way, and rings.
    pub(super) fn due_at(&self) -> Option<Time> {
        self.due.filter(|_| !self.under_way)
    }

    /// Whether what others started was looked at, and decided on, if the policy wants that.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.reaps() || (self.looks > 0 && !self.under_way && !self.is_new)
    }
}
