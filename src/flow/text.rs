//! `$name` in prompts, check commands, and working directories.

use serde_json::{Map, Value};

/// One piece of a text.
enum Piece<'a> {
    Plain(&'a str),
    /// The text as written, and the path of names in it.
    Variable(&'a str, Vec<&'a str>),
    Dollar,
}

fn name_length(text: &str) -> usize {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// `name.field.field` at the beginning of a text: its length. A dot that no name follows is a full stop.
fn path_length(text: &str) -> usize {
    let mut length = name_length(text);
    while length > 0 {
        let Some(rest) = text.get(length..).and_then(|rest| rest.strip_prefix('.')) else { break };
        match name_length(rest) {
            0 => break,
            more => length += 1 + more,
        }
    }
    length
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (plain, from) = rest.split_at(at);
        pieces.push(Piece::Plain(plain));
        let after = from.get(1..).unwrap_or_default();
        if let Some(next) = after.strip_prefix('$') {
            pieces.push(Piece::Dollar);
            rest = next;
            continue;
        }
        let (path, whole) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((inner, _)) if path_length(inner) == inner.len() && !inner.is_empty() => (inner, inner.len() + 3),
            _ => {
                let length = path_length(after);
                (after.get(..length).unwrap_or_default(), length + 1)
            }
        };
        let (written, next) = from.split_at(whole);
        pieces.push(if path.is_empty() {
            Piece::Plain(written)
        } else {
            Piece::Variable(written, path.split('.').collect())
        });
        rest = next;
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// The names that a text refers to.
pub fn variables(text: &str) -> Vec<String> {
    let first = |piece| match piece {
        Piece::Variable(_, path) => path.first().map(|name| (*name).to_owned()),
        Piece::Plain(_) | Piece::Dollar => None,
    };
    pieces(text).into_iter().filter_map(first).collect()
}

/// Replaces `$name`, `${name}`, and `$name.field` by input values: texts as they are, others as JSON, `null` by nothing.
/// `$$` is a dollar sign; an unknown name stays as it is.
pub fn substitute(text: &str, values: &Map<String, Value>) -> String {
    let mut result = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => result.push_str(plain),
            Piece::Dollar => result.push('$'),
            Piece::Variable(written, path) => match lookup(values, &path) {
                Some((value, rest)) => {
                    match value {
                        Value::Null => {}
                        Value::String(text) => result.push_str(text),
                        other => result.push_str(&other.to_string()),
                    }
                    for name in rest {
                        result.push('.');
                        result.push_str(name);
                    }
                }
                None => result.push_str(written),
            },
        }
    }
    result
}

/// The value that a path reaches, and what of the path reaches into nothing: that is text (`$file.txt`).
fn lookup<'v, 'p>(values: &'v Map<String, Value>, path: &'p [&'p str]) -> Option<(&'v Value, &'p [&'p str])> {
    let (first, mut rest) = path.split_first()?;
    let mut value = values.get(*first)?;
    while let Some((name, further)) = rest.split_first()
        && let Some(inner) = value.get(*name)
    {
        (value, rest) = (inner, further);
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_everything_else_stays() {
        let values = serde_json::json!({"a": "x", "n": 2, "none": null, "m": {"f": {"g": [1]}}, "file": "notes"});
        let values = values.as_object().unwrap();
        for (text, expected) in [
            ("$a and ${a}b", "x and xb"),
            ("$n $$a $", "2 $a $"),
            ("[$none]", "[]"),
            ("$m.f.g.", "[1]."),
            ("$file.txt", "notes.txt"),
            ("$other ${other} ${a b} $1", "$other ${other} ${a b} $1"),
            ("costs $5, é$a", "costs $5, éx"),
        ] {
            assert_eq!(substitute(text, values), expected, "{text}");
        }
        assert_eq!(variables("$a ${b.c} $$d $1"), ["a", "b"]);
    }
}
