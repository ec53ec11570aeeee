//! The decisions about what others started: who is an agent, what belongs to it, and what proof ends it.

use super::*;
use crate::model::*;
use std::collections::BTreeMap;

mod catalogue;
mod properties;
mod stepwise_host;
mod trees;
mod twenty;
mod verdicts;

const NOW: Time = Time(1_800_000_000_000);
const STORE_PATH: &str = "/srv/shop/.stepwise/stepwise.db";
const JOBS_PATH: &str = "/srv/shop/.stepwise/jobs";
const USER: u32 = 1000;

fn pid(raw: i32) -> Pid {
    Pid::new(raw).unwrap()
}

/// This many seconds before now.
fn ago(seconds: u64) -> Time {
    Time(NOW.0 - i64::try_from(seconds).unwrap() * 1000)
}

/// A process that leads its own group and session, ten minutes old, with nothing in its environment.
fn process(raw: i32, parent: i32, argv: &[&str]) -> HostProcess {
    let exe = argv.first().map(|word| match word.split(' ').next().unwrap() {
        "npm" | "npx" | "node" => "/usr/bin/node".to_owned(),
        word if word.starts_with('/') => word.to_owned(),
        word => format!("/usr/bin/{word}"),
    });
    HostProcess {
        id: ProcId { pid: pid(raw), start: StartTime(u64::try_from(raw).unwrap() * 10) },
        parent: Pid::new(parent),
        group: Some(pid(raw)),
        session: Some(pid(raw)),
        has_terminal: false,
        user: USER,
        state: 'S',
        started_at: ago(600),
        name: "x".to_owned(),
        exe,
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        environment: Reading::Known(BTreeMap::new()),
        rss_bytes: 1000,
        pss_bytes: Some(600),
    }
}

/// The same in somebody's group and session.
fn member(raw: i32, parent: i32, group: i32, argv: &[&str]) -> HostProcess {
    HostProcess { group: Some(pid(group)), session: Some(pid(group)), ..process(raw, parent, argv) }
}

fn marked(mut process: HostProcess, marks: &[(&str, &str)]) -> HostProcess {
    let Reading::Known(environment) = &mut process.environment else { panic!("its environment is not known") };
    environment.extend(marks.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    process
}

fn with_store(process: HostProcess) -> HostProcess {
    marked(process, &[("STEPWISE_DB", STORE_PATH), ("STEPWISE_JOBS_DIR", JOBS_PATH)])
}

/// `npm exec` → `sh` → `node` → the agent, with pids from `first`, as Stepwise starts it for a job.
fn chain(first: i32, parent: i32, job: &str) -> Vec<HostProcess> {
    let workspace = format!("{JOBS_PATH}/{job}/workspace");
    let title = format!("npm exec @agentclientprotocol/claude-agent-acp --model opus --allowedPaths {workspace}");
    let line = format!("'claude-agent-acp' --model opus --allowedPaths {workspace}");
    let script = "/srv/shop/node_modules/.bin/claude-agent-acp";
    let native = "/opt/acp/node_modules/@anthropic-ai/claude-agent-sdk-linux-x64/claude";
    let session = format!("session-{first}");
    [
        process(first, parent, &[&title]),
        member(first + 1, first, first, &["sh", "-c", &line]),
        member(first + 2, first + 1, first, &["node", script, "--model", "opus", "--allowedPaths", &workspace]),
        member(first + 3, first + 2, first, &[native, "--output-format", "stream-json", "--session-id", &session]),
    ]
    .into_iter()
    .map(with_store)
    .collect()
}

/// A host with these, with an init and a server of jobs (pid 50) beside.
fn census(processes: impl IntoIterator<Item = HostProcess>) -> Census {
    let mut init = HostProcess { name: "systemd".to_owned(), user: 0, ..process(1, 0, &["/sbin/init"]) };
    init.environment = Reading::Unknown("permission denied".to_owned());
    let server = process(50, 1, &["/usr/bin/python3", "/opt/stepwise/bin/stepwise", "server", "run"]);
    let mut all: Vec<HostProcess> = vec![init, with_store(server)];
    for process in &mut all {
        process.started_at = ago(90_000);
    }
    all.extend(processes);
    Census {
        as_of: NOW,
        boot_id: BootId::from("boot"),
        user: USER,
        processes: Reading::Known(all.into_iter().map(|process| (process.id.pid, process)).collect()),
    }
}

/// What Stepwise writes of a run: its adapter, and when the run ended.
fn run(job: &str, first: i32, until: Option<Time>) -> Claim {
    Claim {
        job: job.to_owned(),
        pid: Some(pid(first)),
        group: Some(pid(first)),
        session: Some(format!("session-{first}")),
        until,
        ..Claim::default()
    }
}

fn life(word: &str) -> JobLife {
    match word {
        "failed" | "completed" | "cancelled" | "archived" | "closed" => JobLife::Terminal(word.to_owned()),
        "?" => JobLife::Unknown("its status is no text".to_owned()),
        _ => JobLife::Active(word.to_owned()),
    }
}

fn ledger(r#type: LedgerType, path: &str, claims: Vec<Claim>, jobs: &[(&str, &str)]) -> LedgerRead {
    let jobs = jobs.iter().map(|(job, word)| ((*job).to_owned(), life(word))).collect();
    LedgerRead {
        name: path.to_owned(),
        r#type,
        path: path.to_owned(),
        aliases: BTreeSet::new(),
        user: Some(USER),
        as_of: NOW,
        book: Reading::Known(LedgerBook { claims, jobs, unreadable: Vec::new() }),
    }
}

fn stepwise(claims: Vec<Claim>, jobs: &[(&str, &str)]) -> LedgerRead {
    ledger(LedgerType::Stepwise, STORE_PATH, claims, jobs)
}

fn terms() -> Terms {
    Terms { min_age: Duration::from_secs(120), selves: BTreeSet::from([pid(1), pid(7)]), ..Terms::default() }
}

fn judged(census: &Census, ledgers: &[LedgerRead]) -> Vec<ForeignTree> {
    attribute(census, &Catalogue::built_in(), ledgers, &terms())
}

/// The tree with this root.
fn tree_of(trees: &[ForeignTree], root: i32) -> &ForeignTree {
    let found = trees.iter().find(|tree| tree.root.pid == pid(root));
    found.unwrap_or_else(|| panic!("no tree has the root {root}: {trees:#?}"))
}

fn pids(tree: &ForeignTree) -> Vec<i32> {
    tree.processes.iter().map(|process| process.pid.get()).collect()
}
