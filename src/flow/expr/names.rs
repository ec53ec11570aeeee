//! The free names of an expression.

use super::ast::{Clause, Kind, Node, Target, Yields, children};
use super::builtins::is_builtin;

/// A name that an expression takes from outside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameUse {
    /// The name.
    pub name: String,
    /// Where: characters from the start of the text.
    pub offset: usize,
}

pub(super) fn free(root: &Node) -> Vec<NameUse> {
    let mut walk = Walk { bound: Vec::new(), found: Vec::new() };
    walk.node(root);
    walk.found.sort_by_key(|found| found.offset);
    walk.found
}

struct Walk<'n> {
    bound: Vec<&'n str>,
    found: Vec<NameUse>,
}

impl<'n> Walk<'n> {
    fn node(&mut self, node: &'n Node) {
        match &node.kind {
            Kind::Name(name) => {
                if !self.bound.contains(&name.as_str()) && !is_builtin(name) && !is_constant(name) {
                    self.found.push(NameUse { name: name.clone(), offset: node.at });
                }
            }
            Kind::Comp(comp) => {
                let before = self.bound.len();
                for Clause { target, iter, conditions } in &comp.clauses {
                    self.node(iter);
                    self.bind(target);
                    conditions.iter().for_each(|condition| self.node(condition));
                }
                match &comp.yields {
                    Yields::List(node) | Yields::Set(node) | Yields::Gen(node) => self.node(node),
                    Yields::Dict(key, value) => {
                        self.node(key);
                        self.node(value);
                    }
                }
                self.bound.truncate(before);
            }
            kind => children(kind, &mut |child| self.node(child)),
        }
    }

    fn bind(&mut self, target: &'n Target) {
        match target {
            Target::Name(name) => self.bound.push(name),
            Target::Tuple(parts) => parts.iter().for_each(|part| self.bind(part)),
        }
    }
}

/// Names that JSON's and YAML's authors write for Python's constants.
pub(super) fn is_constant(name: &str) -> bool {
    matches!(name, "true" | "false" | "null")
}
