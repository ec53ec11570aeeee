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

/// The number of ranks of operators.
const RANKS: u8 = 6;

/// An operator with what stands on its right.
struct Operand {
    op: Op,
    rank: u8,
    /// Where the operator is, and where its operand starts.
    here: usize,
    start: usize,
    node: Node,
}

/// Groups operands by rank, the highest first.
fn grouped(at: usize, mut first: Node, mut rest: Vec<Operand>) -> Res<Node> {
    for rank in (0..RANKS).rev() {
        let mut left: Vec<Operand> = Vec::new();
        let mut chain = Vec::new();
        // Ends the chain of this rank, which belongs to the operand before it.
        let close = |left: &mut Vec<Operand>, chain: &mut Vec<(Op, usize, Node)>, first: &mut Node| -> Res<()> {
            if chain.is_empty() {
                return Ok(());
            }
            let (start, target) = match left.last_mut() {
                Some(operand) => (operand.start, &mut operand.node),
                None => (at, first),
            };
            let hollow = Node { at: start, height: 1, kind: Kind::None };
            let head = std::mem::replace(target, hollow);
            *target = Node::new(start, Kind::Chain(Box::new(head), std::mem::take(chain)))?;
            Ok(())
        };
        for operand in rest {
            if operand.rank == rank {
                chain.push((operand.op, operand.here, operand.node));
            } else {
                close(&mut left, &mut chain, &mut first)?;
                left.push(operand);
            }
        }
        close(&mut left, &mut chain, &mut first)?;
        rest = left;
    }
    Ok(first)
}

/// One node as it is, several joined.
fn joined(at: usize, mut nodes: Vec<Node>, kind: fn(Vec<Node>) -> Kind) -> Res<Node> {
    match (nodes.pop(), nodes.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            nodes.extend(last);
            Node::new(at, kind(nodes))
        }
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

    /// A failure for what is not there. Apart, so that the text that it makes takes no room in the frames of those who call it.
    #[cold]
    fn missing<T>(&self, what: &str) -> Res<T> {
        self.fail(format!("{} is not expected here; {what}", self.seen()))
    }

    #[cold]
    fn hidden<T>(&self, name: &str) -> Res<T> {
        self.forbid(format!(
            "`.{name}`: names that begin with `_` are not reached by a dot; a field is reached with .get({name:?})"
        ))
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
        if self.eat(op) { Ok(()) } else { self.missing(&format!("`{op}` is missing")) }
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
            return Ok(Item { star: true, node: self.binary()? });
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
                return self.missing("`… if …` needs its `else …`");
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

    /// `or`, and `and` within it; one function for both, as every frame counts 64 times.
    fn or(&mut self) -> Res<Node> {
        let at = self.offset();
        let mut either = Vec::new();
        loop {
            let here = self.offset();
            let mut all = vec![self.not()?];
            while self.eat_word("and") {
                all.push(self.not()?);
            }
            either.push(joined(here, all, Kind::And)?);
            if !self.eat_word("or") {
                return joined(at, either, Kind::Or);
            }
        }
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
        let first = self.binary()?;
        let mut rest = Vec::new();
        loop {
            let here = self.offset();
            match self.comparison_operator() {
                Some(cmp) => rest.push((cmp, here, self.binary()?)),
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

    /// Operators between operands. They are read flat and grouped afterwards, so that a level of brackets costs one frame, not one a rank.
    fn binary(&mut self) -> Res<Node> {
        let at = self.offset();
        let first = self.unary()?;
        let mut rest = Vec::new();
        while let Some((op, rank)) = self.binary_operator()? {
            let here = self.offset();
            self.bump();
            let start = self.offset();
            rest.push(Operand { op, rank, here, start, node: self.unary()? });
        }
        if rest.is_empty() { Ok(first) } else { grouped(at, first, rest) }
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
                    return self.missing("a name is missing after the dot");
                };
                let name = name.clone();
                if name.starts_with('_') {
                    return self.hidden(&name);
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
