//! Whom a condemned tree's next signal is for: a function of who was condemned and of what a fresh look says. Pure.

use crate::model::{Census, ForeignCause, ForeignTree, ForeignVerdict, HostProcess, Pid, ProcId, Reading};
use std::collections::{BTreeMap, BTreeSet};

/// A tree that is to go, by identities: whatever is left of it when its root has ended still is it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// The process at its root.
    pub root: ProcId,
    /// All that belonged to it whenever it was looked at.
    pub members: BTreeSet<ProcId>,
    /// All that was seen to descend from it, and is none of it: a server of jobs that it started, for example.
    pub others: BTreeSet<ProcId>,
    /// Why it is to go.
    pub cause: ForeignCause,
    /// Whether it was signalled: what it does since then is no sign that it has something to do.
    pub told: bool,
}

/// What a fresh look says of a condemned tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aimed {
    /// These are left of it, and are to be signalled.
    At(Vec<ProcId>),
    /// Nothing of it is left.
    Gone,
    /// It is to be kept after all; why.
    Spared(String),
    /// What would decide it could not be read this time; why. Nothing is signalled.
    Unknown(String),
}

impl Condemned {
    /// A tree whose verdict is `Reap`.
    pub fn of(tree: &ForeignTree) -> Condemned {
        let members = tree.processes.iter().copied().chain([tree.root]).collect();
        let others = tree.others_below.iter().copied().collect();
        Condemned { root: tree.root, members, others, cause: tree.cause, told: false }
    }

    /// Whom the next signal is for, by a look that began after the last one was sent. Who is found now belongs to it from
    /// now on.
    ///
    /// - The root lives: its verdict is asked again, and only a tree that still is to go has anybody to be signalled.
    /// - The root has ended: what is left of it goes, unless a tree of its own says that somebody needs it.
    /// - Who was forked by a member since, or began in the root's own session, is a member; but nobody whom a look has passed by,
    ///   nor what such a one starts.
    pub fn aim(&mut self, census: &Census, trees: &[ForeignTree]) -> Aimed {
        let processes = match &census.processes {
            Reading::Known(processes) => processes,
            Reading::Unknown(why) => return Aimed::Unknown(why.clone()),
        };
        if let Some(tree) = trees.iter().find(|tree| tree.root == self.root) {
            match tree.verdict {
                ForeignVerdict::Keep if self.told && self.is_busy_orphan(tree) => {}
                ForeignVerdict::Keep => return Aimed::Spared(tree.evidence.clone()),
                ForeignVerdict::Unknown => return Aimed::Unknown(tree.evidence.clone()),
                ForeignVerdict::Reap => self.follow(tree),
            }
        } else if is_alive(processes, self.root) {
            // Its class is known by its command line: it may be another program now.
            return Aimed::Spared("it is no longer what it was".into());
        }
        let mut spared = self.wanted(trees);
        let mut others: BTreeSet<ProcId> = self.others.iter().copied().filter(|id| is_alive(processes, *id)).collect();
        descend(processes, &mut others, &self.members);
        spared.extend(&others);
        self.others.extend(others);
        let members = self.members.iter().copied().chain(stragglers(processes, self.root));
        let mut left: BTreeSet<ProcId> =
            members.filter(|id| is_alive(processes, *id) && !spared.contains(id)).collect();
        descend(processes, &mut left, &spared);
        self.members.extend(&left);
        if left.is_empty() { Aimed::Gone } else { Aimed::At(parents_first(processes, &left)) }
    }

    /// What belongs to it by a fresh look, and what does not.
    fn follow(&mut self, tree: &ForeignTree) {
        self.others.retain(|id| !tree.processes.contains(id));
        self.members.extend(&tree.processes);
        self.others.extend(tree.others_below.iter().filter(|id| !self.members.contains(id)));
    }

    /// Whether it is kept only because it does something: an orphan that was told to end does.
    fn is_busy_orphan(&self, tree: &ForeignTree) -> bool {
        self.cause == ForeignCause::Orphaned && tree.cause == ForeignCause::Orphaned
    }

    /// The members of other trees that somebody needs, or may need.
    fn wanted(&self, trees: &[ForeignTree]) -> BTreeSet<ProcId> {
        let others = trees.iter().filter(|tree| tree.root != self.root && self.spares(tree));
        others.flat_map(|tree| tree.processes.iter().copied().chain([tree.root])).collect()
    }

    /// Whether a tree of its own is spared. Of one that was a part of the condemned one, that nothing is known of it is no
    /// reason: what is left of a tree is in no ledger.
    fn spares(&self, tree: &ForeignTree) -> bool {
        if !self.members.contains(&tree.root) {
            return tree.verdict != ForeignVerdict::Reap;
        }
        tree.cause.is_need()
    }
}

fn is_alive(processes: &BTreeMap<Pid, HostProcess>, id: ProcId) -> bool {
    processes.get(&id.pid).is_some_and(|process| process.id == id && !process.is_zombie())
}

/// Who is in the session that the root began: its number is not given out again while anybody is in it.
fn stragglers(processes: &BTreeMap<Pid, HostProcess>, root: ProcId) -> Vec<ProcId> {
    let led = match processes.get(&root.pid) {
        Some(now) => now.id == root && now.session == Some(root.pid),
        // Nobody has the number, so who is in that session was in it while the root was there.
        None => true,
    };
    let inside = |it: &&HostProcess| it.session == Some(root.pid) && it.id.start >= root.start && !it.is_zombie();
    if led { processes.values().filter(inside).map(|it| it.id).collect() } else { Vec::new() }
}

/// Adds what descends from these, but for what is spared and what is below that.
fn descend(processes: &BTreeMap<Pid, HostProcess>, left: &mut BTreeSet<ProcId>, spared: &BTreeSet<ProcId>) {
    let mut children: BTreeMap<Pid, Vec<&HostProcess>> = BTreeMap::new();
    for process in processes.values().filter(|process| !process.is_zombie()) {
        if let Some(parent) = process.parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut open: Vec<ProcId> = left.iter().copied().collect();
    while let Some(parent) = open.pop() {
        for child in children.get(&parent.pid).into_iter().flatten() {
            if !spared.contains(&child.id) && left.insert(child.id) {
                open.push(child.id);
            }
        }
    }
}

/// Who starts others is signalled before those: it starts no more.
fn parents_first(processes: &BTreeMap<Pid, HostProcess>, left: &BTreeSet<ProcId>) -> Vec<ProcId> {
    let depth = |id: &ProcId| {
        let mut above = processes.get(&id.pid).and_then(|process| process.parent);
        let mut depth = 0_usize;
        while let Some(process) = above.and_then(|pid| processes.get(&pid)).filter(|it| left.contains(&it.id)) {
            depth += 1;
            // Parents that were read one after the other may form a ring.
            if depth > left.len() {
                break;
            }
            above = process.parent;
        }
        depth
    };
    let mut ordered: Vec<(usize, ProcId)> = left.iter().map(|id| (depth(id), *id)).collect();
    ordered.sort_unstable();
    ordered.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, StartTime, Time};

    fn id(pid: i32) -> ProcId {
        ProcId { pid: Pid::new(pid).unwrap(), start: StartTime(u64::try_from(pid).unwrap()) }
    }

    fn process(pid: i32, parent: i32, session: i32) -> HostProcess {
        HostProcess {
            id: id(pid),
            parent: Pid::new(parent),
            group: Pid::new(session),
            session: Pid::new(session),
            has_terminal: false,
            user: 1,
            state: 'S',
            started_at: Time(0),
            name: "x".into(),
            exe: None,
            argv: vec!["x".into()],
            environment: Reading::Known(BTreeMap::new()),
            rss_bytes: 0,
            pss_bytes: None,
        }
    }

    /// (pid, parent, session); a negative pid: a zombie.
    fn census(all: &[(i32, i32, i32)]) -> Census {
        let of = |(pid, parent, session): &(i32, i32, i32)| {
            let mut process = process(pid.abs(), *parent, *session);
            process.state = if *pid < 0 { 'Z' } else { 'S' };
            (process.id.pid, process)
        };
        let processes = Reading::Known(all.iter().map(of).collect());
        Census { as_of: Time(0), boot_id: BootId("b".into()), user: 1, processes }
    }

    fn tree(pids: &[i32], verdict: ForeignVerdict, cause: ForeignCause) -> ForeignTree {
        let processes: Vec<ProcId> = pids.iter().map(|pid| id(*pid)).collect();
        ForeignTree {
            root: processes[0],
            class: "claude".into(),
            command: "x".into(),
            user: 1,
            started_at: Time(0),
            processes,
            others_below: Vec::new(),
            rss_bytes: 0,
            pss_bytes: None,
            owners: Vec::new(),
            verdict,
            cause,
            evidence: "because".into(),
            again_at: None,
        }
    }

    fn leaked(pids: &[i32]) -> ForeignTree {
        tree(pids, ForeignVerdict::Reap, ForeignCause::OwnerTerminal)
    }

    fn at(pids: &[i32]) -> Aimed {
        Aimed::At(pids.iter().map(|pid| id(*pid)).collect())
    }

    type Row = (i32, i32, i32);

    #[test]
    fn a_tree_is_aimed_at_for_as_long_as_its_verdict_holds() {
        use ForeignCause as C;
        use ForeignVerdict as V;
        let alive: &[Row] = &[(10, 1, 10), (11, 10, 10)];
        for (verdict, cause, expected) in [
            (V::Reap, C::OwnerTerminal, at(&[10, 11])),
            (V::Keep, C::OwnerActive, Aimed::Spared("because".into())),
            (V::Keep, C::Protected, Aimed::Spared("because".into())),
            (V::Unknown, C::LedgerUnknown, Aimed::Unknown("because".into())),
        ] {
            let mut condemned = Condemned::of(&leaked(&[10, 11]));
            assert_eq!(condemned.aim(&census(alive), &[tree(&[10, 11], verdict, cause)]), expected, "{cause:?}");
        }
        let mut unseen = census(alive);
        unseen.processes = Reading::Unknown("no /proc".into());
        assert_eq!(Condemned::of(&leaked(&[10])).aim(&unseen, &[]), Aimed::Unknown("no /proc".into()));
    }

    #[test]
    fn what_is_left_of_a_tree_goes_and_nobody_else() {
        let cases: [(&str, &[Row], Aimed); 9] = [
            ("nothing", &[(1, 0, 1)], Aimed::Gone),
            ("its root was not collected", &[(-10, 1, 10)], Aimed::Gone),
            ("a child that has another parent now", &[(11, 1, 10)], at(&[11])),
            ("one that has a session of its own", &[(12, 1, 12)], at(&[12])),
            ("what that forked since", &[(12, 1, 12), (20, 12, 12)], at(&[12, 20])),
            ("one that was forked in the root's session", &[(21, 1, 10)], at(&[21])),
            ("the root's number is somebody else's", &[(10, 1, 10), (11, 10, 10)], Aimed::Gone),
            ("a stranger below a stranger", &[(30, 1, 30), (31, 30, 30)], Aimed::Gone),
            ("parents before children", &[(12, 13, 12), (13, 11, 12), (11, 1, 10)], at(&[11, 13, 12])),
        ];
        for (what, rows, expected) in cases {
            let mut condemned = Condemned::of(&leaked(&[10, 11, 12]));
            let mut census = census(rows);
            if what.starts_with("the root's number")
                && let Reading::Known(processes) = &mut census.processes
            {
                processes.values_mut().for_each(|it| it.id.start.0 += 100);
            }
            assert_eq!(condemned.aim(&census, &[]), expected, "{what}");
        }
    }

    #[test]
    fn what_is_left_and_somebody_else_needs_is_spared_with_all_below_it() {
        use ForeignCause as C;
        use ForeignVerdict as V;
        let rows: &[Row] = &[(11, 1, 10), (12, 1, 12), (13, 12, 12)];
        for (verdict, cause, expected) in [
            (V::Keep, C::OwnerActive, at(&[11])),
            (V::Keep, C::Interactive, at(&[11])),
            (V::Keep, C::Unowned, at(&[11, 12, 13])),
            (V::Keep, C::TooYoung, at(&[11, 12, 13])),
            (V::Reap, C::OwnerTerminal, at(&[11, 12, 13])),
        ] {
            let mut condemned = Condemned::of(&leaked(&[10, 11, 12, 13]));
            assert_eq!(condemned.aim(&census(rows), &[tree(&[12, 13], verdict, cause)]), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_tree_within_a_condemned_one_is_judged_by_its_own_verdict() {
        use ForeignCause as C;
        use ForeignVerdict as V;
        let rows: &[Row] = &[(10, 1, 10), (12, 10, 12), (13, 12, 12)];
        for (verdict, cause, expected) in [
            (V::Keep, C::Unowned, at(&[10])),
            (V::Keep, C::TooYoung, at(&[10])),
            (V::Unknown, C::LedgerUnknown, at(&[10])),
            (V::Reap, C::OwnerMissing, at(&[10, 12, 13])),
        ] {
            let mut condemned = Condemned::of(&leaked(&[10]));
            let trees = [leaked(&[10]), tree(&[12, 13], verdict, cause)];
            assert_eq!(condemned.aim(&census(rows), &trees), expected, "{cause:?}");
        }
    }

    #[test]
    fn a_server_that_the_tree_started_outlives_it_with_all_that_the_server_started() {
        // 20 is a server in the root's own session, 21 a job of its; 22 it starts when the tree has gone.
        let mut whole = leaked(&[10, 11]);
        whole.others_below = [20, 21].map(id).into();
        let mut condemned = Condemned::of(&whole);
        let alive: &[Row] = &[(10, 1, 10), (11, 10, 10), (20, 11, 10), (21, 20, 10)];
        assert_eq!(condemned.aim(&census(alive), &[whole]), at(&[10, 11]));
        assert_eq!(condemned.aim(&census(&[(11, 1, 10), (20, 11, 10), (21, 20, 10), (22, 20, 10)]), &[]), at(&[11]));
        assert_eq!(condemned.aim(&census(&[(20, 1, 10), (22, 1, 10), (23, 22, 10)]), &[]), Aimed::Gone);
        // Who was passed by while the root lived, and was not known when it was condemned.
        let mut condemned = Condemned::of(&leaked(&[10, 11]));
        let mut later = leaked(&[10, 11]);
        later.others_below = vec![id(20)];
        assert_eq!(condemned.aim(&census(&[(10, 1, 10), (11, 10, 10), (20, 11, 20)]), &[later]), at(&[10, 11]));
        assert_eq!(condemned.aim(&census(&[(20, 11, 20), (11, 1, 10)]), &[]), at(&[11]));
    }

    #[test]
    fn an_orphan_that_is_busy_since_it_was_told_to_end_is_aimed_at_again() {
        let busy = tree(&[10], ForeignVerdict::Keep, ForeignCause::Orphaned);
        let rows: &[Row] = &[(10, 1, 10)];
        let spared = Aimed::Spared("because".into());
        for (cause, told, expected) in [
            (ForeignCause::Orphaned, false, spared.clone()),
            (ForeignCause::Orphaned, true, at(&[10])),
            (ForeignCause::OwnerTerminal, true, spared),
        ] {
            let mut condemned = Condemned::of(&tree(&[10], ForeignVerdict::Reap, cause));
            condemned.told = told;
            assert_eq!(condemned.aim(&census(rows), std::slice::from_ref(&busy)), expected, "{cause:?} {told}");
        }
    }

    #[test]
    fn a_root_that_runs_another_program_now_is_spared() {
        let mut condemned = Condemned::of(&leaked(&[10]));
        let spared = Aimed::Spared("it is no longer what it was".into());
        assert_eq!(condemned.aim(&census(&[(10, 1, 10)]), &[]), spared);
    }

    #[test]
    fn who_was_found_once_is_a_member_when_it_has_left_its_parent() {
        let mut condemned = Condemned::of(&leaked(&[10]));
        assert_eq!(condemned.aim(&census(&[(10, 1, 10), (20, 10, 20)]), &[leaked(&[10])]), at(&[10, 20]));
        assert_eq!(condemned.aim(&census(&[(20, 1, 20)]), &[]), at(&[20]));
    }
}
