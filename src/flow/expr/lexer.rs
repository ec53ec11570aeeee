//! Text → tokens, with the character offset of each.

use super::error::{ErrorKind, Fail, Res, forbidden, too_large};
use super::meter::MAX_TEXT;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tok {
    Int(i128),
    Float(f64),
    Str(String),
    /// A name or keyword.
    Word(String),
    Op(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) tok: Tok,
    pub(super) at: usize,
}

/// Longest first, so that the first that fits is the one.
const OPERATORS: &[&str] = &[
    "...", "**", "//", "<<", ">>", "<=", ">=", "==", "!=", ":=", "->", "(", ")", "[", "]", "{", "}", ",", ":", ".",
    "+", "-", "*", "/", "%", "@", "&", "|", "^", "~", "<", ">", "=", ";",
];

/// What may stand directly behind a number (`1if x else 2`).
const BEHIND_NUMBER: &[&str] = &["and", "else", "for", "if", "in", "is", "not", "or"];

struct Lexer {
    chars: Vec<char>,
    at: usize,
    /// Open brackets: a line may end inside them.
    open: usize,
    tokens: Vec<Token>,
}

fn syntax<T>(at: usize, message: impl Into<String>) -> Res<T> {
    Err(Fail::new(ErrorKind::Syntax, message).at(at))
}

pub(super) fn lex(text: &str) -> Res<Vec<Token>> {
    // Bytes are counted first: they are there without a walk, and no character takes more than four.
    if text.len() > 4 * MAX_TEXT || text.chars().count() > MAX_TEXT {
        return too_large(format!("an expression of more than {MAX_TEXT} characters"));
    }
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, open: 0, tokens: Vec::new() };
    while lexer.blank()? {
        lexer.token()?;
    }
    let at = lexer.at;
    lexer.tokens.push(Token { tok: Tok::End, at });
    Ok(lexer.tokens)
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn push(&mut self, tok: Tok, at: usize) {
        self.tokens.push(Token { tok, at });
    }

    /// Skips what means nothing; whether something is left.
    fn blank(&mut self) -> Res<bool> {
        let mut line_ended = None;
        while let Some(c) = self.peek(0) {
            match c {
                ' ' | '\t' | '\x0c' => self.at += 1,
                '\n' | '\r' => {
                    if self.open == 0 && !self.tokens.is_empty() {
                        line_ended.get_or_insert(self.at);
                    }
                    self.at += 1;
                }
                '\\' if matches!(self.peek(1), Some('\n' | '\r')) => self.at += 2,
                '#' => {
                    while self.peek(0).is_some_and(|c| c != '\n' && c != '\r') {
                        self.at += 1;
                    }
                }
                _ => {
                    return match line_ended {
                        Some(at) => {
                            syntax(at, "the expression goes on after the end of its line; put it in parentheses")
                        }
                        None => Ok(true),
                    };
                }
            }
        }
        Ok(false)
    }

    fn token(&mut self) -> Res<()> {
        let at = self.at;
        let Some(c) = self.peek(0) else { return Ok(()) };
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            let tok = self.number()?;
            self.push(tok, at);
            return Ok(());
        }
        if c == '\'' || c == '"' {
            return self.string("", at);
        }
        if is_name_start(c) {
            let word = self.word();
            return match self.peek(0) {
                Some('\'' | '"') if word.len() <= 2 => self.string(&word, at),
                _ => {
                    self.push(Tok::Word(word), at);
                    Ok(())
                }
            };
        }
        for op in OPERATORS {
            if op.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c)) {
                self.at += op.len();
                match *op {
                    "(" | "[" | "{" => self.open += 1,
                    ")" | "]" | "}" => self.open = self.open.saturating_sub(1),
                    _ => {}
                }
                self.push(Tok::Op(op), at);
                return Ok(());
            }
        }
        let hint = match c {
            '!' => "; \"not\" is written `not`, \"is not\" `!=`",
            '$' => "; names stand as they are, without `$`",
            '\u{2018}'..='\u{201f}' => "; quotes are ' or \"",
            _ => "",
        };
        syntax(at, format!("the character {c:?} means nothing here{hint}"))
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(is_name_part) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Res<Tok> {
        let start = self.at;
        let radix = match (self.peek(0), self.peek(1)) {
            (Some('0'), Some('x' | 'X')) => 16,
            (Some('0'), Some('o' | 'O')) => 8,
            (Some('0'), Some('b' | 'B')) => 2,
            _ => 10,
        };
        let mut float = false;
        if radix == 10 {
            self.digits(10);
            if self.peek(0) == Some('.') {
                float = true;
                self.at += 1;
                self.digits(10);
            }
            if matches!(self.peek(0), Some('e' | 'E')) {
                let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
                if self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                    float = true;
                    self.at += 1 + sign;
                    self.digits(10);
                }
            }
        } else {
            self.at += 2;
            self.digits(radix);
        }
        let written: String = self.chars[start..self.at].iter().collect();
        let behind = self.at;
        if self.peek(0).is_some_and(is_name_start) {
            let word = self.word();
            if word.eq_ignore_ascii_case("j") {
                return Err(Fail::new(ErrorKind::Forbidden, "complex numbers are not part of flows").at(start));
            }
            if !BEHIND_NUMBER.iter().any(|key| word.starts_with(key)) {
                return syntax(start, format!("{written}{word} is not a number"));
            }
            self.at = behind;
        }
        let plain = written.replace('_', "");
        let bad = written.ends_with('_') || written.contains("__") || written.contains("_.") || written.contains("._");
        let tok = if float {
            plain.parse().ok().map(Tok::Float)
        } else if radix == 10 {
            let leading_zero = plain.starts_with('0') && plain.bytes().any(|b| b != b'0');
            match plain.parse::<i128>() {
                Ok(_) if leading_zero => None,
                Ok(n) => Some(Tok::Int(n)),
                Err(_) => {
                    return Err(Fail::new(ErrorKind::TooLarge, format!("the number {plain} is too large")).at(start));
                }
            }
        } else {
            match &plain[2..] {
                "" => None,
                digits => match i128::from_str_radix(digits, radix) {
                    Ok(n) => Some(Tok::Int(n)),
                    Err(_) => {
                        return Err(Fail::new(ErrorKind::TooLarge, format!("the number {plain} is too large")).at(start));
                    }
                },
            }
        };
        match tok {
            Some(tok) if !bad => Ok(tok),
            _ => syntax(start, format!("{written} is not a number")),
        }
    }

    fn digits(&mut self, radix: u32) {
        while self.peek(0).is_some_and(|c| c.is_digit(radix) || c == '_') {
            self.at += 1;
        }
    }

    fn string(&mut self, prefix: &str, at: usize) -> Res<()> {
        let raw = match prefix.to_ascii_lowercase().as_str() {
            "" | "u" => false,
            "r" => true,
            "f" | "rf" | "fr" | "t" | "rt" | "tr" => {
                return forbidden("f-strings are not part of flows; write 'a' + str(b), or '{}'.format(b)")
                    .map_err(|e: Fail| e.at(at));
            }
            "b" | "rb" | "br" => return forbidden("bytes are not part of flows").map_err(|e: Fail| e.at(at)),
            _ => return syntax(at, format!("{prefix:?} is not a prefix of a string")),
        };
        let Some(quote) = self.peek(0) else { return syntax(at, "an unfinished string") };
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if triple { 3 } else { 1 };
        let mut out = String::new();
        loop {
            let Some(c) = self.peek(0) else { return syntax(at, "a string without its closing quote") };
            if c == quote && (!triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote))) {
                self.at += if triple { 3 } else { 1 };
                break;
            }
            if (c == '\n' || c == '\r') && !triple {
                return syntax(at, "a string without its closing quote");
            }
            self.at += 1;
            match c {
                '\\' if raw => {
                    out.push('\\');
                    if let Some(next) = self.peek(0) {
                        if !triple && (next == '\n' || next == '\r') {
                            return syntax(at, "a string without its closing quote");
                        }
                        out.push(next);
                        self.at += 1;
                    }
                }
                '\\' => self.escape(&mut out)?,
                c => out.push(c),
            }
        }
        self.push(Tok::Str(out), at);
        Ok(())
    }

    /// What follows a backslash.
    fn escape(&mut self, out: &mut String) -> Res<()> {
        let at = self.at - 1;
        let Some(c) = self.peek(0) else { return syntax(at, "a string without its closing quote") };
        self.at += 1;
        let digits = match c {
            '\n' => return Ok(()),
            '\\' | '\'' | '"' => {
                out.push(c);
                return Ok(());
            }
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '0'..='7' => {
                self.at -= 1;
                self.code(8, 1, 3)
            }
            'x' => self.code(16, 2, 2),
            'u' => self.code(16, 4, 4),
            'U' => self.code(16, 8, 8),
            'N' => return syntax(at, "\\N{…} is not part of flows; write the character itself"),
            other => {
                // Python keeps the backslash of an escape that it does not know, and patterns rely on it.
                out.push('\\');
                out.push(other);
                return Ok(());
            }
        };
        match digits {
            Some(c) => {
                out.push(c);
                Ok(())
            }
            None => syntax(at, "this escape is not a character"),
        }
    }

    /// A character by its number, in at least and at most so many digits.
    fn code(&mut self, radix: u32, least: usize, most: usize) -> Option<char> {
        let mut code = 0u32;
        let mut count = 0;
        while let Some(digit) = self.peek(0).and_then(|c| c.to_digit(radix)).filter(|_| count < most) {
            code = code.checked_mul(radix)?.checked_add(digit)?;
            count += 1;
            self.at += 1;
        }
        if count < least { None } else { char::from_u32(code) }
    }
}

fn is_name_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_name_part(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
