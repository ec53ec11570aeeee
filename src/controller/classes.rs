//! Agent classes: those that are built in (a manifest of the same name replaces one), and the adapter that a class and a step
//! ask for.

use super::programs::owner;
use super::settle::{World, working_dir};
use crate::flow::AgentStep;
use crate::model::{AgentClassSpec, Failure, Job, Match, Reuse, Snapshot, WorkloadSpec, WorkloadType};
use sha2::{Digest, Sha256};
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

/// An adapter, as a step wants it.
pub(super) struct Launched {
    /// What must be equal for two runs to share it.
    pub(super) key: String,
    pub(super) spec: WorkloadSpec,
}

/// The adapter for a step in this directory.
///
/// # Errors
/// There is no such class, or it makes no sense.
pub(super) fn launch(agent: &AgentStep, job: &Job, cwd: &Path, world: &World<'_>) -> Result<Launched, Failure> {
    let Some(class) = class(&agent.class, world.desired) else {
        let known = names(world.desired).join(", ");
        return Err(Failure {
            reason: "ClassMissing".into(),
            message: format!("there is no AgentClass `{}`; there are: {known}", agent.class),
        });
    };
    let invalid = |what: String| Failure {
        reason: "ClassInvalid".into(),
        message: format!("AgentClass `{}`{what}", agent.class),
    };
    if class.command.is_empty() {
        return Err(invalid(" has an empty `command`".into()));
    }
    let memory_max_bytes = match &class.memory_max {
        None => None,
        Some(text) => {
            Some(bytes(text).ok_or_else(|| invalid(format!(": memoryMax `{text}` is not a size such as 2Gi")))?)
        }
    };
    let flags = flags(&class, agent, cwd);
    let scope = match class.reuse {
        Reuse::Job => job.metadata.uid.as_str(),
        Reuse::Shared => "shared",
    };
    let key = if flags.is_empty() {
        serde_json::json!([scope, agent.class, class])
    } else {
        serde_json::json!([scope, agent.class, class, flags])
    };
    let hash = Sha256::digest(key.to_string().as_bytes());
    let key: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let dir = match class.reuse {
        Reuse::Job => working_dir(job, world.state_dir),
        Reuse::Shared => world.state_dir.root().join("shared"),
    };
    let spec = WorkloadSpec {
        r#type: WorkloadType::Adapter,
        owners: vec![owner(job)],
        class: Some(agent.class.clone()),
        reuse_key: Some(key.clone()),
        command: resolve(&class.command, world.exe).into_iter().chain(flags).collect(),
        env: class.env,
        cwd: dir.to_string_lossy().into_owned(),
        ask_period: Some(class.ask_period),
        grace_period: class.grace_period,
        start_timeout: Some(class.start_timeout),
        idle_timeout: Some(class.idle_timeout).filter(|idle| !idle.0.is_zero()),
        memory_max_bytes,
        ..WorkloadSpec::default()
    };
    Ok(Launched { key, spec })
}

/// What is appended to a class's command for what a step asks of its agent.
fn flags(class: &AgentClassSpec, agent: &AgentStep, cwd: &Path) -> Vec<String> {
    let paths: Vec<String> =
        agent.allowed_paths.iter().map(|path| cwd.join(path).to_string_lossy().into_owned()).collect();
    let wishes = [
        (&class.flags.model, agent.model.as_slice()),
        (&class.flags.tools, agent.tools.as_slice()),
        (&class.flags.allowed_paths, paths.as_slice()),
    ];
    let mut flags = Vec::new();
    for (words, values) in wishes {
        for value in values {
            flags.extend(words.iter().map(|word| word.replace("$value", value)));
        }
    }
    flags
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
