//! The functions of the language.

use super::ast::{Cmp, Op};
use super::compare::{self, num};
use super::error::{ErrorKind, Fail, Res, type_error, value_error};
use super::eval::Eval;
use super::index::char_count;
use super::number::{self, Num};
use super::ops;
use super::regexes;
use super::value::{Text, V};

const BUILTINS: &[&str] = &[
    "abs",
    "all",
    "any",
    "bool",
    "dict",
    "enumerate",
    "float",
    "int",
    "len",
    "list",
    "max",
    "min",
    "range",
    "regex_extract",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "tuple",
    "zip",
];

pub(super) fn find(name: &str) -> Option<&'static str> {
    BUILTINS.iter().find(|builtin| **builtin == name).copied()
}

pub(super) fn is_builtin(name: &str) -> bool {
    find(name).is_some()
}

/// Whether the function is the name of a type.
pub(super) fn is_type(name: &str) -> bool {
    matches!(name, "bool" | "dict" | "enumerate" | "float" | "int" | "list" | "range" | "set" | "str" | "tuple" | "zip")
}

/// The arguments of a call.
#[derive(Default)]
pub(super) struct Args<'a> {
    pub(super) plain: Vec<V<'a>>,
    pub(super) named: Vec<(Text<'a>, V<'a>)>,
}

impl<'a> Args<'a> {
    pub(super) fn one(value: V<'a>) -> Args<'a> {
        Args { plain: vec![value], named: Vec::new() }
    }

    /// The arguments by place: the first `required` have to be given, the others may be, by place or, where `named` says so, by
    /// name. Each name in `named` belongs to a place; "" is a place without a name.
    pub(super) fn places<const N: usize>(
        mut self,
        what: &str,
        required: usize,
        named: [&str; N],
    ) -> Res<[Option<V<'a>>; N]> {
        if self.plain.len() > N {
            return type_error(format!("{what} takes at most {N} arguments, not {}", self.plain.len()));
        }
        let mut places: [Option<V<'a>>; N] = [const { None }; N];
        for (place, value) in places.iter_mut().zip(self.plain.drain(..)) {
            *place = Some(value);
        }
        for (name, value) in self.named.drain(..) {
            match named.iter().position(|known| !known.is_empty() && **known == *name) {
                Some(place) if places[place].is_none() => places[place] = Some(value),
                Some(_) => return type_error(format!("{what}: `{}` is given twice", &*name)),
                None => return type_error(format!("{what} has no argument `{}`", &*name)),
            }
        }
        if places.iter().take(required).any(Option::is_none) {
            return type_error(format!("{what} needs {required} argument{}", if required == 1 { "" } else { "s" }));
        }
        Ok(places)
    }

    /// Takes an argument that is given by name.
    fn take(&mut self, name: &str) -> Option<V<'a>> {
        let place = self.named.iter().position(|(given, _)| &**given == name)?;
        Some(self.named.remove(place).1)
    }

    fn no_more_names(&self, what: &str) -> Res<()> {
        match self.named.first() {
            Some((name, _)) => type_error(format!("{what} has no argument `{}`", &**name)),
            None => Ok(()),
        }
    }
}

/// An integer, as an argument.
pub(super) fn integer(what: &str, value: &V<'_>) -> Res<i128> {
    match num(value) {
        Some(Num::Int(n)) => Ok(n),
        _ => type_error(format!("{what} needs an integer, not a {}", value.type_name())),
    }
}

/// An optional argument; `None` counts as not given.
pub(super) fn given<'a>(value: Option<V<'a>>) -> Option<V<'a>> {
    value.filter(|value| !matches!(value, V::None))
}

impl<'a> Eval<'a> {
    pub(super) fn builtin(&self, name: &'static str, args: Args<'a>) -> Res<V<'a>> {
        match name {
            "abs" => abs(args),
            "all" => self.quantifier(name, args, false),
            "any" => self.quantifier(name, args, true),
            "bool" => {
                let [value] = args.places(name, 0, [""])?;
                Ok(V::Bool(value.is_some_and(|value| value.truthy())))
            }
            "len" => self.len(args),
            "max" => self.extreme(name, args, Cmp::Gt),
            "min" => self.extreme(name, args, Cmp::Lt),
            "regex_extract" => {
                let [pattern, text, default] = args.places(name, 2, ["pattern", "text", "default"])?;
                regexes::extract(self, pattern, text, default)
            }
            "round" => round(args),
            "sorted" => self.sorted(args),
            "sum" => self.sum(args),
            _ => self.construct(name, args),
        }
    }

    fn quantifier(&self, name: &str, args: Args<'a>, wanted: bool) -> Res<V<'a>> {
        let [items] = args.places(name, 1, [""])?;
        let mut found = false;
        self.each(&items.unwrap_or(V::None), &mut |item| {
            found = item.truthy() == wanted;
            Ok(!found)
        })?;
        Ok(V::Bool(found == wanted))
    }

    fn len(&self, args: Args<'a>) -> Res<V<'a>> {
        let [value] = args.places("len", 1, [""])?;
        let value = value.unwrap_or(V::None);
        let len = match &value {
            V::Str(text) => char_count(text, &self.meter)?,
            V::List(items) | V::Tuple(items) => items.len(),
            V::Set(table) => table.entries.len(),
            V::Dict(dict) | V::View(_, dict) => dict.len(),
            V::Range(span) => return Ok(V::Int(span.len)),
            V::None => return type_error("None has no length; is the field set?"),
            _ => return type_error(format!("a {} has no length", value.type_name())),
        };
        Ok(V::Int(len as i128))
    }

    /// `key(item)`, or the item.
    fn keyed(&self, key: Option<&V<'a>>, item: &V<'a>) -> Res<V<'a>> {
        match key {
            Some(key) => self.call(key, Args::one(item.clone())),
            None => Ok(item.clone()),
        }
    }

    /// `min` and `max`: the first item whose key nothing beats.
    fn extreme(&self, name: &str, mut args: Args<'a>, beats: Cmp) -> Res<V<'a>> {
        let key = given(args.take("key"));
        let default = args.take("default");
        args.no_more_names(name)?;
        let mut best: Option<(V<'a>, V<'a>)> = None;
        let mut consider = |item: V<'a>| {
            let rank = self.keyed(key.as_ref(), &item)?;
            let better = match &best {
                Some((best, _)) => compare::ordered(beats, &rank, best, &self.meter)?,
                None => true,
            };
            if better {
                best = Some((rank, item));
            }
            Ok(true)
        };
        match args.plain.as_slice() {
            [] => return type_error(format!("{name} needs an argument")),
            [items] => self.each(items, &mut consider)?,
            [..] if default.is_some() => return type_error(format!("{name} takes `default` with one argument only")),
            items => {
                for item in items {
                    consider(item.clone())?;
                }
            }
        }
        match (best, default) {
            (Some((_, item)), _) => Ok(item),
            (None, Some(default)) => Ok(default),
            (None, None) => value_error(format!("{name} of nothing; give a `default=`")),
        }
    }

    fn sorted(&self, mut args: Args<'a>) -> Res<V<'a>> {
        let key = given(args.take("key"));
        let reverse = args.take("reverse").is_some_and(|value| value.truthy());
        let [items] = args.places("sorted", 1, [""])?;
        let items = self.items(&items.unwrap_or(V::None))?;
        self.meter.items(items.len())?;
        let mut ranked = Vec::with_capacity(items.len());
        for item in items {
            ranked.push((self.keyed(key.as_ref(), &item)?, item));
        }
        let beats = if reverse { Cmp::Gt } else { Cmp::Lt };
        Ok(V::list(self.merge_sort(ranked, beats)?.into_iter().map(|(_, item)| item).collect()))
    }

    /// A stable sort with nothing but `<`, which may fail and need not be an order (`nan`): the standard library's sort panics on that.
    fn merge_sort(&self, mut items: Vec<(V<'a>, V<'a>)>, beats: Cmp) -> Res<Vec<(V<'a>, V<'a>)>> {
        if items.len() < 2 {
            return Ok(items);
        }
        let right = items.split_off(items.len() / 2);
        let mut left = self.merge_sort(items, beats)?.into_iter().peekable();
        let mut right = self.merge_sort(right, beats)?.into_iter().peekable();
        let mut merged = Vec::with_capacity(left.len() + right.len());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let first = if compare::ordered(beats, &b.0, &a.0, &self.meter)? { right.next() } else { left.next() };
            merged.extend(first);
        }
        merged.extend(left);
        merged.extend(right);
        Ok(merged)
    }

    fn sum(&self, args: Args<'a>) -> Res<V<'a>> {
        let [items, start] = args.places("sum", 1, ["", "start"])?;
        let mut total = Sum::new(start.unwrap_or(V::Int(0)))?;
        self.each(&items.unwrap_or(V::None), &mut |item| {
            match (&mut total, num(&item)) {
                (Sum::Int(sum), Some(Num::Int(n))) => match sum.checked_add(n) {
                    Some(n) => *sum = n,
                    None => return number::overflow(),
                },
                (Sum::Int(sum), Some(Num::Float(x))) => total = Sum::float(Num::Int(*sum).float()).plus(x),
                (Sum::Float { sum, .. }, Some(n @ Num::Int(_))) => *sum += n.float(),
                (Sum::Float { sum, lost }, Some(Num::Float(x))) => {
                    total = Sum::Float { sum: *sum, lost: *lost }.plus(x);
                }
                (sum, _) => total = Sum::Any(ops::binary(Op::Add, &sum.value(), &item, &self.meter)?),
            }
            Ok(true)
        })?;
        Ok(total.value())
    }
}

/// A sum as CPython 3.12 and later keeps it: floats with what rounding lost (Neumaier).
enum Sum<'a> {
    Int(i128),
    Float { sum: f64, lost: f64 },
    Any(V<'a>),
}

impl<'a> Sum<'a> {
    fn new(start: V<'a>) -> Res<Sum<'a>> {
        Ok(match start {
            V::Str(_) => return type_error("sum does not join texts; ''.join(…) does"),
            V::Int(n) => Sum::Int(n),
            V::Bool(b) => Sum::Int(i128::from(b)),
            V::Float(x) => Sum::float(x),
            other => Sum::Any(other),
        })
    }

    fn float(sum: f64) -> Sum<'a> {
        Sum::Float { sum, lost: 0.0 }
    }

    fn plus(self, x: f64) -> Sum<'a> {
        match self {
            Sum::Float { sum, lost } => {
                let next = sum + x;
                let error = if sum.abs() >= x.abs() { (sum - next) + x } else { (x - next) + sum };
                Sum::Float { sum: next, lost: lost + error }
            }
            other => other,
        }
    }

    fn value(&self) -> V<'a> {
        match self {
            Sum::Int(n) => V::Int(*n),
            Sum::Float { sum, lost } => V::Float(if *lost != 0.0 && lost.is_finite() { sum + lost } else { *sum }),
            Sum::Any(value) => value.clone(),
        }
    }
}

fn abs<'a>(args: Args<'a>) -> Res<V<'a>> {
    let [value] = args.places("abs", 1, [""])?;
    let value = value.unwrap_or(V::None);
    match num(&value) {
        Some(Num::Int(n)) => n.checked_abs().map_or_else(number::overflow, |n| Ok(V::Int(n))),
        Some(Num::Float(x)) => Ok(V::Float(x.abs())),
        None => type_error(format!("abs needs a number, not a {}", value.type_name())),
    }
}

fn round<'a>(args: Args<'a>) -> Res<V<'a>> {
    let [value, digits] = args.places("round", 1, ["number", "ndigits"])?;
    let value = value.unwrap_or(V::None);
    let digits = given(digits).map(|digits| integer("round", &digits)).transpose()?;
    match (num(&value), digits) {
        (Some(Num::Int(n)), digits) => Ok(V::Int(number::round_int(n, digits.unwrap_or(0))?)),
        (Some(Num::Float(x)), None) => Ok(V::Int(number::truncate(x.round_ties_even())?)),
        (Some(Num::Float(x)), Some(digits)) => {
            let rounded = number::round_float(x, digits);
            if rounded.is_infinite() && x.is_finite() {
                return number::overflow();
            }
            Ok(V::Float(rounded))
        }
        (None, _) => Err(Fail::new(ErrorKind::Type, format!("round needs a number, not a {}", value.type_name()))),
    }
}
