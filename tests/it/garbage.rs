//! Bad input to every file that is read back. Whatever is in such a file: the object says what happened and where, its
//! workload is stopped in order, the loop goes on, and the controller's memory stays small.

use crate::support::procs::{self, Process};
use crate::support::{Traces, World, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// No controller holds more at any time, in bytes. A large test of a few megabytes of its own is far below; to hold what
/// these tests write would take as much as they write, and more.
const MEMORY_MAX: u64 = 200 << 20;

/// What may stand in the place of a file that is read back.
#[derive(Debug, Clone, Copy)]
enum Garbage {
    Nothing,
    Half,
    NotJson,
    WrongTypes,
    AnotherVersion,
    Zeros,
    NotText,
    Deep,
    Huge,
    Directory,
    Fifo,
    Endless,
    Loop,
    Forbidden,
}

const ALL: [Garbage; 14] = [
    Garbage::Nothing,
    Garbage::Half,
    Garbage::NotJson,
    Garbage::WrongTypes,
    Garbage::AnotherVersion,
    Garbage::Zeros,
    Garbage::NotText,
    Garbage::Deep,
    Garbage::Huge,
    Garbage::Directory,
    Garbage::Fifo,
    Garbage::Endless,
    Garbage::Loop,
    Garbage::Forbidden,
];

impl Garbage {
    /// The kinds that this user can make: root may read what is forbidden.
    fn all() -> impl Iterator<Item = Garbage> {
        let is_root = nix::unistd::geteuid().is_root();
        ALL.into_iter().filter(move |garbage| !(is_root && matches!(garbage, Garbage::Forbidden)))
    }

    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Puts it where `path` is. A file's content moves in as a whole, as the writers of these files do it.
    fn put(self, path: &Path) {
        let bytes: &[u8] = match self {
            Garbage::Nothing => b"",
            Garbage::Half => br#"{"version": 1, "bootId": "abc", "sh"#,
            Garbage::NotJson => b"Segmentation fault (core dumped)\n",
            Garbage::WrongTypes => {
                br#"{"version": 1, "bootId": 7, "shim": "me", "exit": [], "command": {}, "workload": 1}"#
            }
            Garbage::AnotherVersion => br#"{"version": 4000000000}"#,
            Garbage::Zeros => &[0; 4096],
            Garbage::NotText => b"{\"version\": 1, \"bootId\": \"\xff\xfe\xc0\"}",
            Garbage::Deep => &[b'['; 100_000],
            Garbage::Huge => &vec![b' '; 50 << 20],
            Garbage::Forbidden => b"{}",
            Garbage::Directory | Garbage::Fifo | Garbage::Endless | Garbage::Loop => return self.put_in_place(path),
        };
        let beside = path.with_extension("garbage");
        fs::write(&beside, bytes).unwrap();
        if matches!(self, Garbage::Forbidden) {
            fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        }
        fs::rename(beside, path).unwrap();
    }

    fn put_in_place(self, path: &Path) {
        let _ = fs::remove_file(path);
        match self {
            Garbage::Directory => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("something"), "in it").unwrap();
            }
            Garbage::Fifo => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            Garbage::Endless => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
            _ => std::os::unix::fs::symlink(path, path).unwrap(),
        }
    }
}

pub(crate) fn script(name: &str, script: &str) -> String {
    format!(
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  flow:\n    steps:\n      work:\n        run: {}\n",
        serde_json::to_string(script).unwrap()
    )
}

/// The run directory of a job's one workload.
pub(crate) fn run_dir(world: &World, job: &str) -> Option<PathBuf> {
    let workload = world.workloads_of(job).pop()?;
    let dir = world.state().join("workloads").join(workload["metadata"]["uid"].as_str()?);
    (workload["status"]["phase"] == "Running" && dir.join("shim.json").exists()).then_some(dir)
}

/// That the loop goes on: a job that begins now runs to its end; and what the controller has held in memory.
#[track_caller]
pub(crate) fn goes_on(world: &World) {
    world.drop_file("neighbour.yaml", &script("neighbour", "echo well"));
    let neighbour = world.wait_job("neighbour", "Succeeded");
    assert_eq!(neighbour["status"]["outputs"]["stdout"], "well");
    let status = fs::read_to_string(format!("/proc/{}/status", world.controller_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    let peak = peak.parse::<u64>().unwrap() << 10;
    assert!(peak < MEMORY_MAX, "the controller held {} MB", peak >> 20);
    eprintln!("the controller held {} MB at most", peak >> 20);
}

/// That a job failed and says why, on the job, on its run, on its workload, and among the events; and nothing of it is left.
#[track_caller]
pub(crate) fn failed_because(world: &World, job: &str, cause: &str, words: &[&str]) {
    let ended = world.wait_job(job, "Failed");
    let run = world.runs(job).remove("work").unwrap();
    let workload = world.workloads_of(job).pop().unwrap();
    let events = world.ok(&["events"]);
    for text in [&ended["status"]["message"], &run["status"]["message"], &workload["status"]["message"]] {
        let text = text.as_str().unwrap_or_default();
        for word in words {
            assert!(text.contains(word), "{job}: `{word}` is not in `{text}`");
        }
    }
    assert_eq!(workload["status"]["cause"], cause, "{workload:#}");
    let uid = workload["metadata"]["uid"].as_str().unwrap();
    let told = |line: &&str| line.contains(uid) && line.contains(cause);
    assert!(events.lines().find(told).is_some_and(|line| words.iter().all(|word| line.contains(word))), "{events}");
    world.wait_gone(&world.traces_of(job));
}

/// Every kind of garbage in the place of a file that the shim wrote, while the workload runs.
fn a_file_of_a_shim(file: &str, cgroups: bool, killed: bool) {
    let mut world = World::idle();
    if !cgroups {
        world.env("TENURE_CGROUP", "off");
    }
    world.start();
    for garbage in Garbage::all() {
        world.drop_file(&format!("{}.yaml", garbage.name()), &script(&garbage.name(), "sleep 1000"));
    }
    let dirs: Vec<(Garbage, PathBuf)> = Garbage::all()
        .map(|garbage| (garbage, wait_for("its shim to report", || run_dir(&world, &garbage.name()))))
        .collect();
    let traces = Garbage::all().map(|garbage| world.traces_of(&garbage.name())).fold(Traces::default(), Traces::and);
    if killed {
        world.kill_controller();
    }
    for (garbage, dir) in &dirs {
        garbage.put(&dir.join(file));
    }
    if killed {
        world.start();
    }
    for (garbage, dir) in &dirs {
        let path = dir.join(file).display().to_string();
        failed_because(&world, &garbage.name(), "Garbled", &[&path, "cannot be understood", "only its shim"]);
    }
    world.wait_gone(&traces);
    goes_on(&world);
}

#[test]
fn what_a_shim_says_of_itself_with_cgroups() {
    a_file_of_a_shim("shim.json", true, false);
}

#[test]
fn what_a_shim_says_of_itself_without_cgroups() {
    a_file_of_a_shim("shim.json", false, false);
}

#[test]
fn what_a_shim_says_of_itself_after_the_controller_was_killed() {
    a_file_of_a_shim("shim.json", false, true);
}

#[test]
fn what_a_shim_says_of_the_end_before_there_was_one() {
    a_file_of_a_shim("exit.json", true, false);
}

#[test]
fn what_a_shim_says_of_the_end_before_there_was_one_after_the_controller_was_killed() {
    a_file_of_a_shim("exit.json", false, true);
}

/// The script has ended, and how cannot be known: that is no success.
#[test]
fn what_a_shim_says_of_the_end() {
    let mut world = World::new();
    let go = world.path().join("go");
    for garbage in Garbage::all() {
        let waits = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
        world.drop_file(&format!("{}.yaml", garbage.name()), &script(&garbage.name(), &waits));
    }
    let dirs: Vec<(Garbage, PathBuf)> = Garbage::all()
        .map(|garbage| (garbage, wait_for("its shim to report", || run_dir(&world, &garbage.name()))))
        .collect();
    world.kill_controller();
    fs::write(go, "").unwrap();
    for (garbage, dir) in &dirs {
        wait_for("its end", || dir.join("exit.json").exists().then_some(()));
        garbage.put(&dir.join("exit.json"));
    }
    world.start();
    for (garbage, dir) in &dirs {
        let path = dir.join("exit.json").display().to_string();
        failed_because(&world, &garbage.name(), "Garbled", &[&path, "cannot be understood"]);
    }
    goes_on(&world);
}

/// A shim that does not understand what it is to do does nothing, and says so.
#[test]
fn what_a_shim_is_told_to_do() {
    for garbage in Garbage::all() {
        let scratch = tempfile::tempdir().unwrap();
        garbage.put(&scratch.path().join("spec.json"));
        let mut shim = Command::new(env!("CARGO_BIN_EXE_tenure"));
        shim.arg("shim").arg(scratch.path()).stdin(Stdio::null());
        let output = shim.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{garbage:?}: {said}");
        assert!(said.contains("spec.json"), "{garbage:?}: {said}");
        for name in ["begun", "shim.json", "exit.json", "stdout"] {
            assert!(!scratch.path().join(name).exists(), "{garbage:?}: there is {name}");
        }
    }
}

/// `tenure detach` finds out from the same file what it would have to get rid of. It starts nothing that would not be free;
/// and a workload's end does not need the file.
#[test]
fn what_a_shim_was_told_to_do_when_something_is_to_be_let_go() {
    let mut world = World::idle();
    world.env("TENURE", env!("CARGO_BIN_EXE_tenure"));
    world.start();
    let work = world.path().join("work");
    fs::create_dir(&work).unwrap();
    let go = work.join("go");
    for garbage in Garbage::all() {
        let name = garbage.name();
        let lets_go = format!(
            "while [ ! -e {} ]; do sleep 0.02; done; \"$TENURE\" detach -- touch {}",
            go.display(),
            work.join(format!("started-{name}")).display()
        );
        world.drop_file(&format!("{name}.yaml"), &script(&name, &lets_go));
    }
    for garbage in Garbage::all() {
        garbage.put(&wait_for("its shim to report", || run_dir(&world, &garbage.name())).join("spec.json"));
    }
    fs::write(&go, "").unwrap();
    for garbage in Garbage::all() {
        let message = world.wait_job(&garbage.name(), "Failed")["status"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("spec.json") && message.contains("was not started"), "{garbage:?}: {message}");
        world.wait_gone(&world.traces_of(&garbage.name()));
    }
    let started: Vec<_> = fs::read_dir(&work).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(started, ["go"]);
    goes_on(&world);
}

/// A register that says nothing costs nobody's life, and hides nobody.
#[test]
fn the_register_of_what_was_let_go() {
    let mut world = World::idle();
    world.env("TENURE", env!("CARGO_BIN_EXE_tenure"));
    world.start();
    let register = world.state().join("let-go");
    for garbage in Garbage::all() {
        world.drop_file(
            &format!("{}.yaml", garbage.name()),
            &script(&garbage.name(), "\"$TENURE\" detach -- sleep 1000"),
        );
    }
    let kept_by = |garbage: Garbage| {
        let workload = world.workloads_of(&garbage.name()).pop()?;
        let [kept] = &workload["status"]["letGo"].as_array()?[..] else { return None };
        assert_eq!((&kept["command"], &kept["why"]), (&"sleep 1000".into(), &"Detached".into()));
        procs::process(i32::try_from(kept["pid"].as_i64()?).ok()?)
    };
    let keepers: Vec<_> =
        Garbage::all().map(|garbage| (garbage, wait_for("its keeper", || kept_by(garbage)))).collect();
    let _ends = LetGo(keepers.iter().map(|(_, keeper)| keeper.clone()).collect());
    // Nor does anything that has no business there.
    for (at, garbage) in Garbage::all().enumerate() {
        garbage.put(&register.join(format!("garbage-{at}")));
    }
    for (garbage, keeper) in &keepers {
        let entries = fs::read_dir(&register).unwrap().flatten();
        let name = format!(".{}.{}", keeper.pid, keeper.start);
        let entry = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(&name));
        garbage.put(&entry.unwrap());
    }
    for (garbage, keeper) in &keepers {
        world.ok(&["cancel", &garbage.name()]);
        world.wait_job(&garbage.name(), "Cancelled");
        wait_for("its workload to stop", || {
            let workload = world.workloads_of(&garbage.name()).pop()?;
            (workload["status"]["phase"] == "Stopped").then_some(())
        });
        assert!(keeper.is_alive(), "{garbage:?} cost what was let go its life\n{}", world.log());
        assert_eq!(kept_by(*garbage).as_ref(), Some(keeper), "{garbage:?}: it is listed as long as it lives");
    }
    goes_on(&world);
}

/// Ends what was let go, for nobody else does; its keepers end with it.
struct LetGo(Vec<Process>);

impl Drop for LetGo {
    fn drop(&mut self) {
        let all = procs::all();
        for keeper in self.0.iter().filter(|keeper| keeper.is_alive()) {
            for kept in all.iter().filter(|process| procs::parent(process.pid) == Some(keeper.pid)) {
                let _ = Command::new("kill").args(["-KILL", &kept.pid.to_string()]).output();
            }
        }
    }
}

/// Where the register itself cannot be read nobody knows who was let go: nothing is ended.
#[test]
fn a_register_that_is_none() {
    let world = World::new();
    world.drop_file("job.yaml", &script("job", "sleep 1000"));
    wait_for("the script", || run_dir(&world, "job"));
    let traces = world.traces_of("job");
    fs::write(world.state().join("let-go"), "no directory").unwrap();
    world.ok(&["cancel", "job"]);
    world.wait_job("job", "Cancelled");
    let why = wait_for("the reason", || {
        let plan = world.ok(&["plan"]);
        plan.contains("the process table is unknown").then_some(plan)
    });
    assert!(why.contains("let-go"), "{why}");
    assert!(traces.processes.iter().all(|process| process.is_alive()));
    fs::remove_file(world.state().join("let-go")).unwrap();
    world.wait_gone(&traces);
    goes_on(&world);
}
