//! Methods: which there are, and those of lists, tuples, dicts, sets, and numbers.

use super::ast::Op;
use super::builtins::{Args, given, integer};
use super::compare::{as_set, equal, identical, subset};
use super::error::{Res, type_error, value_error};
use super::eval::Eval;
use super::index;
use super::ops;
use super::strings;
use super::value::{Dict, Table, V, View};

const DICT: &[&str] = &["copy", "get", "items", "keys", "values"];
const LIST: &[&str] = &["copy", "count", "index"];
const TUPLE: &[&str] = &["count", "index"];
const SET: &[&str] =
    &["copy", "difference", "intersection", "isdisjoint", "issubset", "issuperset", "symmetric_difference", "union"];
const FLOAT: &[&str] = &["is_integer"];
const INT: &[&str] = &["bit_count", "bit_length", "is_integer"];

const DICT_CHANGES: &[&str] = &["clear", "fromkeys", "pop", "popitem", "setdefault", "update"];
const LIST_CHANGES: &[&str] = &["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const SET_CHANGES: &[&str] = &[
    "add",
    "clear",
    "difference_update",
    "discard",
    "intersection_update",
    "pop",
    "remove",
    "symmetric_difference_update",
    "update",
];

/// The methods of a type, by its name.
fn of(type_name: &str) -> &'static [&'static str] {
    match type_name {
        "str" => strings::METHODS,
        "dict" => DICT,
        "list" => LIST,
        "tuple" | "range" => TUPLE,
        "set" => SET,
        "float" => FLOAT,
        "int" | "bool" => INT,
        _ => &[],
    }
}

/// Whether a value has a method.
pub(super) fn has(value: &V<'_>, name: &str) -> bool {
    of(value.type_name()).contains(&name)
}

/// Whether the type of this name has a method.
pub(super) fn of_type(type_name: &str, name: &str) -> bool {
    of(type_name).contains(&name)
}

/// Whether Python has such a method, and it changes the value.
pub(super) fn changes(value: &V<'_>, name: &str) -> bool {
    let names = match value {
        V::Dict(_) => DICT_CHANGES,
        V::List(_) => LIST_CHANGES,
        V::Set(_) => SET_CHANGES,
        _ => return false,
    };
    names.contains(&name)
}

impl<'a> Eval<'a> {
    /// Calls `value.name(…)`, where `has` said that there is such a method.
    pub(super) fn method(&self, value: &V<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
        match value {
            V::Str(text) => strings::call(self, text, name, args),
            V::Dict(dict) => self.dict_method(value, dict, name, args),
            V::Set(_) => self.set_method(value, name, args),
            V::List(_) | V::Tuple(_) | V::Range(_) => self.list_method(value, name, args),
            _ => number_method(value, name, args),
        }
    }

    /// Calls `str.strip(text)`.
    pub(super) fn unbound(&self, owner: &str, name: &str, mut args: Args<'a>) -> Res<V<'a>> {
        if args.plain.is_empty() {
            return type_error(format!("{owner}.{name} needs a {owner}"));
        }
        let value = args.plain.remove(0);
        if value.type_name() != owner && !(owner == "int" && matches!(value, V::Bool(_))) {
            return type_error(format!("{owner}.{name} needs a {owner}, not a {}", value.type_name()));
        }
        self.method(&value, name, args)
    }

    fn dict_method(&self, value: &V<'a>, dict: &Dict<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
        let view = match name {
            "get" => {
                let [key, default] = args.places("get", 1, ["", ""])?;
                let found = dict.get(&key.unwrap_or(V::None), &self.meter)?;
                return Ok(found.or(default).unwrap_or(V::None));
            }
            "copy" => {
                let [] = args.places("copy", 0, [])?;
                let mut table = Table::default();
                for (key, value) in dict.entries() {
                    table.put(key, value, &self.meter)?;
                }
                // A copy of what was given still answers to attributes.
                return Ok(if matches!(dict, Dict::Lent(_)) { value.clone() } else { V::dict(table) });
            }
            "keys" => View::Keys,
            "values" => View::Values,
            _ => View::Items,
        };
        let [] = args.places(name, 0, [])?;
        Ok(V::View(view, dict.clone()))
    }

    fn list_method(&self, value: &V<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
        if name == "copy" {
            let [] = args.places(name, 0, [])?;
            return Ok(V::list(self.items(value)?));
        }
        let [wanted, start, stop] = args.places(name, 1, ["", "", ""])?;
        let wanted = wanted.unwrap_or(V::None);
        if name == "count" {
            if start.is_some() {
                return type_error("count takes one argument");
            }
            let mut count = 0;
            self.each(value, &mut |item| {
                count += i128::from(identical(&item, &wanted) || equal(&item, &wanted, &self.meter)?);
                Ok(true)
            })?;
            return Ok(V::Int(count));
        }
        let len = self.len_of(value);
        let clip = |bound: Option<V<'a>>, other: i128| -> Res<i128> {
            let Some(bound) = bound else { return Ok(other) };
            let at = integer("index", &bound)?;
            Ok(if at < 0 { at.saturating_add(len).max(0) } else { at })
        };
        let (start, stop) = (clip(start, 0)?, clip(stop, len)?);
        let (mut at, mut found) = (0, None);
        self.each(value, &mut |item| {
            if (start..stop).contains(&at) && (identical(&item, &wanted) || equal(&item, &wanted, &self.meter)?) {
                found = Some(at);
            }
            at += 1;
            Ok(found.is_none())
        })?;
        found.map_or_else(
            || value_error(format!("index: the {} has no such element", value.type_name())),
            |at| Ok(V::Int(at)),
        )
    }

    fn len_of(&self, value: &V<'a>) -> i128 {
        match value {
            V::List(items) | V::Tuple(items) => items.len() as i128,
            V::Range(span) => span.len,
            _ => 0,
        }
    }

    fn set_method(&self, value: &V<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
        if !args.named.is_empty() {
            return type_error(format!("{name} has no named arguments"));
        }
        let op = match name {
            "copy" => {
                let [] = args.places(name, 0, [])?;
                return Ok(value.clone());
            }
            "union" => Op::Or,
            "intersection" => Op::And,
            "difference" => Op::Sub,
            "symmetric_difference" => {
                let [other] = args.places(name, 1, [""])?;
                let other = Table::set(self.items(&other.unwrap_or(V::None))?, &self.meter)?;
                return ops::sets(Op::Xor, value, &other, &self.meter);
            }
            _ => {
                let [other] = args.places(name, 1, [""])?;
                let other = Table::set(self.items(&other.unwrap_or(V::None))?, &self.meter)?;
                let (Some(a), Some(b)) = (as_set(value, &self.meter)?, as_set(&other, &self.meter)?) else {
                    return type_error(format!("{name} needs sets"));
                };
                return Ok(V::Bool(match name {
                    "issubset" => subset(&a, &b, &self.meter)?,
                    "issuperset" => subset(&b, &a, &self.meter)?,
                    _ => !ops::sets(Op::And, value, &other, &self.meter)?.truthy(),
                }));
            }
        };
        let mut result = value.clone();
        for other in &args.plain {
            let other = Table::set(self.items(other)?, &self.meter)?;
            result = ops::sets(op, &result, &other, &self.meter)?;
        }
        Ok(result)
    }
}

fn number_method<'a>(value: &V<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
    let [] = args.places(name, 0, [])?;
    let int = match value {
        V::Float(x) => return Ok(V::Bool(x.fract() == 0.0)),
        V::Int(n) => *n,
        V::Bool(b) => i128::from(*b),
        _ => return type_error(format!("a {} has no `{name}`", value.type_name())),
    };
    let size = int.unsigned_abs();
    Ok(match name {
        "bit_length" => V::Int(i128::from(128 - size.leading_zeros())),
        "bit_count" => V::Int(i128::from(size.count_ones())),
        _ => V::Bool(true),
    })
}

/// Where in a text of `len` characters `start` and `stop` are, as Python clips them.
pub(super) fn clipped(start: Option<V<'_>>, stop: Option<V<'_>>, len: usize) -> Res<Option<(usize, usize)>> {
    let clip = |bound: Option<V<'_>>, other: usize| -> Res<usize> {
        let Some(bound) = given(bound) else { return Ok(other) };
        let at = integer("a bound", &bound)?;
        let at = if at < 0 { at.saturating_add(len as i128).max(0) } else { at };
        Ok(usize::try_from(at).unwrap_or(usize::MAX))
    };
    let (start, stop) = (clip(start, 0)?, clip(stop, len)?.min(len));
    Ok((start <= stop).then_some((start, stop)))
}

/// A part of a text by characters.
pub(super) use index::chars;
