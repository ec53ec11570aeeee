//! A world of its own for each test: a state directory, a watched directory, a controller that can be killed and started
//! again, and eyes that trust nothing that the controller says.

pub mod agent;
#[path = "../../support/chat_api.rs"]
pub mod chat_api;
#[path = "../../support/messages_api.rs"]
pub mod messages_api;
pub mod procs;
#[path = "../../support/scale.rs"]
pub mod scale;

use procs::{Process, marked};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: the machine may be busy; nothing waits this long when all is
/// well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A state directory, a watched directory, and perhaps a controller.
pub struct World {
    dir: tempfile::TempDir,
    controller: Option<Child>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl World {
    /// A world with a controller running.
    pub fn new() -> World {
        let mut world = World::idle();
        world.start();
        world
    }

    /// A world without a controller yet.
    pub fn idle() -> World {
        World::idle_at("tenure-it-")
    }

    /// The same, in a directory whose name begins so.
    pub fn idle_at(prefix: &str) -> World {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        fs::create_dir(dir.path().join("manifests")).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        World { dir, controller: None, args: vec!["--resync".into(), "2s".into()], env: Vec::new() }
    }

    /// A further environment variable of the controller.
    pub fn env(&mut self, name: &str, value: &str) -> &mut World {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// Starts a controller and waits until it answers.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.controller.is_none(), "there is a controller already");
        self.controller = Some(self.command().spawn().unwrap());
        wait_for("the controller to answer", || self.cli(&["status"]).status.success().then_some(()));
    }

    /// How a controller of this world is started.
    pub fn command(&self) -> Command {
        let log = File::options().create(true).append(true).open(self.dir.path().join("controller.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command
            .arg("run")
            .arg(self.manifests())
            .arg("--state")
            .arg(self.state())
            .args(&self.args)
            .env("HOME", self.dir.path().join("home"))
            .env("TENURE_LOG", "debug")
            .env_remove("TENURE_WORKLOAD")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// The controller's pid.
    pub fn controller_pid(&self) -> u32 {
        self.controller.as_ref().expect("a controller runs").id()
    }

    /// SIGKILL to the controller, and nothing else.
    pub fn kill_controller(&mut self) {
        let mut controller = self.controller.take().expect("a controller runs");
        controller.kill().unwrap();
        controller.wait().unwrap();
    }

    /// SIGTERM to the controller; gives its exit status.
    pub fn end_controller(&mut self) -> std::process::ExitStatus {
        let mut controller = self.controller.take().expect("a controller runs");
        procs::signal(controller.id(), "TERM");
        controller.wait().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("controller.log")).unwrap_or_default()
    }

    /// Puts a manifest into the watched directory, as an editor does: written beside it, then moved in.
    pub fn drop_file(&self, name: &str, text: &str) {
        let path = self.manifests().join(name);
        let beside = self.dir.path().join("being-written");
        fs::write(&beside, text).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub fn remove_file(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).unwrap();
    }

    /// Applies a manifest through the API.
    #[track_caller]
    pub fn ok_apply(&self, text: &str) {
        let file = self.dir.path().join("applied.yaml");
        fs::write(&file, text).unwrap();
        self.ok(&["apply", "-f", &file.display().to_string()]);
    }

    /// Runs the command line against this world.
    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(args)
            .arg("--state")
            .arg(self.state())
            .env("HOME", self.dir.path().join("home"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same; it must succeed. Gives what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tenure {args:?}: {:?}\n{stderr}\n{}", output.status, self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The objects of a kind.
    #[track_caller]
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.ok(&["get", kind, "-o", "json"])).unwrap();
        list["items"].as_array().expect("a list has items").clone()
    }

    /// One object, if it is there.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.cli(&["get", kind, name, "-o", "json"]);
        match output.status.code() {
            Some(0) => Some(serde_json::from_slice(&output.stdout).unwrap()),
            Some(3) => None,
            other => panic!("get {kind} {name}: {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// The one job whose name is, or begins with, this (bare flows have their content's hash in their names).
    #[track_caller]
    pub fn job(&self, name: &str) -> Option<Value> {
        let jobs = self.list("jobs");
        jobs.into_iter().find(|job| {
            let full = job["metadata"]["name"].as_str().unwrap();
            full == name || full.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && rest.len() == 9)
        })
    }

    /// Waits until a job is in a phase; fails at once if it ends in another one.
    #[track_caller]
    pub fn wait_job(&self, name: &str, phase: &str) -> Value {
        wait_for(&format!("job {name} to be {phase}\n{}", self.log()), || {
            let job = self.job(name)?;
            let now = job["status"]["phase"].as_str()?;
            if now == phase {
                return Some(job);
            }
            let ended = ["Succeeded", "Failed", "Cancelled"].contains(&now);
            assert!(!ended, "job {name} is {now}, not {phase}: {:#}\n{}", job["status"], self.log());
            None
        })
    }

    /// The runs of a job, by step; the newest attempt of each.
    pub fn runs(&self, job: &str) -> std::collections::BTreeMap<String, Value> {
        let mut runs: Vec<Value> = self.list("stepruns");
        runs.retain(|run| run["spec"]["job"].as_str() == Some(job));
        runs.sort_by_key(|run| run["spec"]["attempt"].as_u64());
        runs.into_iter().map(|run| (run["spec"]["step"].as_str().unwrap().to_owned(), run)).collect()
    }

    /// The workloads that have this job among their owners.
    pub fn workloads_of(&self, job: &str) -> Vec<Value> {
        let mut workloads = self.list("workloads");
        workloads
            .retain(|workload| workload["spec"]["owners"].as_array().unwrap().iter().any(|owner| owner["name"] == job));
        workloads
    }

    /// Everything that lives for a job now, as /proc and the run directories tell it.
    pub fn traces_of(&self, job: &str) -> Traces {
        let uids: BTreeSet<String> = self
            .workloads_of(job)
            .iter()
            .map(|workload| workload["metadata"]["uid"].as_str().unwrap().to_owned())
            .collect();
        let mut processes = BTreeSet::new();
        for workload in self.workloads_of(job) {
            for pid in workload["status"]["pids"].as_array().into_iter().flatten() {
                processes.extend(procs::process(i32::try_from(pid.as_i64().unwrap()).unwrap()));
            }
        }
        for uid in &uids {
            processes.extend(marked(uid));
        }
        Traces { uids, processes }
    }

    /// Waits until nothing of these traces is left: no process, by pid and start time or by mark, and no residue.
    #[track_caller]
    pub fn wait_gone(&self, traces: &Traces) {
        wait_for(&format!("nothing to be left of {traces:?}"), || match self.left_of(traces) {
            left if left.is_empty() => Some(()),
            _ => None,
        });
    }

    /// What is left of these traces, in words.
    pub fn left_of(&self, traces: &Traces) -> Vec<String> {
        let mut left = Vec::new();
        left.extend(traces.processes.iter().filter(|process| process.is_alive()).map(|p| format!("{p:?}")));
        for uid in &traces.uids {
            left.extend(marked(uid).into_iter().map(|process| format!("{process:?} carries the mark {uid}")));
            let dir = self.state().join("workloads").join(uid);
            if dir.exists() {
                left.push(dir.display().to_string());
            }
            left.extend(procs::cgroups_of(uid).into_iter().map(|path| path.display().to_string()));
        }
        left
    }
}

/// What there was of a job: its workloads' ids, and the processes that were seen in its trees.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    pub uids: BTreeSet<String>,
    pub processes: BTreeSet<Process>,
}

impl Traces {
    pub fn and(mut self, other: Traces) -> Traces {
        self.uids.extend(other.uids);
        self.processes.extend(other.processes);
        self
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            let _ = controller.kill();
            let _ = controller.wait();
        }
        let instance = procs::instance_of(&self.state());
        if std::thread::panicking() {
            eprintln!("--- controller.log\n{}", self.log());
        }
        if let Some(instance) = instance {
            procs::kill_instance(&instance);
        }
    }
}
