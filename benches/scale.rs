//! What a controller costs with much that is alive, and with much that once was. `scripts/bench` builds and runs it.
//!
//! - the plan for 10,000 workloads and 10,000 trees, and a whole pass over them (store, jobs, plan; no look), with nothing
//!   changed and with one job changed;
//! - a pass, a resync, a start, and the resident memory with 1,000,000 finished jobs in the store, against none.
//!
//! `TENURE_SCALE_JOBS` sets another number of finished jobs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

#[path = "../tests/support/scale.rs"]
mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{NOW, finished, observed, populate};
use tenure::controller::Rehearsal;
use tenure::model::{AnyObject, Kind, Reading, Time};
use tenure::os::StateDir;
use tenure::plan::{self, Acts, Bounds};
use tenure::store::{Store, Txn};

const ALIVE: usize = 10_000;
const ROUNDS: usize = 21;

fn main() {
    let jobs = std::env::var("TENURE_SCALE_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let mut table = Table::default();
    alive(&mut table);
    if jobs > 0 {
        past(&mut table, jobs);
    }
    println!("{}", Value::Object(table.json));
}

/// Prints each line as it comes, and keeps it for the JSON.
#[derive(Default)]
struct Table {
    json: serde_json::Map<String, Value>,
}

impl Table {
    fn line(&mut self, key: &str, what: &str, number: f64, unit: &str, promise: &str) {
        if self.json.is_empty() {
            println!("{:<64} {:>15}  promise", "what", "tenure");
        }
        println!("{what:<64} {number:>12.3} {unit}  {promise}");
        self.json.insert(key.into(), json!(number));
    }
}

fn millis(act: impl FnMut()) -> f64 {
    spread(act).0
}

/// Median and best, in milliseconds: on a machine that does other work too, the best is what the program itself takes.
fn spread(mut act: impl FnMut()) -> (f64, f64) {
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            act();
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    all.sort_by(f64::total_cmp);
    (all[all.len() / 2], all[0])
}

/// With 10,000 jobs under way, each with a script that runs.
fn alive(table: &mut Table) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir(dir.path().to_owned());
    let store = Arc::new(Store::open(&state.store_file()).unwrap());
    populate(&store, ALIVE);
    let observed = observed(&store);
    let desired = store.snapshot().unwrap();
    let bounds =
        Bounds { gate: Reading::Known(()), protected: Default::default(), selves: Default::default(), user: 0 };
    let diff = spread(|| {
        let plan = plan::diff(&desired, &observed, &Acts::default(), &bounds, NOW);
        assert_eq!(plan.lines.len(), ALIVE);
    });
    table.line("diff_10000_ms", "plan::diff, 10,000 workloads and 10,000 trees", diff.0, "ms", "under 10 ms");
    table.line("diff_10000_best_ms", "the same, the fastest of them", diff.1, "ms", "");
    drop(desired);

    let mut rehearsal = Rehearsal::new(store.clone(), state);
    rest(&mut rehearsal, &observed);
    let still = millis(|| assert!(rehearsal.pass(&observed, NOW).unwrap().is_some()));
    table.line("pass_10000_still_ms", "a pass over 10,000 workloads, nothing changed", still, "ms", "");
    let mut round = 0;
    let renew = millis(|| {
        round += 1;
        touch(&store, round);
        store.snapshot().unwrap();
    });
    table.line("snapshot_10000_one_ms", "one job written, and the snapshot after it", renew, "ms", "");
    let one = millis(|| {
        round += 1;
        touch(&store, round);
        rest(&mut rehearsal, &observed);
    });
    table.line("pass_10000_one_ms", "one job written, and the pass after it", one, "ms", "");
    let mut number = 0;
    let end = millis(|| {
        let name = format!("job-{number}");
        number += 1;
        let Some(AnyObject::Job(mut job)) = store.get(Kind::Job, &name).unwrap() else { panic!("{name}") };
        job.spec.state = tenure::model::JobState::Cancelled;
        store.commit(Txn::new().put(AnyObject::Job(job)), NOW).unwrap();
        assert!(rehearsal.pass(&observed, NOW).unwrap().is_none());
    });
    table.line("pass_10000_end_ms", "one job cancelled: the pass that commits its end", end, "ms", "");
}

/// Changes one job, and nothing that anything follows from.
fn touch(store: &Store, round: usize) {
    let Some(AnyObject::Job(mut job)) = store.get(Kind::Job, "job-7777").unwrap() else { panic!("job-7777") };
    job.metadata.labels.insert("round".into(), round.to_string());
    store.commit(Txn::new().put(AnyObject::Job(job)), NOW).unwrap();
}

fn rest(rehearsal: &mut Rehearsal, observed: &tenure::model::Observed) {
    while rehearsal.pass(observed, NOW).unwrap().is_none() {}
}

/// With this many finished jobs in the store, against none.
fn past(table: &mut Table, jobs: usize) {
    let (none, many) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, jobs) in [(&none, 0), (&many, jobs)] {
        let store = Store::open(&StateDir(dir.path().to_owned()).store_file()).unwrap();
        populate(&store, 100);
        drop(store);
        finished(&StateDir(dir.path().to_owned()).store_file(), jobs);
    }
    let size = fs::metadata(StateDir(many.path().to_owned()).store_file()).unwrap().len();
    table.line("store_mb", &format!("the store with {jobs} finished jobs"), size as f64 / 1e6, "MB", "");
    for (key, what, dir) in [("none", "no finished jobs", &none), ("many", "these finished jobs", &many)] {
        let state = StateDir(dir.path().to_owned());
        let store = Arc::new(Store::open_beside(&state.store_file()).unwrap());
        let observed = observed(&store);
        let mut rehearsal = Rehearsal::new(store.clone(), state);
        rest(&mut rehearsal, &observed);
        let still = millis(|| assert!(rehearsal.pass(&observed, NOW).unwrap().is_some()));
        table.line(&format!("pass_{key}_ms"), &format!("{what}: a pass, nothing changed"), still, "ms", "as with none");
        let mut round = 0;
        let one = millis(|| {
            round += 1;
            let Some(AnyObject::Job(mut job)) = store.get(Kind::Job, "job-7").unwrap() else { panic!("job-7") };
            job.metadata.labels.insert("round".into(), round.to_string());
            store.commit(Txn::new().put(AnyObject::Job(job)), Time(round)).unwrap();
            rest(&mut rehearsal, &observed);
            rehearsal.resync();
        });
        let what = format!("{what}: one job written, a pass, a resync");
        table.line(&format!("resync_{key}_ms"), &what, one, "ms", "as with none");
    }
    for (key, what, dir) in [("none", "no finished jobs", &none), ("many", "these finished jobs", &many)] {
        no_longer_alive(&StateDir(dir.path().to_owned()).store_file());
        let mut started = start(dir.path());
        let what_start = format!("{what}: from exec to its first pass");
        table.line(&format!("start_{key}_ms"), &what_start, started.after_ms, "ms", "under 2,000 ms");
        let (ready, most) = started.watch(Duration::from_secs(25));
        table.line(&format!("rss_{key}_mb"), &format!("{what}: resident memory, at most"), most, "MB", "under 40 MB");
        let what_ready = format!("{what}: until the store is known to be whole");
        table.line(&format!("checked_{key}_ms"), &what_ready, ready, "ms", "");
    }
}

/// Takes away what is not there for a controller to find.
fn no_longer_alive(store: &Path) {
    let connection = rusqlite::Connection::open(store).unwrap();
    connection.execute("DELETE FROM objects WHERE active = 1", []).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

struct Started {
    controller: Child,
    begun: Instant,
    after_ms: f64,
    state: std::path::PathBuf,
}

fn start(state: &Path) -> Started {
    let begun = Instant::now();
    let controller = Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["run", "--resync", "2s", "--state"])
        .arg(state)
        .current_dir(state)
        .env("TENURE_LOG", "error")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    while !answers(state) {
        assert!(begun.elapsed() < Duration::from_secs(600), "waited in vain for the controller");
        std::thread::sleep(Duration::from_millis(2));
    }
    let after_ms = begun.elapsed().as_secs_f64() * 1000.0;
    Started { controller, begun, after_ms, state: state.to_owned() }
}

/// Whether it answers, and has made a pass.
fn answers(state: &Path) -> bool {
    ask(state, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn ask(state: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(StateDir(state.to_owned()).socket()).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: tenure\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

impl Started {
    /// When the whole store was known to be good (ms from the start), and the most memory held up to some time after that.
    fn watch(&mut self, most: Duration) -> (f64, f64) {
        let (mut ready, mut peak) = (None, 0.0_f64);
        while ready.is_none() || self.begun.elapsed() < most {
            peak = peak.max(rss_mb(self.controller.id()));
            if ready.is_none() && self.is_ready() {
                ready = Some(self.begun.elapsed().as_secs_f64() * 1000.0);
            }
            assert!(self.begun.elapsed() < Duration::from_secs(600), "waited in vain for the check of the store");
            std::thread::sleep(Duration::from_millis(50));
        }
        (ready.unwrap_or_default(), peak)
    }

    /// Whether a pass was made, and nothing is held back for the sake of the check.
    fn is_ready(&self) -> bool {
        let status = ask(&self.state, "/status").unwrap_or_default();
        status.contains("\"look\"") && status.contains("\"nothingIsEndedUntil\":null")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}

fn rss_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse().ok()).unwrap_or(0.0) / 1000.0
}
