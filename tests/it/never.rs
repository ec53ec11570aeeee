//! What is never touched, through the whole controller: another instance's, another user's, a process that has a pid of ours
//! by chance, and anything at all on a store that cannot be read. (What one signal must not reach is tested beside
//! `os::Held`; a manifest directory that is gone, in `directory`; what was let go, in `letting_go`.)

use crate::garbage::{goes_on, run_dir, script};
use crate::support::procs::{self, Process};
use crate::support::{Traces, World, wait_for};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user that every system has for nobody's processes.
const NOBODY: u32 = 65534;

/// A process of the test's own, that nothing of tenure's started.
struct Stranger {
    child: Child,
    process: Process,
}

impl Stranger {
    fn start(command: &mut Command) -> Stranger {
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = wait_for("its exec", || {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            procs::process(pid).filter(|process| process.command.starts_with("sleep"))
        });
        Stranger { child, process }
    }

    fn with_mark(mark: &str) -> Stranger {
        Stranger::start(Command::new("sleep").arg("1001").env("TENURE_WORKLOAD", mark))
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn policy(spec: &str) -> String {
    format!("apiVersion: tenure.dev/v1alpha1\nkind: Policy\nmetadata: {{name: default}}\nspec: {spec}\n")
}

/// A job that sleeps, once its row says that it runs.
#[track_caller]
fn sleeping(world: &World, name: &str) -> Traces {
    world.drop_file(&format!("{name}.yaml"), &script(name, "sleep 1000"));
    wait_for(&format!("job {name} to sleep\n{}", world.log()), || {
        run_dir(world, name)?;
        let traces = world.traces_of(name);
        traces.processes.iter().any(|process| process.command == "sleep 1000").then_some(traces)
    })
}

fn all_alive(traces: &Traces) -> bool {
    traces.processes.iter().all(Process::is_alive)
}

/// Waits for a look at the whole host that began after now.
#[track_caller]
fn has_looked(world: &World, name: &str) {
    world.drop_file(&format!("{name}.yaml"), &script(name, "true"));
    world.wait_job(name, "Succeeded");
    world.wait_gone(&world.traces_of(name));
}

#[test]
fn another_instances_side_by_side() {
    let (mut one, mut two) = (World::new(), World::new());
    let (of_one, of_two) = (sleeping(&one, "job"), sleeping(&two, "job"));
    for world in [&mut one, &mut two] {
        world.kill_controller();
        world.start();
    }
    one.ok(&["cancel", "job"]);
    one.wait_gone(&of_one);
    has_looked(&one, "after");
    has_looked(&two, "after");
    assert!(all_alive(&of_two), "{:?}", two.left_of(&of_two));
    let uids = |world: &World| -> Vec<String> {
        world.list("workloads").iter().map(|it| it["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
    };
    assert!(uids(&one).iter().all(|uid| !uids(&two).contains(uid)));
    for world in [&one, &two] {
        assert!(!world.ok(&["events"]).contains("Leaked"), "{}", world.log());
    }
}

/// A controller that is itself the workload of another one. Its own workloads are its own business: they outlive it until
/// their lease ends, also when it is ended with its tree, and it ends nothing above it.
fn another_instances_one_inside_of_the_other(cgroups: bool) {
    let mut outer = World::idle();
    if !cgroups {
        outer.env("TENURE_CGROUP", "off");
    }
    outer.start();
    let neighbour = sleeping(&outer, "above");
    let inner = World::idle();
    inner.drop_file("policy.yaml", &policy("{lease: 15s}"));
    let run = format!(
        "exec {} run {} --state {} --resync 1s >{}/controller.log 2>&1",
        env!("CARGO_BIN_EXE_tenure"),
        inner.manifests().display(),
        inner.state().display(),
        inner.path().display()
    );
    outer.drop_file("inner.yaml", &script("inner", &run));
    wait_for("the inner controller", || inner.cli(&["status"]).status.success().then_some(()));
    let (first, second) = (sleeping(&inner, "first"), sleeping(&inner, "second"));

    inner.ok(&["cancel", "first"]);
    inner.wait_gone(&first);
    has_looked(&inner, "after");
    assert!(all_alive(&neighbour) && all_alive(&second), "{}", inner.log());
    assert!(!inner.ok(&["events"]).contains("Leaked"), "{}", inner.log());

    let of_outer = outer.traces_of("inner");
    assert!(of_outer.processes.iter().all(|it| !second.processes.contains(it)), "{of_outer:?} has some of {second:?}");
    outer.ok(&["cancel", "inner"]);
    outer.wait_job("inner", "Cancelled");
    wait_for(&format!("the inner controller to be stopped\n{}", outer.log()), || {
        let workload = outer.workloads_of("inner").pop()?;
        (workload["status"]["phase"] == "Stopped").then_some(())
    });
    assert!(all_alive(&second), "{:?}\n{}", inner.left_of(&second), outer.log());
    has_looked(&outer, "after");
    assert!(all_alive(&neighbour));
    inner.wait_gone(&second);
}

#[test]
fn another_instances_one_inside_of_the_other_with_cgroups() {
    another_instances_one_inside_of_the_other(true);
}

#[test]
fn another_instances_one_inside_of_the_other_without_cgroups() {
    another_instances_one_inside_of_the_other(false);
}

/// The environment is a mark: who carries it, as the same user, has inherited it or has asked for it. What has not its form is
/// none, nor is another instance's.
#[test]
fn marks_that_somebody_made_up() {
    let world = World::new();
    let traces = sleeping(&world, "job");
    let instance = procs::instance_of(&world.state()).unwrap();
    let uid = traces.uids.first().unwrap();
    let others = [
        "",
        "/",
        &instance,
        &format!("{instance}/"),
        &format!("{instance}/../no-such-workload"),
        "another/no-such-workload",
    ]
    .map(Stranger::with_mark);
    let joined = Stranger::with_mark(&format!("{instance}/{uid}"));
    let leaked = Stranger::with_mark(&format!("{instance}/no-such-workload"));
    wait_for("the leak to be ended", || (!leaked.process.is_alive()).then_some(()));
    let told = wait_for("the end of it", || {
        let events = world.ok(&["events"]);
        events.lines().any(|line| line.contains("no-such-workload") && line.contains("Stopped")).then_some(events)
    });
    assert!(told.lines().any(|line| line.contains("no-such-workload") && line.contains("Leaked")), "{told}");
    assert!(joined.process.is_alive() && all_alive(&traces));
    world.ok(&["cancel", "job"]);
    wait_for("the workload to end, and who joined it", || (!joined.process.is_alive()).then_some(()));
    world.wait_gone(&traces);
    goes_on(&world);
    for other in &others {
        assert!(other.process.is_alive(), "{}", world.log());
    }
}

/// Root could signal them all. What a workload of root runs as another user belongs to it, by its parents or its cgroup; what
/// only says so in its environment does not: anybody can write that.
fn another_users(cgroups: bool) {
    if !is_root() {
        eprintln!("not tried: only root can start another user's process");
        return;
    }
    let mut world = World::idle();
    if !cgroups {
        world.env("TENURE_CGROUP", "off");
    }
    world.drop_file("policy.yaml", &policy("{lease: 3s}"));
    world.start();
    let dropped = format!("exec setpriv --reuid {NOBODY} --clear-groups sleep 1002");
    world.drop_file("job.yaml", &script("job", &dropped));
    let traces = wait_for("what runs as another user", || {
        let traces = world.traces_of("job");
        traces.processes.iter().any(|process| process.command == "sleep 1002").then_some(traces)
    });
    let kept = sleeping(&world, "kept");
    let instance = procs::instance_of(&world.state()).unwrap();
    let uids: Vec<&String> = traces.uids.iter().chain(&kept.uids).collect();
    let marks = uids.into_iter().map(|uid| format!("{instance}/{uid}")).chain([format!("{instance}/no-such-workload")]);
    let strangers: Vec<Stranger> = marks
        .map(|mark| Stranger::start(Command::new("sleep").arg("1003").env("TENURE_WORKLOAD", mark).uid(NOBODY)))
        .collect();
    has_looked(&world, "after");
    world.ok(&["cancel", "job"]);
    wait_for(&format!("the workload to be stopped\n{}", world.log()), || {
        let workload = world.workloads_of("job").pop()?;
        (workload["status"]["phase"] == "Stopped").then_some(())
    });
    assert!(traces.processes.iter().all(|process| !process.is_alive()), "{traces:?}");
    assert!(!world.ok(&["events"]).contains("Leaked"));
    // Nor does a shim that ends its workload by itself.
    world.kill_controller();
    wait_for("the lease to end", || kept.processes.iter().all(|process| !process.is_alive()).then_some(()));
    for stranger in &strangers {
        assert!(stranger.process.is_alive(), "{}", world.log());
    }
}

#[test]
fn another_users_with_cgroups() {
    another_users(true);
}

#[test]
fn another_users_without_cgroups() {
    another_users(false);
}

/// Starts a process that has this pid; none: this system does not let us choose.
fn with_pid(pid: i32) -> Option<Stranger> {
    for _ in 0..5000 {
        if Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep").arg("1004").stdin(Stdio::null()).spawn().ok()?;
        if i32::try_from(child.id()).ok() == Some(pid) {
            let process = wait_for("its exec", || procs::process(pid).filter(|it| it.command == "sleep 1004"));
            return Some(Stranger { child, process });
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}

/// Everything of a workload has ended while no controller looked, and strangers have its pids by now: those that its row, its
/// shim's report, and the register of what was let go name.
fn pids_that_were_used_again(cgroups: bool) {
    if !is_root() {
        eprintln!("not tried: only root can choose a pid");
        return;
    }
    let mut world = World::idle();
    if !cgroups {
        world.env("TENURE_CGROUP", "off");
    }
    world.env("TENURE", env!("CARGO_BIN_EXE_tenure"));
    world.start();
    world.drop_file("job.yaml", &script("job", "\"$TENURE\" detach -- sleep 1000 & sleep 1000"));
    let (traces, keeper) = wait_for("the script, and what it let go", || {
        let workload = world.workloads_of("job").pop()?;
        let keeper = workload["status"]["letGo"].as_array()?.first()?["pid"].as_i64()?;
        Some((world.traces_of("job"), procs::process(i32::try_from(keeper).unwrap())?))
    });
    world.kill_controller();
    // The shim first: it would tell how its main process ended.
    let mut all: Vec<Process> = traces.processes.iter().cloned().chain([keeper.clone()]).collect();
    all.extend(procs::all().into_iter().filter(|it| procs::parent(it.pid) == Some(keeper.pid)));
    all.sort_by_key(|process| !process.command.contains(" shim "));
    for process in &all {
        procs::signal(process.pid, "KILL");
    }
    wait_for("their end", || all.iter().all(|process| !process.is_alive()).then_some(()));
    let mut strangers = Vec::new();
    for process in &all {
        match with_pid(process.pid) {
            Some(stranger) => strangers.push(stranger),
            None => {
                eprintln!("not tried: this system does not give {} again", process.pid);
                return;
            }
        }
    }
    world.start();
    let job = world.wait_job("job", "Failed");
    assert!(job["status"]["message"].as_str().unwrap().contains("died"), "{:#}", job["status"]);
    wait_for("it to be stopped", || {
        let workload = world.workloads_of("job").pop()?;
        (workload["status"]["phase"] == "Stopped").then_some(())
    });
    goes_on(&world);
    assert!(fs::read_dir(world.state().join("let-go")).unwrap().next().is_none(), "the register tells of nobody");
    for stranger in &strangers {
        assert!(
            stranger.process.is_alive(),
            "{:?} has a pid of ours, and was ended\n{}",
            stranger.process,
            world.log()
        );
    }
}

#[test]
fn pids_that_were_used_again_with_cgroups() {
    pids_that_were_used_again(true);
}

#[test]
fn pids_that_were_used_again_without_cgroups() {
    pids_that_were_used_again(false);
}

/// A store that cannot be read, under a controller that starts: it says what is wrong and what to do, and ends; nothing was
/// touched, the file least of all. With the good copy back, all goes on as if nothing had been.
#[test]
fn anything_on_a_store_that_cannot_be_read() {
    let mut world = World::new();
    let traces = sleeping(&world, "job");
    world.ok(&["cancel", "job"]);
    world.drop_file("hold.yaml", &policy("{protect: []}"));
    let wanted = sleeping(&world, "wanted");
    world.wait_gone(&traces);
    world.kill_controller();
    let store = world.state().join("tenure.db");
    let keep = world.path().join("good");
    fs::create_dir(&keep).unwrap();
    let parts = ["tenure.db", "tenure.db-wal", "tenure.db-shm"];
    for name in parts {
        let _ = fs::rename(world.state().join(name), keep.join(name));
    }
    let whole = keep.join("whole");
    for name in parts {
        let to = world.path().join(name);
        let _ = fs::copy(keep.join(name), &to);
    }
    let copy = rusqlite::Connection::open(world.path().join("tenure.db")).unwrap();
    copy.execute("VACUUM INTO ?1", [whole.to_str().unwrap()]).unwrap();
    drop(copy);
    let good = fs::read(&whole).unwrap();
    let newer = {
        let connection = rusqlite::Connection::open(&whole).unwrap();
        connection.pragma_update(None, "user_version", 4_000_000).unwrap();
        drop(connection);
        fs::read(&whole).unwrap()
    };
    let flipped: Vec<u8> =
        good.iter().enumerate().map(|(at, byte)| if at > 4096 { byte ^ 0x5a } else { *byte }).collect();
    let another = {
        let path = world.path().join("another.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
        drop(connection);
        fs::read(path).unwrap()
    };
    let cases: [(&str, &[u8], &str); 7] = [
        ("half of it", &good[..good.len() / 2], "is damaged"),
        ("its first page", &good[..4096], "is damaged"),
        ("other bytes", &flipped, "is damaged"),
        ("no database", &b"this is no database".repeat(1000), "store"),
        ("nothing", b"", "is empty"),
        ("a newer one's", &newer, "use the newer tenure that wrote it"),
        ("another program's", &another, "another program"),
    ];
    let dir = world.manifests().display().to_string();
    let refused = |what: &str, words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command.args(["run", &dir, "--state"]).arg(world.state()).stdin(Stdio::null()).stdout(Stdio::null());
        let said = world.path().join("said");
        let mut controller = command.stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        let begun = Instant::now();
        let mut status = controller.try_wait().unwrap();
        while status.is_none() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
            status = controller.try_wait().unwrap();
        }
        let _ = controller.kill();
        let _ = controller.wait();
        let said = fs::read_to_string(said).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{what}: {said}");
        assert!(said.contains(words) && said.contains(store.to_str().unwrap()), "{what}: {said}");
        assert!(all_alive(&wanted), "{what}: {:?}", world.left_of(&wanted));
        assert!(wanted.uids.iter().all(|uid| world.state().join("workloads").join(uid).join("shim.json").exists()));
    };
    for (what, bytes, words) in cases {
        fs::write(&store, bytes).unwrap();
        refused(what, words);
        assert!(fs::read(&store).unwrap() == bytes, "{what}: the file was changed");
        for name in parts {
            let _ = fs::remove_file(world.state().join(name));
        }
    }
    fs::create_dir(&store).unwrap();
    refused("a directory", "it is not a file");
    fs::remove_dir(&store).unwrap();
    nix::unistd::mkfifo(&store, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("a FIFO", "it is not a file");
    fs::remove_file(&store).unwrap();
    if !is_root() {
        fs::write(&store, &good).unwrap();
        fs::set_permissions(world.state(), std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
        refused("what may not be written", "");
        fs::set_permissions(world.state(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        fs::remove_file(&store).unwrap();
    }
    for name in parts {
        let _ = fs::rename(keep.join(name), world.state().join(name));
    }
    world.start();
    assert_eq!(world.job("wanted").unwrap()["status"]["phase"], "Running");
    assert!(all_alive(&wanted), "{:?}", world.left_of(&wanted));
    goes_on(&world);
}

/// The store goes away under a controller that runs: what runs is left alone, for it cannot be known who is wanted; and a
/// controller that is not there any more does not keep the shims from ending their workloads.
#[test]
fn anything_once_the_store_is_gone() {
    let mut world = World::idle();
    world.drop_file("policy.yaml", &policy("{lease: 3s}"));
    world.start();
    let traces = sleeping(&world, "job");
    let stray = world.path().join("tenure.db");
    fs::rename(world.state().join("tenure.db"), &stray).unwrap();
    world.remove_file("job.yaml");
    wait_for("passes that come to nothing", || {
        let log = world.log();
        let said = log.lines().filter(|line| line.contains("was removed or replaced while it was open"));
        (said.filter(|line| line.contains("the pass came to nothing")).count() > 3).then_some(())
    });
    let cancelled = world.cli(&["cancel", "job"]);
    let said = String::from_utf8_lossy(&cancelled.stderr).into_owned();
    assert!(!cancelled.status.success() && said.contains("put the file back"), "{said}");
    assert!(all_alive(&traces), "{:?}", world.left_of(&traces));
    world.kill_controller();
    wait_for("the lease to end", || traces.processes.iter().all(|process| !process.is_alive()).then_some(()));
}

/// The store's file is cut short under a controller that runs, and under one that starts then: whether that is noticed or what
/// is left is enough, what is wanted lives.
#[test]
fn anything_on_a_store_that_was_cut_short() {
    for (what, kept) in [("nothing", 0), ("its first page", 4096), ("some pages", 5 * 4096)] {
        let mut world = World::new();
        let traces = sleeping(&world, "job");
        let instance = procs::instance_of(&world.state()).unwrap();
        let store = world.state().join("tenure.db");
        fs::File::options().write(true).open(&store).unwrap().set_len(kept).unwrap();
        // Something to write, and to read again.
        world.drop_file("after.yaml", &script("after", "true"));
        let goes_on = |world: &World| {
            let job = world.cli(&["get", "job", "after", "-o", "json"]).stdout;
            serde_json::from_slice(&job).is_ok_and(|job: serde_json::Value| job["status"]["phase"] == "Succeeded")
        };
        let gives_up = |world: &World| world.log().matches("the pass came to nothing").count() > 2;
        wait_for("what comes of it", || (goes_on(&world) || gives_up(&world)).then_some(()));
        assert!(all_alive(&traces), "{what} was left, and it cost {:?}\n{}", world.left_of(&traces), world.log());
        world.kill_controller();
        let mut next = world.command().spawn().unwrap();
        wait_for("the next controller to refuse the store, or to make a pass", || {
            let status = world.cli(&["status", "-o", "json"]).stdout;
            let passed = serde_json::from_slice(&status).is_ok_and(|it: serde_json::Value| it["lastPass"].is_object());
            (next.try_wait().unwrap().is_some() || passed).then_some(())
        });
        assert!(all_alive(&traces), "{what} was left, and it cost {:?}\n{}", world.left_of(&traces), world.log());
        let _ = next.kill();
        next.wait().unwrap();
        // What is left of its store may not say whose it is any more.
        procs::kill_instance(&instance);
    }
}
