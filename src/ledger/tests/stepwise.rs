//! Stepwise's store.

use super::support::*;
use crate::ledger::Readers;
use crate::model::{Question, Time};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn frozen() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stepwise-host")
}

/// The store of the frozen host, where a root that may not trust our checkout can read it, too.
fn frozen_store() -> (tempfile::TempDir, PathBuf) {
    let (scratch, path) = scratch();
    fs::copy(frozen().join("stepwise.db"), path.join("stepwise.db")).unwrap();
    (scratch, path.join("stepwise.db"))
}

#[test]
fn the_frozen_host_has_the_owners_that_it_really_had() {
    let (_scratch, store) = frozen_store();
    let verdicts: Value = serde_json::from_slice(&fs::read(frozen().join("verdicts.json")).unwrap()).unwrap();
    let groups = verdicts["groups"].as_array().unwrap();
    let roots = |group: &Value| -> Vec<i32> {
        group["roots"].as_array().unwrap().iter().map(|pid| i32::try_from(pid.as_i64().unwrap()).unwrap()).collect()
    };
    let book = known(read(&stepwise(&store), &about(groups.iter().flat_map(roots))));
    assert_eq!(book.unreadable, Vec::<String>::new());
    let mut seen = 0;
    for group in groups {
        let scenario = group["scenario"].as_str().unwrap();
        let jobs = group["jobs"].as_array().unwrap();
        // What is another project's, or was started over the CLI, has no link in this store; nor has what was deleted.
        let has_link = !jobs.is_empty()
            && !scenario.contains("llm")
            && !scenario.starts_with("foreign")
            && !["keep-cli", "leak-deleted", "leak-deleted-live"].contains(&scenario);
        let expected: BTreeSet<String> = jobs
            .iter()
            .map(|job| (job["id"].as_str().unwrap(), job["status"].as_str().unwrap()))
            .map(|(id, status)| match status {
                "running" | "paused" => format!("{id}: active {status}"),
                _ => format!("{id}: terminal {status}"),
            })
            .collect();
        let mut found = BTreeSet::new();
        for root in roots(group) {
            let lives = lives(&book, root);
            assert_eq!(lives.is_empty(), !has_link && scenario != "keep-pid-reuse", "{scenario}: {root}: {lives:?}");
            found.extend(lives);
        }
        if has_link {
            seen += 1;
            assert!(found.is_subset(&expected), "{scenario}: {found:?}");
            // The parent of a `for_each` has no adapter of its own.
            let missing: BTreeSet<_> = expected.difference(&found).collect();
            assert!(missing.is_empty() || scenario == "leak-foreach", "{scenario}: {missing:?}");
        }
    }
    assert_eq!(seen, 18);
}

#[test]
fn a_claim_says_what_its_run_says() {
    let (_scratch, store) = frozen_store();
    let book = known(read(&stepwise(&store), &about([4536])));
    let ended: BTreeSet<bool> = book.claims.iter().map(|claim| claim.until.is_some()).collect();
    assert_eq!((book.claims.len(), ended), (2, [false, true].into()));
    let claim = &book.claims[0];
    assert_eq!((claim.group, claim.in_guest), (Some(pid(4536)), false));
    assert_eq!(claim.session.as_deref(), Some("13bc6943-36d4-4309-82f9-0407e7e13b5b"));
    assert_eq!(
        claim.started_at,
        "2026-11-23T09:31:21.423Z".parse::<jiff::Timestamp>().ok().map(|t| Time(t.as_millisecond()))
    );
    let question = Question {
        sessions: ["13bc6943-36d4-4309-82f9-0407e7e13b5b".to_owned()].into(),
        jobs: ["job-e5afd2d7".to_owned(), "job-b7e898f8".to_owned()].into(),
        ..Question::default()
    };
    let book = known(read(&stepwise(&store), &question));
    assert_eq!(book.claims, std::slice::from_ref(claim));
    assert_eq!(book.jobs.keys().collect::<Vec<_>>(), ["job-25ec1be1", "job-b7e898f8"]);
}

#[test]
fn a_store_is_read_beside_its_writer_who_notices_nothing() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    make(&store, &(job("a", "running") + &run("r1", "a", 500, true)));
    let mut readers = Readers::new();
    let mut look = |number: i32| lives(&known(readers.read(&stepwise(&store), &about([number]), NOW)), number);
    let mut writer = Writer::of(&store);
    // The first transaction of a new log; the connection stays.
    assert_eq!(writer.run("UPDATE jobs SET status = 'failed'"), "ok");
    assert_eq!(look(500), ["a: terminal failed".into()].into());
    assert_eq!(writer.run(&format!("BEGIN IMMEDIATE; {}", run("r2", "a", 501, false))), "ok");
    let before = listing(&dir);
    assert_eq!(look(501), BTreeSet::new());
    assert_eq!(writer.run("UPDATE jobs SET status = 'running'"), "ok");
    assert_eq!(look(500), ["a: terminal failed".into()].into());
    assert_eq!(listing(&dir), before, "we changed nothing");
    assert_eq!(writer.run("COMMIT"), "ok");
    assert_eq!(look(500), ["a: active running".into()].into());
    assert_eq!(look(501), ["a: active running".into()].into());
    // A log that only a dead program could tidy up.
    writer.kill();
    let before = listing(&dir);
    assert!(before.contains_key("stepwise.db-wal"), "{before:?}");
    assert_eq!(look(501), ["a: active running".into()].into());
    assert_eq!(listing(&dir), before, "we changed nothing, and tidied nothing up");
}

#[test]
fn a_busy_writer_never_meets_a_lock_of_ours() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    make(&store, &job("a", "running"));
    let mut writer = Writer::of(&store);
    assert_eq!(writer.run("PRAGMA wal_autocheckpoint = 5"), "ok");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut readers, mut looks) = (Readers::new(), 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // All runs there are have this pid, and none is ever seen without its job.
                if let Some(book) = readers.read(&stepwise(&store), &about([700]), NOW).book.known() {
                    assert!(book.claims.iter().all(|claim| book.jobs.contains_key(&claim.job)), "{book:?}");
                }
                looks += 1;
            }
            looks
        });
        for turn in 0..300 {
            let sql = format!(
                "BEGIN; {} {} COMMIT",
                job(&format!("j{turn}"), "failed"),
                run(&format!("r{turn}"), &format!("j{turn}"), 700, true)
            );
            assert_eq!(writer.run(&sql), "ok", "{turn}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reading.join().unwrap() > 0);
    });
    assert_eq!(known(read(&stepwise(&store), &about([700]))).claims.len(), 300);
    // It ends in order: the last to close tidies up.
    drop(writer);
    assert_eq!(listing(&dir).keys().collect::<Vec<_>>(), ["stepwise.db"]);
}

#[test]
fn a_store_that_was_closed_in_order_is_read_and_nothing_is_left_beside_it() {
    let (_scratch, dir) = scratch();
    let store = dir.join("a name with % and ?.db");
    make(&store, &(job("a", "failed") + &run("r1", "a", 500, true)));
    let before = listing(&dir);
    assert_eq!(lives(&known(read(&stepwise(&store), &about([500]))), 500), ["a: terminal failed".into()].into());
    assert_eq!(listing(&dir), before);
}

#[test]
fn what_can_not_be_read_is_unknown_and_says_why() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    let content = job("a", "failed") + &run("r1", "a", 500, true);
    make(&store, &content);
    let whole = fs::read(&store).unwrap();
    let at = |name: &str| dir.join(name);
    let because = |path: &Path| why(read(&stepwise(path), &about([500])));

    fs::write(at("truncated"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("garbage"), "no database at all ".repeat(500)).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::create_dir(at("directory")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    for (name, sql) in [
        ("newer", "PRAGMA user_version = 7"),
        ("renamed", "ALTER TABLE step_runs RENAME COLUMN executor_state TO state"),
        ("other", "DROP TABLE jobs"),
        ("view", "ALTER TABLE jobs RENAME TO j; CREATE VIEW jobs AS SELECT * FROM j"),
    ] {
        make(&at(name), &format!("{content} {sql};"));
    }
    make(&at("middle"), &content);
    fs::write(at("middle-journal"), "whatever").unwrap();
    make(&at("log"), &content);
    fs::write(at("log-wal"), "a log without its index").unwrap();
    for (name, expected) in [
        ("truncated", "it is damaged: "),
        ("garbage", "it is damaged: "),
        ("empty", "it is empty"),
        ("directory", "is not a file"),
        ("fifo", "is not a file"),
        ("gone", "is gone"),
        ("newer", "or a newer one: its user_version is 7"),
        ("renamed", "or a newer one: no such column: executor_state"),
        ("other", "or a newer one: it has no tables `jobs` and `step_runs`"),
        ("view", "or a newer one: it has no tables `jobs` and `step_runs`"),
        ("middle", "a transaction is being written"),
        ("log", "it could not be read: "),
    ] {
        let why = because(&at(name));
        assert!(why.contains(expected), "{name}: {why}");
    }
    let mut writer = Writer::of(&store);
    assert_eq!(writer.run("PRAGMA locking_mode = EXCLUSIVE; UPDATE jobs SET status = 'running'"), "ok");
    let why = because(&store);
    assert!(why.contains("locked") || why.contains("could not be read"), "{why}");
    // Nobody can say that it is gone for as long as it is locked, and then it is there again.
    drop(writer);
    assert_eq!(lives(&known(read(&stepwise(&store), &about([500]))), 500), ["a: active running".into()].into());
}

#[test]
fn a_link_to_a_store_is_followed_by_whoever_is_not_root() {
    let (_scratch, dir) = scratch();
    make(&dir.join("stepwise.db"), &(job("a", "failed") + &run("r1", "a", 500, true)));
    symlink(dir.join("stepwise.db"), dir.join("link")).unwrap();
    let answer = read(&stepwise(&dir.join("link")), &about([500]));
    if crate::os::effective_uid() == 0 {
        let why = why(answer);
        assert!(why.contains("refused: ") && why.contains("over a link"), "{why}");
    } else {
        assert_eq!(answer.path, dir.join("stepwise.db").display().to_string());
        assert_eq!(answer.user, Some(crate::os::effective_uid()));
        assert_eq!(known(answer).claims.len(), 1);
    }
}

#[test]
fn odd_entries_are_doubted_and_never_missed() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    let state = |id: &str, job: &str, state: &str, started: &str| {
        format!(
            "INSERT INTO step_runs (id, job_id, executor_state, started_at, completed_at) \
             VALUES ('{id}', '{job}', '{state}', '{started}', '2026-11-23T09:31:01');"
        )
    };
    let good = "2026-11-23 09:31:00.5";
    let sql = [
        job("on", "a state of next year"),
        job("off", "failed"),
        "INSERT INTO jobs (id) VALUES ('odd');".into(),
        state("zero", "on", r#"{"pid": 0, "pgid": 1}"#, good),
        state("minus", "on", r#"{"pid": -1, "pgid": -1}"#, good),
        state("broken", "on", r#"{"pid": 50"#, good),
        state("list", "on", "[1, 2]", good),
        // Of a job that has ended, they can be about nothing that matters.
        state("zero-off", "off", r#"{"pid": 0, "pgid": 1}"#, good),
        state("broken-off", "off", r#"{"pid": 50"#, good),
        state("broken-gone", "gone", r#"{"pid": 50"#, good),
        // Dropped, but the rest stays.
        state("group", "off", r#"{"pid": 601, "pgid": 1}"#, good),
        state("session", "off", r#"{"pid": 1, "pgid": 0, "session_id": "s1"}"#, good),
        state("guest", "off", r#"{"pid": 602, "in_vm": true}"#, good),
        state("time", "off", r#"{"pid": 603}"#, "the day before yesterday"),
        state("none", "odd", r#"{"pid": 604}"#, good),
        state("script", "on", r#"{"stdout_path": "/tmp/x", "for_each": [1]}"#, good),
        state("lost", "gone", r#"{"pid": 605}"#, good),
    ];
    make(&store, &sql.concat());
    let question = Question { sessions: ["s1".to_owned()].into(), ..about([1, 50, 601, 602, 603, 604, 605]) };
    let book = known(read(&stepwise(&store), &question));
    let unreadable: Vec<&str> = book.unreadable.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        unreadable,
        ["step run zero", "step run minus", "step run broken", "step run list"],
        "{:?}",
        book.unreadable
    );
    let claim = |session_or_pid: Option<i32>| {
        book.claims.iter().find(|claim| claim.pid.map(|pid| pid.get()) == session_or_pid).unwrap()
    };
    assert_eq!((claim(Some(601)).group, claim(Some(602)).in_guest), (None, true));
    assert_eq!((claim(None).session.as_deref(), claim(None).group), (Some("s1"), None));
    assert_eq!(claim(Some(601)).started_at, Some(Time(1_795_426_260_500)));
    for (number, expected) in [(603, "off: unknown"), (604, "odd: unknown"), (605, "gone: missing")] {
        assert_eq!(lives(&book, number), [expected.to_owned()].into());
    }
}
