//! Which steps run now, and with what: one walk over the steps, sources first.
//!
//! The walk knows of every source whether it is there, may still come, or will not ([`Outlook`]); so it can tell an input
//! that is late from one that is absent. Loops are answered on the way: an outer one before an inner one that it
//! supersedes. A loop-back input has the newest value of the present chain of iterations of its loop: none in the first,
//! none after an outer loop began it afresh.
//!
//! Choices: a step that is downstream of a member of an `any_of` waits for that member while a loop runs it again, and
//! takes what is there first otherwise. A completed run that was sent back, and whose loop can not be answered (the
//! target's `when` is false), satisfies nobody.

use crate::flow::machine::begin;
use crate::flow::machine::condition::condition;
use crate::flow::machine::graph::Node;
use crate::flow::machine::inputs::{in_map, shortened};
use crate::flow::machine::work::{RunAt, Supply, Work};
use crate::flow::{AgentStep, Dependency, Executor, Input, InputSource, Step, StepField, SubFlow, When};
use crate::model::{EventType, RunPhase, RunStatus};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// What can be expected of a step, as things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// This is its current completed run.
    Done(RunAt),
    /// It is in motion, or something is that it waits for.
    Coming,
    /// It will not complete: it failed, its `when` is false, or a source that it needs will not come.
    Never,
}

/// Why a step can not run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    /// Something may still come.
    Late,
    /// Something will not come.
    Gone,
}

/// One source, as it was found.
enum Found {
    /// This run, for this value (`None`: only its end was asked for).
    Run(RunAt, Option<Value>),
    /// A value from outside.
    Value(Value),
    /// Nothing, and that is allowed.
    Absent,
}

/// One walk.
struct Walk<'w, 'a> {
    work: &'w mut Work<'a>,
    outlook: Vec<Outlook>,
}

impl Work<'_> {
    /// Makes the runs of all steps that are ready; gives whether one of them supersedes others.
    pub fn start_ready(&mut self) -> bool {
        let outlook = vec![Outlook::Never; self.graph.steps.len()];
        Walk { work: self, outlook }.all()
    }
}

impl Walk<'_, '_> {
    fn all(&mut self) -> bool {
        let mut requests = self.requests();
        let mut supersedes = false;
        for &node in &self.work.graph.order {
            for looper in std::mem::take(&mut requests[node]) {
                supersedes |= self.answer(node, looper);
            }
            self.outlook[node] = match self.work.current(node) {
                Some(at) => self.of_current(at),
                None => self.of_missing(node),
            };
        }
        supersedes
    }

    /// For each step, the runs that were sent back to it and not yet answered.
    fn requests(&self) -> Vec<Vec<RunAt>> {
        let mut requests = vec![Vec::new(); self.work.graph.steps.len()];
        for &node in &self.work.graph.order {
            if let Some((at, target)) = self.work.current(node).and_then(|at| Some((at, self.work.open_loop(at)?))) {
                requests[target].push(at);
            }
        }
        requests
    }

    /// Runs a step again, because a run was sent back to it (and was not superseded in the meantime).
    fn answer(&mut self, node: Node, looper: RunAt) -> bool {
        if self.work.is_current(looper) != Some(true) {
            return false;
        }
        let Ok(supply) = self.supply(node, Some(looper)) else { return false };
        self.start(node, supply, Some(looper));
        true
    }

    fn of_current(&self, at: RunAt) -> Outlook {
        match self.work.runs[at].status.phase {
            RunPhase::Pending | RunPhase::Running | RunPhase::Suspended => Outlook::Coming,
            RunPhase::Completed if !self.work.is_sent_back(at) => Outlook::Done(at),
            RunPhase::Completed | RunPhase::Failed | RunPhase::Skipped | RunPhase::Cancelled => Outlook::Never,
        }
    }

    fn of_missing(&mut self, node: Node) -> Outlook {
        if let Some(lack) = self.lack_of_a_source(node) {
            return match lack {
                Lack::Late => Outlook::Coming,
                Lack::Gone => Outlook::Never,
            };
        }
        match self.supply(node, None) {
            Ok(supply) => {
                self.start(node, supply, None);
                Outlook::Coming
            }
            Err(Lack::Late) => Outlook::Coming,
            Err(Lack::Gone) => Outlook::Never,
        }
    }

    /// What a step lacks that needs all of its sources: what [`supply`](Self::supply) would say, without gathering anything.
    fn lack_of_a_source(&self, node: Node) -> Option<Lack> {
        let lack = |&source: &Node| match self.outlook[source] {
            Outlook::Done(_) => None,
            Outlook::Coming => Some(Lack::Late),
            Outlook::Never => Some(Lack::Gone),
        };
        let sources = self.work.graph.sources[node].iter().filter(|_| self.work.graph.strict[node]);
        sources.filter_map(lack).max()
    }

    fn start(&mut self, node: Node, supply: Supply, cause: Option<RunAt>) {
        let now = self.work.now;
        let step = self.work.graph.steps[node];
        let list = supply.list.clone();
        let status = RunStatus { phase: RunPhase::Pending, created_at: Some(now), ..RunStatus::default() };
        let at = self.work.make_run(node, supply, cause, status);
        if let Some(other) = list.filter(|list| !list.is_array()) {
            let message = format!("`for_each` goes through a list, and this is none: {}", shortened(&other));
            self.work.close_run(at, RunPhase::Failed, "NotAList", message);
            return;
        }
        // Nobody works on it but a person.
        let asks = matches!(step.executor, Executor::External { .. });
        if asks {
            let run = begin(self.work.flow, &self.work.runs[at], None, now);
            *self.work.runs[at].to_mut() = run;
        }
        let (word, message) = if asks {
            ("StepSuspended", "it waits for an answer")
        } else {
            ("StepReady", "what it waited for is there")
        };
        let attempt = self.work.runs[at].spec.attempt;
        self.work.tell_of_run(at, EventType::Normal, word, format!("attempt {attempt}: {message}"));
    }

    /// All that a new run of a step needs, if it is there.
    fn supply(&self, node: Node, cause: Option<RunAt>) -> Result<Supply, Lack> {
        let step = self.work.graph.steps[node];
        let mut supply = Supply::default();
        let mut present = HashSet::new();
        let mut lack = None;
        for (name, input) in &step.inputs {
            let value = match self.input(node, input, cause) {
                Ok(Found::Run(at, value)) => {
                    present.insert(name.as_str());
                    self.note(&mut supply, at);
                    value.unwrap_or(Value::Null)
                }
                Ok(Found::Value(value)) => {
                    present.insert(name.as_str());
                    value
                }
                Ok(Found::Absent) => Value::Null,
                Err(found) => {
                    lack = lack.max(Some(found));
                    continue;
                }
            };
            supply.inputs.insert(name.clone(), value);
        }
        if let Executor::SubFlow(SubFlow { for_each: Some(each), .. }) = &step.executor {
            let list = Input { source: each.list.clone(), optional: false };
            match self.input(node, &list, cause) {
                Ok(Found::Run(at, value)) => {
                    self.note(&mut supply, at);
                    supply.list = Some(value.unwrap_or(Value::Null));
                }
                Ok(Found::Value(value)) => supply.list = Some(value),
                Ok(Found::Absent) => supply.list = Some(Value::Null),
                Err(found) => lack = lack.max(Some(found)),
            }
        }
        let fork = match &step.executor {
            Executor::Agent(AgentStep { fork_from: Some(from), .. }) => Some(Dependency::Step(from.clone())),
            _ => None,
        };
        let completed = step.after.iter().chain(&fork).map(|dependency| (dependency, false));
        let resolved = step.after_resolved.iter().map(|dependency| (dependency, true));
        for (dependency, without_will_do) in completed.chain(resolved) {
            match self.dependency(node, dependency, without_will_do, cause) {
                Ok(Found::Run(at, _)) => self.note(&mut supply, at),
                Ok(Found::Value(_) | Found::Absent) => {}
                Err(found) => lack = lack.max(Some(found)),
            }
        }
        match lack {
            Some(lack) => Err(lack),
            None if holds(step, &supply.inputs, &present) => Ok(supply),
            None => Err(Lack::Gone),
        }
    }

    fn note(&self, supply: &mut Supply, at: RunAt) {
        let spec = &self.work.runs[at].spec;
        let source = (spec.step.clone(), spec.attempt);
        if !supply.sources.contains(&source) {
            supply.sources.push(source);
        }
    }

    fn input(&self, node: Node, input: &Input, cause: Option<RunAt>) -> Result<Found, Lack> {
        let found = match &input.source {
            InputSource::Job(path) => Ok(Found::Value(in_map(&self.work.inputs, path))),
            InputSource::Step(field) => self.source(node, &field.step, cause).map(|at| self.field(at, field)),
            InputSource::AnyOf(fields) => {
                let members = fields.iter().map(|field| field.step.as_str());
                self.first_of(node, members, cause).map(|(place, at)| self.field(at, &fields[place]))
            }
        };
        match (found, input.optional) {
            (Err(Lack::Gone), true) => Ok(Found::Absent),
            (found, _) => found,
        }
    }

    fn dependency(
        &self,
        node: Node,
        dependency: &Dependency,
        without_will_do: bool,
        cause: Option<RunAt>,
    ) -> Result<Found, Lack> {
        let found = match dependency {
            Dependency::Step(name) => self.source(node, name, cause),
            Dependency::AnyOf(names) => self.first_of(node, names.iter().map(String::as_str), cause).map(|(_, at)| at),
        };
        match (found, without_will_do) {
            (Ok(at), _) => Ok(Found::Run(at, None)),
            (Err(Lack::Gone), true) => Ok(Found::Absent),
            (Err(lack), _) => Err(lack),
        }
    }

    fn field(&self, at: RunAt, field: &StepField) -> Found {
        let outputs = self.work.runs[at].status.outputs.as_ref();
        Found::Run(at, Some(outputs.map_or(Value::Null, |outputs| in_map(outputs, &field.path))))
    }

    /// The run that a step takes a value of this source from.
    fn source(&self, node: Node, name: &str, cause: Option<RunAt>) -> Result<RunAt, Lack> {
        let Some(source) = self.work.graph.node(name) else { return Err(Lack::Gone) };
        if let Some(target) = self.work.graph.loop_of(source, node) {
            return self.looped_back(source, target, node, cause).ok_or(Lack::Gone);
        }
        match self.outlook[source] {
            Outlook::Done(at) => Ok(at),
            Outlook::Coming => Err(Lack::Late),
            Outlook::Never => Err(Lack::Gone),
        }
    }

    /// The first of several that is there, unless a loop runs another of them again: that one is newer.
    fn first_of<'n>(
        &self,
        node: Node,
        names: impl Iterator<Item = &'n str>,
        cause: Option<RunAt>,
    ) -> Result<(usize, RunAt), Lack> {
        let mut first = None;
        let mut newest_late = None;
        for (place, name) in names.enumerate() {
            let Some(source) = self.work.graph.node(name) else { continue };
            let is_back = self.work.graph.loop_of(source, node).is_some();
            match self.source(node, name, cause) {
                Ok(at) if first.is_none() => {
                    first = Some((place, at, if is_back { u32::MAX } else { self.work.barrier(source) }));
                }
                Ok(_) | Err(Lack::Gone) => {}
                Err(Lack::Late) => newest_late = newest_late.max(Some(self.work.barrier(source))),
            }
        }
        match (first, newest_late) {
            (Some((.., since)), Some(late)) if late > since => Err(Lack::Late),
            (Some((place, at, _)), _) => Ok((place, at)),
            (None, Some(_)) => Err(Lack::Late),
            (None, None) => Err(Lack::Gone),
        }
    }

    /// The newest completed run of a source that belongs to the present chain of iterations of the loop around `target`.
    fn looped_back(&self, source: Node, target: Node, node: Node, cause: Option<RunAt>) -> Option<RunAt> {
        if node == target && cause.is_none() {
            return None;
        }
        let began = self.work.loop_began(target);
        let runs = self.work.of_step[source].iter().rev().copied();
        let mut completed = runs.filter(|&at| self.work.runs[at].status.phase == RunPhase::Completed);
        completed.next().filter(|&at| self.work.runs[at].spec.order >= began)
    }
}

/// Whether the condition of a step holds. One that can not be evaluated does not.
fn holds(step: &Step, inputs: &Map<String, Value>, present: &HashSet<&str>) -> bool {
    match &step.when {
        None => true,
        Some(When::Expression(text)) => condition(text, inputs).unwrap_or(false),
        Some(When::IsPresent(name, wanted)) => present.contains(name.as_str()) == *wanted,
        Some(When::IsNull(name, wanted)) => inputs.get(name).is_none_or(Value::is_null) == *wanted,
    }
}
