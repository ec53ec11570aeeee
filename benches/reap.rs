//! What it costs to end a large tree, and to start many small ones, each beside the same done barely. `scripts/bench` builds and
//! runs it.
//!
//! - a tree of 1,000 processes, from the verdict to the last of them gone (the hands record the stage, hold each process against the never-rules, and end it): in a cgroup,
//!   against `cgroup.kill` and a wait; without one, against a walk from the shim down that kills what it finds until there is nothing;
//! - 1,000 workloads, from the first start to the last shim's report, by a process that holds 200 MB: against `posix_spawn` of the
//!   same programs by the same process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid as RawPid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use tenure::act::{Hands, Host, HostPolicy, carry_out};
use tenure::model::{
    AnyObject, Cause, InstanceId, Meta, ProcId, Reading, Span, Stage, Time, Workload, WorkloadPhase, WorkloadSpec,
    WorkloadType, WorkloadUid,
};
use tenure::observe::Eyes;
use tenure::os::{Cgroups, StateDir};
use tenure::plan::Action;
use tenure::store::{Store, Txn};
use tokio::sync::Notify;

const ROUNDS: usize = 9;
const PROCESSES: usize = 1_000;
const WORKLOADS: usize = 1_000;
const HELD: usize = 200 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let mut results = serde_json::Map::new();
    println!("{:<52} {:>12} {:>12} {:>8}  promise", "what", "tenure", "bare", "ratio");
    let mut line = |key: &str, what: &str, ours: Duration, bare: Duration, ratio: f64, promise: &str| {
        println!("{what:<52} {:>9.1} ms {:>9.1} ms {ratio:>8.2}  {promise}", millis(ours), millis(bare));
        results.insert(key.into(), json!({"tenure_ms": millis(ours), "bare_ms": millis(bare), "ratio": ratio}));
    };
    for (cgroups, key, what) in [
        (true, "kill_cgroup", "a tree of 1,000 gone, in a cgroup"),
        (false, "kill_walk", "a tree of 1,000 gone, without a cgroup"),
    ] {
        let world = World::new(cgroups);
        if cgroups && world.host.cgroups.is_none() {
            println!("{what:<52} there are no cgroups here");
            continue;
        }
        // Side by side, round by round: the machine is as busy for one as for the other.
        let rounds: Vec<_> = (0..ROUNDS).map(|round| (world.kill(round, false), world.kill(round, true))).collect();
        let (bare, ours) = (median(rounds.iter().map(|it| it.0)), median(rounds.iter().map(|it| it.1)));
        line(key, what, ours, bare, ours.as_secs_f64() / bare.as_secs_f64(), "at most 1.3");
    }
    let held = vec![1_u8; HELD];
    let world = World::new(true);
    let rounds: Vec<_> = (0..3).map(|round| (spawn_bare(), world.start(round))).collect();
    let (bare, ours) = (median(rounds.iter().map(|it| it.0)), median(rounds.iter().map(|it| it.1)));
    let what = format!("{WORKLOADS} started by a process of {} MB", held.iter().step_by(1 << 20).count());
    line("start", &what, ours, bare, bare.as_secs_f64() / ours.as_secs_f64(), "at least 0.4 (rates)");
    println!("{}", Value::Object(results));
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(all: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = all.collect();
    all.sort();
    all[all.len() / 2]
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

fn clock() -> Time {
    Time(
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap(),
    )
}

/// Ten branches of a hundred leaves.
fn tree() -> String {
    let leaves = PROCESSES / 10 - 1;
    let branch = format!("i=0; while [ $i -lt {leaves} ]; do sleep 1000 & i=$((i+1)); done; wait");
    format!(
        "j=1; while [ $j -lt 10 ]; do sh -c '{branch}' & j=$((j+1)); done; i=0; while [ $i -lt {leaves} ]; do sleep 1000 & i=$((i+1)); done; wait"
    )
}

/// The hands and the eyes of one instance.
struct World {
    _dir: tempfile::TempDir,
    state: StateDir,
    store: Arc<Store>,
    host: Arc<Host>,
}

impl World {
    fn new(cgroups: bool) -> World {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir(dir.path().join("state"));
        fs::create_dir_all(state.workloads()).unwrap();
        fs::write(state.lock_file(), "").unwrap();
        let store = Arc::new(Store::open(&state.store_file()).unwrap());
        let instance: InstanceId = store.instance().clone();
        let host = Arc::new(Host {
            state_dir: state.clone(),
            instance: instance.clone(),
            cgroups: cgroups.then(|| Cgroups::detect(&instance)).flatten(),
            exe: PathBuf::from(env!("CARGO_BIN_EXE_tenure")),
            ask: Arc::new(|_| false),
            policy: RwLock::new(HostPolicy::default()),
        });
        World { _dir: dir, state, store, host }
    }

    /// Rows of workloads that are about to be started.
    fn rows(&self, uids: &[WorkloadUid], command: &[&str]) {
        let mut txn = Txn::default();
        for uid in uids {
            let spec = WorkloadSpec {
                r#type: WorkloadType::Script,
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                cwd: "/".into(),
                grace_period: Span::seconds(0),
                ..WorkloadSpec::default()
            };
            let mut row = Workload { metadata: Meta::named(uid.as_str()), spec, ..Workload::default() };
            row.metadata.uid = uid.as_str().into();
            row.status.phase = WorkloadPhase::Starting;
            txn = txn.put(AnyObject::Workload(row));
        }
        self.store.commit(txn, clock()).unwrap();
    }

    fn seen(&self, eyes: &mut Eyes) -> BTreeMap<WorkloadUid, Vec<ProcId>> {
        match eyes.look(clock(), &BTreeSet::new()).workloads {
            Reading::Known(trees) => {
                let members = |tree: &tenure::model::SeenWorkload| tree.members().map(|it| it.id).collect();
                trees.iter().map(|(uid, tree)| (uid.clone(), members(tree))).collect()
            }
            Reading::Unknown(why) => panic!("{why}"),
        }
    }

    /// From the verdict on such a tree to its last process gone.
    fn kill(&self, round: usize, ours: bool) -> Duration {
        let uid = WorkloadUid::from(format!("tree-{round}-{ours}").as_str());
        self.rows(std::slice::from_ref(&uid), &["sh", "-c", &tree()]);
        carry_out(&*self.store, &*self.host, &uid, &Action::Start, &clock).unwrap();
        let mut eyes = Eyes::new(self.state.clone(), self.host.instance.clone(), self.host.cgroups.clone());
        let members = wait_until("the tree", || {
            let members = self.seen(&mut eyes).remove(&uid)?;
            (members.len() == PROCESSES).then_some(members)
        });
        let shim = shim_of(&self.state, &uid);
        std::thread::sleep(Duration::from_millis(100));
        let watch = Watch::new(&members);
        let targets = members;
        let begun = Instant::now();
        if ours {
            let kill = Action::Stop {
                stage: Stage::Kill { round: 1, deadline: clock(), sent: false },
                cause: Cause::OwnerTerminal,
                message: "its job ended".into(),
                processes: targets.iter().map(|id| id.pid).collect(),
                targets,
                held_bytes: 0,
            };
            carry_out(&*self.store, &*self.host, &uid, &kill, &clock).unwrap();
        } else if let Some(cgroups) = &self.host.cgroups {
            fs::write(cgroups.path(&uid).join("cgroup.kill"), "1").unwrap();
        } else {
            walk(shim);
        }
        watch.wait();
        let took = begun.elapsed();
        self.clean(&uid);
        took
    }

    /// From the first start to the last shim's report.
    fn start(&self, round: usize) -> Duration {
        let uids: Vec<WorkloadUid> =
            (0..WORKLOADS).map(|number| WorkloadUid::from(format!("many-{round}-{number}").as_str())).collect();
        self.rows(&uids, &["sleep", "1000"]);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let took = runtime.block_on(async {
            let bell = Arc::new(Notify::new());
            let hands = Hands::new(self.store.clone(), self.host.clone(), bell.clone(), clock);
            let begun = Instant::now();
            for uid in &uids {
                hands.submit(uid, Action::Start);
            }
            while !hands.idle() {
                bell.notified().await;
            }
            let failed = hands.acts().by_workload.into_values().find_map(|act| act.error);
            assert!(failed.is_none(), "{failed:?}");
            begun.elapsed()
        });
        for uid in &uids {
            let shim = shim_of(&self.state, uid);
            walk(shim);
        }
        uids.iter().for_each(|uid| self.clean(uid));
        took
    }

    fn clean(&self, uid: &WorkloadUid) {
        let left = self.state.workload(uid).join("exit.json");
        wait_until("its exit", || left.exists().then_some(()));
        wait_until("its end", || carry_out(&*self.store, &*self.host, uid, &Action::Clean, &clock).ok());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(cgroups) = &self.host.cgroups {
            cgroups.remove_base();
        }
    }
}

fn shim_of(state: &StateDir, uid: &WorkloadUid) -> i32 {
    let text = fs::read_to_string(state.workload(uid).join("shim.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    i32::try_from(file["shim"]["pid"].as_i64().unwrap()).unwrap()
}

/// Kills what is below a process, again and again until nothing is. The process itself collects it: it is a subreaper.
fn walk(root: i32) {
    loop {
        let below = below(root);
        if below.is_empty() {
            return;
        }
        for pid in below.iter().filter_map(|pid| RawPid::from_raw(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn below(root: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children: Vec<i32> = text.split_ascii_whitespace().map(|word| word.parse().unwrap()).collect();
        found.extend(&children);
        open.extend(children);
    }
    found
}

/// Holds every process, and waits until all have ended.
struct Watch(Vec<OwnedFd>);

impl Watch {
    fn new(members: &[ProcId]) -> Watch {
        let open = |id: &ProcId| pidfd_open(RawPid::from_raw(id.pid.get()).unwrap(), PidfdFlags::empty()).unwrap();
        Watch(members.iter().map(open).collect())
    }

    fn wait(&self) {
        for fd in &self.0 {
            let mut polled = [PollFd::new(fd, PollFlags::IN)];
            while poll(&mut polled, None).is_err() {}
        }
    }
}

/// The same programs with nothing around them, on a thread for each core, as the hands have threads too. The library takes
/// `posix_spawn` for these.
fn spawn_bare() -> Duration {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let spawn = || Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let all: Vec<Child> = std::thread::scope(|scope| {
        let part = || (0..WORKLOADS / threads).map(|_| spawn()).collect::<Vec<Child>>();
        let parts: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let took = begun.elapsed().mul_f64(WORKLOADS as f64 / all.len() as f64);
    for mut child in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    took
}
