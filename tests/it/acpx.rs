//! npm's acpx with the real adapter of Claude Code, both as people use them: what acpx leaves behind is told apart from what it
//! still uses, and is ended with all of its tree.
//!
//! An adapter ends by itself when its queue owner dies: its stdin ends. What is left is one that does not come to read it, as it
//! hangs. Here it is stopped.

use crate::support::World;
use crate::support::agent::installed;
use crate::support::messages_api::{MessagesApi, real_command};
use crate::support::procs::{self, Process};
use crate::support::wait_for;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A home with sessions of acpx's, and a person who uses the same agent.
struct Home {
    world: World,
    api: MessagesApi,
    prefix: PathBuf,
    /// What acpx makes in `/tmp`.
    sockets: BTreeSet<PathBuf>,
    person: Child,
    /// The terminal with the agent in it.
    persons: Vec<Process>,
}

/// A session of acpx's.
struct Session {
    name: &'static str,
    /// As acpx calls it.
    id: String,
    owner: Process,
    /// The process that its record names.
    root: Process,
    /// The adapter itself, below its wrappers.
    adapter: Process,
    /// All of the adapter's, the wrappers and the agent's CLI among them.
    tree: BTreeSet<Process>,
}

impl Session {
    fn is_untouched(&self) -> bool {
        self.owner.is_alive() && self.tree.iter().all(Process::is_alive)
    }
}

impl Home {
    fn new() -> Home {
        let world = World::idle();
        let prefix = installed("acpx");
        let api = MessagesApi::start();
        fs::write(world.path().join("home/.claude.json"), r#"{"hasCompletedOnboarding": true, "theme": "dark"}"#)
            .unwrap();
        let cli =
            find(&prefix.join("node_modules/@anthropic-ai"), "claude").expect("the adapter brings the agent's CLI");
        let typescript = world.path().join("typescript");
        // What it is typed comes from a pipe that this test holds.
        let mut command = in_home(&world, &api, "script", "person");
        command
            .arg("-qefc")
            .arg(&cli)
            .arg(&typescript)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let person = command.spawn().unwrap();
        let pid = i32::try_from(person.id()).unwrap();
        let mut home = Home { world, api, prefix, sockets: BTreeSet::new(), person, persons: Vec::new() };
        home.persons = wait_for("the agent to ask a person whether they trust the directory", || {
            let asks = fs::read(&typescript).is_ok_and(|shown| String::from_utf8_lossy(&shown).contains("trust"));
            let all = procs::below(pid);
            let runs = all.iter().any(|it| it.pid != pid && it.command.starts_with(&cli.display().to_string()));
            (asks && runs).then_some(all)
        });
        home
    }

    /// Runs acpx for the session of this directory; gives what it printed.
    #[track_caller]
    fn acpx(&self, name: &str, words: &[&str]) -> String {
        let said = self.world.path().join(format!("{name}.said"));
        let bin = self.prefix.join("node_modules/.bin/acpx");
        let mut command = in_home(&self.world, &self.api, &bin.display().to_string(), name);
        let log = File::create(&said).unwrap();
        command.arg("--agent").arg(real_command(&self.prefix).join(" ")).args(words);
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let ended = wait_for(&format!("acpx {words:?} to end"), || child.try_wait().unwrap());
        let said = fs::read_to_string(&said).unwrap();
        assert!(ended.success(), "acpx {words:?}: {ended}\n{said}");
        said
    }

    /// A session that has had a turn.
    fn session(&mut self, name: &'static str) -> Session {
        self.acpx(name, &["sessions", "new"]);
        assert!(self.acpx(name, &["Say done."]).contains("done"));
        let cwd = self.world.path().join(name).display().to_string();
        let is_its = |record: &Value| record["cwd"] == cwd.as_str() && record["closed"] == false;
        let record = self.files("sessions").into_iter().find(is_its).expect("a record of the session");
        let id = record["acpx_record_id"].as_str().unwrap().to_owned();
        let lease = self.files("queues").into_iter().find(|lease| lease["sessionId"] == id.as_str()).expect("a lease");
        let socket = Path::new(lease["socketPath"].as_str().unwrap()).parent().unwrap().to_owned();
        self.sockets.insert(socket);
        let [owner, root] = [&lease, &record].map(|it| procs::process(pid_of(&it["pid"])).expect("it lives"));
        let tree: BTreeSet<Process> = procs::below(root.pid).into_iter().collect();
        assert_eq!(procs::parent(root.pid), Some(owner.pid));
        assert!(tree.iter().any(|it| it.command.contains("--output-format stream-json")), "the CLI: {tree:?}");
        let adapter = tree.iter().find(|it| it.command.ends_with("/node_modules/.bin/claude-agent-acp"));
        let adapter = adapter.expect("the adapter").clone();
        Session { name, id, owner, root, adapter, tree }
    }

    /// What acpx wrote into a directory of its home.
    fn files(&self, dir: &str) -> Vec<Value> {
        let entries = fs::read_dir(self.world.path().join("home/.acpx").join(dir)).unwrap().flatten();
        let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        texts.filter_map(|text| serde_json::from_str(&text).ok()).collect()
    }

    fn record(&self, id: &str) -> Value {
        self.files("sessions").into_iter().find(|record| record["acpx_record_id"] == id).expect("a record")
    }

    fn tenure(&self, words: &[&str]) -> Output {
        self.world.cli(&[words, &["--min-age", "0s"]].concat())
    }

    /// What a scan says of the tree with this root.
    #[track_caller]
    fn said_of(&self, root: &Process, more: &[&str]) -> Option<Value> {
        let output = self.tenure(&[&["scan", "-o", "json"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        list["items"].as_array().unwrap().iter().find(|item| item["pid"] == root.pid).cloned()
    }

    /// Ends what a session left, whole.
    #[track_caller]
    fn reap(&self, lost: &Session, more: &[&str]) {
        self.try_reap(lost, more).unwrap_or_else(|told| panic!("{told}"));
        self.is_gone(lost);
    }

    /// Asks for the end of what a session left; or what was told instead.
    fn try_reap(&self, lost: &Session, more: &[&str]) -> Result<(), String> {
        let reaped = self.tenure(&[&["reap", "--yes", &lost.root.pid.to_string()], more].concat());
        let told = [&reaped.stdout, &reaped.stderr].map(|told| String::from_utf8_lossy(told).into_owned()).concat();
        if reaped.status.success() { Ok(()) } else { Err(told) }
    }

    #[track_caller]
    fn is_gone(&self, lost: &Session) {
        let left: Vec<&Process> = lost.tree.iter().filter(|it| it.is_alive()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The adapter hangs, and then its queue owner is killed.
    fn lose(&self, session: &Session) {
        procs::signal(session.adapter.pid, "STOP");
        procs::signal(session.owner.pid, "KILL");
        wait_for("the queue owner to be gone", || (!session.owner.is_alive()).then_some(()));
        assert!(session.tree.iter().all(Process::is_alive), "{:?}", session.tree);
    }

    /// The tree that a scan condemns is the session's, and only that is ended; `kept` goes on.
    #[track_caller]
    fn is_reaped(&self, lost: &Session, item: &Value, kept: &Session) {
        assert_eq!((&item["class"], &item["cause"]), (&"claude".into(), &"OwnerTerminal".into()), "{item:#}");
        assert_eq!(item["owners"][0]["job"], lost.id.as_str(), "{item:#}");
        let pids: BTreeSet<i32> = item["pids"].as_array().unwrap().iter().map(pid_of).collect();
        assert_eq!(pids, lost.tree.iter().map(|it| it.pid).collect(), "{item:#}");

        let person = self.persons.iter().find(|it| self.said_of(it, &[]).is_some()).expect("a tree of the person's");
        for needed in [&kept.owner, person] {
            let refused = self.tenure(&["reap", "--yes", &lost.root.pid.to_string(), &needed.pid.to_string()]);
            let why = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(refused.status.code() == Some(1) && why.contains("is kept: "), "{why}");
        }
        assert!(lost.tree.iter().all(Process::is_alive), "a refusal ends nothing");

        self.reap(lost, &[]);
        assert!(kept.is_untouched() && self.persons.iter().all(Process::is_alive));
        assert!(self.acpx(kept.name, &["Say done."]).contains("done"));
        assert!(kept.is_untouched(), "the same adapter answers");
        for (root, cause) in [(&kept.owner, "OwnerActive"), (person, "Interactive")] {
            let item = self.said_of(root, &[]).unwrap();
            assert_eq!((&item["verdict"], &item["cause"]), (&"Keep".into(), &cause.into()), "{item:#}");
        }
    }
}

#[test]
fn an_adapter_whose_queue_owner_was_killed_is_reaped_and_another_session_and_a_person_go_on() {
    let mut home = Home::new();
    let (kept, lost) = (home.session("kept"), home.session("lost"));
    for session in [&kept, &lost] {
        let item = home.said_of(&session.owner, &[]).unwrap();
        assert_eq!((&item["verdict"], &item["cause"]), (&"Keep".into(), &"OwnerActive".into()), "{item:#}");
    }
    home.lose(&lost);
    // As long as its threads end, the owner is not dead; and as long as the lease is not stale, acpx itself does not take it for
    // dead.
    let item = wait_for("the lease to be stale", || {
        let item = home.said_of(&lost.root, &[]).unwrap();
        if item["verdict"] == "Reap" {
            return Some(item);
        }
        assert_eq!((&item["verdict"], &item["cause"]), (&"Keep".into(), &"OwnerActive".into()), "{item:#}");
        None
    });
    let dead = format!("{}: its queue owner {} is dead (acpx ", lost.id, lost.owner.pid);
    assert!(item["evidence"].as_str().unwrap().starts_with(&dead), "{item:#}");
    home.is_reaped(&lost, &item, &kept);
}

#[test]
fn an_adapter_that_stays_when_its_session_is_closed_is_reaped_though_its_record_has_no_pid_any_more() {
    let mut home = Home::new();
    let (kept, lost) = (home.session("kept"), home.session("lost"));
    home.lose(&lost);
    home.acpx(lost.name, &["sessions", "close"]);
    assert!(lost.tree.iter().all(Process::is_alive), "acpx does not find it");
    let record = home.record(&lost.id);
    assert_eq!((&record["closed"], record.get("pid")), (&true.into(), None));
    let item = home.said_of(&lost.root, &[]).unwrap();
    assert_eq!(item["verdict"], "Reap", "{item:#}");
    let evidence = item["evidence"].as_str().unwrap();
    assert!(evidence.starts_with(&format!("{} is closed (acpx ", lost.id)), "{evidence}");
    home.is_reaped(&lost, &item, &kept);
}

#[test]
fn an_adapter_of_before_its_session_was_taken_up_again_is_reaped_as_an_orphan_only() {
    let mut home = Home::new();
    let lost = home.session("again");
    home.lose(&lost);
    assert!(home.acpx(lost.name, &["Say done."]).contains("done"));
    let now = home.record(&lost.id);
    let now = procs::process(pid_of(&now["pid"])).expect("the session has a new adapter");
    assert_ne!(now.pid, lost.root.pid);
    let item = home.said_of(&lost.root, &[]).unwrap();
    assert_eq!((&item["verdict"], &item["cause"]), (&"Keep".into(), &"Orphaned".into()), "{item:#}");
    // A ledger of another test's that can not be read holds it back for as long.
    let listed = ["--orphans", "claude"];
    wait_for("the orphan to be condemned", || (home.said_of(&lost.root, &listed)?["verdict"] == "Reap").then_some(()));
    // While its CLI happens to do something, it is kept: each look asks anew.
    wait_for("the orphan to be idle for long enough", || home.try_reap(&lost, &listed).ok());
    home.is_gone(&lost);
    assert!(now.is_alive() && home.persons.iter().all(Process::is_alive));
}

/// A command in the home, in a directory of its own.
fn in_home(world: &World, api: &MessagesApi, program: &str, dir: &str) -> Command {
    let cwd = world.path().join(dir);
    fs::create_dir_all(&cwd).unwrap();
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).envs(api.env(&world.path().join("home")));
    command.current_dir(cwd);
    command
}

/// A program somewhere below a directory.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let packages = fs::read_dir(dir).ok()?.flatten();
    packages.map(|package| package.path().join(name)).find(|path| path.is_file())
}

fn pid_of(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap()).unwrap()
}

impl Drop for Home {
    fn drop(&mut self) {
        // All that acpx starts works below its session's directory. It may be starting something now.
        wait_for("nothing to be left", || {
            let left = procs::working_below(self.world.path());
            for process in &left {
                let _ = Command::new("kill").args(["-KILL", &process.pid.to_string()]).output();
            }
            left.is_empty().then_some(())
        });
        let _ = self.person.wait();
        for dir in &self.sockets {
            let _ = fs::remove_dir_all(dir);
        }
    }
}
