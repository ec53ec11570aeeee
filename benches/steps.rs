//! How fast script steps go through a real controller, beside GNU `xargs -P` that runs the same commands through `sh -c`, in
//! one run. `scripts/bench steps` builds and runs it.
//!
//! - one wide job: as many steps side by side, 64 at a time on both sides;
//! - one chain of steps: one after another, beside `xargs -P 1`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As many as the policy lets run at the same time.
const SIDE_BY_SIDE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    // For a first impression, fewer.
    let part = std::env::var("BENCH_PART").ok().and_then(|part| part.parse().ok()).unwrap_or(1);
    let mut table = Map::new();
    println!("{:<40} {:>14} {:>14} {:>8}  promise", "steps a second", "tenure", "xargs", "ratio");
    for (key, what, count, at_once, promise) in [
        ("wide", "one wide job", 10_000 / part, SIDE_BY_SIDE, "at least 0.5"),
        ("chain", "one chain", 1_000 / part, 1, ""),
    ] {
        let ours = count as f64 / tenure(count, at_once == 1).as_secs_f64();
        let theirs = count as f64 / xargs(count, at_once).as_secs_f64();
        let ratio = ours / theirs;
        let what = format!("{what} of {count}");
        println!("{what:<40} {ours:>14.0} {theirs:>14.0} {ratio:>8.2}  {promise}");
        table.insert(key.into(), json!({"steps": count, "tenure": ours, "xargs": theirs, "ratio": ratio}));
    }
    println!("{}", Value::Object(table));
}

/// The same commands, each through a shell.
fn xargs(count: usize, at_once: usize) -> Duration {
    let begun = Instant::now();
    let mut xargs = Command::new("xargs")
        .args(["-P", &at_once.to_string(), "-I{}", "sh", "-c", "true"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("xargs is needed (Debian: findutils)");
    let mut stdin = xargs.stdin.take().unwrap();
    for number in 0..count {
        writeln!(stdin, "{number}").unwrap();
    }
    drop(stdin);
    assert!(xargs.wait().unwrap().success());
    begun.elapsed()
}

/// A job of so many steps, from when it begins to when it has succeeded, by its own times.
fn tenure(count: usize, is_chain: bool) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let manifests = dir.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let step = |number: usize| {
        let after = if is_chain && number > 0 { json!([format!("s{}", number - 1)]) } else { json!([]) };
        (format!("s{number}"), json!({"run": "true", "after": after}))
    };
    let steps: Map<String, Value> = (0..count).map(step).collect();
    let job = json!({
        "apiVersion": "tenure.dev/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "bench"},
        "spec": {"flow": {"steps": steps}},
    });
    fs::write(manifests.join("bench.json"), job.to_string()).unwrap();
    let state = dir.path().join("state");
    let mut controller = Controller(
        Command::new(env!("CARGO_BIN_EXE_tenure"))
            .arg("run")
            .arg(&manifests)
            .arg("--state")
            .arg(&state)
            .env("TENURE_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = Instant::now();
    let took = loop {
        if let Some(took) = finished(&state) {
            break took;
        }
        assert!(begun.elapsed() < PATIENCE, "the job did not end within {PATIENCE:?}");
        // Seldom: each look at the job is work for the controller.
        std::thread::sleep(Duration::from_millis(500));
    };
    controller.end();
    took
}

fn finished(state: &Path) -> Option<Duration> {
    let output = Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["get", "job", "bench", "-o", "json", "--state"])
        .arg(state)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let job: Value = serde_json::from_slice(&output.stdout).ok()?;
    let time = |name: &str| job["status"][name].as_str()?.parse::<jiff::Timestamp>().ok();
    let (started, finished) = (time("startedAt")?, time("finishedAt")?);
    assert_eq!(job["status"]["phase"], "Succeeded", "{}", job["status"]["message"]);
    finished.duration_since(started).try_into().ok()
}

struct Controller(Child);

impl Controller {
    fn end(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end();
    }
}
