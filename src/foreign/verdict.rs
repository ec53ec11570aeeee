//! Whose a tree is, and what is to become of it.

use super::Terms;
use super::argv;
use super::catalogue::{Catalogue, Kind};
use super::claims::{Claims, Entry, Link, STEPWISE_WRITES_WITHIN, Standing, TOLERANCE, span};
use super::host::{Host, JOBS_DIRECTORY, SESSION, STORE, WORKLOAD};
use super::trees::{Tree, told_sessions};
use crate::model::{
    ForeignCause, ForeignOwner, ForeignTree, ForeignVerdict, JobLife, LedgerBook, LedgerRead, LedgerType, Pid, ProcId,
    Reading, Time,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// What decides about trees, beside the tree itself.
pub(super) struct Judge<'j> {
    pub host: &'j Host<'j>,
    pub catalogue: &'j Catalogue,
    pub claims: &'j Claims<'j>,
    pub terms: &'j Terms,
}

/// What is known of an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    Active(String),
    Terminal(String),
    Missing,
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    /// The place of its ledger.
    ledger: usize,
    job: String,
    life: Life,
}

/// What was found for and against a tree.
#[derive(Debug, Default)]
struct Case {
    owners: BTreeSet<Owner>,
    /// Records about another process.
    stale: BTreeSet<String>,
    /// Records that may be about this one, or not.
    doubts: BTreeSet<String>,
    /// What could not be read.
    unknown: BTreeSet<String>,
    /// When the last use of the tree ended.
    until: Option<Time>,
    /// How old a tree has to be, beside the policy's.
    min_age: Duration,
    /// Only the arguments name the job.
    by_arguments: bool,
    /// Only the session that its agent was told does.
    by_session: bool,
}

struct Sentence {
    verdict: ForeignVerdict,
    cause: ForeignCause,
    evidence: String,
    again_at: Option<Time>,
}

fn sentence(verdict: ForeignVerdict, cause: ForeignCause, evidence: String) -> Sentence {
    Sentence { verdict, cause, evidence, again_at: None }
}

fn keep(cause: ForeignCause, evidence: impl Into<String>) -> Sentence {
    sentence(ForeignVerdict::Keep, cause, evidence.into())
}

impl Judge<'_> {
    pub fn judge(&self, tree: &Tree<'_>) -> ForeignTree {
        let root = self.host.all[tree.root()];
        let members = || tree.members.iter().map(|at| self.host.all[*at]);
        let case = self.case(tree);
        let said = self.sentence(tree, &case);
        ForeignTree {
            root: root.id,
            class: tree.class.to_owned(),
            command: argv::words(root).join(" "),
            user: root.user,
            started_at: root.started_at,
            processes: members().map(|one| one.id).collect(),
            others_below: self.others_below(tree),
            rss_bytes: members().map(|one| one.rss_bytes).fold(0, u64::saturating_add),
            pss_bytes: members().map(|one| one.pss_bytes).try_fold(0, |sum: u64, pss| Some(sum.saturating_add(pss?))),
            owners: case.owners.iter().map(|owner| self.named(owner)).collect(),
            verdict: said.verdict,
            cause: said.cause,
            evidence: said.evidence,
            again_at: said.again_at,
        }
    }

    /// Whom the growth of the tree passed by, and all below those.
    fn others_below(&self, tree: &Tree<'_>) -> Vec<ProcId> {
        let members: BTreeSet<usize> = tree.members.iter().copied().collect();
        let mut seen = BTreeSet::new();
        let mut open: Vec<usize> = tree.members.clone();
        while let Some(at) = open.pop() {
            let below = self.host.children[at].iter().filter(|child| !members.contains(child));
            open.extend(below.filter(|child| seen.insert(**child)));
        }
        seen.into_iter().map(|at| self.host.all[at].id).collect()
    }

    fn named(&self, owner: &Owner) -> ForeignOwner {
        let state = match &owner.life {
            Life::Active(word) | Life::Terminal(word) => word.clone(),
            Life::Missing => "missing".to_owned(),
            Life::Unknown(_) => "unknown".to_owned(),
        };
        ForeignOwner { ledger: self.claims.ledgers[owner.ledger].name.clone(), job: owner.job.clone(), state }
    }

    /// Everything that the ledgers say about a tree.
    fn case(&self, tree: &Tree<'_>) -> Case {
        let mut case = Case::default();
        let root = tree.root();
        for at in &tree.chain {
            for entry in self.claims.of_pid(self.host.all[*at].id.pid) {
                self.hear(&mut case, *entry, *at, Link::Process);
            }
        }
        let left_group = self.host.left_group(root);
        for entry in left_group.map_or(&[][..], |group| self.claims.of_pid(group)) {
            // A record of a process in another's group says nothing about that group.
            if entry.1.group.is_none_or(|group| Some(group) == left_group) {
                self.hear(&mut case, *entry, root, Link::Group);
            }
        }
        let store = self.host.mark(root, STORE);
        // An adapter has a record of its own, sooner or later: a session in its environment may be its server's.
        let has_own_record = store.is_some() && self.host.is_leader(root) && self.host.is(root, Kind::Agent);
        if case.owners.is_empty()
            && case.doubts.is_empty()
            && !has_own_record
            && let Some(session) = self.host.mark(root, SESSION)
        {
            for entry in self.claims.of_session(session) {
                self.hear(&mut case, *entry, root, Link::Session);
            }
        }
        match store {
            Some(store) => self.hear_store(&mut case, root, store),
            None => self.hear_sessions(&mut case, tree),
        }
        if self.claims.ledgers.iter().enumerate().any(|(at, ledger)| {
            ledger.r#type == LedgerType::Stepwise && case.owners.iter().any(|owner| owner.ledger == at)
        }) {
            case.min_age = STEPWISE_WRITES_WITHIN;
        }
        case
    }

    /// One claim.
    fn hear(&self, case: &mut Case, entry: Entry<'_>, at: usize, link: Link) {
        let (ledger, claim) = entry;
        let what = || format!("the record of {} ({})", claim.job, self.where_is(ledger));
        match self.claims.weigh(self.host, self.catalogue, entry, at, link) {
            Standing::Owner => {
                self.own(case, ledger, &claim.job);
                case.until = case.until.max(claim.until);
            }
            // A clock that was set makes a record look older than its process. While the job goes on, that is a doubt: of
            // Stepwise's records, as only there the arguments may then name another job.
            Standing::Stale(why) if self.may_be_the_clock(entry) => {
                case.doubts.insert(format!("{} {why}, but the job goes on", what()));
            }
            Standing::Stale(why) => drop(case.stale.insert(format!("{} {why}", what()))),
            Standing::Doubt(why) => drop(case.doubts.insert(format!("{} {why}", what()))),
        }
    }

    fn may_be_the_clock(&self, (ledger, claim): Entry<'_>) -> bool {
        let ledger = self.claims.ledgers[ledger];
        let has_ended = |book: &LedgerBook| matches!(book.jobs.get(&claim.job), None | Some(JobLife::Terminal(_)));
        ledger.r#type == LedgerType::Stepwise && claim.start.is_none() && !ledger.book.known().is_some_and(has_ended)
    }

    /// A job is an owner, if its ledger can be relied on.
    fn own(&self, case: &mut Case, at: usize, job: &str) {
        let ledger = self.claims.ledgers[at];
        let Reading::Known(book) = &ledger.book else { return };
        let life = match book.jobs.get(job) {
            Some(JobLife::Active(word)) => Life::Active(word.clone()),
            Some(JobLife::Terminal(word)) => Life::Terminal(word.clone()),
            Some(JobLife::Unknown(why)) => {
                case.unknown.insert(format!("the state of {job} ({}) is not known: {why}", self.where_is(at)));
                Life::Unknown(why.clone())
            }
            None => Life::Missing,
        };
        case.unknown.extend(self.unreliable(ledger));
        case.owners.insert(Owner { ledger: at, job: job.to_owned(), life });
    }

    /// Why nothing is missing from a ledger, and nothing ended on its word.
    fn unreliable(&self, ledger: &LedgerRead) -> Option<String> {
        let name = ledger_words(ledger);
        match &ledger.book {
            Reading::Unknown(why) => Some(format!("{name} could not be read: {why}")),
            Reading::Known(book) => match book.unreadable.first() {
                Some(first) => Some(format!(
                    "{name} has {} that could not be understood: {first}",
                    match book.unreadable.len() {
                        1 => "an entry".to_owned(),
                        count => format!("{count} entries"),
                    }
                )),
                None if ledger.as_of < self.host.census.as_of => {
                    Some(format!("{name} was read before the processes were"))
                }
                None => None,
            },
        }
    }

    /// The store that the environment names: it has to be known, and if it has no record of the process, the process's
    /// arguments may name the job.
    fn hear_store(&self, case: &mut Case, root: usize, store: &str) {
        let ledgers: Vec<usize> = self.claims.named(store).collect();
        if ledgers.is_empty() {
            case.unknown.insert(format!("its store ({store}) was not read"));
        }
        case.unknown.extend(ledgers.iter().filter_map(|at| self.unreliable(self.claims.ledgers[*at])));
        let is_own_group = self.host.is_leader(root) || self.host.left_group(root).is_some();
        if !case.owners.is_empty() || !case.doubts.is_empty() || !is_own_group {
            return;
        }
        let user = self.host.all[root].user;
        for job in named_jobs(self.host, root) {
            for at in &ledgers {
                match self.claims.ledgers[*at].user {
                    Some(owner) if owner == user || owner == 0 => self.own(case, *at, &job),
                    _ => drop(case.doubts.insert(format!("{} is not the user's of the process", self.where_is(*at)))),
                }
            }
        }
        case.by_arguments = !case.owners.is_empty();
    }

    /// Where no record names its processes: acpx takes the pid out of a session that it closes, also if the adapter stays. The
    /// record still has the session, the command, and when the adapter started, and the agent below was told that session. All
    /// that it was told have to be such ones, or somebody else uses it, too.
    fn hear_sessions(&self, case: &mut Case, tree: &Tree<'_>) {
        if !case.owners.is_empty() || !case.doubts.is_empty() || !case.stale.is_empty() {
            return;
        }
        let agents = tree.members.iter().filter(|at| self.host.is(**at, Kind::Agent));
        let told: BTreeSet<String> = agents.flat_map(|at| told_sessions(self.host, *at)).collect();
        let mut owners: Vec<&Entry<'_>> = Vec::new();
        for session in &told {
            let claims = self.claims.of_session(session).iter();
            let nameless = claims.filter(|(_, claim)| claim.pid.is_none() && claim.group.is_none());
            let before = owners.len();
            owners.extend(nameless.filter(|entry| {
                self.claims.weigh(self.host, self.catalogue, **entry, tree.root(), Link::Told) == Standing::Owner
            }));
            if owners.len() == before {
                return;
            }
        }
        for entry in owners {
            self.hear(case, *entry, tree.root(), Link::Told);
        }
        case.by_session = !case.owners.is_empty();
    }

    /// The first that holds.
    fn sentence(&self, tree: &Tree<'_>, case: &Case) -> Sentence {
        use ForeignCause as Cause;
        let at = tree.root();
        let root = self.host.all[at];
        let census = self.host.census;
        if let Some(workload) = self.host.mark(at, WORKLOAD) {
            return keep(Cause::Tenure, format!("workload {workload} of a controller's, whose business it is"));
        }
        if census.user != 0 && root.user != census.user {
            return keep(Cause::OtherUser, format!("user {}'s, and only root may end it", root.user));
        }
        if let Some(one) = self.member_of(tree, |at| self.terms.protected.contains(&self.host.all[at].id)) {
            return keep(Cause::Protected, format!("the policy protects process {one}"));
        }
        if let Some(active) = self.words(case, |life| matches!(life, Life::Active(_))) {
            return keep(Cause::OwnerActive, active);
        }
        if root.has_terminal {
            return keep(Cause::Interactive, format!("process {} has a terminal: a person may use it", root.id.pid));
        }
        if let Reading::Unknown(why) = &root.environment {
            let evidence = format!("the environment of process {} could not be read: {why}", root.id.pid);
            return sentence(ForeignVerdict::Unknown, Cause::LedgerUnknown, evidence);
        }
        if !case.doubts.is_empty() {
            return keep(Cause::Disagreement, joined(&case.doubts));
        }
        if !case.unknown.is_empty() {
            return sentence(ForeignVerdict::Unknown, Cause::LedgerUnknown, joined(&case.unknown));
        }
        if !case.owners.is_empty() {
            return self.ended(tree, case);
        }
        if !case.stale.is_empty() {
            return keep(Cause::Disagreement, joined(&case.stale));
        }
        if self.host.lost_parent(at) && !self.host.is_service(at) {
            return self.orphan(tree);
        }
        keep(Cause::Unowned, self.unowned(at))
    }

    /// All owners have ended.
    fn ended(&self, tree: &Tree<'_>, case: &Case) -> Sentence {
        let root = self.host.all[tree.root()];
        let cause = if case.owners.iter().all(|owner| owner.life == Life::Missing) {
            ForeignCause::OwnerMissing
        } else {
            ForeignCause::OwnerTerminal
        };
        let mut evidence = self.words(case, |_| true).unwrap_or_default();
        if case.by_arguments {
            evidence += ", by its --allowedPaths";
        }
        if case.by_session {
            evidence += ", by its start and the session that its agent was told";
        }
        let now = self.host.census.as_of;
        if let Some(until) = case.until.filter(|until| *until <= now) {
            let run = if case.owners.len() == 1 { "its run" } else { "the last run" };
            evidence += &format!(", {run} ended {} ago", span(now.since(until)));
        }
        let count = match tree.members.len() {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        };
        evidence += &format!("; {} {} still holds {count}", tree.class, root.id.pid);
        self.reap(tree, cause, case.min_age, evidence)
    }

    /// It has no owner, and its parent has gone.
    fn orphan(&self, tree: &Tree<'_>) -> Sentence {
        let root = self.host.all[tree.root()];
        let lost = format!("process {} lost its parent", root.id.pid);
        if !self.terms.orphans.contains(tree.class) {
            let evidence = format!("{lost}, and no ledger knows it; the policy's orphans do not list {}", tree.class);
            return keep(ForeignCause::Orphaned, evidence);
        }
        if let Some(why) = self.claims.ledgers.iter().find_map(|ledger| self.unreliable(ledger)) {
            return sentence(ForeignVerdict::Unknown, ForeignCause::LedgerUnknown, format!("{lost}, but {why}"));
        }
        if !self.terms.deserted.contains(&root.id) {
            let evidence = format!("{lost}, but it may have a client, or something to do");
            return keep(ForeignCause::Orphaned, evidence);
        }
        let evidence = format!("{lost}, has no client and nothing to do, and the policy's orphans list {}", tree.class);
        self.reap(tree, ForeignCause::Orphaned, Duration::ZERO, evidence)
    }

    /// What holds for everything that is ended.
    fn reap(&self, tree: &Tree<'_>, cause: ForeignCause, min_age: Duration, evidence: String) -> Sentence {
        let root = self.host.all[tree.root()];
        let now = self.host.census.as_of;
        if let Some(one) = self.member_of(tree, |at| self.terms.selves.contains(&self.host.all[at].id.pid)) {
            return keep(ForeignCause::Protected, format!("{evidence}; but we run in it (process {one})"));
        }
        if root.started_at > now.after(TOLERANCE) {
            let evidence = format!("{evidence}; but it starts in the future: the clocks disagree");
            return keep(ForeignCause::Disagreement, evidence);
        }
        let min_age = min_age.max(self.terms.min_age);
        let ripe = root.started_at.after(min_age);
        if now < ripe {
            let evidence = format!(
                "{evidence}; but it is {} old, and {} is asked",
                span(now.since(root.started_at)),
                span(min_age)
            );
            return Sentence { again_at: Some(ripe), ..keep(ForeignCause::TooYoung, evidence) };
        }
        sentence(ForeignVerdict::Reap, cause, evidence)
    }

    fn unowned(&self, at: usize) -> String {
        let Some(store) = self.host.mark(at, STORE) else { return "no ledger says anything about it".to_owned() };
        if self.host.is_leader(at) || self.host.left_group(at).is_some() {
            return format!("its store ({store}) has no record of it, and its arguments name no job");
        }
        format!("its store ({store}) has no record of it, and its process group is another's")
    }

    fn member_of(&self, tree: &Tree<'_>, is: impl Fn(usize) -> bool) -> Option<Pid> {
        tree.members.iter().find(|at| is(**at)).map(|at| self.host.all[*at].id.pid)
    }

    /// `job-a is failed and job-b is missing (stepwise /srv/stepwise.db)`, of the owners with such a life.
    fn words(&self, case: &Case, which: impl Fn(&Life) -> bool) -> Option<String> {
        let mut said = Vec::new();
        for at in 0..self.claims.ledgers.len() {
            let of_this = case.owners.iter().filter(|owner| owner.ledger == at && which(&owner.life));
            let jobs: Vec<String> = of_this
                .map(|owner| match &owner.life {
                    Life::Active(word) | Life::Terminal(word) if word.contains(' ') => format!("{}: {word}", owner.job),
                    Life::Active(word) | Life::Terminal(word) => format!("{} is {word}", owner.job),
                    Life::Missing => format!("{} is missing", owner.job),
                    Life::Unknown(_) => format!("{} is not known", owner.job),
                })
                .collect();
            if !jobs.is_empty() {
                said.push(format!("{} ({})", jobs.join(" and "), self.where_is(at)));
            }
        }
        (!said.is_empty()).then(|| said.join(", "))
    }

    fn where_is(&self, ledger: usize) -> String {
        ledger_words(self.claims.ledgers[ledger])
    }
}

fn ledger_words(ledger: &LedgerRead) -> String {
    let r#type = match ledger.r#type {
        LedgerType::Stepwise => "stepwise",
        LedgerType::Acpx => "acpx",
        LedgerType::Files => "files",
    };
    format!("{} {}", r#type, ledger.path)
}

fn joined(reasons: &BTreeSet<String>) -> String {
    reasons.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// The jobs whose directories an adapter may use: `--allowedPaths <STEPWISE_JOBS_DIR>/job-1f2e/workspace`.
pub(super) fn named_jobs(host: &Host<'_>, at: usize) -> BTreeSet<String> {
    let Some(directory) = host.mark(at, JOBS_DIRECTORY).map(|path| path.trim_end_matches('/')) else {
        return BTreeSet::new();
    };
    if !directory.starts_with('/') {
        return BTreeSet::new();
    }
    let words = argv::words(host.all[at]);
    argv::values(&words, "--allowedPaths")
        .into_iter()
        .flat_map(|value| value.split(','))
        .filter_map(|path| path.strip_prefix(directory)?.strip_prefix('/')?.split('/').next())
        .filter(|job| job.starts_with("job-"))
        .map(str::to_owned)
        .collect()
}
