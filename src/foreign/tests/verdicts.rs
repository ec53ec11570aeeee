//! Whose a tree is, and what proof ends it: each rule, and each doubt.

use super::*;

/// The verdict, cause, and evidence on the chain with the root 100.
fn verdict(census: &Census, ledgers: &[LedgerRead], terms: &Terms) -> (ForeignVerdict, ForeignCause, String) {
    let trees = attribute(census, &Catalogue::built_in(), ledgers, terms);
    let tree = tree_of(&trees, 100);
    (tree.verdict, tree.cause, tree.evidence.clone())
}

fn host() -> Census {
    census(chain(100, 50, "job-a"))
}

/// The same, with the root changed, and the others as old as it.
fn host_with(change: impl Fn(&mut HostProcess)) -> Census {
    let mut all = chain(100, 50, "job-a");
    change(&mut all[0]);
    let started_at = all[0].started_at;
    census(all.into_iter().map(|process| HostProcess { started_at, ..process }))
}

fn ended() -> Claim {
    run("job-a", 100, Some(ago(300)))
}

fn failed(claims: Vec<Claim>) -> LedgerRead {
    stepwise(claims, &[("job-a", "failed")])
}

fn with(change: impl Fn(&mut LedgerRead)) -> Vec<LedgerRead> {
    let mut ledger = failed(vec![ended()]);
    change(&mut ledger);
    vec![ledger]
}

fn book(ledger: &mut LedgerRead) -> &mut LedgerBook {
    match &mut ledger.book {
        Reading::Known(book) => book,
        Reading::Unknown(why) => panic!("{why}"),
    }
}

#[test]
fn every_rule_of_stepwise_has_its_verdict() {
    use ForeignCause as Cause;
    use ForeignVerdict::{Keep, Reap, Unknown};
    let cases: Vec<(&str, Census, Vec<LedgerRead>, ForeignVerdict, Cause)> = vec![
        ("its job failed", host(), with(|_| {}), Reap, Cause::OwnerTerminal),
        ("its job runs", host(), vec![stepwise(vec![ended()], &[("job-a", "running")])], Keep, Cause::OwnerActive),
        ("its job is paused", host(), vec![stepwise(vec![ended()], &[("job-a", "paused")])], Keep, Cause::OwnerActive),
        ("its job was deleted, the run stayed", host(), vec![stepwise(vec![ended()], &[])], Reap, Cause::OwnerMissing),
        ("all rows are gone", host(), vec![stepwise(vec![], &[])], Reap, Cause::OwnerMissing),
        ("no run, but its arguments name a failed job", host(), vec![failed(vec![])], Reap, Cause::OwnerTerminal),
        (
            "no run, but its arguments name a running job",
            host(),
            vec![stepwise(vec![], &[("job-a", "running")])],
            Keep,
            Cause::OwnerActive,
        ),
        (
            "a run in flight under a failed job",
            host(),
            vec![failed(vec![run("job-a", 100, None)])],
            Reap,
            Cause::OwnerTerminal,
        ),
        (
            "two jobs share it, one runs",
            host(),
            vec![stepwise(vec![ended(), run("job-b", 100, None)], &[("job-a", "failed"), ("job-b", "running")])],
            Keep,
            Cause::OwnerActive,
        ),
        (
            "two jobs shared it",
            host(),
            vec![stepwise(vec![ended(), run("job-b", 100, None)], &[("job-a", "failed"), ("job-b", "completed")])],
            Reap,
            Cause::OwnerTerminal,
        ),
        (
            "two jobs share it, one can not be understood",
            host(),
            vec![stepwise(vec![ended(), run("job-b", 100, None)], &[("job-a", "failed"), ("job-b", "?")])],
            Unknown,
            Cause::LedgerUnknown,
        ),
        (
            "the store is locked",
            host(),
            with(|l| l.book = Reading::Unknown("locked".to_owned())),
            Unknown,
            Cause::LedgerUnknown,
        ),
        ("the store was not read", host(), vec![], Unknown, Cause::LedgerUnknown),
        ("another store was read", host(), with(|l| l.path = "/other.db".to_owned()), Keep, Cause::Disagreement),
        (
            "the store is known by another name",
            host(),
            with(|l| {
                l.aliases.insert(std::mem::replace(&mut l.path, "/real.db".to_owned()));
            }),
            Reap,
            Cause::OwnerTerminal,
        ),
        (
            "an entry can not be understood",
            host(),
            with(|l| book(l).unreadable.push("run 7 is no JSON".to_owned())),
            Unknown,
            Cause::LedgerUnknown,
        ),
        ("the store was read before the census", host(), with(|l| l.as_of = ago(1)), Unknown, Cause::LedgerUnknown),
        ("the store is another user's", host(), with(|l| l.user = Some(1001)), Keep, Cause::Disagreement),
        ("the store's user is not known", host(), with(|l| l.user = None), Keep, Cause::Disagreement),
        (
            "a run that ends in the future",
            host(),
            vec![failed(vec![run("job-a", 100, Some(Time(NOW.0 + 60_000)))])],
            Keep,
            Cause::Disagreement,
        ),
        ("it leads no group", host_with(|p| p.group = Some(pid(50))), with(|_| {}), Keep, Cause::Disagreement),
        (
            "the recorded group is another",
            host(),
            vec![failed(vec![Claim { group: Some(pid(50)), ..ended() }])],
            Keep,
            Cause::Disagreement,
        ),
        (
            "its environment names no store",
            host_with(|p| p.environment = Reading::Known(BTreeMap::new())),
            with(|_| {}),
            Keep,
            Cause::Disagreement,
        ),
        (
            "its environment can not be read",
            host_with(|p| p.environment = Reading::Unknown("denied".to_owned())),
            with(|_| {}),
            Unknown,
            Cause::LedgerUnknown,
        ),
        ("it has a terminal", host_with(|p| p.has_terminal = true), with(|_| {}), Keep, Cause::Interactive),
        (
            "it starts in the future",
            host_with(|p| p.started_at = Time(NOW.0 + 9000)),
            vec![failed(vec![run("job-a", 100, None)])],
            Keep,
            Cause::Disagreement,
        ),
    ];
    for (what, census, ledgers, verdict_, cause) in cases {
        let (found, why, evidence) = verdict(&census, &ledgers, &terms());
        assert_eq!((found, why), (verdict_, cause), "{what}: {evidence}");
        assert!(!evidence.is_empty());
    }
}

#[test]
fn the_evidence_can_be_checked_by_a_person() {
    let says = |ledgers: &[LedgerRead]| verdict(&host(), ledgers, &terms()).2;
    assert_eq!(
        says(&with(|_| {})),
        "job-a is failed (stepwise /srv/shop/.stepwise/stepwise.db), its run ended 5m ago; claude 100 still holds 4 processes"
    );
    assert_eq!(
        says(&[stepwise(vec![], &[])]),
        "job-a is missing (stepwise /srv/shop/.stepwise/stepwise.db), by its --allowedPaths; claude 100 still holds 4 processes"
    );
    assert_eq!(
        says(&with(|l| l.book = Reading::Unknown("locked for 2s".to_owned()))),
        "stepwise /srv/shop/.stepwise/stepwise.db could not be read: locked for 2s"
    );
    let young = verdict(&host_with(|p| p.started_at = ago(90)), &[failed(vec![run("job-a", 100, None)])], &terms());
    assert_eq!(
        young.2,
        "job-a is failed (stepwise /srv/shop/.stepwise/stepwise.db); claude 100 still holds 4 processes; but it is 1m 30s old, and 2m is asked"
    );
}

#[test]
fn a_pid_that_is_used_again_is_nobodys_but_its_own() {
    // An editor's adapter, with the pid that a failed job had recorded.
    let editor = process(100, 1, &["node", "/opt/node_modules/@agentclientprotocol/claude-agent-acp/dist/index.js"]);
    let ledgers = [failed(vec![run("job-a", 100, Some(ago(700)))])];
    let (found, cause, evidence) = verdict(&census([editor.clone()]), &ledgers, &terms());
    assert_eq!((found, cause), (ForeignVerdict::Keep, ForeignCause::Disagreement), "{evidence}");
    // The same, with the store in its environment: nothing in its arguments names a job.
    let (found, cause, _) = verdict(&census([with_store(editor)]), &ledgers, &terms());
    assert_eq!((found, cause), (ForeignVerdict::Keep, ForeignCause::Disagreement));
    // Another job's adapter: that job counts, not the one that had the pid before.
    let claims = vec![run("job-z", 100, Some(ago(700))), run("job-a", 100, None)];
    let ledgers = [stepwise(claims, &[("job-z", "failed"), ("job-a", "running")])];
    assert_eq!(verdict(&host(), &ledgers, &terms()).1, ForeignCause::OwnerActive);
}

#[test]
fn a_run_of_stepwises_begins_before_its_adapter_or_uses_an_older_one() {
    // Nothing in its arguments names a job: the record alone decides.
    let bare = || {
        let script = "/srv/shop/node_modules/.bin/claude-agent-acp";
        census([with_store(process(100, 50, &["node", script]))])
    };
    for (what, began, expected) in [
        ("used again by a run that began later", 400, ForeignCause::OwnerTerminal),
        ("spawned 29 s after the run began", 629, ForeignCause::OwnerTerminal),
        ("a pid that was used again, of a run that never ended", 900, ForeignCause::Disagreement),
    ] {
        let claim = Claim { started_at: Some(ago(began)), ..run("job-a", 100, None) };
        let (_, cause, evidence) = verdict(&bare(), &[failed(vec![claim.clone()])], &terms());
        assert_eq!(cause, expected, "{what}: {evidence}");
        let (_, cause, evidence) = verdict(&bare(), &[stepwise(vec![claim], &[("job-a", "running")])], &terms());
        assert_ne!(cause, ForeignCause::OwnerTerminal, "{what}: {evidence}");
    }
}

#[test]
fn a_group_that_somebody_else_left_later_is_not_the_recorded_one() {
    // Its leader has gone. Of a record without an end, only the time says whose leader that was.
    let left = || census([member(100, 1, 99, &["node", "/opt/bin/claude-agent-acp"])]);
    let read = |started: u64, until: Option<Time>| {
        let claim = Claim { started_at: Some(ago(started)), until, ..run("j", 99, None) };
        [ledger(LedgerType::Files, "/srv/jobs", vec![claim], &[("j", "failed")])]
    };
    assert_eq!(verdict(&left(), &read(605, None), &terms()).1, ForeignCause::OwnerTerminal);
    assert_eq!(verdict(&left(), &read(5000, None), &terms()).1, ForeignCause::Disagreement);
    assert_eq!(verdict(&left(), &read(5000, Some(ago(300))), &terms()).1, ForeignCause::OwnerTerminal);
    assert_eq!(verdict(&left(), &read(5000, Some(ago(4000))), &terms()).1, ForeignCause::Disagreement);
}

#[test]
fn a_clock_that_was_set_ends_no_tree_of_a_job_that_goes_on() {
    // The adapter seems to be younger than the runs of both jobs, of which one waits with its runs completed.
    let claims = vec![run("job-a", 100, Some(ago(4000))), run("job-b", 100, Some(ago(4000)))];
    let read = |word| [stepwise(claims.clone(), &[("job-a", "failed"), ("job-b", word)])];
    let (found, cause, evidence) = verdict(&host(), &read("running"), &terms());
    assert_eq!((found, cause), (ForeignVerdict::Keep, ForeignCause::Disagreement), "{evidence}");
    assert_eq!(verdict(&host(), &read("?"), &terms()).1, ForeignCause::Disagreement);
    assert_eq!(verdict(&host(), &read("completed"), &terms()).0, ForeignVerdict::Reap);
}

#[test]
fn a_record_of_a_guest_or_of_process_1_is_no_claim() {
    let editor = process(100, 1, &["node", "/opt/bin/claude-agent-acp"]);
    let guest = Claim { in_guest: true, ..run("job-a", 100, None) };
    let init = Claim { pid: Some(pid(1)), group: Some(pid(1)), ..run("job-a", 100, None) };
    let trees = judged(&census([with_store(editor)]), &[failed(vec![guest, init])]);
    assert_eq!(trees.len(), 1);
    assert!(trees[0].owners.is_empty());
    assert_eq!(trees[0].verdict, ForeignVerdict::Keep);
}

#[test]
fn what_is_in_the_group_of_the_server_is_never_judged_by_the_group() {
    let llm: Vec<HostProcess> = chain(100, 50, "x")
        .into_iter()
        .map(|p| HostProcess { group: Some(pid(50)), session: Some(pid(50)), ..p })
        .collect();
    let of_server = Claim { pid: Some(pid(50)), group: Some(pid(50)), ..run("job-a", 100, Some(ago(10))) };
    let ledgers = [failed(vec![of_server])];
    assert_eq!(verdict(&census(llm.clone()), &ledgers, &terms()).0, ForeignVerdict::Keep);
    // Left behind, with the server alive.
    let mut left = llm.clone().split_off(2);
    left[0].parent = Some(pid(1));
    let trees = judged(&census(left), &ledgers);
    assert_eq!(trees[0].verdict, ForeignVerdict::Keep, "{}", trees[0].evidence);
}

#[test]
fn a_tree_is_not_judged_before_its_time() {
    let ledgers = [failed(vec![run("job-a", 100, None)])];
    let none = Terms { min_age: Duration::ZERO, ..terms() };
    for (age, terms, cause, again) in [
        (119, terms(), ForeignCause::TooYoung, Some(Time(NOW.0 + 1000))),
        (120, terms(), ForeignCause::OwnerTerminal, None),
        (59, none.clone(), ForeignCause::TooYoung, Some(Time(NOW.0 + 1000))),
        (60, none, ForeignCause::OwnerTerminal, None),
    ] {
        let census = host_with(|root| root.started_at = ago(age));
        let trees = attribute(&census, &Catalogue::built_in(), &ledgers, &terms);
        let tree = tree_of(&trees, 100);
        assert_eq!((tree.cause, tree.again_at), (cause, again), "{age} s");
    }
}

#[test]
fn nobody_elses_nor_a_protected_nor_our_own_tree_is_ended() {
    let ledgers = with(|_| {});
    let bounded = |terms: Terms| verdict(&host(), &ledgers, &terms).1;
    let guarded = BTreeSet::from([ProcId { pid: pid(103), start: StartTime(1030) }]);
    assert_eq!(bounded(Terms { protected: guarded, ..terms() }), ForeignCause::Protected);
    assert_eq!(bounded(Terms { selves: BTreeSet::from([pid(103)]), ..terms() }), ForeignCause::Protected);
    let mut other = host();
    other.user = 1001;
    assert_eq!(verdict(&other, &ledgers, &terms()).1, ForeignCause::OtherUser);
    other.user = 0;
    assert_eq!(verdict(&other, &ledgers, &terms()).0, ForeignVerdict::Reap);
    let workload = host_with(|root| {
        root.environment = Reading::Known(BTreeMap::from([("TENURE_WORKLOAD".to_owned(), "i/w".to_owned())]));
    });
    assert_eq!(verdict(&workload, &ledgers, &terms()).1, ForeignCause::Tenure);
}

/// An adapter that acpx started, and its record.
fn acpx(change: impl Fn(&mut Claim)) -> (ForeignVerdict, ForeignCause, String) {
    let adapter = process(100, 1, &["npm exec @agentclientprotocol/claude-agent-acp"]);
    let mut claim = Claim {
        job: "r1".to_owned(),
        pid: Some(pid(100)),
        start: Some((BootId::from("boot"), StartTime(1000))),
        command: Some("npx -y @agentclientprotocol/claude-agent-acp@^0.49".to_owned()),
        ..Claim::default()
    };
    change(&mut claim);
    let ledger = ledger(LedgerType::Acpx, "/home/u/.acpx", vec![claim], &[("r1", "closed")]);
    verdict(&census([adapter]), &[ledger], &terms())
}

#[test]
fn an_identity_decides_over_a_pid() {
    assert_eq!(acpx(|_| {}).0, ForeignVerdict::Reap);
    let kept = |change: fn(&mut Claim)| {
        let (found, cause, evidence) = acpx(change);
        assert_eq!((found, cause), (ForeignVerdict::Keep, ForeignCause::Disagreement), "{evidence}");
    };
    kept(|claim| claim.start = Some((BootId::from("boot"), StartTime(1001))));
    kept(|claim| claim.start = Some((BootId::from("before"), StartTime(1000))));
    kept(|claim| claim.start = None);
    kept(|claim| claim.command = Some("npx -y @agentclientprotocol/codex-acp".to_owned()));
    kept(|claim| claim.command = Some("vim claude-agent-acp".to_owned()));
    kept(|claim| claim.group = Some(pid(99)));
    kept(|claim| (claim.start, claim.started_at) = (None, Some(ago(597))));
    kept(|claim| (claim.start, claim.started_at) = (None, Some(ago(603))));
    assert_eq!(acpx(|claim| (claim.start, claim.started_at) = (None, Some(ago(602)))).0, ForeignVerdict::Reap);
    assert_eq!(acpx(|claim| (claim.start, claim.started_at) = (None, Some(ago(598)))).0, ForeignVerdict::Reap);
}

/// As `acpx sessions close` leaves an adapter that it did not find: the record has no pid any more.
fn closed_around(change: impl Fn(&mut Claim), word: &str) -> (ForeignVerdict, ForeignCause, String) {
    let claude = "/opt/acp/node_modules/@anthropic-ai/claude-agent-sdk-linux-x64/claude";
    let root =
        HostProcess { session: Some(pid(99)), group: Some(pid(99)), ..process(100, 1, &["npm exec claude-agent-acp"]) };
    let processes = [
        root,
        member(101, 100, 99, &["node", "/opt/acp/node_modules/.bin/claude-agent-acp"]),
        member(102, 101, 99, &[claude, "--output-format", "stream-json", "--resume=s1"]),
    ];
    let mut claim = Claim {
        job: "r1".to_owned(),
        session: Some("s1".to_owned()),
        started_at: Some(ago(599)),
        until: Some(ago(10)),
        command: Some("npm exec --offline --prefix /opt/acp -- claude-agent-acp".to_owned()),
        ..Claim::default()
    };
    change(&mut claim);
    let ledger = ledger(LedgerType::Acpx, "/home/u/.acpx", vec![claim], &[("r1", word)]);
    verdict(&census(processes), &[ledger], &terms())
}

#[test]
fn a_record_without_a_pid_owns_the_adapter_that_has_its_start_its_command_and_its_session() {
    let (found, cause, evidence) = closed_around(|_| {}, "closed");
    assert_eq!((found, cause), (ForeignVerdict::Reap, ForeignCause::OwnerTerminal), "{evidence}");
    assert_eq!(
        evidence,
        "r1 is closed (acpx /home/u/.acpx), by its start and the session that its agent was told, its run ended 10s ago; \
         claude 100 still holds 3 processes"
    );
    assert_eq!(closed_around(|_| {}, "open").1, ForeignCause::OwnerActive);
    assert_eq!(closed_around(|_| {}, "?").0, ForeignVerdict::Unknown);
    let unknown = |change: fn(&mut Claim)| {
        let (found, cause, evidence) = closed_around(change, "closed");
        assert_eq!((found, cause), (ForeignVerdict::Keep, ForeignCause::Orphaned), "{evidence}");
    };
    unknown(|claim| claim.started_at = Some(ago(597)));
    unknown(|claim| claim.started_at = Some(ago(603)));
    unknown(|claim| claim.started_at = None);
    unknown(|claim| claim.session = Some("s2".to_owned()));
    unknown(|claim| claim.command = Some("npx @agentclientprotocol/codex-acp".to_owned()));
    // The session has another adapter now.
    unknown(|claim| claim.pid = Some(pid(300)));
}

#[test]
fn an_adapter_that_was_told_a_further_session_is_of_more_than_the_one_that_was_closed() {
    let adapter = process(100, 1, &["node", "/opt/acp/node_modules/.bin/claude-agent-acp"]);
    let told = |raw: i32, session: &str| member(raw, 100, 100, &["claude", "--session-id", session]);
    let claim = |job: &str, session: &str| Claim {
        job: job.to_owned(),
        session: Some(session.to_owned()),
        started_at: Some(ago(600)),
        ..Claim::default()
    };
    let census = census([adapter, told(101, "s1"), told(102, "s2")]);
    let said = |claims: Vec<Claim>| {
        let ledger = ledger(LedgerType::Acpx, "/home/u/.acpx", claims, &[("r1", "closed"), ("r2", "closed")]);
        verdict(&census, &[ledger], &terms()).0
    };
    assert_eq!(said(vec![claim("r1", "s1")]), ForeignVerdict::Keep);
    assert_eq!(said(vec![claim("r1", "s1"), claim("r2", "s2")]), ForeignVerdict::Reap);
}

#[test]
fn a_queue_owner_and_its_adapter_are_one_tree_until_they_have_owners_of_their_own() {
    let owner = process(90, 1, &["node", "/x/node_modules/acpx/dist/cli.js", "__queue-owner"]);
    let adapter = member(100, 90, 90, &["npm exec @agentclientprotocol/claude-agent-acp"]);
    let census = census([owner, adapter]);
    let record = |job: &str, raw: i32| Claim {
        job: job.to_owned(),
        pid: Some(pid(raw)),
        started_at: Some(ago(600)),
        ..Claim::default()
    };
    let read = |claims, jobs: &[(&str, &str)]| [ledger(LedgerType::Acpx, "/home/u/.acpx", claims, jobs)];
    let trees = judged(&census, &read(vec![record("r1", 90), record("r1", 100)], &[("r1", "closed")]));
    assert_eq!(pids(&trees[0]), [90, 100]);
    let trees = judged(&census, &read(vec![record("r1", 100)], &[("r1", "closed")]));
    assert_eq!(tree_of(&trees, 100).verdict, ForeignVerdict::Reap);
    assert_eq!(tree_of(&trees, 90).verdict, ForeignVerdict::Keep);
}

#[test]
fn an_orphan_needs_a_listed_class_a_lost_parent_no_terminal_no_client_and_ledgers_that_are_known() {
    let manager = HostProcess { name: "systemd".to_owned(), ..process(60, 1, &["/lib/systemd/systemd", "--user"]) };
    let adapter = |parent| process(100, parent, &["node", "/opt/bin/claude-agent-acp"]);
    let listed = Terms {
        orphans: BTreeSet::from(["claude".to_owned()]),
        deserted: BTreeSet::from([ProcId { pid: pid(100), start: StartTime(1000) }]),
        ..terms()
    };
    let said = |one: HostProcess, ledgers: &[LedgerRead], terms: &Terms| {
        let (found, cause, _) = verdict(&census([manager.clone(), one]), ledgers, terms);
        (found, cause)
    };
    for parent in [1, 60] {
        assert_eq!(said(adapter(parent), &[], &listed), (ForeignVerdict::Reap, ForeignCause::Orphaned));
        assert_eq!(said(adapter(parent), &[], &terms()), (ForeignVerdict::Keep, ForeignCause::Orphaned));
        let busy = Terms { deserted: BTreeSet::new(), ..listed.clone() };
        assert_eq!(said(adapter(parent), &[], &busy), (ForeignVerdict::Keep, ForeignCause::Orphaned));
        let catalogue = Catalogue::built_in();
        let strays = strays(&census([manager.clone(), adapter(parent)]), &catalogue, &busy);
        assert_eq!(strays.len(), 1);
    }
    assert_eq!(said(adapter(50), &[], &listed), (ForeignVerdict::Keep, ForeignCause::Unowned));
    // In a session whose leader is gone, under one of another session: nobody but a subreaper can be its parent.
    let adopted = HostProcess { session: Some(pid(99)), group: Some(pid(99)), ..adapter(50) };
    assert_eq!(said(adopted, &[], &listed).0, ForeignVerdict::Reap);
    let terminal = HostProcess { has_terminal: true, ..adapter(1) };
    assert_eq!(said(terminal, &[], &listed).1, ForeignCause::Interactive);
    let service = marked(adapter(1), &[("SYSTEMD_EXEC_PID", "100")]);
    assert_eq!(said(service, &[], &listed), (ForeignVerdict::Keep, ForeignCause::Unowned));
    let mut locked = ledger(LedgerType::Files, "/srv/jobs", vec![], &[]);
    locked.book = Reading::Unknown("stalled".to_owned());
    assert_eq!(said(adapter(1), &[locked], &listed).0, ForeignVerdict::Unknown);
    let young = HostProcess { started_at: ago(100), ..adapter(1) };
    assert_eq!(said(young, &[], &listed).1, ForeignCause::TooYoung);
}
