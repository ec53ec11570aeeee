//! What the end of a run means: its exit rules, first match wins, asked once; and if none answers, `on_error`.
//!
//! Choices: `_error` in `outputs` of a failed run is `reason: message`. `max_iterations` bounds the runs of the target in
//! the present chain of iterations: so many completed ones, and so many failed ones, so that a loop that answers failures
//! is bounded too. An escalated run counts as advanced when the job goes on. A failure that a rule answers with `advance`
//! is like one that `on_error: continue` lets pass, but the step still counts as failed at the end. A condition that
//! can not be evaluated is a warning, and no match.

use crate::flow::machine::condition::condition;
use crate::flow::machine::graph::{Node, loop_target};
use crate::flow::machine::work::{RunAt, Work};
use crate::flow::{ExitRule, OnError, Step};
use crate::model::{Decision, EventType, ExitAction, JobPhase, RunPhase};
use serde_json::{Map, Value};

impl Work<'_> {
    /// Decides about every run that has ended, oldest first, until the job ends; gives whether there was one.
    pub fn decide_ended_runs(&mut self) -> bool {
        let mut ended: Vec<RunAt> = (0..self.runs.len()).filter(|&at| self.is_undecided(at)).collect();
        ended.sort_by_key(|&at| self.runs[at].spec.order);
        for &at in &ended {
            if self.status.phase.is_terminal() {
                break;
            }
            self.decide(at);
        }
        !ended.is_empty()
    }

    fn is_undecided(&self, at: RunAt) -> bool {
        let status = &self.runs[at].status;
        let ended = matches!(status.phase, RunPhase::Completed | RunPhase::Failed);
        ended && status.decision.is_none() && self.is_current(at) == Some(true)
    }

    fn decide(&mut self, at: RunAt) {
        let Some(node) = self.step_of(at) else { return };
        let step = self.graph.steps[node];
        self.tell_how_it_ended(at);
        match self.first_match(at, step) {
            Some(rule) => self.follow(at, step, rule),
            None => self.default(at, step),
        }
    }

    fn tell_how_it_ended(&mut self, at: RunAt) {
        match self.runs[at].status.phase {
            RunPhase::Failed => self.tell_of_run(at, EventType::Warning, "StepFailed", self.failure(at)),
            RunPhase::Pending
            | RunPhase::Running
            | RunPhase::Suspended
            | RunPhase::Completed
            | RunPhase::Skipped
            | RunPhase::Cancelled => {
                let outputs = self.runs[at].status.outputs.as_ref().map_or(0, Map::len);
                self.tell_of_run(at, EventType::Normal, "StepCompleted", format!("it gave {outputs} outputs"));
            }
        }
    }

    /// The reason and the message of a failed run.
    fn failure(&self, at: RunAt) -> String {
        let status = &self.runs[at].status;
        match (&status.reason, &status.message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (Some(text), None) | (None, Some(text)) => text.clone(),
            (None, None) => "it failed".to_owned(),
        }
    }

    fn first_match<'s>(&mut self, at: RunAt, step: &'s Step) -> Option<&'s ExitRule> {
        if step.exits.is_empty() {
            return None;
        }
        let mut names = self.names(at);
        for (place, rule) in step.exits.iter().enumerate() {
            let most = rule.max_iterations.or(self.limit_of_target(step, rule));
            names.insert("max_attempts".into(), most.map_or(Value::Null, Value::from));
            match rule.when.as_deref().map_or(Ok(true), |text| condition(text, &names)) {
                Ok(true) => return Some(rule),
                Ok(false) => {}
                Err(error) => {
                    let message = format!("{} counts as not matching: {error}", title(rule, place));
                    self.tell_of_run(at, EventType::Warning, "ExitRuleError", message);
                }
            }
        }
        None
    }

    /// What the conditions of a run's rules may name: its inputs, and over them `outputs` and `attempt`.
    fn names(&self, at: RunAt) -> Map<String, Value> {
        let run = &self.runs[at];
        let mut outputs = run.status.outputs.clone().unwrap_or_default();
        if run.status.phase == RunPhase::Failed {
            outputs.insert("_error".into(), self.failure(at).into());
        }
        let mut names = run.spec.inputs.clone();
        names.insert("outputs".into(), Value::Object(outputs));
        names.insert("attempt".into(), run.spec.attempt.into());
        names
    }

    fn follow(&mut self, at: RunAt, step: &Step, rule: &ExitRule) {
        let place = step.exits.iter().position(|other| std::ptr::eq(other, rule)).unwrap_or(0);
        let title = title(rule, place);
        let action = match (rule.action, self.graph.node(loop_target(step, rule))) {
            (ExitAction::Loop, Some(target)) if self.is_exhausted(target, rule) => ExitAction::Escalate,
            (ExitAction::Loop, None) => ExitAction::Escalate,
            (action, _) => action,
        };
        let target = (action == ExitAction::Loop).then(|| loop_target(step, rule).to_owned());
        let follows = match (&target, action == rule.action) {
            (Some(target), _) => format!("{title}: loop to `{target}`"),
            (None, true) => format!("{title}: {}", word(action)),
            (None, false) => format!("{title}: `{}` has run as often as it may; escalate", loop_target(step, rule)),
        };
        self.tell_of_run(at, EventType::Normal, "ExitRule", follows);
        self.record(
            at,
            Decision { action, rule: Some(rule.name.clone().unwrap_or(title.clone())), target, retry: false },
        );
        let place = format!("step `{}`, {title}", step.name);
        match action {
            ExitAction::Advance | ExitAction::Loop => {}
            ExitAction::Escalate => self.escalate(place),
            ExitAction::Abandon => self.end(JobPhase::Failed, "Abandoned", place),
        }
    }

    /// No rule matched, or there is none.
    fn default(&mut self, at: RunAt, step: &Step) {
        let may_advance = step.exits.iter().any(|rule| rule.action == ExitAction::Advance);
        if self.runs[at].status.phase == RunPhase::Completed && may_advance {
            let message = format!("none of the {} exit rules matched", step.exits.len());
            self.close_run(at, RunPhase::Failed, "NoExitRuleMatched", message);
            self.tell_how_it_ended(at);
        }
        let advance = Decision { action: ExitAction::Advance, rule: None, target: None, retry: false };
        match (self.runs[at].status.phase == RunPhase::Failed, step.on_error) {
            (false, _) | (true, OnError::Continue) => self.record(at, advance),
            (true, OnError::Fail) => {
                let message = format!("step `{}`: {}", step.name, self.failure(at));
                self.end(JobPhase::Failed, "StepFailed", message);
            }
        }
    }

    fn record(&mut self, at: RunAt, decision: Decision) {
        self.runs[at].to_mut().status.decision = Some(decision);
    }

    /// The bound that the target of a rule has by itself.
    fn limit_of_target(&self, step: &Step, rule: &ExitRule) -> Option<u32> {
        let target = self.graph.node(loop_target(step, rule)).filter(|_| rule.action == ExitAction::Loop)?;
        self.graph.steps[target].limits.max_iterations
    }

    fn is_exhausted(&self, target: Node, rule: &ExitRule) -> bool {
        let Some(most) = rule.max_iterations.or(self.graph.steps[target].limits.max_iterations) else { return false };
        let began = self.loop_began(target);
        let (mut completed, mut failed) = (0, 0);
        for &at in &self.of_step[target] {
            let run = &self.runs[at];
            if run.spec.order >= began {
                completed += u32::from(run.status.phase == RunPhase::Completed);
                failed += u32::from(run.status.phase == RunPhase::Failed);
            }
        }
        completed.max(failed) >= most
    }
}

/// How a rule is called in messages.
fn title(rule: &ExitRule, place: usize) -> String {
    match &rule.name {
        Some(name) => format!("rule `{name}`"),
        None => format!("rule {}", place + 1),
    }
}

fn word(action: ExitAction) -> &'static str {
    match action {
        ExitAction::Advance => "advance",
        ExitAction::Loop => "loop",
        ExitAction::Escalate => "escalate",
        ExitAction::Abandon => "abandon",
    }
}
