//! What others started: who is an agent on this host, which processes make up its tree, whose it is, and what is to become of it.
//! Pure: it imports `model` only; "now" is [`Census::as_of`].
//!
//! The way: take a census that has the names of [`MARKS`], open the [`stores`] that it names and the ledgers that are configured, ask each
//! of them the [`question`], and [`attribute`] *the same census* with the answers.
//!
//! What it promises:
//! - A process is known by its program and its arguments, each at its place (`catalogue.yaml`), never by a part of the line.
//! - A process is in one tree at most. A tree has one user. Never in one: process 1, a server of jobs, another controller's workload
//!   (but as a tree of its own, which is kept).
//! - `Reap` needs proof: every job that owns the tree is at its end or missing from a ledger that was read whole, after the
//!   census; identity, user, time, and command agree. Or the policy lists the class, and its parent and its client are gone.
//! - Whatever could not be read, understood, or reconciled keeps a tree, and is said.
//! - A verdict is about the processes that are listed. A process group is evidence at most, and only one whose leader is gone: it is
//!   never judged, as it may be a server's own.
//! - The order of what comes in changes nothing.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod argv;
mod catalogue;
mod claims;
mod host;
#[cfg(test)]
mod tests;
mod trees;
mod verdict;

pub use catalogue::Catalogue;

use crate::model::{Census, ForeignTree, LedgerRead, LedgerType, Pid, ProcId, Question};
use claims::Claims;
use host::{Host, SESSION, STORE};
use std::collections::BTreeSet;
use std::time::Duration;
use verdict::Judge;

/// The names in an environment that a census has to read.
pub const MARKS: &[&str] = &[
    host::STORE,
    host::JOBS_DIRECTORY,
    host::SESSION,
    host::WORKLOAD,
    host::SYSTEMD_PID,
    host::LAUNCHD_SERVICE,
    "CLAUDE_JOB_DIR",
    "OPENCLAW_ACPX_LEASE_ID",
    "HOME",
];

/// A store that the environment of an agent names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// How it is kept.
    pub r#type: LedgerType,
    /// Its path, as the environment has it: absolute, but links may be in it.
    pub path: String,
    /// The user of the process, who should be the one that can write the store.
    pub user: u32,
}

/// What bounds the verdicts, beside what ledgers say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// A tree is not judged before it is this old. A ledger may ask for more: Stepwise for a minute.
    pub min_age: Duration,
    /// Classes whose trees may be ended for having lost their parent.
    pub orphans: BTreeSet<String>,
    /// Of the [`strays`], those that have no client on their stdio and were seen to do nothing for a while.
    pub deserted: BTreeSet<ProcId>,
    /// Processes that the policy protects: a tree with one of them is kept.
    pub protected: BTreeSet<ProcId>,
    /// The process that asks, and its ancestors.
    pub selves: BTreeSet<Pid>,
}

/// The stores that agents' environments name, each once for each user.
pub fn stores(census: &Census, catalogue: &Catalogue) -> Vec<Named> {
    let host = Host::new(census, catalogue);
    let named: BTreeSet<Named> = (0..host.all.len())
        .filter(|at| host.is_agent_or_its(*at))
        .filter_map(|at| {
            let path = host.mark(at, STORE).filter(|path| path.starts_with('/'))?;
            Some(Named { r#type: LedgerType::Stepwise, path: path.to_owned(), user: host.all[at].user })
        })
        .collect();
    named.into_iter().collect()
}

/// What every ledger is asked about a census: whatever may name a tree in it.
pub fn question(census: &Census, catalogue: &Catalogue) -> Question {
    let host = Host::new(census, catalogue);
    let claims = Claims::new(&[]);
    let mut question = Question::default();
    for at in trees::grow(&host, catalogue, &claims).iter().flat_map(|tree| &tree.members) {
        let one = host.all[*at];
        question.pids.insert(one.id.pid);
        if host.is_agent_or_its(*at) {
            question.pids.extend(one.group.into_iter().chain(one.session));
            question.sessions.extend(trees::told_sessions(&host, *at));
            question.jobs.extend(verdict::named_jobs(&host, *at));
        }
    }
    // Of every process: a tool that has left its tree is no agent by its looks.
    let sessions = (0..host.all.len()).filter_map(|at| host.mark(at, SESSION)).filter(|session| !session.is_empty());
    question.sessions.extend(sessions.map(str::to_owned));
    question
}

/// The trees of others, by the pid of their roots, each with what is to become of it. The ledgers have to be answers to the
/// [`question`] of this census: a job that was not asked for would be missing. Of a process table that is unknown there are none.
pub fn attribute(census: &Census, catalogue: &Catalogue, ledgers: &[LedgerRead], terms: &Terms) -> Vec<ForeignTree> {
    let host = Host::new(census, catalogue);
    let claims = Claims::new(ledgers);
    let judge = Judge { host: &host, catalogue, claims: &claims, terms };
    trees::grow(&host, catalogue, &claims).iter().map(|tree| judge.judge(tree)).collect()
}

/// The roots of trees that may have been orphaned, of classes that the terms list: what the edge looks at more closely, to say
/// which of them are [`deserted`](Terms::deserted).
pub fn strays(census: &Census, catalogue: &Catalogue, terms: &Terms) -> Vec<ProcId> {
    let host = Host::new(census, catalogue);
    let claims = Claims::new(&[]);
    trees::grow(&host, catalogue, &claims)
        .iter()
        .filter(|tree| terms.orphans.contains(tree.class))
        .map(trees::Tree::root)
        .filter(|root| host.lost_parent(*root) && !host.is_service(*root) && !host.all[*root].has_terminal)
        .map(|root| host.all[root].id)
        .collect()
}
