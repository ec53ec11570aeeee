//! What belongs to a tree: what descends from its root, what has left it, and what never does.

use super::*;

const TOOL: &[&str] = &["/bin/bash", "/tmp/serve.sh"];

fn failed() -> Vec<LedgerRead> {
    vec![stepwise(vec![run("job-a", 100, Some(ago(300)))], &[("job-a", "failed")])]
}

/// A tool in a session of its own, which init or another has adopted.
fn escaped(raw: i32, parent: i32, session: &str) -> HostProcess {
    marked(with_store(process(raw, parent, TOOL)), &[("CLAUDE_CODE_SESSION_ID", session)])
}

#[test]
fn a_tree_is_its_wrappers_its_adapter_the_agent_and_all_their_children() {
    let tools = [process(110, 103, TOOL), process(111, 110, &["jq"]), process(112, 103, &["npx", "mcp-server-git"])];
    let trees = judged(&census(chain(100, 50, "job-a").into_iter().chain(tools)), &failed());
    assert_eq!(trees.len(), 1);
    assert_eq!(pids(&trees[0]), [100, 101, 102, 103, 110, 111, 112]);
    assert_eq!((trees[0].rss_bytes, trees[0].pss_bytes), (7000, Some(4200)));
    assert_eq!(trees[0].verdict, ForeignVerdict::Reap);
}

#[test]
fn a_tool_that_left_its_tree_is_found_by_the_session_whoever_adopted_it() {
    let manager = HostProcess { name: "systemd".to_owned(), ..process(60, 1, &["/lib/systemd/systemd", "--user"]) };
    for adopter in [1, 60] {
        let tools = [manager.clone(), escaped(120, adopter, "session-100"), process(121, 120, &["sleep", "9"])];
        let trees = judged(&census(chain(100, 50, "job-a").into_iter().chain(tools)), &failed());
        assert_eq!(trees.len(), 1);
        assert_eq!(pids(&trees[0]), [100, 101, 102, 103, 120, 121], "adopted by {adopter}");
    }
}

#[test]
fn what_is_not_the_trees_is_not_pulled_in() {
    let other_store = marked(escaped(120, 1, "session-100"), &[("STEPWISE_DB", "/srv/other/stepwise.db")]);
    let terminal = HostProcess { has_terminal: true, ..process(121, 120, &["bash"]) };
    let cases: Vec<(&str, Vec<HostProcess>)> = vec![
        ("another session", vec![escaped(120, 1, "session-other")]),
        ("another store", vec![other_store]),
        ("another user", vec![HostProcess { user: 1001, ..escaped(120, 1, "session-100") }]),
        ("a person in front of it", vec![escaped(120, 1, "session-100"), terminal]),
        ("a workload", vec![marked(escaped(120, 1, "session-100"), &[("TENURE_WORKLOAD", "i/w")])]),
        (
            "a server of jobs",
            vec![HostProcess { exe: None, argv: vec!["stepwise".to_owned()], ..escaped(120, 1, "session-100") }],
        ),
        (
            "a server of jobs, by its module",
            vec![HostProcess {
                exe: None,
                argv: ["python3", "-m", "uvicorn", "stepwise.server:app"].map(str::to_owned).into(),
                ..escaped(120, 1, "session-100")
            }],
        ),
        ("only the store", vec![with_store(process(120, 1, TOOL))]),
    ];
    for (what, more) in cases {
        let trees = judged(&census(chain(100, 50, "job-a").into_iter().chain(more)), &failed());
        assert_eq!(pids(tree_of(&trees, 100)), [100, 101, 102, 103], "{what}");
        let reaped = trees.iter().filter(|tree| tree.verdict == ForeignVerdict::Reap).count();
        assert_eq!(reaped, 1, "{what}");
    }
}

#[test]
fn a_server_that_an_agent_started_is_no_part_of_its_tree_nor_is_what_the_server_starts() {
    let session = ("CLAUDE_CODE_SESSION_ID", "session-100");
    let server = marked(process(120, 103, &["/usr/bin/python3", "/opt/bin/stepwise", "server"]), &[session]);
    let step = marked(process(121, 120, &["bash", "step.sh"]), &[session]);
    let next = chain(200, 120, "job-b").into_iter().map(|process| marked(process, &[session]));
    let claims = vec![run("job-a", 100, Some(ago(300))), run("job-b", 200, None)];
    let store = stepwise(claims, &[("job-a", "failed"), ("job-b", "running")]);
    let all = chain(100, 50, "job-a").into_iter().chain([server, step]).chain(next);
    let trees = judged(&census(all), &[store]);
    assert_eq!(pids(tree_of(&trees, 100)), [100, 101, 102, 103]);
    assert_eq!(tree_of(&trees, 200).cause, ForeignCause::OwnerActive);
    assert_eq!(trees.len(), 2);
}

#[test]
fn an_engine_that_nobody_knows_by_name_is_known_by_what_it_started() {
    let engine = process(120, 103, &["/opt/engine"]);
    let next = chain(200, 120, "job-b");
    let claims = vec![run("job-a", 100, Some(ago(300))), run("job-b", 200, None)];
    let store = stepwise(claims, &[("job-a", "failed"), ("job-b", "running")]);
    let trees = judged(&census(chain(100, 50, "job-a").into_iter().chain([engine]).chain(next)), &[store]);
    assert_eq!(pids(tree_of(&trees, 100)), [100, 101, 102, 103]);
    assert_eq!(pids(tree_of(&trees, 200)), [200, 201, 202, 203]);
}

#[test]
fn an_engine_whose_agents_have_no_record_yet_is_known_by_the_store_that_it_tells_them() {
    let session = ("CLAUDE_CODE_SESSION_ID", "session-100");
    // Below the tree, and left by it.
    for parent in [103, 1] {
        let engine = marked(process(120, parent, &["/opt/engine"]), &[session]);
        let next = chain(200, 120, "job-b").into_iter().map(|process| marked(process, &[session]));
        let store = stepwise(vec![run("job-a", 100, Some(ago(300)))], &[("job-a", "failed"), ("job-b", "running")]);
        let trees = judged(&census(chain(100, 50, "job-a").into_iter().chain([engine]).chain(next)), &[store]);
        assert_eq!(pids(tree_of(&trees, 100)), [100, 101, 102, 103], "child of {parent}");
        assert_eq!(tree_of(&trees, 200).cause, ForeignCause::OwnerActive);
    }
}

#[test]
fn a_nested_agent_is_part_of_the_tree_unless_it_has_an_owner_a_terminal_or_a_controller_of_its_own() {
    let nested =
        |process: HostProcess| chain(100, 50, "job-a").into_iter().chain([member(110, 103, 100, TOOL), process]);
    let plain = process(120, 110, &["claude", "-p", "x"]);
    let trees = judged(&census(nested(plain.clone())), &failed());
    assert_eq!(trees.len(), 1);
    let terminal = HostProcess { has_terminal: true, ..plain.clone() };
    let trees = judged(&census(nested(terminal)), &failed());
    assert_eq!(tree_of(&trees, 120).cause, ForeignCause::Interactive);
    let workload = marked(plain, &[("TENURE_WORKLOAD", "instance/uid")]);
    let trees = judged(&census(nested(workload)), &failed());
    assert_eq!(tree_of(&trees, 120).cause, ForeignCause::Tenure);
    assert_eq!(pids(tree_of(&trees, 100)), [100, 101, 102, 103, 110]);
}

#[test]
fn what_is_left_after_the_root_was_killed_is_known_by_the_group_that_it_left() {
    for adopter in [1, 60] {
        let manager = HostProcess { name: "systemd".to_owned(), ..process(60, 1, &["/lib/systemd/systemd", "--user"]) };
        let mut left = chain(100, 50, "job-a").split_off(2);
        left[0].parent = Some(pid(adopter));
        let trees = judged(&census(left.into_iter().chain([manager])), &failed());
        assert_eq!(trees.len(), 1);
        assert_eq!(pids(&trees[0]), [102, 103]);
        assert_eq!((trees[0].verdict, trees[0].cause), (ForeignVerdict::Reap, ForeignCause::OwnerTerminal));
    }
}

#[test]
fn a_zombie_root_is_dead_and_leaves_the_rest() {
    let mut all = chain(100, 50, "job-a");
    all[0].state = 'Z';
    all[1].parent = Some(pid(1));
    let trees = judged(&census(all), &failed());
    assert_eq!(pids(&trees[0]), [101, 102, 103]);
    assert_eq!(trees[0].verdict, ForeignVerdict::Reap);
}

#[test]
fn a_tool_is_reaped_by_its_session_when_nothing_else_of_its_tree_is_left() {
    let trees = judged(&census([escaped(120, 1, "session-100"), process(121, 120, &["sleep", "9"])]), &failed());
    assert_eq!(pids(&trees[0]), [120, 121]);
    assert_eq!((trees[0].verdict, trees[0].cause), (ForeignVerdict::Reap, ForeignCause::OwnerTerminal));
    let running = stepwise(vec![run("job-a", 100, None)], &[("job-a", "running")]);
    let trees = judged(&census([escaped(120, 1, "session-100")]), &[running]);
    assert_eq!(trees[0].cause, ForeignCause::OwnerActive);
}

#[test]
fn what_a_ledger_is_asked_names_every_pid_group_session_and_job_of_the_trees() {
    let mut all = chain(100, 50, "job-a").split_off(2);
    all.extend([escaped(120, 1, "session-other"), process(130, 1, &["bash"])]);
    let asked = question(&census(all), &Catalogue::built_in());
    assert_eq!(asked.pids, [100, 102, 103].map(pid).into());
    assert_eq!(asked.sessions, ["session-100", "session-other"].map(str::to_owned).into());
    assert_eq!(asked.jobs, ["job-a".to_owned()].into());
}

#[test]
fn ten_thousand_processes_are_no_burden() {
    let chains = (0..1000).flat_map(|n| chain(1000 + n * 10, 50, "job-a"));
    let others = (0..6000).map(|n| process(20_000 + n, 1, &["/usr/bin/bash", "-c", "sleep 5 && make test"]));
    let census = census(chains.chain(others));
    let runs = (0..1000).map(|n| run("job-a", 1000 + n * 10, None)).collect();
    let began = std::time::Instant::elapsed;
    let clock = began_now();
    let trees = judged(&census, &[stepwise(runs, &[("job-a", "running")])]);
    let took = began(&clock);
    assert_eq!(trees.len(), 1000);
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn began_now() -> std::time::Instant {
    std::time::Instant::now()
}
