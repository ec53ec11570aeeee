//! Equality, order, membership, and identity.

use super::ast::Cmp;
use super::error::{Res, type_error};
use super::meter::Meter;
use super::number::{self, Num};
use super::value::{Dict, Func, Seq, Table, Text, V, View};
use std::cmp::Ordering;
use std::rc::Rc;

/// The value as a number, if it is one.
pub(super) fn num(value: &V<'_>) -> Option<Num> {
    match value {
        V::Bool(b) => Some(Num::Int(i128::from(*b))),
        V::Int(n) => Some(Num::Int(*n)),
        V::Float(x) => Some(Num::Float(*x)),
        _ => None,
    }
}

pub(super) fn equal<'a>(a: &V<'a>, b: &V<'a>, meter: &Meter) -> Res<bool> {
    equal_at(a, b, meter, 0)
}

fn equal_at<'a>(a: &V<'a>, b: &V<'a>, meter: &Meter, depth: usize) -> Res<bool> {
    meter.depth(depth)?;
    if let (Some(a), Some(b)) = (num(a), num(b)) {
        return Ok(number::compare(a, b) == Some(Ordering::Equal));
    }
    Ok(match (a, b) {
        (V::None, V::None) | (V::Ellipsis, V::Ellipsis) => true,
        (V::Str(a), V::Str(b)) => {
            meter.scan(a)?;
            **a == **b
        }
        (V::List(a), V::List(b)) | (V::Tuple(a), V::Tuple(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal_at(&a, &b, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (V::Dict(a), V::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(&key, meter)? {
                    Some(other) if equal_at(&value, &other, meter, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (V::Range(a), V::Range(b)) => {
            a.len == b.len && (a.len == 0 || (a.start == b.start && (a.len == 1 || a.step == b.step)))
        }
        (V::Func(a), V::Func(b)) => match (&**a, &**b) {
            (Func::Builtin(a), Func::Builtin(b)) => a == b,
            (Func::Unbound(t, a), Func::Unbound(u, b)) => t == u && a == b,
            _ => false,
        },
        _ => match (as_set(a, meter)?, as_set(b, meter)?) {
            (Some(a), Some(b)) => a.entries.len() == b.entries.len() && subset(&a, &b, meter)?,
            _ => false,
        },
    })
}

/// A set, or a view that compares as one.
pub(super) fn as_set<'a>(value: &V<'a>, meter: &Meter) -> Res<Option<Rc<Table<'a>>>> {
    let items: Vec<V<'a>> = match value {
        V::Set(table) => return Ok(Some(table.clone())),
        V::View(View::Keys, dict) => dict.entries().map(|(key, _)| key).collect(),
        V::View(View::Items, dict) => dict.entries().map(|(key, value)| V::tuple(vec![key, value])).collect(),
        _ => return Ok(None),
    };
    match Table::set(items, meter)? {
        V::Set(table) => Ok(Some(table)),
        _ => Ok(None),
    }
}

pub(super) fn subset(a: &Table<'_>, b: &Table<'_>, meter: &Meter) -> Res<bool> {
    for (item, _) in &a.entries {
        if !b.has(&item.key(meter, 0)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `<`, `<=`, `>`, `>=`
pub(super) fn ordered<'a>(cmp: Cmp, a: &V<'a>, b: &V<'a>, meter: &Meter) -> Res<bool> {
    ordered_at(cmp, a, b, meter, 0)
}

fn holds(cmp: Cmp, ordering: Option<Ordering>) -> bool {
    match (cmp, ordering) {
        (_, None) => false,
        (Cmp::Lt, Some(o)) => o.is_lt(),
        (Cmp::Le, Some(o)) => o.is_le(),
        (Cmp::Gt, Some(o)) => o.is_gt(),
        (_, Some(o)) => o.is_ge(),
    }
}

fn ordered_at<'a>(cmp: Cmp, a: &V<'a>, b: &V<'a>, meter: &Meter, depth: usize) -> Res<bool> {
    meter.depth(depth)?;
    if let (Some(a), Some(b)) = (num(a), num(b)) {
        return Ok(holds(cmp, number::compare(a, b)));
    }
    match (a, b) {
        (V::Str(a), V::Str(b)) => {
            meter.scan(a)?;
            return Ok(holds(cmp, Some((**a).cmp(&**b))));
        }
        (V::List(a), V::List(b)) | (V::Tuple(a), V::Tuple(b)) => {
            for (x, y) in a.iter().zip(b.iter()) {
                if !equal_at(&x, &y, meter, depth + 1)? {
                    return ordered_at(cmp, &x, &y, meter, depth + 1);
                }
            }
            return Ok(holds(cmp, Some(a.len().cmp(&b.len()))));
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (as_set(a, meter)?, as_set(b, meter)?) {
        let (small, large, strict) = match cmp {
            Cmp::Lt => (&a, &b, true),
            Cmp::Le => (&a, &b, false),
            Cmp::Gt => (&b, &a, true),
            _ => (&b, &a, false),
        };
        return Ok((!strict || small.entries.len() < large.entries.len()) && subset(small, large, meter)?);
    }
    let sign = match cmp {
        Cmp::Lt => "<",
        Cmp::Le => "<=",
        Cmp::Gt => ">",
        _ => ">=",
    };
    type_error(format!("{} and {} can not be compared with `{sign}`", a.type_name(), b.type_name()))
}

/// `item in container`; `None` where the container has to be walked.
pub(super) fn contains<'a>(item: &V<'a>, container: &V<'a>, meter: &Meter) -> Res<Option<bool>> {
    Ok(Some(match container {
        V::Str(text) => match item {
            V::Str(part) => {
                meter.scan(text)?;
                text.contains(&**part)
            }
            _ => return type_error(format!("`in` a str needs a str, not a {}", item.type_name())),
        },
        V::Dict(dict) | V::View(View::Keys, dict) => dict.get(item, meter)?.is_some(),
        V::Set(table) => match item {
            V::Set(_) => false,
            _ => table.has(&item.key(meter, 0)?),
        },
        V::Range(span) => match num(item) {
            Some(Num::Int(n)) => n.checked_sub(span.start).is_some_and(|from| {
                span.len > 0 && from % span.step == 0 && (0..span.len).contains(&(from / span.step))
            }),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

/// `is`: whether CPython would have one object here.
pub(super) fn identical<'a>(a: &V<'a>, b: &V<'a>) -> bool {
    match (a, b) {
        (V::None, V::None) | (V::Ellipsis, V::Ellipsis) => true,
        (V::Bool(a), V::Bool(b)) => a == b,
        // CPython keeps one object of each small integer.
        (V::Int(a), V::Int(b)) => a == b && (-5..=256).contains(a),
        (V::Float(a), V::Float(b)) => a.to_bits() == b.to_bits(),
        (V::Str(a), V::Str(b)) => same_text(a, b),
        (V::List(a), V::List(b)) => same_items(a, b),
        (V::Tuple(a), V::Tuple(b)) => (a.len() == 0 && b.len() == 0) || same_items(a, b),
        (V::Set(a), V::Set(b)) => Rc::ptr_eq(a, b),
        (V::Dict(Dict::Lent(a)), V::Dict(Dict::Lent(b))) => std::ptr::eq(*a, *b),
        (V::Dict(Dict::Made(a)), V::Dict(Dict::Made(b))) => Rc::ptr_eq(a, b),
        (V::Lazy(a), V::Lazy(b)) => Rc::ptr_eq(a, b),
        (V::Func(a), V::Func(b)) => match (&**a, &**b) {
            (Func::Builtin(a), Func::Builtin(b)) => a == b,
            _ => Rc::ptr_eq(a, b),
        },
        _ => false,
    }
}

fn same_text(a: &Text<'_>, b: &Text<'_>) -> bool {
    // One object of each text of no or one character.
    std::ptr::eq::<str>(&**a, &**b) || (**a == **b && a.chars().nth(1).is_none())
}

fn same_items(a: &Seq<'_>, b: &Seq<'_>) -> bool {
    match (a, b) {
        (Seq::Lent(a), Seq::Lent(b)) => std::ptr::eq(*a, *b),
        (Seq::Made(a), Seq::Made(b)) => Rc::ptr_eq(a, b),
        _ => false,
    }
}
