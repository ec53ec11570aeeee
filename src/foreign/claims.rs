//! What ledgers claim, held against the process that a claim is about: identity, user, time, and command have to agree.

use super::argv;
use super::catalogue::Catalogue;
use super::host::{Host, STORE};
use crate::model::{Claim, HostProcess, LedgerRead, LedgerType, Pid, Time};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// The boot time is coarse, and so is every time that is reckoned from it.
pub(super) const TOLERANCE: Duration = Duration::from_secs(2);

/// From the start of an adapter to its pid in Stepwise's store: what the code of Stepwise allows, and a busy machine takes.
pub(super) const STEPWISE_WRITES_WITHIN: Duration = Duration::from_secs(60);

/// From the start of a wrapper to that of the agent which it starts.
const CHAIN_GROWS_WITHIN: Duration = Duration::from_secs(60);

/// How a claim came to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It names the process.
    Process,
    /// It names the group that its leader, now gone, left behind.
    Group,
    /// It names the session that the process has in its environment.
    Session,
    /// It names the session that an agent of its tree was told at its start, and no process any more.
    Told,
}

/// What a claim is worth for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is about this process: the job owns it.
    Owner,
    /// It is about another, which had the pid before; why.
    Stale(String),
    /// It can not be told; why.
    Doubt(String),
}

/// A claim, and the place of the ledger that has it.
pub(super) type Entry<'a> = (usize, &'a Claim);

/// Every claim that is about this host.
pub(super) struct Claims<'a> {
    pub ledgers: Vec<&'a LedgerRead>,
    by_pid: HashMap<Pid, Vec<Entry<'a>>>,
    by_session: HashMap<&'a str, Vec<Entry<'a>>>,
}

impl<'a> Claims<'a> {
    pub fn new(ledgers: &'a [LedgerRead]) -> Claims<'a> {
        let mut ledgers: Vec<&LedgerRead> = ledgers.iter().collect();
        ledgers.sort_by(|a, b| {
            (a.r#type, &a.path, &a.name, a.as_of, a.user).cmp(&(b.r#type, &b.path, &b.name, b.as_of, b.user))
        });
        let mut claims = Claims { ledgers, by_pid: HashMap::new(), by_session: HashMap::new() };
        for (at, ledger) in claims.ledgers.iter().enumerate() {
            let all = ledger.book.known().into_iter().flat_map(|book| &book.claims);
            for claim in all.filter(|claim| !claim.in_guest) {
                // One of process 1 is none: nobody's job, whatever a ledger says.
                if let Some(pid) = claim.pid.or(claim.group).filter(|pid| pid.get() != 1) {
                    claims.by_pid.entry(pid).or_default().push((at, claim));
                }
                if let Some(session) = claim.session.as_deref().filter(|session| !session.is_empty()) {
                    claims.by_session.entry(session).or_default().push((at, claim));
                }
            }
        }
        claims
    }

    pub fn of_pid(&self, pid: Pid) -> &[Entry<'a>] {
        self.by_pid.get(&pid).map_or(&[], Vec::as_slice)
    }

    pub fn of_session(&self, session: &str) -> &[Entry<'a>] {
        self.by_session.get(session).map_or(&[], Vec::as_slice)
    }

    /// The ledgers that a process means by the store that it names.
    pub fn named(&self, store: &str) -> impl Iterator<Item = usize> {
        let names = move |ledger: &LedgerRead| {
            ledger.r#type == LedgerType::Stepwise && (ledger.path == store || ledger.aliases.contains(store))
        };
        self.ledgers.iter().enumerate().filter(move |(_, ledger)| names(ledger)).map(|(at, _)| at)
    }

    /// The jobs that own this very process, by pid, each with the path of its ledger.
    pub fn owners(&self, host: &Host<'_>, catalogue: &Catalogue, at: usize) -> BTreeSet<(&'a str, &'a str)> {
        self.of_pid(host.all[at].id.pid)
            .iter()
            .filter(|entry| self.weigh(host, catalogue, **entry, at, Link::Process) == Standing::Owner)
            .map(|(ledger, claim)| (self.ledgers[*ledger].path.as_str(), claim.job.as_str()))
            .collect()
    }

    /// What a claim is worth for a process.
    pub fn weigh(
        &self,
        host: &Host<'_>,
        catalogue: &Catalogue,
        (ledger, claim): Entry<'_>,
        at: usize,
        link: Link,
    ) -> Standing {
        let ledger = self.ledgers[ledger];
        let process = host.all[at];
        let latest = ledger.as_of.max(host.census.as_of).after(TOLERANCE);
        let doubt = times(claim, latest)
            .or_else(|| user(ledger, process))
            .or_else(|| if ledger.r#type == LedgerType::Stepwise { stepwise(host, ledger, at, link) } else { None })
            .or_else(|| shape(ledger, claim, process, link))
            .or_else(|| command(host, catalogue, claim, at, link));
        match (another(host, ledger, claim, process, link), doubt) {
            (Some(why), _) => Standing::Stale(why),
            (None, Some(why)) => Standing::Doubt(why),
            (None, None) => Standing::Owner,
        }
    }
}

/// Why the claim is about another process, if it is.
fn another(host: &Host<'_>, ledger: &LedgerRead, claim: &Claim, process: &HostProcess, link: Link) -> Option<String> {
    let began = process.started_at;
    if let Some((boot, start)) = &claim.start {
        if *boot != host.census.boot_id {
            return Some("was recorded in another boot".to_owned());
        }
        if link == Link::Process && *start != process.id.start {
            return Some("has another start: the pid was used again".to_owned());
        }
    }
    if let Some(until) = claim.until.filter(|until| until.after(TOLERANCE) < began) {
        return Some(format!("ended {} before this process started", span(began.since(until))));
    }
    let recorded = claim.started_at?;
    if ledger.r#type == LedgerType::Stepwise {
        // It is the run that began then. An adapter may be older, as it is used again; or a little younger.
        let late = began.since(recorded.after(STEPWISE_WRITES_WITHIN));
        return (link == Link::Process && late > TOLERANCE)
            .then(|| format!("is of a run that began {} before this process", span(began.since(recorded))));
    }
    match link {
        Link::Process | Link::Told if claim.start.is_none() && apart(recorded, began) > TOLERANCE => {
            Some(format!("has a start that is {} away: the pid was used again", span(apart(recorded, began))))
        }
        Link::Group if began.after(TOLERANCE) < recorded => Some("began after this process".to_owned()),
        _ => None,
    }
}

/// A time that has not come yet.
fn times(claim: &Claim, latest: Time) -> Option<String> {
    let future = claim.started_at.into_iter().chain(claim.until).any(|time| time > latest);
    future.then(|| "has a time in the future: the clocks disagree".to_owned())
}

/// Who could write the ledger has to be who may end the process. What root wrote nobody else did.
fn user(ledger: &LedgerRead, process: &HostProcess) -> Option<String> {
    match ledger.user {
        Some(user) if user == process.user || user == 0 => None,
        Some(user) => Some(format!("is user {user}'s, but the process is user {}'s", process.user)),
        None => Some("is in a ledger whose user is not known".to_owned()),
    }
}

/// What Stepwise starts names its store, and leads a group and session of its own.
fn stepwise(host: &Host<'_>, ledger: &LedgerRead, at: usize, link: Link) -> Option<String> {
    match host.mark(at, STORE) {
        Some(store) if store == ledger.path || ledger.aliases.contains(store) => {}
        Some(store) => return Some(format!("is in another store than the process names ({store})")),
        None if !host.is_readable(at) => return Some("can not be checked: the environment is not readable".to_owned()),
        None => return Some("is in a store that the process does not name in its environment".to_owned()),
    }
    (link == Link::Process && !host.is_leader(at))
        .then(|| "is about the leader of a group and session, which this is not".to_owned())
}

/// The group, and a time to hold against the process, have to be there.
fn shape(ledger: &LedgerRead, claim: &Claim, process: &HostProcess, link: Link) -> Option<String> {
    let elsewhere = link == Link::Process && claim.group.is_some_and(|group| process.group != Some(group));
    if elsewhere {
        return Some("has another process group".to_owned());
    }
    if ledger.r#type == LedgerType::Stepwise {
        return None;
    }
    // Who took the pid later may have left a group of this number, too.
    let is_near = claim.started_at.is_some_and(|recorded| apart(recorded, process.started_at) <= CHAIN_GROWS_WITHIN);
    if link == Link::Group && claim.until.is_none() && !is_near {
        return Some("may be about an earlier group of this number".to_owned());
    }
    let timeless = claim.start.is_none() && claim.started_at.is_none();
    (link != Link::Session && timeless).then(|| "does not say when the process started".to_owned())
}

/// The recorded command has to be what runs: the same agent, the same words, or the same program.
fn command(host: &Host<'_>, catalogue: &Catalogue, claim: &Claim, at: usize, link: Link) -> Option<String> {
    let line = claim.command.as_deref().filter(|_| link != Link::Session)?;
    let process = host.all[at];
    let recorded = argv::of_line(line);
    let class = recorded.as_ref().and_then(|recorded| catalogue.class_of(recorded));
    let same_class = class.is_some() && class == host.recognised[at].map(|seen| seen.class);
    let same_program = || {
        let (Some(recorded), Some(runs)) = (recorded, argv::program(process)) else { return false };
        let names: Vec<_> = recorded.names.iter().chain(&recorded.packages).collect();
        class.is_none() && runs.names.iter().chain(&runs.packages).any(|name| names.contains(&name))
    };
    let agrees = same_class || argv::words(process).join(" ") == line || same_program();
    (!agrees).then(|| format!("is about another command (`{line}`)"))
}

fn apart(one: Time, other: Time) -> Duration {
    one.since(other).max(other.since(one))
}

/// A span as a person says it: two units at most.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let unit = match seconds {
        0..3600 => 1,
        3600..172_800 => 60,
        _ => 3600,
    };
    humantime::format_duration(Duration::from_secs(seconds / unit * unit)).to_string()
}
