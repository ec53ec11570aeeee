//! What an agent is asked for a run, and what it leaves in files.

use super::settle::working_dir;
use super::{classes, load, programs};
use crate::acp::{self, OutputMode, Turn};
use crate::flow::{self, AgentStep, Executor, Flow, Prompt, Step, Task};
use crate::model::{Failure, Job, Snapshot, StepRun};
use crate::os::{StateDir, read_plain};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// No flow that an agent leaves behind is longer, in bytes.
const EMITTED_MAX: u64 = 1 << 20;

/// A run that is asked for, and what it is known from.
pub(super) struct Asked<'a> {
    pub(super) state_dir: &'a StateDir,
    pub(super) desired: &'a Snapshot,
    pub(super) job: &'a Job,
    pub(super) flow: &'a Flow,
    pub(super) run: &'a StepRun,
}

impl Asked<'_> {
    /// The turn of the run: the same words whenever it is asked for. None: no agent works on it.
    pub(super) fn turn(&self) -> Option<Result<Turn, String>> {
        let step = self.flow.steps.get(&self.run.spec.step)?;
        match flow::task(self.flow, self.run)? {
            Task::Work(Executor::Agent(agent)) if self.run.status.emitted.is_none() => Some(self.ask(step, agent)),
            _ => None,
        }
    }

    fn ask(&self, step: &Step, agent: &AgentStep) -> Result<Turn, String> {
        let Asked { state_dir, job, run, .. } = self;
        // A job's own directory is made for it; one that somebody named is theirs to make.
        if job.spec.working_dir.is_none() {
            std::fs::create_dir_all(state_dir.workspace(&job.uid()))
                .map_err(|error| format!("failed to create the job's workspace: {error}"))?;
        }
        let cwd = programs::step_dir_in(working_dir(job, state_dir), step, &run.spec.inputs);
        let conversation = flow::conversation(self.flow, self.desired.runs_of(&job.uid()), run);
        let text = match (&agent.loop_prompt, &conversation) {
            (Some(text), Some(conversation)) if conversation.is_continued => text.clone(),
            (Some(_) | None, Some(_) | None) => self.prompt(&agent.prompt)?,
        };
        let mut allowed_paths: Vec<PathBuf> = agent.allowed_paths.iter().map(|path| cwd.join(path)).collect();
        let mut values = run.spec.inputs.clone();
        let mut blocks = String::new();
        let mut may_write = |name: &str, path: &Path| {
            allowed_paths.extend(path.parent().map(Path::to_path_buf));
            values.insert(name.into(), path.to_string_lossy().into_owned().into());
        };
        let output_mode = match agent.output_mode {
            flow::OutputMode::Effect => OutputMode::Effect,
            flow::OutputMode::StreamResult => OutputMode::StreamResult,
            flow::OutputMode::File => {
                let path = self.output_path(agent.output_path.as_deref(), &cwd);
                may_write("STEPWISE_OUTPUT_FILE", &path);
                blocks.push_str(&output_block(step, &path));
                OutputMode::File(path)
            }
        };
        if agent.emit_flow {
            let path = emit_path(state_dir, run);
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.map_err(|error| format!("failed to create the directory of {}: {error}", path.display()))?;
            may_write("STEPWISE_EMIT_FLOW_FILE", &path);
            blocks.push_str(&emit_block(&path));
        }
        let prompt = format!("{}{blocks}", flow::substitute(&text, &values));
        let conversation = conversation.map(|conversation| acp::Conversation {
            key: key_of(&conversation.key, job),
            resume: conversation.resume,
            fork_of: conversation.fork_of,
        });
        // What the class has arguments for is in its command.
        let flags = classes::class(&agent.class, self.desired).map(|class| class.flags).unwrap_or_default();
        Ok(Turn {
            run: turn_of(run),
            prompt,
            cwd,
            allowed_paths,
            output_mode,
            model: agent.model.clone().filter(|_| flags.model.is_empty()),
            tools: if flags.tools.is_empty() { agent.tools.clone() } else { Vec::new() },
            permissions: agent.permissions,
            conversation,
        })
    }

    fn prompt(&self, prompt: &Prompt) -> Result<String, String> {
        match prompt {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::File(file) => {
                let path = programs::beside_flow(self.job, file);
                std::fs::read_to_string(&path)
                    .map_err(|error| format!("failed to read prompt_file {}: {error}", path.display()))
            }
        }
    }

    fn output_path(&self, given: Option<&str>, cwd: &Path) -> PathBuf {
        match given {
            Some(path) => cwd.join(flow::substitute(path, &self.run.spec.inputs)),
            None => left_by(self.state_dir, self.run, "json"),
        }
    }
}

/// What the turn of a run is called towards its agent. A job may be deleted and come again under its name, and an agent that is
/// shared outlives both: what it said to the one is not an answer to the other, nor is what it said to an earlier try.
pub fn turn_of(run: &StepRun) -> String {
    format!("{}@{}{}", run.metadata.name, run.spec.job_uid, again(run, "#"))
}

/// What a conversation of a job is called towards an agent.
pub(super) fn key_of(key: &str, job: &Job) -> String {
    format!("{key}@{}", job.uid())
}

/// Which try it is, behind this mark; nothing for the first one.
fn again(run: &StepRun, mark: &str) -> String {
    match run.status.tries.len() {
        0 | 1 => String::new(),
        tries => format!("{mark}{tries}"),
    }
}

/// Where an agent that may leave a flow behind does so.
pub(super) fn emit_path(state_dir: &StateDir, run: &StepRun) -> PathBuf {
    left_by(state_dir, run, "flow.yaml")
}

fn left_by(state_dir: &StateDir, run: &StepRun, ending: &str) -> PathBuf {
    let name = format!("{}.{}{}.{ending}", run.spec.step, run.spec.attempt, again(run, "-"));
    state_dir.job(&run.spec.job_uid).join("outputs").join(name)
}

/// The flow that was left in a file, or what is wrong with it; none: there is no file.
pub(super) fn emitted(path: &Path) -> Option<Result<Value, Failure>> {
    let invalid = |message: String| {
        Some(Err(Failure { reason: "EmittedFlowInvalid".into(), message: format!("the agent left a flow: {message}") }))
    };
    let text = match read_plain(path, EMITTED_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return invalid(format!("{}: {error}", path.display())),
    };
    match load::flow(&path.display().to_string(), &text) {
        Ok(flow) => Some(Ok(flow)),
        Err(what) => invalid(what),
    }
}

/// What an agent is told about its output file, at the end of its prompt.
fn output_block(step: &Step, path: &Path) -> String {
    let keys: Vec<String> = step.outputs.keys().map(|key| format!("`{key}`")).collect();
    let what = if keys.is_empty() {
        "a JSON object with your results".to_owned()
    } else {
        format!("a JSON object with the keys {}", keys.join(", "))
    };
    format!(
        "\n\n---\nBefore you finish, write {what}, and nothing else, to this file:\noutput file: {}\n",
        path.display()
    )
}

/// The same about the flow that it may leave behind.
fn emit_block(path: &Path) -> String {
    format!(
        "\n\n---\nIf this is better done in several steps, do not do it: write a flow (YAML with `steps:`) to this file \
         instead. It is run when you finish, and its outputs are yours.\nflow file: {}\n",
        path.display()
    )
}
