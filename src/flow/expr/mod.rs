//! The expressions of flows: conditions, exit rules, and derived outputs.
//!
//! Python's expression syntax over JSON values, because that is what authors have written: [`parse`] reads a text, [`Expr::eval`]
//! gives its value for some names, [`truthy`] says whether a value counts as true. What is here means what it means in CPython,
//! with these choices where a choice was needed:
//!
//! - `true`, `false`, and `null` are names for `True`, `False`, and `None`. A given name hides a function of the same name.
//! - A mapping *that was given* answers to `outputs.x` as to `outputs['x']`, at any depth; a name of one of `dict`'s methods is the
//!   method (`outputs.items`; the field is `outputs['items']`). A mapping that an expression makes answers to its methods only, as in
//!   Python. After a dot a keyword is a name: `outputs.pass`.
//! - Nothing is changed by an expression: `append`, `pop`, `update`, … are refused.
//! - A set has an order: by value if it holds only integers or only strings, else that of insertion.
//! - Integers have 128 bits; a result has to fit JSON: 64 bits, no infinity, no `nan`.
//! - `sum` adds from left to right, as CPython did before 3.12, and as the answers in `tests/corpus/conditions.jsonl` have it. Since
//!   then CPython makes up for what rounding loses, so a sum of floats may differ from it in the last digit.
//! - `regex_extract(pattern, text, default=None)` is the first group of the first match, or the match if there is no group. The
//!   patterns are those of the `regex` crate, which takes linear time: no look-around, no references to groups.
//! - `is` is meant for `None` and the booleans. Elsewhere it guesses at CPython's objects: two equal literals are not one.
//! - A function, method, range, or generator has no text and can not be a key, where Python has an address.
//!
//! No lambda, f-string, assignment, `await`, bytes, or complex number, and no attribute that begins with `_` (a field with such a
//! name is `outputs.get('_error')`).
//!
//! **Bounds.** Whatever the text and the values, there is an answer soon, and never a panic or an overflow of the stack:
//!
//! | what | at most |
//! | --- | --- |
//! | the text | [`MAX_TEXT`] characters |
//! | nesting, of the text and of the parsed expression | [`MAX_DEPTH`] levels |
//! | nesting of a value that is compared, printed, or returned | [`MAX_VALUE_DEPTH`] levels |
//! | steps: one for each operation and each element, more for long texts | [`MAX_STEPS`] |
//! | elements of one list, tuple, set, or dict that is made | [`MAX_ITEMS`] |
//! | bytes of one text that is made, or searched by a regex | [`MAX_BYTES`] |
//! | bytes of text in the result | [`MAX_RESULT_BYTES`] |
//! | a pattern; compiled | [`MAX_PATTERN`] characters; [`MAX_REGEX_BYTES`] |
//!
//! What is past a bound is an error of kind [`ErrorKind::TooLarge`]. The values that are given are not copied, and count only where
//! they are used.

mod ast;
mod builtins;
mod compare;
mod construct;
mod error;
mod eval;
mod format;
mod index;
mod lexer;
mod meter;
mod methods;
mod names;
mod number;
mod ops;
mod parser;
mod regexes;
mod strings;
mod text;
mod value;

pub use error::{ErrorKind, ExprError};
pub use meter::{
    MAX_BYTES, MAX_DEPTH, MAX_ITEMS, MAX_PATTERN, MAX_REGEX_BYTES, MAX_RESULT_BYTES, MAX_STEPS, MAX_TEXT,
    MAX_VALUE_DEPTH,
};
pub use names::NameUse;

use serde_json::{Map, Value};

/// An expression that parsed.
#[derive(Debug, Clone)]
pub struct Expr {
    root: ast::Node,
    names: Vec<NameUse>,
}

impl Expr {
    /// Its value, where `names` has the values of the names.
    pub fn eval(&self, names: &Map<String, Value>) -> Result<Value, ExprError> {
        eval::run(&self.root, names).map_err(|fail| fail.into_error(self.root.at))
    }

    /// The names that it takes from outside, each use, in the order of the text: not the functions and constants of the language,
    /// and not what a comprehension binds.
    pub fn names(&self) -> &[NameUse] {
        &self.names
    }
}

/// Reads an expression.
pub fn parse(text: &str) -> Result<Expr, ExprError> {
    let root = parser::parse(text).map_err(|fail| fail.into_error(0))?;
    let names = names::free(&root);
    Ok(Expr { root, names })
}

/// Reads an expression, and gives its value.
pub fn eval(text: &str, names: &Map<String, Value>) -> Result<Value, ExprError> {
    parse(text)?.eval(names)
}

/// Whether a value counts as true, as in Python: `null`, `false`, zero, and what is empty do not.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
