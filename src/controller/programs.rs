//! The workloads of what runs to its end: scripts, checks, requests to models, notifications.

use super::script;
use super::settle::{World, working_dir};
use crate::flow::{self, LlmStep, PollStep, Prompt, Requirement, Step};
use crate::model::{EnvValue, Failure, Job, Owner, Span, StepRun, WorkloadSpec, WorkloadType, WorkloadUid};
use crate::web::{ChatRequest, FORMAT, NotifyRequest};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Between Terminate and Kill.
const GRACE: Span = Span::seconds(5);

/// What is asked of our own program, in the run directory.
const REQUEST_FILE: &str = "request.json";

/// How long a webhook has, with all attempts.
const NOTIFY_MS: u64 = 10_000;

/// The model, where a step names none.
const MODEL: &str = "TENURE_LLM_MODEL";

/// What of our environment a request to a model needs. The values stay out of the store.
const LLM_VARIABLES: [&str; 4] = ["TENURE_LLM_BASE_URL", "TENURE_LLM_API_KEY", "OPENROUTER_API_KEY", "OPENAI_API_KEY"];

/// A run, and what its workload is made from.
pub(super) struct Launch<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) job: &'a Job,
    pub(super) step: &'a Step,
    pub(super) run: &'a StepRun,
    pub(super) uid: &'a WorkloadUid,
}

impl Launch<'_> {
    /// A script: its inputs reach it as data.
    pub(super) fn script(&self, command: &str) -> WorkloadSpec {
        self.shell(WorkloadType::Script, script::command(command, self.run))
    }

    /// One check of a poll: the values of inputs are replaced in its command.
    pub(super) fn check(&self, poll: &PollStep) -> WorkloadSpec {
        let command = flow::substitute(&poll.check_command, &self.run.spec.inputs);
        self.shell(WorkloadType::Check, vec!["sh".into(), "-c".into(), command])
    }

    fn shell(&self, r#type: WorkloadType, command: Vec<String>) -> WorkloadSpec {
        let cwd = step_dir(self.job, self.step, self.run, self.world);
        let run_dir = self.world.state_dir.workload(self.uid);
        WorkloadSpec {
            command,
            env: script::environment(self.job, self.run, &cwd, &run_dir),
            files: script::files(self.run),
            cwd: cwd.to_string_lossy().into_owned(),
            ..self.spec(r#type)
        }
    }

    /// A request to a model.
    ///
    /// # Errors
    /// Its prompt is in a file that cannot be read.
    pub(super) fn llm(&self, llm: &LlmStep) -> Result<WorkloadSpec, Failure> {
        let inputs = &self.run.spec.inputs;
        let prompt = flow::substitute(&self.prompt(&llm.prompt)?, inputs);
        let model = llm.model.clone().or_else(|| self.world.outside.variable(MODEL)).unwrap_or_default();
        let request = ChatRequest {
            system: llm.system.as_ref().map(|text| flow::substitute(text, inputs)),
            temperature: llm.temperature,
            max_tokens: llm.max_tokens.map(u64::from),
            outputs: self.step.outputs.iter().map(|(name, field)| (name.clone(), field.into())).collect(),
            ..ChatRequest::new(model, prompt)
        };
        let is_set = |name: &&str| self.world.outside.variable(name).is_some();
        let env = LLM_VARIABLES.into_iter().filter(is_set);
        let env = env.map(|name| (name.to_owned(), EnvValue::FromEnv { from_env: name.to_owned() })).collect();
        Ok(self.own("llm-request", &request, env))
    }

    /// A webhook is told.
    pub(super) fn notification(&self, url: String, body: Value) -> WorkloadSpec {
        let request = NotifyRequest { version: FORMAT, url, body, timeout_ms: NOTIFY_MS };
        self.own("notify", &request, BTreeMap::new())
    }

    /// Our own program, with a request in its run directory.
    fn own(&self, verb: &str, request: &impl Serialize, env: BTreeMap<String, EnvValue>) -> WorkloadSpec {
        let file = self.world.state_dir.workload(self.uid).join(REQUEST_FILE);
        let text = serde_json::to_string(request).unwrap_or_default();
        WorkloadSpec {
            command: vec![path(self.world.exe), verb.into(), path(&file)],
            env,
            files: BTreeMap::from([(REQUEST_FILE.to_owned(), text)]),
            // It reads nothing else, and a directory that went away must not be in its way.
            cwd: path(self.world.state_dir.root()),
            ..self.spec(WorkloadType::Script)
        }
    }

    fn spec(&self, r#type: WorkloadType) -> WorkloadSpec {
        WorkloadSpec {
            r#type,
            owners: vec![owner(self.job)],
            run: Some(self.run.metadata.name.clone()),
            grace_period: GRACE,
            ..WorkloadSpec::default()
        }
    }

    fn prompt(&self, prompt: &Prompt) -> Result<String, Failure> {
        match prompt {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::File(file) => {
                let path = beside_flow(self.job, file);
                self.world.outside.text(&path).map_err(|error| Failure {
                    reason: "PromptMissing".into(),
                    message: format!("failed to read prompt_file {}: {error}", path.display()),
                })
            }
        }
    }
}

/// The check of a requirement of a job.
pub(super) fn requirement(job: &Job, requirement: &Requirement, check: &str, world: &World<'_>) -> WorkloadSpec {
    let env = script::of_job(job, &working_dir(job, world.state_dir));
    WorkloadSpec {
        r#type: WorkloadType::Check,
        owners: vec![owner(job)],
        requirement: Some(requirement.name.clone()),
        command: vec!["sh".into(), "-c".into(), check.into()],
        env,
        cwd: path(&working_dir(job, world.state_dir)),
        grace_period: GRACE,
        ..WorkloadSpec::default()
    }
}

pub(super) fn owner(job: &Job) -> Owner {
    Owner { name: job.metadata.name.clone(), uid: job.uid() }
}

/// The directory of a step: its own, with input values in it, else the job's.
pub(super) fn step_dir(job: &Job, step: &Step, run: &StepRun, world: &World<'_>) -> PathBuf {
    step_dir_in(working_dir(job, world.state_dir), step, &run.spec.inputs)
}

/// The same, below the job's.
pub(super) fn step_dir_in(base: PathBuf, step: &Step, inputs: &Map<String, Value>) -> PathBuf {
    match &step.working_dir {
        Some(dir) => base.join(flow::substitute(dir, inputs)),
        None => base,
    }
}

/// A file that a flow names.
pub(super) fn beside_flow(job: &Job, file: &str) -> PathBuf {
    job.status.flow_dir.as_deref().map_or_else(|| PathBuf::from(file), |dir| Path::new(dir).join(file))
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
