//! What stands in brackets: values, arguments, subscripts, comprehensions.

use super::{KEYWORDS, Parser};
use crate::flow::expr::ast::{Arg, Clause, Comp, Entry, Kind, Node, Shape, Target, Trailer, Yields};
use crate::flow::expr::error::{ErrorKind, Res};
use crate::flow::expr::lexer::Tok;

/// The most `for` of one comprehension: what no author needs more of.
const MAX_CLAUSES: usize = 16;

impl Parser {
    pub(super) fn arguments(&mut self) -> Res<Vec<Arg>> {
        let mut args: Vec<Arg> = Vec::new();
        loop {
            if self.eat(")") {
                return Ok(args);
            }
            let at = self.offset();
            let named = match (self.tok(), self.ahead(1)) {
                (Tok::Word(name), Tok::Op("=")) if !KEYWORDS.contains(&name.as_str()) => Some(name.clone()),
                _ => None,
            };
            if let Some(name) = named {
                self.bump();
                self.bump();
                if args.iter().any(|arg| matches!(arg, Arg::Named(other, _) if *other == name)) {
                    return self.fail(format!("the argument `{name}` is given twice"));
                }
                args.push(Arg::Named(name, self.expression()?));
            } else if self.eat("**") {
                args.push(Arg::Spread(self.expression()?));
            } else if self.eat("*") {
                args.push(Arg::Star(self.expression()?));
            } else {
                if args.iter().any(|arg| matches!(arg, Arg::Named(..) | Arg::Spread(_))) {
                    return self.fail("an argument without a name follows one with a name");
                }
                let node = self.expression()?;
                if self.is_comprehension() {
                    let node = self.comprehension(at, Yields::Gen(node))?;
                    if !args.is_empty() || !self.is(")") {
                        return self.fail("a generator beside other arguments needs its own parentheses");
                    }
                    args.push(Arg::Plain(node));
                } else {
                    args.push(Arg::Plain(node));
                }
            }
            if !self.is(")") {
                self.expect(",")?;
            }
        }
    }

    pub(super) fn subscript(&mut self) -> Res<Trailer> {
        let mut parts: [Option<Node>; 3] = [None, None, None];
        if self.is("]") {
            return self.fail("there is nothing between the brackets");
        }
        if !self.is(":") {
            let node = self.expression_list()?;
            if self.eat("]") {
                return Ok(Trailer::Index(node));
            }
            parts[0] = Some(node);
        }
        for part in &mut parts[1..] {
            if self.is("]") {
                break;
            }
            self.expect(":")?;
            if !matches!(self.tok(), Tok::Op("]" | ":")) {
                *part = Some(self.expression()?);
            }
        }
        self.expect("]")?;
        Ok(Trailer::Slice(Box::new(parts)))
    }

    pub(super) fn atom(&mut self) -> Res<Node> {
        let at = self.offset();
        match self.tok().clone() {
            Tok::Int(n) => self.leaf(at, Kind::Int(n)),
            Tok::Float(x) => self.leaf(at, Kind::Float(x)),
            Tok::Op("...") => self.leaf(at, Kind::Ellipsis),
            Tok::Str(mut text) => {
                self.bump();
                while let Tok::Str(more) = self.tok() {
                    text.push_str(more);
                    self.bump();
                }
                Node::new(at, Kind::Str(text))
            }
            Tok::Word(word) => match word.as_str() {
                "None" => self.leaf(at, Kind::None),
                "True" => self.leaf(at, Kind::Bool(true)),
                "False" => self.leaf(at, Kind::Bool(false)),
                "lambda" | "await" | "yield" => self.forbid(format!("{word} is not part of flows")),
                word if KEYWORDS.contains(&word) => self.fail(format!("`{word}` is not expected here")),
                word if word.starts_with("__") => self.forbid(format!("`{word}`: such names are not part of flows")),
                _ => self.leaf(at, Kind::Name(word)),
            },
            Tok::Op("(") => {
                self.bump();
                self.parenthesis(at)
            }
            Tok::Op("[") => {
                self.bump();
                self.list(at)
            }
            Tok::Op("{") => {
                self.bump();
                self.braces(at)
            }
            _ => self.missing("a value is missing"),
        }
    }

    fn leaf(&mut self, at: usize, kind: Kind) -> Res<Node> {
        self.bump();
        Node::new(at, kind)
    }

    fn parenthesis(&mut self, at: usize) -> Res<Node> {
        if self.eat(")") {
            return Node::new(at, Kind::Display(Shape::Tuple, Vec::new()));
        }
        let node = self.expression_list()?;
        if self.is_comprehension() {
            let node = self.comprehension(at, Yields::Gen(node))?;
            self.expect(")")?;
            return Ok(node);
        }
        self.expect(")")?;
        Ok(node)
    }

    fn list(&mut self, at: usize) -> Res<Node> {
        let mut items = Vec::new();
        while !self.is("]") {
            let item = self.item()?;
            if items.is_empty() && !item.star && self.is_comprehension() {
                let node = self.comprehension(at, Yields::List(item.node))?;
                self.expect("]")?;
                return Ok(node);
            }
            items.push(item);
            if !self.eat(",") {
                break;
            }
        }
        self.expect("]")?;
        Node::new(at, Kind::Display(Shape::List, items))
    }

    /// A dict or a set.
    fn braces(&mut self, at: usize) -> Res<Node> {
        let (mut entries, mut items) = (Vec::new(), Vec::new());
        while !self.is("}") {
            if self.eat("**") {
                entries.push(Entry::Spread(self.binary()?));
            } else {
                let item = self.item()?;
                if !item.star && self.eat(":") {
                    let value = self.expression()?;
                    if entries.is_empty() && items.is_empty() && self.is_comprehension() {
                        let node = self.comprehension(at, Yields::Dict(item.node, value))?;
                        self.expect("}")?;
                        return Ok(node);
                    }
                    entries.push(Entry::Pair(item.node, value));
                } else if !item.star && entries.is_empty() && items.is_empty() && self.is_comprehension() {
                    let node = self.comprehension(at, Yields::Set(item.node))?;
                    self.expect("}")?;
                    return Ok(node);
                } else {
                    items.push(item);
                }
            }
            if !entries.is_empty() && !items.is_empty() {
                return self.fail("braces hold either `key: value` pairs or values, not both");
            }
            if !self.eat(",") {
                break;
            }
        }
        self.expect("}")?;
        Node::new(at, if items.is_empty() { Kind::Dict(entries) } else { Kind::Display(Shape::Set, items) })
    }

    fn is_comprehension(&self) -> bool {
        self.is_word("for") || (self.is_word("async") && matches!(self.ahead(1), Tok::Word(word) if word == "for"))
    }

    fn comprehension(&mut self, at: usize, yields: Yields) -> Res<Node> {
        let mut clauses = Vec::new();
        while self.is_comprehension() {
            if self.is_word("async") {
                return self.forbid("async is not part of flows");
            }
            if clauses.len() == MAX_CLAUSES {
                return Err(
                    self.error(ErrorKind::TooLarge, format!("a comprehension with more than {MAX_CLAUSES} `for`"))
                );
            }
            self.bump();
            let target = self.targets()?;
            if !self.eat_word("in") {
                return self.missing("`in` is missing");
            }
            let iter = self.or()?;
            let mut conditions = Vec::new();
            while self.eat_word("if") {
                conditions.push(self.or()?);
            }
            clauses.push(Clause { target, iter, conditions });
        }
        Node::new(at, Kind::Comp(Box::new(Comp { yields, clauses })))
    }

    /// `a` or `a, b`.
    fn targets(&mut self) -> Res<Target> {
        self.deeper(|p| {
            let first = p.target()?;
            if !p.is(",") {
                return Ok(first);
            }
            let mut parts = vec![first];
            while p.eat(",") {
                if p.is_word("in") || p.is(")") || p.is("]") {
                    break;
                }
                parts.push(p.target()?);
            }
            Ok(Target::Tuple(parts))
        })
    }

    fn target(&mut self) -> Res<Target> {
        match self.tok().clone() {
            Tok::Word(word) if word.starts_with("__") => {
                self.forbid(format!("`{word}`: such names are not part of flows"))
            }
            Tok::Word(word) if !KEYWORDS.contains(&word.as_str()) => {
                self.bump();
                Ok(Target::Name(word))
            }
            Tok::Op(open @ ("(" | "[")) => {
                self.bump();
                let inner = self.targets()?;
                self.expect(if open == "(" { ")" } else { "]" })?;
                // `(a)` is `a`, `[a]` unpacks.
                Ok(if open == "[" && matches!(inner, Target::Name(_)) { Target::Tuple(vec![inner]) } else { inner })
            }
            _ => self.missing("`for` needs a name"),
        }
    }
}
