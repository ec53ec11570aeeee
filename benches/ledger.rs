//! What it costs to ask a Stepwise store of 1,000,000 step runs about 100 processes: the first time, and each time after that,
//! with nothing changed and beside a program that writes. `scripts/bench` builds and runs it.
//!
//! `TENURE_LEDGER_RUNS` sets another number of runs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tenure::ledger::{Readers, Source};
use tenure::model::{Fields, LedgerType, Pid, Question, Reading, Time};

const ROUNDS: usize = 21;
const NOW: Time = Time(1_795_824_000_000);

fn main() {
    let runs = std::env::var("TENURE_LEDGER_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().canonicalize().unwrap().join("stepwise.db");
    populate(&path, runs);
    let source =
        Source { name: "bench".into(), r#type: LedgerType::Stepwise, path, fields: Fields::default(), user: None };
    let question =
        Question { pids: (0..100).filter_map(|n| Pid::new(1_000 + 211 * n)).collect(), ..Question::default() };
    let mut readers = Readers::new();
    let mut table = serde_json::Map::new();
    println!("{:<64} {:>15}  promise", "what", "tenure");
    let mut line = |key: &str, what: &str, number: f64, unit: &str, promise: &str| {
        println!("{what:<64} {number:>12.1} {unit}  {promise}");
        table.insert(key.into(), json!(number));
    };

    let (begin, mut looks) = (Instant::now(), 1.0);
    while !look(&mut readers, &source, &question) {
        looks += 1.0;
    }
    line("first_ms", &format!("the first answer, {runs} step runs"), begin.elapsed().as_secs_f64() * 1e3, "ms", "");
    line("first_looks", "looks that it took, of 2 s at most", looks, "  ", "");
    let still = median(|| assert!(look(&mut readers, &source, &question)));
    line("still_ms", "a later answer, nothing changed", still, "ms", "< 50 ms");
    let writer = Connection::open(&source.path).unwrap();
    let mut turn = 0;
    let beside = median(|| {
        turn += 1;
        write(&writer, turn);
        assert!(look(&mut readers, &source, &question));
    });
    line("beside_ms", "a later answer, 20 runs written before it (writing included)", beside, "ms", "< 50 ms");
    println!("{}", Value::Object(table));
}

fn look(readers: &mut Readers, source: &Source, question: &Question) -> bool {
    match readers.read(source, question, NOW).book {
        Reading::Known(book) => {
            assert!(!book.claims.is_empty());
            true
        }
        Reading::Unknown(why) => {
            assert!(why.contains("in time"), "{why}");
            false
        }
    }
}

fn median(mut act: impl FnMut()) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            act();
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

/// Runs as Stepwise leaves them: some 600 bytes each, five a job, one of 1,000 never ended; pids come around every 30,000.
fn populate(path: &Path, runs: u32) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    let sql = format!(
        "PRAGMA synchronous = OFF;
         CREATE TABLE jobs (id TEXT PRIMARY KEY, objective TEXT, workflow TEXT, status TEXT);
         CREATE TABLE step_runs (id TEXT PRIMARY KEY, job_id TEXT, step_name TEXT, status TEXT, result TEXT,
             executor_state TEXT, started_at TEXT, completed_at TEXT);
         BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
         INSERT INTO jobs SELECT 'job-' || i, 'an objective', hex(zeroblob(400)), iif(i % 50, 'completed', 'running') FROM n;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
         INSERT INTO step_runs SELECT printf('run-%08x-%08x', i * 2654435761 % 4294967296, i), 'job-' || (i / 5), 'triage',
             'completed', hex(zeroblob(60)), json_object('pid', 1000 + i % 30000, 'pgid', 1000 + i % 30000,
             'output_path', '/srv/lab/projA/.stepwise/jobs/job-696905a2/workspace/.stepwise/step-io/triage-1.output.jsonl',
             'working_dir', '/srv/lab/projA/.stepwise/jobs/job-696905a2/workspace', 'session_id', 'b0dfc188-39f2-43e0-' || i,
             'agent', 'claude'), '2026-11-23T09:30:58.326791+00:00',
             iif(i % 1000, '2026-11-23T09:31:01.139661+00:00', NULL) FROM n;
         COMMIT;",
        jobs = runs / 5,
        last = runs.saturating_sub(1),
    );
    connection.execute_batch(&sql).unwrap();
}

fn write(writer: &Connection, turn: u32) {
    let mut sql = String::from("BEGIN;");
    for n in 0..20 {
        sql.push_str(&format!(
            "INSERT INTO step_runs (id, job_id, executor_state, started_at) VALUES ('new-{turn}-{n}', 'job-{n}', \
             '{{\"pid\": {pid}}}', '2026-11-23T09:30:58+00:00');",
            pid = 40_000 + n
        ));
    }
    writer.execute_batch(&format!("{sql} COMMIT;")).unwrap();
}
