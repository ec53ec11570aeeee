//! Chaos: for some seconds jobs begin and end at random, and everything that may die does, at random moments. Then it counts.
//!
//! `TENURE_CHAOS_SEED` plays a plan again, `TENURE_CHAOS_SECONDS` makes it longer (`scripts/soak`). What must hold:
//!
//! - **leaked 0**: once every job has ended, no process that was ever seen with a mark of the instance lives, none with a mark
//!   at all, none that works in a directory of this world (some agents leave children that shed every mark), and neither a run
//!   directory nor a cgroup is left.
//! - **wrongly signalled 0**: bystanders (look-alikes among them), another instance's workloads, and the neighbour, a job
//!   of the same instance that nobody ends, are the processes that they were.
//! - **outcomes doubled 0**: no script and no turn had its effect twice. A job here has one attempt, so its effect is one
//!   line in a file of its own, at most; exactly one, if it `Succeeded`.
//! - **outcomes lost 0**: every job is terminal; one whose processes nobody killed, and that nobody cancelled, has the outcome
//!   that its script gave; none of its runs is in motion. (One whose shim or main process was killed fails; how far it had
//!   come nobody can know.)

use crate::support::procs::{self, Process, marked};
use crate::support::{World, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        (!among.is_empty()).then(|| &among[self.below(among.len())])
    }
}

/// What a job should come to, if nobody touches it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Should {
    Succeed,
    Fail,
    /// It goes on until somebody ends it.
    NotEnd,
}

struct Chaos {
    world: World,
    random: Random,
    effects: PathBuf,
    jobs: BTreeMap<String, Should>,
    /// Jobs that somebody cancelled, or whose processes somebody killed.
    touched: BTreeSet<String>,
    /// Every process that was seen with a mark of the instance.
    seen: BTreeSet<Process>,
    neighbour: Process,
    count: usize,
    is_root: bool,
    clock: Option<Clock>,
    did: BTreeMap<&'static str, usize>,
}

const NEIGHBOUR: &str = "neighbour";
const FLAGS: [&str; 7] =
    ["", "--ignore-term", "--ignore-eof", "--grandchild", "--escaper", "--bare-escaper", "--slow-exit 200ms"];

fn job(name: &str, step: &str) -> String {
    format!(
        "apiVersion: tenure.dev/v1alpha1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  flow:\n    steps:\n      work:\n{step}"
    )
}

fn run(script: &str) -> String {
    format!("        run: {}\n", serde_json::to_string(script).unwrap())
}

impl Chaos {
    /// A world with its own small disk, where one can be had; the disk goes last.
    fn new(seed: u64) -> (Chaos, Disk) {
        let mut world = World::idle();
        let disk = Disk::mount(&world.state());
        for (number, flags) in FLAGS.iter().enumerate() {
            let mut words = vec![format!("{:?}", env!("CARGO_BIN_EXE_tenure-echo"))];
            words.extend(flags.split_whitespace().map(|word| format!("{word:?}")));
            world.drop_file(
                &format!("class-{number}.yaml"),
                &format!(
                    "apiVersion: tenure.dev/v1alpha1\nkind: AgentClass\nmetadata: {{name: class-{number}}}\nspec: {{command: [{}], gracePeriod: 300ms, askPeriod: 200ms}}\n",
                    words.join(", ")
                ),
            );
        }
        world.drop_file(
            "policy.yaml",
            "apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {name: default}\nspec: {lease: 5m, maxConcurrent: {agents: 20, scripts: 50}}\n",
        );
        world.drop_file("neighbour.yaml", &job(NEIGHBOUR, &run("exec sleep 100000")));
        let clock = Clock::of(&mut world);
        world.start();
        let neighbour = wait_for("the neighbour", || {
            world.traces_of(NEIGHBOUR).processes.into_iter().find(|process| process.command == "sleep 100000")
        });
        let effects = world.path().join("effects");
        fs::create_dir(&effects).unwrap();
        let chaos = Chaos {
            world,
            random: Random(seed | 1),
            effects,
            jobs: BTreeMap::new(),
            touched: BTreeSet::new(),
            seen: BTreeSet::new(),
            neighbour,
            count: 0,
            is_root: nix::unistd::geteuid().is_root(),
            clock,
            did: BTreeMap::new(),
        };
        (chaos, disk)
    }

    fn did(&mut self, what: &'static str) {
        *self.did.entry(what).or_default() += 1;
    }

    /// One thing happens.
    fn step(&mut self) {
        self.see();
        match self.random.below(100) {
            0..35 => self.begin(),
            35..50 => self.end_one(),
            50..62 => self.kill_a_process(),
            62..72 => self.kill_the_controller(),
            72..78 => self.hold_the_controller(),
            78..82 => self.start_another_controller(),
            82..88 => self.move_the_manifests_away(),
            88..91 => self.spoil_the_store(),
            91..94 => self.fill_the_disk(),
            94..97 => self.set_the_clock(),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }

    fn see(&mut self) {
        if let Some(instance) = procs::instance_of(&self.world.state()) {
            self.seen.extend(marked(&format!("{instance}/")));
        }
        self.seen.extend(procs::working_below(self.world.path()));
    }

    fn begin(&mut self) {
        self.count += 1;
        let name = format!("job-{}", self.count);
        let effect = self.effects.join(&name);
        let pause = self.random.below(60) as f64 / 100.0;
        let (step, should) = match self.random.below(6) {
            0 => (run(&format!("echo 1 >>{effect:?}; sleep {pause}")), Should::Succeed),
            1 => (run(&format!("echo 1 >>{effect:?}; sleep {pause}; exit 3")), Should::Fail),
            2 => (run(&format!("echo 1 >>{effect:?}; (setsid sleep 1000 &) ; sleep 1000")), Should::NotEnd),
            kind => {
                let class = self.random.below(FLAGS.len());
                let last = if kind == 3 { "@hang" } else { "@say done" };
                let prompt = format!("@sleep {pause}s\n@count {}\n{last}", effect.display());
                let should = if kind == 3 { Should::NotEnd } else { Should::Succeed };
                let prompt = serde_json::to_string(&prompt).unwrap();
                let step = format!(
                    "        executor: agent\n        agent: class-{class}\n        prompt: {prompt}\n        output_mode: stream_result\n"
                );
                (step, should)
            }
        };
        self.world.drop_file(&format!("{name}.yaml"), &job(&name, &step));
        self.jobs.insert(name, should);
        self.did("jobs begun");
    }

    fn end_one(&mut self) {
        let names: Vec<String> = self.jobs.keys().filter(|name| !self.touched.contains(*name)).cloned().collect();
        let Some(name) = self.random.pick(&names).cloned() else { return };
        self.touched.insert(name.clone());
        self.world.cli(&["cancel", &name]);
        self.did("jobs cancelled");
    }

    /// The job that a marked process works for.
    fn owner_of(&self, process: &Process) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).ok()?;
        let mark = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"TENURE_WORKLOAD="))?;
        let uid = std::str::from_utf8(mark).ok()?.split_once('/')?.1.to_owned();
        let workload = self.world.get("workload", &uid)?;
        workload["spec"]["owners"][0]["name"].as_str().map(str::to_owned)
    }

    fn kill_a_process(&mut self) {
        let Some(instance) = procs::instance_of(&self.world.state()) else { return };
        let all = marked(&format!("{instance}/"));
        let Some(victim) = self.random.pick(&all).cloned() else { return };
        match self.owner_of(&victim) {
            Some(owner) if owner != NEIGHBOUR => {
                self.touched.insert(owner);
                let _ = Command::new("kill").args(["-KILL", &victim.pid.to_string()]).output();
                self.did("shims and workloads killed");
            }
            _ => {}
        }
    }

    fn kill_the_controller(&mut self) {
        self.world.kill_controller();
        std::thread::sleep(Duration::from_millis(self.random.below(300) as u64));
        self.see();
        self.world.start();
        self.did("controllers killed");
    }

    fn hold_the_controller(&mut self) {
        let pid = self.world.controller_pid();
        procs::signal(pid, "STOP");
        std::thread::sleep(Duration::from_millis(50 + self.random.below(400) as u64));
        procs::signal(pid, "CONT");
        self.did("controllers held");
    }

    /// By mistake: it must say who holds the directory, and touch nothing.
    fn start_another_controller(&mut self) {
        let output = self.world.cli(&["run", &self.world.manifests().display().to_string()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        self.did("second controllers refused");
    }

    fn move_the_manifests_away(&mut self) {
        let (there, away) = (self.world.manifests(), self.world.path().join("away"));
        fs::rename(&there, &away).unwrap();
        std::thread::sleep(Duration::from_millis(self.random.below(600) as u64));
        fs::rename(&away, &there).unwrap();
        self.did("manifests moved away");
    }

    /// The store is truncated, or overwritten, while no controller runs: one that starts then must end nothing. The good copy
    /// comes back.
    fn spoil_the_store(&mut self) {
        self.world.kill_controller();
        self.see();
        let state = self.world.state();
        let keep = state.join("good");
        fs::create_dir_all(&keep).unwrap();
        for name in ["tenure.db", "tenure.db-wal", "tenure.db-shm"] {
            let _ = fs::remove_file(keep.join(name));
            if state.join(name).exists() {
                fs::rename(state.join(name), keep.join(name)).unwrap();
            }
        }
        let good = fs::read(keep.join("tenure.db")).unwrap();
        let bad = match self.random.below(3) {
            0 => good[..good.len() / 2].to_vec(),
            1 => good.iter().enumerate().map(|(at, byte)| if at > 4096 { byte ^ 0x5a } else { *byte }).collect(),
            _ => b"this is no database".repeat(1000),
        };
        fs::write(state.join("tenure.db"), bad).unwrap();
        let before: Vec<Process> = self.seen.iter().filter(|process| process.is_alive()).cloned().collect();
        let mut controller = self.world.command().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let _ = controller.kill();
        let _ = controller.wait();
        let instance = rusqlite::Connection::open(keep.join("tenure.db"))
            .and_then(|store| {
                store.query_row("SELECT value FROM meta WHERE key = 'instance'", [], |row| row.get::<_, String>(0))
            })
            .unwrap();
        // Whoever is gone ended by itself; a workload that had nothing to end for is still there.
        let holds: Vec<&Process> = before.iter().filter(|it| it.command.starts_with("sleep 1000")).collect();
        let gone: Vec<_> = holds.into_iter().filter(|process| !process.is_alive()).collect();
        assert!(gone.is_empty(), "ended on a store of {instance} that cannot be read: {gone:?}\n{}", self.world.log());
        for name in ["tenure.db", "tenure.db-wal", "tenure.db-shm"] {
            let _ = fs::remove_file(state.join(name));
            if keep.join(name).exists() {
                fs::rename(keep.join(name), state.join(name)).unwrap();
            }
        }
        self.world.start();
        self.did("stores spoilt");
    }

    /// The state directory's file system is full for a while. What runs meanwhile may fail because of that.
    fn fill_the_disk(&mut self) {
        let filler = self.world.state().join("filler");
        if !self.is_root || !is_mounted(&self.world.state()) {
            return;
        }
        for name in self.jobs.keys() {
            self.touched.insert(name.clone());
        }
        if let Ok(mut file) = fs::File::create(&filler) {
            let chunk = vec![0_u8; 1 << 20];
            while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
        }
        std::thread::sleep(Duration::from_millis(300 + self.random.below(700) as u64));
        fs::remove_file(&filler).unwrap();
        self.did("disks filled");
    }

    /// The clock of the controller, the shims, and the workloads jumps, by up to two hours, back or ahead.
    fn set_the_clock(&mut self) {
        let minutes = self.random.below(240);
        if let Some(clock) = &self.clock {
            clock.set(minutes as i64 - 120);
            self.did("clocks set");
        }
    }

    /// Everything is ended; gives the four counts.
    fn calm(&mut self) -> [Vec<String>; 4] {
        self.see();
        // One whose manifest was dropped this moment is not there to be cancelled.
        wait_for("every job to be known", || {
            let jobs = self.world.list("jobs");
            let known: BTreeSet<&str> = jobs.iter().filter_map(|job| job["metadata"]["name"].as_str()).collect();
            self.jobs.keys().all(|name| known.contains(name.as_str())).then_some(())
        });
        let endless = self.jobs.iter().filter(|(_, should)| **should == Should::NotEnd).map(|(name, _)| name.clone());
        for name in endless.collect::<Vec<_>>() {
            wait_for(&format!("{name} to be cancelled"), || {
                matches!(self.world.cli(&["cancel", &name]).status.code(), Some(0 | 3)).then_some(())
            });
            self.touched.insert(name);
        }
        let phase = |job: &serde_json::Value| job["status"]["phase"].as_str().unwrap_or_default().to_owned();
        let terminal = ["Succeeded", "Failed", "Cancelled"];
        let phases: BTreeMap<String, String> = wait_for(&format!("every job to end\n{}", self.world.log()), || {
            let jobs = self.world.list("jobs");
            let all: BTreeMap<String, String> =
                jobs.iter().map(|job| (job["metadata"]["name"].as_str().unwrap().to_owned(), phase(job))).collect();
            let ended = |name: &String| all.get(name).is_some_and(|phase| terminal.contains(&phase.as_str()));
            self.jobs.keys().all(ended).then_some(all)
        });
        let instance = procs::instance_of(&self.world.state()).unwrap();
        let neighbours: BTreeSet<i32> = self.world.traces_of(NEIGHBOUR).processes.iter().map(|it| it.pid).collect();
        let of_neighbour: BTreeSet<String> = self.world.traces_of(NEIGHBOUR).uids;
        let leaks = || {
            let mut left: Vec<String> = Vec::new();
            let all =
                self.seen.iter().filter(|process| process.is_alive()).cloned().chain(marked(&format!("{instance}/")));
            let all: BTreeSet<Process> = all.chain(procs::working_below(self.world.path())).collect();
            let all = all.into_iter();
            left.extend(all.filter(|it| !neighbours.contains(&it.pid)).map(|it| format!("{it:?}")));
            let dirs = fs::read_dir(self.world.state().join("workloads")).into_iter().flatten().flatten();
            let names = dirs.map(|entry| entry.file_name().to_string_lossy().into_owned());
            left.extend(names.filter(|name| !of_neighbour.contains(name)).map(|name| format!("run directory {name}")));
            let cgroups = procs::cgroups_of_instance(&instance).into_iter();
            let theirs = |path: &PathBuf| of_neighbour.iter().any(|uid| path.ends_with(uid));
            left.extend(cgroups.filter(|path| !theirs(path)).map(|path| format!("cgroup {}", path.display())));
            left
        };
        let begun = Instant::now();
        let mut leaked = leaks();
        while !leaked.is_empty() && begun.elapsed() < Duration::from_secs(40) {
            std::thread::sleep(Duration::from_millis(50));
            leaked = leaks();
        }
        let (mut lost, mut doubled) = (Vec::new(), Vec::new());
        for (name, should) in &self.jobs {
            let effects = fs::read_to_string(self.effects.join(name)).unwrap_or_default().lines().count();
            let phase = phases[name].as_str();
            if effects > 1 {
                doubled.push(format!("{name} had its effect {effects} times"));
            }
            let expected = match should {
                Should::Succeed => "Succeeded",
                Should::Fail => "Failed",
                Should::NotEnd => "Cancelled",
            };
            if !self.touched.contains(name) && (phase != expected || effects != 1) {
                let job = self.world.get("job", name).unwrap_or_default();
                lost.push(format!(
                    "{name} should be {expected}, is {phase}, with {effects} effects: {}",
                    job["status"]["message"]
                ));
            }
            if phase == "Succeeded" && effects != 1 {
                lost.push(format!("{name} Succeeded with {effects} effects"));
            }
        }
        for run in self.world.list("stepruns") {
            let (job, at) = (run["spec"]["job"].as_str().unwrap(), run["status"]["phase"].as_str().unwrap());
            if job != NEIGHBOUR && matches!(at, "Pending" | "Running" | "Suspended") {
                lost.push(format!("a run of {job} is still {at}"));
            }
        }
        let mut wronged = Vec::new();
        if !self.neighbour.is_alive() {
            wronged.push(format!("the neighbour: {:?}", self.neighbour));
        }
        [leaked, wronged, lost, doubled]
    }
}

/// The time as a world's controller has it, and whoever that starts, through Debian's libfaketime. Only if it is asked for
/// (`TENURE_CHAOS_CLOCK`, as `scripts/soak` does): the library keeps things in shared memory that outlive who is killed.
struct Clock(PathBuf);

impl Clock {
    fn of(world: &mut World) -> Option<Clock> {
        std::env::var_os("TENURE_CHAOS_CLOCK")?;
        let library = fs::read_dir("/usr/lib").ok()?.flatten().find_map(|entry| {
            let path = entry.path().join("faketime/libfaketimeMT.so.1");
            path.exists().then_some(path)
        })?;
        let clock = Clock(world.path().join("clock"));
        clock.set(0);
        for (name, value) in [
            ("LD_PRELOAD", library.to_str()?),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.to_str()?),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ] {
            world.env(name, value);
        }
        Some(clock)
    }

    /// Written whole, and moved there: half a time would be another time.
    fn set(&self, minutes: i64) {
        let beside = self.0.with_extension("new");
        fs::write(&beside, format!("{minutes:+}m\n")).unwrap();
        fs::rename(beside, &self.0).unwrap();
    }
}

impl Drop for Clock {
    /// What the library left in shared memory for processes that were killed.
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// A small file system of its own for the state directory, where this user may mount one.
struct Disk(Option<PathBuf>);

impl Disk {
    fn mount(path: &Path) -> Disk {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tenure-chaos"])
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        Disk(mounted.then(|| path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Processes that look like what is hunted, and are not.
struct Bystanders(Vec<(Child, Process)>);

impl Bystanders {
    fn new() -> Bystanders {
        let looks: [&[&str]; 3] = [
            &["-c", "sleep 1000; :", "claude-agent-acp"],
            &["-c", "sleep 1000; :", "shim", "/var/lib/tenure/workloads/x"],
            &["-c", "sleep 1000; : TENURE_WORKLOAD=x/y"],
        ];
        let start = |look: &[&str]| {
            let child = Command::new("sh").args(look).env_remove("TENURE_WORKLOAD").spawn().unwrap();
            let process = wait_for("a bystander", || procs::process(i32::try_from(child.id()).unwrap()));
            (child, process)
        };
        Bystanders(looks.iter().map(|look| start(look)).collect())
    }

    fn harmed(&self) -> Vec<String> {
        self.0.iter().filter(|(_, it)| !it.is_alive()).map(|(_, it)| format!("a bystander: {it:?}")).collect()
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            // The sleeper below it first.
            let _ = Command::new("pkill").args(["-KILL", "-P", &child.id().to_string()]).status();
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn nothing_is_leaked_lost_doubled_or_wrongly_signalled() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("TENURE_CHAOS_SEED").unwrap_or(now.as_secs() ^ u64::from(now.subsec_nanos()));
    let span = Duration::from_secs(number("TENURE_CHAOS_SECONDS").unwrap_or(15));
    println!("TENURE_CHAOS_SEED={seed}");

    // Another instance, with a workload of its own, beside.
    let mut other = World::idle();
    other.start();
    other.drop_file("job.yaml", &job("other", &run("exec sleep 100001")));
    let others = wait_for("the other instance's workload", || {
        other.traces_of("other").processes.into_iter().find(|process| process.command == "sleep 100001")
    });
    let bystanders = Bystanders::new();

    let (mut chaos, _disk) = Chaos::new(seed);
    let begun = Instant::now();
    while begun.elapsed() < span {
        chaos.step();
    }
    let [leaked, mut wronged, lost, doubled] = chaos.calm();
    wronged.extend(bystanders.harmed());
    if !others.is_alive() {
        wronged.push(format!("the other instance's workload: {others:?}"));
    }
    println!("{:?}", chaos.did);
    println!(
        "leaked {}, wrongly signalled {}, outcomes lost {}, outcomes doubled {}",
        leaked.len(),
        wronged.len(),
        lost.len(),
        doubled.len()
    );
    let all: Vec<String> = [leaked, wronged, lost, doubled].concat();
    assert!(all.is_empty(), "TENURE_CHAOS_SEED={seed}: {all:#?}\n{}", chaos.world.log());
    other.ok(&["cancel", "other", "--wait"]);
    chaos.world.ok(&["cancel", NEIGHBOUR, "--wait"]);
}
