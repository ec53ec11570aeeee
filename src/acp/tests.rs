//! Conversations: with a scripted agent that plays on the files, and with the real adapter.

mod conversations;
mod real;
mod scripted;
mod storm;

use crate::acp::{DriverConfig, OutputMode, Progress, Turn, TurnState, Wanted};
use crate::model::{Outcome, Permissions, Span, Time, WorkloadUid};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A run directory, a working directory, and the files of the agent in them.
pub(crate) struct World {
    pub(crate) temp: tempfile::TempDir,
    pub(crate) dir: PathBuf,
    pub(crate) cwd: PathBuf,
}

impl World {
    pub(crate) fn new() -> World {
        let temp = tempfile::tempdir().unwrap();
        let [dir, cwd] = ["adapter", "cwd"].map(|name| temp.path().canonicalize().unwrap().join(name));
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(&cwd).unwrap();
        World { temp, dir, cwd }
    }

    pub(crate) fn config(&self) -> DriverConfig {
        let terminals = self.dir.with_file_name("terminals");
        DriverConfig {
            uid: WorkloadUid::from("adapter-1"),
            dir: self.dir.clone(),
            permissions: Permissions::Allow,
            start_timeout: Span::seconds(60),
            started_at: Time(jiff::Timestamp::now().as_millisecond()),
            terminal_dir: Arc::new(move |uid| terminals.join(uid.as_str())),
        }
    }

    pub(crate) fn turn(&self, run: &str) -> Turn {
        Turn {
            run: run.to_owned(),
            prompt: format!("please do {run}"),
            cwd: self.cwd.clone(),
            allowed_paths: Vec::new(),
            output_mode: OutputMode::StreamResult,
            model: None,
            tools: Vec::new(),
            permissions: None,
            conversation: None,
        }
    }

    /// What we said, line by line; a torn tail is left out.
    pub(crate) fn sent(&self) -> Vec<Value> {
        lines(&self.dir.join("stdin"))
    }

    /// The agent says this.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(true).open(self.dir.join("stdout")).unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn say_line(&self, line: &Value) {
        self.say(format!("{line}\n").as_bytes());
    }
}

pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text[..whole]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

pub(crate) fn wanted(turns: &[Turn]) -> Wanted {
    Wanted { turns: turns.to_vec(), ..Wanted::default() }
}

/// Waits until the progress is as it should be.
pub(crate) async fn until(
    progress: &mut watch::Receiver<Arc<Progress>>,
    what: &str,
    holds: impl Fn(&Progress) -> bool,
) -> Arc<Progress> {
    match tokio::time::timeout(PATIENCE, progress.wait_for(|progress| holds(progress))).await {
        Ok(progress) => Arc::clone(&progress.unwrap()),
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits until something outside is so.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn done(progress: &Progress, run: &str) -> Option<Outcome> {
    match progress.turns.get(run) {
        Some(TurnState::Done(outcome)) => Some(outcome.clone()),
        _ => None,
    }
}

pub(crate) fn result(outcome: &Outcome) -> Value {
    match &outcome.result {
        Ok(outputs) => Value::Object(outputs.clone()),
        Err(failure) => json!({"failure": failure.reason}),
    }
}
