//! Cycles among steps: allowed only through an input that may be absent, and closed by a rule that sends the job back.

use super::super::types::{Dependency, Flow, InputSource, Step};
use super::reader::problem;
use super::sessions::sources;
use crate::model::{ExitAction, Problem};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(flow: &Flow, problems: &mut Vec<Problem>) {
    // Who cannot begin at all need not be told that they cannot go round.
    if !hard(flow, problems) {
        unguarded(flow, problems);
    }
}

/// A cycle through inputs that may be absent, which no rule ever takes: nobody can say which step comes first.
fn unguarded(flow: &Flow, problems: &mut Vec<Problem>) {
    let names: Vec<&str> = flow.steps.keys().map(String::as_str).collect();
    let place: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut edges = vec![Vec::new(); names.len()];
    for (at, step) in flow.steps.values().enumerate() {
        edges[at].extend(sources(step).into_iter().filter_map(|name| place.get(name).copied()));
    }
    for group in strongly_connected(&edges) {
        let cyclic = group.len() > 1 || edges[group[0]].contains(&group[0]);
        let inside = |name: &str| place.get(name).is_some_and(|at| group.contains(at));
        let closes = |at: &usize| {
            let step = &flow.steps[names[*at]];
            step.exits.iter().any(|rule| {
                let sends_back = rule.action == ExitAction::Loop || rule.action == ExitAction::Escalate;
                sends_back && rule.target.as_deref().is_some_and(inside)
            })
        };
        if cyclic && !group.iter().any(closes) {
            let words: Vec<&str> = group.iter().map(|at| names[*at]).collect();
            let message = format!("no rule closes this cycle of steps: {}", words.join(" → "));
            let help = "close it with an exit rule `{action: loop, target: …}`, or break it".to_owned();
            problems.push(problem(flow.steps[words[0]].path.clone(), &message, Some(help)));
        }
    }
}

/// The groups of nodes that reach each other, each in order; with a stack of its own, however deep the graph is.
fn strongly_connected(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let count = edges.len();
    let mut back = vec![Vec::new(); count];
    for (from, targets) in edges.iter().enumerate() {
        targets.iter().for_each(|&to| back[to].push(from));
    }
    let mut order = Vec::with_capacity(count);
    let mut seen = vec![false; count];
    for start in 0..count {
        let mut stack = if std::mem::replace(&mut seen[start], true) { Vec::new() } else { vec![(start, 0)] };
        while let Some((node, next)) = stack.last_mut() {
            match edges[*node].get(*next) {
                Some(&to) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[to], true) {
                        stack.push((to, 0));
                    }
                }
                None => {
                    order.push(*node);
                    stack.pop();
                }
            }
        }
    }
    let mut groups = Vec::new();
    let mut taken = vec![false; count];
    for &start in order.iter().rev() {
        let mut group = Vec::new();
        let mut next = vec![start];
        while let Some(node) = next.pop() {
            if !std::mem::replace(&mut taken[node], true) {
                group.push(node);
                next.extend(&back[node]);
            }
        }
        if !group.is_empty() {
            group.sort_unstable();
            groups.push(group);
        }
    }
    groups
}

/// The steps that must have ended before this one, without the inputs that may be absent: those may close a loop.
fn needs(step: &Step) -> BTreeSet<&str> {
    let mut needs: BTreeSet<&str> = step.implied_sources().collect();
    for input in step.inputs.values().filter(|input| !input.optional) {
        if let InputSource::Step(field) = &input.source {
            needs.insert(field.step.as_str());
        }
    }
    for dependency in step.after.iter().chain(&step.after_resolved) {
        if let Dependency::Step(name) = dependency {
            needs.insert(name.as_str());
        }
    }
    needs
}

/// A cycle of steps that all need each other can never begin.
fn hard(flow: &Flow, problems: &mut Vec<Problem>) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    for start in flow.steps.keys() {
        // Depth first with a stack of our own: a chain of thousands of steps is fine.
        let mut stack: Vec<(&str, Vec<&str>)> = Vec::new();
        let open = |name: &str| -> Vec<&str> {
            flow.steps.get(name).map(|s| needs(s).into_iter().collect()).unwrap_or_default()
        };
        if !marks.contains_key(start.as_str()) {
            marks.insert(start, Mark::Open);
            stack.push((start, open(start)));
        }
        while let Some((name, rest)) = stack.last_mut() {
            let Some(next) = rest.pop() else {
                marks.insert(name, Mark::Done);
                stack.pop();
                continue;
            };
            match marks.get(next) {
                Some(Mark::Done) => {}
                Some(Mark::Open) => {
                    let from = stack.iter().position(|(name, _)| *name == next).unwrap_or(0);
                    let names: Vec<&str> = stack.iter().skip(from).map(|(name, _)| *name).collect();
                    let message = format!("these steps wait for each other: {}", names.join(" → "));
                    let help = "make one input of the loop `optional`, and close it with a `loop` rule".to_owned();
                    let path = flow.steps.get(next).map(|step| step.path.clone()).unwrap_or_default();
                    problems.push(problem(path, &message, Some(help)));
                    return true;
                }
                None if flow.steps.contains_key(next) => {
                    marks.insert(next, Mark::Open);
                    let needs = open(next);
                    stack.push((next, needs));
                }
                None => {}
            }
        }
    }
    false
}
