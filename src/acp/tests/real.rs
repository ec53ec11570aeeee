//! The real adapter, through files, with a pump in the shim's place.

use super::*;
use crate::acp::{Handshake, spawn_driver};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

#[path = "../../../tests/support/messages_api.rs"]
mod messages_api;
use messages_api::{HOLD, MessagesApi, Reply, real_command};

/// Where `scripts/install-adapter` puts it. `None`: it is not there; with `TENURE_REQUIRE_ADAPTER` set that is a failure.
fn adapter() -> Option<PathBuf> {
    let dir = std::env::var_os("TENURE_ADAPTER_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/adapter"), PathBuf::from);
    if dir.join("node_modules/.bin/claude-agent-acp").exists() {
        return Some(dir);
    }
    assert!(std::env::var_os("TENURE_REQUIRE_ADAPTER").is_none(), "no adapter in {}", dir.display());
    eprintln!("skipped: no adapter in {} (scripts/install-adapter brings it)", dir.display());
    None
}

/// The adapter's process tree, and the pump of its stdin. All of it ends with this value.
struct Adapter {
    child: Child,
    stop: Arc<AtomicBool>,
    pump: Option<std::thread::JoinHandle<()>>,
}

impl Adapter {
    fn start(installed: &Path, world: &World, api: &MessagesApi) -> Adapter {
        let home = world.temp.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let file = |name: &str| std::fs::File::create(world.dir.join(name)).unwrap();
        let command = real_command(installed);
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .envs(api.env(&home))
            .current_dir(&world.cwd)
            .stdin(Stdio::piped())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .process_group(0)
            .spawn()
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut into, dir, stopped) = (child.stdin.take().unwrap(), world.dir.clone(), Arc::clone(&stop));
        let pump = std::thread::spawn(move || {
            let mut pumped = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut all = Vec::new();
                if let Ok(mut file) = std::fs::File::open(dir.join("stdin")) {
                    file.read_to_end(&mut all).unwrap();
                }
                let whole = all.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                if whole > pumped && into.write_all(&all[pumped..whole]).is_err() {
                    return;
                }
                pumped = pumped.max(whole);
                if whole == all.len() && dir.join("stdin.eof").exists() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Adapter { child, stop, pump: Some(pump) }
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
        // The CLI outlives `npm exec` for some milliseconds, and writes to its home: the group must be empty.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let deadline = std::time::Instant::now() + PATIENCE;
        while nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).is_ok() {
            let _ = self.child.try_wait();
            assert!(std::time::Instant::now() < deadline, "processes of the group {group} do not die");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_takes_turns_through_files_and_drivers_come_and_go() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    api.say_to("please do j.a.1", "the first answer");
    api.say_to("please do j.b.1", "the second answer");
    api.hold();
    let world = World::new();
    let mut adapter = Adapter::start(&installed, &world, &api);
    let model = Some("opus".to_owned());
    let (wants, receiver) = watch::channel(wanted(&[world.turn("j.a.1"), Turn { model, ..world.turn("j.b.1") }]));
    let driver = spawn_driver(world.config(), receiver.clone(), || {});
    until(&mut driver.progress(), "handshake", |progress| progress.handshake == Handshake::Done).await;
    let in_flight = |progress: &Progress| progress.turns.values().all(|state| *state == TurnState::InFlight);
    until(&mut driver.progress(), "both in flight", in_flight).await;
    eventually("both asked", || (api.waiting() == 2).then_some(())).await;

    // The controller dies in the middle of both turns; while it is away, they end.
    drop(driver);
    api.release();
    eventually("an answer in stdout", || {
        let said = lines(&world.dir.join("stdout"));
        said.iter().any(|line| line["id"] == "prompt/j.a.1").then_some(())
    })
    .await;
    let driver = spawn_driver(world.config(), receiver.clone(), || {});
    let all_done = |progress: &Progress| {
        progress.turns.len() == 2 && progress.turns.values().all(|state| matches!(state, TurnState::Done(_)))
    };
    let progress = until(&mut driver.progress(), "both done", all_done).await;
    for (run, text) in [("j.a.1", "the first answer"), ("j.b.1", "the second answer")] {
        let outcome = done(&progress, run).unwrap();
        assert_eq!(result(&outcome), json!({"result": text}));
        assert_eq!(outcome.usage.unwrap()["totalTokens"], 15);
        assert!(outcome.cost_usd.is_some_and(|cost| cost > 0.0));
        assert_eq!(api.asked(&format!("please do {run}")), 1, "{run}");
    }

    wants.send_modify(|wanted| wanted.closing = true);
    until(&mut driver.progress(), "leave", |progress| progress.closed).await;
    let status = eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_cancels_a_turn_that_vanishes() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    let world = World::new();
    let mut adapter = Adapter::start(&installed, &world, &api);
    let turn = Turn { prompt: format!("Say {HOLD}."), ..world.turn("j.a.1") };
    let (wants, receiver) = watch::channel(wanted(&[turn]));
    let driver = spawn_driver(world.config(), receiver, || {});
    eventually("asked", || (api.waiting() == 1).then_some(())).await;
    wants.send_modify(|wanted| wanted.turns.clear());
    until(&mut driver.progress(), "session closed", |progress| progress.sessions.is_empty()).await;
    let said = lines(&world.dir.join("stdout"));
    let stopped = said.iter().find(|line| line["id"] == "prompt/j.a.1").unwrap();
    assert_eq!(stopped["result"]["stopReason"], "cancelled");
    wants.send_modify(|wanted| wanted.closing = true);
    eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_adapter_uses_a_tool() {
    let Some(installed) = adapter() else { return };
    let api = MessagesApi::start();
    let world = World::new();
    let path = world.cwd.join("answer.json");
    let input = json!({"file_path": path, "content": "{\"answer\": 42}"});
    api.queue([Reply::Tool { name: "Write".to_owned(), input }]);
    let mut adapter = Adapter::start(&installed, &world, &api);
    let turn = Turn { output_mode: OutputMode::File(path), ..world.turn("j.a.1") };
    let (wants, receiver) = watch::channel(wanted(&[turn]));
    let driver = spawn_driver(world.config(), receiver, || {});
    let progress = until(&mut driver.progress(), "done", |progress| done(progress, "j.a.1").is_some()).await;
    assert_eq!(result(&done(&progress, "j.a.1").unwrap()), json!({"answer": 42}));
    wants.send_modify(|wanted| wanted.closing = true);
    eventually("the adapter's end", || adapter.child.try_wait().unwrap()).await;
}
