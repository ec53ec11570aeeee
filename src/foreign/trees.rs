//! Which processes make up a tree: a root with what descends from it, and what has left it since.

use super::argv;
use super::catalogue::{Catalogue, Kind};
use super::claims::{Claims, Link, Standing};
use super::host::{Host, SESSION, STORE, WORKLOAD, is_reaper};
use std::collections::{BTreeMap, BTreeSet};

/// One tree; processes by their places in the [`Host`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree<'a> {
    pub class: &'a str,
    /// The root first, parents before their children.
    pub members: Vec<usize>,
    /// The root, the wrappers below it, and the agent that they started: a claim on one of these is one on the tree.
    pub chain: Vec<usize>,
}

impl Tree<'_> {
    pub fn root(&self) -> usize {
        self.members[0]
    }
}

/// Where a process is, on the way down.
#[derive(Clone, Copy)]
struct Above {
    tree: usize,
    /// All above are wrappers of the same agent.
    in_chain: bool,
}

/// Builds the trees of a host.
pub(super) struct Grower<'h, 'a> {
    host: &'h Host<'a>,
    catalogue: &'h Catalogue,
    claims: &'h Claims<'a>,
    /// What may be a server of jobs that the catalogue does not know, with the agents that it started and a ledger claims.
    starts_owned: BTreeMap<usize, Vec<usize>>,
    /// The same: it told its agents of a store that it was not told of itself.
    names_store: BTreeSet<usize>,
    tree_of: Vec<Option<usize>>,
    trees: Vec<Tree<'h>>,
}

/// All trees, in the order of their roots' pids.
pub(super) fn grow<'h>(host: &'h Host<'h>, catalogue: &'h Catalogue, claims: &'h Claims<'h>) -> Vec<Tree<'h>> {
    let mut grower = Grower {
        host,
        catalogue,
        claims,
        starts_owned: BTreeMap::new(),
        names_store: BTreeSet::new(),
        tree_of: vec![None; host.all.len()],
        trees: Vec::new(),
    };
    grower.descend();
    grower.gather();
    let mut trees = grower.trees;
    trees.sort_by_key(Tree::root);
    trees
}

impl<'h> Grower<'h, 'h> {
    fn owners(&self, at: usize) -> BTreeSet<(&'h str, &'h str)> {
        self.claims.owners(self.host, self.catalogue, at)
    }

    /// From the top of each line of descent down.
    fn descend(&mut self) {
        let host = self.host;
        let count = host.all.len();
        for at in (0..count).filter(|at| host.is_agent_or_its(*at)) {
            let Some(parent) = host.parent[at].filter(|parent| host.recognised[*parent].is_none()) else { continue };
            if !self.owners(at).is_empty() {
                self.starts_owned.entry(parent).or_default().push(at);
            }
            let store = host.mark(at, STORE);
            if store.is_some() && host.is_readable(parent) && host.mark(parent, STORE) != store {
                self.names_store.insert(parent);
            }
        }
        let mut seen = vec![false; count];
        // Those without a parent first. What is left then descends from itself, which no sound census shows.
        let tops = (0..count).filter(|at| host.parent[*at].is_none()).chain(0..count);
        for top in tops {
            let mut stack = vec![(top, None)];
            while let Some((at, above)) = stack.pop() {
                if std::mem::replace(&mut seen[at], true) {
                    continue;
                }
                let below = self.visit(at, above);
                stack.extend(host.children[at].iter().rev().map(|child| (*child, below)));
            }
        }
    }

    fn visit(&mut self, at: usize, above: Option<Above>) -> Option<Above> {
        let host = self.host;
        if host.all[at].id.pid.get() == 1 || host.is(at, Kind::Server) {
            return None;
        }
        let recognised = host.recognised[at];
        let above = above.filter(|above| self.stays(at, *above));
        match (above, recognised) {
            (None, None) => None,
            (None, Some(recognised)) => {
                self.tree_of[at] = Some(self.trees.len());
                self.trees.push(Tree { class: recognised.class, members: vec![at], chain: vec![at] });
                Some(Above { tree: self.trees.len() - 1, in_chain: recognised.is_wrapper })
            }
            (Some(above), recognised) => {
                let tree = &mut self.trees[above.tree];
                self.tree_of[at] = Some(above.tree);
                tree.members.push(at);
                let in_chain = above.in_chain && recognised.is_some_and(|recognised| recognised.class == tree.class);
                if in_chain {
                    tree.chain.push(at);
                }
                let goes_on = in_chain && recognised.is_some_and(|recognised| recognised.is_wrapper);
                Some(Above { in_chain: goes_on, ..above })
            }
        }
    }

    /// Whether a process is part of the tree that its parent is in.
    fn stays(&self, at: usize, above: Above) -> bool {
        let host = self.host;
        let tree = &self.trees[above.tree];
        let (one, root) = (host.all[at], host.all[tree.root()]);
        let workload = host.mark(at, WORKLOAD);
        if one.user != root.user || (workload.is_some() && workload != host.mark(tree.root(), WORKLOAD)) {
            return false;
        }
        let owners = || -> BTreeSet<_> { tree.chain.iter().flat_map(|at| self.owners(*at)).collect() };
        let Some(recognised) = host.recognised[at] else {
            let started = self.starts_owned.get(&at);
            return !self.names_store.contains(&at)
                && started.is_none_or(|started| started.iter().all(|at| self.owners(*at) == owners()));
        };
        if one.has_terminal && !root.has_terminal {
            return false;
        }
        if above.in_chain && recognised.class == tree.class {
            return true;
        }
        let own = self.owners(at);
        own.is_empty() || own == owners()
    }

    /// What has left its tree: a tool in a session of its own, whose parent has gone. It has the agent's session in its
    /// environment, and whoever adopted it does not.
    fn gather(&mut self) {
        let host = self.host;
        let mut entries: Vec<usize> = (0..host.all.len()).filter(|at| self.left(*at)).collect();
        if entries.is_empty() {
            return;
        }
        let sessions = self.sessions();
        // As a session is inherited, the first of a line of descent brings the rest along.
        entries.sort_by_key(|at| host.all[*at].id.pid);
        for at in entries {
            let Some(session) = host.mark(at, SESSION) else { continue };
            let Some(found) = self.below(at) else { continue };
            let of: Vec<usize> = sessions.get(session).into_iter().flatten().copied().collect();
            match of.as_slice() {
                [tree] if self.may_join(at, session, *tree) => self.join(*tree, found),
                _ if self.is_claimed(at, session) => {
                    let tree = self.trees.len();
                    self.trees.push(Tree { class: "claude", members: Vec::new(), chain: vec![at] });
                    self.join(tree, found);
                }
                _ => {}
            }
        }
    }

    fn join(&mut self, tree: usize, found: Vec<usize>) {
        for at in &found {
            self.tree_of[*at] = Some(tree);
        }
        self.trees[tree].members.extend(found);
    }

    fn left(&self, at: usize) -> bool {
        let host = self.host;
        let Some(session) = host.mark(at, SESSION).filter(|session| !session.is_empty()) else { return false };
        if self.tree_of[at].is_some() || self.never(at) {
            return false;
        }
        match host.parent[at] {
            None => host.all[at].parent.is_none_or(|parent| parent.get() == 1),
            Some(parent) if host.all[parent].id.pid.get() == 1 => true,
            Some(parent) if !host.is_readable(parent) => is_reaper(host.all[parent]),
            Some(parent) => host.mark(parent, SESSION) != Some(session) && !host.is(parent, Kind::Server),
        }
    }

    /// What no tree takes along.
    fn never(&self, at: usize) -> bool {
        let host = self.host;
        host.all[at].id.pid.get() == 1
            || host.is(at, Kind::Server)
            || host.mark(at, WORKLOAD).is_some()
            || self.starts_owned.contains_key(&at)
            || self.names_store.contains(&at)
    }

    /// The process and all below that is in no tree. None: one of them has a terminal, and so perhaps a person.
    fn below(&self, top: usize) -> Option<Vec<usize>> {
        let host = self.host;
        let (mut found, mut stack) = (Vec::new(), vec![top]);
        let mut seen = BTreeSet::new();
        while let Some(at) = stack.pop() {
            let other_user = host.all[at].user != host.all[top].user;
            if self.tree_of[at].is_some() || self.never(at) || other_user || !seen.insert(at) {
                continue;
            }
            if host.all[at].has_terminal {
                return None;
            }
            found.push(at);
            stack.extend(host.children[at].iter().rev());
        }
        (!found.is_empty()).then_some(found)
    }

    /// The trees of each agent session: what a claim says of the tree, and what an agent was told at its start.
    fn sessions(&self) -> BTreeMap<String, BTreeSet<usize>> {
        let mut sessions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (number, tree) in self.trees.iter().enumerate() {
            for at in &tree.chain {
                for entry in self.claims.of_pid(self.host.all[*at].id.pid) {
                    if let Some(session) = entry.1.session.as_deref()
                        && self.claims.weigh(self.host, self.catalogue, *entry, *at, Link::Process) == Standing::Owner
                    {
                        sessions.entry(session.to_owned()).or_default().insert(number);
                    }
                }
            }
            for at in tree.members.iter().filter(|at| self.host.is(**at, Kind::Agent)) {
                for session in told_sessions(self.host, *at) {
                    sessions.entry(session).or_default().insert(number);
                }
            }
        }
        sessions
    }

    /// Whether what left may be of this tree: the same user and store, and nobody else claims its session.
    fn may_join(&self, at: usize, session: &str, tree: usize) -> bool {
        let host = self.host;
        let tree = &self.trees[tree];
        let root = tree.root();
        let store = host.mark(at, STORE);
        let owners: BTreeSet<_> = tree.chain.iter().flat_map(|at| self.owners(*at)).collect();
        let claimed = self.claims.of_session(session).iter();
        host.all[at].user == host.all[root].user
            && host.all[at].started_at >= host.all[root].started_at
            && (store.is_none() || store == host.mark(root, STORE))
            && host.mark(root, WORKLOAD).is_none()
            && claimed
                .map(|(ledger, claim)| (self.claims.ledgers[*ledger].path.as_str(), claim.job.as_str()))
                .all(|owner| owners.contains(&owner))
    }

    fn is_claimed(&self, at: usize, session: &str) -> bool {
        let weigh = |entry| self.claims.weigh(self.host, self.catalogue, entry, at, Link::Session);
        self.claims.of_session(session).iter().any(|entry| weigh(*entry) == Standing::Owner)
    }
}

/// The sessions that an agent was started with.
pub(super) fn told_sessions(host: &Host<'_>, at: usize) -> Vec<String> {
    let words = argv::words(host.all[at]);
    ["--session-id", "--resume"]
        .iter()
        .flat_map(|flag| argv::values(&words, flag))
        .filter(|value| !value.is_empty() && !value.starts_with('-'))
        .map(str::to_owned)
        .collect()
}
