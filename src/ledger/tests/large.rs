//! Stores of which not every row is read at each look.

use super::support::*;
use crate::ledger::Readers;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Some more runs than are read at each look; every pid of 1000 to 9999 has one, and its own job.
fn make_large(path: &Path) {
    make(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
         INSERT INTO jobs (id, status) SELECT 'job-' || i, 'failed' FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
         INSERT INTO step_runs (id, job_id, executor_state, started_at, completed_at)
         SELECT 'run-' || i, 'job-' || i, json_object('pid', i, 'pgid', i, 'session_id', 's-' || i),
                '2026-11-23T09:30:58', '2026-11-23T09:31:01' FROM n;",
    );
}

#[test]
fn whatever_happens_to_old_rows_the_next_answer_is_right() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    make_large(&store);
    let mut readers = Readers::new();
    let mut look = |number: i32| -> Vec<String> {
        let book = known(readers.read(&stepwise(&store), &about([number]), NOW));
        assert_eq!(book.unreadable, Vec::<String>::new());
        let lives: BTreeSet<String> = lives(&book, number);
        lives.into_iter().collect()
    };
    let mut writer = Writer::of(&store);
    let mut run_ok = |sql: &str| assert_eq!(writer.run(sql), "ok", "{sql}");
    let none: Vec<String> = Vec::new();

    assert_eq!(look(5000), ["job-5000: terminal failed"]);
    // Terminal is not for ever.
    run_ok("UPDATE jobs SET status = 'running' WHERE id = 'job-5000'");
    assert_eq!(look(5000), ["job-5000: active running"]);
    // Rows that are gone, old and new ones; the job stays, and then it goes.
    run_ok("DELETE FROM step_runs WHERE id IN ('run-5001', 'run-9999')");
    assert_eq!((look(5001), look(9999)), (none.clone(), none.clone()));
    run_ok("DELETE FROM jobs WHERE id = 'job-5002'");
    assert_eq!(look(5002), ["job-5002: missing"]);
    // The number of the last row is given again.
    run_ok(&run("again", "job-5000", 70_001, true));
    assert_eq!(look(70_001), ["job-5000: active running"]);
    run_ok(&format!("DELETE FROM step_runs WHERE id = 'again'; {}", run("other", "job-5003", 70_002, true)));
    assert_eq!((look(70_001), look(70_002)), (none.clone(), vec!["job-5003: terminal failed".to_owned()]));
    // A run that has no process yet gets one, and another one.
    run_ok("INSERT INTO step_runs (id, job_id) VALUES ('late', 'job-5000')");
    assert_eq!(look(70_003), none);
    run_ok("UPDATE step_runs SET executor_state = '{\"pid\": 70003}' WHERE id = 'late'");
    assert_eq!(look(70_003), ["job-5000: active running"]);
    run_ok("UPDATE step_runs SET executor_state = '{\"pid\": 70004}' WHERE id = 'late'");
    assert_eq!((look(70_003), look(70_004)), (none.clone(), vec!["job-5000: active running".to_owned()]));
    // Written again under a new number.
    run_ok(&format!("INSERT OR REPLACE {}", run("run-5004", "job-5000", 70_005, true).trim_start_matches("INSERT")));
    assert_eq!((look(5004), look(70_005)), (none.clone(), vec!["job-5000: active running".to_owned()]));
    // All rows get new numbers.
    run_ok("DELETE FROM step_runs WHERE id < 'run-3000'");
    run_ok("VACUUM");
    assert_eq!((look(9000), look(2000)), (vec!["job-9000: terminal failed".to_owned()], none.clone()));
    // Most of it is gone, and others stand there.
    run_ok("DELETE FROM step_runs WHERE id > 'run-4'");
    run_ok(&run("young", "job-5000", 9000, false));
    assert_eq!(look(9000), ["job-5000: active running"]);
}

#[test]
fn a_run_that_had_ended_and_begins_again_in_place_is_found_within_a_round() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    make_large(&store);
    let mut readers = Readers::new();
    let mut look = || lives(&known(readers.read(&stepwise(&store), &about([80_000]), NOW)), 80_000);
    assert_eq!(look(), BTreeSet::new());
    let mut writer = Writer::of(&store);
    let sql = "UPDATE step_runs SET executor_state = '{\"pid\": 80000}', completed_at = NULL WHERE id = 'run-6000'";
    assert_eq!(writer.run(sql), "ok");
    let found = (0..6).map(|_| look()).find(|lives| !lives.is_empty());
    assert_eq!(found, Some(["job-6000: terminal failed".to_owned()].into()));
}

#[test]
fn a_file_that_took_the_place_of_another_is_read_anew() {
    let (_scratch, dir) = scratch();
    let store = dir.join("stepwise.db");
    make_large(&store);
    let mut readers = Readers::new();
    let mut look = |number: i32| lives(&known(readers.read(&stepwise(&store), &about([number]), NOW)), number);
    assert_eq!(look(5000), ["job-5000: terminal failed".to_owned()].into());
    let other = dir.join("other.db");
    make(&other, &(job("b", "running") + &run("r1", "b", 5000, false)));
    // Under the same inode, and then under another.
    fs::copy(&other, &store).unwrap();
    assert_eq!(look(5000), ["b: active running".to_owned()].into());
    make_large(&dir.join("third.db"));
    fs::rename(dir.join("third.db"), &store).unwrap();
    assert_eq!(look(5000), ["job-5000: terminal failed".to_owned()].into());
}
