//! Tokens → expression: recursive descent, as deep as [`MAX_DEPTH`] at most.

mod brackets;

use super::ast::{Cmp, Item, Kind, Node, Op, Shape, Sign, Trailer};
use super::error::{ErrorKind, Fail, Res};
use super::lexer::{Tok, Token, lex};
use super::meter::MAX_DEPTH;

/// Python's keywords: none of them can be a name, but after a dot.
const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

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
        let at = self.offset();
        if self.is_word("lambda") {
            return self.forbid("lambda is not part of flows");
        }
        let mut last = self.or()?;
        let mut arms = Vec::new();
        while self.eat_word("if") {
            let condition = self.or()?;
            if !self.eat_word("else") {
                return self.fail(format!("{} is not expected here; `… if …` needs its `else …`", self.seen()));
            }
            if self.is_word("lambda") {
                return self.forbid("lambda is not part of flows");
            }
            arms.push((last, condition));
            last = self.or()?;
        }
        if self.is(":=") {
            return self.forbid("an expression assigns nothing");
        }
        if arms.is_empty() { Ok(last) } else { Node::new(at, Kind::If(arms, Box::new(last))) }
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
        // Whatever nests passes here once a level: brackets, exponents, comprehensions.
        let node = self.deeper(Parser::power)?;
        if signs.is_empty() { Ok(node) } else { Node::new(at, Kind::Unary(signs, Box::new(node))) }
    }

    fn power(&mut self) -> Res<Node> {
        let base = self.postfix()?;
        let at = self.offset();
        if !self.eat("**") {
            return Ok(base);
        }
        let exponent = self.unary()?;
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
}
