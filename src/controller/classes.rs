//! The agent classes that are built in; a manifest of the same name replaces one.

use crate::model::{AgentClassSpec, Match, Snapshot};
use std::path::Path;

/// The name that stands for the bundled example agent, wherever it is installed.
const ECHO: &str = "tenure-echo";

/// Launch commands and signatures; source: the agents' documentation and acpx's registry of 2026-11.
const BUILT_IN: [(&str, &[&str], &[&str]); 4] = [
    ("claude", &["npx", "-y", "@agentclientprotocol/claude-agent-acp"], &["claude-agent-acp", "claude-code-acp"]),
    ("codex", &["npx", "-y", "@agentclientprotocol/codex-acp"], &["codex-acp"]),
    ("gemini", &["gemini", "--acp"], &["gemini"]),
    ("echo", &[ECHO], &[ECHO]),
];

/// The class of this name: as written in a manifest, else as built in.
pub fn class(name: &str, desired: &Snapshot) -> Option<AgentClassSpec> {
    if let Some(class) = desired.classes.get(name) {
        return Some(class.spec.clone());
    }
    let (_, command, cmdline) = BUILT_IN.iter().find(|(built_in, _, _)| *built_in == name)?;
    Some(AgentClassSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        r#match: Some(Match { cmdline: cmdline.iter().map(|word| (*word).to_owned()).collect() }),
        ..AgentClassSpec::default()
    })
}

/// Every class name there is, for messages.
pub fn names(desired: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = desired.classes.keys().cloned().collect();
    names.extend(BUILT_IN.iter().map(|(name, _, _)| (*name).to_owned()));
    names.sort();
    names.dedup();
    names
}

/// A class's command with the bundled agent's name replaced by its path beside our own program.
pub fn resolve(command: &[String], exe: &Path) -> Vec<String> {
    let mut command = command.to_vec();
    if let Some(first) = command.first_mut()
        && first == ECHO
    {
        let beside = exe.with_file_name(ECHO);
        if beside.exists() {
            *first = beside.to_string_lossy().into_owned();
        }
    }
    command
}

/// `2Gi`, `500M`, or bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "k" | "K" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}
