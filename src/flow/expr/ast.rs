//! A parsed expression. Chains (`a + b + c`, `a and b`, `a.b.c()`) are flat, so that only real nesting is deep.

use super::error::{Res, too_large};
use super::meter::MAX_DEPTH;

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Characters from the start of the text.
    pub(super) at: usize,
    /// Levels below and including this one.
    pub(super) height: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    None,
    Ellipsis,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Name(String),
    /// `[…]`, `(…)`, `{…}`
    Display(Shape, Vec<Item>),
    Dict(Vec<Entry>),
    Comp(Box<Comp>),
    /// `-`, `+`, `~`, as written.
    Unary(Vec<Sign>, Box<Node>),
    /// An odd or even number of `not`.
    Not(bool, Box<Node>),
    /// Operators of one rank, from left to right.
    Chain(Box<Node>, Vec<(Op, usize, Node)>),
    Power(Box<Node>, Box<Node>),
    Compare(Box<Node>, Vec<(Cmp, usize, Node)>),
    And(Vec<Node>),
    Or(Vec<Node>),
    /// `value if condition else …`, any number of them, and the last value.
    If(Vec<(Node, Node)>, Box<Node>),
    Postfix(Box<Node>, Vec<(usize, Trailer)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    List,
    Tuple,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Minus,
    Plus,
    Invert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
    Or,
    Xor,
    And,
    Left,
    Right,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    Is,
    IsNot,
}

#[derive(Debug, Clone)]
pub(super) struct Item {
    /// `*node`
    pub(super) star: bool,
    pub(super) node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Entry {
    Pair(Node, Node),
    /// `**node`
    Spread(Node),
}

#[derive(Debug, Clone)]
pub(super) enum Trailer {
    Attr(String),
    Index(Node),
    Slice(Box<[Option<Node>; 3]>),
    Call(Vec<Arg>),
}

#[derive(Debug, Clone)]
pub(super) enum Arg {
    Plain(Node),
    Star(Node),
    Named(String, Node),
    Spread(Node),
}

#[derive(Debug, Clone)]
pub(super) struct Comp {
    pub(super) yields: Yields,
    pub(super) clauses: Vec<Clause>,
}

#[derive(Debug, Clone)]
pub(super) enum Yields {
    List(Node),
    Set(Node),
    Gen(Node),
    Dict(Node, Node),
}

#[derive(Debug, Clone)]
pub(super) struct Clause {
    pub(super) target: Target,
    pub(super) iter: Node,
    pub(super) conditions: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(super) enum Target {
    Name(String),
    Tuple(Vec<Target>),
}

impl Target {
    fn height(&self) -> usize {
        match self {
            Target::Name(_) => 1,
            Target::Tuple(parts) => 1 + parts.iter().map(Target::height).max().unwrap_or(0),
        }
    }
}

impl Node {
    /// A node, unless it is nested too deeply.
    pub(super) fn new(at: usize, kind: Kind) -> Res<Node> {
        let mut below = 0;
        children(&kind, &mut |node| below = below.max(node.height));
        if let Kind::Comp(comp) = &kind {
            // Each clause is a level of its own when it is evaluated.
            below += comp.clauses.len();
            below = below.max(comp.clauses.iter().map(|clause| clause.target.height()).max().unwrap_or(0));
        }
        let height = below + 1;
        if height > MAX_DEPTH {
            return too_large(format!("an expression with more than {MAX_DEPTH} levels"))
                .map_err(|e: super::error::Fail| e.at(at));
        }
        Ok(Node { at, height, kind })
    }
}

/// Calls `f` with each node directly below, in the order of the text as far as scopes allow.
pub(super) fn children<'n>(kind: &'n Kind, f: &mut dyn FnMut(&'n Node)) {
    match kind {
        Kind::None | Kind::Ellipsis | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Str(_) | Kind::Name(_) => {}
        Kind::Display(_, items) => items.iter().for_each(|item| f(&item.node)),
        Kind::Dict(entries) => entries.iter().for_each(|entry| match entry {
            Entry::Pair(key, value) => {
                f(key);
                f(value);
            }
            Entry::Spread(node) => f(node),
        }),
        Kind::Comp(comp) => {
            match &comp.yields {
                Yields::List(node) | Yields::Set(node) | Yields::Gen(node) => f(node),
                Yields::Dict(key, value) => {
                    f(key);
                    f(value);
                }
            }
            for clause in &comp.clauses {
                f(&clause.iter);
                clause.conditions.iter().for_each(&mut *f);
            }
        }
        Kind::Unary(_, node) | Kind::Not(_, node) => f(node),
        Kind::Chain(first, rest) => {
            f(first);
            rest.iter().for_each(|(_, _, node)| f(node));
        }
        Kind::Power(base, exponent) => {
            f(base);
            f(exponent);
        }
        Kind::Compare(first, rest) => {
            f(first);
            rest.iter().for_each(|(_, _, node)| f(node));
        }
        Kind::And(nodes) | Kind::Or(nodes) => nodes.iter().for_each(f),
        Kind::If(arms, last) => {
            for (value, condition) in arms {
                f(value);
                f(condition);
            }
            f(last);
        }
        Kind::Postfix(base, trailers) => {
            f(base);
            for (_, trailer) in trailers {
                match trailer {
                    Trailer::Attr(_) => {}
                    Trailer::Index(node) => f(node),
                    Trailer::Slice(parts) => parts.iter().flatten().for_each(&mut *f),
                    Trailer::Call(args) => args.iter().for_each(|arg| match arg {
                        Arg::Plain(node) | Arg::Star(node) | Arg::Named(_, node) | Arg::Spread(node) => f(node),
                    }),
                }
            }
        }
    }
}
