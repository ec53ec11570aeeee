//! The end of a job with nothing in motion and nothing ready.
//!
//! Choices: a step whose last run was cancelled because a loop superseded it, and which did not become ready again, gets a
//! `Skipped` run as one does that never started. Outputs of several terminal steps are merged; if two of them give the
//! same name, each step's outputs stand under the step's name instead. If a flow has no terminal step (its leaves only
//! loop, escalate, or abandon), its leaves stand in for them here.

use crate::flow::OnError;
use crate::flow::machine::graph::Node;
use crate::flow::machine::work::{RunAt, Supply, Work};
use crate::model::{EventType, JobPhase, RunPhase, RunStatus};
use serde_json::{Map, Value};

impl Work<'_> {
    /// Ends the job.
    pub fn settle(&mut self) {
        self.skip_the_rest();
        let nodes = 0..self.graph.steps.len();
        let reached = |node: &Node| self.completed(*node).is_some();
        let terminal = nodes.clone().any(|node| self.graph.is_terminal(node) && reached(&node));
        let all_over = nodes.clone().all(|node| self.is_over(node));
        if terminal || all_over {
            self.status.outputs = Some(Value::Object(self.job_outputs()));
            self.end(JobPhase::Succeeded, "Completed", "nothing is left to do".into());
            self.status.reason = None;
            self.status.message = None;
        } else {
            let open: Vec<String> =
                nodes.filter(|&node| !self.is_over(node)).map(|node| self.describe(node)).take(5).collect();
            let message = format!("nothing is left to run, and no terminal step completed ({})", open.join(", "));
            self.end(JobPhase::Failed, "NoTerminalReached", message);
        }
    }

    fn skip_the_rest(&mut self) {
        for node in 0..self.graph.steps.len() {
            let started = self.newest(node).map(|at| &self.runs[at].status);
            let never = started.is_none_or(|status| {
                status.phase == RunPhase::Cancelled && status.reason.as_deref() == Some("Superseded")
            });
            if never {
                let status = RunStatus {
                    phase: RunPhase::Skipped,
                    reason: Some("NotReached".into()),
                    message: Some("its job settled without it".into()),
                    created_at: Some(self.now),
                    finished_at: Some(self.now),
                    ..RunStatus::default()
                };
                let at = self.make_run(node, Supply::default(), None, status);
                self.tell_of_run(at, EventType::Normal, "StepSkipped", "its job settled without it".into());
            }
        }
    }

    /// The current completed run of a step.
    fn completed(&self, node: Node) -> Option<RunAt> {
        self.current(node).filter(|&at| self.runs[at].status.phase == RunPhase::Completed && !self.is_sent_back(at))
    }

    fn is_over(&self, node: Node) -> bool {
        let Some(at) = self.newest(node) else { return false };
        match self.runs[at].status.phase {
            RunPhase::Completed | RunPhase::Skipped => true,
            RunPhase::Failed => self.graph.steps[node].on_error == OnError::Continue,
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended | RunPhase::Cancelled => false,
        }
    }

    fn describe(&self, node: Node) -> String {
        let phase = self.newest(node).map_or("not started", |at| self.runs[at].status.phase.as_str());
        format!("`{}`: {phase}", self.graph.steps[node].name)
    }

    fn job_outputs(&self) -> Map<String, Value> {
        let nodes = 0..self.graph.steps.len();
        let any_terminal = nodes.clone().any(|node| self.graph.is_terminal(node));
        let counts = |node: Node| if any_terminal { self.graph.is_terminal(node) } else { self.graph.is_leaf(node) };
        let given: Vec<(&str, &Map<String, Value>)> = nodes
            .filter(|&node| counts(node))
            .filter_map(|node| {
                let outputs = self.runs[self.completed(node)?].status.outputs.as_ref()?;
                Some((self.graph.steps[node].name.as_str(), outputs))
            })
            .collect();
        let mut merged = Map::new();
        for (_, outputs) in &given {
            merged.extend((*outputs).clone());
        }
        if merged.len() == given.iter().map(|(_, outputs)| outputs.len()).sum::<usize>() {
            return merged;
        }
        given.into_iter().map(|(step, outputs)| (step.to_owned(), Value::Object(outputs.clone()))).collect()
    }
}
