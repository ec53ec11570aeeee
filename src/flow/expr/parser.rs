//! Tokens → expression: recursive descent, as deep as [`MAX_DEPTH`] at most.

use super::ast::{Arg, Clause, Cmp, Comp, Entry, Item, Kind, Node, Op, Shape, Sign, Target, Trailer, Yields};
use super::error::{ErrorKind, Fail, Res};
use super::lexer::{Tok, Token, lex};
use super::meter::MAX_DEPTH;

/// Python's keywords: none of them can be a name, but after a dot.
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// The most arguments, clauses of a comprehension, …: what no author needs more of.
const MAX_CLAUSES: usize = 16;

pub(super) fn parse(text: &str) -> Res<Node> {
    let mut parser = Parser { tokens: lex(text)?, at: 0, depth: 0 };
    if *parser.tok() == Tok::End {
        return parser.fail("there is no expression");
    }
    let node = parser.expression_list()?;
    match parser.tok() {
        Tok::End => Ok(node),
        Tok::Op("=") => parser.fail("an expression assigns nothing; to compare, write `==`"),
        _ => parser.fail(format!("{} is not expected here", parser.seen())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn tok(&self) -> &Tok {
        // The last token is `End`, and nothing steps over it.
        self.tokens.get(self.at).map_or(&Tok::End, |token| &token.tok)
    }

    fn ahead(&self, n: usize) -> &Tok {
        self.tokens.get(self.at + n).map_or(&Tok::End, |token| &token.tok)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.at)
    }

    fn bump(&mut self) {
        if *self.tok() != Tok::End {
            self.at += 1;
        }
    }

    fn seen(&self) -> String {
        match self.tok() {
            Tok::Int(n) => format!("{n}"),
            Tok::Float(x) => format!("{x}"),
            Tok::Str(_) => "a string".into(),
            Tok::Word(word) => format!("`{word}`"),
            Tok::Op(op) => format!("`{op}`"),
            Tok::End => "the end".into(),
        }
    }

    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Fail {
        Fail::new(kind, message).at(self.offset())
    }

    fn fail<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(self.error(ErrorKind::Syntax, message))
    }

    fn forbid<T>(&self, message: impl Into<String>) -> Res<T> {
        Err(self.error(ErrorKind::Forbidden, message))
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.tok(), Tok::Op(seen) if *seen == op)
    }

    fn eat(&mut self, op: &str) -> bool {
        let there = self.is(op);
        if there {
            self.bump();
        }
        there
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.tok(), Tok::Word(seen) if seen == word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let there = self.is_word(word);
        if there {
            self.bump();
        }
        there
    }

    fn expect(&mut self, op: &str) -> Res<()> {
        if self.eat(op) {
            Ok(())
        } else {
            self.fail(format!("{} is not expected here; `{op}` is missing", self.seen()))
        }
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Parser) -> Res<T>) -> Res<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(ErrorKind::TooLarge, format!("an expression with more than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// `a` or `a, b` (a tuple).
    fn expression_list(&mut self) -> Res<Node> {
        let at = self.offset();
        let first = self.item()?;
        if !self.is(",") {
            return if first.star {
                self.fail("`*` is only for lists of values and arguments")
            } else {
                Ok(first.node)
            };
        }
        let mut items = vec![first];
        while self.eat(",") {
            if matches!(self.tok(), Tok::End | Tok::Op(")" | "]")) {
                break;
            }
            items.push(self.item()?);
        }
        Node::new(at, Kind::Display(Shape::Tuple, items))
    }

    fn item(&mut self) -> Res<Item> {
        if self.eat("*") {
            return Ok(Item { star: true, node: self.binary(0)? });
        }
        Ok(Item { star: false, node: self.expression()? })
    }

    fn expression(&mut self) -> Res<Node> {
        self.deeper(|p| {
            let at = p.offset();
            if p.is_word("lambda") {
                return p.forbid("lambda is not part of flows");
            }
            let mut last = p.or()?;
            let mut arms = Vec::new();
            while p.eat_word("if") {
                let condition = p.or()?;
                if !p.eat_word("else") {
                    return p.fail(format!("{} is not expected here; `… if …` needs its `else …`", p.seen()));
                }
                if p.is_word("lambda") {
                    return p.forbid("lambda is not part of flows");
                }
                arms.push((last, condition));
                last = p.or()?;
            }
            if p.is(":=") {
                return p.forbid("an expression assigns nothing");
            }
            if arms.is_empty() { Ok(last) } else { Node::new(at, Kind::If(arms, Box::new(last))) }
        })
    }

    fn or(&mut self) -> Res<Node> {
        let at = self.offset();
        let first = self.and()?;
        if !self.is_word("or") {
            return Ok(first);
        }
        let mut nodes = vec![first];
        while self.eat_word("or") {
            nodes.push(self.and()?);
        }
        Node::new(at, Kind::Or(nodes))
    }

    fn and(&mut self) -> Res<Node> {
        let at = self.offset();
        let first = self.not()?;
        if !self.is_word("and") {
            return Ok(first);
        }
        let mut nodes = vec![first];
        while self.eat_word("and") {
            nodes.push(self.not()?);
        }
        Node::new(at, Kind::And(nodes))
    }

    fn not(&mut self) -> Res<Node> {
        let at = self.offset();
        let mut count = 0usize;
        while self.eat_word("not") {
            count += 1;
        }
        let node = self.comparison()?;
        if count == 0 { Ok(node) } else { Node::new(at, Kind::Not(count % 2 == 1, Box::new(node))) }
    }

    fn comparison_operator(&mut self) -> Option<Cmp> {
        let cmp = match self.tok() {
            Tok::Op("==") => Cmp::Eq,
            Tok::Op("!=") => Cmp::Ne,
            Tok::Op("<") => Cmp::Lt,
            Tok::Op("<=") => Cmp::Le,
            Tok::Op(">") => Cmp::Gt,
            Tok::Op(">=") => Cmp::Ge,
            Tok::Word(word) if word == "in" => Cmp::In,
            Tok::Word(word) if word == "is" => Cmp::Is,
            Tok::Word(word) if word == "not" && matches!(self.ahead(1), Tok::Word(word) if word == "in") => {
                self.bump();
                Cmp::NotIn
            }
            _ => return None,
        };
        self.bump();
        Some(if cmp == Cmp::Is && self.eat_word("not") { Cmp::IsNot } else { cmp })
    }

    fn comparison(&mut self) -> Res<Node> {
        let at = self.offset();
        let first = self.binary(0)?;
        let mut rest = Vec::new();
        loop {
            let here = self.offset();
            match self.comparison_operator() {
                Some(cmp) => rest.push((cmp, here, self.binary(0)?)),
                None if rest.is_empty() => return Ok(first),
                None => return Node::new(at, Kind::Compare(Box::new(first), rest)),
            }
        }
    }

    fn binary_operator(&self) -> Res<Option<(Op, u8)>> {
        Ok(Some(match self.tok() {
            Tok::Op("|") => (Op::Or, 0),
            Tok::Op("^") => (Op::Xor, 1),
            Tok::Op("&") => (Op::And, 2),
            Tok::Op("<<") => (Op::Left, 3),
            Tok::Op(">>") => (Op::Right, 3),
            Tok::Op("+") => (Op::Add, 4),
            Tok::Op("-") => (Op::Sub, 4),
            Tok::Op("*") => (Op::Mul, 5),
            Tok::Op("/") => (Op::Div, 5),
            Tok::Op("//") => (Op::FloorDiv, 5),
            Tok::Op("%") => (Op::Mod, 5),
            Tok::Op("@") => return self.forbid("`@` is not part of flows"),
            _ => return Ok(None),
        }))
    }

    /// Operators of rank `least` and above.
    fn binary(&mut self, least: u8) -> Res<Node> {
        let at = self.offset();
        let mut left = self.unary()?;
        while let Some((_, rank)) = self.binary_operator()?.filter(|(_, rank)| *rank >= least) {
            let mut rest = Vec::new();
            while let Some((op, _)) = self.binary_operator()?.filter(|(_, r)| *r == rank) {
                let here = self.offset();
                self.bump();
                rest.push((op, here, self.binary(rank + 1)?));
            }
            left = Node::new(at, Kind::Chain(Box::new(left), rest))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Res<Node> {
        let at = self.offset();
        let mut signs = Vec::new();
        loop {
            signs.push(match self.tok() {
                Tok::Op("-") => Sign::Minus,
                Tok::Op("+") => Sign::Plus,
                Tok::Op("~") => Sign::Invert,
                _ => break,
            });
            self.bump();
        }
        let node = self.power()?;
        if signs.is_empty() { Ok(node) } else { Node::new(at, Kind::Unary(signs, Box::new(node))) }
    }

    fn power(&mut self) -> Res<Node> {
        let base = self.postfix()?;
        let at = self.offset();
        if !self.eat("**") {
            return Ok(base);
        }
        let exponent = self.deeper(Parser::unary)?;
        Node::new(at, Kind::Power(Box::new(base), Box::new(exponent)))
    }

    fn postfix(&mut self) -> Res<Node> {
        let at = self.offset();
        let base = self.atom()?;
        let mut trailers = Vec::new();
        loop {
            let here = self.offset();
            if self.eat(".") {
                let here = self.offset();
                let Tok::Word(name) = self.tok() else {
                    return self.fail(format!("{} is not expected here; a name is missing after the dot", self.seen()));
                };
                let name = name.clone();
                if name.starts_with('_') {
                    return self.forbid(format!(
                        "`.{name}`: names that begin with `_` are not reached by a dot; a field is reached with .get({name:?})"
                    ));
                }
                self.bump();
                trailers.push((here, Trailer::Attr(name)));
            } else if self.eat("(") {
                trailers.push((here, Trailer::Call(self.arguments()?)));
            } else if self.eat("[") {
                trailers.push((here, self.subscript()?));
            } else if trailers.is_empty() {
                return Ok(base);
            } else {
                return Node::new(at, Kind::Postfix(Box::new(base), trailers));
            }
        }
    }

    fn arguments(&mut self) -> Res<Vec<Arg>> {
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

    fn subscript(&mut self) -> Res<Trailer> {
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

    fn atom(&mut self) -> Res<Node> {
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
                self.deeper(|p| p.parenthesis(at))
            }
            Tok::Op("[") => {
                self.bump();
                self.deeper(|p| p.list(at))
            }
            Tok::Op("{") => {
                self.bump();
                self.deeper(|p| p.braces(at))
            }
            _ => self.fail(format!("{} is not expected here; a value is missing", self.seen())),
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
                entries.push(Entry::Spread(self.binary(0)?));
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
                return self.fail(format!("{} is not expected here; `in` is missing", self.seen()));
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
            _ => self.fail(format!("{} is not expected here; `for` needs a name", self.seen())),
        }
    }
}
