//! What others left: `tenure scan` says of each tree whose it is, and `tenure reap` ends those that nobody needs, and only
//! those.
//!
//! The host is full of other tests' agents, and perhaps of a person's: each test judges, and ends, its own trees only.

pub mod host;

use crate::support::{PATIENCE, wait_for};
use host::{Host, Tree};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// From its start on, Stepwise may take so long to write down an adapter: no tree of its is judged before.
const STEPWISE_WRITES_WITHIN: Duration = Duration::from_secs(60);

fn item_of<'v>(items: &'v [Value], tree: &Tree) -> Option<&'v Value> {
    items.iter().find(|item| item["pid"] == tree.root.pid)
}

/// Five kinds of trees, two of each leaked and two needed; and what only looks like an agent, or is a person's.
pub fn twenty_trees(mut host: Host) -> Host {
    let stepwise = host.of_stepwise();
    let (adapter, stubborn) =
        (host.path("node_modules/.bin/claude-agent-acp"), host.path("node_modules/.bin/stubborn/claude-agent-acp"));
    let (codex, gemini, opencode, claude) = (
        host.path("node_modules/.bin/codex-acp"),
        host.path("bin/gemini"),
        host.path("bin/opencode"),
        host.path("bin/claude"),
    );
    // An adapter that Stepwise recorded. One shares its session with a job that goes on.
    for (name, script, count, jobs) in [
        ("recorded by a job that failed", &adapter, 3, &[("job-00000001", "failed")][..]),
        ("stubborn, of a completed job", &stubborn, 2, &[("job-00000002", "completed")]),
        ("of a running job", &adapter, 3, &[("job-00000003", "running")]),
        ("shared with a paused job", &adapter, 3, &[("job-00000004", "completed"), ("job-00000005", "paused")]),
    ] {
        let leaked = jobs.iter().all(|(_, status)| ["failed", "completed"].contains(status));
        let root = host.start(name, leaked, &["sh", script], &stepwise, count);
        for (job, status) in jobs {
            host.job(job, status);
            host.run(job, Some(&root), &format!("session-of-{job}"));
        }
    }
    // One that was never recorded, and whose arguments name its job.
    for (name, job, status) in [
        ("by arguments, of a deleted job", "job-00000011", None),
        ("by arguments, of a cancelled job", "job-00000012", Some("cancelled")),
        ("by arguments, of a running job", "job-00000013", Some("running")),
        ("by arguments, of a pending job", "job-00000014", Some("pending")),
    ] {
        let leaked = matches!(status, None | Some("cancelled"));
        let allowed = format!("{}/{job}/work", host.path("project/.stepwise/jobs"));
        host.start(
            name,
            leaked,
            &["sh", &claude, "--output-format", "stream-json", "--allowedPaths", &allowed],
            &stepwise,
            2,
        );
        if let Some(status) = status {
            host.job(job, status);
        }
    }
    // One of a program that keeps a file for each job.
    for (name, job, state) in [
        ("in a file, done", "file-1", "done"),
        ("in a file, failed", "file-2", "failed"),
        ("in a file, running", "file-3", "running"),
        ("in a file, queued", "file-4", "queued"),
    ] {
        let root = host.start(name, ["done", "failed"].contains(&state), &["sh", &codex], &[], 2);
        host.file_job(job, state, &root);
    }
    // One of acpx's.
    for (name, session, closed) in [
        ("acpx, closed", "s1", true),
        ("acpx, closed too", "s2", true),
        ("acpx, open", "s3", false),
        ("acpx, open too", "s4", false),
    ] {
        let root = host.start(name, closed, &["sh", &gemini, "--acp"], &[], 2);
        host.acpx_session(session, closed, &root);
    }
    // Another agent, started by hand in another manner.
    for (name, job, state) in [
        ("opencode, done", "file-5", "succeeded"),
        ("opencode, cancelled", "file-6", "cancelled"),
        ("opencode, running", "file-7", "running"),
        ("opencode, that no ledger knows", "", ""),
    ] {
        let root = host.start(name, ["succeeded", "cancelled"].contains(&state), &["sh", &opencode, "acp"], &[], 2);
        if !job.is_empty() {
            host.file_job(job, state, &root);
        }
    }
    host
}

/// The words of a verdict that a scan has to give.
fn expected(tree: &Tree) -> &'static str {
    if tree.leaked { "Reap" } else { "Keep" }
}

#[test]
fn ten_leaked_and_ten_healthy_trees_of_five_kinds_are_told_apart_and_exactly_the_leaked_ones_are_reaped() {
    let mut host = twenty_trees(Host::new());
    let begun = Instant::now();
    assert_eq!((host.trees.len(), host.trees.iter().filter(|tree| tree.leaked).count()), (20, 10));

    // What is none of our business, whatever it looks like.
    let log = host.path("claude-agent-acp.log");
    std::fs::write(&log, "").unwrap();
    let claude = host.path("bin/claude");
    host.start("tail of its log", false, &["tail", "-f", &log], &[], 1);
    host.start("a script about it", false, &["sh", "-c", "sleep 1101; : claude-agent-acp"], &[], 1);
    let pty = format!("sh {claude}");
    host.start("a person's own", false, &["script", "-qec", &pty, "/dev/null"], &[], 3);
    let looks_like: BTreeSet<i32> =
        host.trees[20..22].iter().flat_map(|tree| &tree.processes).map(|it| it.pid).collect();
    // A pid that was used again: the record is about another process, which ended long ago.
    let goose = host.path("bin/goose");
    let innocent = host.start("with the pid of another", false, &["sh", &goose, "acp"], &[], 2);
    let before = crate::support::procs::Process { start: innocent.start.saturating_sub(100_000), ..innocent };
    host.file_job("file-8", "done", &before);

    // Those of Stepwise's are young for a minute.
    let items = wait_for_all(&host, begun);
    for tree in &host.trees[..20] {
        let item = item_of(&items, tree).unwrap_or_else(|| panic!("{} is not listed", tree.name));
        assert_eq!(item["verdict"], expected(tree), "{}: {item:#}", tree.name);
        let pids: Vec<i64> = item["pids"].as_array().unwrap().iter().filter_map(Value::as_i64).collect();
        let members: Vec<i64> = tree.processes.iter().map(|process| i64::from(process.pid)).collect();
        assert_eq!(pids.iter().collect::<BTreeSet<_>>(), members.iter().collect(), "{}", tree.name);
        assert!(
            item["rssBytes"].as_u64() >= item["pssBytes"].as_u64() && item["pssBytes"].as_u64() > Some(0),
            "{item:#}"
        );
        assert!(!item["evidence"].as_str().unwrap().is_empty() && item["startTime"].is_string(), "{item:#}");
    }
    assert!(items.iter().all(|item| !looks_like.contains(&i32::try_from(item["pid"].as_i64().unwrap()).unwrap())));
    let of = |name: &str| item_of(&items, host.trees.iter().find(|tree| tree.name == name).unwrap()).unwrap();
    for (name, class, cause, owners) in [
        ("recorded by a job that failed", "claude", "OwnerTerminal", 1),
        ("of a running job", "claude", "OwnerActive", 1),
        ("shared with a paused job", "claude", "OwnerActive", 2),
        ("by arguments, of a deleted job", "claude", "OwnerMissing", 1),
        ("in a file, done", "codex", "OwnerTerminal", 1),
        ("acpx, closed", "gemini", "OwnerTerminal", 1),
        ("opencode, that no ledger knows", "opencode", "Unowned", 0),
        ("with the pid of another", "goose", "Disagreement", 0),
    ] {
        let item = of(name);
        assert_eq!((&item["class"], &item["cause"]), (&class.into(), &cause.into()), "{name}: {item:#}");
        assert_eq!(item["owners"].as_array().unwrap().len(), owners, "{name}: {item:#}");
    }
    let persons = items.iter().find(|item| {
        item["pid"] != host.trees[22].root.pid
            && host.trees[22].processes.iter().any(|process| item["pid"] == process.pid)
    });
    assert_eq!(persons.unwrap()["cause"], "Interactive", "{persons:?}");

    reaps_exactly_the_leaked_ones(&host);
}

/// Waits until no tree of the twenty is too young.
#[track_caller]
fn wait_for_all(host: &Host, begun: Instant) -> Vec<Value> {
    loop {
        let items = host.scan(&[]);
        let young = |tree: &&Tree| item_of(&items, tree).is_none_or(|item| item["cause"] == "TooYoung");
        let Some(tree) = host.trees[..20].iter().find(young) else { return items };
        assert!(begun.elapsed() < STEPWISE_WRITES_WITHIN + PATIENCE, "{} is still young", tree.name);
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn reaps_exactly_the_leaked_ones(host: &Host) {
    let leaked: Vec<String> = host.trees.iter().filter(|tree| tree.leaked).map(Tree::pid).collect();
    let pids: Vec<&str> = leaked.iter().map(String::as_str).collect();
    let all_live = |host: &Host| host.trees.iter().flat_map(|tree| &tree.processes).all(|process| process.is_alive());

    // Nothing that asks, refuses, or only shows, ends anything.
    let shown = host.tenure(&[&["reap", "--dry-run"], &pids[..]].concat());
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("10 trees would be ended"), "{text}");
    let asks = host.tenure(&[&["reap"], &pids[..]].concat());
    assert_eq!(asks.status.code(), Some(2), "{}", String::from_utf8_lossy(&asks.stderr));
    let healthy = host.trees.iter().find(|tree| tree.name == "of a running job").unwrap();
    let refused = host.tenure(&["reap", "--yes", pids[0], &healthy.pid()]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && why.contains("is kept: "), "{why}");
    let protected = host.tenure(&["reap", "--yes", pids[0], "--protect", "claude-agent-acp$"]);
    assert_eq!(protected.status.code(), Some(1), "{}", String::from_utf8_lossy(&protected.stderr));
    assert!(all_live(host));

    let reaped = host.tenure(&[&["reap", "--yes"], &pids[..]].concat());
    let told = String::from_utf8_lossy(&reaped.stdout).into_owned();
    assert!(
        reaped.status.success() && told.contains("10 trees ended"),
        "{told}{}",
        String::from_utf8_lossy(&reaped.stderr)
    );
    for tree in &host.trees {
        for process in &tree.processes {
            assert_eq!(process.is_alive(), !tree.leaked, "{}: {process:?}\n{told}", tree.name);
        }
    }
    let again = host.tenure(&["reap", "--yes", pids[0]]);
    assert_eq!(again.status.code(), Some(3), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn an_orphan_is_reaped_only_if_its_class_is_listed_and_nobody_talks_to_it() {
    let mut host = Host::new();
    let (goose, opencode, fifo) = (host.path("bin/goose"), host.path("bin/opencode"), host.path("fifo"));
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let client = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let forgotten = host.start_orphan(&goose, ": |");
    let talks = host.start_orphan(&goose, &format!("<{fifo}"));
    let detached = host.start_orphan(&goose, "</dev/null");
    let unlisted = host.start_orphan(&opencode, ": |");
    let verdicts = |more: &[&str]| {
        let items = host.scan(more);
        let of = |pid: i32| items.iter().find(|item| item["pid"] == pid).map(|item| item["verdict"].clone());
        [&forgotten, &talks, &detached, &unlisted].map(|root| of(root.pid).unwrap_or_default())
    };
    assert_eq!(verdicts(&[]), ["Keep", "Keep", "Keep", "Keep"]);
    // A ledger of another test's that can not be read holds it back for as long.
    wait_for("the forgotten one to be condemned", || {
        let now = verdicts(&["--orphans", "goose"]);
        (now == ["Reap", "Keep", "Keep", "Keep"]).then_some(()).or_else(|| {
            assert_eq!(now[1..], ["Keep", "Keep", "Keep"].map(Value::from));
            None
        })
    });
    let unasked = host.tenure(&["reap", "--yes", &forgotten.pid.to_string()]);
    assert_eq!(unasked.status.code(), Some(1), "{}", String::from_utf8_lossy(&unasked.stderr));
    let reaped = host.tenure(&["reap", "--yes", "--orphans", "goose", &forgotten.pid.to_string()]);
    assert!(reaped.status.success(), "{}", String::from_utf8_lossy(&reaped.stderr));
    let live = [&forgotten, &talks, &detached, &unlisted].map(|root| root.is_alive());
    assert_eq!(live, [false, true, true, true]);
    drop(client);
}

#[test]
fn a_scan_leaves_no_trace_and_says_what_it_could_not_read() {
    let mut host = Host::new();
    let adapter = host.path("node_modules/.bin/claude-agent-acp");
    let stepwise = host.of_stepwise();
    let root = host.start("of a running job", false, &["sh", &adapter], &stepwise, 3);
    host.job("job-1", "running");
    host.run("job-1", Some(&root), "s");
    let before = host::listing(host.world.path());
    let table = host.tenure(&["scan", "-o", "wide"]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.status.success() && text.starts_with("PID  ") && text.contains("job-1:running"), "{text}");
    let forest = host.tenure(&["scan", "--tree"]);
    let text = String::from_utf8_lossy(&forest.stdout).into_owned();
    assert!(text.lines().any(|line| line.contains(&root.pid.to_string()) && line.ends_with(&root.command)), "{text}");
    let nowhere = format!("stepwise={}", host.path("nowhere.db"));
    let unread = host.tenure(&["scan", "--ledger", &nowhere]);
    let notes = String::from_utf8_lossy(&unread.stderr).into_owned();
    assert!(unread.status.success() && notes.contains("nowhere.db") && notes.contains("its trees are kept"), "{notes}");
    assert_eq!(host::listing(host.world.path()), before);
    assert!(!host.world.state().exists());
    for (args, why) in [
        (&["scan", "--ledger", "jira=/x"][..], "not a type of ledger"),
        (&["scan", "--protect", "("], "`protect` pattern"),
        (&["reap", "0"], "not a process id"),
    ] {
        let output = host.tenure(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(why), "{args:?}: {stderr}");
    }
}
