//! Stores that tests make, and a process that writes them: locks are those of a process, so a writer must be another one.

use crate::ledger::{Readers, Source};
use crate::model::{Claim, Fields, JobLife, LedgerBook, LedgerRead, LedgerType, Pid, Question, Reading, Time};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// The store that the writer is to open; without it the test that plays the writer does nothing.
const STORE: &str = "TENURE_TEST_LEDGER_STORE";

const SCHEMA: &str = "
    CREATE TABLE jobs (id TEXT PRIMARY KEY, objective TEXT, workflow TEXT, status TEXT);
    CREATE TABLE step_runs (id TEXT PRIMARY KEY, job_id TEXT, step_name TEXT, status TEXT,
        result TEXT, executor_state TEXT, started_at TEXT, completed_at TEXT);
    CREATE INDEX idx_step_runs_job ON step_runs(job_id, step_name);";

/// 2026-11-28, later than everything in these tests.
pub(super) const NOW: Time = Time(1_795_824_000_000);

/// A directory whose path has no link in it, and that nobody else can write, as far as the host allows.
pub(super) fn scratch() -> (TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().canonicalize().unwrap();
    (scratch, path)
}

pub(super) fn source(r#type: LedgerType, path: &Path) -> Source {
    Source { name: "a ledger".into(), r#type, path: path.to_owned(), fields: Fields::default(), user: None }
}

pub(super) fn stepwise(path: &Path) -> Source {
    source(LedgerType::Stepwise, path)
}

/// Makes a store, and closes it in order: no log stays.
pub(super) fn make(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// A job.
pub(super) fn job(id: &str, status: &str) -> String {
    format!("INSERT INTO jobs (id, status) VALUES ('{id}', '{status}');")
}

/// A run of it, ended or not.
pub(super) fn run(id: &str, job: &str, pid: i64, ended: bool) -> String {
    let ended = if ended { "'2026-11-23T09:31:01.139661+00:00'" } else { "NULL" };
    format!(
        "INSERT INTO step_runs (id, job_id, executor_state, started_at, completed_at) VALUES ('{id}', '{job}', \
         '{{\"pid\": {pid}, \"pgid\": {pid}, \"session_id\": \"session-{id}\"}}', '2026-11-23T09:30:58.301783+00:00', {ended});"
    )
}

pub(super) fn pid(number: i32) -> Pid {
    Pid::new(number).unwrap()
}

pub(super) fn about(pids: impl IntoIterator<Item = i32>) -> Question {
    Question { pids: pids.into_iter().map(pid).collect(), ..Question::default() }
}

pub(super) fn read(source: &Source, question: &Question) -> LedgerRead {
    Readers::new().read(source, question, NOW)
}

pub(super) fn known(read: LedgerRead) -> LedgerBook {
    match read.book {
        Reading::Known(book) => book,
        Reading::Unknown(why) => panic!("unknown: {why}"),
    }
}

pub(super) fn why(read: LedgerRead) -> String {
    match read.book {
        Reading::Known(book) => panic!("known: {book:?}"),
        Reading::Unknown(why) => why,
    }
}

/// Jobs that claim a pid, with their lives.
pub(super) fn owners(book: &LedgerBook, number: i32) -> BTreeMap<String, Option<JobLife>> {
    let of = |claim: &Claim| (claim.job.clone(), book.jobs.get(&claim.job).cloned());
    book.claims.iter().filter(|claim| claim.pid == Some(pid(number))).map(of).collect()
}

/// The same in short: `job=word`; `missing` for one that is not there.
pub(super) fn lives(book: &LedgerBook, number: i32) -> BTreeSet<String> {
    let word = |life: Option<JobLife>| match life {
        Some(JobLife::Active(word)) => format!("active {word}"),
        Some(JobLife::Terminal(word)) => format!("terminal {word}"),
        Some(JobLife::Unknown(_)) => "unknown".into(),
        None => "missing".into(),
    };
    owners(book, number).into_iter().map(|(job, life)| format!("{job}: {}", word(life))).collect()
}

/// What is in a directory, and when it was changed.
pub(super) fn listing(directory: &Path) -> BTreeMap<String, (u64, u64, i64, i64)> {
    let row = |entry: fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        (entry.file_name().to_string_lossy().into_owned(), (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    fs::read_dir(directory).unwrap().map(|entry| row(entry.unwrap())).collect()
}

/// Another process that has the store open, and does as it is told.
pub(super) struct Writer {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    pub(super) fn of(store: &Path) -> Writer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["ledger::tests::support::the_writer", "--exact", "--nocapture", "--test-threads=1"])
            .env(STORE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Writer { child, orders, answers }
    }

    /// Has it run a statement, and gives what it says: `ok`, or the error.
    pub(super) fn run(&mut self, sql: &str) -> String {
        writeln!(self.orders.as_mut().unwrap(), "{}", sql.replace('\n', " ")).unwrap();
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the writer ended");
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.trim().to_owned();
            }
        }
    }

    /// Kills it, as SIGKILL does.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Plays the writer, in a process that [`Writer::of`] started. It waits for no lock, so that it would see ours.
#[test]
fn the_writer() {
    let Some(store) = std::env::var_os(STORE) else { return };
    let connection = Connection::open(store).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    for line in std::io::stdin().lines() {
        match connection.execute_batch(&line.unwrap()) {
            Ok(()) => println!("answer: ok"),
            Err(error) => println!("answer: {error}"),
        }
    }
}
