//! What a look costs, with 200, 2,000, and 10,000 processes on the host, beside the floor (one `getdents64` pass over `/proc`)
//! and beside other ways to see processes, in one run. `scripts/bench` builds and runs it.
//!
//! Each round asks every way once, so that a noisy moment hits all of them; what is printed are medians.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, seek};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tenure::model::{Breadth, InstanceId, Observed, ProcId, Reading, Time, WorkloadUid};
use tenure::observe::Eyes;
use tenure::os::{Cgroups, MARK, StateDir, boot_id, start_time};

const SIZES: [usize; 3] = [200, 2_000, 10_000];
/// Rounds of what is cheap, and of what is not.
const ROUNDS: usize = 51;
const SLOW_ROUNDS: usize = 3;
/// Who is younger than this is read at each look.
const YOUNG: Duration = Duration::from_secs(3);
const PROMISE: f64 = 1.2;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("--sleepers") {
        sleepers(args.next().and_then(|count| count.parse().ok()).expect("a number"));
        return;
    }
    let mut results = serde_json::Map::new();
    for size in SIZES {
        results.insert(size.to_string(), measure(size));
    }
    println!("{}", json!({"looks_ms": results}));
}

/// Forks this many that wait for ever; they end with the one that forked them, and that one with the benchmark.
fn sleepers(count: usize) {
    let die_with_parent = || nix::sys::prctl::set_pdeathsig(Some(nix::sys::signal::Signal::SIGKILL)).unwrap();
    die_with_parent();
    for _ in 0..count {
        // SAFETY: there is one thread, and the child calls nothing that could need another.
        if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
            die_with_parent();
            loop {
                nix::unistd::pause();
            }
        }
    }
    println!("ready");
    loop {
        nix::unistd::pause();
    }
}

/// Sleepers in a group of their own; all of them are killed and collected when it is dropped.
struct Crowd(Child);

impl Crowd {
    fn new(count: usize) -> Crowd {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--sleepers", &count.to_string()])
            .env_remove(MARK)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let crowd = Crowd(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the sleepers could not be started");
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
        let begun = Instant::now();
        while rustix::process::test_kill_process_group(group).is_ok() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Workloads of ours: each a shim and a main process, in a cgroup of its own where there can be one.
struct Ours {
    _dir: tempfile::TempDir,
    eyes: Eyes,
    cgroups: Option<Cgroups>,
    children: Vec<Child>,
}

impl Ours {
    fn new(workloads: usize) -> Ours {
        let dir = tempfile::tempdir().unwrap();
        let instance = InstanceId(format!("looks-{workloads}-{}", std::process::id()));
        let cgroups = (workloads > 0).then(|| Cgroups::detect(&instance)).flatten();
        let mut children = Vec::new();
        for number in 0..workloads {
            let uid = WorkloadUid(format!("w{number}"));
            let cgroup = cgroups.as_ref().map(|cgroups| cgroups.create(&uid, None).unwrap());
            let enter = match &cgroup {
                Some(path) => format!("echo $$ >{}/cgroup.procs; ", path.display()),
                None => String::new(),
            };
            let shim = Command::new("sh")
                .args(["-c", &format!("sh -c '{enter}exec sleep 1000' & wait")])
                .env(MARK, format!("{instance}/{uid}"))
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            let pid = tenure::model::Pid::new(i32::try_from(shim.id()).unwrap()).unwrap();
            let id = ProcId { pid, start: start_time(pid).unwrap().unwrap() };
            let run = dir.path().join("workloads").join(uid.as_str());
            fs::create_dir_all(&run).unwrap();
            let file = json!({"version": 1, "bootId": boot_id().unwrap(), "shim": id});
            fs::write(run.join("shim.json"), file.to_string()).unwrap();
            children.push(shim);
        }
        let eyes = Eyes::new(StateDir(dir.path().into()), instance, cgroups.clone());
        Ours { _dir: dir, eyes, cgroups, children }
    }

    fn look(&mut self, breadth: Breadth) -> Observed {
        self.eyes.look_at(breadth, Time(0), &BTreeSet::new())
    }

    /// What such a look must have seen.
    fn assert_complete(&mut self, breadth: Breadth) {
        let observed = self.look(breadth);
        assert_eq!(observed.breadth, breadth);
        let Reading::Known(trees) = observed.workloads else { panic!("unknown") };
        let processes: usize = trees.values().map(|tree| tree.processes.len()).sum();
        assert_eq!((trees.len(), processes), (self.children.len(), self.children.len() * 2));
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
        if let Some(cgroups) = &self.cgroups {
            let begun = Instant::now();
            for uid in cgroups.list().unwrap_or_default() {
                while !cgroups.remove(&uid).unwrap_or(true) && begun.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            cgroups.remove_base();
        }
    }
}

/// The floor: what the kernel takes to list.
struct Floor {
    proc: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Floor {
    fn new() -> Floor {
        let proc = open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Floor { proc, buffer: vec![MaybeUninit::uninit(); 256 << 10] }
    }

    fn pass(&mut self) -> u64 {
        seek(&self.proc, SeekFrom::Start(0)).unwrap();
        let mut entries = RawDir::new(&self.proc, &mut self.buffer);
        let mut sum = 0_u64;
        while let Some(entry) = entries.next() {
            sum = sum.wrapping_add(entry.unwrap().ino());
        }
        sum
    }
}

/// psutil, in a process that answers each line with one reading.
struct Psutil {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

const PSUTIL: &str = "
import sys, psutil
fields = ['pid', 'ppid', 'create_time', 'cmdline', 'environ']
for line in sys.stdin:
    print(len([p.info for p in psutil.process_iter(fields)]), flush=True)
";

impl Psutil {
    /// With the Python that `scripts/bench` has prepared.
    fn new() -> Option<Psutil> {
        let python = PathBuf::from(std::env::var_os("BENCH_PYTHON")?);
        let mut child =
            Command::new(python).args(["-c", PSUTIL]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (stdin, stdout) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Psutil { child, stdin, stdout })
    }

    fn read(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(line.trim().parse::<usize>().is_ok_and(|count| count > 0), "psutil said {line:?}");
    }
}

impl Drop for Psutil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn every_stat() {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if entry.file_name().as_encoded_bytes()[0].is_ascii_digit() {
            let _ = black_box(fs::read(entry.path().join("stat")));
        }
    }
}

fn procfs_stat() {
    for process in procfs::process::all_processes().unwrap().flatten() {
        let _ = black_box(process.stat());
    }
}

fn procfs_all() {
    for process in procfs::process::all_processes().unwrap().flatten() {
        let _ = black_box((process.stat(), process.cmdline(), process.environ()));
    }
}

fn sysinfo_refresh(system: &mut sysinfo::System, full: bool) {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};
    let kind = if full { ProcessRefreshKind::everything() } else { ProcessRefreshKind::nothing() };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
}

fn ps() {
    let listed = Command::new("ps").args(["-eo", "pid,ppid,pgid,args"]).output().unwrap();
    assert!(listed.status.success() && !black_box(listed.stdout).is_empty());
}

fn processes() -> usize {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes()[0].is_ascii_digit()).count()
}

/// One way to see, and how long each reading took.
struct Way<'a> {
    name: &'static str,
    read: Box<dyn FnMut() + 'a>,
    rounds: usize,
    promise: bool,
    took: Vec<Duration>,
}

fn way<'a>(name: &'static str, rounds: usize, read: impl FnMut() + 'a) -> Way<'a> {
    Way { name, read: Box::new(read), rounds, promise: false, took: Vec::new() }
}

fn measure(size: usize) -> Value {
    let mut floor = Floor::new();
    let (mut none, mut ten, mut fifty) = (Ours::new(0), Ours::new(10), Ours::new(50));
    let have = processes();
    let _crowd = Crowd::new(size.saturating_sub(have));
    std::thread::sleep(YOUNG + Duration::from_millis(500));
    let mut with_cgroups = ten.cgroups.is_some();
    for ours in [&mut none, &mut ten, &mut fifty] {
        ours.assert_complete(Breadth::Host);
        if ours.cgroups.is_some() {
            ours.assert_complete(Breadth::Own);
        }
        with_cgroups &= ours.cgroups.is_some() || ours.children.is_empty();
    }
    let mut psutil = Psutil::new();
    let (mut basic, mut full) = (sysinfo::System::new().unwrap(), sysinfo::System::new().unwrap());
    let (ten_eyes, fifty_eyes) = (std::cell::RefCell::new(&mut ten), std::cell::RefCell::new(&mut fifty));
    let mut ways = vec![way("the floor: one getdents64 pass", ROUNDS, || {
        black_box(floor.pass());
    })];
    ways.push(Way {
        promise: true,
        ..way("Eyes::look, the whole host", ROUNDS, || {
            black_box(none.look(Breadth::Host));
        })
    });
    ways.push(way("the same, 10 workloads of ours", ROUNDS, || {
        black_box(ten_eyes.borrow_mut().look(Breadth::Host));
    }));
    if with_cgroups {
        ways.push(way("Eyes::look, our own, 10 cgroups", ROUNDS, || {
            black_box(ten_eyes.borrow_mut().look(Breadth::Own));
        }));
        ways.push(way("Eyes::look, our own, 50 cgroups", ROUNDS, || {
            black_box(fifty_eyes.borrow_mut().look(Breadth::Own));
        }));
    }
    ways.push(way("every /proc/PID/stat", SLOW_ROUNDS, every_stat));
    ways.push(way("procfs: stat", SLOW_ROUNDS, procfs_stat));
    ways.push(way("procfs: stat, cmdline, environ", SLOW_ROUNDS, procfs_all));
    ways.push(way("sysinfo: basic", SLOW_ROUNDS, || sysinfo_refresh(&mut basic, false)));
    ways.push(way("sysinfo: full", SLOW_ROUNDS, || sysinfo_refresh(&mut full, true)));
    if let Some(psutil) = &mut psutil {
        ways.push(way("psutil: pid, ppid, start, cmdline, environ", SLOW_ROUNDS, || psutil.read()));
    }
    if Path::new("/bin/ps").exists() || Path::new("/usr/bin/ps").exists() {
        ways.push(way("ps -eo pid,ppid,pgid,args", SLOW_ROUNDS, ps));
    }
    for round in 0..ROUNDS {
        // Each has each place in the order: who comes after a slow one finds cold caches.
        ways.rotate_left(1);
        for way in ways.iter_mut().filter(|way| round < way.rounds) {
            let begun = Instant::now();
            (way.read)();
            way.took.push(begun.elapsed());
        }
    }
    println!("{:<46} {:>12} {:>9}  promise", format!("{} processes", processes()), "median", "× floor");
    let mut results = serde_json::Map::new();
    let places = ways.len();
    ways.rotate_right(ROUNDS % places);
    let mut base = None;
    for mut way in ways {
        way.took.sort();
        let median = way.took[way.took.len() / 2].as_secs_f64() * 1000.0;
        let base = *base.get_or_insert(median);
        let promise = if way.promise { format!("at most {PROMISE}") } else { String::new() };
        println!("{:<46} {median:>9.3} ms {:>9.2}  {promise}", way.name, median / base);
        results.insert(way.name.into(), json!(median));
    }
    if !with_cgroups {
        println!("no cgroups here: looks at our own are left out");
    }
    if psutil.is_none() {
        println!("psutil is left out: scripts/bench could not install it");
    }
    println!();
    Value::Object(results)
}
