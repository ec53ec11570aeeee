//! What is done about trees that others started.

use super::*;

const BOOT: &str = "this boot";

fn tree(pid: i32, verdict: ForeignVerdict, cause: ForeignCause) -> ForeignTree {
    ForeignTree {
        root: proc_id(pid),
        class: "claude".into(),
        command: "claude-agent-acp".into(),
        user: 1000,
        started_at: EARLIER,
        processes: vec![proc_id(pid), proc_id(pid + 1)],
        others_below: Vec::new(),
        rss_bytes: u64::try_from(pid).unwrap(),
        pss_bytes: None,
        owners: Vec::new(),
        verdict,
        cause,
        evidence: format!("evidence of {pid}"),
        again_at: None,
    }
}

fn leaked(pid: i32) -> ForeignTree {
    tree(pid, ForeignVerdict::Reap, ForeignCause::OwnerTerminal)
}

/// All that a plan is made from, in a form that tests can change.
struct Scene {
    trees: Vec<ForeignTree>,
    as_of: Time,
    desired: Snapshot,
    observed: Observed,
    bounds: Bounds,
    recent: usize,
    marked: BTreeSet<ProcId>,
    protected: BTreeSet<ProcId>,
}

impl Scene {
    fn of(trees: Vec<ForeignTree>) -> Scene {
        let mut desired = Snapshot::default();
        desired.policy.foreign = Foreign::Reap;
        let observed = Observed {
            look: 1,
            as_of: NOW,
            breadth: Breadth::Host,
            boot_id: BootId(BOOT.into()),
            workloads: Reading::Known(BTreeMap::new()),
        };
        let bounds = Bounds {
            gate: Reading::Known(()),
            protected: BTreeSet::new(),
            selves: [Pid::new(1).unwrap(), Pid::new(2).unwrap()].into(),
            user: 1000,
        };
        let (marked, protected) = (BTreeSet::new(), BTreeSet::new());
        Scene { trees, as_of: NOW, desired, observed, bounds, recent: 0, marked, protected }
    }

    fn with<R>(&self, of: impl FnOnce(ForeignCase<'_>) -> R) -> R {
        let boot_id = BootId(BOOT.into());
        of(ForeignCase {
            trees: &self.trees,
            as_of: self.as_of,
            boot_id: &boot_id,
            desired: &self.desired,
            observed: &self.observed,
            bounds: &self.bounds,
            recent: self.recent,
            now: NOW,
        })
    }

    fn plan(&self) -> ForeignPlan {
        self.with(foreign)
    }

    fn check(&self, plan: &ForeignPlan) -> Vec<ForeignViolation> {
        let guard = ForeignGuard {
            selves: &self.bounds.selves,
            protected: &self.protected,
            marked: &self.marked,
            user: self.bounds.user,
        };
        self.with(|case| check_foreign(plan, &case, &guard))
    }

    fn condemned(&self) -> Vec<i32> {
        self.plan().condemned().map(|(root, ..)| root.pid.get()).collect()
    }

    /// The row of a tree that is being ended.
    fn add_row(&mut self, tree: &ForeignTree, boot: &str) {
        let mut row = workload(WorkloadType::Foreign, WorkloadPhase::Stopping, None);
        row.spec.owners.clear();
        row.spec.foreign = Some(ForeignTreeSpec::of(tree, &BootId(boot.into())));
        self.desired.workloads.insert(row.uid(), row.into());
    }

    fn add_seen(&mut self, process: SeenProcess) {
        let Reading::Known(trees) = &mut self.observed.workloads else { panic!("it is unknown") };
        trees.entry("mine".into()).or_default().processes.push(process);
    }

    #[track_caller]
    fn held(&self, pid: i32, why: &str) {
        match self.plan().lines.get(&proc_id(pid)) {
            Some(ForeignLine::Held(reason)) => assert!(reason.contains(why), "{reason}, not {why}"),
            other => panic!("{other:?}, not held: {why}"),
        }
    }
}

#[test]
fn what_is_to_go_is_condemned_with_its_cause_and_evidence() {
    for (cause, expected) in [
        (ForeignCause::OwnerTerminal, Cause::OwnerTerminal),
        (ForeignCause::OwnerMissing, Cause::OwnerMissing),
        (ForeignCause::Orphaned, Cause::Orphaned),
    ] {
        let scene = Scene::of(vec![tree(10, ForeignVerdict::Reap, cause)]);
        let plan = scene.plan();
        assert_eq!(plan.condemned().collect::<Vec<_>>(), [(proc_id(10), expected, "evidence of 10")]);
        assert_eq!(scene.check(&plan), []);
    }
}

#[test]
fn nothing_is_condemned_that_has_no_proof_or_that_something_stands_before() {
    for verdict in [ForeignVerdict::Keep, ForeignVerdict::Unknown] {
        Scene::of(vec![tree(10, verdict, ForeignCause::OwnerTerminal)]).held(10, "evidence of 10");
    }
    Scene::of(vec![tree(10, ForeignVerdict::Reap, ForeignCause::Unowned)]).held(10, "evidence of 10");
    let change = |change: fn(&mut Scene), why: &str| {
        let mut scene = Scene::of(vec![leaked(10)]);
        change(&mut scene);
        scene.held(10, why);
    };
    change(|it| it.desired.policy.foreign = Foreign::Report, "would be reaped, were it not for");
    change(|it| it.bounds.gate = Reading::Unknown("the store is whole".into()), "held back until the store is whole");
    change(|it| it.observed.workloads = Reading::Unknown("no /proc".into()), "no /proc");
    change(|it| it.as_of = Time(NOW.0 - 2001), "a new look comes first");
    change(|it| it.as_of = Time(NOW.0 + 1), "a new look comes first");
    change(|it| it.add_seen(process(11, false)), "process 11 of it belongs to workload mine");
    change(|it| it.add_row(&leaked(10), BOOT), "it is being ended: workload w");
    // What is left of it when its root has ended is a tree of its own.
    change(|it| it.add_row(&leaked(9), BOOT), "it is being ended: workload w");
    let mut of_another_boot = Scene::of(vec![leaked(10)]);
    of_another_boot.add_row(&leaked(10), "another boot");
    assert_eq!(of_another_boot.condemned(), [10]);
}

#[test]
fn the_budget_counts_what_was_condemned_before_and_gives_the_largest_first() {
    let mut scene = Scene::of((1..=9).map(|place| leaked(place * 10)).collect());
    scene.desired.policy.max_reaps_per_minute = 5;
    for (recent, condemned, waiting) in [(0, &[50, 60, 70, 80, 90][..], 4), (3, &[80, 90], 7), (5, &[], 9), (7, &[], 9)]
    {
        scene.recent = recent;
        assert_eq!(scene.condemned(), condemned, "after {recent}");
        assert_eq!(scene.plan().waiting(), waiting, "after {recent}");
        assert_eq!(scene.check(&scene.plan()), []);
    }
    let ForeignLine::Waits(why) = &scene.plan().lines[&proc_id(10)] else { panic!("it does not wait") };
    assert!(why.contains("5 trees a minute") && why.ends_with("evidence of 10"), "{why}");
}

#[test]
fn the_second_opinion_refuses_what_a_plan_must_never_have() {
    let mut plan = ForeignPlan::default();
    plan.lines.insert(proc_id(10), ForeignLine::Condemn(Cause::OwnerTerminal, "a mistake".into()));
    let refused = |change: fn(&mut Scene), why: &str| {
        let mut scene = Scene::of(vec![leaked(10)]);
        assert_eq!(scene.check(&plan), []);
        change(&mut scene);
        let violations = scene.check(&plan);
        assert!(violations.len() == 1 && violations[0].why.contains(why), "{violations:?}, not {why}");
    };
    refused(|it| it.desired.policy.foreign = Foreign::Report, "foreign: Reap");
    refused(|it| it.desired.policy.max_reaps_per_minute = 0, "more than 0 within a minute");
    refused(|it| it.recent = 30, "more than 30 within a minute");
    refused(|it| it.bounds.gate = Reading::Unknown(String::new()), "not all is known");
    refused(|it| it.observed.workloads = Reading::Unknown(String::new()), "not all is known");
    refused(|it| it.trees.clear(), "was not seen");
    refused(|it| it.trees[0].verdict = ForeignVerdict::Keep, "no proof");
    refused(|it| it.trees[0].verdict = ForeignVerdict::Unknown, "no proof");
    refused(|it| it.trees[0].cause = ForeignCause::Unowned, "no proof");
    refused(|it| it.trees[0].user = 0, "another user's");
    refused(|it| it.trees[0].processes.push(proc_id(1)), "1 is process 1, the controller, or one of its ancestors");
    refused(|it| it.trees[0].processes.push(proc_id(2)), "2 is process 1, the controller, or one of its ancestors");
    refused(|it| it.protected.extend([proc_id(11)]), "11 is protected");
    refused(|it| it.bounds.protected.extend([proc_id(11)]), "11 is protected");
    refused(|it| it.marked.extend([proc_id(11)]), "11 carries a mark");
    refused(|it| it.add_seen(process(11, false)), "11 belongs to a workload");
    refused(|it| it.add_row(&leaked(10), BOOT), "has a row already");
}

#[test]
fn a_signal_for_what_others_started_never_reaches_what_is_ours() {
    let mut row = workload(WorkloadType::Foreign, WorkloadPhase::Stopping, None);
    row.spec.foreign = Some(ForeignTreeSpec::of(&leaked(10), &BootId(BOOT.into())));
    row.status.cause = Some(Cause::OwnerTerminal);
    let mut scene = Scene::of(Vec::new());
    scene.desired = desired(None, Some(row));
    let known = |pid| SeenProcess { marks: Marks { known: true, ..Marks::default() }, ..process(pid, false) };
    let seen = |processes: Vec<SeenProcess>| SeenWorkload { processes, ..SeenWorkload::default() };
    let check = |trees: BTreeMap<WorkloadUid, SeenWorkload>| {
        let observed = Observed { workloads: Reading::Known(trees), ..scene.observed.clone() };
        let plan = diff(&scene.desired, &observed, &Acts::default(), &scene.bounds, NOW);
        let asked = plan
            .actions()
            .iter()
            .any(|(_, action, _)| matches!(action, Action::Stop { stage: Stage::Ask { .. } | Stage::Clean, .. }));
        assert!(!asked && plan.actions()[0].1.targets().len() == 2, "{plan:?}");
        check(&plan, &scene.desired, &observed, &Guard { bounds: &scene.bounds, user: 1000 })
    };
    check([("w".into(), seen(vec![known(10), known(11)]))].into()).unwrap();
    let marked = check([("w".into(), seen(vec![known(10), process(11, false)]))].into());
    assert!(matches!(marked, Err(Violation::Ours(id, _)) if id == proc_id(11)), "{marked:?}");
    let in_two = [("w".into(), seen(vec![known(10), known(11)])), ("x".into(), seen(vec![process(11, false)]))];
    let mut with_row = scene.desired.clone();
    let mut other = workload(WorkloadType::Script, WorkloadPhase::Running, None);
    (other.metadata.name, other.metadata.uid) = ("x".into(), "x".into());
    with_row.workloads.insert(other.uid(), other.into());
    let observed = Observed { workloads: Reading::Known(in_two.into()), ..scene.observed.clone() };
    let plan = diff(&with_row, &observed, &Acts::default(), &scene.bounds, NOW);
    let refused = super::check(&plan, &with_row, &observed, &Guard { bounds: &scene.bounds, user: 1000 });
    assert!(matches!(refused, Err(Violation::Ours(..))), "{refused:?}");
}

fn any_tree() -> impl Strategy<Value = ForeignTree> {
    let verdicts = prop::sample::select(vec![ForeignVerdict::Reap, ForeignVerdict::Keep, ForeignVerdict::Unknown]);
    let causes = prop::sample::select(vec![
        ForeignCause::OwnerTerminal,
        ForeignCause::OwnerMissing,
        ForeignCause::Orphaned,
        ForeignCause::OwnerActive,
        ForeignCause::Unowned,
        ForeignCause::LedgerUnknown,
    ]);
    (5..40_i32, verdicts, causes).prop_map(|(place, verdict, cause)| tree(place * 10, verdict, cause))
}

proptest! {
    #[test]
    fn each_tree_has_one_line_whatever_their_order_and_none_breaks_a_rule(
        trees in prop::collection::vec(any_tree(), 0..20),
        reaps in prop::bool::weighted(0.8),
        known in prop::bool::weighted(0.8),
        budget in 0..8_u32,
        recent in 0..5_usize,
        member in prop::option::of(5..40_i32),
    ) {
        let distinct: BTreeMap<ProcId, ForeignTree> = trees.into_iter().map(|tree| (tree.root, tree)).collect();
        let mut scene = Scene::of(distinct.values().cloned().collect());
        scene.desired.policy.foreign = if reaps { Foreign::Reap } else { Foreign::Report };
        scene.desired.policy.max_reaps_per_minute = budget;
        scene.recent = recent;
        if !known {
            scene.bounds.gate = Reading::Unknown("something".into());
        }
        if let Some(member) = member {
            scene.add_seen(process(member * 10 + 1, false));
        }
        let plan = scene.plan();
        prop_assert_eq!(plan.lines.keys().collect::<Vec<_>>(), distinct.keys().collect::<Vec<_>>());
        prop_assert_eq!(scene.check(&plan), vec![]);
        let count = plan.condemned().count();
        prop_assert!(count + recent <= usize::try_from(budget).unwrap().max(recent));
        prop_assert!(count == 0 || (reaps && known));
        scene.trees.reverse();
        prop_assert_eq!(scene.plan(), plan);
    }
}
