//! One look at what we did not start: a census, the ledgers that it leads to, and what follows for each tree.

use super::deserted::Deserted;
use crate::foreign::{self, Catalogue, MARKS, Terms};
use crate::ledger::{self, Readers, Source};
use crate::model::{
    Census, Fields, ForeignTree, HostProcess, LedgerRead, LedgerType, Match, Pid, PolicySpec, ProcId, Reading, Time,
};
use crate::observe::{Surveyor, weigh};
use crate::os;
use regex::RegexSet;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Who looks. Keeps what it has read of processes and ledgers that have not changed; dropping it loses nothing.
pub struct Lookout {
    surveyor: Surveyor,
    readers: Readers,
    catalogue: Catalogue,
    ledgers: Vec<Source>,
    /// Who was in a tree at the last look: of these the present state counts.
    members: BTreeSet<ProcId>,
    deserted: Deserted,
}

/// The variable that names a user's home.
const HOME: &str = "HOME";

/// What a policy says about trees that we did not start.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Of a tree, before it is judged.
    pub min_age: Duration,
    /// The classes whose trees may be reaped for having lost their parent.
    pub orphans: BTreeSet<String>,
    /// How long such a one must have done nothing.
    pub idle_for: Duration,
    /// Command lines that are never touched.
    pub protect: Option<RegexSet>,
}

impl Rules {
    /// What a policy says.
    ///
    /// # Errors
    /// A `protect` pattern can not be understood.
    pub fn of(policy: &PolicySpec, idle_for: Duration) -> Result<Rules, regex::Error> {
        let protect = RegexSet::new(&policy.protect)?;
        Ok(Rules {
            min_age: policy.min_age.0,
            orphans: policy.orphans.iter().cloned().collect(),
            idle_for,
            protect: Some(protect).filter(|set| !set.is_empty()),
        })
    }
}

/// What one look saw, and what follows.
#[derive(Debug, Clone)]
pub struct Look {
    /// Every process of the host.
    pub census: Census,
    /// What each ledger answered.
    pub ledgers: Vec<LedgerRead>,
    /// Each tree, with its verdict.
    pub trees: Vec<ForeignTree>,
    /// What could not be seen, in words.
    pub unseen: Vec<String>,
    /// What bounded the verdicts.
    pub terms: Terms,
}

impl Lookout {
    /// Who knows the agents of the catalogue and of these classes, and reads these ledgers beside those that processes name.
    pub fn new<'a>(classes: impl Iterator<Item = (&'a str, &'a Match)>, ledgers: Vec<Source>) -> Lookout {
        Lookout {
            surveyor: Surveyor::new(MARKS),
            readers: Readers::new(),
            catalogue: Catalogue::built_in().with(classes),
            ledgers,
            members: BTreeSet::new(),
            deserted: Deserted::default(),
        }
    }

    /// Looks. First the processes, then the ledgers: who writes down what it starts has written it by then, or the tree is
    /// young.
    pub fn look(&mut self, rules: &Rules, now: Time) -> Look {
        let members = std::mem::take(&mut self.members);
        let census = self.surveyor.census(now, |it| members.contains(&it.id) || is_marked(it));
        let unseen = self.surveyor.unseen().into_iter().collect();
        let question = foreign::question(&census, &self.catalogue);
        let sources = self.sources(&census, &question.pids);
        let mut ledgers = Vec::new();
        for (source, aliases) in &sources {
            let mut read = self.readers.read(source, &question, now);
            read.aliases.extend(aliases.iter().cloned());
            ledgers.push(read);
        }
        let mut terms = terms(&census, rules);
        let mut trees = foreign::attribute(&census, &self.catalogue, &ledgers, &terms);
        let strays = foreign::strays(&census, &self.catalogue, &terms);
        terms.deserted = self.deserted.among(&strays, &trees, rules.idle_for, now);
        if !terms.deserted.is_empty() {
            trees = foreign::attribute(&census, &self.catalogue, &ledgers, &terms);
        }
        self.members = trees.iter().flat_map(|tree| tree.processes.iter().copied()).collect();
        Look { census, ledgers, trees, unseen, terms }
    }

    /// When a later look will know more of a tree that has neither parent nor client: it has to do nothing for a while.
    pub fn again_at(&self, rules: &Rules, now: Time) -> Option<Time> {
        self.deserted.again_at(rules.idle_for, now)
    }

    /// The same with the proportional memory of the trees: it is slow, and changes no verdict.
    pub fn look_and_weigh(&mut self, rules: &Rules, now: Time) -> Look {
        let mut look = self.look(rules, now);
        weigh(&mut look.census, self.members.iter().map(|id| id.pid));
        look.trees = foreign::attribute(&look.census, &self.catalogue, &look.ledgers, &look.terms);
        look
    }

    /// The ledgers that are to be read, each once, with all names that it has: those that were given, those that agents'
    /// environments name, and those that their users have at the usual places.
    fn sources(&self, census: &Census, of_trees: &BTreeSet<Pid>) -> Vec<(Source, BTreeSet<String>)> {
        let named = foreign::stores(census, &self.catalogue).into_iter().map(|named| Source {
            name: named.path.clone(),
            r#type: named.r#type,
            path: named.path.into(),
            fields: Fields::default(),
            user: Some(named.user),
        });
        let usual = homes(census, of_trees).into_iter().filter_map(|(user, home)| {
            let source = ledger::acpx_home(&home)?;
            Some(Source { user: Some(user), ..source })
        });
        let mut found: BTreeMap<(LedgerType, PathBuf), (Source, BTreeSet<String>)> = BTreeMap::new();
        for source in self.ledgers.iter().cloned().chain(named).chain(usual) {
            // What can not be resolved is for the reader to say.
            let place = source.path.canonicalize().unwrap_or_else(|_| source.path.clone());
            let alias = source.path.display().to_string();
            // Of several users whose processes name a store, the one whose it is.
            let is_owner = fs::metadata(&place).is_ok_and(|meta| Some(meta.uid()) == source.user);
            match found.entry((source.r#type, place)) {
                Entry::Vacant(vacant) => drop(vacant.insert((source, [alias].into()))),
                Entry::Occupied(mut known) => {
                    let (first, aliases) = known.get_mut();
                    aliases.insert(alias);
                    if is_owner && first.user.is_some() {
                        first.user = source.user;
                    }
                }
            }
        }
        found.into_values().collect()
    }
}

/// Whether its environment ties it to an agent: more than a home, which all have.
fn is_marked(process: &HostProcess) -> bool {
    process.environment.known().is_some_and(|marks| marks.keys().any(|name| name != HOME))
}

/// The homes of the users of these processes: as their environments have it, and as the system does.
fn homes(census: &Census, pids: &BTreeSet<Pid>) -> BTreeSet<(u32, PathBuf)> {
    let Reading::Known(processes) = &census.processes else { return BTreeSet::new() };
    let mut homes = BTreeSet::new();
    let mut users = BTreeSet::new();
    for process in pids.iter().filter_map(|pid| processes.get(pid)) {
        users.insert(process.user);
        let home = process.environment.known().and_then(|marks| marks.get(HOME));
        homes.extend(home.filter(|home| home.starts_with('/')).map(|home| (process.user, home.into())));
    }
    for user in users {
        homes.extend(os::home_of(user).map(|home| (user, home)));
    }
    homes
}

fn terms(census: &Census, rules: &Rules) -> Terms {
    let protects =
        |process: &HostProcess| rules.protect.as_ref().is_some_and(|protect| protect.is_match(&process.argv.join(" ")));
    let all = census.processes.known().into_iter().flat_map(|all| all.values());
    Terms {
        min_age: rules.min_age,
        orphans: rules.orphans.clone(),
        protected: all.filter(|process| protects(process)).map(|process| process.id).collect(),
        // Where it is not known who we are, nothing is signalled either: `never` says so.
        selves: os::self_and_ancestors().unwrap_or_default(),
        ..Terms::default()
    }
}
