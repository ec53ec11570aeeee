//! Who waits for whom in a flow: the order of its steps, and which inputs are *loop-back* inputs.
//!
//! A cycle is allowed where a loop rule closes it. Its edge that points against the order is the loop-back edge: what goes
//! into the target of a loop rule, from the step with the rule first of all. All other edges are *forward*: they order.
//! A flow whose cycles are not allowed (validation refuses it) still gets an order here: never a hang, never a panic.

use crate::flow::{Dependency, Executor, ExitRule, Flow, InputSource, Step, SubFlow};
use crate::model::ExitAction;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A step, by its place in the list of all.
pub(super) type Node = usize;

/// The steps by name. Each pass over a job asks it for each run.
type Index = HashMap<String, Node, foldhash::fast::RandomState>;

/// The steps of a flow, and their edges.
pub(super) struct Graph<'f> {
    /// By name.
    pub steps: Vec<&'f Step>,
    shape: &'f Shape,
}

/// The edges between the steps of a flow: found once, whatever happens to its jobs.
#[derive(Debug)]
pub(super) struct Shape {
    /// Sources before what depends on them, by forward edges.
    pub order: Vec<Node>,
    /// Forward edges: what this one waits for.
    pub sources: Vec<Vec<Node>>,
    /// Forward edges: what waits for this one.
    pub dependents: Vec<Vec<Node>>,
    /// Steps that can not do without any of their sources, none of which is looped back: what keeps one of these from running
    /// can be told from the sources alone.
    pub strict: Vec<bool>,
    index: Index,
    /// Loop-back edges, as (source, dependent), with the target of the innermost loop that they belong to.
    back: HashMap<(Node, Node), Node>,
}

/// The shape of a flow, from the first time that it is asked for. It follows from the steps, so it makes no two flows differ.
#[derive(Debug, Clone, Default)]
pub struct KnownShape(OnceLock<Arc<Shape>>);

impl PartialEq for KnownShape {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// How readily an edge is taken for a loop-back edge: the last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    /// A required input, or `after`.
    Hard,
    /// An `optional` or `any_of` input of a step that no loop targets.
    Soft,
    /// The same, of a step that a loop targets.
    SoftIntoTarget,
    /// A required input that a loop's target has from the step with the rule.
    HardFromLooper,
    /// The same, `optional` or `any_of`.
    SoftFromLooper,
}

impl<'f> Graph<'f> {
    /// The graph of a flow.
    pub fn of(flow: &'f Flow) -> Graph<'f> {
        let shape = flow.shape.0.get_or_init(|| Arc::new(Shape::of(flow)));
        Graph { steps: flow.steps.values().collect(), shape }
    }

    /// A leaf that can advance: one whose rules only loop, escalate, or abandon does not count.
    pub fn is_terminal(&self, node: Node) -> bool {
        let exits = &self.steps[node].exits;
        self.is_leaf(node) && (exits.is_empty() || exits.iter().any(|rule| rule.action == ExitAction::Advance))
    }
}

impl Deref for Graph<'_> {
    type Target = Shape;

    fn deref(&self) -> &Shape {
        self.shape
    }
}

impl Shape {
    fn of(flow: &Flow) -> Shape {
        let steps: Vec<&Step> = flow.steps.values().collect();
        let index: Index = flow.steps.keys().enumerate().map(|(node, name)| (name.clone(), node)).collect();
        let loops = loops(&steps, &index);
        let edges = classify(&steps, &index, &loops);
        let count = steps.len();
        let mut shape = Shape {
            index,
            order: Vec::new(),
            sources: vec![Vec::new(); count],
            dependents: vec![Vec::new(); count],
            strict: vec![false; count],
            back: HashMap::new(),
        };
        let against = shape.add_forward(&edges);
        shape.order = topological(&shape.dependents, &shape.sources);
        shape.scope(&against, &loops);
        for (node, step) in steps.iter().enumerate() {
            shape.strict[node] = is_strict(step, &shape.index);
        }
        for (_, dependent) in against {
            shape.strict[dependent] = false;
        }
        shape
    }

    /// The step of this name.
    pub fn node(&self, name: &str) -> Option<Node> {
        self.index.get(name).copied()
    }

    /// For a loop-back edge: the target of its loop.
    pub fn loop_of(&self, source: Node, dependent: Node) -> Option<Node> {
        self.back.get(&(source, dependent)).copied()
    }

    /// Whether any input is a loop-back input.
    pub fn has_loop_backs(&self) -> bool {
        !self.back.is_empty()
    }

    /// Nothing depends on it, but for loop-back inputs.
    pub fn is_leaf(&self, node: Node) -> bool {
        self.dependents[node].is_empty()
    }

    /// All that is forward-reachable from a step, itself included.
    pub fn downstream(&self, from: Node) -> Vec<Node> {
        reach(&self.dependents, from)
    }

    /// Adds every edge that closes no cycle, in the order of `Edge`; gives back those that would have closed one.
    fn add_forward(&mut self, edges: &BTreeMap<(Node, Node), Edge>) -> Vec<(Node, Node)> {
        let core = cyclic_core(self.sources.len(), edges.keys().copied());
        let mut inside: Vec<(Edge, (Node, Node))> = Vec::new();
        for (&(source, dependent), &edge) in edges {
            match core[source] && core[dependent] {
                true => inside.push((edge, (source, dependent))),
                false => self.link(source, dependent),
            }
        }
        inside.sort_unstable();
        let hard: Vec<(Node, Node)> =
            inside.iter().filter(|(edge, _)| *edge == Edge::Hard).map(|(_, pair)| *pair).collect();
        let hard_is_sound = !cyclic_core(self.sources.len(), hard.iter().copied()).contains(&true);
        let mut against = Vec::new();
        for (edge, (source, dependent)) in inside {
            let closes = !(edge == Edge::Hard && hard_is_sound) && self.reaches(dependent, source);
            match closes {
                true => against.push((source, dependent)),
                false => self.link(source, dependent),
            }
        }
        against
    }

    fn link(&mut self, source: Node, dependent: Node) {
        self.dependents[source].push(dependent);
        self.sources[dependent].push(source);
    }

    fn reaches(&self, from: Node, to: Node) -> bool {
        from == to || reach(&self.dependents, from).contains(&to)
    }

    /// Finds for each loop-back edge the innermost loop with both its ends inside.
    fn scope(&mut self, against: &[(Node, Node)], loops: &BTreeSet<(Node, Node)>) {
        if against.is_empty() {
            return;
        }
        let mut place = vec![0; self.sources.len()];
        for (at, &node) in self.order.iter().enumerate() {
            place[node] = at;
        }
        let bodies: Vec<(Node, BTreeSet<Node>, BTreeSet<Node>)> = loops
            .iter()
            .map(|&(looper, target)| {
                let after: BTreeSet<Node> = reach(&self.dependents, target).into_iter().collect();
                let before: BTreeSet<Node> = reach(&self.sources, looper).into_iter().collect();
                (target, after, before)
            })
            .collect();
        for &(source, dependent) in against {
            let around = bodies.iter().filter(|(_, after, _)| after.contains(&source) && after.contains(&dependent));
            let closed = around.clone().filter(|(_, _, before)| before.contains(&source));
            let innermost = closed.map(|(target, ..)| *target).max_by_key(|&target| place[target]);
            let nearest = around.map(|(target, ..)| *target).max_by_key(|&target| place[target]);
            self.back.insert((source, dependent), innermost.or(nearest).unwrap_or(dependent));
        }
    }
}

/// The step that a loop rule of this step runs again.
pub(super) fn loop_target<'s>(step: &'s Step, rule: &'s ExitRule) -> &'s str {
    rule.target.as_deref().unwrap_or(&step.name)
}

/// All (step with the rule, target) of the rules that can send a job back.
fn loops(steps: &[&Step], index: &Index) -> BTreeSet<(Node, Node)> {
    let mut found = BTreeSet::new();
    for (looper, step) in steps.iter().enumerate() {
        for rule in &step.exits {
            let sends_back = match rule.action {
                ExitAction::Loop => true,
                ExitAction::Escalate => rule.target.is_some(),
                ExitAction::Advance | ExitAction::Abandon => false,
            };
            if let (true, Some(&target)) = (sends_back, index.get(loop_target(step, rule))) {
                found.insert((looper, target));
            }
        }
    }
    found
}

/// Every edge of the flow with its kind; of two between the same steps, the harder.
fn classify(steps: &[&Step], index: &Index, loops: &BTreeSet<(Node, Node)>) -> BTreeMap<(Node, Node), Edge> {
    let targets: BTreeSet<Node> = loops.iter().map(|&(_, target)| target).collect();
    let mut edges = BTreeMap::new();
    for (dependent, step) in steps.iter().enumerate() {
        for (name, hard) in names_of_sources(step) {
            let Some(&source) = index.get(name) else { continue };
            let edge = match (hard, loops.contains(&(source, dependent)), targets.contains(&dependent)) {
                (true, false, _) => Edge::Hard,
                (false, false, false) => Edge::Soft,
                (false, false, true) => Edge::SoftIntoTarget,
                (true, true, _) => Edge::HardFromLooper,
                (false, true, _) => Edge::SoftFromLooper,
            };
            edges.entry((source, dependent)).and_modify(|known: &mut Edge| *known = edge.min(*known)).or_insert(edge);
        }
    }
    edges
}

/// The steps that a step names as sources, and whether it can do without.
fn names_of_sources(step: &Step) -> Vec<(&str, bool)> {
    let mut names: Vec<(&str, bool)> = step.implied_sources().map(|name| (name, true)).collect();
    for input in step.inputs.values() {
        match &input.source {
            InputSource::Job(_) => {}
            InputSource::Step(field) => names.push((field.step.as_str(), !input.optional)),
            InputSource::AnyOf(fields) => names.extend(fields.iter().map(|field| (field.step.as_str(), false))),
        }
    }
    for dependency in step.after.iter().chain(&step.after_resolved) {
        match dependency {
            Dependency::Step(name) => names.push((name, true)),
            Dependency::AnyOf(several) => names.extend(several.iter().map(|name| (name.as_str(), true))),
        }
    }
    names
}

/// Whether a step needs a completed run of each step that it names.
fn is_strict(step: &Step, index: &Index) -> bool {
    let list = match &step.executor {
        Executor::SubFlow(SubFlow { for_each: Some(each), .. }) => Some(&each.list),
        _ => None,
    };
    let needed = step.inputs.values().all(|input| !input.optional);
    let one = |source: &InputSource| !matches!(source, InputSource::AnyOf(_));
    needed
        && step.inputs.values().map(|input| &input.source).chain(list).all(one)
        && step.after.iter().all(|dependency| matches!(dependency, Dependency::Step(_)))
        && step.after_resolved.is_empty()
        && names_of_sources(step).iter().all(|(name, _)| index.contains_key(*name))
}

fn reach(edges: &[Vec<Node>], from: Node) -> Vec<Node> {
    let mut seen = vec![false; edges.len()];
    seen[from] = true;
    let mut found = vec![from];
    let mut next = 0;
    while next < found.len() {
        for &node in &edges[found[next]] {
            if !std::mem::replace(&mut seen[node], true) {
                found.push(node);
            }
        }
        next += 1;
    }
    found
}

/// The nodes that are on a cycle or between two: what is left when sources and sinks are taken away again and again.
fn cyclic_core(count: usize, edges: impl Iterator<Item = (Node, Node)>) -> Vec<bool> {
    let mut out = vec![Vec::new(); count];
    let mut into = vec![Vec::new(); count];
    for (source, dependent) in edges {
        out[source].push(dependent);
        into[dependent].push(source);
    }
    let mut core = vec![true; count];
    for node in topological(&out, &into).into_iter().chain(topological(&into, &out)) {
        core[node] = false;
    }
    core
}

/// Sources first; what is on or behind a cycle is left out.
fn topological(out: &[Vec<Node>], into: &[Vec<Node>]) -> Vec<Node> {
    let mut waits_for: Vec<usize> = into.iter().map(Vec::len).collect();
    let mut free: VecDeque<Node> = (0..out.len()).filter(|&node| waits_for[node] == 0).collect();
    let mut order = Vec::with_capacity(out.len());
    while let Some(node) = free.pop_front() {
        order.push(node);
        for &next in &out[node] {
            waits_for[next] -= 1;
            if waits_for[next] == 0 {
                free.push_back(next);
            }
        }
    }
    order
}
