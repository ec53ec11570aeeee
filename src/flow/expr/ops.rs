//! The arithmetic operators.

use super::ast::{Op, Sign};
use super::compare::{as_set, num};
use super::error::{Res, too_large, type_error, value_error};
use super::format;
use super::meter::Meter;
use super::number::{self, Num};
use super::value::{Seq, Table, V};

impl From<Num> for V<'_> {
    fn from(num: Num) -> Self {
        match num {
            Num::Int(n) => V::Int(n),
            Num::Float(x) => V::Float(x),
        }
    }
}

pub(super) fn unary<'a>(sign: Sign, value: &V<'a>) -> Res<V<'a>> {
    Ok(match (sign, num(value)) {
        (Sign::Minus, Some(Num::Int(n))) => match n.checked_neg() {
            Some(n) => V::Int(n),
            None => return number::overflow(),
        },
        (Sign::Minus, Some(Num::Float(x))) => V::Float(-x),
        (Sign::Plus, Some(num)) => num.into(),
        (Sign::Invert, Some(Num::Int(n))) => V::Int(!n),
        _ => {
            let sign = match sign {
                Sign::Minus => "-",
                Sign::Plus => "+",
                Sign::Invert => "~",
            };
            return type_error(format!("`{sign}` needs a number, not a {}", value.type_name()));
        }
    })
}

pub(super) fn binary<'a>(op: Op, a: &V<'a>, b: &V<'a>, meter: &Meter) -> Res<V<'a>> {
    if let (Some(x), Some(y)) = (num(a), num(b)) {
        return match op {
            Op::Or | Op::Xor | Op::And | Op::Left | Op::Right => bits(op, a, b),
            _ => arithmetic(op, x, y),
        };
    }
    match (op, a, b) {
        (Op::Add, V::Str(a), V::Str(b)) => {
            meter.text(a.len() + b.len())?;
            Ok(V::text(format!("{}{}", &**a, &**b)))
        }
        (Op::Add, V::List(a), V::List(b)) => Ok(V::list(joined(a, b, meter)?)),
        (Op::Add, V::Tuple(a), V::Tuple(b)) => Ok(V::tuple(joined(a, b, meter)?)),
        (Op::Mul, value, V::Int(_) | V::Bool(_)) => repeat(value, b, meter),
        (Op::Mul, V::Int(_) | V::Bool(_), value) => repeat(value, a, meter),
        (Op::Mod, V::Str(template), args) => format::percent(template, args, meter),
        (Op::Or, V::Dict(a), V::Dict(b)) => {
            let mut table = Table::default();
            for (key, value) in a.entries().chain(b.entries()) {
                table.put(key, value, meter)?;
            }
            Ok(V::dict(table))
        }
        (Op::Or | Op::And | Op::Sub | Op::Xor, ..) => sets(op, a, b, meter),
        _ => mismatch(op, a, b),
    }
}

fn mismatch<T>(op: Op, a: &V<'_>, b: &V<'_>) -> Res<T> {
    let sign = match op {
        Op::Add => "+",
        Op::Sub => "-",
        Op::Mul => "*",
        Op::Div => "/",
        Op::FloorDiv => "//",
        Op::Mod => "%",
        Op::Pow => "**",
        Op::Or => "|",
        Op::Xor => "^",
        Op::And => "&",
        Op::Left => "<<",
        Op::Right => ">>",
    };
    let hint = match (op, a, b) {
        (Op::Add, V::Str(_), _) | (Op::Add, _, V::Str(_)) => "; make both texts with str(…)",
        _ => "",
    };
    type_error(format!("`{sign}` does not work on a {} and a {}{hint}", a.type_name(), b.type_name()))
}

fn arithmetic<'a>(op: Op, a: Num, b: Num) -> Res<V<'a>> {
    let ints = match (a, b) {
        (Num::Int(a), Num::Int(b)) => Some((a, b)),
        _ => None,
    };
    let whole = |result: Option<i128>| result.map_or_else(number::overflow, |n| Ok(V::Int(n)));
    match (op, ints) {
        (Op::Add, Some((a, b))) => whole(a.checked_add(b)),
        (Op::Sub, Some((a, b))) => whole(a.checked_sub(b)),
        (Op::Mul, Some((a, b))) => whole(a.checked_mul(b)),
        (Op::Add, None) => Ok(V::Float(a.float() + b.float())),
        (Op::Sub, None) => Ok(V::Float(a.float() - b.float())),
        (Op::Mul, None) => Ok(V::Float(a.float() * b.float())),
        (Op::Div, _) => Ok(V::Float(number::divide(a, b)?)),
        (Op::FloorDiv, _) => Ok(number::floor_divide(a, b)?.0.into()),
        (Op::Mod, _) => Ok(number::floor_divide(a, b)?.1.into()),
        _ => Ok(number::power(a, b)?.into()),
    }
}

fn bits<'a>(op: Op, a: &V<'a>, b: &V<'a>) -> Res<V<'a>> {
    if let (V::Bool(a), V::Bool(b)) = (a, b) {
        match op {
            Op::Or => return Ok(V::Bool(a | b)),
            Op::Xor => return Ok(V::Bool(a ^ b)),
            Op::And => return Ok(V::Bool(a & b)),
            _ => {}
        }
    }
    let (Some(Num::Int(x)), Some(Num::Int(y))) = (num(a), num(b)) else { return mismatch(op, a, b) };
    Ok(V::Int(match op {
        Op::Or => x | y,
        Op::Xor => x ^ y,
        Op::And => x & y,
        _ if y < 0 => return value_error("a shift by a negative number"),
        Op::Left => {
            let factor = u32::try_from(y).ok().filter(|y| *y < 127).map(|y| 1i128 << y);
            match (x, factor) {
                (0, _) => 0,
                (_, Some(factor)) => return x.checked_mul(factor).map_or_else(number::overflow, |n| Ok(V::Int(n))),
                _ => return number::overflow(),
            }
        }
        _ => x >> y.min(127),
    }))
}

fn joined<'a>(a: &Seq<'a>, b: &Seq<'a>, meter: &Meter) -> Res<Vec<V<'a>>> {
    meter.items(a.len() + b.len())?;
    Ok(a.iter().chain(b.iter()).collect())
}

fn repeat<'a>(value: &V<'a>, times: &V<'a>, meter: &Meter) -> Res<V<'a>> {
    let Some(Num::Int(times_int)) = num(times) else { return mismatch(Op::Mul, value, times) };
    let (V::Str(_) | V::List(_) | V::Tuple(_)) = value else { return mismatch(Op::Mul, value, times) };
    let Ok(count) = usize::try_from(times_int.max(0)) else { return too_large("a value that is repeated too often") };
    let size = |len: usize| len.saturating_mul(count);
    match value {
        V::Str(text) => {
            meter.text(size(text.len()))?;
            Ok(if text.is_empty() { value.clone() } else { V::text(text.repeat(count)) })
        }
        V::List(items) | V::Tuple(items) => {
            meter.items(size(items.len()))?;
            let once: Vec<V<'a>> = items.iter().collect();
            let mut all = Vec::with_capacity(size(once.len()));
            if !once.is_empty() {
                for _ in 0..count {
                    all.extend(once.iter().cloned());
                }
            }
            Ok(if matches!(value, V::List(_)) { V::list(all) } else { V::tuple(all) })
        }
        _ => mismatch(Op::Mul, value, times),
    }
}

/// `|`, `&`, `-`, `^` of sets.
pub(super) fn sets<'a>(op: Op, a: &V<'a>, b: &V<'a>, meter: &Meter) -> Res<V<'a>> {
    let (Some(x), Some(y)) = (as_set(a, meter)?, as_set(b, meter)?) else { return mismatch(op, a, b) };
    // Of two equal elements that differ (`1`, `1.0`), CPython's `&` keeps that of the smaller set.
    let (x, y) = if op == Op::And && y.entries.len() <= x.entries.len() { (y, x) } else { (x, y) };
    let mut items = Vec::new();
    for (item, _) in &x.entries {
        let both = y.has(&item.key(meter, 0)?);
        if match op {
            Op::Or => true,
            Op::And => both,
            _ => !both,
        } {
            items.push(item.clone());
        }
    }
    if matches!(op, Op::Or | Op::Xor) {
        for (item, _) in &y.entries {
            if !x.has(&item.key(meter, 0)?) {
                items.push(item.clone());
            }
        }
    }
    Table::set(items, meter)
}
