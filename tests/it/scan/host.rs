//! Trees of processes that other programs would have left on this host, and the job stores of those programs.

use crate::support::procs::{self, Process};
use crate::support::{World, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// An adapter: starts its CLI, as npm's chain does, and waits for it.
const ADAPTER: &str = "#!/bin/sh\n\"$BIN/claude\" --output-format stream-json --input-format stream-json &\nwait\n";
/// What runs until it is told to end.
const CLI: &str = "#!/bin/sh\n\"$BIN/sleep\" 1100 &\nwait\n";
/// The same, deaf to requests, and to the end of what it has started.
const STUBBORN: &str = "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do \"$BIN/sleep\" 1100; done\n";

/// Ends when it is told to, and leaves a child that does not, in a session of its own, without an environment.
const SPLIT: &str = "#!/bin/sh\nenv -i setsid sh \"$BIN/deaf\" &\nwait\n";
/// That child.
const DEAF: &str = "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do \"${0%/*}/sleep\" 1100; done\n";

/// The schema of Stepwise 0.46.1, as far as it matters.
const STEPWISE: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, objective TEXT, workflow TEXT, status TEXT, inputs TEXT, parent_job_id TEXT,
        parent_step_run_id TEXT, workspace_path TEXT, config TEXT, created_at TEXT, updated_at TEXT,
        created_by TEXT DEFAULT 'server', runner_pid INTEGER, heartbeat_at TEXT, notify_url TEXT, notify_context TEXT,
        name TEXT, metadata TEXT DEFAULT '{}', job_group TEXT, loop_frames TEXT DEFAULT '{}');
    CREATE TABLE step_runs (
        id TEXT PRIMARY KEY, job_id TEXT REFERENCES jobs(id), step_name TEXT, attempt INTEGER, status TEXT, inputs TEXT,
        dep_run_ids TEXT, result TEXT, error TEXT, error_category TEXT, traceback TEXT, executor_state TEXT, watch TEXT,
        sub_job_id TEXT, started_at TEXT, completed_at TEXT, pid INTEGER);
    CREATE INDEX idx_runs_job ON step_runs(job_id);
";

/// A tree that was started here.
pub struct Tree {
    pub name: String,
    pub leaked: bool,
    child: Child,
    pub root: Process,
    /// All that belongs to it.
    pub processes: Vec<Process>,
}

impl Tree {
    pub fn pid(&self) -> String {
        self.root.pid.to_string()
    }
}

/// A host with trees.
pub struct Host {
    pub world: World,
    pub trees: Vec<Tree>,
    pub stepwise: PathBuf,
    store: rusqlite::Connection,
    runs: u32,
}

impl Host {
    pub fn new() -> Host {
        Host::of(World::idle())
    }

    /// A host whose trees have a letter in all of their command lines that no other process has. Who ends trees by what it finds
    /// on the real host can be told to protect whatever has not.
    pub fn of_one_letter() -> (Host, String) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id().wrapping_mul(16).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        // Of those that Unicode leaves to everybody's own use.
        let letter = char::from_u32(0xE000 + number % 0x1900).unwrap();
        (Host::of(World::idle_at(&format!("tenure-it-{letter}-"))), format!("^[^{letter}]*$"))
    }

    fn of(world: World) -> Host {
        let at = |name: &str| world.path().join(name);
        for (name, text) in [
            ("node_modules/.bin/claude-agent-acp", ADAPTER),
            ("node_modules/.bin/codex-acp", CLI),
            ("node_modules/.bin/stubborn/claude-agent-acp", STUBBORN),
            ("node_modules/.bin/split/claude-agent-acp", SPLIT),
            ("bin/deaf", DEAF),
            ("bin/claude", CLI),
            ("bin/gemini", CLI),
            ("bin/opencode", CLI),
            ("bin/goose", CLI),
            ("bin/background", CLI),
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let sleep = ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        std::os::unix::fs::symlink(sleep, at("bin/sleep")).unwrap();
        for dir in ["project/.stepwise", "jobs", "home/.acpx/sessions", "home/.acpx/queues"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        let stepwise = at("project/.stepwise/stepwise.db");
        let store = rusqlite::Connection::open(&stepwise).unwrap();
        store.execute_batch(STEPWISE).unwrap();
        Host { world, trees: Vec::new(), stepwise, store, runs: 0 }
    }

    pub fn path(&self, name: &str) -> String {
        self.world.path().join(name).display().to_string()
    }

    /// The environment that Stepwise gives to its adapters.
    pub fn of_stepwise(&self) -> Vec<(String, String)> {
        vec![
            ("STEPWISE_DB".into(), self.stepwise.display().to_string()),
            ("STEPWISE_JOBS_DIR".into(), self.path("project/.stepwise/jobs")),
        ]
    }

    /// A command in a session of its own, with a bare environment.
    fn command(&self, words: &[&str], env: &[(String, String)]) -> Command {
        let mut command = Command::new("setsid");
        command.args(words).env_clear().envs(env.iter().cloned());
        command.env("PATH", std::env::var("PATH").unwrap());
        command.env("HOME", self.path("home")).env("BIN", self.path("bin"));
        command.current_dir(self.world.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts a tree of so many processes; gives its root.
    pub fn start(
        &mut self,
        name: &str,
        leaked: bool,
        words: &[&str],
        env: &[(String, String)],
        count: usize,
    ) -> Process {
        let child = self.command(words, env).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let root = wait_for(&format!("{name} to run {words:?}"), || {
            procs::process(pid).filter(|process| {
                process.command.contains(words[words.len() - 1]) && !process.command.starts_with("setsid ")
            })
        });
        let processes = wait_for(&format!("the {count} processes of {name}"), || {
            Some(procs::below(pid)).filter(|all| {
                all.len() >= count && all.iter().all(|process| process.command != root.command || process.pid == pid)
            })
        });
        self.trees.push(Tree { name: name.into(), leaked, child, root: root.clone(), processes });
        root
    }

    /// Starts a tree whose parent ends at once: in the session that this one began, below whoever adopts it. `stdin`: what it
    /// reads from.
    pub fn start_orphan(&mut self, script: &str, stdin: &str) -> Process {
        let line = format!("{stdin} sh {script} acp >/dev/null 2>&1 & echo $!");
        let output = self.command(&["sh", "-c", &line], &[]).stdout(Stdio::piped()).output().unwrap();
        let pid = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        wait_for("the orphan and its child", || {
            let root = procs::process(pid).filter(|process| process.command == format!("sh {script} acp"))?;
            (procs::below(pid).len() == 2).then_some(root)
        })
    }

    /// A job of Stepwise's.
    pub fn job(&self, id: &str, status: &str) {
        self.store.execute("INSERT INTO jobs (id, status) VALUES (?1, ?2)", [id, status]).unwrap();
    }

    /// A run of a job that recorded this process, or only this session.
    pub fn run(&mut self, job: &str, root: Option<&Process>, session: &str) {
        self.runs += 1;
        let state = match root {
            Some(root) => json!({"pid": root.pid, "pgid": root.pid, "session_id": session, "working_dir": "/"}),
            None => json!({"session_id": session}),
        };
        let run = format!("run-{}", self.runs);
        self.store
            .execute(
                "INSERT INTO step_runs (id, job_id, step_name, attempt, status, executor_state, started_at)
                 VALUES (?1, ?2, 'work', 1, 'running', ?3, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'))",
                [&run, job, &state.to_string()],
            )
            .unwrap();
    }

    /// A job of a program that keeps a file for each.
    pub fn file_job(&self, id: &str, state: &str, root: &Process) {
        let text =
            json!({"id": id, "state": state, "pid": root.pid, "startTime": start_of(root), "command": root.command});
        fs::write(self.world.path().join(format!("jobs/{id}.json")), text.to_string()).unwrap();
    }

    /// A session of acpx's.
    pub fn acpx_session(&self, id: &str, closed: bool, root: &Process) {
        let text = json!({
            "schema": "acpx.session.v1", "acpx_record_id": id, "acp_session_id": format!("acp-{id}"), "cwd": "/",
            "agent_command": "gemini --acp", "closed": closed, "pid": root.pid, "agent_started_at": start_of(root),
        });
        fs::write(self.world.path().join(format!("home/.acpx/sessions/{id}.json")), text.to_string()).unwrap();
    }

    /// Runs `tenure`; the state directory is not there.
    pub fn tenure(&self, words: &[&str]) -> Output {
        let jobs = format!("files={}", self.path("jobs"));
        let mut args = words.to_vec();
        args.extend(["--ledger", &jobs, "--min-age", "0s"]);
        self.world.cli(&args)
    }

    /// What a scan says of each tree that it finds.
    #[track_caller]
    pub fn scan(&self, more: &[&str]) -> Vec<Value> {
        let output = self.tenure(&[&["scan", "-o", "json"], more].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(list["kind"], "List");
        list["items"].as_array().unwrap().clone()
    }
}

/// Every file and directory below this one, with its length.
pub fn listing(dir: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            found.extend(listing(&entry.path()));
        }
        found.insert((entry.path(), meta.len()));
    }
    found
}

impl Drop for Host {
    fn drop(&mut self) {
        // Of a test that failed, and what was to be kept.
        for tree in &self.trees {
            for process in tree.processes.iter().filter(|process| process.is_alive()) {
                let _ = Command::new("kill").args(["-KILL", &process.pid.to_string()]).output();
            }
        }
        for process in procs::working_below(self.world.path()) {
            let _ = Command::new("kill").args(["-KILL", &process.pid.to_string()]).output();
        }
        for tree in &mut self.trees {
            let _ = tree.child.wait();
        }
    }
}

/// When a process started, in milliseconds since 1970.
fn start_of(process: &Process) -> i64 {
    let up: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    // Of the unit that processes are told of: a hundredth of a second, on every Linux that there is.
    ((now - up + process.start as f64 / 100.0) * 1000.0) as i64
}
