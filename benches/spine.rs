//! The numbers that the spine promises, each beside what it is compared with, in one run. `scripts/bench` builds and runs it.
//!
//! - from the commit that makes a job terminal to its last process gone, against a bare loop that signals the same tree and
//!   waits for it;
//! - the memory of a shim (PSS), with 100 of them alive;
//! - the controller idle with 100 jobs waiting: resident memory, and its share of one core.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut results = serde_json::Map::new();
    println!("{:<44} {:>12} {:>12} {:>8}  promise", "what", "tenure", "bare", "ratio");
    for processes in [4, 100] {
        let bare = median(bare(processes));
        let ours = median(reap(processes));
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{:<44} {:>9.2} ms {:>9.2} ms {:>8.2}  at most 1.5",
            format!("terminal → last of {processes} processes gone"),
            millis(ours),
            millis(bare),
            ratio
        );
        results.insert(
            format!("reap_{processes}"),
            json!({"tenure_ms": millis(ours), "bare_ms": millis(bare), "ratio": ratio}),
        );
    }
    let pss = shim_pss(100);
    println!("{:<44} {:>9} kB {:>12} {:>8}  at most 500 kB", "PSS of one of 100 shims", pss, "", "");
    results.insert("shim_pss_kb".into(), json!(pss));
    let (rss, share) = idle(100);
    println!("{:<44} {:>9.1} MB {:>12} {:>8}  at most 20 MB", "controller, idle, 100 jobs waiting: RSS", rss, "", "");
    println!("{:<44} {:>10.3} % {:>12} {:>8}  less than 0.5 %", "the same: share of one core", share, "", "");
    results.insert("idle_rss_mb".into(), json!(rss));
    results.insert("idle_cpu_percent".into(), json!(share));
    println!("{}", Value::Object(results));
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// A script that holds this many processes, itself among them, all of which end at SIGTERM.
fn tree(processes: usize) -> String {
    format!("i=1; while [ $i -lt {processes} ]; do sleep 1000 & i=$((i+1)); done; wait")
}

/// The members of a process's session.
fn session(leader: i32) -> Vec<i32> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        if fields.first() != Some(&"Z") && fields.get(3).and_then(|sid| sid.parse().ok()) == Some(leader) {
            members.push(pid);
        }
    }
    members
}

fn wait_until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Holds every process, and waits until all have ended.
struct Watch(Vec<std::os::fd::OwnedFd>);

impl Watch {
    fn new(pids: &[i32]) -> Watch {
        let open = |pid: &i32| {
            let pid = rustix::process::Pid::from_raw(*pid).unwrap();
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
        };
        Watch(pids.iter().filter_map(open).collect())
    }

    fn wait(&self) {
        for fd in &self.0 {
            let mut polled = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
            while rustix::event::poll(&mut polled, None).is_err() {}
        }
    }
}

struct World {
    dir: tempfile::TempDir,
    controller: Child,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        let controller = Command::new(tenure())
            .arg("run")
            .arg(dir.path().join("manifests"))
            .arg("--state")
            .arg(dir.path().join("state"))
            .env("TENURE_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let world = World { dir, controller };
        wait_until("the controller", || world.cli(&["status"]));
        world
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn cli(&self, args: &[&str]) -> Option<String> {
        let output = Command::new(tenure()).args(args).arg("--state").arg(self.state()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn items(&self, kind: &str) -> Vec<Value> {
        let text = self.cli(&["get", kind, "-o", "json"]).unwrap_or_else(|| "{}".into());
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    fn apply(&self, text: &str) {
        let file = self.dir.path().join("applied.yaml");
        fs::write(&file, text).unwrap();
        self.cli(&["apply", "-f", &file.display().to_string()]).expect("apply");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for job in self.items("jobs") {
            let name = job["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.cli(&["cancel", &name]);
        }
        wait_until("nothing to be left", || {
            self.items("workloads").iter().all(|workload| workload["status"]["phase"] == "Stopped").then_some(())
        });
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}

fn tenure() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tenure"))
}

fn job(name: &str, step: &str) -> String {
    format!(
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  flow:\n    steps:\n      step:\n{step}"
    )
}

fn script(text: &str) -> String {
    format!("        run: {}\n", serde_json::to_string(text).unwrap())
}

/// Starts a job with such a tree; gives the tree once it has settled.
fn start(world: &World, name: &str, processes: usize) -> Vec<i32> {
    world.apply(&job(name, &script(&tree(processes))));
    let leader = wait_until("the workload", || {
        let workloads = world.items("workloads");
        let mine = workloads.iter().find(|workload| workload["spec"]["owners"][0]["name"] == name)?;
        mine["status"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    });
    let pids = wait_until("the tree", || Some(session(leader)).filter(|pids| pids.len() == processes));
    std::thread::sleep(Duration::from_millis(50));
    pids
}

/// The same tree, signalled in a bare loop that then waits for the last of it.
fn bare(processes: usize) -> Vec<Duration> {
    let world = World::new();
    let round = |round| {
        let pids = start(&world, &format!("job-{round}"), processes);
        let watch = Watch::new(&pids);
        let begun = Instant::now();
        for pid in &pids {
            if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        watch.wait();
        begun.elapsed()
    };
    (0..ROUNDS).map(round).collect()
}

/// From the commit that makes a job terminal to its last process gone.
fn reap(processes: usize) -> Vec<Duration> {
    let world = World::new();
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("job-{round}");
        let pids = start(&world, &name, processes);
        let watch = Watch::new(&pids);
        let waiter = std::thread::spawn(move || {
            watch.wait();
            Instant::now()
        });
        // The commit is when others can read it.
        let store = world.state().join("tenure.db");
        let job = name.clone();
        let committed = std::thread::spawn(move || {
            let store =
                rusqlite::Connection::open_with_flags(store, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let query = "SELECT phase FROM objects WHERE kind = 'Job' AND name = ?1";
            let mut query = store.prepare(query).unwrap();
            loop {
                let phase: String = query.query_row([&job], |row| row.get(0)).unwrap();
                if phase == "Cancelled" {
                    return Instant::now();
                }
            }
        });
        world.cli(&["cancel", &name]).expect("cancel");
        all.push(waiter.join().unwrap().saturating_duration_since(committed.join().unwrap()));
    }
    all
}

/// The PSS of one shim, in kB, while this many live.
fn shim_pss(shims: usize) -> u64 {
    let world = World::new();
    let policy = "apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec: {maxConcurrent: {agents: 8, scripts: 200}}\n";
    world.apply(policy);
    for number in 0..shims {
        world.apply(&job(&format!("job-{number}"), &script("sleep 1000")));
    }
    let running = wait_until("the shims", || {
        let workloads = world.items("workloads");
        let shims: Vec<i64> =
            workloads.iter().filter_map(|workload| workload["status"]["shim"]["pid"].as_i64()).collect();
        (shims.len() == workloads.len() && shims.len() >= 100).then_some(shims)
    });
    let pss = |pid: &i64| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    running.iter().map(pss).sum::<u64>() / running.len() as u64
}

/// Resident memory (MB) and share of one core (percent) of a controller with this many jobs that wait for somebody.
fn idle(jobs: usize) -> (f64, f64) {
    let world = World::new();
    for number in 0..jobs {
        world.apply(&job(&format!("job-{number}"), "        executor: external\n        outputs: [answer]\n"));
    }
    wait_until("the jobs to wait", || {
        let runs = world.items("stepruns");
        (runs.len() == jobs && runs.iter().all(|run| run["status"]["phase"] == "Suspended")).then_some(())
    });
    let pid = world.controller.id();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> =
            stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2).map(|f| f.parse().unwrap()).collect();
        fields.iter().sum::<u64>()
    };
    std::thread::sleep(Duration::from_secs(3));
    let (before, begun) = (ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(60));
    let seconds = (ticks() - before) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let share = 100.0 * seconds / begun.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap()
        .parse()
        .unwrap();
    (rss / 1000.0, share)
}
