//! What outlives the process: the prompts of each session, a file each, where the environment asks for that.

use std::fs;
use std::path::PathBuf;

/// Names the directory.
const MEMORY: &str = "TENURE_ECHO_MEMORY";

#[derive(Clone)]
pub(crate) struct Memory {
    dir: Option<PathBuf>,
}

impl Memory {
    pub(crate) fn of_environment() -> Memory {
        Memory { dir: std::env::var_os(MEMORY).map(PathBuf::from) }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.dir.is_some()
    }

    /// Remembers what was asked in a session.
    pub(crate) fn keep(&self, session: &str, prompts: &[String]) {
        let Some((dir, file)) = self.dir.as_ref().zip(self.file(session)) else { return };
        let text = serde_json::json!(prompts).to_string();
        if let Err(error) = fs::create_dir_all(dir).and_then(|()| fs::write(&file, text)) {
            eprintln!("failed to write {}: {error}", file.display());
        }
    }

    pub(crate) fn recall(&self, session: &str) -> Option<Vec<String>> {
        serde_json::from_slice(&fs::read(self.file(session)?).ok()?).ok()
    }

    fn file(&self, session: &str) -> Option<PathBuf> {
        // A client names the session: it must not name another file.
        let is_name = session.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_name.then(|| self.dir.as_ref().map(|dir| dir.join(format!("{session}.json"))))?
    }
}
