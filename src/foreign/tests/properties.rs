//! What must never happen, whatever a host and its ledgers look like.

use super::*;
use proptest::prelude::*;

const ARGVS: &[&[&str]] = &[
    &["npm exec @agentclientprotocol/claude-agent-acp --allowedPaths /srv/shop/.stepwise/jobs/job-1/workspace"],
    &["sh", "-c", "claude-agent-acp"],
    &["node", "/x/node_modules/.bin/claude-agent-acp", "--allowedPaths", "/srv/shop/.stepwise/jobs/job-2/workspace"],
    &["claude", "-p", "x", "--session-id", "s1"],
    &["claude"],
    &["codex", "app-server"],
    &["npx", "mcp-server-git"],
    &["firecracker", "--api-sock", "x"],
    &["stepwise", "server"],
    &["bash"],
    &["/bin/bash", "/tmp/serve.sh"],
    &["/lib/systemd/systemd", "--user"],
    &["/usr/bin/code"],
    &[],
];
const PATHS: &[&str] = &[STORE_PATH, "/home/u/.acpx", "/srv/files"];

fn some_process() -> impl Strategy<Value = HostProcess> {
    let family = (1..40_i32, 0..40_i32, 0..40_i32, 0..40_i32, 0..ARGVS.len());
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.9), 0..3_u8, 0..700_u64);
    let marks = (prop::bool::weighted(0.7), prop::bool::weighted(0.1), 0..4_u8, prop::bool::weighted(0.1));
    (family, flags, marks).prop_map(|((raw, parent, group, session, argv), flags, marks)| {
        let (has_terminal, other_user, is_leader, state, age) = flags;
        let (has_store, is_workload, session_mark, is_unreadable) = marks;
        let mut one = process(raw, parent, ARGVS[argv]);
        if ARGVS[argv].first().is_some_and(|word| word.contains("systemd")) {
            one.name = "systemd".to_owned();
        }
        if !is_leader {
            (one.group, one.session) = (Pid::new(group), Pid::new(session));
        }
        one.has_terminal = has_terminal;
        one.user = if other_user { 1001 } else { USER };
        one.state = if state == 0 && age % 7 == 0 { 'Z' } else { 'S' };
        one.started_at = if age > 690 { Time(NOW.0 + 10_000) } else { ago(age) };
        if has_store {
            one = with_store(one);
        }
        if is_workload {
            one = marked(one, &[("TENURE_WORKLOAD", "i/w")]);
        }
        if session_mark > 0 {
            one = marked(one, &[("CLAUDE_CODE_SESSION_ID", ["s1", "s2", "s3"][usize::from(session_mark) - 1])]);
        }
        if is_unreadable {
            one.environment = Reading::Unknown("denied".to_owned());
        }
        one
    })
}

fn some_claim() -> impl Strategy<Value = Claim> {
    let who = (0..4_u8, 0..40_i32, 0..40_i32, 0..4_usize);
    let when = (prop::option::of(0..800_u64), 0..4_u8, any::<bool>());
    (who, when, prop::bool::weighted(0.05)).prop_map(|((job, raw, group, session), (until, time, agrees), in_guest)| {
        Claim {
            job: format!("job-{job}"),
            pid: Pid::new(raw),
            group: if agrees { Pid::new(raw) } else { Pid::new(group) },
            session: ["s1", "s2", "s3"].get(session).map(|session| (*session).to_owned()),
            start: (time == 1 && raw > 0)
                .then(|| (BootId::from("boot"), StartTime(u64::try_from(raw).unwrap() * if agrees { 10 } else { 11 }))),
            started_at: (time == 2).then(|| ago(600)),
            until: until.map(ago),
            command: None,
            in_guest,
        }
    })
}

fn some_ledger() -> impl Strategy<Value = LedgerRead> {
    let words = prop::collection::vec(prop::sample::select(vec!["failed", "failed", "failed", "running", "?", ""]), 4);
    let odd =
        (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (0..3_usize, prop::collection::vec(some_claim(), 0..12), words, odd).prop_map(|(kind, claims, words, odd)| {
        let (is_unknown, is_partial, is_old, is_others) = odd;
        let r#type = [LedgerType::Stepwise, LedgerType::Acpx, LedgerType::Files][kind];
        let jobs: Vec<(String, &str)> = words.iter().enumerate().map(|(n, word)| (format!("job-{n}"), *word)).collect();
        let jobs: Vec<(&str, &str)> =
            jobs.iter().map(|(job, word)| (job.as_str(), *word)).filter(|(_, word)| !word.is_empty()).collect();
        let mut read = ledger(r#type, PATHS[kind], claims, &jobs);
        if is_partial && let Reading::Known(book) = &mut read.book {
            book.unreadable.push("an entry".to_owned());
        }
        if is_unknown {
            read.book = Reading::Unknown("locked".to_owned());
        }
        if is_old {
            read.as_of = ago(5);
        }
        read.user = Some(if is_others { 1001 } else { USER });
        read
    })
}

fn some_world() -> impl Strategy<Value = (Census, Vec<LedgerRead>, Terms)> {
    let terms =
        (prop::collection::btree_set(1..40_i32, 0..4), prop::collection::btree_set(1..40_i32, 0..4), any::<bool>());
    let processes = prop::collection::vec(some_process(), 0..40);
    (processes, prop::collection::vec(some_ledger(), 0..4), terms, prop::bool::weighted(0.2)).prop_map(
        |(processes, ledgers, (protected, selves, lists_orphans), is_root)| {
            let mut census = census(Vec::new());
            census.user = if is_root { 0 } else { USER };
            if let Reading::Known(all) = &mut census.processes {
                all.extend(processes.into_iter().map(|process| (process.id.pid, process)));
            }
            let id = |raw: i32| ProcId { pid: pid(raw), start: StartTime(u64::try_from(raw).unwrap() * 10) };
            // The same path may be read twice, by two names.
            let names = ledgers.into_iter().enumerate();
            let ledgers = names.map(|(n, ledger)| LedgerRead { name: format!("ledger {n}"), ..ledger }).collect();
            let mut terms = terms_of(protected.into_iter().map(id).collect(), selves.into_iter().map(pid).collect());
            if lists_orphans {
                terms.orphans = ["claude", "codex", "mcp"].map(str::to_owned).into();
                terms.deserted = (1..40).filter(|raw| raw % 3 == 0).map(id).collect();
            }
            (census, ledgers, terms)
        },
    )
}

fn terms_of(protected: BTreeSet<ProcId>, mut selves: BTreeSet<Pid>) -> Terms {
    selves.insert(pid(1));
    Terms { min_age: Duration::from_secs(120), protected, selves, ..Terms::default() }
}

fn all_of(census: &Census) -> &BTreeMap<Pid, HostProcess> {
    census.processes.known().unwrap()
}

fn is_reaped(tree: &&ForeignTree) -> bool {
    tree.verdict == ForeignVerdict::Reap
}

/// Whether a ledger can be the proof of anything.
fn is_sound(ledger: &LedgerRead) -> bool {
    ledger.as_of >= NOW && ledger.book.known().is_some_and(|book| book.unreadable.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_never_rules_hold((census, ledgers, terms) in some_world()) {
        let trees = attribute(&census, &Catalogue::built_in(), &ledgers, &terms);
        let mut seen = BTreeSet::new();
        for tree in &trees {
            prop_assert_eq!(tree.processes[0], tree.root);
            prop_assert!(!tree.evidence.is_empty());
            for process in &tree.processes {
                prop_assert!(seen.insert(*process), "{} is in two trees", process);
                prop_assert!(process.pid.get() != 1);
                prop_assert_eq!(all_of(&census)[&process.pid].user, tree.user);
                prop_assert!(!all_of(&census)[&process.pid].is_zombie());
            }
        }
        for tree in trees.iter().filter(is_reaped) {
            prop_assert!(census.user == 0 || tree.user == census.user);
            let root = &all_of(&census)[&tree.root.pid];
            prop_assert!(!root.has_terminal);
            prop_assert!(root.environment.known().is_some());
            prop_assert!(root.started_at.after(terms.min_age) <= NOW);
            for process in &tree.processes {
                prop_assert!(!terms.selves.contains(&process.pid));
                prop_assert!(!terms.protected.contains(process));
                let one = &all_of(&census)[&process.pid];
                let marks = one.environment.known();
                prop_assert!(marks.is_none_or(|marks| !marks.contains_key("TENURE_WORKLOAD")));
                prop_assert!(one.argv.first().is_none_or(|word| word != "stepwise"));
            }
        }
    }

    #[test]
    fn a_reap_needs_ledgers_that_are_known_and_owners_that_have_ended((census, ledgers, terms) in some_world()) {
        for tree in attribute(&census, &Catalogue::built_in(), &ledgers, &terms).iter().filter(is_reaped) {
            let root = &all_of(&census)[&tree.root.pid];
            if let Some(store) = root.environment.known().unwrap().get("STEPWISE_DB") {
                let named: Vec<_> = ledgers.iter().filter(|ledger| &ledger.path == store).collect();
                prop_assert!(!named.is_empty() && named.iter().all(|ledger| is_sound(ledger)));
            }
            if tree.cause == ForeignCause::Orphaned {
                prop_assert!(terms.orphans.contains(&tree.class) && terms.deserted.contains(&tree.root));
                prop_assert!(ledgers.iter().all(is_sound));
                continue;
            }
            prop_assert!(!tree.owners.is_empty());
            for owner in &tree.owners {
                prop_assert!(owner.state == "failed" || owner.state == "missing");
                prop_assert!(ledgers.iter().any(|ledger| ledger.name == owner.ledger && is_sound(ledger)
                    && ledger.user == Some(tree.user)));
            }
        }
    }

    #[test]
    fn a_pid_that_began_after_the_claim_ended_is_never_reaped_for_it((mut census, mut ledgers, terms) in some_world()) {
        // All claims end before any process begins, and no arguments name a job.
        if let Reading::Known(all) = &mut census.processes {
            for process in all.values_mut() {
                process.argv.retain(|word| !word.contains("/jobs/"));
                process.started_at = ago(500);
            }
        }
        for ledger in &mut ledgers {
            if let Reading::Known(book) = &mut ledger.book {
                book.claims.iter_mut().for_each(|claim| claim.until = Some(ago(503)));
            }
        }
        let terms = Terms { orphans: BTreeSet::new(), ..terms };
        let trees = attribute(&census, &Catalogue::built_in(), &ledgers, &terms);
        prop_assert_eq!(trees.iter().filter(is_reaped).count(), 0);
    }

    #[test]
    fn the_order_of_what_comes_in_changes_nothing((census, ledgers, terms) in some_world(), turn in 0..12_usize) {
        let catalogue = Catalogue::built_in();
        let first = attribute(&census, &catalogue, &ledgers, &terms);
        let mut turned = ledgers;
        turned.reverse();
        for ledger in &mut turned {
            if let Reading::Known(book) = &mut ledger.book && !book.claims.is_empty() {
                let by = turn % book.claims.len();
                book.claims.rotate_left(by);
            }
        }
        prop_assert_eq!(first, attribute(&census, &catalogue, &turned, &terms));
    }

    #[test]
    fn ledgers_that_are_all_unknown_end_nothing((census, mut ledgers, terms) in some_world()) {
        for ledger in &mut ledgers {
            ledger.book = Reading::Unknown("stalled".to_owned());
        }
        let trees = attribute(&census, &Catalogue::built_in(), &ledgers, &terms);
        let reaped = trees.iter().filter(is_reaped).count();
        prop_assert!(reaped == 0 || ledgers.is_empty());
    }
}

#[test]
fn the_worlds_are_not_all_kind() {
    // Otherwise the properties would hold of nothing.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut causes: BTreeMap<ForeignCause, usize> = BTreeMap::new();
    for _ in 0..600 {
        let (census, ledgers, terms) = some_world().new_tree(&mut runner).unwrap().current();
        for tree in attribute(&census, &Catalogue::built_in(), &ledgers, &terms) {
            *causes.entry(tree.cause).or_default() += 1;
        }
    }
    assert_eq!(causes.len(), 12, "{causes:?}");
    assert!(causes.values().all(|count| *count >= 3), "{causes:?}");
}
